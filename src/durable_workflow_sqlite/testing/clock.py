"""A clock that tests move."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import Final

from durable_workflow_sqlite.engine.clock import Clock

SETTLED_TURNS: Final = 100
"""Turns of the event loop that an engine gets to react to a new time."""


class ManualClock(Clock):
    """A `Clock` that stands still until a test moves it: `DurableEngine(store, clock=clock)`.

    A workflow that sleeps for a month then takes milliseconds. Sleeps, deadlines of signals,
    back-offs and times to live use this clock. The `timeout` of a step uses real time, because its
    action really runs.
    """

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        if start.utcoffset() is None:
            raise ValueError("start must have a time zone: give datetime(..., tzinfo=UTC)")
        self._now = start.astimezone(UTC)
        self._order = itertools.count()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    async def sleep_until(self, deadline: datetime) -> None:
        if deadline > self._now:
            awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (deadline, next(self._order), awake))
            await awake

    @property
    def next_deadline(self) -> datetime | None:
        """The earliest time that a sleeper waits for; None if there is none."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def set(self, time: datetime) -> None:
        """Set the time, later or earlier, at once; deadlines in between are not visited."""
        self._now = time.astimezone(UTC)
        while (deadline := self.next_deadline) is not None and deadline <= self._now:
            heapq.heappop(self._sleepers)[2].set_result(None)

    async def advance(self, duration: timedelta) -> None:
        """Let time pass, and stop at every deadline until the engine has reacted.

        This does not wait for sync actions, which run in threads.
        """
        end = self._now + duration
        await _settle()
        while (deadline := self.next_deadline) is not None and deadline <= end:
            self.set(deadline)
            await _settle()
        self.set(end)
        await _settle()


async def _settle() -> None:
    for _ in range(SETTLED_TURNS):
        await asyncio.sleep(0)
