"""Which executions leave memory: those that have only waited for long, or if there are too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol

PARKED_A_TURN: Final = 100
"""Executions that are parked in one turn of the event loop."""


class Restful(Protocol):
    """What can be parked."""

    def park(self) -> None:
        """Leave memory, if it still only waits."""
        ...


class Parking:
    """Of one engine.

    park_after: for how long an execution waits in memory; None: forever.
    max_resident: how many executions may be in memory before the longest waiting leave it.
    resident: how many there are now.
    """

    def __init__(
        self, park_after: timedelta | None, max_resident: int, resident: Callable[[], int]
    ) -> None:
        self._park_after_s = None if park_after is None else park_after.total_seconds()
        self._max_resident = max_resident
        self._resident = resident
        self._resting: dict[Restful, float] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    def rests(self, execution: Restful) -> None:
        """An execution only waits from now on."""
        self.forget(execution)
        loop = asyncio.get_running_loop()
        self._resting[execution] = loop.time()
        if self._resident() > self._max_resident:
            self._plan(0)
        elif self._park_after_s is not None:
            self._plan(self._park_after_s)

    def forget(self, execution: Restful) -> None:
        """It is at work again, or has left."""
        self._resting.pop(execution, None)

    def close(self) -> None:
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()

    def _plan(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._is_closed or (self._sweep is not None and self._sweep.when() <= at):
            return
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep = loop.call_at(at, self._park_some)

    def _park_some(self) -> None:
        self._sweep = None
        now = asyncio.get_running_loop().time()
        too_many = self._resident() - self._max_resident
        parked = 0
        for execution, since in list(self._resting.items()):
            is_long = self._park_after_s is not None and now - since >= self._park_after_s
            if parked >= PARKED_A_TURN or not (is_long or parked < too_many):
                break
            del self._resting[execution]
            execution.park()
            parked += 1
        if parked >= PARKED_A_TURN:
            self._plan(0)
        elif self._resting and self._park_after_s is not None:
            since = next(iter(self._resting.values()))
            self._plan(max(0.0, since + self._park_after_s - now))
