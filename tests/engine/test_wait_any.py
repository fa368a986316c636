"""`ctx.wait_any`: the first of several signals, timers and children, and only that one."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    ChildFailedError,
    DurableEngine,
    ExecutionStatus,
    NewSignal,
    SignalStatus,
    SqliteCheckpointStore,
    StepNotAwaitedError,
    StepStatus,
    TimerStatus,
    WorkflowCodeError,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock, Sandbox
from tests.processes import (
    Harm,
    HarmedConnection,
    Journal,
    an_engine,
    open_harmed,
    run_process,
    until,
)

DAY = timedelta(days=1)


@dataclasses.dataclass
class Approval:
    by: str


@workflow
async def decide(ctx: WorkflowContext, ends: bool = True) -> list[str]:
    """Waits three times for the first of three, or until nobody decided; then for what is left."""
    came: list[str] = []
    for turn in range(3):
        approved = ctx.signal("approved", type=Approval)
        rejected = ctx.signal("rejected", type=str)
        deadline = ctx.timer(f"deadline {turn}", DAY)
        first = await ctx.wait_any(approved, rejected, deadline)
        if first is approved:
            came.append(f"approved by {approved.value.by}")
        elif first is rejected:
            came.append(f"rejected: {rejected.value}")
        else:
            assert first is deadline
            came.append("nobody")
    return came


async def states(store: SqliteCheckpointStore) -> dict[str, list[str]]:
    signals = await store.load_signals("one")
    return {
        name: [one.status.value for one in signals if one.signal_name == name]
        for name in ("approved", "rejected")
    }


async def test_the_first_is_taken_and_the_others_stay() -> None:
    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(decide, execution_id="one")
        await until(lambda: store.load_open_waits("one", "rejected"))
        await handle.signal("rejected", "too late")
        await until(lambda: store.load_open_waits("one", "rejected"))
        await clock.advance(DAY)
        await until(lambda: store.load_open_waits("one", "approved"))
        await handle.signal("approved", {"by": "kim"})
        assert await handle.result() == ["rejected: too late", "nobody", "approved by kim"]
        timers = [one.status for one in await store.load_timers("one")]
        assert sorted(timers) == sorted(
            [TimerStatus.CANCELLED, TimerStatus.FIRED, TimerStatus.CANCELLED]
        )
        waits = await store.load_checkpoints("one")
        assert [one.status for one in waits].count(StepStatus.COMPLETED) == 3
        assert len(waits) == 9
        assert not [one for one in waits if one.status is StepStatus.INTENT]


async def test_of_what_is_there_already_one_is_taken_in_order_of_arrival() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        signals = [
            NewSignal("rejected", "a"),
            NewSignal("approved", {"by": "b"}),
            NewSignal("rejected", "c"),
            NewSignal("approved", {"by": "d"}),
        ]
        handle = await engine.start(decide, execution_id="one", signals=signals)
        assert await handle.result() == ["rejected: a", "approved by b", "rejected: c"]
        assert await states(store) == {
            "approved": ["DELIVERED", "EXPIRED"],
            "rejected": ["DELIVERED", "DELIVERED"],
        }
        # Nothing else was written down: what was given up had not begun.
        assert [one.kind for one in await store.load_checkpoints("one")] == ["SIGNAL"] * 3
        assert await store.load_timers("one") == []


async def test_one_name_may_be_waited_for_as_several_types() -> None:
    @workflow
    async def typed(ctx: WorkflowContext) -> list[Any]:
        came: list[Any] = []
        number, text = ctx.signal("go", type=int), ctx.signal("go", type=str)
        for _ in range(2):
            first = await ctx.wait_any(number, text)
            came.append(number.value if first is number else text.value)
        return came

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(typed, execution_id="one")
        await until(lambda: store.load_open_waits("one", "go"))
        for payload in ("seven", 7):
            await handle.signal("go", payload)
        assert await handle.result() == ["seven", 7]


async def test_an_end_that_is_a_time_is_the_same_in_each_call() -> None:
    clock = ManualClock()
    end = datetime(2030, 1, 2, tzinfo=UTC)
    clock.set(end - timedelta(hours=3))

    @workflow
    async def collect(ctx: WorkflowContext) -> list[int]:
        came: list[int] = []
        item, closed = ctx.signal("item", type=int), ctx.timer("closed", end)
        while await ctx.wait_any(item, closed) is item:
            came.append(item.value)
        return came

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(collect, execution_id="one")
        for number in range(2):
            await until(lambda: store.load_open_waits("one", "item"))
            await handle.signal("item", number)
            await clock.advance(timedelta(hours=1))
        await clock.advance(timedelta(hours=1))
        assert await handle.result() == [0, 1]


# Children


@workflow
async def child(ctx: WorkflowContext, fails: bool) -> str:
    await ctx.wait_signal("end")
    if fails:
        raise ValueError("on purpose")
    return "done"


@workflow
async def parent(ctx: WorkflowContext, fails: bool) -> list[str]:
    came: list[str] = []
    one = await ctx.start_child("one", child, fails)
    news, tired = ctx.signal("news", type=str), ctx.timer("tired", DAY)
    while (first := await ctx.wait_any(news, one, tired)) is not one:
        came.append(news.value if first is news else "tired")
    try:
        came.append(await one.result())
    except ChildFailedError:
        came.append("failed")
    # Its end is known from now on.
    assert await ctx.wait_any(news, one) is one
    return came


@pytest.mark.parametrize("fails", [False, True])
async def test_a_child_comes_when_it_ends_however_it_ends(fails: bool) -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, workflows=[parent, child]) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(parent, fails, execution_id="p")
        for text in ("first", "second"):
            await until(lambda: store.load_open_waits("p", "news"))
            await handle.signal("news", text)
        await until(lambda: store.load_open_waits("p/one-0", "end"))
        await engine.send_signal("p/one-0", "end")
        assert await handle.result() == ["first", "second", "failed" if fails else "done"]


# What is refused, and what is forgotten


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda ctx: ctx.wait_any(), ValueError, "something to wait for"),
        (lambda ctx: ctx.wait_any("go"), TypeError, r"ctx\.signal"),
        (lambda ctx: ctx.wait_any(*[ctx.signal("go")] * 2), ValueError, "twice"),
        (lambda ctx: ctx.signal(""), ValueError, "name"),
        (lambda ctx: ctx.signal("$cancel"), ValueError, "reserved"),
        (lambda ctx: ctx.timer("t", 7), TypeError, "timedelta"),
        (lambda ctx: ctx.timer("t", -DAY), ValueError, "negative"),
        (lambda ctx: ctx.timer("", DAY), ValueError, "name"),
        (lambda ctx: ctx.timer("t", datetime(2030, 1, 1)), ValueError, "time zone"),  # noqa: DTZ001
        (lambda ctx: ctx.signal("go").value, RuntimeError, "has not returned it"),
    ],
)
async def test_what_cannot_be_waited_for_is_refused_at_the_call(
    call: Callable[[Any], Any], error: type[Exception], words: str
) -> None:
    @workflow
    async def wrong(ctx: WorkflowContext) -> str:
        with pytest.raises(error, match=words):
            call(ctx)
        return "refused"

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(wrong, execution_id="one") == "refused"
        assert await store.load_checkpoints("one") == []


async def test_one_that_is_not_awaited_is_named() -> None:
    @workflow
    async def forgetful(ctx: WorkflowContext) -> None:
        ctx.wait_any(ctx.signal("go"), ctx.timer("deadline", DAY))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(StepNotAwaitedError, match=r"signal 'go'.*sleep 'deadline'.*Write"):
            await engine.run(forgetful)


async def test_a_type_that_cannot_be_stored_is_refused_at_the_call() -> None:
    @workflow
    async def wrong(ctx: WorkflowContext) -> None:
        await ctx.wait_any(ctx.signal("go", type=asyncio.Event))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowCodeError, match="go"):
            await engine.run(wrong, execution_id="one")
        assert await store.load_checkpoints("one") == []


async def test_one_that_is_cancelled_takes_nothing() -> None:
    @workflow
    async def patient(ctx: WorkflowContext) -> object:
        try:
            async with asyncio.timeout(60):
                await ctx.wait_any(ctx.signal("go"), ctx.signal("on"))
        except TimeoutError:
            return await ctx.wait_signal("go")
        return "in time"

    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(patient, execution_id="one")
        await until(lambda: store.load_open_waits("one", "on"))
        await clock.advance(timedelta(seconds=60))
        await handle.signal("go", "late")
        assert await handle.result() == "late"


def test_a_cancel_of_the_execution_ends_it() -> None:
    with Sandbox() as durable:
        execution = durable.start(decide)
        durable.settle()
        assert execution.cancel()
        durable.settle()
        assert execution.status() is ExecutionStatus.CANCELLED


# What it costs


@workflow
async def three(ctx: WorkflowContext, number: int) -> None:
    for _ in range(3):
        if number == 0:
            await ctx.wait_signal("go")
        else:
            names = ["go", *(f"other {one}" for one in range(1, number))]
            await ctx.wait_any(*(ctx.signal(name) for name in names))


@pytest.mark.campaign
async def test_it_commits_no_more_often_than_one_wait_and_writes_a_row_for_each_item() -> None:
    async def cost(number: int, *, is_early: bool) -> tuple[int, int]:
        connection = sqlite3.connect(
            ":memory:", isolation_level=None, factory=HarmedConnection, check_same_thread=False
        )
        async with SqliteCheckpointStore(connection) as store, DurableEngine(store) as engine:
            sent = [NewSignal("go")] * 3 if is_early else []
            handle = await engine.start(three, number, execution_id="one", signals=sent)

            async def rests() -> bool:
                return (
                    not await store.load_pending_signals("one")
                    and bool(await store.load_open_waits("one", "go"))
                    and await handle.status() is ExecutionStatus.SUSPENDED
                )

            for _ in range(0 if is_early else 3):
                await until(rests)
                await handle.signal("go")
            await handle.result()
            commits = connection.commits
            rows = len(await store.load_checkpoints("one"))
        connection.close()
        return commits, rows

    for is_early in (True, False):
        alone = await cost(0, is_early=is_early)
        for number in (1, 2, 5):
            commits, rows = await cost(number, is_early=is_early)
            assert commits <= alone[0]
            assert rows == (3 if is_early else 3 * number)


# Over crashes


@pytest.mark.campaign
def test_the_same_ones_come_first_in_each_life(file: Path, journal: Journal) -> None:
    @workflow
    async def waits(ctx: WorkflowContext) -> list[str]:
        came: list[str] = []
        red, blue = ctx.signal("red", type=int), ctx.signal("blue", type=int)
        for number in range(4):
            first = await ctx.wait_any(red, blue, ctx.timer(f"late {number}", DAY))
            assert first is not None
            won = red if first is red else blue
            came.append(f"{won.name} {won.value}")
            await ctx.step(f"note {number}", journal.note, came[-1])
        return came

    sent = [("red", 0), ("blue", 1), ("blue", 2), ("red", 3)]

    def live(harm: Harm | None) -> Callable[[], Any]:
        async def main() -> None:
            async with (
                open_harmed(file, harm) as store,
                DurableEngine(store, workflows=[waits], max_recoveries=1000) as engine,
            ):
                handle = await engine.start(waits, execution_id="one")
                for name, number in sent:
                    await handle.signal(name, number, key=f"mail {number}")
                    await asyncio.sleep(0.002)
                assert await handle.result() == [f"{name} {number}" for name, number in sent]
                signals = await store.load_signals("one")
                assert [one.status for one in signals] == [SignalStatus.DELIVERED] * 4

        return main

    killed = 0
    for commit in range(1, 40):
        # Each life goes on from the one before: it dies a little later in what is left.
        if not run_process(live(Harm(1 + commit % 5, commit % 2 == 0))):
            break
        killed += 1
    else:
        assert not run_process(live(None))
    assert killed > 4
    assert set(journal.lines) == {f"{name} {number}" for name, number in sent}


def test_a_parked_one_wakes_by_each_of_its_signals(file: Path) -> None:
    async def main() -> None:
        async with (
            an_engine(file, workflows=[decide], park_after=timedelta(0)) as (store, engine),
            asyncio.timeout(20),
        ):
            handle = await engine.start(decide, execution_id="one")
            for name, payload in (("rejected", "a"), ("approved", {"by": "b"}), ("rejected", "c")):
                await until(lambda: not engine._executions)
                await handle.signal(name, payload)
                await until(lambda: is_taken(store))
            assert await handle.result() == ["rejected: a", "approved by b", "rejected: c"]

    async def is_taken(store: SqliteCheckpointStore) -> bool:
        return not await store.load_pending_signals("one")

    asyncio.run(main())


def test_a_sandbox_lets_time_pass_until_the_timer_comes() -> None:
    with Sandbox() as durable:
        execution = durable.start(decide)
        durable.signal_at(timedelta(hours=30), "approved", {"by": "kim"})
        assert execution.result() == ["nobody", "approved by kim", "nobody"]
