"""One life of a worker inside a test: it can end at any point, and nothing of it goes on.

A process that is killed runs no `except` and no `finally`; it just stops. So do the tasks of a
life: each runs in a coroutine that, once the life is over, is never resumed. What they had not
committed is gone with them: the connection refuses the dead, and the next life works on a copy of
what was committed.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Executor
from contextlib import suppress
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
    WorkflowSignal,
)
from durable_workflow_sqlite.testing.clock import ManualClock

T = TypeVar("T")

Moment = Literal["before", "after", "recorded"]
"""Of a step: its INTENT is committed and the action has not begun; the action has ended and
nothing is written of it; its outcome is committed and the workflow has not heard of it."""

Place = tuple[str, str, int, int]
"""An attempt: execution, branch, index and number."""

LAST_TURNS: Final = 20
"""Turns of the event loop in which the tasks of a life that is thrown away end."""

ENDING: Final = frozenset(
    {
        ExecutionStatus.COMPENSATING,
        ExecutionStatus.COMPLETED,
        ExecutionStatus.FAILED,
        ExecutionStatus.CANCELLED,
    }
)

_current: contextvars.ContextVar[Life | None] = contextvars.ContextVar("life", default=None)


class Life:
    """An engine on a store of its own, from its start to its death."""

    def __init__(
        self,
        memory: sqlite3.Connection | None,
        now: datetime,
        is_fatal: Callable[[StepCheckpoint, Moment], bool],
    ) -> None:
        """memory: what the life before this one had committed; it is closed."""
        self.connection = _open(memory)
        self.clock = ManualClock(now)
        self.is_dead = False
        self.turns = 0
        """How often any task of this life was resumed."""
        self.acting: dict[Place, StepCheckpoint] = {}
        """The attempts whose action runs now."""
        self.threads: set[asyncio.Future[Any]] = set()
        """What its sync actions run in."""
        self.signals_sent = 0
        self.death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.store = SqliteCheckpointStore(self.connection)
        self.engine: _EngineOfALife | None = None
        self._is_fatal = is_fatal
        self._tasks: dict[asyncio.Task[Any], Coroutine[Any, Any, Any]] = {}

    async def open(self, **options: Any) -> DurableEngine:
        store = cast(CheckpointStore, _WatchedStore(self))
        self.engine = engine = _EngineOfALife(self, store, clock=self.clock, **options)
        await engine.open()
        return engine

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Let this life do something. Raises EngineStoppedError if it dies over it."""
        if _current.get() is self:
            return await work
        if self.is_dead:
            work.close()
            raise _stopped()
        doing = asyncio.get_running_loop().create_task(work, context=self._own_context())
        either: list[asyncio.Future[Any]] = [doing, self.death]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            doing.cancel()
            raise
        if self.is_dead:
            raise _stopped()
        return doing.result()

    def die(self) -> None:
        """Stop, here and now."""
        self.is_dead = True
        self.connection.is_dead = True
        if not self.death.done():
            self.death.set_result(None)

    async def reach(self, checkpoint: StepCheckpoint, moment: Moment) -> None:
        """A step has come to a moment; if it is the one to die at, this does not return."""
        if self._is_fatal(checkpoint, moment):
            self.die()
        if self.is_dead:
            await _for_ever()

    async def let_go(self) -> None:
        """After the end, dead or not: give back what a process leaves to the kernel."""
        if self.connection.in_transaction:
            self.connection.rollback()
        await self.store.close()

    def bury(self) -> None:
        """Throw away the tasks of a life that is over; from here on nobody looks at their effects.

        Their `finally` blocks run now, as they do when Python throws a coroutine away.
        """
        self.is_dead = self.connection.is_dead = True
        was_disabled = logging.root.manager.disable
        logging.disable()
        try:
            self._own_context().run(self._throw_tasks_away)
        finally:
            logging.disable(was_disabled)
        self.connection.close()

    def _throw_tasks_away(self) -> None:
        for task, coroutine in self._tasks.items():
            task.cancel()
            _throw_away(coroutine)
        self._tasks.clear()
        if self.engine is not None:
            self.engine.throw_executions_away()

    def _own_context(self) -> contextvars.Context:
        context = contextvars.copy_context()
        context.run(_current.set, self)
        return context

    def new_task(
        self,
        create: Callable[..., asyncio.Task[T]],
        coroutine: Coroutine[Any, Any, T],
        **options: Any,
    ) -> asyncio.Task[T]:
        """A task of this life: it stops where it is when the life is over."""
        if self.is_dead:  # on the way to its grave, where nothing begins any more
            coroutine.close()
            task = create(_for_ever(), **options)
            task.cancel()
        else:
            task = create(_Mortal(self, coroutine), **options)
            self._tasks[task] = coroutine
            task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        if not self.is_dead:  # else its coroutine has stopped in the middle, and waits for bury()
            self._tasks.pop(task, None)


class _Mortal(Coroutine[Any, Any, Any]):
    """A coroutine that is not resumed any more once its life is over."""

    def __init__(self, life: Life, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._life = life
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        if self._life.is_dead:
            self._coroutine = _for_ever()  # the life remembers the one that stopped
            return self._coroutine.send(None)
        self._life.turns += 1
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        if self._life.is_dead:  # the event loop is closing, and wants to see its tasks end
            raise error[0]
        self._life.turns += 1
        return self._coroutine.throw(*error)

    def close(self) -> None:
        if not self._life.is_dead:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._coroutine.__await__())


class _MortalConnection(sqlite3.Connection):
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
    """The store as the engine has it: each step that is saved may be the end of its worker."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._store = life.store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def save(self, *records: Record, claim: WorkflowClaim | None = None) -> None:
        life = self._life
        steps = [one for one in records if isinstance(one, StepCheckpoint)]
        for step in steps:
            if step.status is not StepStatus.INTENT:
                life.acting.pop(_place(step), None)
                await life.reach(step, "after")
        await self._store.save(*records, claim=claim)
        for step in steps:
            if step.status is not StepStatus.INTENT:
                await life.reach(step, "recorded")
            elif step.attempt == 0 and step.error_type is not None:
                life.acting.pop(_place(step), None)  # a compensation that is tried again later
            else:
                if step.kind is StepKind.STEP:
                    life.acting[_place(step)] = step
                await life.reach(step, "before")
        for one in records:
            if isinstance(one, WorkflowExecution) and one.status in ENDING:
                self._acts_no_more(one.workflow_execution_id)

    async def send_signal(self, signal: WorkflowSignal) -> WorkflowSignal:
        sent = await self._store.send_signal(signal)
        self._life.signals_sent += 1
        return sent

    async def release_claims(
        self, claims: Iterable[WorkflowClaim], *more: Any, trouble: str | None = None
    ) -> None:
        released = list(claims)
        for claim in released:
            self._acts_no_more(claim.workflow_execution_id)
        await self._store.release_claims(released, *more, trouble=trouble)

    def _acts_no_more(self, execution_id: str) -> None:
        for place in [one for one in self._life.acting if one[0] == execution_id]:
            del self._life.acting[place]


class _EngineOfALife(DurableEngine):
    """What it is asked to do from outside is done by tasks of its life, so that it ends with it."""

    def __init__(self, life: Life, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.life = life

    def throw_executions_away(self) -> None:
        """Nobody brings them further; their workflow functions run no more."""
        for execution in self._executions.values():
            execution.throw_away()

    def _new_task(
        self, work: Coroutine[Any, Any, None], *, context: contextvars.Context, **options: Any
    ) -> asyncio.Task[None]:
        # The context is a copy for this task alone, of what the workflow was defined with.
        context.run(_current.set, self.life)
        return self.life.new_task(asyncio.Task, work, context=context, **options)


def _in_its_life(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def do(engine: _EngineOfALife, *args: Any, **named: Any) -> Any:
        return await engine.life.do(method(engine, *args, **named))

    return do


for _name, _method in vars(DurableEngine).items():
    if inspect.iscoroutinefunction(_method) and not _name.startswith("_"):
        setattr(_EngineOfALife, _name, _in_its_life(_method))


class LoopWatch:
    """Tells the lives of an event loop of the tasks and threads that they start."""

    def __init__(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._create_task: Any = loop.get_task_factory()
        self._run_in_executor = loop.run_in_executor
        self._factory = cast(Any, self._new_task)
        loop.set_task_factory(self._factory)
        setattr(loop, "run_in_executor", self._watch_thread)  # noqa: B010 - mypy would object

    def end(self, turns: int = LAST_TURNS) -> None:
        """Stop watching, once what was buried has come to rest."""
        if turns:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon(self.end, turns - 1)
        elif self._loop.get_task_factory() is self._factory:
            self._loop.set_task_factory(self._create_task)
            with suppress(AttributeError):
                delattr(self._loop, "run_in_executor")

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Future[Any]:
        context = options.get("context")
        life = _current.get() if context is None else context.get(_current)
        create = functools.partial(self._create_task or _create_task, loop)
        if life is None:
            task: asyncio.Task[Any] = create(coroutine, **options)
            return task
        return life.new_task(create, coroutine, **options)

    def _watch_thread(
        self, executor: Executor | None, function: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        running = self._run_in_executor(cast(Any, executor), function, *args)
        life = _current.get()
        if life is not None:
            life.threads.add(running)
            running.add_done_callback(life.threads.discard)
        return running


def _create_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


def _open(memory: sqlite3.Connection | None) -> _MortalConnection:
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=_MortalConnection)
    if memory is not None:
        memory.backup(connection)
    return connection


def _place(step: StepCheckpoint) -> Place:
    return step.workflow_execution_id, step.branch, step.step_index, step.attempt


def _stopped() -> EngineStoppedError:
    return EngineStoppedError("this engine's worker crashed; the next one takes its executions on")


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def _throw_away(coroutine: Coroutine[Any, Any, Any]) -> None:
    for _ in range(100):
        try:
            coroutine.close()
        except RuntimeError:
            continue  # it waits for something else on its way out
        except BaseException:  # noqa: BLE001 - whatever it makes of its end
            return
        return
