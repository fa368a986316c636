"""`AsyncSandbox`: an engine in memory; the test controls its time and its crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, TypeVarTuple, Unpack

from durable_workflow_sqlite import (
    Cancellation,
    DurableEngine,
    ExecutionStatus,
    NewSignal,
    SignalResult,
    WorkflowGuarantee,
)
from durable_workflow_sqlite.engine.startable import Startable
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, check_workflow
from durable_workflow_sqlite.testing.history import History
from durable_workflow_sqlite.testing.simulation import BEGINNING, Simulation, never

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

STOPS_WITHIN_S: Final = 0.1
"""Within this time the engine says that it left an execution as it is, and why."""


class AsyncSandbox(Simulation):
    """Runs workflows with a real engine, in memory; the clock stands still until the test moves it.

    workflows: registered from the start; `run` and `start` add theirs.
    start_at: the first time of the clock.
    patience: how many seconds of real time an action may take before the test fails.
    check_replay: whether to replay each workflow function from its records when it waits and
        when it ends. The test fails if the replay differs from the records.
    options: of `DurableEngine`, other than store, workflows and clock.

    `result`, `status`, `history` and `advance` return when the engine has done everything that it
    can do at the current time, sync actions in threads included. After a crash the sandbox
    recovers by itself: the next call uses the next process.
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
        super().__init__(workflows, start_at, patience, check_replay, options)
        self._started: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        await self._running()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
        if kind is None:
            self.check()

    # What there is

    @property
    def engine(self) -> DurableEngine:
        """The current engine, for code that takes an engine. After a crash it is a new one."""
        engine = self._current().engine
        assert engine is not None
        return engine

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
        """`start`, then `result`: let time pass until the execution has ended."""
        __tracebackhide__ = True
        execution = await self.start(
            workflow,
            *args,
            execution_id=execution_id,
            ttl=ttl,
            guarantee=guarantee,
            tags=tags,
            signals=signals,
        )
        return await execution.result()

    async def start(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        ttl: timedelta | None = None,
        guarantee: WorkflowGuarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        tags: Mapping[str, str] | None = None,
        signals: Sequence[NewSignal] = (),
    ) -> AsyncSandboxExecution[R]:
        """The same as `engine.start`; the default ids are "NAME-1", then "NAME-2"."""
        definition = check_workflow(workflow)
        self._workflows[definition.name, definition.version] = definition
        execution_id = execution_id or self._new_id(definition)
        await self.ask(
            lambda engine: engine.start(
                workflow,
                *args,
                execution_id=execution_id,
                ttl=ttl,
                guarantee=guarantee,
                tags=tags,
                signals=signals,
            )
        )
        return AsyncSandboxExecution(self, execution_id, definition.result_type)

    async def enqueue(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        ttl: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        signals: Sequence[NewSignal] = (),
    ) -> AsyncSandboxExecution[R]:
        """The same as `engine.enqueue`; the default ids are as in `start`."""
        definition = check_workflow(workflow)
        if self._workflows.get((definition.name, definition.version)) is not definition:
            await self.restart(*self._workflows.values(), definition)
        execution_id = execution_id or self._new_id(definition)
        await self.ask(
            lambda engine: engine.enqueue(
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
        return AsyncSandboxExecution(self, execution_id, definition.result_type)

    def execution(self, execution_id: str) -> AsyncSandboxExecution[Any]:
        """An execution by its id; its result comes as plain JSON data."""
        return AsyncSandboxExecution(self, execution_id, Any)

    async def result_of(self, execution_id: str, result_type: Any = Any) -> Any:
        """Let time pass until an execution has ended; return its result, or raise its error.

        Raises AssertionError if it waits for something that will never come.
        """
        __tracebackhide__ = True  # by pytest: a failure is shown where the test asked

        def ask_for_it() -> asyncio.Future[Any]:
            asked = asyncio.ensure_future(
                self.ask(lambda engine: engine.result_of(execution_id, result_type))
            )
            asked.add_done_callback(_heed_not)
            return asked

        # Asked for from the start: who comes when all is over is not told the error's cause.
        result = ask_for_it()

        async def is_over() -> bool:
            nonlocal result
            if result.done() or (await self._load(execution_id)).status.is_terminal:
                return True
            # Who asks again is told that the execution was left alone, and why.
            result.cancel()
            result = ask_for_it()
            return False

        try:
            if not await self._pass_time(None, is_over):
                await asyncio.wait([result], timeout=STOPS_WITHIN_S)
                if not result.done():
                    raise AssertionError(await self._why_stuck(execution_id))
            return await result
        finally:
            result.cancel()

    # Tables of the user's own

    async def write(self, function: Callable[[Any, Unpack[Ts]], T], *args: *Ts) -> T:
        """As `store.write`: to make the tables that functions of `ctx.transaction` use."""
        process = await self._running()
        return await process.run(process.store.write(function, *args))

    async def read(self, function: Callable[[Any, Unpack[Ts]], T], *args: *Ts) -> T:
        """As `store.read`: to see what is in these tables."""
        process = await self._running()
        return await process.run(process.store.read(function, *args))

    # Time

    async def advance(self, duration: timedelta) -> None:
        """Let time pass; stop at every deadline until the engine has done its work."""
        end = self.now + duration
        await self._pass_time(end, never)
        self._current().clock.set(max(end, self.now))
        await self._settle()

    async def settle(self) -> None:
        """Wait until the engine has done everything that it can do at the current time."""
        await self._pass_time(self.now, never)

    # Ends and beginnings of the process

    async def crash(self, *, down_for: timedelta = timedelta(0)) -> None:
        """Crash the process after it has done everything at the current time, and recover."""
        await self.settle()
        self._plans.crashes.append("on demand")
        self._plans.down_for = down_for
        self._current().kill()
        await self._settle()

    async def restart(self, *workflows: AnyWorkflow) -> None:
        """Stop and start again, as in a deploy; with other workflows, if any are given."""
        await self.settle()
        if workflows:
            self._workflows = {(one.name, one.version): one for one in workflows}
        await self._stop(self._current())
        await self._settle()

    # What happened

    async def status(self, execution_id: str | None = None) -> ExecutionStatus:
        """The status of an execution; without an id, of the only one."""
        await self.settle()
        return (await self._load(await self._the_one(execution_id))).status

    async def history(self, execution_id: str | None = None) -> History:
        """The history of an execution; without an id, of the only one."""
        await self.settle()
        return await self._history(await self._load(await self._the_one(execution_id)))

    def _new_id(self, workflow: AnyWorkflow) -> str:
        number = self._started[workflow.name] = self._started.get(workflow.name, 0) + 1
        return f"{workflow.name}-{number}"


class AsyncSandboxExecution(Generic[R_co]):
    """Like `ExecutionHandle`, but valid after crashes; `AsyncSandbox.start` returns it."""

    def __init__(self, sandbox: AsyncSandbox, execution_id: str, result_type: Any) -> None:
        self._sandbox = sandbox
        self._execution_id = execution_id
        self._result_type = result_type

    def __repr__(self) -> str:
        return f"<execution {self._execution_id!r}>"

    @property
    def execution_id(self) -> str:
        """The id of the execution."""
        return self._execution_id

    async def result(self) -> R_co:
        """Let time pass until it has ended; see `AsyncSandbox.result_of`."""
        __tracebackhide__ = True
        result: R_co = await self._sandbox.result_of(self._execution_id, self._result_type)
        return result

    async def status(self) -> ExecutionStatus:
        """The status of the execution."""
        return await self._sandbox.status(self._execution_id)

    async def history(self) -> History:
        """What is recorded of the execution."""
        return await self._sandbox.history(self._execution_id)

    async def signal(
        self, name: str, payload: object = None, *, key: str | None = None
    ) -> SignalResult:
        """As `engine.send_signal`."""
        return await self._sandbox.signal(self._execution_id, name, payload, key=key)

    async def answer(self, name: str, value: object, *, by: str | None = None) -> None:
        """As `engine.answer`."""
        await self._sandbox.answer(self._execution_id, name, value, by=by)

    async def cancel(self) -> Cancellation:
        """As `engine.cancel`."""
        return await self._sandbox.cancel(self._execution_id)


def _heed_not(result: asyncio.Future[Any]) -> None:
    if not result.cancelled():
        result.exception()
