"""Durable sleeps and waits for signals, and when the timers of a body's event loop are due.

Timers and signals are taken one at a time, the earliest first, and only when the workflow function
has got everything before: so what was taken always reaches the wait that it was taken for.
"""

from __future__ import annotations

import asyncio
import heapq
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from durable_workflow_sqlite.engine.alarm import DeadlineAlarm
from durable_workflow_sqlite.engine.arrivals import Arrivals
from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.loop_backoff import SAVE_AGAIN_AFTER_S
from durable_workflow_sqlite.engine.operations import WaitCall
from durable_workflow_sqlite.engine.timers import LoopTimers
from durable_workflow_sqlite.engine.transacting_run import TransactingRun
from durable_workflow_sqlite.engine.wait_outcomes import save_end, save_refusal
from durable_workflow_sqlite.engine.wait_records import (
    deadline_of,
    given_up,
    read_payload,
    tell_wait_complete,
    tell_wait_start,
    timer_of,
)
from durable_workflow_sqlite.errors import (
    SerializationError,
    StoreBusyError,
    StoreError,
    StoreFullError,
)
from durable_workflow_sqlite.records import (
    Record,
    StepCheckpoint,
    StepStatus,
    TimerStatus,
    WorkflowSignal,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class _Due(NamedTuple):
    at: datetime
    rank: int
    """A signal that came at the time of a deadline came by then."""
    wait: WaitCall | None
    signal: WorkflowSignal | None
    timer: int


class Waits:
    """The open waits of one execution.

    wants_look: there may be something to take, or a wait that is not recorded yet.
    """

    __slots__ = (
        "_alarm",
        "_arrivals",
        "_by_deadline",
        "_by_name",
        "_number",
        "_open",
        "_ring",
        "_run",
        "_signals_came",
        "_unrecorded",
        "timers",
        "wants_look",
    )

    def __init__(self, run: TransactingRun, ring: Callable[[], None]) -> None:
        """ring: called when it is time for a look."""
        self._run = run
        self._ring = ring
        self._open: dict[WaitCall, None] = {}
        self._unrecorded: dict[WaitCall, None] = {}
        self._by_name: dict[str, dict[WaitCall, None]] = {}
        self._arrivals = Arrivals(run)
        self._by_deadline: list[tuple[datetime, int, WaitCall]] = []
        self._number = 0
        self._signals_came = False
        self._alarm = DeadlineAlarm(run.environment.scheduler, self._look_again)
        self.timers = LoopTimers(run)
        self.wants_look = False

    def __bool__(self) -> bool:
        return bool(self._open)

    def add(self, call: WaitCall) -> None:
        """The body waits for it from now on."""
        last = call.last
        if last is not None and (last.due_at is not None or not call.is_sleep):
            call.due_at = last.due_at
            if last.status is StepStatus.INTENT:
                call.checkpoint = last
                tell_wait_start(self._run, last, replayed=True)
                if not call.is_sleep and last.input_data != call.input_data:
                    self._unrecorded[call] = None  # the code names another type by now
            else:  # it was given up, and is asked for again
                self._unrecorded[call] = None
        else:
            call.due_at = None if call.end is None else deadline_of(self._run, call.end)
            self._unrecorded[call] = None
        self._open_again(call)

    def _open_again(self, call: WaitCall) -> None:
        self._open[call] = None
        if not call.is_sleep:
            self._by_name.setdefault(call.name, {})[call] = None
            self._signals_came = True
        if call.due_at is not None:
            self._number += 1
            heapq.heappush(self._by_deadline, (call.due_at, self._number, call))
        self.wants_look = True

    def check_timers(self, body: Body) -> None:
        """The body has run: its event loop may have another timer next."""
        if self.timers.have_changed(body):
            self.wants_look = True

    def signals_came(self) -> None:
        """There may be a signal that was not there before."""
        self._signals_came = self.wants_look = True

    def give_up(self, call: WaitCall) -> list[Record]:
        """The body waits for it no more: what to save of that."""
        begun = call.checkpoint
        if not self._forget(call):
            # It had begun in an earlier run, which did not come to say this.
            begun = call.last if begun is None else None
        if begun is None or begun.status is not StepStatus.INTENT:
            return []
        return given_up(begun, self._run.completion_time())

    def give_up_all(self) -> list[Record]:
        """As `give_up`, of all that is open."""
        return [record for call in list(self._open) for record in self.give_up(call)]

    def close(self) -> None:
        """Nothing is waited for any more."""
        self._alarm.set(None)
        self._open.clear()

    def let_go(self) -> None:
        """The execution has left: refer to it no longer, or only Python's collector frees both."""
        self.close()
        del self._run, self._ring, self._alarm, self.timers

    # Taking what comes

    async def look(self, body: Body) -> bool:
        """Record what is to be taken next, if anything, or which waits have begun.

        True if an outcome was recorded. Not to be called while the body has not got all that
        is recorded, nor twice at once.
        """
        run = self._run
        self.wants_look = False
        if body.is_ended or body.is_over:
            return False
        due = await self._next_due(body)
        if run.numbers.untold or body.is_ended or run.interruption or run.trouble:
            self.wants_look = self._signals_came = True  # again, once it has heard
            return False
        if due is not None:
            self.wants_look = True
            return await self._take(due)
        if self._unrecorded:
            await self._record_new()
        self._wake_at_next(body)
        return False

    async def _next_due(self, body: Body) -> _Due | None:
        """The first of what has come and is waited for."""
        run = self._run
        found: list[_Due] = []
        while self._by_deadline and self._by_deadline[0][2] not in self._open:
            heapq.heappop(self._by_deadline)
        now = run.environment.clock.now()
        if self._by_deadline and self._by_deadline[0][0] <= now:
            at, _, call = self._by_deadline[0]
            found.append(_Due(at, 1, call, None, 0))
        timer = self.timers.next_at(body)
        if timer is not None and timer[0] <= now:
            found.append(_Due(timer[0], 2, None, None, timer[1]))
        if self._by_name and (self._signals_came or found):
            self._signals_came = False
            await self._arrivals.load(self._by_name)
            if (signal := self._arrivals.first(self._by_name)) is not None:
                waiting = next(iter(self._by_name[signal.signal_name]))
                found.append(_Due(min(signal.created_at, now), 0, waiting, signal, 0))
                self._signals_came = True
        return min(found, key=lambda due: due[:2], default=None)

    def misfit(self, name: str, payload: str) -> str | None:
        """Why none of the open waits for a signal takes a payload; None if one may."""
        for call in self._by_name.get(name, ()):
            if call.payload_type is Any:
                return None
        try:
            self._read(name, payload)
        except SerializationError as error:
            return str(error)
        return None

    def _read(self, name: str, payload: str | None) -> tuple[WaitCall, Any] | None:
        """The first open wait that takes a payload, and what it makes of it; None for no wait."""
        refusal: SerializationError | None = None
        for call in self._by_name.get(name, ()):
            try:
                return call, read_payload(self._run.id, call, payload)
            except SerializationError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return None

    async def _take(self, due: _Due) -> bool:
        if due.signal is not None:
            self._arrivals.take(due.signal)
            try:
                reader = self._read(due.signal.signal_name, due.signal.payload)
            except SerializationError as error:
                await save_refusal(self._run, due.signal, error)
                return False
            except StoreError as error:
                self._run.stop(error)
                raise
            if reader is None:
                return False
            due = due._replace(wait=reader[0])
            reader[0].value = reader[1]
        try:
            if due.wait is None:
                await self.timers.fire(due.timer, due.at)
            elif due.wait.is_sleep:
                await self._end_sleep(due.wait)
            else:
                return await self._end_wait(due.wait, due.signal)
        except (StoreBusyError, StoreFullError):
            if self._run.trouble is not None:
                raise
            # The outcome of a step waits to be saved as well; nothing has been taken yet.
            self.wants_look = False
            if due.wait is not None:
                due.wait.error = None
                self._open_again(due.wait)
                self.wants_look = False
            asyncio.get_running_loop().call_later(SAVE_AGAIN_AFTER_S, self._look_again)
            return False
        return True

    def _look_again(self) -> None:
        self.wants_look = True
        self._ring()

    async def _end_sleep(self, call: WaitCall) -> None:
        run = self._run
        intent = call.checkpoint
        if intent is None:
            intent = self._intent(call)
            tell_wait_start(run, intent, replayed=False)
        self._forget(call)
        outcome = msgspec.structs.replace(
            intent,
            status=StepStatus.COMPLETED,
            completed_at=run.completion_time(),
            event=run.numbers.take(call),
        )
        timer = timer_of(outcome, TimerStatus.FIRED)
        await run.save_taken(call, outcome, timer, *run.running(progressed=True))
        tell_wait_complete(run, outcome, replayed=False)

    async def _end_wait(self, call: WaitCall, signal: WorkflowSignal | None) -> bool:
        """Whether an outcome was recorded."""
        run = self._run
        intent = call.checkpoint
        if intent is None:
            intent = self._intent(call)
            tell_wait_start(run, intent, replayed=False)
        self._forget(call)
        outcome = await save_end(run, call, intent, signal)
        if outcome is not None:
            tell_wait_complete(run, outcome, replayed=False)
            return True
        call.error = None
        self._open_again(call)
        await self._arrivals.load([call.name])
        answer = self._arrivals.named(call.name)
        return answer is not None and await self._take(_Due(answer.created_at, 0, call, answer, 0))

    # Recording what is waited for

    async def _record_new(self) -> None:
        run = self._run
        new, self._unrecorded = list(self._unrecorded), {}
        records: list[Record] = []
        begun: list[StepCheckpoint] = []
        for call in new:
            if call.checkpoint is not None:
                call.checkpoint = msgspec.structs.replace(
                    call.checkpoint, input_data=call.input_data
                )
                records.append(call.checkpoint)
                continue
            intent = call.checkpoint = self._intent(call)
            begun.append(intent)
            records.append(intent)
            if intent.due_at is not None:
                records.append(timer_of(intent, TimerStatus.PENDING))
        await run.save(*records, *run.running())
        for intent in begun:
            tell_wait_start(run, intent, replayed=False)

    def _intent(self, call: WaitCall) -> StepCheckpoint:
        return StepCheckpoint(
            workflow_execution_id=self._run.id,
            branch=call.place[0],
            step_index=call.place[1],
            step_name=call.name,
            kind=call.kind,
            status=StepStatus.INTENT,
            input_data=call.input_data,
            started_at=self._run.environment.clock.now(),
            due_at=call.due_at,
        )

    def _forget(self, call: WaitCall) -> bool:
        if call not in self._open:
            return False
        del self._open[call]
        self._unrecorded.pop(call, None)
        if not call.is_sleep:
            calls = self._by_name[call.name]
            del calls[call]
            if not calls:
                del self._by_name[call.name]
        return True

    def _wake_at_next(self, body: Body) -> None:
        """Look again at the next deadline."""
        times = [self._by_deadline[0][0]] if self._by_deadline else []
        timer = self.timers.next_at(body)
        if timer is not None:
            times.append(timer[0])
        self._alarm.set(min(times, default=None))
