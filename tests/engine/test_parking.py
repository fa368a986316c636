"""What only waits leaves memory, and comes back when its time or signal comes."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    DurableEngineObserver,
    ExecutionStatus,
    SignalTimeoutError,
    SqliteCheckpointStore,
    TimerStatus,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowExecution,
    WorkflowExpiredError,
    WorkflowGuarantee,
    workflow,
)
from durable_workflow_sqlite.engine.clock import SWEPT_AT_LEAST
from durable_workflow_sqlite.testing import ManualClock
from tests.processes import Journal, an_engine, until, until_over

SOON = timedelta(milliseconds=50)


class Comings(DurableEngineObserver):
    """How often executions were begun and taken up again."""

    def __init__(self) -> None:
        self.started = 0
        self.resumed = 0

    def on_execution_start(self, execution: WorkflowExecution) -> None:
        self.started += 1

    def on_execution_resume(self, execution: WorkflowExecution) -> None:
        self.resumed += 1


@workflow
async def asks(ctx: WorkflowContext) -> str:
    await ctx.step("ask", lambda: None)
    return str(await ctx.wait_signal("answer"))


async def until_parked(engine: DurableEngine, *ids: str) -> None:
    await until(lambda: not any(one in engine._executions for one in ids))


@pytest.mark.parametrize(
    "limits", [{"park_after": SOON}, {"max_resident": 0}], ids=["park_after", "max_resident"]
)
async def test_who_waits_for_the_result_of_a_parked_one_gets_it(
    limits: dict[str, timedelta | int], file: Path
) -> None:
    comings = Comings()

    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, observers=[comings], **limits) as engine,  # type: ignore[arg-type]
    ):
        handle = await engine.start(asks, execution_id="one")
        result = asyncio.ensure_future(handle.result())
        await until_parked(engine, "one")
        assert await handle.status() is ExecutionStatus.SUSPENDED
        assert not result.done()
        await handle.signal("answer", "yes")
        assert await asyncio.wait_for(result, 30) == "yes"
    assert (comings.started, comings.resumed) == (1, 1)


async def test_of_many_that_wait_those_above_the_limit_leave_memory_and_all_come_to_their_end(
    file: Path,
) -> None:
    ids = [str(number) for number in range(60)]

    async with an_engine(file, max_resident=10) as (_, engine):
        handles = [await engine.start(asks, execution_id=one) for one in ids]
        await until(lambda: len(engine._executions) <= 10)
        for handle in handles:
            await handle.signal("answer", handle.execution_id)
        async with asyncio.timeout(20):
            assert await asyncio.gather(*(handle.result() for handle in handles)) == ids


def insert_with_sql(file: Path, execution_id: str, name: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name, payload)"
            " values (?, ?, '\"yes\"')",
            (execution_id, name),
        )


async def send(engine: DurableEngine, file: Path, execution_id: str, name: str) -> None:
    await engine.send_signal(execution_id, name, "yes")


async def insert(engine: DurableEngine, file: Path, execution_id: str, name: str) -> None:
    insert_with_sql(file, execution_id, name)


async def send_from_a_shell(
    engine: DurableEngine, file: Path, execution_id: str, name: str
) -> None:
    command = [sys.executable, "-m", "durable_workflow_sqlite", "signal", str(file), execution_id]
    process = await asyncio.create_subprocess_exec(*command, name, '"yes"')
    assert await process.wait() == 0


Sends = Callable[[DurableEngine, Path, str, str], Awaitable[None]]
WAYS = pytest.mark.parametrize(
    "sends", [send, insert, pytest.param(send_from_a_shell, marks=pytest.mark.campaign)]
)


@WAYS
@pytest.mark.parametrize("comes_first", [True, False], ids=["before it parks", "while parked"])
async def test_a_signal_that_nobody_awaits_does_not_wake_a_parked_one(
    sends: Sends, comes_first: bool, file: Path
) -> None:
    comings = Comings()
    park_after = timedelta(seconds=2) if comes_first else timedelta(0)

    async with an_engine(file, park_after=park_after, observers=[comings]) as (_, engine):
        handle = await engine.start(asks, execution_id="one")
        if not comes_first:
            await until_parked(engine, "one")
        await sends(engine, file, "one", "other")
        assert comes_first or "one" not in engine._executions
        await until_parked(engine, "one")
        await asyncio.sleep(0.5)
        assert "one" not in engine._executions
        assert comings.resumed == 0
        await sends(engine, file, "one", "answer")
        assert await asyncio.wait_for(handle.result(), 30) == "yes"
    assert (comings.started, comings.resumed) == (1, 1)


def test_a_signal_that_nobody_awaits_does_not_wake_one_whose_engine_ended(file: Path) -> None:
    comings = Comings()

    async def begin() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(asks, execution_id="one")
            async with asyncio.timeout(30):
                while await handle.status() is not ExecutionStatus.SUSPENDED:
                    await asyncio.sleep(0.01)
            await handle.signal("other")

    async def go_on() -> None:
        async with an_engine(file, workflows=[asks], observers=[comings]) as (_, engine):
            await asyncio.sleep(0.5)
            assert comings.resumed == 0
            await engine.send_signal("one", "answer", "yes")
            assert await asyncio.wait_for(engine.handle("one").result(), 30) == "yes"

    asyncio.run(begin())
    asyncio.run(go_on())
    assert comings.resumed == 1


async def test_a_signal_that_came_long_before_its_wait_is_received(file: Path) -> None:
    @workflow
    async def asks_twice(ctx: WorkflowContext) -> list[int]:
        return [await ctx.wait_signal("first"), await ctx.wait_signal("second")]

    comings = Comings()

    async with an_engine(file, max_resident=0, observers=[comings]) as (_, engine):
        handle = await engine.start(asks_twice, execution_id="one")
        await until_parked(engine, "one")
        await handle.signal("second", 2)
        await asyncio.sleep(0.3)
        assert comings.resumed == 0
        await handle.signal("first", 1)
        assert await asyncio.wait_for(handle.result(), 30) == [1, 2]
    assert (comings.started, comings.resumed) == (1, 1)


@WAYS
async def test_a_signal_for_one_that_has_not_run_yet_is_received(sends: Sends, file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store, [asks]) as engine:
        a_while = timedelta(seconds=1.5)
        handle = await engine.enqueue(asks, execution_id="one", delay=a_while)
        await sends(engine, file, "one", "answer")
        assert await asyncio.wait_for(handle.result(), 30) == "yes"
        record = await engine.load("one")
        assert record.started_at is not None
        assert record.started_at - record.created_at >= a_while


@workflow
async def naps(ctx: WorkflowContext, how: str, seconds: float) -> str:
    if how == "ctx.sleep":
        await ctx.sleep("nap", timedelta(seconds=seconds))
    elif how == "asyncio.sleep":
        await asyncio.sleep(seconds)
    else:
        try:
            async with asyncio.timeout(seconds):
                await ctx.wait_signal("never")
        except TimeoutError:
            pass
    return await ctx.step("wake", lambda: "awake")


@pytest.mark.parametrize("how", ["ctx.sleep", "asyncio.sleep", "asyncio.timeout"])
async def test_a_parked_one_wakes_when_its_time_comes(how: str, file: Path) -> None:
    comings = Comings()

    async with an_engine(file, max_resident=0, observers=[comings]) as (store, engine):
        handle = await engine.start(naps, how, 0.5, execution_id="one")
        await until_parked(engine, "one")
        assert await asyncio.wait_for(handle.result(), 30) == "awake"
        assert not await store.load_pending_timers()
        (timer,) = await store.load_timers("one")
        assert timer.status is TimerStatus.FIRED
        (woke,) = [one for one in await store.load_checkpoints("one") if one.kind == "STEP"]
        assert woke.started_at is not None
        assert woke.started_at >= timer.fire_at
    assert (comings.started, comings.resumed) == (1, 1)


def test_the_log_says_at_debug_that_one_is_parked(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with an_engine(file, max_resident=0) as (_, engine):
            await engine.start(asks, execution_id="one")
            await until_parked(engine, "one")

    with caplog.at_level(logging.DEBUG, "durable_workflow_sqlite.engine"):
        asyncio.run(main())
    (said,) = [one for one in caplog.records if "is parked" in one.getMessage()]
    assert said.levelname == "DEBUG"
    assert said.getMessage().startswith("execution 'one' of asks@1 is parked:")
    assert said.workflow_execution_id == "one"  # type: ignore[attr-defined]


async def test_what_was_parked_leaves_nothing_behind_until_its_time(file: Path) -> None:
    async with an_engine(file, max_resident=0) as (_, engine):
        stays = WorkflowGuarantee.FOREGROUND_ONLY
        await engine.start(naps, "ctx.sleep", 3600, guarantee=stays)
        for number in range(300):
            await engine.start(naps, "ctx.sleep", 7200 + number, execution_id=str(number))
        await until_parked(engine, *map(str, range(300)))
        waiting = engine._open_engine._environment.scheduler._waiting
        assert len(waiting) < 2 * SWEPT_AT_LEAST


async def test_a_timer_that_is_over_wakes_nobody_though_it_was_parked_with_it(file: Path) -> None:
    comings = Comings()

    @workflow
    async def twice(ctx: WorkflowContext) -> None:
        async with asyncio.timeout(0.6):
            await ctx.wait_signal("first")
        await ctx.wait_signal("second")

    async with an_engine(file, max_resident=0, observers=[comings]) as (store, engine):
        handle = await engine.start(twice, execution_id="one")
        await until_parked(engine, "one")
        assert len(await store.load_pending_timers()) == 1
        await handle.signal("first")
        await until(lambda: comings.resumed and "one" not in engine._executions)
        assert not await store.load_pending_timers()
        await asyncio.sleep(1)
        assert comings.resumed == 1
        await handle.signal("second")
        await handle.result()
    assert (comings.started, comings.resumed) == (1, 2)


async def test_another_engine_takes_a_parked_one(file: Path, journal: Journal) -> None:
    @workflow(name="shared")
    async def shared(ctx: WorkflowContext) -> int:
        await ctx.step("ask", journal.note, "asked")
        return int(await ctx.wait_signal("answer"))

    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other_store,
    ):
        async with DurableEngine(store, [shared], park_after=SOON) as engine:
            await engine.start(shared, execution_id="one")
            result = asyncio.ensure_future(engine.handle("one").result())
            await until_parked(engine, "one")
            async with DurableEngine(other_store, [shared]) as other:
                await other.recover()
                await other.send_signal("one", "answer", 7)
                assert await until_over(other, "one") == [ExecutionStatus.COMPLETED]
                assert await asyncio.wait_for(result, 30) == 7
    assert journal.lines == ["asked"]


async def test_a_parked_one_is_cancelled_and_undone(file: Path, journal: Journal) -> None:
    @workflow
    async def books(ctx: WorkflowContext) -> None:
        await ctx.step("book", journal.note, "booked", compensate=lambda _: journal.note("undone"))
        await ctx.wait_signal("never")

    async with an_engine(file, max_resident=0) as (_, engine):
        handle = await engine.start(books, execution_id="one")
        await until_parked(engine, "one")
        assert await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await asyncio.wait_for(handle.result(), 30)
    assert journal.lines == ["booked", "undone"]


async def test_a_parked_one_expires_in_time(file: Path) -> None:
    async with an_engine(file, max_resident=0) as (_, engine):
        handle = await engine.start(asks, execution_id="one", ttl=timedelta(seconds=0.6))
        await until_parked(engine, "one")
        with pytest.raises(WorkflowExpiredError):
            await asyncio.wait_for(handle.result(), 30)


async def test_none_is_parked_before_its_time(file: Path) -> None:
    async with an_engine(file, park_after=None) as (_, engine):
        handle = await engine.start(asks, execution_id="one")
        await asyncio.sleep(0.3)
        assert "one" in engine._executions
        await handle.signal("answer", "yes")
        assert await handle.result() == "yes"


# A timer that somebody deletes by hand


async def sleep(ctx: WorkflowContext) -> None:
    await ctx.sleep("rest", LONG)


async def wait(ctx: WorkflowContext) -> None:
    with suppress(SignalTimeoutError):
        await ctx.wait_signal("never", timeout=LONG)


async def nap(ctx: WorkflowContext) -> None:
    await asyncio.sleep(LONG.total_seconds())


LONG = timedelta(hours=1)


def delete_timer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        assert connection.execute("delete from workflow_timers").rowcount == 1


@pytest.mark.few(2)
@pytest.mark.parametrize("dies", [False, True], ids=["this process", "after a restart"])
@pytest.mark.parametrize(
    ("rests", "guarantee"),
    [
        (sleep, WorkflowGuarantee.BEST_EFFORT_BACKGROUND),
        (sleep, WorkflowGuarantee.FOREGROUND_ONLY),
        (wait, WorkflowGuarantee.BEST_EFFORT_BACKGROUND),
        (nap, WorkflowGuarantee.BEST_EFFORT_BACKGROUND),
    ],
)
def test_a_sleep_whose_timer_is_deleted_ends_at_its_time(
    rests: Callable[[WorkflowContext], Awaitable[None]],
    dies: bool,
    guarantee: WorkflowGuarantee,
    file: Path,
) -> None:
    @workflow
    async def rests_and_hears(ctx: WorkflowContext) -> None:
        async def hears() -> None:
            while True:
                await ctx.wait_signal("poke")
                await ctx.step("heard", heard.set)

        hearing = asyncio.create_task(hears())
        await rests(ctx)
        hearing.cancel()

    async def poke(engine: DurableEngine) -> None:
        heard.clear()
        await engine.send_signal("one", "poke")
        async with asyncio.timeout(30):
            await heard.wait()
            while await engine.handle("one").status() is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0.005)

    clock = ManualClock()

    @asynccontextmanager
    async def engine_of() -> AsyncIterator[DurableEngine]:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(
                store, workflows=[rests_and_hears], clock=clock, park_after=timedelta(0)
            ) as engine,
        ):
            yield engine

    async def ends(engine: DurableEngine) -> None:
        await until_parked_or_bound(engine)
        await clock.advance(LONG - timedelta(seconds=1))
        assert await engine.handle("one").status() is ExecutionStatus.SUSPENDED
        await clock.advance(timedelta(seconds=1))
        assert await until_over(engine, "one") == [ExecutionStatus.COMPLETED]

    async def until_parked_or_bound(engine: DurableEngine) -> None:
        if guarantee is WorkflowGuarantee.BEST_EFFORT_BACKGROUND:
            await until_parked(engine, "one")

    async def main() -> None:
        async with engine_of() as engine:
            await engine.start(rests_and_hears, execution_id="one", guarantee=guarantee)
            await poke(engine)
            await until_parked_or_bound(engine)
            delete_timer(file)
            await poke(engine)
            if not dies:
                await ends(engine)
        async with engine_of() as engine:
            if dies:
                await ends(engine)

    heard = asyncio.Event()
    asyncio.run(main())


def test_one_that_waits_for_nothing_but_a_deleted_timer_is_claimed_and_records_it_anew(
    file: Path,
) -> None:
    clock = ManualClock()
    comings = Comings()
    just_naps = workflow(name="nap")(nap)

    async def main(*, is_first: bool) -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[just_naps], clock=clock, observers=[comings]) as engine,
            asyncio.timeout(30),
        ):
            if is_first:
                await engine.start(just_naps, execution_id="one")
            await until(store.load_pending_timers)
            if is_first:
                delete_timer(file)
            else:
                assert await engine.handle("one").status() is ExecutionStatus.SUSPENDED
                await clock.advance(LONG)
                assert await until_over(engine, "one") == [ExecutionStatus.COMPLETED]

    asyncio.run(main(is_first=True))
    asyncio.run(main(is_first=False))
    assert comings.started + comings.resumed == 2  # nothing is recorded of it but its timer
