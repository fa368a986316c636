"""The streams of one execution: on its page, and as server-sent events while somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.text import visible
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.reading.streams import StreamPart
from durable_workflow_sqlite.records import TERMINAL_STATUSES, StreamItem

SHOWN: Final = 200
"""How many items of an execution a page shows: the newest."""

SHOWN_CHARACTERS: Final = 2_000
"""How much of one item."""

LOOKS_EVERY_S: Final = 0.1
"""How often the database is asked whether something was written."""

KEEP_ALIVE_S: Final = 15.0


class Shown(NamedTuple):
    """An item as a page shows it. place: which step it is of. attempt: what wrote it."""

    place: str
    name: str
    attempt: int
    text: str


class ShownStream(NamedTuple):
    """The stream of one step: the items of its last attempt."""

    place: str
    name: str
    attempt: int
    texts: list[str]


def streams_of(part: StreamPart | None) -> list[ShownStream]:
    """The streams of an execution, in the order in which they began."""
    streams: dict[str, ShownStream] = {}
    for kind, one in _Teller().tell(() if part is None else part.items):
        if kind == "reset" or one.place not in streams:
            streams[one.place] = ShownStream(one.place, one.name, one.attempt, [])
        if kind == "item":
            streams[one.place].texts.append(one.text)
    return list(streams.values())


def routes(source: Source) -> list[Route]:
    async def stream(request: Request) -> Response:
        execution_id = request.query_params.get("id", "")
        part = await _part(source, execution_id, None) if execution_id else None
        if part is None:
            return PlainTextResponse("There is no such execution.", status_code=404)
        return StreamingResponse(
            _events(source, execution_id),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return [Route("/stream", stream)]


class _Teller:
    """Says which items begin another attempt of their step."""

    def __init__(self) -> None:
        self._attempts: dict[str, tuple[int, int, int]] = {}

    def tell(self, items: Iterable[StreamItem]) -> Iterable[tuple[str, Shown]]:
        for one in items:
            place = f"{one.branch} {one.step_index}"
            name = f"{one.branch}/{one.step_name}" if one.branch else one.step_name
            attempt = one.run_number, one.written_under, one.attempt
            shown = Shown(visible(place), visible(name), one.attempt, _text(one.item))
            if self._attempts.get(place, attempt) != attempt:
                yield "reset", shown
            self._attempts[place] = attempt
            yield "item", shown


def _text(item: str) -> str:
    try:
        value: Any = msgspec.json.decode(item)
    except (msgspec.MsgspecError, RecursionError):
        value = item
    text = value if isinstance(value, str) else item
    if len(text) > SHOWN_CHARACTERS:
        text = f"{text[:SHOWN_CHARACTERS]}…"
    return visible(text, keep_lines=True)


async def _events(source: Source, execution_id: str) -> AsyncGenerator[str]:
    """What happens to them; if the database is away, the browser connects again."""
    with suppress(StoreError):
        async for one in _told(source, execution_id):
            yield one


async def _told(source: Source, execution_id: str) -> AsyncGenerator[str]:
    """The newest items first, and then each as it is written: `begin`, `item`, `reset`, `end`."""
    last: int | None = None
    version, said_at = "", monotonic()
    teller = _Teller()
    while True:
        now = await source.version()
        if now != version:
            part = await _part(source, execution_id, last)
            if part is not None and last is not None and len(part.items) == SHOWN:
                last = None  # more than anybody could read: only the newest are shown
                part = await _part(source, execution_id, last)
            if part is None:
                yield _event("end", {"status": "deleted"})
                return
            version, said_at = now, monotonic()
            if last is None:
                teller = _Teller()
                yield _event("begin", {})
            last = part.last
            for kind, one in teller.tell(part.items):
                yield _event(kind, one._asdict())
            if part.status in TERMINAL_STATUSES:
                yield _event("end", {"status": part.status})
                return
        elif monotonic() > said_at + KEEP_ALIVE_S:
            said_at = monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(LOOKS_EVERY_S)


async def _part(source: Source, execution_id: str, after: int | None) -> StreamPart | None:
    return await source.read(lambda reader: reader.stream(execution_id, after=after, limit=SHOWN))


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {msgspec.json.encode(data).decode()}\n\n"
