"""`DurableEngine`: runs workflows with the records of a store."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Iterable, Mapping, Sequence
from contextvars import Context
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple

from durable_workflow_sqlite.engine import starting
from durable_workflow_sqlite.engine.access import refuse_in_a_workflow_function
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.clock import Clock
from durable_workflow_sqlite.engine.error_codec import ErrorCodec, ErrorFunctions
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.failures import (
    ErrorFormatter,
    checked,
    default_error_formatter,
)
from durable_workflow_sqlite.engine.handle import ExecutionHandle
from durable_workflow_sqlite.engine.new_signals import NewSignal
from durable_workflow_sqlite.engine.observer import DurableEngineObserver, Observers
from durable_workflow_sqlite.engine.open_engine import (
    NewExecution,
    OpenEngine,
    Settings,
    disposed_of,
)
from durable_workflow_sqlite.engine.recovery import RecoveryResult
from durable_workflow_sqlite.engine.startable import Startable
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, WorkflowRegistry
from durable_workflow_sqlite.errors import StoreGoneError
from durable_workflow_sqlite.loops import running_loop
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import (
    WorkflowGuarantee,
    check_identifier,
    check_integer,
    check_member,
    check_tags,
)

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class DurableEngine(Client):
    """Runs workflows with a store. `async with` opens it, and resumes interrupted executions.

    store: any `CheckpointStore`. The engine does not close it.
    workflows: the workflows that this engine can run and recover; `run` and `start` add theirs.
    observers: hooks for metrics and tracing.
    error_formatter: returns the text of an error that is stored; for example, to redact it.
    errors: for errors of steps that are not plain data. It maps a class to a pair of functions:
        `to_plain(error)` returns JSON data, `from_plain(data)` returns the error.
    queues: the named queues that this engine serves: it claims nothing else. By default it serves
        all of them, and also executions in no queue. What `run` and `start` begin here runs here.
    max_concurrent: how many executions are claimed at once, from the queue or from workers that
        died. Two kinds do not count: those that only wait (for a time, a signal, a thread or the
        next attempt of a step), and those that `run` and `start` begin here. Also how many sync
        actions run at once, and how many sync compensations beside them.
    max_recoveries: an execution is blocked if its workers died more often than this in a row, with
        no progress in between. `unblock` lets workers claim it again.
    cancel_grace: how long running async actions may continue when their execution fails, is
        cancelled or expires, or when the code has a mistake; then they are cancelled. The engine
        always waits for sync actions.
    context: the context variables that workflow functions see; by default each sees those of the
        place where it was defined. It never sees those of the code that starts or signals it.
    park_after: how long an execution that only waits stays in memory. After that, it is only in
        the store, until its time or signal comes. None: it stays in memory forever.
    max_resident: how many executions may be in memory. Above that, the executions that have only
        waited for the longest time leave memory at once.
    clock: where the time comes from.
    """

    _new_execution: NewExecution = Execution

    def __init__(
        self,
        store: CheckpointStore,
        workflows: Iterable[AnyWorkflow] = (),
        *,
        observers: Iterable[DurableEngineObserver] = (),
        error_formatter: ErrorFormatter = default_error_formatter,
        errors: ErrorFunctions | None = None,
        queues: Iterable[str] | None = None,
        max_concurrent: int = 100,
        max_recoveries: int = 10,
        cancel_grace: timedelta = timedelta(seconds=30),
        context: Context | None = None,
        park_after: timedelta | None = timedelta(seconds=60),
        max_resident: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(store, clock=clock)
        check_integer("max_concurrent", max_concurrent, minimum=1)
        check_integer("max_recoveries", max_recoveries, minimum=0)
        served = None if queues is None else _names(queues)
        registry = WorkflowRegistry(workflows)
        told_of_events = Observers(observers)
        format_error = checked(error_formatter)
        error_codec = ErrorCodec(
            {} if errors is None else errors,
            keeps_whole=error_formatter is default_error_formatter,
        )
        if not isinstance(cancel_grace, timedelta) or cancel_grace < timedelta(0):
            raise TypeError(f"cancel_grace must be a timedelta of 0 or more: {cancel_grace!r}")
        if context is not None and not isinstance(context, Context):
            raise TypeError(f"context must be a contextvars.Context, not {context!r}")
        if park_after is not None and (
            not isinstance(park_after, timedelta) or park_after < timedelta(0)
        ):
            raise TypeError(f"park_after must be a timedelta of 0 or more, or None: {park_after!r}")
        check_integer("max_resident", max_resident, minimum=0)
        self._settings = Settings(
            store=store,
            registry=registry,
            observers=told_of_events,
            format_error=format_error,
            error_codec=error_codec,
            max_concurrent=max_concurrent,
            max_recoveries=max_recoveries,
            cancel_grace=cancel_grace,
            context=context,
            park_after=park_after,
            max_resident=max_resident,
            clock=self._clock,
            queues=served,
        )
        self._open_engine: OpenEngine | None = None
        self._is_disposed = False

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
        """Open the engine, and resume interrupted executions; `async with` calls it.

        You may use the engine while it opens. Executions begin to run when it is open.
        """
        refuse_in_a_workflow_function()
        running_loop(of="an engine")
        if self._is_disposed:
            raise disposed_of()
        if self._open_engine is not None:
            raise RuntimeError("this engine is already open; do not open it again")
        self._open_engine = OpenEngine(self._settings, self._new_execution)
        try:
            return await self._open_engine.begin()
        except BaseException:
            await self.dispose()
            raise

    async def dispose(self, grace: timedelta = timedelta(0)) -> None:
        """Stop the engine; unfinished executions do not fail, and can be resumed.

        grace: how long running actions may continue. After that, async ones are cancelled. Sync
            actions cannot be cancelled: the engine waits for them, and records their results.
        """
        refuse_in_a_workflow_function()
        if not isinstance(grace, timedelta):
            raise TypeError(f"grace must be a timedelta, not {grace!r}")
        open_engine = self._open_engine
        if open_engine is not None and not open_engine.is_over:
            open_engine.binding.check()
        self._is_disposed = True
        if open_engine is not None and not open_engine.is_over:
            await open_engine.close(grace)

    # Running

    async def run(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        ttl: timedelta | None = None,
        guarantee: WorkflowGuarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        tags: Mapping[str, str] | None = None,
        signals: Sequence[NewSignal] = (),
    ) -> R:
        """Start an execution and wait for its result: `start`, then `ExecutionHandle.result`."""
        handle = await self.start(
            workflow,
            *args,
            execution_id=execution_id,
            ttl=ttl,
            guarantee=guarantee,
            tags=tags,
            signals=signals,
        )
        return await handle.result()

    async def start(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        ttl: timedelta | None = None,
        guarantee: WorkflowGuarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        tags: Mapping[str, str] | None = None,
        signals: Sequence[NewSignal] = (),
    ) -> ExecutionHandle[R]:
        """Start an execution. When this returns, the execution is stored and will be finished.

        execution_id: an id that you choose; by default a new UUID. If an execution has this id
            already, this attaches to it. So you can repeat a start until it has worked.
        ttl: how long the execution may take; then it is compensated and FAILED.
        guarantee: who may take it over if this process dies; see `WorkflowGuarantee`.
        tags: names and values to find it by, as `{"customer": "7"}`; they do not change later.
            An execution that has this id already keeps its old tags.
        signals: stored in the same transaction. An execution that has this id already gets none of
            them: `signal_or_start` sends a signal to it.

        Raises ExecutionConflictError if the id belongs to another workflow or input. Raises
        SerializationError for input, or a type of result, that would not come back as it is.
        Raises TypeError for arguments that the workflow does not take. Nothing is written then.
        """
        check_member("guarantee", guarantee, WorkflowGuarantee)
        tags = check_tags(tags)
        open_engine = self._working()
        now = open_engine.clock.now()
        definition = self._settings.registry.add(workflow)
        ttl_expires_at = None if ttl is None else starting.after("ttl", ttl, now)
        record = starting.running_record(
            definition, args, execution_id, now, ttl_expires_at, guarantee
        )
        handle: ExecutionHandle[R] = ExecutionHandle(
            self, record.workflow_execution_id, definition.result_type
        )
        await starting.start(open_engine, definition, record, tags, signals)
        return handle

    async def recover(self) -> RecoveryResult:
        """Claim every unfinished execution that this engine can run and that no worker has."""
        return await self._working().dispatcher.recover()

    @property
    def _has_functions_in_threads(self) -> bool:
        return self._open_engine is not None and self._open_engine.has_functions_in_threads

    def _what_runs(self) -> str:
        """What a program leaves behind that ends now, for people; from any thread."""
        return "nothing" if self._open_engine is None else self._open_engine.what_runs()

    async def _until_store_is_gone(self) -> StoreGoneError:
        """Wait until the file that this engine works on was deleted or replaced."""
        changes = self._working().changes
        changes.gone = changes.gone or asyncio.get_running_loop().create_future()
        return await asyncio.shield(changes.gone)

    @property
    def _executions(self) -> dict[str, Execution]:
        """The executions in memory, by their ids; the test kit reads them."""
        return {} if self._open_engine is None else self._open_engine.executions

    def _known(self) -> WorkflowRegistry:
        return self._settings.registry

    def _working(self) -> OpenEngine:
        """The open engine; raises if it is not open, or not to be used here."""
        open_engine = self._open_engine
        if (
            open_engine is not None
            and not self._is_disposed
            and events._get_running_loop() is open_engine.binding.loop
        ):
            return open_engine
        refuse_in_a_workflow_function()
        if self._is_disposed:
            raise disposed_of()
        if open_engine is None:
            raise RuntimeError("this engine is not open: use `async with DurableEngine(...)`")
        open_engine.binding.check()
        return open_engine


def _names(queues: Iterable[str]) -> frozenset[str]:
    if isinstance(queues, str):
        raise TypeError(f"queues must be a list of names, as ['gpu'], not {queues!r}")
    names = frozenset(queues)
    for name in names:
        check_identifier("the name of a queue", name)
    if not names:
        raise ValueError("queues must name a queue; leave it out to serve all of them")
    return names
