"""`Sandbox`: `AsyncSandbox` for tests that are plain functions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, TypeVarTuple, Unpack

from durable_workflow_sqlite import (
    Cancellation,
    DurableEngine,
    ExecutionStatus,
    NewSignal,
    Question,
    SignalResult,
    WorkflowGuarantee,
)
from durable_workflow_sqlite.engine.startable import Startable
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, check_workflow
from durable_workflow_sqlite.reading.histories import ExecutionHistory
from durable_workflow_sqlite.testing.history import History
from durable_workflow_sqlite.testing.plans import Plannable
from durable_workflow_sqlite.testing.sandbox import AsyncSandbox
from durable_workflow_sqlite.testing.simulation import BEGINNING

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class Sandbox(Plannable):
    """As `AsyncSandbox`, without `await`, on its own event loop.

    Between two calls the event loop does not run, so each run of a test does the same.
    """

    def __init__(
        self,
        workflows: Iterable[AnyWorkflow] = (),
        *,
        start_at: datetime = BEGINNING,
        patience: float = 10.0,
        check_replay: bool = True,
        **options: Any,
    ) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._sandbox = AsyncSandbox(
            workflows, start_at=start_at, patience=patience, check_replay=check_replay, **options
        )
        self._plans = self._sandbox._plans

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if kind is None:
            self.check()

    def close(self) -> None:
        """Stop, and delete everything. Closing twice has no effect."""
        try:
            self._call(self._sandbox.close())
        finally:
            self._runner.close()

    def check(self) -> None:
        """Raise AssertionError if a crash or a signal that was planned has not happened."""
        __tracebackhide__ = True
        self._sandbox.check()

    def replay(
        self, history: str | bytes | os.PathLike[str] | ExecutionHistory, *workflows: AnyWorkflow
    ) -> None:
        """Replay an execution of another store: raise AssertionError if it would not go on.

        history: a file that `durable-workflow export` wrote, or what is in it; more than one line
            is more than one execution.
        workflows: beside those of the sandbox. No action runs, and nothing is written.
        """
        __tracebackhide__ = True
        self._sandbox.replay(history, *workflows)

    @property
    def now(self) -> datetime:
        """The time by the clock of the sandbox."""
        return self._sandbox.now

    def run(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        ttl: timedelta | None = None,
        guarantee: WorkflowGuarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        tags: Mapping[str, str] | None = None,
        signals: Sequence[NewSignal] = (),
    ) -> R:
        """`start`, then `result`: let time pass until the execution has ended."""
        __tracebackhide__ = True
        return self._call(
            self._sandbox.run(
                workflow,
                *args,
                execution_id=execution_id,
                ttl=ttl,
                guarantee=guarantee,
                tags=tags,
                signals=signals,
            )
        )

    def start(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        ttl: timedelta | None = None,
        guarantee: WorkflowGuarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        tags: Mapping[str, str] | None = None,
        signals: Sequence[NewSignal] = (),
    ) -> SandboxExecution[R]:
        """As `engine.start`; the default ids are "NAME-1", then "NAME-2"."""
        execution = self._call(
            self._sandbox.start(
                workflow,
                *args,
                execution_id=execution_id,
                ttl=ttl,
                guarantee=guarantee,
                tags=tags,
                signals=signals,
            )
        )
        return SandboxExecution(self, execution.execution_id, check_workflow(workflow).result_type)

    def enqueue(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        ttl: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        signals: Sequence[NewSignal] = (),
    ) -> SandboxExecution[R]:
        """As `engine.enqueue`; the default ids are as in `start`."""
        execution = self._call(
            self._sandbox.enqueue(
                workflow,
                *args,
                execution_id=execution_id,
                delay=delay,
                priority=priority,
                ttl=ttl,
                tags=tags,
                signals=signals,
            )
        )
        return SandboxExecution(self, execution.execution_id, check_workflow(workflow).result_type)

    def ask(self, call: Callable[[DurableEngine], Awaitable[T]]) -> T:
        """Ask the engine for anything else: `durable.ask(lambda engine: engine.retry("one"))`."""
        return self._call(self._sandbox.ask(call))

    def execution(self, execution_id: str) -> SandboxExecution[Any]:
        """An execution by its id; its result comes as plain JSON data."""
        return SandboxExecution(self, execution_id, Any)

    def signal(
        self, execution_id: str, name: str, payload: object = None, *, key: str | None = None
    ) -> SignalResult:
        """As `engine.send_signal`."""
        return self._call(self._sandbox.signal(execution_id, name, payload, key=key))

    def questions(
        self, *, to: str | None = None, execution_id: str | None = None
    ) -> list[Question]:
        """As `engine.questions`, once the engine has done all that it can do now."""
        return self._call(self._sandbox.questions(to=to, execution_id=execution_id))

    def answer(self, execution_id: str, name: str, value: object, *, by: str | None = None) -> None:
        """As `engine.answer`; it is stored once, also if the process dies over it."""
        self._call(self._sandbox.answer(execution_id, name, value, by=by))

    def cancel(self, execution_id: str) -> Cancellation:
        """As `engine.cancel`."""
        return self._call(self._sandbox.cancel(execution_id))

    def result_of(self, execution_id: str, result_type: Any = Any) -> Any:
        """Let time pass until an execution has ended; return its result, or raise its error.

        Raises AssertionError if it waits for something that nobody will do.
        """
        __tracebackhide__ = True
        return self._call(self._sandbox.result_of(execution_id, result_type))

    def write(self, function: Callable[[Any, Unpack[Ts]], T], *args: *Ts) -> T:
        """As `store.write`: to make the tables that functions of `ctx.transaction` use."""
        return self._call(self._sandbox.write(function, *args))

    def read(self, function: Callable[[Any, Unpack[Ts]], T], *args: *Ts) -> T:
        """As `store.read`: to see what is in these tables."""
        return self._call(self._sandbox.read(function, *args))

    def advance(self, duration: timedelta) -> None:
        """Let time pass; stop at every deadline until the engine has done its work."""
        self._call(self._sandbox.advance(duration))

    def settle(self) -> None:
        """Wait until the engine has done everything that it can do at the current time."""
        self._call(self._sandbox.settle())

    def crash(self, *, down_for: timedelta = timedelta(0)) -> None:
        """Crash the process after it has done everything at the current time, and recover."""
        self._call(self._sandbox.crash(down_for=down_for))

    def restart(self, *workflows: AnyWorkflow) -> None:
        """Stop and start again, as in a deploy; with other workflows, if any are given."""
        self._call(self._sandbox.restart(*workflows))

    def status(self, execution_id: str | None = None) -> ExecutionStatus:
        """The status of an execution; without an id, of the only one."""
        return self._call(self._sandbox.status(execution_id))

    def history(self, execution_id: str | None = None) -> History:
        """What is recorded of an execution; without an id, of the only one."""
        return self._call(self._sandbox.history(execution_id))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        __tracebackhide__ = True  # by pytest: a failure is shown where the test asked
        if _is_in_a_loop():
            work.close()
            raise RuntimeError(
                "a Sandbox is for tests that are plain functions; in an async test, take"
                " AsyncSandbox (the fixture async_durable)"
            )
        return self._runner.run(work)


class SandboxExecution(Generic[R_co]):
    """What `Sandbox.start` returns: as `AsyncSandboxExecution`, without `await`."""

    def __init__(self, sandbox: Sandbox, execution_id: str, result_type: Any) -> None:
        self._sandbox = sandbox
        self._execution_id = execution_id
        self._result_type = result_type

    def __repr__(self) -> str:
        return f"<execution {self._execution_id!r}>"

    @property
    def execution_id(self) -> str:
        """The id of the execution."""
        return self._execution_id

    def result(self) -> R_co:
        """Let time pass until it has ended; see `Sandbox.result_of`."""
        __tracebackhide__ = True
        result: R_co = self._sandbox.result_of(self._execution_id, self._result_type)
        return result

    def status(self) -> ExecutionStatus:
        """The status of the execution."""
        return self._sandbox.status(self.execution_id)

    def history(self) -> History:
        """What is recorded of the execution."""
        return self._sandbox.history(self.execution_id)

    def signal(self, name: str, payload: object = None, *, key: str | None = None) -> SignalResult:
        """As `engine.send_signal`."""
        return self._sandbox.signal(self.execution_id, name, payload, key=key)

    def answer(self, name: str, value: object, *, by: str | None = None) -> None:
        """As `engine.answer`."""
        self._sandbox.answer(self.execution_id, name, value, by=by)

    def cancel(self) -> Cancellation:
        """As `engine.cancel`."""
        return self._sandbox.cancel(self.execution_id)


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
