"""What one run of an execution is: its records, and what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.engine.environment import Environment
from durable_workflow_sqlite.engine.event_numbers import EventNumbers
from durable_workflow_sqlite.engine.held_slot import HeldSlot
from durable_workflow_sqlite.engine.history import (
    Place,
    RecordedHistory,
    event_of,
    is_outcome,
)
from durable_workflow_sqlite.engine.loop_backoff import SAVE_AGAIN_AFTER_S, LoopBackoff, wait_for
from durable_workflow_sqlite.engine.outcome import Interruption
from durable_workflow_sqlite.engine.pauses import Pauses
from durable_workflow_sqlite.engine.queue_slot import slot_of
from durable_workflow_sqlite.engine.step_limits import HeldSlots
from durable_workflow_sqlite.engine.threads import Turns
from durable_workflow_sqlite.engine.under_way import Pending
from durable_workflow_sqlite.errors import (
    ExecutionConflictError,
    LimitFullError,
    SerializationError,
    StoreBusyError,
    StoreError,
    StoreFullError,
)
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    NewExecution,
    Progress,
    Record,
    StepCheckpoint,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowPatch,
    WorkflowSignal,
)

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_AT_WORK: Final = (ExecutionStatus.RUNNING, ExecutionStatus.COMPENSATING)


class Run(HeldSlot):
    """One execution that this worker has claimed.

    Every write is made under its claim. An outcome takes the next event number as it is written,
    and is told to the workflow function in the order of these numbers.
    """

    __slots__ = (
        "__weakref__",
        "_is_stopping",
        "_kept",
        "_last_completed_at",
        "_progressed",
        "_told_status",
        "_waiting",
        "claim",
        "environment",
        "given",
        "history",
        "interruption",
        "is_finishing",
        "numbers",
        "pauses",
        "record",
        "step_slots",
        "steps_begun",
        "stops_after_steps",
        "trouble",
    )

    def __init__(
        self,
        environment: Environment,
        record: WorkflowExecution,
        claim: WorkflowClaim,
        history: RecordedHistory,
    ) -> None:
        super().__init__(record.workflow_execution_id)
        self.environment = environment
        self.record = record
        self.claim = claim
        self.history = history
        self._waiting = history.along.waiting
        self.queue_slot = slot_of(environment, record, claim)
        self.step_slots = HeldSlots(environment.step_limits)
        self.steps_begun = 0
        self.interruption: Interruption | None = None
        """Why it is cancelled, or has expired."""
        self.trouble: BaseException | None = None
        """Why this worker leaves it as it is."""
        self.stops_after_steps: BaseException | None = None
        self.is_finishing = False
        """Whether steps get no other attempt: the workflow function has ended."""
        self.pauses = Pauses(history.paused)
        self.given: Collection[Place] = ()
        """Of the steps that an earlier run has given up, those that somebody has given a value."""
        self.numbers = EventNumbers(record.workflow_execution_id, history.last_event)
        self._last_completed_at = history.last_completed_at
        self._kept = 0
        """Outcomes that the store has refused so far."""
        self._progressed = record.recovery_count == 0
        self._told_status = record.status
        self._is_stopping: asyncio.Event | None = None

    # Overridden by what drives it

    def stop(self, trouble: BaseException) -> None:
        """Leave it as it is, to be resumed by a worker that can."""
        raise NotImplementedError

    def tell_whoever_waits(self, error: StoreError) -> None:
        """Tell the callers that wait for the outcome why it does not come."""
        raise NotImplementedError

    def stop_after_steps(self, trouble: BaseException) -> None:
        """`stop`, once the functions that run have ended; no other begins."""
        raise NotImplementedError

    # What its functions run in

    @property
    def turns(self) -> Turns:
        """Where its sync functions wait for a thread."""
        threads = self.environment.threads
        is_undoing = self.record.status is ExecutionStatus.COMPENSATING
        return threads.for_compensations if is_undoing else threads.for_steps

    # Writes

    async def save(self, *records: Record) -> None:
        """Write under the claim; if that fails, this worker leaves the execution as it is.

        Raises SerializationError for what no store can hold; that is not a problem of the worker.
        """
        if self.step_slots.held:
            records = (*records, *self.step_slots.freed_by(*records))
        if self._waiting:
            records = (*records, *self._waiting)
        try:
            await self.environment.store.save(*records, claim=self.claim)
        except BaseException as error:
            if not self._waits_out(error, self._kept):
                raise
            refusal = error
        else:
            if isinstance(records[0], WorkflowExecution) or len(records) > 1 or self._waiting:
                self._saved(records)
            return
        await self._save_later(records, refusal)

    async def begin_step(self, intent: StepCheckpoint | None, *along: Record) -> None:
        """As `save`, before an attempt begins. intent: None if its beginning is not recorded."""
        if self._waiting:
            along = (*along, *await self._what_waits())
        try:
            if intent is None:
                await self.environment.store.save(*along, claim=self.claim)
            else:
                await self.environment.store.begin_step(intent, *along, claim=self.claim)
        except LimitFullError:
            raise
        except BaseException as error:
            if not self._waits_out(error, self._kept):
                raise
            refusal = error
        else:
            if along:
                self._saved(along)
            return
        await self._save_later(along if intent is None else (intent, *along), refusal)

    async def _what_waits(self) -> list[WorkflowPatch | Progress]:
        """What to save with the next write; if that is much, it is saved now."""
        await self.history.along.save_many(self.save)
        return self._waiting

    def _waits_out(self, error: BaseException, kept: int, number: int | None = None) -> bool:
        """Whether what was refused may wait until the store is free; if not, this stops.

        kept: how many outcomes wait. What else is refused waits with them: to stop would lose them.
        number: of the outcome that was refused.
        """
        is_passing = isinstance(error, StoreBusyError | StoreFullError) and self.trouble is None
        if number is not None:
            if is_passing or isinstance(error, SerializationError):
                self.numbers.give_back(number)
            else:
                self.numbers.leave(number)
        if kept and is_passing:
            return True
        self._refused(error)
        return False

    async def finish_step(
        self, pending: Pending, outcome: StepCheckpoint, *along: Record, has_begun: bool = True
    ) -> StepCheckpoint:
        """Write an outcome, which has an event number, and what belongs to it.

        It cannot be had again, so it is kept until the store is free.

        has_begun: whether the beginning of the attempt is recorded.
        """
        if self.step_slots.held:
            along = (*along, *self.step_slots.freed_by(outcome))
        if self._waiting:
            along = (*along, *self._waiting)
        try:
            finish = self.environment.store.finish_step
            await finish(outcome, *along, claim=self.claim, has_begun=has_begun)
        except BaseException as error:
            if not self._waits_out(error, 1, event_of(outcome)):
                raise
            outcome = await self._save_later((outcome, *along), error, pending)
        else:
            if along:
                self._saved(along)
        self._written(pending, outcome)
        return outcome

    def _written(self, pending: Pending, outcome: StepCheckpoint) -> None:
        """It is an event now, to be told."""
        pending.checkpoint = outcome
        pending.is_recorded = True
        self.numbers.is_written(event_of(outcome))

    async def finish_compensation(self, outcome: StepCheckpoint) -> None:
        """As `finish_step`; it is not an event."""
        try:
            await self.environment.store.finish_step(outcome, claim=self.claim)
        except BaseException as error:
            if not self._waits_out(error, 1):
                raise
            await self._save_later((outcome,), error)

    async def save_taken(
        self,
        pending: Pending,
        outcome: StepCheckpoint,
        *along: Record,
        start: Collection[NewExecution] = (),
        send: Collection[WorkflowSignal] = (),
    ) -> None:
        """As `finish_step`, of what can be had again: it may be refused, and is then as before.

        start, send: as for a store. After ExecutionConflictError it may be called again.
        """
        if self._waiting:
            along = (*along, *await self._what_waits())
        try:
            save = self.environment.store.save
            await save(outcome, *along, claim=self.claim, start=start, send=send)
        except BaseException as error:
            if start and isinstance(error, ExecutionConflictError):
                self.numbers.give_back(event_of(outcome))
            else:
                self._waits_out(error, self._kept, event_of(outcome))
            raise
        self._saved(along)
        self._written(pending, outcome)

    async def continue_as_new(self, record: WorkflowExecution) -> None:
        """Begin again with the input of a record; if that fails, this worker leaves it as it is."""
        try:
            await self.environment.store.continue_as_new(record, claim=self.claim)
        except BaseException as error:
            self.stop(error)
            raise

    def _saved(self, records: tuple[Record, ...]) -> None:
        if self.step_slots.held:
            self.step_slots.saved(records)
        for record in records:
            if type(record) is WorkflowExecution and record.status is not self._told_status:
                before, self._told_status = self._told_status, record.status
                self.environment.status_changed(record, before)
            elif type(record) is WorkflowPatch or type(record) is Progress:
                self.history.along.is_saved(record)

    def _refused(self, error: BaseException) -> None:
        if isinstance(error, SerializationError):
            self._progressed = False  # as far as the records say
        else:
            self.stop(error)

    async def _save_later(
        self, records: tuple[Record, ...], refusal: BaseException, pending: Pending | None = None
    ) -> StepCheckpoint:
        is_of_step = is_outcome(records[0])
        what = "record what a step of execution {} did" if is_of_step else "write for execution {}"
        refused = LoopBackoff(what.format(repr(self.id)))
        self._kept += is_of_step
        try:
            while True:
                assert isinstance(refusal, StoreError)
                self.tell_whoever_waits(refusal)
                self._is_stopping = self._is_stopping or asyncio.Event()
                await wait_for(self._is_stopping, refused.failed(refusal, SAVE_AGAIN_AFTER_S))
                if self.trouble is not None:
                    raise asyncio.CancelledError  # the engine stops, whoever heard of it
                number = None
                if pending is not None:
                    number = self.numbers.take(pending)
                    records = (msgspec.structs.replace(records[0], event=number), *records[1:])
                try:
                    await self.environment.store.save(*records, claim=self.claim)
                except BaseException as error:
                    if not self._waits_out(error, 1, number):
                        raise
                    refusal = error
                else:
                    break
        finally:
            self._kept -= is_of_step
        refused.succeeded()
        self._saved(records)
        return records[0]  # type: ignore[return-value]

    def wake_what_is_kept(self) -> None:
        """What waits to be saved later looks whether it still may."""
        if self._is_stopping is not None:
            self._is_stopping.set()

    # The execution's own record

    def running(self, *, progressed: bool = False) -> tuple[WorkflowExecution, ...]:
        """The execution's record to save along, where it must say that it is RUNNING.

        progressed: a step has its outcome, so what killed its worker before was not forever.
        """
        if progressed and not self._progressed:
            self._progressed = True
            if self.slots is not None:
                self.slots.clear(self.id)
            status = ExecutionStatus.RUNNING
            if self.record.status is ExecutionStatus.COMPENSATING:
                status = ExecutionStatus.COMPENSATING
            return (self.changed(status=status, recovery_count=0),)
        if self.record.status in _AT_WORK:
            return ()
        return (self.changed(status=ExecutionStatus.RUNNING),)

    def changed(self, **changes: Any) -> WorkflowExecution:
        """The record with some changes, for the store; it is what the record is from now on."""
        before = self.record
        self.record = msgspec.structs.replace(
            before,
            current_step=max(self.steps_begun, before.current_step),
            updated_at=max(self.environment.clock.now(), before.updated_at),
            **changes,
        )
        return self.record

    def completion_time(self) -> datetime:
        """Now; later than any completion before it, so that their order is kept by the times."""
        now = self.environment.clock.now()
        last = self._last_completed_at
        if last is not None and now <= last:
            now = last + timedelta(microseconds=1)
        self._last_completed_at = now
        return now

    def cut_off(self) -> None:
        """Cancel what may be cancelled of what is under way."""
        self.wake_what_is_kept()
        super().cut_off()
