"""Undoing what an execution completed: in reverse order, each step once, recorded as it goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.actions import (
    call_function,
    failure_of,
    is_async,
    thread_for,
)
from durable_workflow_sqlite.engine.child_calls import ChildCall
from durable_workflow_sqlite.engine.children import end_of, not_over, until_over
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.compensation_records import (
    as_error,
    completed_at,
)
from durable_workflow_sqlite.engine.given import undone_by_hand
from durable_workflow_sqlite.engine.held_slot import SOMETIME
from durable_workflow_sqlite.engine.history import Place, RecordedHistory
from durable_workflow_sqlite.engine.operations import StepCall, TransactionCall
from durable_workflow_sqlite.engine.step_info import tries_of
from durable_workflow_sqlite.engine.step_outcomes import CutOff
from durable_workflow_sqlite.engine.step_records import read_value
from durable_workflow_sqlite.engine.steps import perform_step
from durable_workflow_sqlite.engine.transaction_steps import perform_transaction
from durable_workflow_sqlite.engine.undo_settling import settle_undo, settles_undo
from durable_workflow_sqlite.engine.undoing import (
    UNSTORABLE,
    how_to_undo,
    refuse_lost_references,
)
from durable_workflow_sqlite.errors import (
    CompensationError,
    SerializationError,
)
from durable_workflow_sqlite.records import (
    COMPENSATION_SUFFIX,
    StepCheckpoint,
    StepStatus,
)

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.threads import Thread
    from durable_workflow_sqlite.engine.transacting_run import TransactingRun

T = TypeVar("T")

_log = logging.getLogger("durable_workflow_sqlite.engine")


class Saga:
    """The compensations of one execution. No step of it is under way any more.

    calls: the steps with a compensation that its workflow function has asked for; None if nothing
        is to be undone, so that only the children are waited for.
    children: those that are to end with it, and have perhaps not ended.
    """

    def __init__(
        self,
        run: TransactingRun,
        calls: Mapping[Place, StepCall] | None,
        children: Collection[ChildCall] = (),
    ) -> None:
        self._run = run
        self._calls: Mapping[Place, StepCall] = calls or {}
        self._has_to_undo = calls is not None
        self._children = children
        self._failed: list[StepCheckpoint] = []
        self.task: asyncio.Task[Any] | None = None
        self.interruptible = False
        self.is_given_up = False
        self.has_begun = self.is_recorded = self.is_pausing = self.waits_for_thread = False
        self.pauses_until: datetime | None = None
        self._undoes: StepCall | None = None

    def describe(self) -> str:
        what = "steps" if self._undoes is None else self._undoes.describe()
        return f"the compensation of {what}"

    async def compensate(self) -> CompensationError | None:
        """Undo everything that is not undone, the last completed first; report what failed.

        A step that is in doubt is run to its end first.
        """
        run = self._run
        self.task = asyncio.current_task()
        run.under_way[self] = None
        try:
            await self._undo_all()
        finally:
            del run.under_way[self]
        if not self._failed:
            return None
        errors = [as_error(one) for one in self._failed]
        names = ", ".join(f"{one.step_name!r} (index {one.step_index})" for one in self._failed)
        error = CompensationError(
            f"execution {run.id!r} could not undo everything: {names} failed",
            workflow_execution_id=run.id,
            failures=errors,
        )
        run.environment.observers.tell("on_error", error, run.id)
        return error

    async def _undo_all(self) -> None:
        if await not_over(self._run, self._children):  # what they did came later: undone first
            await self.wait_long(until_over(self._run, self._children), SOMETIME)
        if not self._has_to_undo:
            return  # not even what is recorded is read: after a map, that would be long
        history = await self._load()
        refuse_lost_references(self._run.id, self._calls, history)
        doubtful = [
            place
            for place, step in history.steps()
            if step.is_in_doubt
            and step.compensation is None
            and step.last is not None
            and step.last.compensate_ref is not None
        ]
        for place in doubtful:
            await self._settle(self._call(place, history), history)
        if doubtful:
            history = await self._load()
        to_undo: list[tuple[StepCheckpoint, StepCheckpoint | None]] = []
        for _, step in history.steps():
            last, begun = step.last, step.compensation
            if begun is not None and begun.status is not StepStatus.INTENT:
                if begun.status is StepStatus.FAILED:
                    self._failed.append(begun)
                continue
            if last is None or last.compensate_ref is None:
                continue
            if last.status is StepStatus.COMPLETED or last.error_type == UNSTORABLE:
                to_undo.append((last, begun))
        calls = [self._call((one.branch, one.step_index), history) for one, _ in to_undo]
        pairs = list(zip(calls, to_undo, strict=True))
        pairs.sort(key=lambda pair: completed_at(pair[1][0]), reverse=True)
        for call, (completed, begun) in pairs:
            if isinstance(call, ChildCall):
                end = await end_of(self._run, call, history)
                if end is None:
                    await self._report_lost(completed, "the end of the child was deleted")
                    continue
                if not end.is_completed:
                    continue  # it has undone itself
                value = end.result(call.definition, call.child_id)
            elif completed.status is StepStatus.COMPLETED:
                value = self._value_of(call, completed)
            elif call.unstorable is not None:
                (value,) = call.unstorable
            else:
                await self._report_lost(completed, "its result could not be stored")
                continue
            await self._compensate(call, completed, value, begun)

    async def _load(self) -> RecordedHistory:
        run = self._run
        return RecordedHistory(await run.environment.store.load_checkpoints(run.id))

    def _call(self, place: Place, history: RecordedHistory) -> StepCall:
        return how_to_undo(self._run.id, place, self._calls, history)

    async def _settle(self, call: StepCall, history: RecordedHistory) -> None:
        """Run a step that is in doubt to its outcome: then it is known whether to undo it."""
        run = self._run
        self._check_may_begin()
        if call.timeout is not None:
            # What was slow may be so again, and then nothing would be undone.
            call.timeout = max(call.timeout, run.environment.cancel_grace)
        call.history = history.take(call.place)
        call.is_given_up = False
        if call.doubt is not None:
            call.doubt.is_to_undo = True
        call.task = self.task
        run.under_way[call] = None
        is_finishing, run.is_finishing = run.is_finishing, False
        self.is_pausing, self.pauses_until = True, SOMETIME  # except the step, nothing of it runs
        try:
            with suppress(CutOff):
                if isinstance(call, TransactionCall):
                    await perform_transaction(run, call)
                else:
                    await perform_step(run, call)
        finally:
            self.is_pausing, self.pauses_until = False, None
            call.task = None
            run.is_finishing = is_finishing
            run.under_way.pop(call, None)
        self._check_may_begin()  # and if not, it may have no outcome yet
        run.numbers.forget_what_is_recorded()

    def _value_of(self, call: StepCall, completed: StepCheckpoint) -> Any:
        """What the step returned: from its record, whatever the workflow has made of it since."""
        read_value(self._run.id, call, completed)
        return call.value

    async def _compensate(
        self,
        call: StepCall,
        completed: StepCheckpoint,
        value: object,
        begun: StepCheckpoint | None,
    ) -> None:
        run, environment = self._run, self._run.environment
        policy = call.compensate_retry
        assert call.compensate is not None
        self._undoes = call
        attempt = 1
        if begun is not None and settles_undo(call, begun):
            settled = await settle_undo(run, self, call, begun)
            if settled is not None:
                if settled.status is StepStatus.FAILED:
                    self._failed.append(settled)
                self._tell_complete(settled)
                return
            attempt = tries_of(begun) + 1
        elif begun is not None:
            attempt = tries_of(begun) + 1
            if begun.due_at is not None:
                await self.pause_after(begun)
        while True:
            self._check_may_begin()
            thread = None if is_async(call.compensate) else await self.take_thread()
            intent = StepCheckpoint(
                workflow_execution_id=run.id,
                branch=call.place[0],
                step_index=call.place[1],
                attempt=0,
                step_name=call.name + COMPENSATION_SUFFIX,
                status=StepStatus.INTENT,
                input_data=msgspec.json.encode({"attempt": attempt}).decode(),
                compensate_ref=completed.compensate_ref,
                started_at=environment.clock.now(),
            )
            try:
                await run.begin_step(intent)
                if run.trouble is not None:
                    raise run.trouble
            except BaseException:
                if thread is not None:
                    thread.leave()
                raise
            if begun is not None and (done := await undone_by_hand(run, begun)):
                if thread is not None:
                    thread.leave()
                await run.save(*done)
                self.has_begun = False
                return
            environment.observers.tell("on_compensation_start", intent)
            try:
                await call_function(call.compensate, (value,), self, thread, (run, intent))
            except BaseException as raised:  # noqa: BLE001 - whatever it raises
                error = failure_of(run, raised, self)
                delay = (
                    policy.delay_after(attempt) if policy.allows_another(attempt, error) else None
                )
                now = run.completion_time()
                outcome = msgspec.structs.replace(
                    intent,
                    status=StepStatus.FAILED if delay is None else StepStatus.INTENT,
                    error_type=failures.error_type(error),
                    error_message=environment.format_error(error),
                    completed_at=now if delay is None else None,
                    due_at=None if delay is None else later(now, delay),
                )
                await run.save(outcome)
                self.has_begun = False
                self._log(outcome, attempt, delay)
                if outcome.due_at is not None and delay is not None:
                    environment.observers.tell("on_compensation_retry", outcome, error, delay)
                    await self.pause_after(outcome)
                    attempt += 1
                    begun = outcome
                    continue
                self._failed.append(outcome)
            else:
                outcome = msgspec.structs.replace(
                    intent,
                    status=StepStatus.COMPENSATED,
                    completed_at=run.completion_time(),
                )
                await run.finish_compensation(outcome)
                self.has_begun = False
            self._tell_complete(outcome)
            return

    def _tell_complete(self, outcome: StepCheckpoint) -> None:
        elapsed = timedelta(0)
        if outcome.completed_at is not None and outcome.started_at is not None:
            elapsed = outcome.completed_at - outcome.started_at
        self._run.environment.observers.tell("on_compensation_complete", outcome, elapsed)

    async def pause_after(self, failed: StepCheckpoint) -> None:
        """Wait for the time of the next attempt."""
        self._check_may_begin()
        run = self._run
        await self.wait_long(run.pauses.after(failed, run.environment.scheduler), failed.due_at)

    async def take_thread(self) -> Thread:
        """A thread for a sync function."""
        run = self._run
        if (thread := run.turns.take(run.id, self)) is not None:
            return thread
        return await self._wait(thread_for(run, self), for_thread=True)

    async def wait_long(self, what: Awaitable[None], until: datetime | None) -> None:
        """Wait, and then take a slot of its queue again."""
        await self._wait(what, until=until)
        await self._run.take_queue_slot()
        self._check_may_begin()

    async def _wait(
        self, what: Awaitable[T], *, until: datetime | None = None, for_thread: bool = False
    ) -> T:
        self._run.begins_to_wait(self, until=until, for_thread=for_thread)
        try:
            return await what
        except asyncio.CancelledError:
            if self._run.stops_after_steps is not None:
                raise self._run.stops_after_steps from None
            raise
        finally:
            self._run.waits_no_more(self)

    def _check_may_begin(self) -> None:
        """Raise if no other function is to begin: the rest is undone in the next run."""
        trouble = self._run.trouble or self._run.stops_after_steps
        if trouble is not None:
            raise trouble

    async def _report_lost(self, checkpoint: StepCheckpoint, why: str) -> None:
        """A step or a child took effect, and nobody has the result that its compensation needs."""
        run = self._run
        error = SerializationError(f"the result that it needs is lost: {why}")
        outcome = StepCheckpoint(
            workflow_execution_id=run.id,
            branch=checkpoint.branch,
            step_index=checkpoint.step_index,
            attempt=0,
            step_name=checkpoint.step_name + COMPENSATION_SUFFIX,
            status=StepStatus.FAILED,
            error_type=UNSTORABLE,
            error_message=run.environment.format_error(error),
            compensate_ref=checkpoint.compensate_ref,
            completed_at=run.completion_time(),
        )
        await run.save(outcome)
        self._log(outcome, 0, None)
        self._failed.append(outcome)

    def _log(self, outcome: StepCheckpoint, attempt: int, delay: timedelta | None) -> None:
        _log.log(
            logging.ERROR if delay is None else logging.WARNING,
            "compensation of step %r of execution %r failed at attempt %d, %s: %s",
            outcome.step_name.removesuffix(COMPENSATION_SUFFIX),
            self._run.id,
            attempt,
            "for good" if delay is None else f"retrying in {delay}",
            outcome.error_message,
            extra={
                "workflow_execution_id": self._run.id,
                "step_name": outcome.step_name,
                "step_index": outcome.step_index,
                "branch": outcome.branch,
                "attempt": attempt,
            },
        )
