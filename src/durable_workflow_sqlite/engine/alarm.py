"""An alarm that is set to a time, and rings once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from durable_workflow_sqlite.engine.clock import Scheduler


class DeadlineAlarm:
    """Rings at the time that it was set to last."""

    __slots__ = ("_at", "_ring", "_scheduler", "_waiting")

    def __init__(self, scheduler: Scheduler, ring: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._ring = ring
        self._waiting: asyncio.Future[None] | None = None
        self._at: datetime | None = None

    def set(self, at: datetime | None) -> None:
        """Ring at a time, and no more at the time before; None for not at all."""
        if self._waiting is not None:
            if at == self._at:
                return
            self._waiting.cancel()
            self._waiting = None
        self._at = at
        if at is not None:
            self._waiting = self._scheduler.at(at)
            self._waiting.add_done_callback(self._rings)

    def _rings(self, waiting: asyncio.Future[None]) -> None:
        if not waiting.cancelled() and waiting is self._waiting:
            self._waiting = None
            self._ring()
