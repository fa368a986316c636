"""One execution in the hands of this worker: from its first step, or from where it was, to its end.

The body (the workflow function) runs in a task of its own. It ends by itself, or because
- the execution is *interrupted*: cancelled or expired, and then compensated; or
- the worker is in *trouble*: the store fails, the claim is lost, the replay does not match, the
  engine stops. Then everything is left as it is, to be resumed. Trouble never fails an execution.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

import msgspec

from durable_workflow_sqlite.engine import failures, serialization
from durable_workflow_sqlite.engine.activity import Activity
from durable_workflow_sqlite.engine.calls import Calls
from durable_workflow_sqlite.engine.clock import Clock, Scheduler
from durable_workflow_sqlite.engine.context import WorkflowContext
from durable_workflow_sqlite.engine.failures import ErrorFormatter
from durable_workflow_sqlite.engine.history import History, place_in_words
from durable_workflow_sqlite.engine.observer import Observers
from durable_workflow_sqlite.engine.replay import REPLAY_PATIENCE_S, Lull, RecordedErrors
from durable_workflow_sqlite.engine.saga import Saga
from durable_workflow_sqlite.engine.steps import StepCall
from durable_workflow_sqlite.engine.trouble import Trouble
from durable_workflow_sqlite.engine.waits import Inbox
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import (
    CompensationError,
    DurableWorkflowError,
    EngineStoppedError,
    NonDeterminismError,
    SerializationError,
    StepFailedError,
    StepNotAwaitedError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    WorkflowCancelledError,
    WorkflowExpiredError,
)
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    ExecutionStatus,
    Record,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowSignal,
)

SAVE_AGAIN_AFTER_S: Final = 0.25
"""How long what a step did waits, at first, before the store is asked to take it once more."""

Interruption = WorkflowCancelledError | WorkflowExpiredError

_log = logging.getLogger("durable_workflow_sqlite.engine")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What the executions of an engine share."""

    store: CheckpointStore
    clock: Clock
    scheduler: Scheduler
    observers: Observers
    is_observed: bool
    """Whether there is an observer; asked before what it is told costs anything."""
    format_error: ErrorFormatter
    keeps_errors_whole: bool
    """Whether all of an error may be stored; not where a formatter may be there to redact it."""
    executor: Executor
    status_changed: Callable[[WorkflowExecution, ExecutionStatus], None]


class Outcome(msgspec.Struct, frozen=True):
    """How an execution left this worker: `record` is final, unless `trouble` says why it is not."""

    record: WorkflowExecution
    trouble: BaseException | None = None
    error: BaseException | None = None
    compensation_error: CompensationError | None = None


class Execution:
    """Runs one execution; `outcome` is done when it leaves this worker, and never an exception."""

    # Ten thousand of them may wait at once: what is rarely needed is made when it is.
    __slots__ = (
        "__weakref__",
        "_awaiting_outcome",
        "_body",
        "_context",
        "_interruption",
        "_is_body_over",
        "_is_closed",
        "_kept",
        "_last_completed_at",
        "_made_saga",
        "_only_replaying",
        "_progressed",
        "_recorded_errors",
        "_task",
        "_told_status",
        "_trouble",
        "activity",
        "calls",
        "claim",
        "definition",
        "environment",
        "history",
        "id",
        "inbox",
        "outcome",
        "record",
        "steps_begun",
        "stops_after_steps",
        "suspended",
    )

    def __init__(
        self,
        environment: Environment,
        definition: AnyWorkflow,
        record: WorkflowExecution,
        claim: WorkflowClaim,
        history: History,
    ) -> None:
        self.environment = environment
        self.definition = definition
        self.record = record
        self.claim = claim
        self.id = record.workflow_execution_id
        self.history = history
        self.inbox = Inbox(self)
        self.activity = Activity(self)
        self.calls = Calls()
        self.steps_begun = 0
        loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Outcome] = loop.create_future()
        self.suspended: asyncio.Future[None] = loop.create_future()
        self._awaiting_outcome: list[asyncio.Future[Outcome]] | None = None
        self._made_saga: Saga | None = None
        self._last_completed_at = history.last_completed_at
        self._kept = 0
        """Records of what steps did that the store has refused so far."""
        self._recorded_errors: RecordedErrors | None = None
        self._is_closed = False
        self._is_body_over = False
        self._only_replaying = False
        self._interruption: Interruption | None = None
        self._trouble: BaseException | None = None
        self.stops_after_steps: BaseException | None = None
        self._context: WorkflowContext | None = None
        self._body: asyncio.Task[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._progressed = record.recovery_count == 0
        self._told_status = record.status

    # For the engine

    def begin(self) -> None:
        """Start to run. `interrupt` before this compensates without running anything new."""
        self._task = asyncio.create_task(self._run(), name=f"execution {self.id}")

    def interrupt(self, cause: Interruption) -> bool:
        """Cancel or expire it; False if it is too late for that, or has been done already."""
        if self._interruption is not None or self._is_body_over or self._trouble is not None:
            return False
        if self.record.status is ExecutionStatus.COMPENSATING:
            return False
        self._interruption = cause
        if self._body is not None:
            self._body.cancel()
        return True

    def stop(self, trouble: BaseException) -> None:
        """Leave it as it is, to be resumed by whoever can."""
        if self._trouble is not None:
            return
        self._trouble = trouble
        if self._body is not None and not self._body.done():
            self._body.cancel()
        elif self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def let_go_of_slot(self) -> None:
        """It only waits, or has ended: others may be recovered in its place."""
        if not self.suspended.done():
            self.suspended.set_result(None)

    def stop_after_steps(self, trouble: BaseException) -> None:
        """`stop`, once the steps that are under way have their outcome; no other begins."""
        self.stops_after_steps = trouble
        if not self.activity.is_busy:
            self.stop(trouble)

    async def its_outcome(self) -> Outcome:
        """Wait for `outcome`, which lives on if this is cancelled: a shield, a turn faster."""
        if self.outcome.done():
            return self.outcome.result()
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._awaiting_outcome is None:
            self._awaiting_outcome = []
        self._awaiting_outcome.append(waiter)
        return await waiter

    # For the steps and waits of the body

    @property
    def is_ending(self) -> bool:
        """Whether it is the engine that cancels what is still going on."""
        return self._interruption is not None or self._trouble is not None or self._is_closed

    @property
    def is_catching_up(self) -> bool:
        """Whether a replay waits until its branches have got as far as the records reach."""
        errors = self._recorded_errors
        return self._only_replaying or (errors is not None and errors.are_due)

    @property
    def is_interrupted(self) -> bool:
        """Whether it is being cancelled, or has expired."""
        return self._interruption is not None

    def check_open(self) -> None:
        """Raise if nothing may be asked for any more, whatever the body made of being told so."""
        self.activity.words += 1
        if self._trouble is not None or (
            self._interruption is not None and not self._only_replaying
        ):
            raise asyncio.CancelledError(f"execution {self.id!r} is being stopped")
        if self._is_closed:
            raise RuntimeError(
                f"execution {self.id!r} has ended; a task that it started still uses its context."
                " Await every task before the workflow function returns."
            )

    def raise_trouble(self) -> None:
        """Raise if this worker must leave the execution alone."""
        if self._trouble is not None:
            raise self._trouble

    async def save(self, *records: Record) -> None:
        """Write under the claim; if that fails, this worker leaves the execution alone.

        What a step did cannot be had again: it is kept until the store is free and has room.
        Raises SerializationError for what no store can hold; that is no trouble of the worker.
        """
        was_interrupted = self.is_interrupted
        refusal: BaseException | None = None
        try:
            await self.environment.store.save(*records, claim=self.claim)
        except (Exception, asyncio.CancelledError) as error:
            if not self._is_to_be_saved_later(error, records, was_interrupted):
                raise
            refusal = error
        if refusal is not None:
            await self._save_later(records, refusal)
        for record in records:
            if isinstance(record, WorkflowExecution) and record.status is not self._told_status:
                before, self._told_status = self._told_status, record.status
                self.environment.status_changed(record, before)

    def _is_to_be_saved_later(
        self, error: BaseException, records: tuple[Record, ...], was_interrupted: bool
    ) -> bool:
        if isinstance(error, asyncio.CancelledError):
            # The interruption undoes what the step did, once that is recorded.
            is_interruption = self.is_interrupted and not was_interrupted
            return is_interruption and self._trouble is None and _is_outcome(records[0])
        if isinstance(error, SerializationError):
            self._progressed = False  # as far as the records say
            return False
        may_wait = isinstance(error, StoreBusyError | StoreFullError) and self._trouble is None
        # While something is kept, what else is refused waits with it: to stop would lose it.
        if may_wait and (self._kept or _is_outcome(records[0])):
            return True
        self.stop(error)
        return False

    async def _save_later(self, records: tuple[Record, ...], refusal: BaseException) -> None:
        is_outcome = _is_outcome(records[0])
        what = "record what a step of execution {} did" if is_outcome else "write for execution {}"
        refused = Trouble(what.format(repr(self.id)))
        self._kept += is_outcome
        try:
            while True:
                pause = 0.0
                if isinstance(refusal, StoreError):
                    self._tell_whoever_waits(refusal)
                    pause = refused.met(refusal, SAVE_AGAIN_AFTER_S)
                was_interrupted = self.is_interrupted
                try:
                    await asyncio.sleep(pause)
                    if self._trouble is not None:
                        raise asyncio.CancelledError  # the engine stops, whoever heard of it
                    await self.environment.store.save(*records, claim=self.claim)
                except (Exception, asyncio.CancelledError) as error:
                    if not self._is_to_be_saved_later(error, records, was_interrupted):
                        raise
                    refusal = error
                else:
                    break
        finally:
            self._kept -= is_outcome
        refused.is_over()

    def _tell_whoever_waits(self, error: StoreError) -> None:
        """Whoever waits for the outcome must not wait in the dark; who asks again waits again."""
        waiting, self._awaiting_outcome = self._awaiting_outcome, None
        for waiter in waiting or ():
            if not waiter.done():
                waiter.set_exception(error)

    def running(self, *, progressed: bool = False) -> tuple[WorkflowExecution, ...]:
        """The execution's record to save along, where it must say that it is RUNNING.

        progressed: a step has its outcome, so what killed its worker before was not for ever.
        """
        if progressed and not self._progressed:
            self._progressed = True
            return (self._changed(status=ExecutionStatus.RUNNING, recovery_count=0),)
        if self.record.status is ExecutionStatus.RUNNING:
            return ()
        return (self._changed(status=ExecutionStatus.RUNNING),)

    async def suspend(self) -> None:
        """Say that it is SUSPENDED, if nothing is going on in it but waits."""
        if self.activity.is_idle:
            self.let_go_of_slot()
            if self.record.status is not ExecutionStatus.SUSPENDED:
                with suppress(Exception):  # save() has stopped the execution because of it
                    await self.save(self._changed(status=ExecutionStatus.SUSPENDED))

    @property
    def _saga(self) -> Saga:
        if self._made_saga is None:
            self._made_saga = Saga(self)
        return self._made_saga

    def register_compensation(
        self, call: StepCall, value: object, checkpoint: StepCheckpoint
    ) -> None:
        """A step is completed; remember how to undo it."""
        if call.compensate is not None:
            self._saga.register(call, value, checkpoint)

    def completion_time(self) -> datetime:
        """Now; later than any completion before it, so that their order is kept by the times."""
        now = self.environment.clock.now()
        last = self._last_completed_at
        if last is not None and now <= last:
            now = last + timedelta(microseconds=1)
        self._last_completed_at = now
        return now

    async def turn_to_fail(self, failed: StepCheckpoint) -> None:
        """Wait until a recorded error may be raised again: see `RecordedErrors`."""
        if self._recorded_errors is None:
            self._recorded_errors = RecordedErrors(self)
        await self._recorded_errors.turn_of(failed)

    def is_behind(self, time: datetime) -> bool:
        """Whether a replay has not got as far as the records of before a time reach."""
        if self._only_replaying:
            return bool(self._saga.missing())
        return self.history.has_outcome_before(time)

    @property
    def begins_nothing_new(self) -> bool:
        """Whether what is not recorded yet must not begin: compensations are being registered
        again, or the worker is about to let go."""
        return self._only_replaying or self.stops_after_steps is not None

    async def park(self) -> NoReturn:
        """Nothing new begins any more: never return."""
        with self.activity.in_flight():
            await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    # The way to the end

    async def _run(self) -> None:
        alarm = self._watch_time_to_live()
        try:
            outcome = await self._to_the_end()
        except asyncio.CancelledError as error:
            outcome = self._left(self._trouble or error)
        except BaseException as error:  # noqa: BLE001 - of the engine's own doing, or a compensation's
            outcome = self._left(self._trouble or error)
        finally:
            if alarm is not None:
                alarm.cancel()
            self._is_closed = True
        self.outcome.set_result(outcome)
        for waiter in self._awaiting_outcome or ():
            if not waiter.done():
                waiter.set_result(outcome)

    async def _to_the_end(self) -> Outcome:
        is_new = self.record.current_step == 0 and not len(self.history)
        if not is_new:
            self.environment.observers.tell("on_execution_resume", self.record)
        if self._interruption is not None:
            return await self._undo(self._interruption)
        if self.record.status is ExecutionStatus.COMPENSATING:
            return await self._undo(None)
        if is_new:
            self.environment.observers.tell("on_execution_start", self.record)
        result, error = await self._run_body()
        if self._trouble is not None:
            return self._left(self._trouble)
        if self._interruption is not None:
            return await self._undo(self._interruption)
        self._check_all_was_asked_for(error)
        if error is None:
            self._check_all_was_awaited()
            try:
                output = serialization.to_json(
                    result, f"the result of workflow {self.definition.name!r}"
                )
                serialization.from_json(
                    output, self.definition.result_type, f"the result of execution {self.id!r}"
                )
            except StoreError as trouble:
                return self._left(trouble)
            except Exception as unfit:  # noqa: BLE001
                error = unfit
            else:
                try:
                    return await self._finish(ExecutionStatus.COMPLETED, output_data=output)
                except SerializationError as too_long:
                    error = too_long
        if not isinstance(error, Exception):
            # A cancellation from outside, or the process is told to exit: nobody failed.
            return self._left(error)
        return await self._undo(error)

    async def _run_body(self) -> tuple[Any, BaseException | None]:
        """Run the workflow function until it ends, and everything that it left behind."""
        try:
            args = self.definition.decode_input(self.record.input_data)
        except DurableWorkflowError as error:
            self.stop(error)
            return None, error
        self._context = context = WorkflowContext(self)
        self._body = asyncio.create_task(
            self.definition.function(context, *args), name=f"workflow {self.id}"
        )
        context.belong_to(self._body)
        try:
            if self._only_replaying:
                await self._wait_for_replay(self._body)
            else:
                await _end_of(self._body)
        finally:
            self._is_body_over = not self._only_replaying
            self._is_closed = True
            await self._end_tasks(self._body)
        try:
            # `result()`, asked a second time, would take the traceback away from the error.
            failure = self._body.exception()
        except asyncio.CancelledError as cancellation:
            return None, cancellation
        return (self._body.result(), None) if failure is None else (None, failure)

    async def _end_tasks(self, body: asyncio.Task[Any]) -> None:
        """Cancel the body and the tasks that it left in the middle of a step; wait for them."""
        tasks = [task for task in {body, *self.activity.tasks} if not task.done()]
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        cut_off = False
        while not all(task.done() for task in tasks):
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError:
                cut_off = True
        if cut_off:
            raise asyncio.CancelledError

    def _check_all_was_asked_for(self, error: BaseException | None) -> None:
        """Raise if the body ended without a step of its own that its history holds.

        A branch may rightly end early: it is cancelled, or lost a race. So may the body where a
        recorded error was raised in it; else what it asks for is the same each time.
        """
        if error is not None and (
            self._recorded_errors is not None or not isinstance(error, Exception)
        ):
            return
        assert self._context is not None
        for (branch, index), step in self.history.steps():
            last = step.last
            if last is None or last.completed_at is None or step.is_to_be_retried:
                continue
            if branch and self._context.has_taken(branch.partition("/")[0]):
                continue
            where = place_in_words((branch, index))
            raise NonDeterminismError(
                f"execution {self.id!r} has {last.kind.lower()} {last.step_name!r} recorded at"
                f" {where}, which its workflow ended without. It was left as it is."
                " Run it with the code that it was started with, or give changed code a new"
                " version.",
                workflow_execution_id=self.id,
                step_index=index,
                branch=branch,
                recorded_name=last.step_name,
            ) from error

    def _check_all_was_awaited(self) -> None:
        """Raise if the body ended well, and yet called what it never awaited: that never ran."""
        if calls := self.calls.take_unawaited():
            names = ", ".join(call.describe() for call in calls)
            branch, index = calls[0].place
            raise StepNotAwaitedError(
                f"the workflow of execution {self.id!r} called {names} and never awaited it, so it"
                " did not run. The execution was left as it is. Write `await` before the call;"
                " with that code it goes on.",
                workflow_execution_id=self.id,
                step_name=calls[0].name,
                step_index=index,
                branch=branch,
            )

    async def _wait_for_replay(self, body: asyncio.Task[Any]) -> None:
        """Replay until every step with a compensation is registered, or nothing moves any more."""
        lull = Lull(self.activity)
        # Twice as patient as a branch that is itself waiting for the others.
        while not body.done() and self._saga.missing() and lull.seconds < 2 * REPLAY_PATIENCE_S:
            await lull.go_on()

    # Compensation

    async def _undo(self, cause: BaseException | None) -> Outcome:
        """Compensate what is completed, then end as the cause says: FAILED or CANCELLED."""
        self._is_body_over = True
        status, error_type, error_message = self._ending(cause)
        self._saga.expect(await self._load_history())
        requests = await self._requests_to_cancel()
        if self._saga and cause is not None:
            compensating = self._changed(
                status=ExecutionStatus.COMPENSATING,
                error_type=error_type,
                error_message=error_message,
            )
            await self.save(compensating, *requests)
            requests = []
        if self._saga.missing():
            await self._register_again()
        compensation_error = await self._saga.compensate()
        outcome = await self._finish(
            status, *requests, error_type=error_type, error_message=error_message
        )
        return msgspec.structs.replace(outcome, error=cause, compensation_error=compensation_error)

    def _ending(self, cause: BaseException | None) -> tuple[ExecutionStatus, str, str | None]:
        if cause is None:
            error_type, error_message = self.record.error_type or "", self.record.error_message
        else:
            error_type = failures.error_type(cause)
            error_message = self.environment.format_error(cause)
            if isinstance(cause, StepFailedError) and cause.error_type is not None:
                # What the step failed with, whose class cannot be found.
                error_type, error_message = cause.error_type, cause.error_message
        is_cancelled = error_type == _CANCELLED_TYPE
        return (
            ExecutionStatus.CANCELLED if is_cancelled else ExecutionStatus.FAILED,
            error_type,
            error_message,
        )

    async def _requests_to_cancel(self) -> list[WorkflowSignal]:
        """What asked for it to be cancelled, to be marked as answered by how it ends."""
        pending = await self.environment.store.load_pending_signals(self.id, CANCEL_SIGNAL)
        return [msgspec.structs.replace(one, status=SignalStatus.DELIVERED) for one in pending]

    async def _load_history(self) -> History:
        return History(await self.environment.store.load_checkpoints(self.id))

    async def _register_again(self) -> None:
        """Replay the body as far as its records reach; nothing new runs."""
        self.history = await self._load_history()
        self._only_replaying = True
        self._is_closed = False
        await self._run_body()
        self._only_replaying = False
        self.raise_trouble()
        if missing := self._saga.missing():
            names = ", ".join(f"{one.step_name!r} (index {one.step_index})" for one in missing)
            raise NonDeterminismError(
                f"execution {self.id!r} must undo {names}, but its workflow no longer gets there to"
                " say how. It was left as it is. Resume it with the code that it was started with.",
                workflow_execution_id=self.id,
                step_index=missing[0].step_index,
                branch=missing[0].branch,
                recorded_name=missing[0].step_name,
            )

    # Endings

    async def _finish(
        self,
        status: ExecutionStatus,
        *along: Record,
        output_data: str | None = None,
        error_type: str | None = None,
        error_message: str | None = None,
    ) -> Outcome:
        self._is_body_over = True
        before = self.record
        record = self._changed(
            status=status,
            output_data=output_data,
            error_type=error_type,
            error_message=error_message,
            blocked_reason=None,
        )
        try:
            await self.save(record, *along)
        except SerializationError:
            self.record = before
            raise
        elapsed = record.updated_at - record.created_at
        if status is not ExecutionStatus.COMPLETED:
            _log.info(
                "execution %r ended %s: %s",
                self.id,
                status,
                failures.in_words(error_type, error_message),
                extra={"workflow_execution_id": self.id},
            )
        self.environment.observers.tell("on_execution_complete", record, elapsed)
        return Outcome(record)

    def _left(self, trouble: BaseException) -> Outcome:
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

    def _changed(self, **changes: Any) -> WorkflowExecution:
        before = self.record
        self.record = msgspec.structs.replace(
            before,
            current_step=max(self.steps_begun, before.current_step),
            updated_at=max(self.environment.clock.now(), before.updated_at),
            **changes,
        )
        return self.record

    def _watch_time_to_live(self) -> asyncio.Future[None] | None:
        deadline = self.record.ttl_expires_at
        if deadline is None:
            return None
        alarm = self.environment.scheduler.at(deadline)

        def expire(alarm: asyncio.Future[None]) -> None:
            if not alarm.cancelled():
                self.interrupt(expired(self.record))

        alarm.add_done_callback(expire)
        return alarm


async def _end_of(task: asyncio.Task[Any]) -> None:
    """Wait for a task's end, whatever that is."""
    try:
        await task
    except BaseException:
        if not task.done():
            raise


def _is_outcome(record: Record) -> bool:
    """Whether it tells what a step, or its compensation, did."""
    return (
        isinstance(record, StepCheckpoint)
        and record.kind is StepKind.STEP
        and record.status is not StepStatus.INTENT
    )


def expired(record: WorkflowExecution) -> WorkflowExpiredError:
    return WorkflowExpiredError(
        f"execution {record.workflow_execution_id!r} did not finish by {record.ttl_expires_at}",
        workflow_execution_id=record.workflow_execution_id,
    )


def cancelled(workflow_execution_id: str) -> WorkflowCancelledError:
    return WorkflowCancelledError(
        f"execution {workflow_execution_id!r} was cancelled",
        workflow_execution_id=workflow_execution_id,
    )


_CANCELLED_TYPE: Final = (
    f"{WorkflowCancelledError.__module__}:{WorkflowCancelledError.__qualname__}"
)
