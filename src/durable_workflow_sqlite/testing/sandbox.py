"""`AsyncSandbox`: an engine in memory, whose time the test moves and whose crashes it plans."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, TypeVarTuple

from durable_workflow_sqlite import (
    CheckpointStore,
    DurableEngine,
    EngineStoppedError,
    ExecutionConflictError,
    ExecutionStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowDefinition,
    WorkflowExecution,
    WorkflowGuarantee,
)
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.testing.clock import ManualClock
from durable_workflow_sqlite.testing.history import History
from durable_workflow_sqlite.testing.life import LAST_TURNS, Life, LoopWatch, Moment, Place
from durable_workflow_sqlite.testing.plans import CrashPlan, Plans

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

QUIET_TURNS: Final = 60
"""Turns of the event loop in which nothing is resumed, after which nothing more comes by itself."""

LEFT_ALONE_S: Final = 0.1
"""Within this time the engine says that it has left an execution alone, and why."""

TAKES_ON_WITHIN_S: Final = 0.5
"""An engine waits for a few milliseconds of real time now and then, before it takes more on."""

MOST_STOPS: Final = 10_000
BEGINNING: Final = datetime(2030, 1, 1, tzinfo=UTC)


class Plannable:
    """What a test can plan, before anything runs or between two calls."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._plans = Plans(now)

    def crash_at(
        self,
        step: str,
        moment: Moment = "after",
        *,
        execution_id: str | None = None,
        times: int = 1,
        down_for: timedelta = timedelta(0),
    ) -> None:
        """Let the process die when a step (a sleep, a wait) comes to a moment, and recover.

        "before": the step's INTENT is committed, and its action has not begun.
        "after": the action has run, and nothing is written of how it ended. The step is in doubt.
        "recorded": its outcome is committed, and the workflow has not heard of it yet.

        step: its name; "charge:compensate" for the compensation of "charge".
        times: how often in a row it dies there.
        down_for: how long nobody works until the next process starts.

        A crash that never happens fails the test at its end.
        """
        self._plans.crash_at(CrashPlan(step, moment, execution_id, times, down_for))

    def signal_at(
        self,
        when: datetime | timedelta,
        name: str,
        payload: object = None,
        *,
        execution_id: str | None = None,
    ) -> None:
        """Send a signal at a time, or so long from now; to the one execution, if none is named."""
        self._plans.signal_at(when, name, payload, execution_id)

    def signal_when_awaited(
        self,
        name: str,
        payload: object = None,
        *,
        after: timedelta = timedelta(0),
        execution_id: str | None = None,
    ) -> None:
        """Answer the next wait for a signal of this name, so long after it was reached.

        Called twice, it answers the next two waits. A wait that never comes fails the test at
        its end.
        """
        self._plans.signal_when_awaited(name, payload, after, execution_id)

    def cancel_at(self, when: datetime | timedelta, *, execution_id: str | None = None) -> None:
        """Ask an execution to cancel at a time, or so long from now."""
        self._plans.cancel_at(when, execution_id)

    @property
    def crashes(self) -> list[str]:
        """Where the process has died so far: "after charge"."""
        return self._plans.crashes


class AsyncSandbox(Plannable):
    """Runs workflows for real, in memory, in a time that stands still until the test moves it.

    workflows: known from the start; `run` and `start` add theirs.
    start_at: what time it is at first.
    patience: seconds of real time that an action may take before a test is told that it hangs.
    options: of `DurableEngine`, other than store, workflows and clock.

    What a test asks (`result`, `status`, `history`, `advance`) is answered once the engine has
    done all that it can at this time, sync actions in threads included. A crash recovers by
    itself: the next call goes on with the next process.
    """

    def __init__(
        self,
        workflows: Iterable[AnyWorkflow] = (),
        *,
        start_at: datetime = BEGINNING,
        patience: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(lambda: self.now)
        self._now = ManualClock(start_at).now()
        self._patience = patience
        self._options = options
        self._workflows = {(one.name, one.version): one for one in workflows}
        self._started: dict[str, int] = {}
        self._stays: set[datetime] = set()
        """Since when executions are to be taken on that are left alone."""
        self._life: Life | None = None
        self._past: list[Life] = []
        self._watch: LoopWatch | None = None
        self._reviving = asyncio.Lock()
        self._moving = asyncio.Lock()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        await self._alive()
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

    async def close(self) -> None:
        """Stop, as a deploy would, and throw away all lives. Closing twice is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._life is not None and not self._life.is_dead:
                await self._stop(self._life)
        finally:
            self.abandon()
            for _ in range(LAST_TURNS + 1):
                await asyncio.sleep(0)

    def abandon(self) -> None:
        """As `close`, without the event loop, which may be gone: nothing is waited for."""
        self._is_closed = True
        for life in (*self._past, *([] if self._life is None else [self._life])):
            life.bury()
        self._past.clear()
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def check(self) -> None:
        """Raise AssertionError if a crash or a signal that was planned has not happened."""
        __tracebackhide__ = True  # by pytest
        if self._plans.open:
            raise AssertionError(
                "planned, and never happened:"
                + "".join(f"\n    {one}" for one in self._plans.open)
                + "\nIs the name right, and does the workflow get there?"
            )

    # What there is

    @property
    def now(self) -> datetime:
        """The time by the clock of the sandbox."""
        return self._now if self._life is None else self._life.clock.now()

    @property
    def clock(self) -> ManualClock:
        """Of the engine that works now. Moving it waits for nothing; `advance` does."""
        return self._living().clock

    @property
    def engine(self) -> DurableEngine:
        """The one that works now, for code that takes an engine. After a crash it is another."""
        engine = self._living().engine
        assert engine is not None
        return engine

    @property
    def store(self) -> CheckpointStore:
        """What is recorded, for a closer look."""
        return self._living().store

    # Running

    async def run(
        self,
        workflow: WorkflowDefinition[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        ttl: timedelta | None = None,
        guarantee: WorkflowGuarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
    ) -> R:
        """`start`, then `result`: to its end, however long that takes by the clock."""
        __tracebackhide__ = True
        execution = await self.start(
            workflow, *args, execution_id=execution_id, ttl=ttl, guarantee=guarantee
        )
        return await execution.result()

    async def start(
        self,
        workflow: WorkflowDefinition[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        ttl: timedelta | None = None,
        guarantee: WorkflowGuarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
    ) -> AsyncSandboxExecution[R]:
        """As `engine.start`; an id that is not given is "NAME-1", then "NAME-2"."""
        self._workflows[workflow.name, workflow.version] = workflow
        execution_id = execution_id or self._new_id(workflow)
        await self.ask(
            lambda engine: engine.start(
                workflow, *args, execution_id=execution_id, ttl=ttl, guarantee=guarantee
            )
        )
        return AsyncSandboxExecution(self, execution_id, workflow.result_type)

    async def enqueue(
        self,
        workflow: WorkflowDefinition[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        ttl: timedelta | None = None,
    ) -> AsyncSandboxExecution[R]:
        """As `engine.enqueue`; ids are as of `start`."""
        if self._workflows.get((workflow.name, workflow.version)) is not workflow:
            await self.restart(*self._workflows.values(), workflow)
        execution_id = execution_id or self._new_id(workflow)
        await self.ask(
            lambda engine: engine.enqueue(
                workflow,
                *args,
                execution_id=execution_id,
                delay=delay,
                priority=priority,
                ttl=ttl,
            )
        )
        return AsyncSandboxExecution(self, execution_id, workflow.result_type)

    async def ask(self, call: Callable[[DurableEngine], Awaitable[T]]) -> T:
        """Ask the engine for something; ask the next one, if this one dies over it.

        await durable.ask(lambda engine: engine.retry("order-1"))
        """
        while True:
            life = await self._alive()
            assert life.engine is not None
            try:
                return await call(life.engine)
            except EngineStoppedError:
                if not life.is_dead:
                    raise

    def execution(self, execution_id: str) -> AsyncSandboxExecution[Any]:
        """An execution that was started otherwise; its result comes as plain JSON data."""
        return AsyncSandboxExecution(self, execution_id, Any)

    async def signal(self, execution_id: str, name: str, payload: object = None) -> None:
        """As `engine.send_signal`; it arrives once, also if the process dies over it."""
        waiting = len(await (await self._alive()).store.load_pending_signals(execution_id, name))
        while True:
            life = await self._alive()
            before = life.signals_sent
            assert life.engine is not None
            try:
                await life.engine.send_signal(execution_id, name, payload)
            except EngineStoppedError:
                if not life.is_dead:
                    raise
            else:
                return
            store = (await self._alive()).store
            if life.signals_sent > before or waiting < len(
                await store.load_pending_signals(execution_id, name)
            ):
                return

    async def cancel(self, execution_id: str) -> bool:
        """As `engine.cancel`."""
        return await self.ask(lambda engine: engine.cancel(execution_id))

    async def result_of(self, execution_id: str, result_type: Any = Any) -> Any:
        """Let time pass until an execution has ended, and give its result, or raise its error.

        Raises AssertionError if it waits for something that nobody is going to do.
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
            # Who asks anew is told that the execution was left alone, and why.
            result.cancel()
            result = ask_for_it()
            return False

        try:
            if not await self._pass_time(None, is_over):
                await asyncio.wait([result], timeout=LEFT_ALONE_S)
                if not result.done():
                    raise AssertionError(await self._why_stuck(execution_id))
            return await result
        finally:
            result.cancel()

    # Time

    async def advance(self, duration: timedelta) -> None:
        """Let time pass, stopping at every deadline on the way for as long as it takes."""
        end = self.now + duration
        await self._pass_time(end, _never)
        self._living().clock.set(max(end, self.now))
        await self._settle()

    async def settle(self) -> None:
        """Let the engine do all that it can at this time."""
        await self._pass_time(self.now, _never)

    # Ends and beginnings of the process

    async def crash(self, *, down_for: timedelta = timedelta(0)) -> None:
        """Let the process die, once it has done all that it can at this time, and recover."""
        await self.settle()
        self._plans.crashes.append("on demand")
        self._plans.down_for = down_for
        self._living().die()
        await self._settle()

    async def restart(self, *workflows: AnyWorkflow) -> None:
        """Stop and start again, as a deploy does; with other workflows, if any are given."""
        await self.settle()
        if workflows:
            self._workflows = {(one.name, one.version): one for one in workflows}
        await self._stop(self._living())
        await self._settle()

    # What happened

    async def status(self, execution_id: str | None = None) -> ExecutionStatus:
        """Of an execution, or of the only one."""
        await self.settle()
        return (await self._load(await self._the_one(execution_id))).status

    async def history(self, execution_id: str | None = None) -> History:
        """What was recorded of an execution, or of the only one."""
        await self.settle()
        return await self._history(await self._load(await self._the_one(execution_id)))

    def _new_id(self, workflow: AnyWorkflow) -> str:
        number = self._started[workflow.name] = self._started.get(workflow.name, 0) + 1
        return f"{workflow.name}-{number}"

    # Lives

    async def _alive(self) -> Life:
        """The life that works now; the next one begins if the one before is over."""
        if self._is_closed:
            raise RuntimeError("this sandbox is closed")
        if self._watch is None:
            self._watch = LoopWatch()
        async with self._reviving:
            while True:
                life = self._life
                if life is not None and not life.is_dead:
                    return life
                life = await self._next_life(life)
                try:
                    await life.do(life.open(workflows=self._workflows.values(), **self._options))
                except EngineStoppedError:
                    if not life.is_dead:
                        raise

    async def _next_life(self, dead: Life | None) -> Life:
        if dead is not None:
            await self._wait_for_threads(dead)
            await dead.let_go()
            self._past.append(dead)
            self._now = dead.clock.now() + self._plans.take_down_for()
        self._stays.clear()
        memory = None if dead is None else dead.connection
        self._life = life = Life(memory, self._now, self._plans.is_fatal)
        return life

    async def _stop(self, life: Life) -> None:
        assert life.engine is not None
        try:
            await life.do(life.engine.dispose())
        except EngineStoppedError:
            if not life.is_dead:
                raise
        life.die()

    async def _wait_for_threads(self, dead: Life) -> None:
        """A thread cannot be killed: what it does must be done before the next life begins."""
        if dead.threads:
            _, running = await asyncio.wait(dead.threads, timeout=self._patience)
            if running:
                raise AssertionError(
                    f"a sync action still runs {self._patience} s after the crash of its process;"
                    " a thread cannot be killed, so it must end by itself"
                )

    def _living(self) -> Life:
        if self._life is None:
            raise RuntimeError("nothing runs yet: use `async with AsyncSandbox(...)`")
        return self._life

    # Time

    async def _pass_time(
        self, end: datetime | None, is_over: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Go from one thing to come to the next, by the end at most; whether it is over."""
        for _ in range(MOST_STOPS):
            async with self._moving:  # a test may wait for several executions at once
                await self._settle()
                if await is_over():
                    return True
                if await self._carry_out_plans():
                    continue
                next_time = await self._next_time()
                if next_time is None or (end is not None and next_time > end):
                    return False
                clock = self.clock
                clock.set(max(next_time, clock.now()))
        raise AssertionError(
            f"{MOST_STOPS} deadlines have passed, and it is {self.now}: does it ever end?"
        )

    async def _next_time(self) -> datetime | None:
        times = [self.clock.next_deadline, self._plans.next_time]
        queued_until = await self._queued_until()
        if queued_until is not None and queued_until > self.now:
            times.append(queued_until)
        return min((one for one in times if one is not None), default=None)

    async def _queued_until(self) -> datetime | None:
        """When the engine is to take on the next execution that is in nobody's hands."""
        return await self.store.load_next_available_at(list(self._workflows))

    async def _settle(self) -> None:
        """Let the engine do all that can be done at this time, and recover if it crashes."""
        loop = asyncio.get_running_loop()
        life = await self._alive()
        turns, quiet, give_up_at = life.turns, 0, loop.time() + self._patience
        acting: set[Place] = set()
        takes_on_by = loop.time() + TAKES_ON_WITHIN_S
        while True:
            if life.is_dead:
                life = await self._alive()
            if life.turns != turns:
                turns, quiet = life.turns, 0
            quiet += 1
            if quiet < QUIET_TURNS:
                await asyncio.sleep(0)
                continue
            if not life.acting and not life.threads:
                queued_until = await self._queued_until()
                if queued_until is None or queued_until > self.now or queued_until in self._stays:
                    return
                if loop.time() >= takes_on_by:
                    self._stays.add(queued_until)  # it is left alone here
                    return
            elif acting != set(life.acting):  # other ones than before: something gets done
                acting, give_up_at = set(life.acting), loop.time() + self._patience
            elif loop.time() >= give_up_at:
                raise AssertionError(_still_running(life, self._patience))
            await asyncio.sleep(0.001)  # a thread, or the world, is at work
            quiet = 0

    async def _carry_out_plans(self) -> bool:
        """Do what is planned for now; whether anything was."""
        if self._plans.awaits_answers:
            waits = await self._waits()
            self._plans.heed(waits)
        due = self._plans.take_due()
        if due is None:
            return False
        execution_id = due.execution_id or await self._the_one(None, unfinished=True)
        try:
            if due.signal is None:
                await self.cancel(execution_id)
            else:
                await self.signal(execution_id, due.signal, due.payload)
        except ExecutionConflictError as error:
            raise AssertionError(f"{due} came too late: {error}") from error
        return True

    # Looking

    async def _load(self, execution_id: str) -> WorkflowExecution:
        return await self.ask(lambda engine: engine.load(execution_id))

    async def _history(self, execution: WorkflowExecution) -> History:
        checkpoints = await self._living().store.load_checkpoints(execution.workflow_execution_id)
        return History(checkpoints, is_over=execution.status.is_terminal)

    async def _executions(self, *, unfinished: bool) -> list[WorkflowExecution]:
        return await self._living().store.load_executions_by_status(
            status for status in ExecutionStatus if not (unfinished and status.is_terminal)
        )

    async def _the_one(self, execution_id: str | None, *, unfinished: bool = False) -> str:
        if execution_id is not None:
            return execution_id
        found = await self._executions(unfinished=unfinished)
        if len(found) != 1:
            names = ", ".join(repr(one.workflow_execution_id) for one in found) or "none"
            raise AssertionError(f"which execution? Give its execution_id; there are: {names}")
        return found[0].workflow_execution_id

    async def _waits(self) -> list[StepCheckpoint]:
        """The waits for signals that unfinished executions are in."""
        return [
            step
            for execution in await self._executions(unfinished=True)
            for step in await self._living().store.load_checkpoints(execution.workflow_execution_id)
            if step.kind is StepKind.SIGNAL and step.status is StepStatus.INTENT
        ]

    async def _why_stuck(self, execution_id: str) -> str:
        execution = await self._load(execution_id)
        what = f"execution {execution_id!r} is {execution.status}, and nothing is to come"
        if execution.blocked_reason is not None:
            return f"{what}: it is blocked, {execution.blocked_reason}"
        names = [
            repr(one.step_name)
            for one in await self._waits()
            if one.workflow_execution_id == execution_id
        ]
        lines = "".join(f"\n    {line}" for line in await self._history(execution))
        if names:
            what += (
                f": it waits for signal {', '.join(names)}. Send it, or plan it with"
                " signal_when_awaited"
            )
        return f"{what}. It was:{lines}"


class AsyncSandboxExecution(Generic[R_co]):
    """What `AsyncSandbox.start` returns: as `ExecutionHandle`, through any number of crashes."""

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
        """How the execution stands."""
        return await self._sandbox.status(self._execution_id)

    async def history(self) -> History:
        """What is recorded of the execution."""
        return await self._sandbox.history(self._execution_id)

    async def signal(self, name: str, payload: object = None) -> None:
        """As `engine.send_signal`."""
        await self._sandbox.signal(self._execution_id, name, payload)

    async def cancel(self) -> bool:
        """As `engine.cancel`."""
        return await self._sandbox.cancel(self._execution_id)


def _heed_not(result: asyncio.Future[Any]) -> None:
    if not result.cancelled():
        result.exception()


async def _never() -> bool:
    return False


def _still_running(life: Life, patience: float) -> str:
    names = ", ".join(
        f"{one.step_name!r} of execution {one.workflow_execution_id!r}"
        for one in life.acting.values()
    )
    return (
        f"{f'step {names}' if names else 'a thread of an action'} still runs after {patience} s;"
        " time does not go on while an action runs. To look at it meanwhile, use `engine`."
    )
