"""A worker process that a test simulates: it can be killed at any point, and nothing of it goes on.

What its tasks had not committed is gone with them: the connection of a dead process refuses all
use, and the next process works on a copy of what was committed.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeVar, cast

from durable_workflow_sqlite import (
    CheckpointStore,
    DurableEngine,
    EngineStoppedError,
    ExecutionStatus,
    Record,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowPatch,
    WorkflowSignal,
)
from durable_workflow_sqlite.engine.checking import check_replay
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.store.in_memory import fill
from durable_workflow_sqlite.testing.clock import ManualClock
from durable_workflow_sqlite.testing.process_tasks import ProcessTasks, current, forever

T = TypeVar("T")

Moment = Literal["before", "after", "recorded"]
"""Of a step: its INTENT is committed and the action has not begun; the action has ended and
nothing is written of it; its outcome is committed and the workflow has not got it."""

StepPlace = tuple[str, str, int, int]
"""An attempt: execution, branch, index and number."""

ENDING: Final = frozenset(
    {
        ExecutionStatus.COMPENSATING,
        ExecutionStatus.COMPLETED,
        ExecutionStatus.FAILED,
        ExecutionStatus.CANCELLED,
    }
)


class SimulatedProcess(ProcessTasks):
    """An engine on a store of its own, from its start until it is killed or stops."""

    def __init__(
        self,
        memory: sqlite3.Connection | None,
        now: datetime,
        is_fatal: Callable[[StepCheckpoint, Moment], bool],
        is_saved: Callable[[Record], None],
    ) -> None:
        """memory: what the process before this one had committed; it is closed.

        is_saved: told what is committed.
        """
        super().__init__()
        self.connection = _open(memory)
        self.clock = ManualClock(now)
        self.acting: dict[StepPlace, StepCheckpoint] = {}
        """The attempts whose action runs now."""
        self.signals_sent = 0
        self.killed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.store = SqliteCheckpointStore(self.connection)
        self.engine: SimulatedEngine | None = None
        self.executions: dict[SimulatedExecution, None] = {}
        self.is_saved = is_saved
        self.is_fatal = is_fatal

    async def open(self, **options: Any) -> DurableEngine:
        store = cast(CheckpointStore, _WatchedStore(self))
        self.engine = engine = SimulatedEngine(self, store, clock=self.clock, **options)
        await engine.open()
        return engine

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in this process. Raises EngineStoppedError if it is killed meanwhile."""
        if current.get() is self:
            return await work
        if self.is_dead:
            work.close()
            raise _stopped()
        doing = asyncio.get_running_loop().create_task(work, context=self._own_context())
        either: list[asyncio.Future[Any]] = [doing, self.killed]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            doing.cancel()
            raise
        if self.is_dead:
            raise _stopped()
        return doing.result()

    def kill(self) -> None:
        """Stop at once, as by SIGKILL."""
        self.is_dead = True
        self.connection.is_dead = True
        if not self.killed.done():
            self.killed.set_result(None)

    async def reach(self, checkpoint: StepCheckpoint, moment: Moment) -> None:
        """A step has come to a moment; if it is the one to be killed at, this does not return."""
        if self.is_fatal(checkpoint, moment):
            self.kill()
        if self.is_dead:
            await forever()

    async def close_store(self) -> None:
        """After its end, killed or not: close what the kernel closes for a real process."""
        if self.connection.in_transaction:
            self.connection.rollback()
        await self.store.close()

    def discard(self) -> None:
        """Close the tasks of a process that has ended; nobody sees their effects from here on.

        Their `finally` blocks run now, as they do when Python closes a coroutine.
        """
        self.is_dead = self.connection.is_dead = True
        was_disabled = logging.root.manager.disable
        logging.disable()
        try:
            self._own_context().run(self._close_all)
        finally:
            logging.disable(was_disabled)
        self.connection.close()

    def _close_all(self) -> None:
        self.close_tasks()
        for execution in self.executions:
            execution.drop_body()
        self.executions.clear()

    def _own_context(self) -> contextvars.Context:
        context = contextvars.copy_context()
        context.run(current.set, self)
        return context


class _KillableConnection(sqlite3.Connection):
    is_dead = False

    def execute(self, *statement: Any) -> sqlite3.Cursor:
        self._check_alive()
        return super().execute(*statement)

    def executemany(self, *statement: Any) -> sqlite3.Cursor:
        self._check_alive()
        return super().executemany(*statement)

    def _check_alive(self) -> None:
        if self.is_dead:
            raise sqlite3.OperationalError("the process that this connection was of is dead")


class _WatchedStore:
    """The store as the engine has it: its process may be killed at each step that is saved."""

    def __init__(self, process: SimulatedProcess) -> None:
        self._process = process
        self._store = process.store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def save(self, *records: Record, claim: WorkflowClaim | None = None, **more: Any) -> None:
        process = self._process
        steps = [one for one in records if isinstance(one, StepCheckpoint)]
        for step in steps:
            if step.status is not StepStatus.INTENT:
                process.acting.pop(_place(step), None)
                await process.reach(step, "after")
        await self._store.save(*records, claim=claim, **more)
        for one in records:
            process.is_saved(one)
        for step in steps:
            if step.status is not StepStatus.INTENT:
                await process.reach(step, "recorded")
            elif step.error_type is not None:
                # A compensation, or a probe, that is retried later; or a person is asked.
                process.acting.pop(_place(step), None)
            else:
                if step.kind is StepKind.STEP:
                    process.acting[_place(step)] = step
                await process.reach(step, "before")
        for one in records:
            if isinstance(one, WorkflowExecution) and one.status in ENDING:
                self._acts_no_more(one.workflow_execution_id)

    async def transact(
        self,
        function: Callable[[Any], Sequence[Record]],
        failed: Callable[[BaseException], Sequence[Record]],
        **more: Any,
    ) -> bool:
        process = self._process
        saved: list[Record] = []

        def noted(records: Sequence[Record]) -> Sequence[Record]:
            saved[:] = records
            for one in records:
                if isinstance(one, StepCheckpoint) and process.is_fatal(one, "after"):
                    process.kill()  # in the middle of the transaction
            return records

        try:
            is_done = await self._store.transact(
                lambda connection: noted(function(connection)),
                lambda error: noted(failed(error)),
                **more,
            )
        except BaseException:
            if process.is_dead:
                await forever()
            raise
        for one in saved if is_done else ():
            process.is_saved(one)
            if isinstance(one, StepCheckpoint):
                await process.reach(one, "recorded")
        return is_done

    begin_step = CheckpointStore.begin_step
    finish_step = CheckpointStore.finish_step

    async def send_signal(self, signal: WorkflowSignal, *records: Record) -> WorkflowSignal | None:
        sent = await self._store.send_signal(signal, *records)
        self._process.signals_sent += sent is not None
        return sent

    async def release_claims(
        self, claims: Iterable[WorkflowClaim], *more: Any, trouble: str | None = None
    ) -> None:
        released = list(claims)
        for claim in released:
            self._acts_no_more(claim.workflow_execution_id)
        await self._store.release_claims(released, *more, trouble=trouble)

    def _acts_no_more(self, execution_id: str) -> None:
        for place in [one for one in self._process.acting if one[0] == execution_id]:
            del self._process.acting[place]


class SimulatedExecution(Execution):
    """One execution, whose tasks and whose workflow function end with its process."""

    __slots__ = ("_process",)

    def __init__(self, process: SimulatedProcess, *args: Any) -> None:
        super().__init__(*args)
        self._process = process
        self._variables.run(current.set, process)
        process.executions[self] = None
        self.outcome.add_done_callback(lambda _: process.executions.pop(self, None))

    def stop(self, trouble: BaseException) -> None:
        if not self._process.is_dead:  # else there is nobody to be told
            super().stop(trouble)

    def drop_body(self) -> None:
        """Close the workflow function where it stands."""
        if not self._body.is_ended:
            self._body.drop()

    def _new_task(self, work: Coroutine[Any, Any, None], **options: Any) -> asyncio.Task[None]:
        return self._process.new_task(functools.partial(asyncio.Task, **options), work)


class SimulatedEngine(DurableEngine):
    """Its methods run in tasks of its process, so that they end with the process."""

    def __init__(self, process: SimulatedProcess, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.process = process

    def claims_when_due(self, execution_ids: Iterable[str]) -> bool:
        """Whether it claims one of these by itself, which are due and which no worker has."""
        assert self._open_engine is not None
        dispatcher = self._open_engine.dispatcher
        return any(
            map(dispatcher.claims_when_due, (*execution_ids, *dispatcher.due_in_foreground()))
        )

    def check_replay(
        self,
        definition: AnyWorkflow,
        record: WorkflowExecution,
        checkpoints: Iterable[StepCheckpoint],
        patches: Iterable[WorkflowPatch],
    ) -> None:
        """As `checking.check_replay`, with what this engine was given."""
        given = self._settings
        check_replay(
            definition,
            record,
            checkpoints,
            patches,
            codec=given.error_codec,
            context=given.context,
        )

    def _new_execution(self, *of: Any) -> Execution:
        return SimulatedExecution(self.process, *of)


def _in_its_process(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def do(engine: SimulatedEngine, *args: Any, **named: Any) -> Any:
        return await engine.process.run(method(engine, *args, **named))

    return do


for _name, _method in inspect.getmembers(DurableEngine, inspect.iscoroutinefunction):
    if not _name.startswith("_"):
        setattr(SimulatedEngine, _name, _in_its_process(_method))


def _open(memory: sqlite3.Connection | None) -> _KillableConnection:
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=_KillableConnection)
    if memory is None:
        fill(connection)
    else:
        memory.backup(connection)
    return connection


def _place(step: StepCheckpoint) -> StepPlace:
    return step.workflow_execution_id, step.branch, step.step_index, step.attempt


def _stopped() -> EngineStoppedError:
    return EngineStoppedError("this engine's worker crashed; the next one claims its executions")
