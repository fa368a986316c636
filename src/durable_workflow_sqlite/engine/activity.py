"""What goes on in an execution at a time: steps that are under way, and waits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.execution import Execution

SETTLED_TURNS: Final = 25
"""Turns of the event loop without a word from any branch, after which all have come to a wait."""


class Activity:
    """Of one execution, which it tells when there is nothing going on but waits.

    words: grows with every word from a branch.
    """

    __slots__ = (
        "_busy",
        "_execution",
        "_in_flight",
        "_is_settling",
        "_suspending",
        "_waiting",
        "words",
    )

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._busy = 0
        self._waiting = 0
        self._in_flight: dict[asyncio.Task[Any], None] = {}
        self._is_settling = False
        self._suspending: asyncio.Task[None] | None = None
        self.words = 0

    @property
    def is_busy(self) -> bool:
        """Whether a step is under way, or anything else but a wait."""
        return self._busy > 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is going on but waits."""
        return self._waiting > 0 and self._busy == 0 and not self._execution.is_ending

    @property
    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """Those that are in the middle of a step, a sleep or a wait."""
        return self._in_flight.keys()

    def begin_busy(self) -> asyncio.Task[Any]:
        """A step, a sleep or a wait begins, in the current task; `end_busy` must follow."""
        task = asyncio.current_task()
        assert task is not None
        self._busy += 1
        self._in_flight[task] = None
        return task

    def end_busy(self, task: asyncio.Task[Any]) -> None:
        self._in_flight.pop(task, None)
        self._less_busy()

    def begin_wait(self) -> None:
        """Of what is busy, all that goes on now is to wait; `end_wait` must follow.

        Only while the wait is recorded, and its outcome is not: the records of a SUSPENDED
        execution must say what it waits for.
        """
        self._waiting += 1
        self._less_busy()

    def end_wait(self) -> None:
        self._waiting -= 1
        self._busy += 1

    @contextmanager
    def in_flight(self) -> Generator[None]:
        """Of the current task, while it does nothing and must not be left behind."""
        task = asyncio.current_task()
        assert task is not None
        self._in_flight[task] = None
        try:
            yield
        finally:
            self._in_flight.pop(task, None)

    def is_in_flight(self, task: asyncio.Task[Any]) -> bool:
        return task in self._in_flight

    def _less_busy(self) -> None:
        self._busy -= 1
        execution = self._execution
        if execution.stops_after_steps is not None and self._busy == 0:
            execution.stop(execution.stops_after_steps)
        if self._waiting:
            self._suspend_once_settled()

    def _suspend_once_settled(self) -> None:
        """Suspend it once all of its branches have come to a wait.

        Not at once: a branch may be between two steps, and a worker that takes the execution over
        looks no closer at a SUSPENDED one before its next time or signal.
        """
        if self.is_idle and not self._is_settling:
            self._is_settling = True
            loop = asyncio.get_running_loop()
            loop.call_soon(self._settle, loop, self.words, SETTLED_TURNS)

    def _settle(self, loop: asyncio.AbstractEventLoop, words: int, turns: int) -> None:
        if not self.is_idle:
            self._is_settling = False
        elif words != self.words:
            loop.call_soon(self._settle, loop, self.words, SETTLED_TURNS)
        elif turns:
            loop.call_soon(self._settle, loop, words, turns - 1)
        else:
            self._is_settling = False
            self._suspending = loop.create_task(self._suspend())

    async def _suspend(self) -> None:
        self._suspending = None
        await self._execution.suspend()
