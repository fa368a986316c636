"""The time, and waiting for it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

LOOK_AGAIN_AFTER_S: Final = 5.0

SWEPT_AT_LEAST: Final = 100
"""How many wait before it is looked at how many of them have gone."""


class Clock(Protocol):
    """What tells an engine the time; tests move their own."""

    def now(self) -> datetime:
        """The time, in UTC."""
        ...

    async def sleep_until(self, deadline: datetime) -> None:
        """Return when `now()` has reached the deadline, or a little before."""
        ...


class SystemClock(Clock):
    """The machine's clock. It is looked at again every few seconds, since it may be set."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, deadline: datetime) -> None:
        while (left := (deadline - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - not for an event
            await asyncio.sleep(min(left, LOOK_AGAIN_AFTER_S))


class Scheduler:
    """Wakes what waits for a time. One sleep, until the next deadline, serves all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._sweep_at = SWEPT_AT_LEAST
        self._sleeper: asyncio.Task[None] | None = None
        self._next: datetime | None = None

    def at(self, deadline: datetime) -> asyncio.Future[None]:
        """A future that is done at the deadline; cancel it to no longer wait."""
        future = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= self._sweep_at:
            self._forget_those_that_have_gone()
        heapq.heappush(self._waiting, (deadline, next(self._order), future))
        self._sleep()
        return future

    def _forget_those_that_have_gone(self) -> None:
        """A waiter that was cancelled would be held until its deadline, maybe for years."""
        self._waiting = [one for one in self._waiting if not one[2].done()]
        heapq.heapify(self._waiting)
        self._sweep_at = max(SWEPT_AT_LEAST, 2 * len(self._waiting))

    def close(self) -> None:
        if self._sleeper is not None:
            self._sleeper.cancel()
            self._sleeper = None
        for _, _, future in self._waiting:
            future.cancel()
        self._waiting.clear()

    def _sleep(self) -> None:
        """Sleep until the earliest deadline that somebody still waits for."""
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        earliest = self._waiting[0][0] if self._waiting else None
        if self._sleeper is not None:
            if earliest is not None and self._next is not None and self._next <= earliest:
                return  # wakes early enough, and looks again then
            self._sleeper.cancel()
            self._sleeper = None
        if earliest is not None:
            self._next = earliest
            self._sleeper = asyncio.ensure_future(self._clock.sleep_until(earliest))
            self._sleeper.add_done_callback(self._wake)

    def _wake(self, sleeper: asyncio.Task[None]) -> None:
        if sleeper is not self._sleeper:
            return  # another took its place
        self._sleeper = None
        if sleeper.cancelled():
            return
        now = self._clock.now()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
        self._sleep()


def later(time: datetime, delay: timedelta) -> datetime:
    """That much later; at the end of time, where there is no such time."""
    try:
        return time + delay
    except OverflowError:
        return datetime.max.replace(tzinfo=time.tzinfo)
