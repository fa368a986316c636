"""The pages that only show: overview, list, execution, workers, queues, schedules, payload."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from durable_workflow_sqlite.dashboard.actions import SAYS
from durable_workflow_sqlite.dashboard.bulk import ACTS
from durable_workflow_sqlite.dashboard.details import details_of, payload_of
from durable_workflow_sqlite.dashboard.filters import BEGUN, ENDED, STATES, Filters, choices
from durable_workflow_sqlite.dashboard.listing import (
    ExecutionLine,
    counts_of,
    lines_of,
    page_of,
    types_of,
)
from durable_workflow_sqlite.dashboard.overview import DEFAULT_SPAN, SPANS, overview_of
from durable_workflow_sqlite.dashboard.queues import SAYS as QUEUES_SAY
from durable_workflow_sqlite.dashboard.queues import queues_of
from durable_workflow_sqlite.dashboard.reading import LOOK_AGAIN_S, Source
from durable_workflow_sqlite.dashboard.rendering import Pages, prefix
from durable_workflow_sqlite.dashboard.schedules import SAYS as SCHEDULES_SAY
from durable_workflow_sqlite.dashboard.schedules import schedules_of
from durable_workflow_sqlite.dashboard.streams import SHOWN, streams_of
from durable_workflow_sqlite.dashboard.text import SHOWN_ALONE, payload
from durable_workflow_sqlite.dashboard.workers import workers_of
from durable_workflow_sqlite.reading.executions import ExecutionCount, ExecutionDetails
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.streams import StreamPart


def routes(source: Source, pages: Pages) -> list[Route]:
    shown = _ReadingPages(source, pages)
    return [
        Route("/", shown.overview),
        Route("/executions", shown.executions),
        Route("/execution", shown.execution),
        Route("/workers", shown.workers),
        Route("/queues", shown.queues),
        Route("/schedules", shown.schedules),
        Route("/payload", shown.one_payload),
    ]


class _ReadingPages:
    """One method for each page."""

    def __init__(self, source: Source, pages: Pages) -> None:
        self._source = source
        self._pages = pages

    async def overview(self, request: Request) -> Response:
        version, now = await self._source.version(), datetime.now(UTC)
        if (same := _unchanged(request, version, now)) is not None:
            return same
        span = request.query_params.get("failures", DEFAULT_SPAN)
        at = quote(prefix(request))
        content = await self._source.read(
            lambda reader: overview_of(
                self._source, reader, version, now, span if span in SPANS else DEFAULT_SPAN, at
            )
        )
        return await self._pages.page(
            request, "overview.html", etag=_etag(version, now), place="overview", **content
        )

    async def executions(self, request: Request) -> Response:
        filters = Filters.of(request.query_params)
        version, now = await self._source.version(), datetime.now(UTC)
        if (same := _unchanged(request, version, now)) is not None:
            return same

        def look(
            reader: Reader,
        ) -> tuple[list[ExecutionCount], list[ExecutionLine], str | None, str]:
            counts = self._source.counts(reader, version)
            try:
                page = page_of(reader, filters, now)
            except ValueError as error:
                return counts, [], None, str(error)
            lines = lines_of(page.rows, reader.in_doubt_among(page.rows), now)
            return counts, lines, page.next, ""

        at = quote(prefix(request))
        counts, lines, after, wrong = await self._source.read(look)
        return await self._pages.page(
            request,
            "executions.html",
            status=400 if wrong else 200,
            etag=_etag(version, now),
            place="executions",
            filters=filters,
            wrong=wrong,
            chips=filters.chips(at),
            counts=counts_of(counts, filters, at),
            types=types_of(counts, filters),
            begun=choices(BEGUN, filters.begun),
            ended=choices(ENDED, filters.ended),
            states=STATES.items(),
            lines=lines,
            acts=[] if wrong else ACTS.values(),
            query=filters._replace(after="").query(),
            next_href=filters.href(at, after=after) if after else "",
            first_href=filters.href(at) if filters.after else "",
        )

    async def execution(self, request: Request) -> Response:
        query = request.query_params
        version, now = await self._source.version(), datetime.now(UTC)
        if (same := _unchanged(request, version, now)) is not None:
            return same
        execution_id = query.get("id", "")

        def look(reader: Reader) -> tuple[ExecutionDetails, StreamPart | None] | None:
            found = reader.execution(execution_id)
            return None if found is None else (found, reader.stream(found.summary.id, limit=SHOWN))

        looked = await self._source.read(look)
        if looked is None:
            return await _no_execution(self._pages, request, execution_id)
        found, part = looked
        squeeze = query.get("squeeze") == "1"
        number = query.get("page", "")
        return await self._pages.page(
            request,
            "execution.html",
            etag=_etag(version, now),
            done=SAYS.get(query.get("done", ""), ""),
            squeeze=squeeze,
            streams=streams_of(part),
            **details_of(
                found,
                now,
                at=quote(prefix(request)),
                page=int(number) if number.isascii() and number.isdigit() else None,
                squeeze=squeeze,
            ),
        )

    async def workers(self, request: Request) -> Response:
        version, now = await self._source.version(), datetime.now(UTC)
        if (same := _unchanged(request, version, now)) is not None:
            return same
        content = await self._source.read(
            lambda reader: workers_of(self._source, reader, version, now)
        )
        return await self._pages.page(
            request, "workers.html", etag=_etag(version, now), place="workers", **content
        )

    async def queues(self, request: Request) -> Response:
        version, now = await self._source.version(), datetime.now(UTC)
        if (same := _unchanged(request, version, now)) is not None:
            return same
        at = quote(prefix(request))
        content = await self._source.read(
            lambda reader: queues_of(self._source, reader, version, now, at)
        )
        return await self._pages.page(
            request,
            "queues.html",
            etag=_etag(version, now),
            place="queues",
            done=QUEUES_SAY.get(request.query_params.get("done", ""), ""),
            **content,
        )

    async def schedules(self, request: Request) -> Response:
        version, now = await self._source.version(), datetime.now(UTC)
        if (same := _unchanged(request, version, now)) is not None:
            return same
        content = await self._source.read(
            lambda reader: schedules_of(self._source, reader, version, now)
        )
        return await self._pages.page(
            request,
            "schedules.html",
            etag=_etag(version, now),
            place="schedules",
            done=SCHEDULES_SAY.get(request.query_params.get("done", ""), ""),
            **content,
        )

    async def one_payload(self, request: Request) -> Response:
        query = request.query_params
        execution_id = query.get("id", "")
        found = await self._source.read(lambda reader: reader.execution(execution_id))
        if found is None:
            return await _no_execution(self._pages, request, execution_id)
        wanted = payload_of(found, query)
        if wanted is None:
            return await self._pages.message(
                request, "No such payload", "This execution has no such payload.", status=404
            )
        what, text = wanted
        if query.get("raw") == "1":
            return _download(text)
        raw = urlencode([*query.multi_items(), ("raw", "1")])
        return await self._pages.page(
            request,
            "payload.html",
            what=what,
            id=execution_id,
            shown=payload(text, SHOWN_ALONE),
            raw_href=f"{quote(prefix(request))}/payload?{raw}",
        )


def _etag(version: str, now: datetime) -> str:
    return f'"{version}-{int(now.timestamp() // LOOK_AGAIN_S)}"'


def _unchanged(request: Request, version: str, now: datetime) -> Response | None:
    """The short answer to a page that asks what is new, where nothing is."""
    etag = _etag(version, now)
    if request.headers.get("if-none-match") != etag:
        return None
    return Response(status_code=304, headers={"etag": etag})


async def _no_execution(pages: Pages, request: Request, execution_id: str) -> Response:
    words = f"No execution in this file has the id {execution_id!r}."
    return await pages.message(request, "No such execution", words, status=404)


def _download(text: str) -> Response:
    """As it is stored; never as something that a browser would show."""
    return PlainTextResponse(
        text.encode("utf-8", "surrogatepass"),
        headers={
            "content-disposition": 'attachment; filename="payload.json"',
            "content-security-policy": "sandbox; default-src 'none'",
        },
    )
