"""`sse`: a small ASGI app that sends the streams of executions to browsers.

It needs the extra `dashboard`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.following import End, Item, Reset
from durable_workflow_sqlite.engine.step_names import StepName, step_named
from durable_workflow_sqlite.errors import ExecutionNotFoundError
from durable_workflow_sqlite.records import Progress

KEEP_ALIVE_S: Final = 15.0
"""How long nothing is sent; then a comment is, so that no proxy takes the connection for dead."""


def sse(client: Client) -> Starlette:
    """An ASGI app: `GET /ID` sends the streams of an execution as server-sent events.

    Mount it in your own app, behind your own check of who may see what: it has none. The event
    loop must be that of the client.

    Events: `item`, `reset`, `progress` and `end`; their data is JSON with the fields of `Item`,
    `Reset`, `Progress` and `End`. The id of an item is its cursor, so a browser that connects again
    goes on where it was.
    Close the `EventSource` at `end`, or the browser connects again. `?step=NAME` follows one step,
    with `&branch=BRANCH` and `&index=N` where several have this name. The status is 404 for an
    unknown execution, and 400 for an id of an event, a step or an index that is none.
    """

    async def stream(request: Request) -> Response:
        after = request.headers.get("last-event-id") or None
        try:
            step = _step_in(request.query_params)
        except ValueError as error:
            return PlainTextResponse(str(error), status_code=400)
        found = client.follow(request.path_params["execution_id"], step=step, after=after)
        events = _events(found)
        try:
            first = await anext(events)  # the errors of the call come before the status is sent
        except ExecutionNotFoundError as error:
            return PlainTextResponse(str(error), status_code=404)
        except ValueError as error:
            return PlainTextResponse(str(error), status_code=400)
        return StreamingResponse(
            _behind(first, events),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return Starlette(routes=[Route("/{execution_id:path}", stream)])


def _step_in(query: Mapping[str, str]) -> StepName | None:
    """The step that an address asks for. Raises ValueError."""
    name, branch, index = query.get("step"), query.get("branch"), query.get("index")
    if not name:
        if branch is not None or index is not None:
            raise ValueError("branch and index need step")
        return None
    if index is not None and not (index.isascii() and index.isdigit()):
        raise ValueError(f"index must be a number, not {index!r}")
    return step_named(name, branch, None if index is None else int(index))


async def _behind(first: str, events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    try:
        yield first
        async for one in events:
            yield one
    finally:
        await events.aclose()


async def _events(found: AsyncIterator[Item | Reset | Progress | End]) -> AsyncGenerator[str, None]:
    coming: asyncio.Future[Item | Reset | Progress | End] = asyncio.ensure_future(anext(found))
    # An error of the call comes at once; else the first event says that it has begun.
    try:
        await asyncio.wait([coming], timeout=0.1)
        if not coming.done():
            yield ": begun\n\n"
        while True:
            await asyncio.wait([coming], timeout=KEEP_ALIVE_S)
            if not coming.done():
                yield ": still here\n\n"
                continue
            try:
                one = coming.result()
            except StopAsyncIteration:
                return
            yield _event(one)
            coming = asyncio.ensure_future(anext(found))
    finally:
        coming.cancel()


def _event(one: Item | Reset | Progress | End) -> str:
    data = msgspec.json.encode(one).decode()
    cursor = f"id: {one.cursor}\n" if isinstance(one, Item) else ""
    return f"{cursor}event: {type(one).__name__.lower()}\ndata: {data}\n\n"
