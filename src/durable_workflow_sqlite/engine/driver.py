"""Drives a body from event to event: it asks for something, and gets the outcome.

The steps run in tasks of the program's event loop. A task that has brought a step to its outcome
tells the body, and goes on with the next step that the body asks for. So a workflow that takes one
step after the other is one task, and each step costs no turn of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextvars import Context, copy_context
from typing import Any, Final

from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.child_calls import SendCall
from durable_workflow_sqlite.engine.children import record_sent
from durable_workflow_sqlite.engine.context import WorkflowContext
from durable_workflow_sqlite.engine.environment import Environment
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.operations import (
    Operation,
    StepCall,
    TransactionCall,
    WaitCall,
)
from durable_workflow_sqlite.engine.origins import origin_of
from durable_workflow_sqlite.engine.step_outcomes import CutOff
from durable_workflow_sqlite.engine.step_waits import is_open
from durable_workflow_sqlite.engine.steps import perform_step
from durable_workflow_sqlite.engine.timers import TimerFired
from durable_workflow_sqlite.engine.transacting_run import TransactingRun
from durable_workflow_sqlite.engine.transaction_steps import perform_transaction
from durable_workflow_sqlite.engine.waits import Waits
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import WorkflowStuckError
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    Progress,
    Record,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowGuarantee,
)

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_COMPENSATING: Final = ExecutionStatus.COMPENSATING


class Driver(TransactingRun):
    """Of one execution. What is done when its body has ended, and how it leaves, is for others."""

    __slots__ = (
        "_body",
        "_context",
        "_is_ending",
        "_is_going",
        "_is_live",
        "_is_looking",
        "_left_behind",
        "_made_waits",
        "_marks",
        "_tasks",
        "_unwound",
        "_variables",
        "_working",
        "definition",
    )

    def __init__(
        self,
        environment: Environment,
        definition: AnyWorkflow,
        record: WorkflowExecution,
        claim: WorkflowClaim,
        history: RecordedHistory,
    ) -> None:
        super().__init__(environment, record, claim, history)
        self.definition = definition
        history.patches.is_over = record.status is _COMPENSATING or record.last_event is not None
        self._variables: Context = (environment.context or definition.variables).copy()
        self._body = Body(
            definition.name,
            self.id,
            origin_of(record),
            history,
            environment.watchdog,
        )
        self._body.run_number = record.run_number
        self._body.queue, self._body.queue_key = record.queue, record.queue_key
        self._body.encode_input = definition.encode_input
        self._body.max_payload_bytes = environment.max_payload_bytes
        self._body.report = self._report
        self._context = WorkflowContext(self._body)
        self._made_waits: Waits | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._working = 0
        """Tasks that are at work for it."""
        self._is_live = False
        """Whether the body has got all recorded events, and new operations begin."""
        self._is_going = False
        """Whether the body gets the recorded events, and what it asks for begins."""
        self._is_looking = False
        self._is_ending = False
        self._left_behind: Sequence[Operation] = ()
        """What the body had asked for when it ended."""
        self._unwound: tuple[StepCall, ...] = ()
        """Steps whose functions run, and that it gave up on the way to its end."""
        self._marks: tuple[Record, ...] = ()
        """What the body has given up, to be saved."""

    def park(self) -> None:
        """Take it out of memory: it only waits, and its records say for what."""
        raise NotImplementedError

    async def _end(self) -> None:
        """The body has ended: bring the execution to its end."""
        raise NotImplementedError

    def _leave_if_still(self) -> None:
        """It was stopped: leave, once no task is at work for it any more."""
        raise NotImplementedError

    def _report(self, report: Progress) -> None:
        """The body has reported its progress; what a replay reports is not written by itself."""
        raise NotImplementedError

    async def _work(self, call: StepCall | None = None) -> None:
        """Perform a step, tell the body what is recorded, and go on with what it asks for."""
        self._working += 1
        if self._is_without_slot:
            self.take_slot()
        task = asyncio.current_task()
        assert task is not None
        try:
            if not await self.take_queue_slot():
                return
            while True:
                if call is not None:
                    call.task = task
                    try:
                        if type(call) is StepCall:
                            await perform_step(self, call)
                        elif isinstance(call, SendCall):
                            await record_sent(self, call)
                        else:
                            assert isinstance(call, TransactionCall)
                            await perform_transaction(self, call)
                    except CutOff:
                        pass
                    finally:
                        call.task = None
                        del self.under_way[call]
                call = self._advance()
                if call is None:
                    waits = self._made_waits
                    if waits is None or not self._may_look:
                        break
                    self._is_looking = True
                    try:
                        await waits.look(self._body)
                    finally:
                        self._is_looking = False
                elif self._made_waits is not None and self._may_look:
                    self._spawn(self._work())  # what is waited for cannot wait for the step
            if self._has_ended and not self._is_ending and self.trouble is None:
                self._is_ending = True
                await self._end()
            elif self._is_resting:
                await self._rest()
            elif self.under_way:
                self.lend_slot_if_waiting()
        except asyncio.CancelledError as error:
            self.stop(error)
        except BaseException as error:
            self.stop(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._working -= 1
            self._tasks.pop(task, None)
            if self.trouble is not None:
                self._leave_if_still()
            elif self.stops_after_steps is not None and not self.under_way:
                self.stop(self.stops_after_steps)

    def _advance(self) -> StepCall | None:
        """Tell the body what is recorded, an event at a time; a step that the caller is to perform.

        All else that it asks for begins on the way.
        """
        body = self._body
        if not self._is_going:
            if self._has_ended and not body.is_ended and self.trouble is None:
                self._body_has_ended()
            return None
        mine = self._begin_new(None) if body.new else None
        untold = self.numbers.untold
        while untold:
            number = next(iter(untold))
            pending = untold[number]
            if not pending.is_recorded:
                break
            del untold[number]
            assert pending.checkpoint is not None
            if type(pending) is TimerFired:
                body.let_time_pass(pending.checkpoint)
            else:
                body.hear(pending, pending.checkpoint)  # type: ignore[arg-type]
            if body.is_over or body.trouble is not None:
                if mine is not None:
                    del self.under_way[mine]  # it has not begun
                if body.trouble is not None:
                    self.stop(body.trouble)
                else:
                    self._body_has_ended()
                return None
            if body.new or body.given_up:
                mine = self._begin_new(mine)
        if body.loop.number_of_timers:
            self._waits.check_timers(body)
        if self._marks:
            self._spawn(self._save_marks())
        return mine

    @property
    def _has_ended(self) -> bool:
        return self._is_live and (
            self._body.is_over
            or self.interruption is not None
            or self.record.status is _COMPENSATING
        )

    def _body_has_ended(self) -> None:
        """The body has returned, has raised, or must end: end what it left behind."""
        body = self._body
        self._is_going = False
        if body.is_over:
            for call in body.given_up:
                if isinstance(call, StepCall) and call.has_begun and call in self.under_way:
                    self._unwound = (*self._unwound, call)
            body.given_up = [call for call in body.given_up if call not in self._unwound]
        self._begin_new(None, may_begin=False)
        if not body.is_over:
            body.interrupt()
        body.end()
        self._left_behind = body.given_up
        body.given_up = []
        body.new.clear()

    def _begin_new(self, mine: StepCall | None, *, may_begin: bool = True) -> StepCall | None:
        """Begin what the body has asked for since, and give up what it has given up."""
        body = self._body
        if body.given_up:
            given_up, body.given_up = body.given_up, []
            for call in given_up:
                if isinstance(call, StepCall):
                    call.give_up()
                    if call not in self.under_way and is_open(self, call):
                        self.under_way[call] = None
                        call.task = self._spawn(self._work(call), call.variables)
                else:
                    assert isinstance(call, WaitCall)
                    self._marks = (*self._marks, *self._waits.give_up(call))
        if body.new:
            new, body.new = body.new, []
            self.steps_begun = body.steps_begun
            if may_begin:
                for call in new:
                    if call.future is None or call.future.done():
                        continue  # given up before it began
                    if isinstance(call, StepCall):
                        self.under_way[call] = None
                        if mine is None and copy_context() == call.variables:
                            mine = call
                        else:
                            call.task = self._spawn(self._work(call), call.variables)
                    else:
                        assert isinstance(call, WaitCall)
                        self._waits.add(call)
        return mine

    def _look_for_answers(self) -> None:
        """A signal has come: it may be what a person answers to a step that is in doubt."""
        answers = self.pauses.answers
        if answers is None:
            return
        for call in answers.signal_came():
            if call in self.under_way:
                continue  # it looks just now, or waits in memory
            answers.is_over(call)
            if self._is_going and call.future is not None and not call.future.done():
                self.under_way[call] = None
                call.task = self._spawn(self._work(call), call.variables)

    async def _save_marks(self) -> None:
        self._working += 1
        marks, self._marks = self._marks, ()
        try:
            if marks:
                await self.save(*marks)
        except Exception as error:  # noqa: BLE001 - whatever the store raises
            self.stop(error)
        finally:
            self._working -= 1
        await self._work()

    @property
    def _waits(self) -> Waits:
        """Its sleeps and its waits for signals: made for the first of them, if there is one."""
        if self._made_waits is None:
            self._made_waits = Waits(self, self._ring)
        return self._made_waits

    @property
    def _wants_look(self) -> bool:
        return self._made_waits is not None and self._made_waits.wants_look

    @property
    def _may_look(self) -> bool:
        return (
            self._wants_look
            and not self._is_looking
            and self._is_live
            and not self.numbers.untold
            and not self._has_ended
            and self.trouble is None
            and self.stops_after_steps is None
        )

    def _ring(self) -> None:
        if self._may_look:
            self._spawn(self._work())

    # At rest

    @property
    def _is_resting(self) -> bool:
        """Whether the body waits, and only for what time or others bring."""
        return (
            self._is_live
            and not self.under_way
            and not self.numbers.untold
            and not self._is_looking
            and not self._wants_look
            and not self._has_ended
            and self.trouble is None
            and self.stops_after_steps is None
        )

    async def _rest(self) -> None:
        if self._body.is_stuck:
            self.stop(
                WorkflowStuckError(
                    f"the workflow of execution {self.id!r} waits{self._body.where_it_waits()}, and"
                    " no step, sleep, signal or timer is open that could wake it: it waits for"
                    " itself, or for something outside of the workflow, such as a lock that another"
                    " execution holds, or a thread. The execution was left as it is. Wait for such"
                    " things in a step: `await ctx.step(name, function, ...)`",
                    workflow_execution_id=self.id,
                )
            )
            return
        self.lend_slot()
        if self.environment.streams.of_runs:
            self.environment.streams.take_reports(self)
        # With what the body has given up: else its records would say that it waits for it.
        records = [*self._marks, *self._waits.timers.to_store(self._body)]
        self._marks = ()
        slot = self.queue_slot
        if self.record.status is not ExecutionStatus.SUSPENDED or (slot and slot.is_held):
            if slot is not None:
                slot.is_held = False  # with this record, the store frees it
            await self.save(self.changed(status=ExecutionStatus.SUSPENDED), *records)
            if slot is not None and self.slots is not None:
                self.slots.freed_in_queue()
        elif records:
            await self.save(*records)
        if self._is_resting and self.record.guarantee is WorkflowGuarantee.BEST_EFFORT_BACKGROUND:
            self.environment.parking.rests(self)

    def _spawn(
        self, work: Coroutine[Any, Any, None], variables: Context | None = None
    ) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        if variables is None:
            variables = self._variables.copy()
        task = self._new_task(work, loop=loop, context=variables, name=f"execution {self.id}")
        self._tasks[task] = None  # until it ends: asyncio does not keep it
        return task

    def _new_task(self, work: Coroutine[Any, Any, None], **options: Any) -> asyncio.Task[None]:
        # Not by the loop's task factory: an eager one would run it before this returns.
        return asyncio.Task(work, **options)
