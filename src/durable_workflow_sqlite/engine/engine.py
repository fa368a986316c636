"""`DurableEngine`: gives the records of a store their meaning."""

from __future__ import annotations

import asyncio
import inspect
import logging
import uuid
from asyncio import events
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar, TypeVarTuple

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.body_loop import BodyLoop
from durable_workflow_sqlite.engine.clock import Clock, Scheduler, SystemClock
from durable_workflow_sqlite.engine.environment import (
    Environment,
    Outcome,
    cancelled,
)
from durable_workflow_sqlite.engine.error_codec import ErrorCodec, ErrorFunctions
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.failures import (
    ErrorFormatter,
    checked,
    default_error_formatter,
    error_type,
    in_words,
)
from durable_workflow_sqlite.engine.handle import ExecutionHandle
from durable_workflow_sqlite.engine.history import History
from durable_workflow_sqlite.engine.intake import Intake, RecoveryResult
from durable_workflow_sqlite.engine.news import News
from durable_workflow_sqlite.engine.observer import DurableEngineObserver, Observers
from durable_workflow_sqlite.engine.parking import Parking
from durable_workflow_sqlite.engine.reopening import reopened
from durable_workflow_sqlite.engine.steps import later
from durable_workflow_sqlite.engine.watchdog import Watchdog
from durable_workflow_sqlite.engine.workflow import (
    AnyWorkflow,
    WorkflowDefinition,
    WorkflowRegistry,
    check_workflow,
)
from durable_workflow_sqlite.errors import (
    EngineStoppedError,
    ExecutionBlockedError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    NonDeterministicCallError,
    WorkflowCancelledError,
    WorkflowExpiredError,
    WorkflowFailedError,
)
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    MAX_INTEGER,
    ExecutionStatus,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowGuarantee,
    WorkflowSignal,
    check_identifier,
    check_integer,
    check_member,
)

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

_log = logging.getLogger("durable_workflow_sqlite.engine")
_EXPIRED_TYPE: Final = f"{WorkflowExpiredError.__module__}:{WorkflowExpiredError.__qualname__}"


class DurableEngine:
    """Runs workflows over a store; entering it recovers what was interrupted.

    store: any `CheckpointStore`. The engine uses it and does not close it.
    workflows: what this engine can run and recover; `run` and `start` add theirs. An engine
        without any can still signal, cancel, observe and await executions that run elsewhere.
    observers: hooks for metrics and tracing.
    error_formatter: makes of an error the text that is stored of it, to redact it, say.
    errors: for errors of steps that cannot be recorded as they are. It maps a class to a pair of
        functions: `to_plain(error)` gives data that JSON can hold, `from_plain(data)` the error.
    max_concurrent: how many executions are taken on at once, from the queue or from workers that
        died; waiting ones do not count, nor those that `run` and `start` begin here.
    max_recoveries: an execution whose worker died more often than this in a row, with no progress
        in between, is blocked until `unblock` is called.
    cancel_grace: for how long async actions may go on to their end when their execution fails, is
        cancelled or expires; then they are cancelled. Sync actions are always waited for.
    context: the context variables that workflow functions see; by default each sees those of the
        place where it was defined. Never those of whoever starts, signals or attaches to it.
    park_after: for how long an execution that only waits stays in memory. After that, its records
        are all that is left of it, until its time or signal comes; None: for ever.
    max_resident: how many executions may be in memory; above that, those that have only waited
        for longest leave it at once.
    clock: where the time comes from.
    """

    def __init__(
        self,
        store: CheckpointStore,
        workflows: Iterable[AnyWorkflow] = (),
        *,
        observers: Iterable[DurableEngineObserver] = (),
        error_formatter: ErrorFormatter = default_error_formatter,
        errors: ErrorFunctions | None = None,
        max_concurrent: int = 100,
        max_recoveries: int = 10,
        cancel_grace: timedelta = timedelta(seconds=30),
        context: Context | None = None,
        park_after: timedelta | None = timedelta(seconds=60),
        max_resident: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        if not inspect.iscoroutinefunction(getattr(store, "save", None)):
            raise TypeError(
                "store must be a CheckpointStore, whose methods are async, as"
                f" SqliteCheckpointStore.file(path) is; not {store!r}"
            )
        check_integer("max_concurrent", max_concurrent, minimum=1)
        check_integer("max_recoveries", max_recoveries, minimum=0)
        self._store = store
        self._registry = WorkflowRegistry(workflows)
        self._observers = Observers(observers)
        self._format_error = checked(error_formatter)
        self._error_codec = ErrorCodec(
            {} if errors is None else errors,
            keeps_whole=error_formatter is default_error_formatter,
        )
        self._max_concurrent = max_concurrent
        self._max_recoveries = max_recoveries
        if not isinstance(cancel_grace, timedelta) or cancel_grace < timedelta(0):
            raise TypeError(f"cancel_grace must be a timedelta, not negative: {cancel_grace!r}")
        if context is not None and not isinstance(context, Context):
            raise TypeError(f"context must be a contextvars.Context, not {context!r}")
        if park_after is not None and (
            not isinstance(park_after, timedelta) or park_after < timedelta(0)
        ):
            raise TypeError(f"park_after must be a timedelta, not negative: {park_after!r}")
        check_integer("max_resident", max_resident, minimum=0)
        self._parking = Parking(park_after, max_resident, lambda: len(self._executions))
        self._cancel_grace = cancel_grace
        self._context = context
        self._clock: Clock = clock or SystemClock()
        self._executions: dict[str, Execution] = {}
        self._listeners: dict[str, set[asyncio.Queue[WorkflowExecution]]] = {}
        self._environment: Environment | None = None
        self._intake: Intake | None = None
        self._news: News | None = None
        self._disposing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.dispose()

    async def open(self) -> RecoveryResult:
        """Begin to work, and recover what was interrupted; `async with` does it."""
        if self._is_disposed:
            raise EngineStoppedError("this engine was disposed of; make another one")
        if self._environment is not None:
            raise RuntimeError("this engine is open already: use it as it is")
        self._environment = Environment(
            store=self._store,
            clock=self._clock,
            scheduler=Scheduler(self._clock),
            observers=self._observers,
            is_observed=bool(self._observers),
            format_error=self._format_error,
            error_codec=self._error_codec,
            executor=ThreadPoolExecutor(self._max_concurrent, "durable-workflow-action"),
            status_changed=self._status_changed,
            context=None if self._context is None else self._context.copy(),
            cancel_grace=self._cancel_grace,
            watchdog=Watchdog(),
            parking=self._parking,
        )
        self._intake = Intake(
            self._environment,
            self._registry,
            self._launch,
            max_concurrent=self._max_concurrent,
            max_recoveries=self._max_recoveries,
        )
        self._news = News(self._store, self._intake, self._heed)
        try:
            await self._news.begin()
            result = await self.recover()
        except BaseException:
            await self.dispose()
            raise
        self._intake.begin()
        return result

    async def dispose(self, grace: timedelta = timedelta(0)) -> None:
        """Let go of everything; unfinished executions are left to be resumed, and never failed.

        grace: for how long steps that are under way may go on to their end. After that, async
            actions are cancelled. Sync ones cannot be: they are waited for, and recorded.
        """
        if not isinstance(grace, timedelta):
            raise TypeError(f"grace must be a timedelta, not {grace!r}")
        if self._disposing is None:
            # In a task of its own: whoever asks may be cancelled, or be an action that this stops.
            loop = asyncio.get_running_loop()
            self._disposing = loop.create_task(
                self._dispose(grace), name="durable-workflow-dispose"
            )
        await asyncio.shield(self._disposing)

    @property
    def _is_disposed(self) -> bool:
        return self._disposing is not None

    async def _dispose(self, grace: timedelta) -> None:
        waiting = [] if self._intake is None else await self._intake.close()
        running = list(self._executions.values())
        if running:
            await self._stop(running, grace)
        if self._news is not None:
            await self._news.close()
        await self._let_go([*waiting, *(one.claim for one in running)])
        if self._environment is not None:
            self._environment.scheduler.close()
            self._environment.watchdog.close()
            self._parking.close()
            self._environment.executor.shutdown(wait=False)

    async def _let_go(self, claims: list[WorkflowClaim]) -> None:
        try:
            await self._store.release_claims(claims, self._clock.now())
        except Exception:  # noqa: BLE001 - whatever the store raises
            # The claims end with this worker's life at the latest.
            _log.warning("could not release the claims of this worker", exc_info=True)

    async def _stop(self, running: list[Execution], grace: timedelta) -> None:
        outcomes = [execution.outcome for execution in running]
        if grace > timedelta(0):
            for execution in running:
                execution.stop_after_steps(_disposed(execution))
            await asyncio.wait(outcomes, timeout=grace.total_seconds())
        for execution in running:
            execution.stop(_disposed(execution))
        await asyncio.wait(outcomes)

    # Running

    async def run(
        self,
        workflow: WorkflowDefinition[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        ttl: timedelta | None = None,
        guarantee: WorkflowGuarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
    ) -> R:
        """Start an execution and wait for its result: `start`, then `ExecutionHandle.result`."""
        handle = await self.start(
            workflow, *args, execution_id=execution_id, ttl=ttl, guarantee=guarantee
        )
        return await handle.result()

    async def start(
        self,
        workflow: WorkflowDefinition[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        ttl: timedelta | None = None,
        guarantee: WorkflowGuarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
    ) -> ExecutionHandle[R]:
        """Start an execution; once this returns, it is stored and will be finished.

        execution_id: yours, or a new UUID. If an execution has it already, this attaches to that
            one: a start can be repeated until it is known to have worked.
        ttl: how long the execution may take; then it is compensated and FAILED.
        guarantee: who takes it over if this process dies; see `WorkflowGuarantee`.

        Raises ExecutionConflictError if the id belongs to another workflow or input,
        SerializationError for input that is no JSON, TypeError for arguments that the workflow
        does not take. Nothing is written then.
        """
        check_member("guarantee", guarantee, WorkflowGuarantee)
        now = self._working().clock.now()
        self._registry.add(workflow)
        record = _new_record(
            workflow,
            args,
            execution_id,
            now,
            started_at=now,
            status=ExecutionStatus.RUNNING,
            ttl_expires_at=None if ttl is None else _after("ttl", ttl, now),
            guarantee=guarantee,
        )
        handle: ExecutionHandle[R] = ExecutionHandle(
            self, record.workflow_execution_id, workflow.result_type
        )
        try:
            claim = await self._store.create_execution(workflow.record, record)
        except asyncio.CancelledError:
            self._taking_in().take_back(record)
            raise
        if self._is_disposed:
            await self._let_go([] if claim is None else [claim])
            self._working()
        if claim is None:
            found = await self._attach(workflow, record)
            if not found.status.is_terminal and found.workflow_execution_id not in self._executions:
                await self._taking_in().resume(found)
        else:
            self._launch(workflow, record, claim, History())
        return handle

    async def enqueue(
        self,
        workflow: WorkflowDefinition[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        ttl: timedelta | None = None,
    ) -> ExecutionHandle[R]:
        """Store an execution for whichever worker has the workflow registered: this one or another.

        execution_id, ttl: as for `start`, and likewise an enqueue can be repeated.
        delay: no worker takes it on before that.
        priority: those with a higher number are taken on first; then the older ones.

        Raises what `start` raises; nothing is written then.
        """
        now = self._working().clock.now()
        check_integer("priority", priority, minimum=-MAX_INTEGER - 1)
        ttl_expires_at = None if ttl is None else _after("ttl", ttl, now)
        due_at = now if delay is None else _after("delay", delay, now, minimum=timedelta(0))
        record = _new_record(
            workflow,
            args,
            execution_id,
            now,
            status=ExecutionStatus.PENDING,
            ttl_expires_at=ttl_expires_at,
            guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
            priority=priority,
            available_at=due_at if ttl_expires_at is None else min(due_at, ttl_expires_at),
        )
        handle: ExecutionHandle[R] = ExecutionHandle(
            self, record.workflow_execution_id, workflow.result_type
        )
        if await self._store.enqueue_execution(workflow.record, record):
            self._taking_in().look()
        else:
            await self._attach(workflow, record)
        return handle

    def handle(self, execution_id: str) -> ExecutionHandle[Any]:
        """A handle to any execution; its result comes as plain JSON data."""
        check_identifier("execution_id", execution_id)
        return ExecutionHandle(self, execution_id, Any)

    async def _attach(self, workflow: AnyWorkflow, wanted: WorkflowExecution) -> WorkflowExecution:
        """Make sure that an execution that is there already is the one meant."""
        found = await self.load(wanted.workflow_execution_id)
        definition = await self._store.load_workflow(found.workflow_id)
        found_type = None if definition is None else definition.workflow_type
        if found_type != workflow.name:
            raise ExecutionConflictError(
                f"execution {found.workflow_execution_id!r} is of workflow {found_type!r},"
                f" not {workflow.name!r}; nothing was started. Give another execution_id",
                workflow_execution_id=found.workflow_execution_id,
            )
        if not serialization.is_same_json(found.input_data, wanted.input_data):
            raise ExecutionConflictError(
                f"execution {found.workflow_execution_id!r} was started with other input;"
                " nothing was started. Give the same arguments to attach to it, or another"
                " execution_id",
                workflow_execution_id=found.workflow_execution_id,
            )
        return found

    def _launch(
        self,
        workflow: AnyWorkflow,
        record: WorkflowExecution,
        claim: WorkflowClaim,
        history: History,
        interruption: WorkflowCancelledError | WorkflowExpiredError | None = None,
    ) -> Execution:
        execution = self._execution(workflow, record, claim, history)
        self._executions[execution.id] = execution
        execution.outcome.add_done_callback(lambda done: self._ended(execution, done.result()))
        if interruption is not None:
            execution.interrupt(interruption)
        if claim.status_before is not record.status:
            self._status_changed(record, claim.status_before)
        self._watching().changed(execution.id)
        execution.begin()
        return execution

    def _execution(
        self,
        workflow: AnyWorkflow,
        record: WorkflowExecution,
        claim: WorkflowClaim,
        history: History,
    ) -> Execution:
        return Execution(self._working(), workflow, record, claim, history)

    def _ended(self, execution: Execution, outcome: Outcome) -> None:
        execution.let_go_of_slot()
        if self._executions.get(execution.id) is execution:
            del self._executions[execution.id]
        if outcome.is_parked:
            self._taking_in().parked(execution)
        elif outcome.trouble is not None and not self._is_disposed:
            self._taking_in().left(execution, outcome.trouble)
        self._watching().changed(execution.id)

    # What others may do with an execution

    async def load(self, execution_id: str) -> WorkflowExecution:
        """The record as stored. Raises ExecutionNotFoundError."""
        self._working()
        found = await self._store.load_execution(execution_id)
        if found is None:
            raise _not_found(execution_id)
        return found

    async def send_signal(self, execution_id: str, name: str, payload: object = None) -> None:
        """Send a message to an execution; it is kept until the workflow waits for it.

        payload: stored as JSON. Raises ExecutionNotFoundError, ExecutionConflictError for a
        finished execution, SerializationError for a payload that is no JSON.
        """
        self._working()
        check_identifier("a signal's name", name)
        if name.startswith("$"):
            raise ValueError(f"signal names that begin with $ are the library's own: {name!r}")
        signal = WorkflowSignal(
            workflow_execution_id=execution_id,
            signal_name=name,
            payload=serialization.to_json(payload, f"the payload of signal {name!r}"),
            created_at=self._clock.now(),
        )
        await self._store.send_signal(signal)
        await self._heed(execution_id)

    async def cancel(self, execution_id: str) -> bool:
        """Ask an execution to stop, undo what it did, and end CANCELLED.

        True if it will; False if it is finished, failing, or being cancelled already. The request
        is stored: it outlives this process. An execution that runs elsewhere may still end by
        itself before the request gets there. Raises ExecutionNotFoundError.
        """
        self._working()
        found = await self.load(execution_id)
        if found.status.is_terminal or found.status is ExecutionStatus.COMPENSATING:
            return False
        if await self._store.load_pending_signals(execution_id, CANCEL_SIGNAL):
            return False
        request = WorkflowSignal(
            workflow_execution_id=execution_id,
            signal_name=CANCEL_SIGNAL,
            created_at=self._clock.now(),
        )
        try:
            request = await self._store.send_signal(request)
        except ExecutionConflictError:
            return False
        pending = await self._store.load_pending_signals(execution_id, CANCEL_SIGNAL)
        if pending and pending[0] != request:
            return False  # of requests made at once, the first is the one that cancels
        await self._heed(execution_id)
        execution = self._executions.get(execution_id)
        if execution is not None and not execution.is_interrupted:
            # It was about to end by itself.
            await execution.its_outcome()
            execution = None
        if execution is None:
            found = await self.load(execution_id)
            if found.status.is_terminal:
                return found.status is ExecutionStatus.CANCELLED
            await self._taking_in().resume(found)
        return True

    async def observe(self, execution_id: str) -> AsyncIterator[WorkflowExecution]:
        """Every state of an execution: the current one first, the last one final.

        Executions that run elsewhere are looked at now and then, so a state that is left again
        at once may be missed. Raises ExecutionNotFoundError.
        """
        self._working()
        states: asyncio.Queue[WorkflowExecution] = asyncio.Queue()
        listeners = self._listeners.setdefault(execution_id, set())
        listeners.add(states)
        try:
            state = await self.load(execution_id)
            yield state
            while not state.status.is_terminal:
                before, state = state, await self._next_state(state, states)
                if state.status is not before.status:
                    yield state
        finally:
            listeners.discard(states)
            if not listeners:
                self._listeners.pop(execution_id, None)

    async def _next_state(
        self, state: WorkflowExecution, states: asyncio.Queue[WorkflowExecution]
    ) -> WorkflowExecution:
        execution_id = state.workflow_execution_id
        coming = asyncio.ensure_future(states.get())
        either: list[asyncio.Future[Any]] = [
            coming,
            self._watching().change_of(execution_id, state.status),
        ]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
        finally:
            coming.cancel()
        self._working()
        return await self.load(execution_id)

    async def result_of(self, execution_id: str, result_type: Any = Any) -> Any:
        """Wait for the end of an execution, wherever it runs; see `ExecutionHandle.result`."""
        self._working()
        while True:
            if (execution := self._executions.get(execution_id)) is not None:
                outcome = await execution.its_outcome()
                if not outcome.is_parked:
                    break
            state = await self.load(execution_id)
            if state.status.is_terminal:
                return _result(Outcome(state), result_type)
            if (trouble := self._taking_in().why_left(execution_id)) is not None:
                raise trouble
            if state.blocked_reason is not None:
                raise _blocked(state)
            await self._watching().change_of(execution_id, state.status)
            self._working()
        if outcome.trouble is not None:
            raise outcome.trouble
        return _result(outcome, result_type)

    async def unblock(self, execution_id: str) -> bool:
        """Let workers take on an execution again that was blocked; False if it was not."""
        self._working()
        await self.load(execution_id)
        if not await self._store.unblock_execution(execution_id, self._clock.now()):
            return False
        await self._taking_in().resume(await self.load(execution_id))
        return True

    async def retry(self, execution_id: str) -> None:
        """Run an execution again that FAILED, from the step that failed it; or unblock it.

        Steps that are completed are not run again. A wait that timed out waits as long once more.
        Its time to live is forgotten.

        Raises ExecutionNotFoundError, or ExecutionConflictError for one that is neither FAILED nor
        blocked, or that was compensated.
        """
        self._working()
        if await self.unblock(execution_id):
            return
        found = await self.load(execution_id)
        now = self._clock.now()
        records = reopened(found, await self._store.load_checkpoints(execution_id), now)
        await self._store.reopen_execution(execution_id, *records, now=now)
        await self._taking_in().resume(await self.load(execution_id))

    async def recover(self) -> RecoveryResult:
        """Take on every unfinished execution that can be run here and that nobody works on."""
        self._working()
        return await self._taking_in().recover()

    def _status_changed(self, record: WorkflowExecution, before: ExecutionStatus) -> None:
        self._observers.tell("on_status_change", record, before)
        for states in self._listeners.get(record.workflow_execution_id, ()):
            states.put_nowait(record)

    async def _heed(self, execution_id: str) -> None:
        """A signal has come for an execution, or a request to cancel it."""
        execution = self._executions.get(execution_id)
        if execution is None:
            self._taking_in().signalled(execution_id)
            return
        if await self._store.load_pending_signals(execution_id, CANCEL_SIGNAL):
            execution.interrupt(cancelled(execution_id))
        execution.signals_came()

    def _working(self) -> Environment:
        if isinstance(events._get_running_loop(), BodyLoop):
            raise NonDeterministicCallError(
                "a workflow function cannot use an engine or a handle: a replay would not meet the"
                " same again. Do it in a step: `await ctx.step(name, function, ...)`",
                call="the engine",
            )
        if self._is_disposed:
            raise EngineStoppedError("this engine was disposed of; make another one")
        if self._environment is None:
            raise RuntimeError("this engine is not open: use `async with DurableEngine(...)`")
        return self._environment

    def _taking_in(self) -> Intake:
        assert self._intake is not None
        return self._intake

    def _watching(self) -> News:
        assert self._news is not None
        return self._news


def _new_record(
    workflow: AnyWorkflow,
    args: tuple[Any, ...],
    execution_id: str | None,
    now: datetime,
    *,
    status: ExecutionStatus,
    ttl_expires_at: datetime | None,
    guarantee: WorkflowGuarantee,
    priority: int = 0,
    available_at: datetime | None = None,
    started_at: datetime | None = None,
) -> WorkflowExecution:
    """A new execution; raises for arguments that could not be read again."""
    check_workflow(workflow)
    if execution_id is None:
        execution_id = str(uuid.uuid4())
    check_identifier("execution_id", execution_id)
    record = WorkflowExecution(
        workflow_execution_id=execution_id,
        workflow_id=workflow.record.workflow_id,
        status=status,
        input_data=workflow.encode_input(args),
        ttl_expires_at=ttl_expires_at,
        guarantee=guarantee,
        priority=priority,
        available_at=available_at,
        started_at=started_at,
        created_at=now,
        updated_at=now,
    )
    workflow.decode_input(record.input_data)
    return record


def _after(
    what: str, duration: timedelta, now: datetime, minimum: timedelta = timedelta(microseconds=1)
) -> datetime:
    if not isinstance(duration, timedelta):
        raise TypeError(f"{what} must be a timedelta, as timedelta(hours=1), not {duration!r}")
    if duration < minimum:
        raise ValueError(
            f"{what} must not be {'zero or less' if minimum else 'negative'}: {duration}"
        )
    return later(now, duration)


def _disposed(execution: Execution) -> EngineStoppedError:
    return EngineStoppedError(
        f"the engine was disposed of; execution {execution.id!r} is left to be resumed",
        workflow_execution_id=execution.id,
    )


def _result(outcome: Outcome, result_type: Any) -> Any:
    """What the workflow returned, or the error that says how it ended."""
    record = outcome.record
    execution_id = record.workflow_execution_id
    if record.status is ExecutionStatus.COMPLETED:
        what = f"the result of execution {execution_id!r}"
        return serialization.from_json(record.output_data, result_type, what)
    why = in_words(record.error_type, record.error_message)
    message = f"execution {execution_id!r} ended {record.status}: {why}"
    error: WorkflowCancelledError | WorkflowFailedError
    if record.status is ExecutionStatus.CANCELLED:
        error = WorkflowCancelledError(message, workflow_execution_id=execution_id)
    else:
        kind = WorkflowExpiredError if record.error_type == _EXPIRED_TYPE else WorkflowFailedError
        error = kind(
            message,
            workflow_execution_id=execution_id,
            error_type=record.error_type,
            error_message=record.error_message,
        )
    error.compensation_error = outcome.compensation_error
    if outcome.compensation_error is not None:
        error.add_note(str(outcome.compensation_error))
    cause = outcome.error
    if cause is None or error_type(cause) == error_type(error):
        raise error
    raise error from cause


def _blocked(state: WorkflowExecution) -> ExecutionBlockedError:
    execution_id = state.workflow_execution_id
    return ExecutionBlockedError(
        f"execution {execution_id!r} is blocked: {state.blocked_reason}. Nobody takes it on: find"
        " out why, then call engine.unblock(id)",
        workflow_execution_id=execution_id,
        reason=state.blocked_reason,
    )


def _not_found(execution_id: str) -> ExecutionNotFoundError:
    return ExecutionNotFoundError(
        f"no execution has the id {execution_id!r}: none was started in this store under it, or it"
        " was deleted",
        workflow_execution_id=execution_id,
    )
