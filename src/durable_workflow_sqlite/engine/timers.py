"""The timers of a body's event loop: `asyncio.sleep`, `asyncio.timeout` and the like.

One that fires is an event, and recorded as such. One that does not costs no write. The earliest is
stored while the execution only waits, so that it wakes the worker that has it then.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from durable_workflow_sqlite.engine.body_loop import as_time
from durable_workflow_sqlite.engine.history import TIMERS
from durable_workflow_sqlite.engine.wait_records import stored_timer, timer_of
from durable_workflow_sqlite.records import (
    Record,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TimerStatus,
)

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.body import Body
    from durable_workflow_sqlite.engine.run import Run

TIMER_NAME = "timer"


class TimerFired(msgspec.Struct, eq=False):
    """A timer of the body's event loop whose time has come."""

    checkpoint: StepCheckpoint | None = None
    is_recorded: bool = False


class LoopTimers:
    """Of one execution, whose body runs from time to time: the timer that is next."""

    __slots__ = ("_next", "_run", "_stored")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._next: tuple[float, int] | None = None
        self._stored = stored_timer(run)

    def have_changed(self, body: Body) -> bool:
        """Whether another timer is next than when this was asked last."""
        before, self._next = self._next, body.loop.next_timer()
        return self._next != before

    def next_at(self, body: Body) -> tuple[datetime, int] | None:
        """When the next is due, and its number."""
        timer = body.loop.next_timer()
        return None if timer is None else (as_time(timer[0]), timer[1])

    async def fire(self, number: int, at: datetime) -> None:
        """Record that a timer has fired: that is an event."""
        run = self._run
        fired = TimerFired()
        outcome = msgspec.structs.replace(
            self._checkpoint(number, at),
            status=StepStatus.COMPLETED,
            completed_at=run.completion_time(),
            event=run.numbers.take(fired),
        )
        along: list[Record] = []
        stored = self._stored
        if stored is not None:
            is_this = stored.step_index == number
            along.append(timer_of(stored, TimerStatus.FIRED if is_this else TimerStatus.CANCELLED))
        await run.save_taken(fired, outcome, *along, *run.running(progressed=True))
        self._stored = None

    def to_store(self, body: Body) -> list[Record]:
        """The execution only waits from now on: what to save so that its next timer wakes it."""
        timer, stored = self.next_at(body), self._stored
        if stored is not None and timer == (stored.due_at, stored.step_index):
            return []
        records: list[Record] = []
        if stored is not None and (timer is None or timer[1] != stored.step_index):
            records.append(timer_of(stored, TimerStatus.CANCELLED))
        self._stored = None
        if timer is not None:
            self._stored = self._checkpoint(timer[1], timer[0])
            records.append(timer_of(self._stored, TimerStatus.PENDING))
        return records

    def _checkpoint(self, number: int, at: datetime) -> StepCheckpoint:
        return StepCheckpoint(
            workflow_execution_id=self._run.id,
            branch=TIMERS,
            step_index=number,
            step_name=TIMER_NAME,
            kind=StepKind.SLEEP,
            status=StepStatus.INTENT,
            started_at=self._run.environment.clock.now(),
            due_at=at,
        )
