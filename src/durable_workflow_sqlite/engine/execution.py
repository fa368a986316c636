"""One execution that this worker has claimed: its body is driven from event to event, to its end.

The body (the workflow function) asks; steps and waits bring outcomes; each outcome is recorded as
an event and told to the body, one at a time, in the order of the records. That goes on until
- the body ends; or
- the execution is *interrupted*: cancelled or expired, and then compensated; or
- it only waits for long, and is *parked*: out of memory until its time or signal comes; or
- the worker cannot go on: the store fails, the claim is lost, the replay does not match, the
  engine stops. Then everything is left as it is, to be resumed. None of this fails an execution.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from durable_workflow_sqlite.engine.driver import Driver
from durable_workflow_sqlite.engine.endings import Ending, LeftAsItIs
from durable_workflow_sqlite.engine.environment import Environment
from durable_workflow_sqlite.engine.gaps import Gaps
from durable_workflow_sqlite.engine.given import given
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.mistakes import mistake_in, trouble_of
from durable_workflow_sqlite.engine.operations import StepCall, WaitCall
from durable_workflow_sqlite.engine.outcome import (
    Interruption,
    Outcome,
    PausedError,
    expired,
)
from durable_workflow_sqlite.engine.replay import (
    check_all_was_asked_for,
    replay_events,
)
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import EngineStoppedError, NonDeterminismError, StoreError
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    Progress,
    WorkflowClaim,
    WorkflowExecution,
)

EVENTS_A_TURN: Final = 200
"""Events that are replayed in one turn of the program's event loop."""

_log = logging.getLogger("durable_workflow_sqlite.engine")


class Execution(Driver):
    """Runs one execution; `outcome` is done when it leaves this worker, and never an exception."""

    # Ten thousand of them may wait at once: what is rarely needed is made when it is.
    __slots__ = ("_alarm", "_awaiting_outcome", "_is_parked", "outcome", "when_left")

    def __init__(
        self,
        environment: Environment,
        definition: AnyWorkflow,
        record: WorkflowExecution,
        claim: WorkflowClaim,
        history: RecordedHistory,
    ) -> None:
        super().__init__(environment, definition, record, claim, history)
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.when_left: Callable[[Execution, Outcome], None] | None = None
        """Called when it leaves this worker, before anybody who waits for its outcome goes on."""
        self._is_parked = False
        self._alarm: asyncio.Future[None] | None = None
        self._awaiting_outcome: list[asyncio.Future[Outcome]] | None = None

    # For the engine

    def begin(self) -> None:
        """Start to run. `interrupt` before this compensates without running anything new."""
        self._watch_time_to_live()
        if self.environment.is_observed:
            # Told here, where the context variables are those of whoever starts it.
            tell = self.environment.observers.tell
            tell("on_execution_start" if self._is_new else "on_execution_resume", self.record)
        self._spawn(self._begin())

    def interrupt(self, cause: Interruption) -> bool:
        """Cancel or expire it; False if it is too late for that, or has been done already."""
        if self.interruption is not None or self._is_ending or self.trouble is not None:
            return False
        if self.record.status is ExecutionStatus.COMPENSATING or self._body.is_over:
            return False
        self.interruption = cause
        self._is_going = False
        if self._is_live:
            self._spawn(self._work())
        return True

    def stop(self, trouble: BaseException) -> None:
        """Leave it as it is, to be resumed by a worker that can."""
        if self.trouble is not None or self.outcome.done():
            return
        self.trouble = trouble
        self._is_going = False
        self.cut_off()
        asyncio.get_running_loop().call_soon(self._leave_if_still)

    def park(self) -> None:
        """Take it out of memory: it only waits, and its records say for what."""
        if self._is_resting and self.trouble is None:
            self._is_parked = True
            self.stop(
                EngineStoppedError(
                    f"execution {self.id!r} is parked until its time or signal comes",
                    workflow_execution_id=self.id,
                )
            )

    def leave_until_slot(self) -> None:
        """Take it out of memory: no slot of its queue is free, so it waits in the queue."""
        if self.trouble is None:
            self._is_parked = True
            self.stop(
                EngineStoppedError(
                    f"execution {self.id!r} waits for a free slot of queue {self.record.queue!r}",
                    workflow_execution_id=self.id,
                )
            )

    def pause(self, why: str) -> None:
        """Leave it after the functions that run, since a person has paused it; see `why`."""
        if self.trouble is None and self.stops_after_steps is None and not self.outcome.done():
            self.stop_after_steps(
                PausedError(f"execution {self.id!r} {why}", workflow_execution_id=self.id)
            )

    def stop_after_steps(self, trouble: BaseException) -> None:
        """`stop`, once the functions that run have ended; no other begins.

        A step that waits for its next attempt, or for a thread, waits again after the replay.
        """
        self.stops_after_steps = trouble
        self._is_going = False
        self.cut_off_what_waits()
        if not self.under_way:
            self.stop(trouble)

    def signals_came(self) -> None:
        """There may be a signal that was not there before."""
        self._look_for_answers()
        self._waits.signals_came()
        self._ring()

    def misfit(self, name: str, payload: str) -> str | None:
        """Why no open wait for this signal takes the payload; None if one may take it."""
        return self._waits.misfit(name, payload)

    async def wait_outcome(self) -> Outcome:
        """Wait for `outcome`, which stays pending if this is cancelled: a shield, a turn faster."""
        if self.outcome.done():
            return self.outcome.result()
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._awaiting_outcome is None:
            self._awaiting_outcome = []
        self._awaiting_outcome.append(waiter)
        return await waiter

    def tell_whoever_waits(self, error: StoreError) -> None:
        """A caller that waits for the outcome gets an error; it may ask again, and wait."""
        waiting, self._awaiting_outcome = self._awaiting_outcome, None
        for waiter in waiting or ():
            if not waiter.done():
                waiter.set_exception(error)

    def children_to_end(self) -> list[str]:
        """The ids of the children that end with it, as far as it has not got their ends."""
        return [one.child_id for one in self._body.children.values() if one.is_started]

    @property
    def is_leaving(self) -> bool:
        """Whether this worker leaves it as it is, perhaps when its steps have ended."""
        return self.trouble is not None or self.stops_after_steps is not None

    @property
    def is_interrupted(self) -> bool:
        """Whether it is being cancelled, or has expired."""
        return self.interruption is not None

    @property
    def _is_new(self) -> bool:
        return (
            self.record.current_step == 0
            and not len(self.history)
            and not self.history.timers
            and self.record.status is not ExecutionStatus.COMPENSATING
            and self.interruption is None
        )

    # From its records to where it was

    async def _begin(self) -> None:
        self._working += 1
        try:
            pauses = bool(self.pauses)
            await self._replay()
            if pauses and self.trouble is None:
                # That it has come to this wait: until then, its worker may have died of it.
                await self.save(self.changed())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is left as it is
            self.stop(error)
        finally:
            self._working -= 1
        await self._work()

    async def _replay(self) -> None:
        """Give the body all recorded events; nothing may begin before that."""
        body = self._body
        if self.history.has_given_up:
            self.given = await given(self.environment.store, self.id)
        args = self.definition.decode_input(self.record.input_data)
        body.begin(self.definition.function, self._context, args, self._variables)
        if body.trouble is not None:
            raise body.trouble
        if len(self.history) or self.history.events or self.record.last_event is not None:
            await self._replay_events()
            if self.trouble is not None:
                return
        self.steps_begun = body.steps_begun
        self._is_live = True
        self._is_going = self.stops_after_steps is None and not self._has_ended

    async def _replay_events(self) -> None:
        body, events, last = self._body, self.history.events, self.record.last_event
        gaps = Gaps(events, last)
        end = len(events)
        if last is not None:  # what came after the body's end reached nobody
            end = sum((one.event or 0) <= last for one in events)
        try:
            for first in range(0, end, EVENTS_A_TURN):
                if first:
                    await asyncio.sleep(0)
                if self.trouble is not None:
                    return
                told = slice(first, min(first + EVENTS_A_TURN, end))
                replay_events(
                    body,
                    events[told],
                    gaps,
                    self.environment.error_codec,
                    self.environment.observers if self.environment.is_observed else None,
                )
                # What is told leaves memory. The last one stays: it says that this is a replay.
                events[told] = [events[-1]] * (told.stop - first)
                body.forget_what_it_got()
            if last is None and self.record.status is not ExecutionStatus.COMPENSATING:
                check_all_was_asked_for(body)
        except NonDeterminismError:
            gaps.refuse(body)
            error = body.result()[1] if body.is_over and body.trouble is None else None
            mistake = error and mistake_in(error, self.definition.stops_on, body.outcome_errors)
            if mistake is not None:
                raise trouble_of(
                    body, mistake, self.environment.format_error, is_replayed=True
                ) from mistake
            raise
        gaps.refuse(body)
        self.history.events.clear()

    def _report(self, report: Progress) -> None:
        is_due = self._is_live or self._is_new
        self.environment.streams.buffer_of(self).reports.add(report, is_due=is_due)

    # To the end

    async def _end(self) -> None:
        body = self._body
        if not body.is_ended:
            self._body_has_ended()
        if self.environment.streams.of_runs:
            self.environment.streams.take_reports(self, is_over=True)
        marks, self._marks = list(self._marks), ()
        if self._made_waits is not None:
            marks.extend(self._made_waits.give_up_all())
            self._made_waits.close()
        steps: list[StepCall] = []
        for call in self._left_behind:
            if isinstance(call, StepCall):
                steps.append(call)
            elif isinstance(call, WaitCall):
                marks.extend(self._waits.give_up(call))
        ending = Ending(self, self.definition, body, steps, self._unwound, marks)
        try:
            outcome = await ending.to_the_end()
        except LeftAsItIs as left:
            self.stop(left.trouble)
        else:
            self._leave(outcome)

    def _leave_if_still(self) -> None:
        """It was stopped: leave, once no task is at work for it any more."""
        if self.trouble is not None and self._working == 0 and not self.outcome.done():
            self._body.drop()
            self._leave(self._left(self.trouble))

    def _leave(self, outcome: Outcome) -> None:
        self.environment.parking.forget(self)
        if self._alarm is not None:
            self._alarm.cancel()
        if self._made_waits is not None:
            self._made_waits.let_go()
        if not self._body.is_ended:
            self._body.drop()
        self._body.let_go()
        self.outcome.set_result(outcome)
        if self.when_left is not None:
            self.when_left(self, outcome)
        for waiter in self._awaiting_outcome or ():
            if not waiter.done():
                waiter.set_result(outcome)

    def _left(self, trouble: BaseException) -> Outcome:
        if self._is_parked:
            _log.debug(
                "execution %r of %s is parked: it leaves memory until it can go on",
                self.id,
                self.record.workflow_id,
                extra={"workflow_execution_id": self.id},
            )
            return Outcome(self.record, trouble=trouble, is_parked=True)
        if isinstance(trouble, PausedError):
            _log.info("%s", trouble, extra={"workflow_execution_id": self.id})
            return Outcome(self.record, trouble=trouble, is_parked=True)
        if isinstance(trouble, asyncio.CancelledError):
            trouble = EngineStoppedError(
                f"execution {self.id!r} was stopped from outside; it is left to be resumed",
                workflow_execution_id=self.id,
            )
        if not isinstance(trouble, EngineStoppedError):
            _log.error(
                "execution %r is left as it is, to be resumed: %s",
                self.id,
                type(trouble).__name__,  # the text is the traceback's last line
                exc_info=trouble,
                extra={"workflow_execution_id": self.id},
            )
            self.environment.observers.tell("on_error", trouble, self.id)
        return Outcome(self.record, trouble=trouble)

    def _watch_time_to_live(self) -> None:
        deadline = self.record.ttl_expires_at
        if deadline is not None:
            self._alarm = self.environment.scheduler.at(deadline)
            self._alarm.add_done_callback(self._expire)

    def _expire(self, alarm: asyncio.Future[None]) -> None:
        # While it is being paused, nothing new begins; it expires once it is resumed.
        if not alarm.cancelled() and not isinstance(self.stops_after_steps, PausedError):
            self.interrupt(expired(self.record))
