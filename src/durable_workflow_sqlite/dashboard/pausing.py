"""Pausing and resuming a workflow, or everything: a page that asks, and the form that does it."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_workflow_sqlite.dashboard.actions import who
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.rendering import Pages, to_page
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.stores import open_store


def routes(file: Path, source: Source, pages: Pages) -> list[Route]:
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
    """`workflow` in an address or a form is the name of the workflow; empty for everything."""

    def __init__(self, file: Path, source: Source, pages: Pages) -> None:
        self._file = file
        self._source = source
        self._pages = pages

    async def ask(self, request: Request) -> Response:
        return await self._confirmation(request, request.query_params.get("workflow", ""))

    async def do(self, request: Request) -> Response:
        form: dict[str, str] = request.state.form
        workflow = form.get("workflow", "")
        await self._source.read(lambda reader: reader.counts())  # a store would create the file
        try:
            async with open_store(self._file) as store:
                await _do(Client(store), _is_pause(request), workflow, form, who(request))
        except ValueError as error:
            return await self._confirmation(request, workflow, wrong=str(error), status=422)
        self._source.forget()
        return to_page(request, "/workers")

    async def _confirmation(
        self, request: Request, workflow: str, *, wrong: str = "", status: int = 200
    ) -> Response:
        return await self._pages.page(
            request,
            "pausing.html",
            status=status,
            place="workers",
            is_pause=_is_pause(request),
            workflow=workflow,
            wrong=wrong,
        )


def _is_pause(request: Request) -> bool:
    return request.url.path.endswith("/pause-whole")


async def _do(client: Client, is_pause: bool, workflow: str, form: dict[str, str], by: str) -> None:
    """Raises ValueError for a workflow that nobody knows."""
    reason = form.get("reason", "").strip() or None
    if is_pause and workflow:
        await client.pause_workflow(workflow, reason=reason, by=by)
    elif is_pause:
        await client.pause_all(reason=reason, by=by)
    elif workflow:
        await client.resume_workflow(workflow)
    else:
        await client.resume_all()
