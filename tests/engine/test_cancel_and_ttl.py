"""Cancelling, and running out of time: at the next await, whatever the execution is at."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionFinishedError,
    ExecutionHandle,
    ExecutionNotFoundError,
    ExecutionStatus,
    RetryPolicy,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowExecution,
    WorkflowExpiredError,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, an_engine, die, run_until_killed, until

DAY = timedelta(days=1)


def fail() -> None:
    raise ConnectionError("not now")


async def run_action(ctx: WorkflowContext) -> None:
    await ctx.step("long", asyncio.sleep, 3600, on_cancel="stop")


async def sleep(ctx: WorkflowContext) -> None:
    await ctx.sleep("long", DAY)


async def wait(ctx: WorkflowContext) -> None:
    await ctx.wait_signal("long", timeout=DAY)


async def back_off(ctx: WorkflowContext) -> None:
    await ctx.step("long", fail, retry=RetryPolicy.fixed(max_attempts=2, delay=DAY))


async def do_several_things(ctx: WorkflowContext) -> None:
    await asyncio.gather(*(do(ctx.branch(do.__name__)) for do in PASTIMES))


PASTIMES: list[Callable[[WorkflowContext], Awaitable[None]]] = [run_action, sleep, wait, back_off]
ALL_PASTIMES = [*PASTIMES, do_several_things]


def make_workflow(pastime: Callable[[WorkflowContext], Awaitable[None]], journal: Journal):
    @workflow(name="pastime")
    async def pass_time(ctx: WorkflowContext) -> None:
        await ctx.step("book", journal.note, "booked", compensate=lambda _: journal.note("undone"))
        try:
            await pastime(ctx)
        finally:
            journal.note("left")

    return pass_time


async def at_its_pastime(store: SqliteCheckpointStore) -> None:
    """Return when the execution "one" has begun what it passes its time with."""
    async with asyncio.timeout(30):
        while not any(c.step_name == "long" for c in await store.load_checkpoints("one")):
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)


@pytest.mark.parametrize("pastime", ALL_PASTIMES, ids=lambda do: do.__name__)
async def test_cancelling_interrupts_and_undoes_whatever_it_is_at(
    pastime: Callable[[WorkflowContext], Awaitable[None]], journal: Journal
) -> None:
    pass_time = make_workflow(pastime, journal)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(pass_time, execution_id="one")
        await at_its_pastime(store)
        began = time.monotonic()
        assert await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        assert time.monotonic() - began < 60  # and not an hour
        assert await handle.status() is ExecutionStatus.CANCELLED
        assert not await store.load_pending_timers()
        assert not await store.load_pending_signals("one")
    assert journal.lines == ["booked", "left", "undone"]


@pytest.mark.parametrize("pastime", ALL_PASTIMES, ids=lambda do: do.__name__)
async def test_a_time_to_live_is_watched_while_it_runs(
    pastime: Callable[[WorkflowContext], Awaitable[None]], journal: Journal
) -> None:
    pass_time = make_workflow(pastime, journal)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowExpiredError):
            await engine.run(pass_time, execution_id="one", ttl=timedelta(seconds=1.0))
        record = await loaded(store, "one")
        assert record.status is ExecutionStatus.FAILED
        assert not await store.load_pending_timers()
    assert journal.lines == ["booked", "left", "undone"]


@pytest.mark.parametrize("pastime", ALL_PASTIMES, ids=lambda do: do.__name__)
def test_a_cancel_that_comes_while_nobody_works_on_it_is_heeded_on_recovery(
    pastime: Callable[[WorkflowContext], Awaitable[None]], file: Path, journal: Journal
) -> None:
    pass_time = make_workflow(pastime, journal)

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(pass_time, execution_id="one")
            await at_its_pastime(store)
            die()

    async def second_process() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store) as stranger:
                assert await stranger.cancel("one")
                assert not await stranger.cancel("one")
                assert not (await stranger.load("one")).status.is_terminal
            async with DurableEngine(store, workflows=[pass_time]) as engine:
                with pytest.raises(WorkflowCancelledError):
                    await engine.handle("one").result()

    run_until_killed(first_process)
    asyncio.run(second_process())
    # The body is replayed to learn how to undo, and stops where its records end.
    assert [line for line in journal.lines if line != "left"] == ["booked", "undone"]


@pytest.mark.parametrize("pastime", ALL_PASTIMES, ids=lambda do: do.__name__)
def test_a_time_to_live_that_ran_out_while_nobody_was_there_is_noticed_on_recovery(
    pastime: Callable[[WorkflowContext], Awaitable[None]], file: Path, journal: Journal
) -> None:
    pass_time = make_workflow(pastime, journal)

    async def first_process() -> None:
        async with an_engine(file, clock=ManualClock()) as (store, engine):
            await engine.start(pass_time, execution_id="one", ttl=timedelta(hours=1))
            await at_its_pastime(store)
            die()

    async def second_process() -> None:
        later = ManualClock()
        later.set(later.now() + timedelta(hours=2))
        async with an_engine(file, workflows=[], clock=later) as (_, engine):
            assert not (await engine.load("one")).status.is_terminal
        async with SqliteCheckpointStore.file(file) as store:
            engine = DurableEngine(store, workflows=[pass_time], clock=later)
            try:
                assert (await engine.open()).expired == ("one",)
                with pytest.raises(WorkflowExpiredError):
                    await engine.handle("one").result()
            finally:
                await engine.dispose()

    run_until_killed(first_process)
    asyncio.run(second_process())
    assert [line for line in journal.lines if line != "left"] == ["booked", "undone"]


def test_a_replay_cancels_the_function_where_it_was_cancelled(file: Path, journal: Journal) -> None:
    """What its step brought while the execution was undone has reached nobody, in no process."""
    may_undo = asyncio.Event()

    async def slow(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return name

    async def undo(name: str) -> None:
        if not may_undo.is_set():
            die()
        journal.note(f"undo {name}")

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("first", slow, "first", 0, compensate=undo)
        journal.note("begin")
        try:
            await ctx.step("second", slow, "second", 0.2, compensate=undo)
            journal.note("result")
        except asyncio.CancelledError:
            journal.note("cancelled")
            raise

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(order, execution_id="one")
            while "begin" not in journal.lines:
                await asyncio.sleep(0.005)
            await handle.cancel()
            await handle.result()

    async def second_process() -> None:
        may_undo.set()
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[order]) as engine,
        ):
            record = await store.load_execution("one")
            outcomes = [one.event for one in await store.load_checkpoints("one") if one.event]
            assert record is not None
            assert record.last_event == outcomes[-1] - 1
            with pytest.raises(WorkflowCancelledError):
                await engine.handle("one").result()

    run_until_killed(first_process)
    asyncio.run(second_process())
    assert journal.lines == [
        "begin",
        "cancelled",
        "begin",
        "cancelled",
        "undo second",
        "undo first",
    ]


async def test_an_execution_that_was_not_yet_started_is_cancelled_without_running(
    file: Path,
) -> None:
    runs: list[str] = []

    @workflow
    async def never(ctx: WorkflowContext) -> None:
        await ctx.step("run", runs.append, "ran")

    async with SqliteCheckpointStore.file(file) as store:
        await store.save(
            never.record,
            WorkflowExecution(workflow_execution_id="one", workflow_id=never.record.workflow_id),
        )
        async with DurableEngine(store) as stranger:
            assert await stranger.handle("one").status() is ExecutionStatus.PENDING
            assert await stranger.cancel("one")
        async with DurableEngine(store, workflows=[never]) as engine:
            with pytest.raises(WorkflowCancelledError):
                await engine.handle("one").result()
        assert await store.load_checkpoints("one") == []
    assert runs == []


async def test_cancelling_twice_or_too_late_is_harmless_and_says_so() -> None:
    @workflow
    async def waiter(ctx: WorkflowContext) -> str:
        return str(await ctx.wait_signal("go"))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(waiter, execution_id="one")
        answers = await asyncio.gather(handle.cancel(), handle.cancel())
        assert sorted(map(bool, answers)) == [False, True]
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        before = await engine.load("one")
        with pytest.raises(ExecutionFinishedError):
            await handle.cancel()
        done = await engine.start(waiter, execution_id="two")
        await done.signal("go", "gone")
        assert await done.result() == "gone"
        completed = await engine.load("two")
        assert completed.status is ExecutionStatus.COMPLETED
        with pytest.raises(ExecutionFinishedError):
            await done.cancel()
        assert await engine.load("two") == completed
        assert await engine.load("one") == before
        with pytest.raises(ExecutionNotFoundError):
            await engine.cancel("three")


async def test_a_cancel_while_it_is_failing_changes_nothing_about_how_it_ends(
    journal: Journal,
) -> None:
    async def undo(_: object) -> None:
        journal.note("undoing")
        await asyncio.sleep(0.1)
        journal.note("undone")

    @workflow
    async def failing(ctx: WorkflowContext) -> None:
        await ctx.step("book", int, compensate=undo)
        raise ValueError("on purpose")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(failing, execution_id="one")
        await until(lambda: journal.lines)
        assert not await handle.cancel()
        with pytest.raises(Exception, match="on purpose"):
            await handle.result()
        assert await handle.status() is ExecutionStatus.FAILED
    assert journal.lines == ["undoing", "undone"]


async def test_a_sync_action_is_waited_for_and_then_undone(journal: Journal) -> None:
    def act() -> str:
        journal.note("acting")
        time.sleep(0.2)
        return "acted"

    @workflow
    async def book(ctx: WorkflowContext) -> None:
        await ctx.step("act", act, compensate=journal.note)
        journal.note("went on")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(book, execution_id="one")
        await until(lambda: journal.lines)
        assert await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        statuses = [c.status for c in await store.load_checkpoints("one")]
        assert statuses == [StepStatus.COMPENSATED, StepStatus.COMPLETED]
    assert journal.lines == ["acting", "acted"]


async def test_a_body_that_swallows_the_cancellation_is_cancelled_all_the_same(
    journal: Journal,
) -> None:
    @workflow
    async def stubborn(ctx: WorkflowContext) -> str:
        try:
            await ctx.sleep("long", DAY)
        except asyncio.CancelledError:
            journal.note("swallowed")
        try:
            await ctx.step("more", journal.note, "more")
        except asyncio.CancelledError:
            journal.note("again")
        return "done"

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(stubborn, execution_id="one")
        await asyncio.sleep(0.05)
        assert await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
    assert journal.lines == ["swallowed", "again"]


async def test_a_cancel_written_with_plain_sql_is_heeded(file: Path) -> None:
    @workflow
    async def waiter(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("never")

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(waiter, execution_id="one")
        await asyncio.sleep(0.05)
        with closing(sqlite3.connect(file)) as dba, dba:
            dba.execute(
                "insert into workflow_signals (workflow_execution_id, signal_name)"
                " values ('one', '$cancel')"
            )
        with pytest.raises(WorkflowCancelledError):
            await asyncio.wait_for(handle.result(), 30)


async def test_an_execution_cancelled_by_another_engine_is_cancelled_where_it_runs(
    file: Path,
) -> None:
    @workflow
    async def waiter(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("never")

    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other_store,
        DurableEngine(store) as engine,
        DurableEngine(other_store) as other,
    ):
        handle: ExecutionHandle[None] = await engine.start(waiter, execution_id="one")
        assert await other.cancel("one")
        with pytest.raises(WorkflowCancelledError):
            await asyncio.wait_for(handle.result(), 30)
        with pytest.raises(WorkflowCancelledError):
            await asyncio.wait_for(other.handle("one").result(), 30)


async def test_a_time_to_live_does_not_harm_one_that_finishes_in_time() -> None:
    @workflow
    async def quick(ctx: WorkflowContext) -> str:
        return await ctx.step("name", lambda: "quick")

    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
    ):
        ttl = timedelta(seconds=1.5)
        assert await engine.run(quick, execution_id="one", ttl=ttl) == "quick"
        await clock.advance(ttl * 2)
        assert (await engine.load("one")).status is ExecutionStatus.COMPLETED


def test_what_a_cancel_says_is_what_happens() -> None:
    async def act() -> None:
        await asyncio.sleep(0)

    @workflow
    async def short(ctx: WorkflowContext) -> None:
        for _ in range(3):
            await ctx.step("act", act)

    async def cancel_after(engine: DurableEngine, turns: int) -> tuple[bool, bool]:
        handle = await engine.start(short)
        for _ in range(turns):
            await asyncio.sleep(0)
        said = False
        with suppress(ExecutionFinishedError):
            said = bool(await handle.cancel())
        try:
            await handle.result()
        except WorkflowCancelledError:
            return said, True
        return said, False

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            for _ in range(10):
                outcomes = await asyncio.gather(
                    *(cancel_after(engine, turns) for turns in range(40))
                )
                assert all(said == cancelled for said, cancelled in outcomes)
                assert outcomes[0] == (True, True), "it had not run yet"

    asyncio.run(main())


async def test_a_sync_action_is_waited_for_recorded_and_undone_beside_others(
    journal: Journal,
) -> None:
    begun = threading.Event()

    def charge() -> int:
        begun.set()
        time.sleep(0.3)
        journal.note("charged")
        return 1

    async def hang() -> None:
        await asyncio.sleep(60)

    @workflow
    async def both(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            ctx.step("hang", hang, on_cancel="stop"),
            ctx.step("charge", charge, compensate=lambda _: journal.note("refunded")),
        )

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(both, execution_id="one")
        await asyncio.to_thread(begun.wait, 10)
        assert await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        assert journal.lines == ["charged", "refunded"]
        statuses = {
            (one.step_name, one.attempt): one.status for one in await store.load_checkpoints("one")
        }
        assert statuses["charge", 1] is StepStatus.COMPLETED
        assert statuses["charge:compensate", 0] is StepStatus.COMPENSATED


async def test_a_sync_action_is_waited_for_though_cancelled_and_stopped_at_once(
    file: Path, journal: Journal
) -> None:
    begun = threading.Event()

    def charge() -> int:
        begun.set()
        time.sleep(0.4)
        journal.note("charged")
        return 1

    @workflow
    async def one_step(ctx: WorkflowContext) -> None:
        await ctx.step("charge", charge, compensate=lambda _: journal.note("refunded"))

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            handle = await engine.start(one_step, execution_id="one")
            await asyncio.to_thread(begun.wait, 10)
            assert await handle.cancel()
        (step,) = await store.load_checkpoints("one")
        assert step.status is StepStatus.COMPLETED
        async with DurableEngine(store, [one_step]) as engine:
            with pytest.raises(WorkflowCancelledError):
                await engine.handle("one").result()
        assert journal.lines == ["charged", "refunded"]
