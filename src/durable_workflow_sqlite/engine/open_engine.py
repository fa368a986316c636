"""An open engine: its executions, and its background tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Final

import msgspec

from durable_workflow_sqlite.engine import pausing
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.clock import Clock, Scheduler
from durable_workflow_sqlite.engine.dispatcher import Dispatcher
from durable_workflow_sqlite.engine.environment import Environment
from durable_workflow_sqlite.engine.error_codec import ErrorCodec
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.failures import ErrorFormatter
from durable_workflow_sqlite.engine.foreseeing import Verdict, foresee
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.observer import Observers
from durable_workflow_sqlite.engine.outcome import Interruption, Outcome, cancelled
from durable_workflow_sqlite.engine.parking import Parking
from durable_workflow_sqlite.engine.recovery import RecoveryResult
from durable_workflow_sqlite.engine.schedule_loop import ScheduleLoop
from durable_workflow_sqlite.engine.step_limits import StepLimits
from durable_workflow_sqlite.engine.stopping import functions_that_run, in_words, stop_all
from durable_workflow_sqlite.engine.streams import Streams
from durable_workflow_sqlite.engine.threads import Threads
from durable_workflow_sqlite.engine.watchdog import Watchdog
from durable_workflow_sqlite.engine.worker_changes import WorkerChangePoller
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, WorkflowRegistry
from durable_workflow_sqlite.errors import EngineStoppedError
from durable_workflow_sqlite.loops import LoopBinding
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    ExecutionStatus,
    StepCheckpoint,
    Workflow,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowPatch,
    WorkflowSignal,
)

_log = logging.getLogger("durable_workflow_sqlite.engine")


SPREAD_AT_ONCE: Final = 20
"""Of the pauses that others have left to be handed down, how many parts at each look around."""

BEGUN_A_TURN: Final = 20
"""Of the executions that were launched as the engine opened, how many begin in one turn."""

NewExecution = Callable[
    [Environment, AnyWorkflow, WorkflowExecution, WorkflowClaim, RecordedHistory], Execution
]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `DurableEngine` was given, checked; it says there what each of them means."""

    store: CheckpointStore
    registry: WorkflowRegistry
    observers: Observers
    format_error: ErrorFormatter
    error_codec: ErrorCodec
    max_concurrent: int
    max_recoveries: int
    cancel_grace: timedelta
    context: Context | None
    park_after: timedelta | None
    max_resident: int
    clock: Clock
    queues: frozenset[str] | None


class OpenEngine(Access):
    """One engine at work.

    new_execution: what `Execution` is; a test makes its own.
    """

    def __init__(self, settings: Settings, new_execution: NewExecution) -> None:
        super().__init__(
            LoopBinding("this engine"), settings.store, settings.clock, settings.registry
        )
        self._new_execution = new_execution
        self._when_left = self._left  # once: each bound method is an object of its own
        self._observers = settings.observers
        self._closing: asyncio.Task[None] | None = None
        self._held: list[tuple[Execution, Context]] | None = []
        """What is launched while the engine opens, and begins after that: in `async with ... as
        engine`, the name that a step may use is bound then."""
        scheduler = Scheduler(settings.clock)
        self._environment = Environment(
            store=settings.store,
            clock=settings.clock,
            scheduler=scheduler,
            max_payload_bytes=settings.store.max_payload_bytes,
            streams=Streams(
                asyncio.get_running_loop(), settings.clock, settings.store.max_payload_bytes
            ),
            step_limits=StepLimits(settings.store, settings.clock, scheduler),
            observers=settings.observers,
            is_observed=bool(settings.observers),
            format_error=settings.format_error,
            error_codec=settings.error_codec,
            threads=Threads(settings.max_concurrent),
            status_changed=self._status_changed,
            look=self.look,
            context=None if settings.context is None else settings.context.copy(),
            cancel_grace=settings.cancel_grace,
            watchdog=Watchdog(),
            parking=Parking(
                settings.park_after, settings.max_resident, lambda: len(self.executions)
            ),
        )
        self.dispatcher = Dispatcher(
            self._environment,
            settings.registry,
            self.launch,
            self._not_launched,
            self._pauses_changed,
            max_concurrent=settings.max_concurrent,
            max_recoveries=settings.max_recoveries,
            queues=settings.queues,
        )
        self.schedules = ScheduleLoop(self, self._environment.scheduler)
        self.changes: WorkerChangePoller = WorkerChangePoller(settings.store, self.dispatcher, self)

    async def begin(self) -> RecoveryResult:
        """Recover what was interrupted, and claim work from then on."""
        # Now, and not with the first body: to start a thread may fail, or hang, for want of memory.
        self._environment.watchdog.start()
        await self.changes.begin()
        self.check_open()
        result = await self.dispatcher.recover()
        self.dispatcher.begin()
        self.schedules.begin()
        held, self._held = self._held, None
        asyncio.get_running_loop().call_soon(self._begin, held)
        return result

    def _begin(self, held: list[tuple[Execution, Context]] | None) -> None:
        for one, context in (held or ())[:BEGUN_A_TURN]:
            if one.trouble is None:
                context.run(one.begin)
        if held and len(held) > BEGUN_A_TURN:
            asyncio.get_running_loop().call_soon(self._begin, held[BEGUN_A_TURN:])

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closing is not None

    @property
    def is_over(self) -> bool:
        """Whether `close` has ended."""
        return self._closing is not None and self._closing.done()

    def check_open(self) -> None:
        if self.is_closed:
            raise disposed_of()

    # The executions in its hands

    def launch(
        self,
        workflow: AnyWorkflow,
        record: WorkflowExecution,
        claim: WorkflowClaim,
        history: RecordedHistory,
        interruption: Interruption | None = None,
    ) -> Execution:
        """Begin to run an execution; with an interruption, to compensate it."""
        self.check_open()
        execution = self._new_execution(self._environment, workflow, record, claim, history)
        self.executions[execution.id] = execution
        execution.when_left = self._when_left
        if interruption is not None:
            execution.interrupt(interruption)
        if claim.status_before is not record.status:
            self._status_changed(record, claim.status_before)
        self.changes.changed(execution.id)
        if self._held is None:
            execution.begin()
            self._pause_if_held(execution)
        else:
            self._held.append((execution, copy_context()))  # of whoever starts it
        return execution

    def _not_launched(self, execution_id: str) -> None:
        self.changes.changed(execution_id)

    def _left(self, execution: Execution, outcome: Outcome) -> None:
        execution.leave_slot()
        if self.executions.get(execution.id) is execution:
            del self.executions[execution.id]
        if outcome.is_parked or (outcome.continues and self.is_closed):
            self.dispatcher.parked(execution)
        elif outcome.continues:
            self.dispatcher.continues(execution)
        elif outcome.trouble is not None and not (self.is_closed and _is_stopped(outcome)):
            self.dispatcher.release(execution, outcome.trouble)
        if execution.record.queue is not None:
            self.dispatcher.look()  # its slot is free
        self.schedules.on_end()
        self.changes.changed(execution.id)

    def on_signal_sent(self, signal: WorkflowSignal) -> None:
        self.changes.worker_knows(signal)
        self.signalled(
            signal.workflow_execution_id, is_to_cancel=signal.signal_name == CANCEL_SIGNAL
        )

    async def hasten(self, execution_id: str) -> None:
        execution = self.executions.get(execution_id)
        if execution is None:
            self.dispatcher.signalled(execution_id)
        else:
            execution.pauses.hasten(await self.store.load_checkpoints(execution_id))
            execution.signals_came()  # somebody may have answered a question

    def signalled(self, execution_id: str, *, is_to_cancel: bool) -> None:
        execution = self.executions.get(execution_id)
        if execution is None:
            self.dispatcher.signalled(execution_id)
        elif is_to_cancel:
            if not execution.interrupt(cancelled(execution_id)) and execution.is_leaving:
                self.dispatcher.resume_when_left(execution)
        else:
            execution.signals_came()

    def _pauses_changed(self) -> None:
        for execution in list(self.executions.values()):
            self._pause_if_held(execution)

    def _pause_if_held(self, execution: Execution) -> None:
        why = self.dispatcher.holds.why(execution.record, execution.definition.name)
        if why is not None:
            execution.pause(why)

    async def paused(self, execution_id: str) -> None:
        execution = self.executions.get(execution_id)
        if execution is None:
            self.dispatcher.signalled(execution_id)
            return
        record = await self.store.load_execution(execution_id)
        if record is not None and record.is_paused:
            why = self.dispatcher.holds.why(record, execution.definition.name)
            execution.pause(why or "is paused")

    async def paused_below(self, root: str) -> None:
        for execution in list(self.executions.values()):
            if execution.record.root_execution_id == root:
                await self.paused(execution.id)

    async def spread_pauses(self) -> None:
        await pausing.spread(self, SPREAD_AT_ONCE)

    async def look_at_pauses(self) -> None:
        await self.dispatcher.holds.look()

    def slots_may_be_free(self) -> None:
        self._environment.step_limits.look()

    def look(self) -> None:
        self.dispatcher.look()

    def look_at_schedules(self) -> None:
        self.schedules.look()

    def others_wrote(self, change_counter: int) -> None:
        self.schedules.look_if_changed(change_counter)

    async def resume(self, record: WorkflowExecution) -> None:
        await self.dispatcher.resume(record)

    async def until_released(self, execution_id: str) -> None:
        await self.dispatcher.until_released(execution_id)

    def trouble_of(self, execution_id: str) -> BaseException | None:
        return self.dispatcher.trouble_of(execution_id)

    def why_unfit(
        self,
        workflow: Workflow,
        record: WorkflowExecution,
        checkpoints: Iterable[StepCheckpoint],
        patches: Iterable[WorkflowPatch],
    ) -> Exception | None:
        code = self.registry.find(workflow.workflow_type, workflow.version)
        if code is None:
            return None
        shared = self._environment
        verdict, error = foresee(
            code, record, checkpoints, patches, codec=shared.error_codec, context=shared.context
        )
        return None if verdict is Verdict.GOES_ON else error

    async def will_claim(self, record: WorkflowExecution) -> bool:
        return await self.dispatcher.will_claim(record)

    def _status_changed(self, record: WorkflowExecution, before: ExecutionStatus) -> None:
        self._tell_family(record)
        self._observers.tell("on_status_change", record, before)
        for states in self._listeners.get(record.workflow_execution_id, ()):
            states.put_nowait(record)

    def _tell_family(self, record: WorkflowExecution) -> None:
        """What a trigger has sent to its parent, or to its children, is for those here, too."""
        is_over = record.status.is_terminal
        if is_over and record.parent_execution_id is not None:
            self.signalled(record.parent_execution_id, is_to_cancel=False)
        if is_over or record.status is ExecutionStatus.COMPENSATING:
            execution = self.executions.get(record.workflow_execution_id)
            for child in () if execution is None else execution.children_to_end():
                self.signalled(child, is_to_cancel=True)

    def ended_at_once(self, record: WorkflowExecution, before: ExecutionStatus) -> None:
        self._status_changed(record, before)
        self._observers.tell("on_execution_complete", record, record.updated_at - record.created_at)
        self.dispatcher.signalled(record.workflow_execution_id)
        self.schedules.on_end()
        super().ended_at_once(record, before)

    # To its end

    def what_runs(self) -> str:
        """The functions of steps and compensations that run, for people; from any thread."""
        while True:
            with suppress(RuntimeError):  # something began or ended meanwhile
                return in_words(functions_that_run(list(self.executions.values())))

    @property
    def has_functions_in_threads(self) -> bool:
        """Whether functions run in threads that somebody waits for."""
        return bool(self._environment.threads.running)

    async def close(self, grace: timedelta) -> None:
        """Stop and release everything; see `DurableEngine.dispose`."""
        if self._closing is None:
            # In a task of its own: whoever asks may be cancelled, or be an action that this stops.
            loop = asyncio.get_running_loop()
            self._closing = loop.create_task(self._close(grace), name="durable-workflow-dispose")
        await asyncio.shield(self._closing)

    async def _close(self, grace: timedelta) -> None:
        marking = asyncio.create_task(self._mark_as_stopping())
        closing = asyncio.create_task(self.schedules.close())
        waiting = await self.dispatcher.close()
        running = list(self.executions.values())
        if running:
            await stop_all(running, grace)
        await self.changes.close()
        await marking
        await closing
        await self.dispatcher.until_all_released()
        stopped = [one.claim for one in running if _is_stopped(one.outcome.result())]
        await self.release([*waiting, *stopped])
        self._environment.scheduler.close()
        self._environment.watchdog.close()
        self._environment.parking.close()
        self._environment.threads.close()

    async def _mark_as_stopping(self) -> None:
        """If the worker is killed before it has released them, it did not die of them."""
        claims = [
            one.claim
            for one in self.executions.values()
            if one.record.status is not ExecutionStatus.SUSPENDED
        ]
        try:
            await self.store.mark_as_stopping(claims)
        except Exception:  # noqa: BLE001 - whatever the store raises
            _log.debug("could not say that this worker was told to stop", exc_info=True)

    async def release(self, claims: list[WorkflowClaim]) -> None:
        """Release claims, if the store can do it."""
        try:
            await self.store.release_claims(claims, self.clock.now())
        except Exception:  # noqa: BLE001 - whatever the store raises
            # The claims end with this process at the latest.
            _log.warning("could not release the claims of this worker", exc_info=True)


def disposed_of() -> EngineStoppedError:
    return EngineStoppedError("this engine was disposed of; create a new one")


def _is_stopped(outcome: Outcome) -> bool:
    """Whether nothing was wrong with it but that the engine stops."""
    return isinstance(outcome.trouble, EngineStoppedError)
