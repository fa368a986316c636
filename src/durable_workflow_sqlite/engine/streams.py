"""What actions tell while they run, item by item: it waits here to be written together."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final
from weakref import WeakKeyDictionary, ref

from durable_workflow_sqlite.engine.clock import Clock
from durable_workflow_sqlite.engine.history import Place
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.progress import Reports, Writer
from durable_workflow_sqlite.engine.serialization import to_json
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import StepCheckpoint, StreamItems

FLUSHED_AFTER_S: Final = 0.02
"""How long an item waits for others, to be written together with them."""

AT_ONCE: Final = 500
"""How many items one transaction writes at most."""

MOST_CHARACTERS: Final = 1_000_000
"""How long these are, without the last one."""


class StepStream:
    """The stream of one attempt of a step: `step_stream()` gives it.

    Any process reads it with `client.follow`. Each attempt begins with items of its own. They are
    deleted with the execution.
    """

    __slots__ = ("_buffer", "_what", "error", "intent", "is_ended", "is_left")

    def __init__(self, buffer: StreamBuffer, intent: StepCheckpoint) -> None:
        self._buffer = buffer
        self.intent: Final = intent
        self._what = f"an item of the stream of step {intent.step_name!r}"
        self.error: SerializationError | None = None
        """Why the store has refused an item."""
        self.is_ended = self.is_left = False

    def put(self, item: object) -> None:
        """Put an item into the stream. It is written at most 20 ms later, together with others.

        item: any value that the payload of a signal may have; a follower gets plain JSON data.

        All items are written before the outcome of the step. A sync action may call this, too.

        After a timeout or a cancellation of the attempt, this does nothing. Raises RuntimeError
        after the action has returned; SerializationError or PayloadTooLargeError for an item that
        cannot be stored; and the error of the store, if that has refused items before.
        """
        if self._add(item):
            self._buffer.flush_soon()

    async def write(self, item: object) -> None:
        """As `put`, and wait until the item is committed: then nobody loses it any more.

        Call it in the event loop of the engine.
        """
        if self._add(item):
            await self._buffer.flush()
            self.check()

    def _add(self, item: object) -> bool:
        if not self.may_tell("an item of the stream of step"):
            return False
        self.check()
        text = to_json(item, self._what)
        self._buffer.add(self, text, self._what)
        return True

    def may_tell(self, what: str) -> bool:
        """Whether the attempt may tell something still. Raises RuntimeError once it has returned.

        what: what it tells, for the error.
        """
        if self.is_ended:
            name = self.intent.step_name
            raise RuntimeError(f"{what} {name!r} came after the action had returned")
        return not self.is_left

    def check(self) -> None:
        """Raise the error with which the store has refused an item of it."""
        if self.error is not None:
            raise self.error


class StreamBuffer:
    """The items of one execution that are not written yet, in order; one task writes at a time."""

    def __init__(
        self, run: Writer, loop: asyncio.AbstractEventLoop, clock: Clock, limit: int
    ) -> None:
        self._run = ref(run)
        self._limit = limit
        self._clock = clock
        self._loop = loop
        self._items: deque[tuple[StepStream, str]] = deque()
        self._is_due = False
        self._writing: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self.reports = Reports(run, loop)
        self.streams: dict[Place, tuple[StepCheckpoint, StepStream]] = {}

    def stream_of(self, intent: StepCheckpoint) -> StepStream:
        """The stream of an attempt, which is the same each time."""
        place = (intent.branch, intent.step_index)
        known = self.streams.get(place)
        if known is None or known[0] is not intent:
            known = self.streams[place] = (intent, StepStream(self, intent))
        return known[1]

    def add(self, stream: StepStream, text: str, what: str) -> None:
        if self._error is not None:
            raise self._error
        check_size(text, self._limit, what)
        self._items.append((stream, text))  # also in a thread, while a batch is written

    def flush_soon(self) -> None:
        """Also from a thread."""
        if not self._is_due:
            self._is_due = True
            if events._get_running_loop() is self._loop:
                self._set_timer()
            else:
                self._loop.call_soon_threadsafe(self._set_timer)

    def _set_timer(self) -> None:
        self._loop.call_later(FLUSHED_AFTER_S, self._begin)

    async def flush(self) -> None:
        """Wait until all items are written. A caller that is cancelled does not stop that."""
        if events._get_running_loop() is not self._loop:
            raise RuntimeError(
                "`await stream.write(...)` works in the event loop of the engine alone; in a"
                " thread, call `stream.put(...)`"
            )
        if (writing := self._begin()) is not None:
            await asyncio.shield(writing)
        if self._error is not None:
            raise self._error

    def _begin(self) -> asyncio.Task[None] | None:
        self._is_due = False
        if self._writing is None and self._items and (run := self._run()) is not None:
            self._writing = self._loop.create_task(self._write(run))
        return self._writing

    async def _write(self, run: Writer) -> None:
        try:
            while self._items and self._error is None:
                batch = self._next_batch()
                try:
                    await run.save(*self._records(run, batch))
                except SerializationError:
                    await self._write_each(run, batch)
        except BaseException as error:
            self._error = error  # the run has stopped
            self._items.clear()
            if not isinstance(error, Exception):
                raise
        finally:
            self._is_due = False
            self._writing = None
            if self._items:
                self.flush_soon()

    def _next_batch(self) -> list[tuple[StepStream, str]]:
        batch: list[tuple[StepStream, str]] = []
        size = 0
        while self._items and len(batch) < AT_ONCE and size < MOST_CHARACTERS:
            batch.append(self._items.popleft())
            size += len(batch[-1][1])
        return batch

    def _records(
        self, run: Writer, batch: Iterable[tuple[StepStream, str]]
    ) -> Iterator[StreamItems]:
        """One record for each attempt, for as long as no other puts something in between."""
        now = self._clock.now()
        for stream, items in groupby(batch, key=itemgetter(0)):
            intent = stream.intent
            yield StreamItems(
                workflow_execution_id=intent.workflow_execution_id,
                branch=intent.branch,
                step_index=intent.step_index,
                step_name=intent.step_name,
                attempt=intent.attempt,
                run_number=run.record.run_number,
                written_under=run.claim.fencing_token,
                items=tuple(text for _, text in items),
                created_at=now,
            )

    async def _write_each(self, run: Writer, batch: list[tuple[StepStream, str]]) -> None:
        """The store has refused one of them."""
        for one in batch:
            try:
                await run.save(*self._records(run, [one]))
            except SerializationError as error:
                one[0].error = error

    def drop(self) -> None:
        """The engine leaves the execution: another attempt puts its own items."""
        self._items.clear()


class Streams:
    """Those of the executions of one engine.

    limit: how many bytes an item may have.
    of_runs: the executions whose steps have a stream; empty for all others.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, limit: int) -> None:
        self._loop = loop
        self._clock = clock
        self._limit = limit
        self.of_runs: WeakKeyDictionary[Writer, StreamBuffer] = WeakKeyDictionary()

    def buffer_of(self, run: Writer) -> StreamBuffer:
        buffer = self.of_runs.get(run)
        if buffer is None:
            new = StreamBuffer(run, self._loop, self._clock, self._limit)
            buffer = self.of_runs.setdefault(run, new)
        return buffer

    def take_reports(self, run: Writer, *, is_over: bool = False) -> None:
        """What an execution has reported goes along with its next write. is_over: it ends."""
        if (buffer := self.of_runs.get(run)) is not None:
            buffer.reports.is_over = is_over
            buffer.reports.take()

    def leave(self, run: Writer, place: Place, *, has_returned: bool = False) -> StepStream | None:
        """An attempt of a step is over. Returns its stream, if it has one."""
        buffer = self.of_runs.get(run)
        known = None if buffer is None else buffer.streams.pop(place, None)
        if buffer is None or known is None:
            return None
        stream = known[1]
        stream.is_ended, stream.is_left = has_returned, not has_returned
        buffer.reports.take()
        if run.trouble is not None:
            buffer.drop()
        return stream

    async def end(self, run: Writer, place: Place) -> None:
        """An action has returned: its items are written before its outcome is.

        Raises SerializationError for an item that the store has refused.
        """
        stream = self.leave(run, place, has_returned=True)
        if stream is not None:
            await self.of_runs[run].flush()
            stream.check()

    async def flush(self, run: Writer) -> None:
        """An action has failed: the same, before that is recorded."""
        if (buffer := self.of_runs.get(run)) is not None:
            await buffer.flush()
