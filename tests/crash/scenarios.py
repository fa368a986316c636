"""One workflow for each feature, small enough to be killed at every one of its writes."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from durable_workflow_sqlite import (
    AesGcmCodec,
    Client,
    DurableEngine,
    DurableWorkflowError,
    End,
    Escalation,
    ExecutionConflictError,
    ExecutionFinishedError,
    Item,
    Limit,
    NewSignal,
    QuestionAnsweredError,
    QuestionNotFoundError,
    Queue,
    Rate,
    Reset,
    RetryPolicy,
    SerializationError,
    SignalResult,
    SignalTimeoutError,
    StepTimeoutError,
    TransactionClient,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    WorkflowSignal,
    report_progress,
    step_stream,
    workflow,
)
from durable_workflow_sqlite.records import who_ran
from tests.crash.doubts import DOUBTS
from tests.crash.harness import EXECUTION, FORK, Scenario, run
from tests.oracle import (
    GIVEN,
    GIVING,
    MENDING,
    OWN,
    OWN_STARTS,
    PAUSED,
    READS,
    RESUMING,
    RETRYING,
)
from tests.own_tables import insert_own_row
from tests.processes import Journal, until

CODEC = AesGcmCodec([("of-tests", b"k" * 32)])
A_MOMENT = timedelta(milliseconds=4)
PARKS_AT_ONCE = {"park_after": timedelta(milliseconds=1)}
ONE_THREAD = {"max_concurrent": 1}
NO_GRACE = {"cancel_grace": timedelta(0)}
QUICK = RetryPolicy.fixed(max_attempts=3, delay=A_MOMENT)


class Panic(BaseException):
    """As a library that is written in Rust raises it."""


async def act(
    journal: Journal, name: str, *, fails: int = 0, kind: type[BaseException] = ConnectionError
) -> str:
    """The action of a step: it fails the first times, or always where that is negative."""
    runs = journal.note(f"run {name}")
    try:
        await asyncio.sleep(journal.action_s)
    finally:
        journal.note(f"over {name}")
    if fails < 0 or runs <= fails:
        raise kind(name)
    return name


def act_in_thread(
    journal: Journal, name: str, *, fails: int = 0, kind: type[BaseException] = ConnectionError
) -> str:
    """As `act`, for a moment in which the event loop goes on."""
    runs = journal.note(f"run {name}")
    time.sleep(max(journal.action_s, 0.002))
    journal.note(f"over {name}")
    if fails < 0 or runs <= fails:
        raise kind(name)
    return name


async def undo(journal: Journal, fails: bool, name: str) -> None:
    journal.note(f"undo {name}")
    await asyncio.sleep(journal.action_s)
    journal.note(f"over {name}")
    if fails:
        raise ConnectionError(f"cannot undo {name}")


def undo_in_thread(journal: Journal, fails: bool, name: str) -> None:
    journal.note(f"undo {name}")
    time.sleep(max(journal.action_s, 0.001))
    journal.note(f"over {name}")
    if fails:
        raise ConnectionError(f"cannot undo {name}")


class Steps:
    """Short words for steps that write to the journal."""

    def __init__(
        self, journal: Journal, *, in_threads: bool = False, undo_delay: timedelta = A_MOMENT
    ) -> None:
        self.journal = journal
        self._undo_delay = undo_delay
        self._act = act_in_thread if in_threads else act
        self._undo = undo_in_thread if in_threads else undo

    def do(self, ctx: WorkflowContext, name: str, **options: Any) -> Coroutine[Any, Any, str]:
        label = f"{name} in {FORK}" if ctx.execution_id == FORK else name
        fails = options.pop("fails", 0)
        kind = options.pop("kind", ConnectionError)
        if options.pop("undone", False):
            fails_to_undo = options.pop("undo_fails", False)
            options["compensate"] = functools.partial(self._undo, self.journal, fails_to_undo)
            options["compensate_retry"] = RetryPolicy.fixed(max_attempts=2, delay=self._undo_delay)
        action = functools.partial(self._act, self.journal, label, fails=fails, kind=kind)
        return self._noted(label, ctx.step(name, action, **options))

    async def _noted(self, name: str, step: Coroutine[Any, Any, str]) -> str:
        result = await step
        self.journal.note(f"done {name}")
        return result


def ten_steps(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="ten steps")
    async def body(ctx: WorkflowContext) -> list[str]:
        return [await steps.do(ctx, f"step {number}") for number in range(10)]

    return body


def reads(journal: Journal) -> WorkflowDefinition[..., Any]:
    """Steps whose beginning is not recorded: alone, tried again, and beside each other."""
    steps = Steps(journal)

    @workflow(name="reads")
    async def body(ctx: WorkflowContext) -> list[str]:
        first = await steps.do(ctx, f"{READS}first", idempotent=True)
        flaky = await steps.do(ctx, f"{READS}flaky", fails=1, retry=QUICK, idempotent=True)
        both = await asyncio.gather(
            steps.do(ctx, f"{READS}left", idempotent=True),
            steps.do(ctx, f"{READS}right", idempotent=True),
        )
        return [first, flaky, *both, await steps.do(ctx, "last")]

    return body


def insert(
    connection: Any, journal: Journal, execution_id: str, name: str, *, fails: int = 0
) -> str:
    """What a transaction does: a row, and maybe an execution, of the name of its step."""
    runs = journal.note(f"run {name}")
    try:
        insert_own_row(connection, execution_id, name)
        if name.startswith(OWN_STARTS):
            TransactionClient(connection).enqueue(started, execution_id=f"{execution_id}|{name}")
    finally:
        journal.note(f"over {name}")
    if fails < 0 or runs <= fails:
        raise ConnectionError(name)
    return name


@workflow(name="started by a transaction")
async def started(ctx: WorkflowContext) -> None:
    """No worker of these tests runs it."""


def own_rows(journal: Journal, *, fails: bool = False) -> WorkflowDefinition[..., Any]:
    """Steps in the transaction of their rows: alone, tried again, beside others, undone."""
    steps = Steps(journal)

    async def own(ctx: WorkflowContext, name: str, **options: Any) -> str:
        attempts = options.pop("fails", 0)
        if options.pop("undone", False):
            options["compensate"] = partial(undo, journal, False)
        action = partial(insert, fails=attempts)
        result = await ctx.transaction(
            name,
            action,
            journal,
            ctx.execution_id,
            name,
            timeout=timedelta(minutes=5),  # a worker may be frozen in it
            **options,
        )
        journal.note(f"done {name}")
        return result

    @workflow(name="own rows that are undone" if fails else "own rows")
    async def body(ctx: WorkflowContext) -> str:
        await own(ctx, f"{OWN}first", undone=fails)
        await own(ctx, f"{OWN}flaky", fails=1, retry=QUICK)
        await asyncio.gather(
            own(ctx.branch("left"), f"{OWN}left", undone=fails),
            own(ctx.branch("right"), f"{OWN_STARTS}right", fails=1, retry=QUICK),
            steps.do(ctx.branch("beside"), "beside", undone=fails),
        )
        if fails:
            with suppress(ConnectionError):
                await own(ctx, f"{OWN}never", fails=-1)
        await own(ctx, f"{OWN}last", fails=-1 if fails else 0)
        return "done"

    return body


def retries(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="retries")
    async def body(ctx: WorkflowContext) -> str:
        patient = RetryPolicy.fixed(max_attempts=9, delay=A_MOMENT)
        await steps.do(ctx, "flaky", fails=2, retry=patient)
        try:
            await steps.do(ctx, "hopeless", fails=-1, retry=QUICK)
        except ConnectionError:
            await steps.do(ctx, "instead")
        return await steps.do(ctx, "last")

    return body


def panics(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="panics")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "first", undone=True)
        await steps.do(ctx, "flaky", fails=1, kind=Panic, undone=True, retry=QUICK)
        await steps.do(ctx, "hopeless", fails=-1, kind=Panic, undone=True, retry=QUICK)

    return body


def stubborn(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="stubborn")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "first", undone=True)
        await steps.do(ctx, "second", undone=True)
        journal.note("looping")
        while True:
            with suppress(asyncio.CancelledError):
                await ctx.sleep("nap", A_MOMENT)

    return body


def saga(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="saga")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "flight", undone=True)
        await steps.do(ctx, "hotel", undone=True, undo_fails=True)
        await steps.do(ctx, "note")
        await steps.do(ctx, "car", undone=True)
        await steps.do(ctx, "pay", fails=-1, undone=True)

    return body


@dataclass(frozen=True)
class Paid:
    name: str
    at: Path


@dataclass(frozen=True)
class Owed:
    name: str
    at: Path


async def act_typed(journal: Journal, kind: type[Paid | Owed], name: str) -> Paid | Owed:
    return kind(await act(journal, name), Path("receipts") / name)


async def undo_typed(journal: Journal, expected: Paid | Owed, result: object) -> None:
    assert result == expected
    await undo(journal, False, expected.name)


def typed(journal: Journal) -> WorkflowDefinition[..., Any]:
    """Of two classes that look the same: a replay and a compensation must get the right one."""

    @workflow(name="typed")
    async def body(ctx: WorkflowContext) -> None:
        for kind in (Owed, Paid, Owed):
            name = f"{kind.__name__} {ctx.random()}"
            expected = kind(name, Path("receipts") / name)
            result = await ctx.step(
                name,
                functools.partial(act_typed, journal, kind),
                name,
                compensate=functools.partial(undo_typed, journal, expected),
            )
            if result != expected:
                raise AssertionError(f"{result} is not {expected}")
            journal.note(f"done {name}")
        raise ConnectionError("undo it")

    return body


def threads(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal, in_threads=True)

    @workflow(name="threads")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "flight", undone=True)
        await steps.do(ctx, "hotel", undone=True, fails=1, retry=QUICK)
        await asyncio.gather(*(steps.do(ctx, f"seat {number}", undone=True) for number in range(3)))
        await steps.do(ctx, "pay", fails=-1, undone=True)

    return body


def threads_side_by_side(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps, hanging = Steps(journal, in_threads=True), Steps(journal)

    @workflow(name="threads side by side")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "first", undone=True)
        await asyncio.gather(
            steps.do(ctx, "one", undone=True),
            steps.do(ctx, "two", undone=True),
            hanging.do(ctx, "three", undone=True),
            ctx.step("hang", asyncio.sleep, 3600, on_cancel="stop"),
        )

    return body


def branches(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    async def chain(ctx: WorkflowContext, name: str, depth: int) -> None:
        await steps.do(ctx, f"{name} begins", undone=True)
        if depth:
            await asyncio.gather(
                *(chain(ctx.branch(key), f"{name}{key}", depth - 1) for key in "xy")
            )
        await steps.do(ctx, f"{name} ends", undone=True)

    @workflow(name="branches")
    async def body(ctx: WorkflowContext) -> None:
        await asyncio.gather(*(chain(ctx.branch(key), key, 1) for key in "ab"))
        await steps.do(ctx, "together")

    return body


def branches_that_fail(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    async def chain(ctx: WorkflowContext, name: str, fails: int) -> None:
        await steps.do(ctx, f"{name} begins", undone=True)
        await steps.do(ctx, f"{name} ends", undone=True, fails=fails)

    @workflow(name="branches that fail")
    async def body(ctx: WorkflowContext) -> None:
        # Both are awaited to their ends, so that which of them is undone is not a matter of luck.
        results = await asyncio.gather(
            chain(ctx.branch("a"), "a", 0),
            chain(ctx.branch("b"), "b", -1),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, Exception):
                raise result

    return body


def plain_asyncio(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="plain asyncio")
    async def body(ctx: WorkflowContext) -> None:
        moment = A_MOMENT.total_seconds()
        async with asyncio.timeout(3600):
            await steps.do(ctx, "in time", undone=True)
        try:
            async with asyncio.timeout(moment):
                await ctx.wait_signal("never")
        except TimeoutError:
            await asyncio.gather(asyncio.sleep(moment), steps.do(ctx, "too late"))
        loser = asyncio.create_task(ctx.step("loser", asyncio.sleep, 3600))
        await steps.do(ctx, "winner")
        loser.cancel()
        await asyncio.wait({loser})
        made: asyncio.Queue[str] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(made.put(await steps.do(ctx, "made")))
            group.create_task(steps.do(ctx, f"{await made.get()} and used"))

    return body


def streamed(journal: Journal) -> WorkflowDefinition[..., Any]:
    """Each attempt of a step begins its stream anew, and a follower gets one that is whole."""
    steps = Steps(journal)

    async def say(name: str) -> str:
        journal.note(f"run {name}")
        stream = step_stream()
        for number in range(3):
            report_progress(number, 4)
            await stream.write([name, number])
        stream.put([name, 3])
        report_progress(4, 4, name)
        journal.note(f"over {name}")
        return name

    @workflow(name="streamed")
    async def body(ctx: WorkflowContext) -> None:
        ctx.progress(0, 3)
        await steps.do(ctx, "first", undone=True)
        ctx.progress(1, 3)
        await asyncio.gather(
            *(steps._noted(one, ctx.step(one, say, one)) for one in ("left", "right"))
        )
        ctx.progress(3, 3)

    return body


async def run_and_follow(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """Whoever follows has, behind the last reset of a step, all items of one attempt.

    Of the progress, the newest is there in the end: that of the function, and of each step.
    """
    await run(engine, definition, journal)
    progress = {one.step_name: one.note for one in await engine.progress(EXECUTION)}
    assert progress == {"": None, "left": "left", "right": "right"}
    assert {one.fraction for one in await engine.progress(EXECUTION)} == {1.0}
    seen: dict[str, list[Any]] = {}
    async for one in engine.follow(EXECUTION):
        match one:
            case Item():
                seen.setdefault(one.step, []).append(one.value)
            case Reset():
                seen[one.step] = []
            case End():
                assert one.status == "COMPLETED"
    assert seen == {name: [[name, n] for n in range(4)] for name in ("left", "right")}


def patched(journal: Journal) -> WorkflowDefinition[..., Any]:
    """Each process but the first has newer code, and so has the branch in each of them."""
    steps = Steps(journal)
    is_newer = bool(journal.lines)

    @workflow(name="patched")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "first", undone=True)
        if is_newer and ctx.patched("more"):
            await steps.do(ctx, "more", undone=True)
        await ctx.sleep("rest", A_MOMENT)
        sides = []
        for name in ("left", "right"):
            side = ctx.branch(name)
            if side.patched("twice"):
                sides.append(steps.do(side, f"{name} once"))
            sides.append(steps.do(side, f"{name} again"))
        await asyncio.gather(*sides)
        if is_newer and ctx.patched("last"):
            await steps.do(ctx, "last")
        ctx.deprecate_patch("end")
        await steps.do(ctx, "end")

    return body


def a_task_group_that_fails(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps, threads = Steps(journal), Steps(journal, in_threads=True)

    @workflow(name="a task group that fails")
    async def body(ctx: WorkflowContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(steps.do(ctx, "flight", undone=True))
            group.create_task(threads.do(ctx, "hotel", undone=True))
            group.create_task(ctx.sleep("nap", timedelta(days=1)))
            group.create_task(steps.do(ctx, "pay", fails=-1, undone=True))

    return body


def left_behind_by_a_failure(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps, threads = Steps(journal), Steps(journal, in_threads=True)

    @workflow(name="left behind by a failure")
    async def body(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            steps.do(ctx, "flight", undone=True),
            threads.do(ctx, "hotel", undone=True),
            steps.do(ctx, "car", undone=True, on_cancel="stop"),
            steps.do(ctx, "pay", fails=-1),
        )

    return body


async def hang_at_first(journal: Journal, name: str) -> str:
    runs = journal.note(f"run {name}")
    try:
        await asyncio.sleep(3600 if runs == 1 else journal.action_s)
    finally:
        journal.note(f"over {name}")
    return name


def take_long_in_thread(journal: Journal, name: str) -> str:
    journal.note(f"run {name}")
    time.sleep(0.03)
    journal.note(f"over {name}")
    return name


async def try_in_time(
    ctx: WorkflowContext, journal: Journal, name: str, act: Any, **options: Any
) -> None:
    action = functools.partial(act, journal, name)
    try:
        await ctx.step(name, action, timeout=A_MOMENT, **options)
    except StepTimeoutError:
        return
    journal.note(f"done {name}")


def timeouts(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="timeouts")
    async def body(ctx: WorkflowContext) -> None:
        undone = functools.partial(undo, journal, False)
        await try_in_time(ctx, journal, "hotel", hang_at_first, compensate=undone)
        await try_in_time(ctx, journal, "seat", hang_at_first)
        await steps.do(ctx, "last", fails=-1)

    return body


def timeouts_in_threads(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="timeouts in threads")
    async def body(ctx: WorkflowContext) -> None:
        undone: dict[str, Any] = {"compensate": functools.partial(undo, journal, False)}
        twice = RetryPolicy.fixed(max_attempts=2, delay=A_MOMENT)
        await try_in_time(ctx, journal, "pay", take_long_in_thread, retry=twice, **undone)
        await steps.do(ctx, "last", fails=-1)

    return body


def sleeps(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    async def nap(ctx: WorkflowContext, name: str) -> None:
        await ctx.sleep(f"{name} nap", A_MOMENT)
        await steps.do(ctx, f"{name} woke")

    @workflow(name="sleeps")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "first")
        await ctx.sleep("nap", A_MOMENT)
        await steps.do(ctx, "second")
        await asyncio.gather(*(nap(ctx.branch(key), key) for key in "ab"))

    return body


def limited(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)
    retry = RetryPolicy.fixed(max_attempts=5, delay=A_MOMENT)

    @workflow(name="limited")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "first", limit="api")
        await ctx.sleep("nap", A_MOMENT)
        await steps.do(ctx, "second", limit="api", fails=1, retry=retry)
        await asyncio.gather(
            *(steps.do(ctx.branch(key), f"{key} side", limit="api") for key in "ab")
        )
        await ctx.sleep("last nap", A_MOMENT)
        await steps.do(ctx, "last")

    return body


async def in_a_queue_of_one(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], _: Journal
) -> None:
    """Its queue and its limit have one slot: one that leaked would keep it waiting forever."""
    await engine.declare(
        Queue("mail", concurrency=1, rate=Rate(9, timedelta(seconds=1))),
        Limit("api", concurrency=1),
    )
    handle = await engine.enqueue(
        definition, execution_id=EXECUTION, queue="mail", key="kim", dedup_id="one"
    )
    await handle.result()
    store = engine._settings.store
    assert (await store.load_limit_room("api", None)).is_free


def ends_with_its_own_cancelled_error(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="its own CancelledError")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "flight", undone=True)
        late = asyncio.create_task(steps.do(ctx, "hotel", undone=True))
        await steps.do(ctx, "note")
        late.cancel()
        await late

    return body


def stopped_by_a_mistake(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="stopped by a mistake")
    async def body(ctx: WorkflowContext) -> str:
        await steps.do(ctx, "flight", undone=True)
        beside = asyncio.create_task(steps.do(ctx, "hotel", undone=True))
        await steps.do(ctx, "note")
        if "mended" not in journal.lines:
            raise KeyError("a typo")
        await beside
        return await steps.do(ctx, "last")

    return body


async def mend_and_go_on(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """Once the code is mended, a signal makes the worker take the execution on again."""
    handle = await engine.start(definition, execution_id=EXECUTION)
    try:
        await handle.result()
    except WorkflowCodeError:
        journal.note("mended")
        await handle.signal("mended")
        await handle.result()


async def run_mend_and_run(
    engine: DurableEngine,
    definition: WorkflowDefinition[..., Any],
    journal: Journal,
    notes: Sequence[str],
    mend: Callable[[], Coroutine[Any, Any, object]],
) -> None:
    """It runs to its end, is mended once in all processes, and runs to its end again."""
    await run(engine, definition, journal)
    if "mended" not in journal.lines:
        for note in notes:
            journal.note(note)
        with suppress(DurableWorkflowError):  # a process that did not get to note it has done it
            await mend()
        journal.note("mended")
    await run(engine, definition, journal)


async def run_and_retry(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """An operator has what was not undone tried again, once in all processes."""
    retry = partial(engine.retry, EXECUTION)
    await run_mend_and_run(engine, definition, journal, [RETRYING], retry)


def patient(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal, undo_delay=timedelta(hours=1))
    hourly = RetryPolicy.fixed(max_attempts=9, delay=timedelta(hours=1))

    @workflow(name="patient")
    async def body(ctx: WorkflowContext, is_another: bool = False) -> None:
        if is_another:
            await ctx.step("pass", asyncio.sleep, 0)
            return
        await steps.do(ctx, "hotel", undone=True, undo_fails=True)
        await steps.do(ctx, "pay", fails=1, retry=hourly)
        await steps.do(ctx, "ship", fails=-1)

    return body


async def steps_that_are_late(
    engine: DurableEngine, running: Coroutine[Any, Any, None]
) -> AsyncIterator[set[str]]:
    """Again and again until it has run, the steps whose next attempt is a long time away."""
    ending = asyncio.create_task(running)
    while not ending.done():
        steps = await engine._settings.store.load_checkpoints(EXECUTION)
        soon = datetime.now(UTC) + timedelta(minutes=1)
        yield {one.step_name for one in steps if one.due_at is not None and one.due_at > soon}
        await asyncio.sleep(0.001)
    await ending


async def run_without_patience(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """Somebody has each next attempt made at once, of a step and of a compensation."""
    async for late in steps_that_are_late(engine, run(engine, definition, journal)):
        if late:
            await engine.retry(EXECUTION)


async def let_others_pass(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], _: Journal
) -> None:
    """In a queue of one slot: while it is in a back-off of an hour, others run to their ends."""
    await engine.declare(Queue("mail", concurrency=1))
    handle = await engine.enqueue(definition, execution_id=EXECUTION, queue="mail")

    async def to_its_end() -> None:
        with suppress(WorkflowFailedError):
            await handle.result()

    async for late in steps_that_are_late(engine, to_its_end()):
        if late:
            await (await engine.enqueue(definition, True, queue="mail", priority=-1)).result()
            await engine.retry(EXECUTION)


async def run_and_resolve_a_pause(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """Somebody says what the step in a back-off returned, while this worker has it."""
    async for late in steps_that_are_late(engine, run(engine, definition, journal)):
        if "pay" in late:
            journal.note(f"{MENDING}pay")
            journal.note(f'{GIVING}["pay", "pay"]')
            await engine.resolve(EXECUTION, "pay", "pay")
            journal.note(f'{GIVEN}["pay", "pay"]')
        elif late:
            await engine.retry(EXECUTION)


def gives_up_to_pay(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)
    hourly = RetryPolicy.fixed(max_attempts=9, delay=timedelta(hours=1))

    @workflow(name="gives up to pay")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "hotel", undone=True)
        paying = asyncio.create_task(steps.do(ctx, "pay", fails=-1, undone=True, retry=hourly))
        beside = ctx.branch("b")
        await beside.wait_signal("enough")
        paying.cancel()
        await steps.do(beside, "ship", fails=-1, retry=QUICK)

    return body


def give_at_the_end(how: str, ends: str) -> Scenario:
    """Somebody gives a value to a step in a back-off, and nothing waits for the step any more."""

    async def drive(
        engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
    ) -> None:
        store = engine._settings.store
        handle = await engine.start(definition, execution_id=EXECUTION)
        ending = asyncio.create_task(run(engine, definition, journal))
        await until(lambda: ending.done() or "run pay" in journal.lines)
        soon = datetime.now(UTC) + timedelta(minutes=1)
        while not ending.done():
            pays = [one for one in await store.load_checkpoints(EXECUTION) if one.attempt]
            last = [one for one in pays if one.step_name == "pay"][-1]
            if last.due_at is not None and last.due_at > soon:
                journal.note(f"{MENDING}pay")
                journal.note(f'{GIVING}["pay", "pay"]')
                with suppress(ExecutionConflictError):
                    await engine.resolve(EXECUTION, "pay", "pay")
                    journal.note(f'{GIVEN}["pay", "pay"]')
            if last.due_at is not None or last.attempt > 1:
                break
            await asyncio.sleep(0.001)
        with suppress(DurableWorkflowError):  # it has ended meanwhile
            if how == "cancel":
                await handle.cancel()
            elif "sent" not in journal.lines:
                await handle.signal("enough")
                journal.note("sent")
        await ending

    return Scenario(f"a value, and then: {how}", gives_up_to_pay, drive, (ends,))


def fails_at_last(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="fails at last")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "first")
        await ctx.sleep("nap", A_MOMENT)
        await steps.do(ctx, "second", undone=True)
        await steps.do(ctx, "last", fails=1)

    return body


async def run_again_from_a_step(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """What was undone runs again, from the step that somebody names."""
    notes = [f"{MENDING}second", f"{MENDING}last"]
    retry = partial(engine.retry, EXECUTION, from_step="second")
    await run_mend_and_run(engine, definition, journal, notes, retry)


async def run_again_with_another_result(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """What was undone stands again, as a person says, and is not run again."""
    notes = [f"{MENDING}first", f"{MENDING}second", f"{MENDING}last"]
    edit = {"first": "edited", "second": "by hand"}
    retry = partial(engine.retry, EXECUTION, from_step="last", edit=edit)
    await run_mend_and_run(engine, definition, journal, notes, retry)
    store = engine._settings.store
    if not await store.load_audit_log(EXECUTION):
        return  # it was killed in the last step, which succeeds the second time
    results = {one.step_name: one.output_data for one in await store.load_checkpoints(EXECUTION)}
    assert [results[name] for name in edit] == ['"edited"', '"by hand"']


async def edit_and_fail_later(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """It goes on where it failed, with another result before that, and one for what failed."""
    notes = [f"{MENDING}first", f"{MENDING}pay"]
    edit = {"first": "edited", "pay": "pay"}
    await run_mend_and_run(
        engine, definition, journal, notes, partial(engine.retry, EXECUTION, edit=edit)
    )


def forked(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="forked")
    async def body(ctx: WorkflowContext) -> str:
        await steps.do(ctx, "first")
        await steps.do(ctx, "second", undone=True)
        await asyncio.sleep(0.001)
        nap = asyncio.create_task(ctx.sleep("nap", A_MOMENT))
        price = await steps.do(ctx, "price")
        await nap
        await steps.do(ctx, "third", undone=True)
        return await steps.do(ctx, "last", fails=-1 if price == "edited" else 0)

    return body


async def run_and_fork(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """A fork with another result fails, and undoes what it ran itself, and nothing else."""
    await run(engine, definition, journal)
    store = engine._settings.store
    # By a client: an engine would run the function first, to see whether it goes on with that.
    await Client(store).fork(EXECUTION, before="third", edit={"price": "edited"}, new_id=FORK)
    with suppress(WorkflowFailedError):
        await engine.handle(FORK).result()
    acts = [one.act for name in (EXECUTION, FORK) for one in await store.load_audit_log(name)]
    assert acts == ["fork", "fork"], "once, in all processes"
    record = await store.load_execution(FORK)
    assert record is not None
    assert (record.forked_from, record.status) == (EXECUTION, "FAILED")
    copied = {
        one.step_name
        for one in await store.load_checkpoints(FORK)
        if who_ran(one.input_data) == EXECUTION
    }
    assert copied == {"first", "second", "price"}


def cannot_pay(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="cannot pay")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "first")
        await steps.do(ctx, "pay", fails=-1, undone=True)
        await steps.do(ctx, "ship", fails=-1)

    return body


async def resolve_and_fail_later(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """A step that failed has returned, as a person says, and is undone with that in the end."""
    await run(engine, definition, journal)
    if "resolved" not in journal.lines:
        journal.note(f"{MENDING}pay")
        with suppress(DurableWorkflowError):  # a process that did not get to note it has done it
            await engine.resolve(EXECUTION, "pay", "pay")
        journal.note("resolved")
    await run(engine, definition, journal)


def quiet(_: Journal) -> WorkflowDefinition[..., Any]:
    @workflow(name="quiet")
    async def body(ctx: WorkflowContext) -> int:
        return sum([await ctx.step(f"step {number}", lambda: 1) for number in range(4)])

    return body


async def cancel_and_rerun(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], _: Journal
) -> None:
    """It is cancelled before it has begun, and rerun: both once, in all processes."""
    await engine.enqueue(definition, execution_id=EXECUTION, delay=timedelta(days=1))
    with suppress(ExecutionFinishedError):  # an earlier process has done it
        await engine.cancel(EXECUTION)
    handle = await engine.rerun(EXECUTION, new_id="two")
    assert await handle.result() == 4
    store = engine._settings.store
    acts = [
        (one.act, one.details)
        for name in (EXECUTION, "two")
        for one in await store.load_audit_log(name)
    ]
    assert acts == [
        ("cancel", '{"ended":"at once"}'),
        ("rerun", '{"as":"two"}'),
        ("rerun", f'{{"of":"{EXECUTION}"}}'),
    ]


def signals(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="signals")
    async def body(ctx: WorkflowContext) -> list[int]:
        await steps.do(ctx, "first")
        got = [await ctx.wait_signal("go", timeout=timedelta(days=1), type=int)]
        await steps.do(ctx, "second")
        got.append(await ctx.wait_signal("go", type=int))
        got.append(await ctx.wait_signal("go", type=int))
        await steps.do(ctx, "last")
        return got

    return body


async def send_signals(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """One signal before the wait, one while it is going on, and two more than are waited for."""
    handle = await engine.start(definition, execution_id=EXECUTION)
    ending = asyncio.create_task(handle.result())
    for number in range(5):
        # Sent once in all processes, unless a process ends between the sending and the note of it.
        if f"sent {number}" in journal.lines:
            continue
        if number in (1, 2):
            await asyncio.sleep(0.01)
        try:
            await handle.signal("go", number)
        except DurableWorkflowError:
            break  # it has finished without
        journal.note(f"sent {number}")
    got = await ending
    assert len(got) == 3
    assert got == sorted(got), got


async def send_with_keys(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], _: Journal
) -> None:
    """Every process sends all of them, two at once: each is there once, in their order."""
    handle = await engine.start(definition, execution_id=EXECUTION)
    ending = asyncio.create_task(handle.result())
    for number in range(3):
        # By then the execution may have ended; that it was sent is known all the same.
        sent = await asyncio.gather(
            *(handle.signal("go", number, key=f"mail-{number}") for _ in range(2))
        )
        assert SignalResult.DUPLICATE in sent
        await asyncio.sleep(0.005)
    assert await ending == [0, 1, 2]
    assert len(await engine._settings.store.load_signals(EXECUTION)) == 3


async def begin_with_signals(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], _: Journal
) -> None:
    """What it waits for is stored with it, in one transaction, and once."""
    sent = [NewSignal("go", 0, key="mail-0"), NewSignal("go", 1), NewSignal("go", 2)]
    assert await engine.run(definition, execution_id=EXECUTION, signals=sent) == [0, 1, 2]
    assert len(await engine._settings.store.load_signals(EXECUTION)) == 3


async def begin_by_a_signal(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], _: Journal
) -> None:
    """Every process sends all of them: the first one starts it."""
    for number in range(3):
        handle, _sent = await engine.signal_or_start(
            definition, execution_id=EXECUTION, signal=NewSignal("go", number, key=f"mail-{number}")
        )
        await asyncio.sleep(0.002)
    assert await handle.result() == [0, 1, 2]
    assert len(await engine._settings.store.load_signals(EXECUTION)) == 3


def first_of_several(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="first of several")
    async def body(ctx: WorkflowContext) -> list[object]:
        red, blue = ctx.signal("red", type=int), ctx.signal("blue", type=int)
        got: list[object] = []
        for number in range(4):
            soon = ctx.timer(f"soon {number}", A_MOMENT if number == 1 else timedelta(days=1))
            first = await ctx.wait_any(red, soon, blue)
            got.append("soon" if first is soon else (red if first is red else blue).value)
            await steps.do(ctx, f"after {number}")
        return got

    return body


async def send_first_of_several(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """One comes after the other: each is taken once, by the wait that was open."""
    handle = await engine.start(definition, execution_id=EXECUTION)
    ending = asyncio.create_task(handle.result())
    await handle.signal("blue", 0, key="mail-0")
    await until(lambda: ending.done() or "run after 1" in journal.lines)  # the timer came
    await handle.signal("red", 1, key="mail-1")
    await handle.signal("blue", 2, key="mail-2")
    assert await ending == [0, "soon", 1, 2]


def first_of_a_child(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="first of a child")
    async def body(ctx: WorkflowContext, is_child: bool = False) -> list[int]:
        if is_child:
            return [await ctx.wait_signal("end", type=int)]
        await steps.do(ctx, "first")
        child: Any = await ctx.start_child("kid", body, True)
        news = ctx.signal("news", type=int)
        got: list[int] = []
        while await ctx.wait_any(news, child) is news:
            got.append(news.value)
            await steps.do(ctx, f"news {news.value}")
        return got + await child.result()

    return body


async def end_the_child(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """The parent waits for news, and for the end of its child."""
    handle = await engine.start(definition, execution_id=EXECUTION)
    ending = asyncio.create_task(handle.result())
    for number in range(2):
        await handle.signal("news", number, key=f"mail-{number}")
    await until(lambda: ending.done() or "run news 1" in journal.lines)
    await engine.send_signal(f"{EXECUTION}/kid-1", "end", 7, key="end")
    assert await ending == [0, 1, 7]


async def send_misfits(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """Before each signal one that no wait can read: it takes no other's place."""
    handle = await engine.start(definition, execution_id=EXECUTION)
    ending = asyncio.create_task(handle.result())
    for payload in ("kim", 0, "lee", 1, None, 2, "ray"):
        if f"sent {payload}" in journal.lines:
            continue
        try:
            await handle.signal("go", payload)
        except SerializationError:
            assert not isinstance(payload, int)  # the wait was open already
        except DurableWorkflowError:
            break  # it has finished without
        journal.note(f"sent {payload}")
    got = await ending
    assert len(got) == 3
    assert got == sorted(got), got


def questions(journal: Journal) -> WorkflowDefinition[..., Any]:
    """One after the other, two beside each other, and two whose deadlines come at once."""
    steps = Steps(journal)

    @workflow(name="questions")
    async def body(ctx: WorkflowContext) -> list[int]:
        got = [await ctx.ask("first", "How many?", type=int, to="ops")]
        await steps.do(ctx, "between")

        async def beside(key: str) -> int:
            return await ctx.branch(key).ask("same", f"How many in {key}?", type=int)

        got += await asyncio.gather(beside("left"), beside("right"))
        again = Escalation("boss", A_MOMENT, -1)
        got.append(await ctx.ask("silence", "?", type=int, deadline=A_MOMENT, overdue=again))
        got.append(await ctx.ask("race", "?", type=int, deadline=3 * A_MOMENT, overdue=-2))
        await steps.do(ctx, "last")
        return got

    return body


async def answer_what_is_asked(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """Some answers do not fit. Each that was stored is the one that the workflow has got."""
    handle = await engine.start(definition, execution_id=EXECUTION)
    store: Any = engine._settings.store
    result = asyncio.ensure_future(handle.result())
    while not result.done():
        for one in await engine.questions(execution_id=EXECUTION):
            if one.is_answered or one.name == "silence":
                continue
            value = journal.note("answering")
            if value % 3 == 0:
                misfit = {"signal_name": one.signal_name, "payload": '"none"'}
                await store.save(WorkflowSignal(workflow_execution_id=EXECUTION, **misfit))
            with suppress(QuestionNotFoundError, QuestionAnsweredError, ExecutionFinishedError):
                await engine.answer(EXECUTION, one.signal_name, value, by=f"person {value}")
                journal.note(f"answered {one.signal_name} {value}")
        await asyncio.sleep(0.002)
    got = await result
    ends = {one.step_name: one for one in await store.load_checkpoints(EXECUTION)}
    asked = [one for name, one in ends.items() if name.startswith("$answer:")]
    assert len(asked) == 6
    for line in journal.lines:
        if line.startswith("answered "):
            _, name, value = line.split()
            assert ends[name].output_data == value, f"{line}, and {ends[name]}"
    signals = await store.load_signals(EXECUTION)
    for one in asked:
        taken = [x for x in signals if (x.signal_name, x.status) == (one.step_name, "DELIVERED")]
        assert [x.payload for x in taken] == ([one.output_data] if one.output_data else []), one
    order = sorted(asked, key=lambda one: (one.branch != "", one.step_index, one.branch))
    told = {one.step_name: int(one.output_data or 0) for one in order}
    first, silence, boss, race = (told[one.step_name] for one in order if not one.branch)
    left, right = (told[one.step_name] for one in order if one.branch)
    assert (silence, boss) == (0, 0)
    assert got == [first, left, right, -1, race or -2], f"{got} is not of {told}"
    acts = [one for one in await store.load_audit_log(EXECUTION) if one.act == "answer"]
    by = [one.actor for one in acts]
    assert len(by) == len(set(by)), f"an answer is in the audit log twice: {by}"
    delivered = [x for x in signals if x.status == "DELIVERED" and x.signal_key is not None]
    assert len(by) >= len(delivered)


def signal_timeout(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="signal timeout")
    async def body(ctx: WorkflowContext) -> str:
        await steps.do(ctx, "first")
        try:
            await ctx.wait_signal("go", timeout=A_MOMENT)
        except SignalTimeoutError:
            await steps.do(ctx, "too late")
        return str(await ctx.wait_signal("go"))

    return body


async def send_late(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    handle = await engine.start(definition, execution_id=EXECUTION)
    ending = asyncio.create_task(handle.result())
    await until(lambda: "run too late" in journal.lines)
    if "sent" not in journal.lines:
        with suppress(DurableWorkflowError):  # sent in a process that did not get to note it
            await handle.signal("go", "late")
        journal.note("sent")
    assert await ending == "late"


def long_work(journal: Journal) -> WorkflowDefinition[..., Any]:
    steps = Steps(journal)

    @workflow(name="long work")
    async def body(ctx: WorkflowContext) -> None:
        await steps.do(ctx, "first", undone=True)
        await steps.do(ctx, "second", undone=True)
        journal.note("sleeping")
        await ctx.sleep("nap", A_MOMENT * 2)
        journal.note("backing off")
        await steps.do(
            ctx,
            "flaky",
            fails=1,
            undone=True,
            retry=RetryPolicy.fixed(max_attempts=9, delay=A_MOMENT * 2),
        )
        journal.note("waiting")
        await ctx.wait_signal("never", timeout=timedelta(days=1))

    return body


def cancel_at(
    line: str,
    make: Callable[[Journal], WorkflowDefinition[..., Any]] = long_work,
    engine: Mapping[str, Any] | None = None,
) -> Scenario:
    """Cancel the execution once the journal has a line, in whichever process that is."""

    async def drive(
        engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
    ) -> None:
        handle = await engine.start(definition, execution_id=EXECUTION)
        ending = asyncio.create_task(handle.result())
        await until(lambda: line in journal.lines or ending.done())
        with suppress(ExecutionFinishedError):
            await handle.cancel()
        try:
            await ending
        except DurableWorkflowError:
            if not (await engine.load(EXECUTION)).status.is_terminal:
                raise

    name = f"cancelled at: {line}" + (f", with {dict(engine)}" if engine else "")
    return Scenario(name, make, drive, ("CANCELLED",), engine=engine or {})


async def pause_again_and_again(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """It is paused and resumed, whatever it is at; so is what an earlier process had paused."""
    await engine.start(definition, execution_id=EXECUTION)
    await _pause_three_times(
        engine,
        journal,
        pause=lambda: engine.pause(EXECUTION, reason="why"),
        resume=lambda: engine.resume(EXECUTION),
    )
    await run(engine, definition, journal)


async def pause_its_queue_again_and_again(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """As `pause_again_and_again`: its queue is paused, or everything is."""
    await engine.declare(Queue("mail", concurrency=1))
    handle = await engine.enqueue(definition, execution_id=EXECUTION, queue="mail")

    async def resume() -> None:
        await engine.resume_queue("mail")
        await engine.resume_all()

    await _pause_three_times(engine, journal, lambda: engine.pause_queue("mail"), resume)
    await _pause_three_times(engine, journal, engine.pause_all, resume)
    await resume()
    with suppress(DurableWorkflowError):
        await handle.result()
    assert (await engine.load(EXECUTION)).status.is_terminal


async def _pause_three_times(
    engine: DurableEngine,
    journal: Journal,
    pause: Callable[[], Awaitable[object]],
    resume: Callable[[], Awaitable[object]],
) -> None:
    def begun() -> int:
        return sum(line.partition(" ")[0] in ("run", "undo") for line in journal.lines)

    async def has_ended() -> bool:
        return (await engine.load(EXECUTION)).status.is_terminal

    async def is_released() -> bool:
        store: Any = engine._working().store
        (claims,) = await store.read(
            lambda one: one.execute(
                f"select count(*) from {getattr(one, 'store_schema', 'main')}.workflow_claims"
            ).fetchone()
        )
        return not claims and EXECUTION not in engine._working().executions

    for _ in range(3):
        try:
            await pause()
        except ExecutionFinishedError:
            break
        await until(is_released)
        if await has_ended():
            break
        journal.note(PAUSED)
        await asyncio.sleep(0.01)
        before = begun()
        journal.note(RESUMING)
        await resume()
        while begun() == before and not await has_ended():
            await asyncio.sleep(0.001)


async def run_for_a_moment(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    handle = await engine.start(definition, execution_id=EXECUTION, ttl=timedelta(milliseconds=25))
    try:
        await handle.result()
    except DurableWorkflowError:
        if not (await engine.load(EXECUTION)).status.is_terminal:
            raise


SCENARIOS = [
    Scenario("ten steps", ten_steps, run),
    Scenario("steps that only read", reads, run),
    Scenario("rows of one's own", own_rows, run),
    Scenario("rows of one's own, undone", partial(own_rows, fails=True), run, ("FAILED",)),
    Scenario("retries", retries, run),
    Scenario("retries, encrypted", retries, run, codec=CODEC),
    Scenario("a saga, encrypted", saga, run, ("FAILED",), codec=CODEC),
    Scenario("signals, encrypted", signals, send_with_keys, codec=CODEC),
    Scenario("errors that are no exceptions", panics, run, ("FAILED",)),
    Scenario("saga with a failing compensation", saga, run, ("FAILED",)),
    Scenario("paused and resumed", saga, pause_again_and_again, ("FAILED",)),
    Scenario(
        "paused with its queue, and resumed", saga, pause_its_queue_again_and_again, ("FAILED",)
    ),
    Scenario("a compensation that is retried", saga, run_and_retry, ("FAILED",)),
    Scenario("results of two classes", typed, run, ("FAILED",)),
    Scenario("actions in threads", threads, run, ("FAILED",)),
    Scenario("nested branches", branches, run),
    Scenario("branches that fail", branches_that_fail, run, ("FAILED",)),
    Scenario("plain asyncio", plain_asyncio, run),
    Scenario("a task group that fails", a_task_group_that_fails, run, ("FAILED",)),
    Scenario("left behind by a failure", left_behind_by_a_failure, run, ("FAILED",)),
    Scenario("timeouts", timeouts, run, ("FAILED",)),
    Scenario("timeouts in threads", timeouts_in_threads, run, ("FAILED",)),
    Scenario("timeouts, no grace", timeouts_in_threads, run, ("FAILED",), engine=NO_GRACE),
    Scenario("its own CancelledError", ends_with_its_own_cancelled_error, run, ("FAILED",)),
    Scenario("stopped by a mistake", stopped_by_a_mistake, mend_and_go_on),
    Scenario("sleeps", sleeps, run),
    Scenario("parked in sleeps", sleeps, run, engine=PARKS_AT_ONCE),
    Scenario("under limits", limited, in_a_queue_of_one),
    Scenario("under limits, parked", limited, in_a_queue_of_one, engine=PARKS_AT_ONCE),
    Scenario("signals", signals, send_signals),
    Scenario("signals with keys", signals, send_with_keys),
    Scenario("first of several", first_of_several, send_first_of_several),
    Scenario(
        "first of several, parked", first_of_several, send_first_of_several, engine=PARKS_AT_ONCE
    ),
    Scenario("first of a child", first_of_a_child, end_the_child),
    Scenario("first of a child, parked", first_of_a_child, end_the_child, engine=PARKS_AT_ONCE),
    Scenario("begun with signals", signals, begin_with_signals),
    Scenario("begun by a signal", signals, begin_by_a_signal),
    Scenario("parked between signals", signals, send_signals, engine=PARKS_AT_ONCE),
    Scenario("refused signals", signals, send_misfits),
    Scenario("signal timeout", signal_timeout, send_late),
    Scenario("questions", questions, answer_what_is_asked),
    Scenario("questions, parked", questions, answer_what_is_asked, engine=PARKS_AT_ONCE),
    Scenario("time to live", long_work, run_for_a_moment, ("FAILED",)),
    *(
        cancel_at(line)
        for line in ("run first", "run second", "sleeping", "backing off", "run flaky", "waiting")
    ),
    *(cancel_at(line, threads_side_by_side) for line in ("run one", "run three")),
    cancel_at("looping", stubborn),
    Scenario("actions that wait for a thread", threads, run, ("FAILED",), engine=ONE_THREAD),
    cancel_at("run one", threads_side_by_side, engine=ONE_THREAD),
    Scenario("back-offs of hours that are cut short", patient, run_without_patience, ("FAILED",)),
    Scenario("back-offs that let others pass", patient, let_others_pass, ("FAILED",)),
    Scenario(
        "a step that is resolved in its back-off", patient, run_and_resolve_a_pause, ("FAILED",)
    ),
    give_at_the_end("give up", "FAILED"),
    give_at_the_end("cancel", "CANCELLED"),
    Scenario("again from a step", fails_at_last, run_again_from_a_step),
    Scenario("again with another result", fails_at_last, run_again_with_another_result),
    Scenario("edited where it failed", cannot_pay, edit_and_fail_later, ("FAILED",)),
    Scenario("forked", forked, run_and_fork, forks={FORK: "FAILED"}),
    Scenario("a step that is resolved", cannot_pay, resolve_and_fail_later, ("FAILED",)),
    Scenario("cancelled at once, and rerun", quiet, cancel_and_rerun, ("CANCELLED",)),
    Scenario("patched", patched, run),
    Scenario("streamed", streamed, run_and_follow),
    *DOUBTS,
]
