"""How an execution ends once its workflow function has: what is under way, undoing, the end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from durable_workflow_sqlite.engine import failures, serialization
from durable_workflow_sqlite.engine.children import not_over
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.mistakes import (
    is_failure,
    mistake_in,
    trouble_of,
)
from durable_workflow_sqlite.engine.operations import StepCall
from durable_workflow_sqlite.engine.outcome import Outcome
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.saga import Saga
from durable_workflow_sqlite.engine.step_outcomes import CutOff
from durable_workflow_sqlite.engine.step_waits import is_open
from durable_workflow_sqlite.engine.steps import perform_step
from durable_workflow_sqlite.errors import (
    SerializationError,
    StepFailedError,
    StepNotAwaitedError,
    StoreError,
    WorkflowCancelledError,
    WorkflowCodeError,
)
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    ExecutionStatus,
    Record,
    SignalStatus,
    WorkflowSignal,
)

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.body import Body, ContinueAsNew
    from durable_workflow_sqlite.engine.transacting_run import TransactingRun
    from durable_workflow_sqlite.engine.workflow import AnyWorkflow

CANCELLED_TYPE: Final = f"{WorkflowCancelledError.__module__}:{WorkflowCancelledError.__qualname__}"

_log = logging.getLogger("durable_workflow_sqlite.engine")


class LeftAsItIs(Exception):  # noqa: N818 - it carries the error
    """The execution did not end; `trouble` is the reason."""

    def __init__(self, trouble: BaseException) -> None:
        self.trouble = trouble


class Ending:
    """The end of one execution, after its workflow function returned, raised, or was told to end.

    left_behind: the steps that it had asked for and that nobody waits for any more.
    unwound: those whose functions run, and that it gave up on the way to its end, as a TaskGroup
        does: they are cut off, unless a mistake in the code has ended it.
    """

    def __init__(
        self,
        run: TransactingRun,
        definition: AnyWorkflow,
        body: Body,
        left_behind: list[StepCall],
        unwound: tuple[StepCall, ...],
        marks: list[Record],
    ) -> None:
        self._run = run
        self._definition = definition
        self._body = body
        self._left_behind = left_behind
        self._left_by_an_earlier_run = [
            step for step in left_behind if step not in run.under_way and not step.is_recorded
        ]
        self._unwound = unwound
        self._marks = marks

    async def to_the_end(self) -> Outcome:
        """End the execution. Raises LeftAsItIs if it is to be resumed instead."""
        run = self._run
        if run.interruption is not None:
            return await self._undo(run.interruption)
        if run.record.status is ExecutionStatus.COMPENSATING:
            return await self._undo(None)
        result, error = self._body.result()
        if error is None:
            self._give_up_unwound()
            self._warn_of_what_never_began()
            for step in self._left_behind:
                step.give_up()
            await self._until_nothing_is_under_way()
            self._check_all_was_awaited()
            if self._body.following is not None:
                return await self._continue(result, self._body.following)
            try:
                return await self._complete(result)
            except SerializationError as unfit:
                error = unfit
            except StoreError:
                raise
            except Exception as unfit:  # noqa: BLE001 - whatever a type of the user does
                error = unfit
        if failures.ends_the_program(error):
            raise LeftAsItIs(error)
        if self._body.is_refused(error):
            await self._leave(error)
        if not is_failure(error):
            await self._leave(self._in_trouble(error))
        outcomes = self._body.outcome_errors
        if (mistake := mistake_in(error, self._definition.stops_on, outcomes)) is not None:
            await self._leave(self._in_trouble(mistake))
        return await self._undo(error)

    async def _leave(self, trouble: BaseException) -> NoReturn:
        """The code has a mistake: the steps that run are recorded, and nothing is undone.

        With corrected code the execution continues, and that is not to run again.
        """
        run, environment = self._run, self._run.environment
        run.stop_after_steps(trouble)
        end = later(environment.clock.now(), environment.cancel_grace)
        alarm = environment.scheduler.at(end)
        alarm.add_done_callback(lambda _: None if alarm.cancelled() else run.stop(trouble))
        try:
            await self._until_nothing_is_under_way()
        finally:
            alarm.cancel()
        raise LeftAsItIs(trouble)

    def _in_trouble(self, mistake: BaseException) -> WorkflowCodeError:
        return trouble_of(self._body, mistake, self._run.environment.format_error)

    async def _complete(self, result: object) -> Outcome:
        definition = self._definition
        output, _ = serialization.round_trip(
            result, definition.result_type, f"the result of workflow {definition.name!r}"
        )
        limit = self._run.environment.max_payload_bytes
        check_size(output, limit, f"the result of workflow {definition.name!r}")
        await self._give_up(self._left_by_an_earlier_run)
        return await self._finish(ExecutionStatus.COMPLETED, *self._marks, output_data=output)

    async def _continue(self, result: object, following: ContinueAsNew) -> Outcome:
        """Begin again, with another input and no history."""
        run = self._run
        if result is not following:
            raise LeftAsItIs(
                WorkflowCodeError(
                    f"the workflow function of execution {run.id!r} called continue_as_new, and did"
                    " not return what that gave. Write `return ctx.continue_as_new(...)`. The"
                    " execution was left as it is; with corrected code it continues",
                    workflow_execution_id=run.id,
                )
            )
        await self._give_up(self._left_by_an_earlier_run)
        now = run.environment.clock.now()
        record = msgspec.structs.replace(
            run.record,
            status=ExecutionStatus.RUNNING,
            current_step=0,
            input_data=following.input_data,
            run_number=run.record.run_number + 1,
            started_at=now,
            updated_at=max(now, run.record.updated_at),
            recovery_count=0,
        )
        await run.continue_as_new(record)
        return Outcome(record, continues=True)

    async def _give_up(self, steps: list[StepCall]) -> None:
        """End what an earlier run has begun, and this one does not go on with."""
        for step in steps:
            step.give_up()
            if is_open(self._run, step):
                with suppress(CutOff):
                    await perform_step(self._run, step)

    def _warn_of_what_never_began(self) -> None:
        """The function ended well: people may think that all of its steps ran."""
        run = self._run
        for step in self._left_behind:
            if step.is_untouched and step not in run.under_way:
                _log.warning(
                    "step %r of execution %r never began: the workflow function ended, and nothing"
                    " awaited the step",
                    step.name,
                    run.id,
                    extra={
                        "workflow_execution_id": run.id,
                        "step_name": step.name,
                        "step_index": step.place[1],
                        "branch": step.place[0],
                    },
                )

    def _check_all_was_awaited(self) -> None:
        """Raise if the body returned, and had called a step that it never awaited."""
        if calls := self._body.calls.take_unawaited():
            names = ", ".join(call.describe() for call in calls)
            branch, index = calls[0].place
            if self._body.ended_with({call.place for call in calls}):
                mend = "Write `await` before the call; with that code it continues."
            else:
                mend = (
                    "Steps after that call may be recorded already, so leave the call where it is,"
                    " and await it after those steps: `later = ctx.step(...)`, and at the end"
                    " `await later`. With that code it continues."
                )
            raise LeftAsItIs(
                StepNotAwaitedError(
                    f"the workflow of execution {self._run.id!r} called {names} and never awaited"
                    f" it, so it did not run. The execution was left as it is. {mend}",
                    workflow_execution_id=self._run.id,
                    step_name=calls[0].name,
                    step_index=index,
                    branch=branch,
                )
            )

    async def _until_nothing_is_under_way(self) -> None:
        run = self._run
        while run.under_way:
            tasks = [one.task for one in run.under_way if one.task is not None]
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        if run.trouble is not None:
            raise LeftAsItIs(run.trouble)

    async def _let_come_to_an_end(self) -> None:
        """Running steps get no other attempt, and have some time to end."""
        run = self._run
        run.is_finishing = True
        for step in self._left_behind:
            if step.on_cancel == "stop" or step not in run.under_way or step.is_pausing:
                step.give_up()
        if any(step in run.under_way for step in self._left_behind):
            environment = run.environment
            alarm = environment.scheduler.at(
                later(environment.clock.now(), environment.cancel_grace)
            )
            alarm.add_done_callback(self._grace_is_over)
            try:
                await self._until_nothing_is_under_way()
            finally:
                alarm.cancel()
        await self._until_nothing_is_under_way()

    def _grace_is_over(self, alarm: asyncio.Future[None]) -> None:
        if not alarm.cancelled():
            for step in self._left_behind:
                step.give_up()

    def _give_up_unwound(self) -> None:
        for step in self._unwound:
            step.give_up()

    async def _undo(self, cause: BaseException | None) -> Outcome:
        """Compensate what is completed, then end as the cause says: FAILED or CANCELLED."""
        run = self._run
        self._give_up_unwound()
        self._body.calls.take_unawaited()  # else Python warns of them, wherever it is by then
        for step in self._left_behind:
            if not step.has_begun:
                step.give_up()
        status, error_type, error_message = self._why(cause)
        requests = await self._requests_to_cancel()
        # What is in doubt and has a compensation is run to its outcome, to be undone.
        given_up = [
            step
            for step in self._left_by_an_earlier_run
            if step.compensate is None or not step.may_need_undoing or step.is_in_a_back_off
        ]
        await self._give_up(given_up)
        marks = self._marks
        compensation_error = None
        children = list(self._body.children.values())
        has_children = bool(await not_over(run, children))
        if run.under_way or self._needs_undoing or has_children or cause is None:
            if cause is not None:
                compensating = run.changed(
                    status=ExecutionStatus.COMPENSATING,
                    error_type=error_type,
                    error_message=error_message,
                    last_event=self._body.heard,
                )
                await run.save(compensating, *requests, *marks)
                requests, marks = [], []
            await self._let_come_to_an_end()
            run.numbers.forget_what_is_recorded()
            has_to_undo = self._needs_undoing or cause is None
            if has_to_undo or children:
                calls = self._body.undoable if has_to_undo else None
                compensation_error = await Saga(run, calls, children).compensate()
        outcome = await self._finish(
            status,
            *requests,
            *marks,
            error_type=error_type,
            error_message=error_message,
            last_event=self._body.heard if cause is not None else run.record.last_event,
        )
        return msgspec.structs.replace(outcome, error=cause, compensation_error=compensation_error)

    @property
    def _needs_undoing(self) -> bool:
        return any(call.may_need_undoing for call in self._body.undoable.values())

    def _why(self, cause: BaseException | None) -> tuple[ExecutionStatus, str, str | None]:
        record = self._run.record
        if cause is None:
            error_type, error_message = record.error_type or "", record.error_message
        else:
            error_type = failures.error_type(cause)
            error_message = self._run.environment.format_error(cause)
            if isinstance(cause, StepFailedError) and cause.error_type is not None:
                # What the step failed with, whose class cannot be found.
                error_type, error_message = cause.error_type, cause.error_message
        is_cancelled = error_type == CANCELLED_TYPE
        return (
            ExecutionStatus.CANCELLED if is_cancelled else ExecutionStatus.FAILED,
            error_type,
            error_message,
        )

    async def _requests_to_cancel(self) -> list[WorkflowSignal]:
        """The requests to cancel it, which its last record marks as answered."""
        run = self._run
        pending = await run.environment.store.load_pending_signals(run.id, CANCEL_SIGNAL)
        return [msgspec.structs.replace(one, status=SignalStatus.DELIVERED) for one in pending]

    async def _finish(self, status: ExecutionStatus, *along: Record, **changes: Any) -> Outcome:
        run = self._run
        before = run.record
        fields: dict[str, Any] = {
            "output_data": None,
            "error_type": None,
            "error_message": None,
            "blocked_reason": None,
            **changes,
        }
        record = run.changed(status=status, **fields)
        try:
            await run.save(record, *along)
        except SerializationError:
            run.record = before
            raise
        elapsed = record.updated_at - record.created_at
        if status is not ExecutionStatus.COMPLETED:
            _log.log(
                logging.WARNING if status is ExecutionStatus.FAILED else logging.INFO,
                "execution %r ended %s: %s",
                run.id,
                status,
                failures.in_words(record.error_type, record.error_message),
                extra={"workflow_execution_id": run.id},
            )
        run.environment.observers.tell("on_execution_complete", record, elapsed)
        return Outcome(record)
