"""Pausing and resuming a workflow, a named queue, or everything: a page that asks, and the form
that does it."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_workflow_sqlite.dashboard.actions import who
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.rendering import Pages, to_page
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.errors import QueueNotFoundError
from durable_workflow_sqlite.stores import open_store


def routes(file: str, source: Source, pages: Pages) -> list[Route]:
    shown = _PausingPages(file, source, pages)
    return [
        route
        for act in ("pause-whole", "resume-whole")
        for route in (
            Route(f"/{act}", shown.ask, methods=["GET"]),
            Route(f"/{act}", shown.do, methods=["POST"]),
        )
    ]


class _PausingPages:
    """`workflow` in an address or a form is the name of a workflow, and `queue` that of a queue;
    neither is there for everything."""

    def __init__(self, file: str, source: Source, pages: Pages) -> None:
        self._file = file
        self._source = source
        self._pages = pages

    async def ask(self, request: Request) -> Response:
        return await self._confirmation(request, request.query_params)

    async def do(self, request: Request) -> Response:
        form: dict[str, str] = request.state.form
        await self._source.read(lambda reader: reader.counts())  # a store would create the file
        try:
            async with open_store(self._file) as store:
                await _do(Client(store), _is_pause(request), form, who(request))
        except (ValueError, QueueNotFoundError) as error:
            return await self._confirmation(request, form, wrong=str(error), status=422)
        self._source.forget()
        if form.get("queue"):
            return to_page(request, f"/queues?done={'paused' if _is_pause(request) else 'resumed'}")
        return to_page(request, "/workers")

    async def _confirmation(
        self, request: Request, named: Mapping[str, str], *, wrong: str = "", status: int = 200
    ) -> Response:
        return await self._pages.page(
            request,
            "pausing.html",
            status=status,
            place="queues" if named.get("queue") else "workers",
            is_pause=_is_pause(request),
            workflow=named.get("workflow", ""),
            queue=named.get("queue", ""),
            wrong=wrong,
        )


def _is_pause(request: Request) -> bool:
    return request.url.path.endswith("/pause-whole")


async def _do(client: Client, is_pause: bool, form: dict[str, str], by: str) -> None:
    """Raises ValueError or QueueNotFoundError for what nobody knows."""
    workflow, queue = form.get("workflow", ""), form.get("queue", "")
    if workflow and queue:
        raise ValueError("a workflow and a queue are paused one after the other")
    reason = form.get("reason", "").strip() or None
    if is_pause and workflow:
        await client.pause_workflow(workflow, reason=reason, by=by)
    elif is_pause and queue:
        await client.pause_queue(queue, reason=reason, by=by)
    elif is_pause:
        await client.pause_all(reason=reason, by=by)
    elif workflow:
        await client.resume_workflow(workflow, by=by)
    elif queue:
        await client.resume_queue(queue, by=by)
    else:
        await client.resume_all(by=by)
