"""What a sandbox simulates: one process after the other, in a time that goes from stop to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from durable_workflow_sqlite import (
    Cancellation,
    CheckpointStore,
    DurableEngine,
    EngineStoppedError,
    ExecutionFinishedError,
    ExecutionStatus,
    Question,
    QuestionAnsweredError,
    Record,
    SignalResult,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowExecution,
)
from durable_workflow_sqlite.code_check import check_history, histories_of
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.reading.histories import ExecutionHistory
from durable_workflow_sqlite.testing.clock import ManualClock
from durable_workflow_sqlite.testing.history import History
from durable_workflow_sqlite.testing.plans import Plannable
from durable_workflow_sqlite.testing.process_tasks import LAST_TURNS, LoopWatch
from durable_workflow_sqlite.testing.replay_checks import ReplayChecks
from durable_workflow_sqlite.testing.simulated_process import SimulatedProcess, StepPlace

T = TypeVar("T")

CLAIMS_WITHIN_S: Final = 0.5
"""An engine waits for a few milliseconds of real time now and then, before it claims more."""

MOST_STOPS: Final = 10_000
MOST_OUTCOMES: Final = 10_000
"""Steps that an execution may finish while the clock stands still."""

READY_WITHIN_S: Final = 0.1
"""How long it takes at most to notice that an action never ends."""

UNFINISHED: Final = tuple(status for status in ExecutionStatus if not status.is_terminal)

BEGINNING: Final = datetime(2030, 1, 1, tzinfo=UTC)


class Simulation(Plannable):
    """The processes of a sandbox, and its time."""

    def __init__(
        self,
        workflows: Iterable[AnyWorkflow],
        start_at: datetime,
        patience: float,
        check_replay: bool,
        options: dict[str, Any],
    ) -> None:
        super().__init__(lambda: self.now)
        self._now = ManualClock(start_at).now()
        self._patience = patience
        self._options = options
        self._workflows = {(one.name, one.version): one for one in workflows}
        self._unclaimed: set[str] = set()
        """The executions that are due, and that the engine of this process does not claim."""
        self._process: SimulatedProcess | None = None
        self._past: list[SimulatedProcess] = []
        self._watch: LoopWatch | None = None
        self._restarting = asyncio.Lock()
        self._moving = asyncio.Lock()
        self._is_closed = False
        self._checks = ReplayChecks(is_on=check_replay)
        self._difference: AssertionError | None = None
        """What the last replay found, when there was no test to tell."""
        self._outcomes: dict[str, int] = {}
        """How many each execution has had since the clock stands where it does."""
        self._endless: str | None = None

    async def close(self) -> None:
        """Stop, as a deploy would, and discard all processes. Closing twice is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._process is not None and not self._process.is_dead:
                await self._check_at_last(self._process)
                await self._stop(self._process)
        finally:
            self.abandon()
            for _ in range(LAST_TURNS + 1):
                await asyncio.sleep(0)

    def replay(
        self, history: str | bytes | os.PathLike[str] | ExecutionHistory, *workflows: AnyWorkflow
    ) -> None:
        """Replay an execution of another store: raise AssertionError if it would not go on.

        history: a file that `durable-workflow export` wrote, or what is in it; more than one line
            is more than one execution.
        workflows: beside those of the sandbox. No action runs, and nothing is written.
        """
        __tracebackhide__ = True
        known = {**self._workflows, **{(one.name, one.version): one for one in workflows}}
        for one in histories_of(history):
            try:
                check_history(one, known.values(), errors=self._options.get("errors"))
            except Exception as error:
                raise AssertionError(
                    f"execution {one.execution.workflow_execution_id!r} would not go on with this"
                    f" code:\n    {error}"
                ) from error

    def abandon(self) -> None:
        """As `close`, without the event loop, which may be gone: nothing is waited for."""
        self._is_closed = True
        for process in (*self._past, *([] if self._process is None else [self._process])):
            process.discard()
        self._past.clear()
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def check(self) -> None:
        """Raise AssertionError if a crash or a signal that was planned has not happened.

        Also if a replay was found to differ when the test had already ended.
        """
        __tracebackhide__ = True  # by pytest
        if self._difference is not None:
            raise self._difference
        if self._plans.open:
            raise AssertionError(
                "planned, and never happened:"
                + "".join(f"\n    {one}" for one in self._plans.open)
                + "\nCheck the name, and whether the workflow reaches this step."
            )

    # What there is

    @property
    def now(self) -> datetime:
        """The time by the clock of the sandbox."""
        return self._now if self._process is None else self._process.clock.now()

    @property
    def clock(self) -> ManualClock:
        """Of the engine that works now. Moving it waits for nothing; `advance` does."""
        return self._current().clock

    @property
    def store(self) -> CheckpointStore:
        """What is recorded, for a closer look."""
        return self._current().store

    # Asking

    async def ask(self, call: Callable[[DurableEngine], Awaitable[T]]) -> T:
        """Ask the engine for something; ask the next one, if this one dies over it.

        await durable.ask(lambda engine: engine.retry("order-1"))
        """
        while True:
            process = await self._running()
            assert process.engine is not None
            try:
                return await call(process.engine)
            except EngineStoppedError:
                if not process.is_dead:
                    raise

    async def signal(
        self, execution_id: str, name: str, payload: object = None, *, key: str | None = None
    ) -> SignalResult:
        """As `engine.send_signal`; it arrives once, also if the process dies over it."""
        waiting = len(await (await self._running()).store.load_pending_signals(execution_id, name))
        while True:
            process = await self._running()
            before = process.signals_sent
            assert process.engine is not None
            try:
                return await process.engine.send_signal(execution_id, name, payload, key=key)
            except EngineStoppedError:
                if not process.is_dead:
                    raise
            store = (await self._running()).store
            if process.signals_sent > before or waiting < len(
                await store.load_pending_signals(execution_id, name)
            ):
                return SignalResult.SENT

    async def questions(
        self, *, to: str | None = None, execution_id: str | None = None
    ) -> list[Question]:
        """As `engine.questions`, once the engine has done all that it can do now."""
        await self.settle()
        return await self.ask(lambda engine: engine.questions(to=to, execution_id=execution_id))

    async def answer(
        self, execution_id: str, name: str, value: object, *, by: str | None = None
    ) -> None:
        """As `engine.answer`; it is stored once, also if the process dies over it."""
        asked = await self.questions(execution_id=execution_id)
        signals = [one.signal_name for one in asked if one.name == name]
        # Another question of that name may be open after a crash: the answer is for this one.
        exactly = signals[0] if len(signals) == 1 else name
        has_tried = False
        while True:
            process = await self._running()
            assert process.engine is not None
            try:
                await process.engine.answer(execution_id, exactly, value, by=by)
            except EngineStoppedError:
                if not process.is_dead:
                    raise
                has_tried = True
            except QuestionAnsweredError:
                if not has_tried:
                    raise
                return
            else:
                return

    async def settle(self) -> None:
        """Wait until the engine has done everything that it can do at the current time."""
        raise NotImplementedError

    async def cancel(self, execution_id: str) -> Cancellation:
        """As `engine.cancel`."""
        return await self.ask(lambda engine: engine.cancel(execution_id))

    # Processes

    async def _running(self) -> SimulatedProcess:
        """The process that works now; the next one begins if the one before has ended."""
        if self._is_closed:
            raise RuntimeError("this sandbox is closed")
        if self._watch is None:
            self._watch = LoopWatch()
        async with self._restarting:
            while True:
                process = self._process
                if process is not None and not process.is_dead:
                    return process
                process = await self._next_process(process)
                try:
                    await process.run(
                        process.open(workflows=self._workflows.values(), **self._options)
                    )
                except EngineStoppedError:
                    if not process.is_dead:
                        raise

    async def _next_process(self, dead: SimulatedProcess | None) -> SimulatedProcess:
        if dead is not None:
            await self._wait_for_threads(dead)
            await dead.close_store()
            self._past.append(dead)
            self._now = dead.clock.now() + self._plans.take_down_for()
        self._unclaimed.clear()
        memory = None if dead is None else dead.connection
        self._process = process = SimulatedProcess(
            memory, self._now, self._plans.is_fatal, self._is_saved
        )
        return process

    async def _stop(self, process: SimulatedProcess) -> None:
        assert process.engine is not None
        try:
            await process.run(process.engine.dispose())
        except EngineStoppedError:
            if not process.is_dead:
                raise
        process.kill()

    async def _wait_for_threads(self, dead: SimulatedProcess) -> None:
        """A thread cannot be killed: what it does must be done before the next process begins."""
        if dead.threads:
            _, running = await asyncio.wait(dead.threads, timeout=self._patience)
            if running:
                raise AssertionError(
                    f"a sync action still runs {self._patience} s after the crash of its process;"
                    " a thread cannot be killed, so it must end by itself"
                )

    def _current(self) -> SimulatedProcess:
        if self._process is None:
            raise RuntimeError("nothing runs yet: use `async with AsyncSandbox(...)`")
        return self._process

    # Time

    async def _pass_time(
        self, end: datetime | None, is_over: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Go from one thing to come to the next, by the end at most; whether it is over."""
        stops = 0
        while end is not None or stops < MOST_STOPS:
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
                stops += 1
        raise AssertionError(
            f"{MOST_STOPS} deadlines have passed, and it is {self.now}: the workflow may never end"
        )

    async def _next_time(self) -> datetime | None:
        times = [self.clock.next_deadline, self._plans.next_time]
        queued_until = await self._queued_until()
        if queued_until is not None and queued_until > self.now:
            times.append(queued_until)
        return min((one for one in times if one is not None), default=None)

    async def _queued_until(self) -> datetime | None:
        """When the engine is to claim the next execution that no worker has."""
        return await self.store.load_next_available_at(list(self._workflows))

    async def _settle(self) -> None:
        """Let the engine do all that can be done at this time, and recover if it crashes."""
        loop = asyncio.get_running_loop()
        process = await self._running()
        give_up_at, claims_by = loop.time() + self._patience, loop.time() + CLAIMS_WITHIN_S
        acting: set[StepPlace] = set()
        self._outcomes.clear()
        while True:
            if process.is_dead:
                process = await self._running()
            if self._endless is not None:
                raise AssertionError(self._why_endless())
            callbacks = process.callbacks
            await asyncio.sleep(0)
            if process.is_dead or process.callbacks != callbacks:
                continue
            # Nothing of it is ready to run: only a thread, the world or the time brings it further.
            if process.acting or process.threads:
                if acting != set(process.acting):  # other ones than before: something gets done
                    acting, give_up_at = set(process.acting), loop.time() + self._patience
                elif loop.time() >= give_up_at:
                    raise AssertionError(_still_running(process, self._patience))
            elif not await self._claims_more(process, loop.time() >= claims_by):
                await self._checks.replay_due(process, self._workflows.values())
                return
            if not process.is_dead and process.callbacks == callbacks:
                await process.until_ready(READY_WITHIN_S)

    async def _claims_more(self, process: SimulatedProcess, is_late: bool) -> bool:
        """Whether the engine is about to claim something that is due and that no worker has."""
        assert process.engine is not None
        queued_until = await self._queued_until()
        due: list[str] = []
        if queued_until is not None and queued_until <= self.now:
            due += [
                one.workflow_execution_id
                for one in await process.store.load_executions_by_status(UNFINISHED)
                if one.available_at is not None and one.available_at <= self.now
            ]
        if not process.engine.claims_when_due(one for one in due if one not in self._unclaimed):
            return False
        if is_late:
            self._unclaimed.update(due)
        return not is_late

    def _is_saved(self, record: Record) -> None:
        self._checks.is_saved(record)
        if isinstance(record, StepCheckpoint) and record.event is not None:
            execution_id = record.workflow_execution_id
            outcomes = self._outcomes[execution_id] = self._outcomes.get(execution_id, 0) + 1
            if outcomes > MOST_OUTCOMES:
                self._endless = execution_id

    def _why_endless(self) -> str:
        execution_id, self._endless = self._endless, None
        return (
            f"execution {execution_id!r} has brought {MOST_OUTCOMES} steps to an end, and it is"
            f" still {self.now}. Does it wait for a time of another clock? In a sandbox, a workflow"
            " function asks `ctx.now()` for the time"
        )

    async def _check_at_last(self, process: SimulatedProcess) -> None:
        try:
            await self._checks.replay_due(process, self._workflows.values(), at_last=True)
        except AssertionError as difference:
            self._difference = difference

    async def _carry_out_plans(self) -> bool:
        """Do what is planned for now; whether anything was."""
        if self._plans.awaits_answers:
            waits = await self._waits()
            self._plans.answer_waits(waits)
        due = self._plans.take_due()
        if due is None:
            return False
        execution_id = due.execution_id or await self._the_one(None, unfinished=True)
        try:
            if due.signal is None:
                await self.cancel(execution_id)
            else:
                await self.signal(execution_id, due.signal, due.payload)
        except ExecutionFinishedError as error:
            raise AssertionError(f"{due} came too late: {error}") from error
        return True

    # Looking

    async def _load(self, execution_id: str) -> WorkflowExecution:
        return await self.ask(lambda engine: engine.load(execution_id))

    async def _history(self, execution: WorkflowExecution) -> History:
        checkpoints = await self._current().store.load_checkpoints(execution.workflow_execution_id)
        return History(checkpoints, is_over=execution.status.is_terminal)

    async def _executions(self, *, unfinished: bool) -> list[WorkflowExecution]:
        return await self._current().store.load_executions_by_status(
            status for status in ExecutionStatus if not (unfinished and status.is_terminal)
        )

    async def _the_one(self, execution_id: str | None, *, unfinished: bool = False) -> str:
        if execution_id is not None:
            return execution_id
        found = await self._executions(unfinished=unfinished)
        if len(found) != 1:
            names = ", ".join(repr(one.workflow_execution_id) for one in found) or "none"
            raise AssertionError(f"give the execution_id of one execution; there are: {names}")
        return found[0].workflow_execution_id

    async def _waits(self) -> list[StepCheckpoint]:
        """The waits for signals that unfinished executions are in."""
        return [
            step
            for execution in await self._executions(unfinished=True)
            for step in await self._current().store.load_checkpoints(
                execution.workflow_execution_id
            )
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
        history = await self._history(execution)
        asking = [one.name for one in history.events if one.became == "waits for an answer"]
        if asking:
            what += (
                f": step {', '.join(map(repr, asking))} is in doubt, and waits for an answer; give"
                " it with `ask(lambda engine: engine.resolve(...))`"
            )
        lines = "".join(f"\n    {line}" for line in history)
        if names:
            what += (
                f": it waits for signal {', '.join(names)}. Send it, or plan it with"
                " signal_when_awaited"
            )
        return f"{what}. It was:{lines}"


async def never() -> bool:
    return False


def _still_running(process: SimulatedProcess, patience: float) -> str:
    names = ", ".join(
        f"{one.step_name!r} of execution {one.workflow_execution_id!r}"
        for one in process.acting.values()
    )
    return (
        f"{f'step {names}' if names else 'a thread of an action'} still runs after {patience} s;"
        " time does not go on while an action runs. To look at it meanwhile, use `engine`."
    )
