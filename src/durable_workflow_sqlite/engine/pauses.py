"""What waits for the time of its next attempt, in one execution; it may be told to wait no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from durable_workflow_sqlite.engine.awaited_answers import AwaitedAnswers
from durable_workflow_sqlite.records import StepCheckpoint

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.clock import Scheduler

_Attempt = tuple[str, int, int, datetime | None]


class Pauses:
    """The pauses of one execution, by the attempts after which they are."""

    # Ten thousand executions may be in memory, and hardly any has a pause.
    __slots__ = ("_expected", "_waiting", "answers")

    def __init__(self, paused: Iterable[StepCheckpoint]) -> None:
        """paused: the attempts after which an earlier run has paused."""
        self._expected = {_attempt(one): one.due_at for one in paused if one.due_at} or None
        self._waiting: dict[_Attempt, tuple[datetime, asyncio.Future[None]]] | None = None
        self.answers: AwaitedAnswers | None = None
        """What waits for the answer of a person, once something does."""

    def ask(self) -> AwaitedAnswers:
        """Where something that waits for an answer says so."""
        if self.answers is None:
            self.answers = AwaitedAnswers()
        return self.answers

    def __bool__(self) -> bool:
        return bool(self._waiting or self._expected)

    def after(self, failed: StepCheckpoint, scheduler: Scheduler) -> asyncio.Future[None]:
        """Done when the attempt after this one is due."""
        assert failed.due_at is not None
        attempt, due_at = _attempt(failed), failed.due_at
        if self._expected is not None:
            due_at = self._expected.pop(attempt, due_at)
        waiting = self._waiting = {} if self._waiting is None else self._waiting
        pause = scheduler.at(due_at)
        waiting[attempt] = due_at, pause
        pause.add_done_callback(lambda _: waiting.pop(attempt, None))
        return pause

    def hasten(self, stored: Iterable[StepCheckpoint]) -> None:
        """End those that somebody has hastened, by what is stored.

        One that is about to begin is told so then: the attempt before it is recorded, and the task
        that waits for that may not have had its turn yet.
        """
        for one in stored:
            if one.due_at is None:
                continue
            attempt = _attempt(one)
            if self._waiting is not None and attempt in self._waiting:
                due_at, pause = self._waiting[attempt]
                if one.due_at < due_at and not pause.done():
                    pause.set_result(None)
            else:
                self._expected = {} if self._expected is None else self._expected
                self._expected[attempt] = one.due_at


def _attempt(one: StepCheckpoint) -> _Attempt:
    """Each attempt of a compensation has the number 0, and begins at another time."""
    return (one.branch, one.step_index, one.attempt, one.started_at)
