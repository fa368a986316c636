"""The pages that only show: the list, one execution, one payload."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from durable_workflow_sqlite.dashboard.actions import DONE
from durable_workflow_sqlite.dashboard.details import details_of, payload_of
from durable_workflow_sqlite.dashboard.listing import (
    AGES,
    LINES_PER_PAGE,
    Filters,
    counts_of,
    lines_of,
    page_of,
    types_of,
)
from durable_workflow_sqlite.dashboard.reading import Reader
from durable_workflow_sqlite.dashboard.rendering import Pages, prefix
from durable_workflow_sqlite.dashboard.text import SHOWN_ALONE, payload
from durable_workflow_sqlite.store.inspection import (
    ExecutionCount,
    Inspector,
    Overview,
    Page,
)

LOOK_AT_WORKERS_S: Final = 5
"""How old a page may get that nothing seems to change. That a worker died is written nowhere."""


def routes(reader: Reader, pages: Pages) -> list[Route]:
    async def executions(request: Request) -> Response:
        filters = Filters.of(request.query_params)
        version, now = await reader.version(), datetime.now(UTC)
        if (same := _unchanged(request, version, now)) is not None:
            return same

        def look(inspector: Inspector) -> tuple[list[ExecutionCount], Page, Overview]:
            return (
                reader.counts(inspector, version),
                page_of(inspector, filters, now),
                inspector.overview(now, limit=LINES_PER_PAGE),
            )

        at = quote(prefix(request))
        try:
            counts, page, overview = await reader.read(look)
        except ValueError:
            return pages.message(
                request, "No such page", "This address is not one of the list's.", status=400
            )
        return pages.page(
            request,
            "executions.html",
            etag=_etag(version, now),
            filters=filters,
            counts=counts_of(counts, filters, at),
            types=types_of(counts, filters),
            ages=AGES.items(),
            lines=lines_of(page.rows, {one.execution_id for one in overview.in_doubt}),
            overview=overview,
            in_trouble_href=Filters.none().href(at, in_trouble=True),
            next_href=filters.href(at, after=page.next) if page.next else "",
            first_href=filters.href(at) if filters.after else "",
        )

    async def execution(request: Request) -> Response:
        query = request.query_params
        version, now = await reader.version(), datetime.now(UTC)
        if (same := _unchanged(request, version, now)) is not None:
            return same
        execution_id = query.get("id", "")
        found = await reader.read(lambda inspector: inspector.execution(execution_id))
        if found is None:
            return _no_execution(pages, request, execution_id)
        squeeze = query.get("squeeze") == "1"
        number = query.get("page", "")
        return pages.page(
            request,
            "execution.html",
            etag=_etag(version, now),
            done=DONE.get(query.get("done", ""), ""),
            squeeze=squeeze,
            **details_of(
                found,
                now,
                at=quote(prefix(request)),
                page=int(number) if number.isascii() and number.isdigit() else None,
                squeeze=squeeze,
            ),
        )

    async def one_payload(request: Request) -> Response:
        query = request.query_params
        execution_id = query.get("id", "")
        found = await reader.read(lambda inspector: inspector.execution(execution_id))
        if found is None:
            return _no_execution(pages, request, execution_id)
        wanted = payload_of(found, query)
        if wanted is None:
            return pages.message(
                request, "No such payload", "This execution has no such payload.", status=404
            )
        what, text = wanted
        if query.get("raw") == "1":
            return _download(text)
        raw = urlencode([*query.multi_items(), ("raw", "1")])
        return pages.page(
            request,
            "payload.html",
            what=what,
            id=execution_id,
            shown=payload(text, SHOWN_ALONE),
            raw_href=f"{quote(prefix(request))}/payload?{raw}",
        )

    return [
        Route("/", executions),
        Route("/execution", execution),
        Route("/payload", one_payload),
    ]


def _etag(version: str, now: datetime) -> str:
    return f'"{version}-{int(now.timestamp() // LOOK_AT_WORKERS_S)}"'


def _unchanged(request: Request, version: str, now: datetime) -> Response | None:
    """The short answer to a page that asks what is new, where nothing is."""
    etag = _etag(version, now)
    if request.headers.get("if-none-match") != etag:
        return None
    return Response(status_code=304, headers={"etag": etag})


def _no_execution(pages: Pages, request: Request, execution_id: str) -> Response:
    words = f"No execution in this file has the id {execution_id!r}."
    return pages.message(request, "No such execution", words, status=404)


def _download(text: str) -> Response:
    """As it is stored; never as something that a browser would show."""
    return PlainTextResponse(
        text.encode("utf-8", "surrogatepass"),
        headers={
            "content-disposition": 'attachment; filename="payload.json"',
            "content-security-policy": "sandbox; default-src 'none'",
        },
    )
