"""The dashboard as one ASGI app: its addresses, its errors, and what stands before it."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from durable_workflow_sqlite.dashboard import (
    actions,
    bulk,
    pages,
    pausing,
    questions,
    queues,
    schedules,
    streams,
)
from durable_workflow_sqlite.dashboard.login import routes as login_routes
from durable_workflow_sqlite.dashboard.protection import Keys, Protection
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.rendering import STATIC, Pages
from durable_workflow_sqlite.dashboard.runs import Runs
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.stores import absolute, name_of

_log = logging.getLogger("durable_workflow_sqlite.dashboard")


def build(
    path: str | os.PathLike[str],
    *,
    token: str | None,
    read_only: bool,
    allowed_hosts: Sequence[str] | None,
) -> ASGIApp:
    """See `dashboard.app`."""
    file = absolute(path)
    keys = Keys(token, file)
    source = Source(file)
    templates = Pages(file, source, read_only=read_only, has_login=not keys.is_open)

    runs = Runs(file, source.forget)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        await runs.close()
        await source.close()

    async def unreadable(request: Request, error: Exception) -> Response:
        _log.warning("cannot read %s: %s", name_of(file), error)
        title = "The database cannot be read"
        return await templates.message(request, title, str(error), status=503)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title = "No such page" if error.status_code == 404 else error.detail
        return await templates.message(
            request, title, "There is no page at this address.", status=error.status_code
        )

    async def broken(request: Request, error: Exception) -> Response:
        words = "This page could not be created. The log of the dashboard says why."
        return await templates.message(request, "Something is wrong here", words, status=500)

    inner = Starlette(
        routes=[
            *pages.routes(source, templates),
            *streams.routes(source),
            *questions.reading_routes(source, templates),
            *([] if read_only else questions.routes(file, source, templates)),
            *([] if read_only else actions.routes(file, source, templates)),
            *([] if read_only else pausing.routes(file, source, templates)),
            *([] if read_only else bulk.routes(file, source, runs, templates)),
            *([] if read_only else schedules.routes(file, source, templates)),
            *([] if read_only else queues.routes(file, source, templates)),
            *([] if keys.is_open else login_routes(keys, templates)),
            Mount("/static", _Static(directory=STATIC)),
        ],
        exception_handlers={StoreError: unreadable, HTTPException: refused, Exception: broken},
        lifespan=lifespan,
    )
    return Protection(inner, keys, allowed_hosts=allowed_hosts)


class _Static(StaticFiles):
    """Style and script. Their addresses change with them, so browsers keep them for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response
