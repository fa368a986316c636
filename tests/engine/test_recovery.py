"""Recovery: everything that was interrupted goes on, once, and nothing holds up the rest."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionBlockedError,
    ExecutionStatus,
    NonDeterminismError,
    RecoveryResult,
    SqliteCheckpointStore,
    StoreBusyError,
    StoreCorruptError,
    StoreGoneError,
    WorkflowContext,
    WorkflowExecution,
    WorkflowFailedError,
    WorkflowGuarantee,
    workflow,
)
from durable_workflow_sqlite.engine import changes, dispatcher
from durable_workflow_sqlite.store import group_commit
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.databases import delete_unnoticed
from tests.processes import (
    Child,
    Journal,
    a_process,
    an_engine,
    die,
    run_until_killed,
    until,
    until_over,
)
from tests.worlds import in_virtual_time


def test_one_that_sleeps_for_a_day_does_not_hold_up_the_others(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def one_of_many(ctx: WorkflowContext, number: int) -> None:
        if number == 0:
            await ctx.sleep("long", timedelta(days=1))
        await ctx.step("first", lambda: number)
        await ctx.step("second", second)

    async def second() -> None:
        if not journal.lines:
            await asyncio.sleep(3600)

    ids = [str(number) for number in range(100)]

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for number in range(100):
                await engine.start(one_of_many, number, execution_id=ids[number])
            await asyncio.sleep(0.1)
            die()

    async def second_process() -> None:
        journal.note("second process")
        async with an_engine(file, workflows=[one_of_many]) as (_, engine):
            statuses = await until_over(engine, *ids[1:])
            assert set(statuses) == {ExecutionStatus.COMPLETED}
            assert (await engine.load("0")).status is ExecutionStatus.SUSPENDED
            # It costs no task while it sleeps.
            assert not [task for task in asyncio.all_tasks() if "execution 0" in task.get_name()]

    run_until_killed(first_process)
    asyncio.run(second_process())


async def test_one_that_is_not_registered_is_not_claimed_and_is_reported(file: Path) -> None:
    @workflow(name="order", version=1)
    async def old_order(ctx: WorkflowContext) -> str:
        await ctx.wait_signal("go")
        return "old"

    @workflow(name="order", version=2)
    async def new_order(ctx: WorkflowContext) -> str:
        return "new"

    @workflow
    async def other(ctx: WorkflowContext) -> None:
        await ctx.step("work", asyncio.sleep, 3600)

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            await engine.start(old_order, execution_id="old")
            await engine.start(other, execution_id="other")
        second = DurableEngine(store, workflows=[new_order, other])
        result = await second.open()
        assert result.unregistered == ("old",)
        assert result.resumed == ("other",)
        before = await second.load("old")
        await second.send_signal("old", "go")
        await asyncio.sleep(0.1)
        after = await second.load("old")  # whoever has it registered may take it on now
        assert after == msgspec.structs.replace(before, available_at=after.available_at)
        await second.dispose()
        async with DurableEngine(store, workflows=[old_order, new_order]) as third:
            assert await third.handle("old").result() == "old"
            assert await third.run(new_order) == "new"


def test_one_that_cannot_be_resumed_does_not_stop_the_others(
    file: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow(name="order")
    async def first_code(ctx: WorkflowContext, number: int) -> int:
        await ctx.step("price", lambda: number)
        await ctx.sleep("a moment", timedelta(0))
        await ctx.step("end", asyncio.sleep, 3600)
        return number

    @workflow(name="order")
    async def second_code(ctx: WorkflowContext, number: int) -> int:
        if number == 1:
            return await ctx.step("something else", lambda: number)
        price = await ctx.step("price", lambda: -1)
        await ctx.sleep("a moment", timedelta(0))
        await ctx.step("end", lambda: None)
        if number == 2:
            raise ValueError("on purpose")
        return price

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for number in range(5):
                await engine.start(first_code, number, execution_id=str(number))
            await asyncio.sleep(0.1)
            die()

    async def second_process() -> None:
        with closing(sqlite3.connect(file)) as dba, dba:
            dba.execute("pragma ignore_check_constraints = on")
            dba.execute(
                "update step_checkpoints set status = 'STRANGE'"
                " where workflow_execution_id = '3' and step_name = 'price'"
            )
            dba.execute(
                "update workflow_executions set status = 'STRANGE'"
                " where workflow_execution_id = '4'"
            )
        async with an_engine(file, workflows=[second_code]) as (_, engine):
            assert await engine.handle("0").result() == 0
            with pytest.raises(NonDeterminismError):
                await engine.handle("1").result()
            with pytest.raises(WorkflowFailedError, match="on purpose"):
                await engine.handle("2").result()
            with pytest.raises(StoreCorruptError, match="'3'"):
                await engine.handle("3").result()
            with pytest.raises(StoreCorruptError, match="'4'"):
                await engine.handle("4").result()
            assert (await engine.load("1")).status is ExecutionStatus.RUNNING
            assert (await engine.load("3")).status is ExecutionStatus.RUNNING

    run_until_killed(first_process)
    with caplog.at_level(logging.ERROR, "durable_workflow_sqlite"):
        asyncio.run(second_process())
    assert "'3'" in caplog.text


def test_an_execution_that_kills_every_worker_is_blocked_and_can_be_released(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def deadly(ctx: WorkflowContext) -> str:
        def act() -> str:
            if journal.note("run") <= 4:
                die()
            return "alive"

        return await ctx.step("act", act)

    async def main() -> Any:
        async with an_engine(file, workflows=[deadly], max_recoveries=3) as (_, engine):
            return await engine.run(deadly, execution_id="one")

    for _ in range(4):  # the first process, and three that took it over
        run_until_killed(main)

    async def last_process() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            engine = DurableEngine(store, workflows=[deadly], max_recoveries=3)
            assert (await engine.open()).blocked == ("one",)
            await asyncio.sleep(0.1)
            blocked = await engine.load("one")
            assert blocked.status is ExecutionStatus.RUNNING
            assert "died 4 times" in str(blocked.blocked_reason)
            assert (await engine.recover()).blocked == ("one",)
            assert journal.lines == ["run"] * 4
            assert await engine.unblock("one")
            assert await engine.handle("one").result() == "alive"
            assert not await engine.unblock("one")
            assert (await engine.load("one")).blocked_reason is None
            await engine.dispose()

    asyncio.run(last_process())


def test_what_kills_every_worker_is_blocked_without_its_neighbours(
    file: Path, journal: Journal
) -> None:
    """They never get far enough, beside it, to show that it is not they who kill."""

    @workflow
    async def deadly(ctx: WorkflowContext) -> None:
        await ctx.step("act", die)

    @workflow
    async def slow(ctx: WorkflowContext) -> str:
        await ctx.step("take time", asyncio.sleep, 0.2)
        return "done"

    names = [f"slow {number}" for number in range(5)]

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store) as engine:
                for name in names:
                    await engine.enqueue(slow, execution_id=name)
                await engine.enqueue(deadly, execution_id="deadly")
            journal.note("begun")
            die()

    async def next_process() -> None:
        async with an_engine(file, workflows=[deadly, slow], max_recoveries=4) as (_, engine):
            for name in names:
                assert await engine.handle(name).result() == "done"
            with pytest.raises(ExecutionBlockedError):
                await engine.handle("deadly").result()
            journal.note("over")

    run_until_killed(first_process)
    crashes = 0
    with suppress(AssertionError):  # once it is blocked, nobody dies
        while "over" not in journal.lines:
            run_until_killed(next_process)
            crashes += 1
    assert journal.lines == ["begun", "over"]
    assert 5 <= crashes < 12

    async def last_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            assert (await engine.recover()).blocked == ("deadly",)

    asyncio.run(last_process())


def test_progress_between_two_crashes_makes_them_count_anew(file: Path, journal: Journal) -> None:
    @workflow
    async def moves_on(ctx: WorkflowContext) -> str:
        for number in range(6):

            def act(number: int = number) -> int:
                if journal.note(f"run {number}") == 1:
                    die()
                return number

            await ctx.step(f"act {number}", act)
        return "there"

    async def main() -> str:
        async with an_engine(file, workflows=[moves_on], max_recoveries=2) as (_, engine):
            return await engine.run(moves_on, execution_id="one")

    for _ in range(6):
        run_until_killed(main)
    assert asyncio.run(main()) == "there"


async def test_graceful_stops_never_block_an_execution(file: Path) -> None:
    @workflow
    async def waiter(ctx: WorkflowContext) -> str:
        return str(await ctx.wait_signal("go"))

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            await engine.start(waiter, execution_id="one")
        for _ in range(5):
            async with DurableEngine(store, workflows=[waiter], max_recoveries=0) as engine:
                await asyncio.sleep(0.01)
        async with DurableEngine(store, workflows=[waiter], max_recoveries=0) as engine:
            await engine.send_signal("one", "go", "gone")
            assert await engine.handle("one").result() == "gone"


# Who takes over


@asynccontextmanager
async def worker(
    file: Path, journal: Journal, name: str, guarantee: WorkflowGuarantee, *, starts: bool = False
) -> AsyncGenerator[DurableEngine]:
    """An engine that runs, or is ready to take over, the execution "one"."""

    @workflow(name="shared")
    async def shared(ctx: WorkflowContext) -> str:
        await ctx.step("note", journal.note, f"{name} began")
        return await ctx.step("end", end)

    async def end() -> str:
        if name == "first":
            await asyncio.sleep(3600)
        return name

    async with an_engine(file, workflows=[shared]) as (_, engine):
        if starts:
            await engine.start(shared, execution_id="one", guarantee=guarantee)
        yield engine


@contextmanager
def first_worker(
    file: Path, journal: Journal, guarantee: WorkflowGuarantee
) -> Generator[Callable[[], None]]:
    """In a process of its own, which `kill` ends in the middle of its work."""

    async def main(say: Callable[[str], None]) -> None:
        async with worker(file, journal, "first", guarantee, starts=True):
            await until(lambda: journal.lines == ["first began"])
            say("began")
            await asyncio.sleep(3600)

    with a_process(lambda say: asyncio.run(main(say))) as process:
        assert process.hear() == "began"
        yield process.kill


def test_a_running_worker_takes_over_within_a_second_once_the_other_is_dead(
    file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND

    async def main() -> None:
        async with worker(file, journal, "second", guarantee) as engine:
            time = asyncio.get_running_loop().time
            store = engine._settings.store
            look, looks = store.release_claims_of_the_dead, 0

            async def look_and_count(*args: Any, **named: Any) -> object:
                nonlocal looks
                looks += 1
                return await look(*args, **named)

            monkeypatch.setattr(store, "release_claims_of_the_dead", look_and_count)
            # It looks for dead workers, and leaves the living one's execution alone. The worst
            # moment to die is right after that.
            await until(lambda: looks >= 3)
            assert (await engine.load("one")).status is ExecutionStatus.RUNNING
            kill()
            killed_at = time()
            assert await engine.handle("one").result() == "second"
            assert time() - killed_at <= 1

    with first_worker(file, journal, guarantee) as kill:
        in_virtual_time(main)
    assert journal.lines == ["first began"]


def test_foreground_only_is_taken_over_by_whoever_starts_up_and_not_before(
    file: Path, journal: Journal
) -> None:
    guarantee = WorkflowGuarantee.FOREGROUND_ONLY

    async def main() -> None:
        async with worker(file, journal, "second", guarantee) as engine:
            kill()
            await asyncio.sleep(5 * changes.LOOK_AROUND_S)
            assert (await engine.load("one")).status is ExecutionStatus.RUNNING
            async with worker(file, journal, "third", guarantee) as third:
                assert await third.handle("one").result() == "third"

    with first_worker(file, journal, guarantee) as kill:
        in_virtual_time(main)


def test_of_many_processes_that_start_at_once_each_execution_is_resumed_by_one(
    file: Path, journal: Journal
) -> None:
    guarantee = WorkflowGuarantee.FOREGROUND_ONLY
    with first_worker(file, journal, guarantee) as kill:
        with closing(sqlite3.connect(file)) as dba, dba:
            # So that each taker would run the step.
            delete_unnoticed(dba, "delete from step_checkpoints")
        kill()

    async def take(name: str) -> None:
        async with worker(file, journal, name, guarantee) as engine:
            assert await engine.handle("one").result() in ("a", "b", "c", "d")

    takers = [Child(lambda _, name=name: asyncio.run(take(name))) for name in "abcd"]
    assert [taker.is_killed_in_the_end() for taker in takers] == [False] * 4
    assert len([line for line in journal.lines if line.endswith("began")]) == 2


async def test_two_engines_and_two_recoveries_in_one_process_resume_an_execution_once(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def slow(ctx: WorkflowContext) -> str:
        await ctx.wait_signal("go")
        await ctx.step("note", journal.note, "ran")
        await ctx.step("slow", asyncio.sleep, 0.05)
        return "done"

    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other_store,
    ):
        async with DurableEngine(store) as engine:
            await engine.start(slow, execution_id="one")
            await engine.send_signal("one", "go")
            await asyncio.sleep(0)
        journal_before = len(journal.lines)
        async with (
            DurableEngine(store, workflows=[slow]) as engine,
            DurableEngine(other_store, workflows=[slow]) as other,
        ):
            await asyncio.gather(engine.recover(), engine.recover(), other.recover())
            results = await asyncio.gather(
                engine.handle("one").result(), other.handle("one").result()
            )
            assert results == ["done", "done"]
        assert len(journal.lines) - journal_before <= 1
    assert journal.lines == ["ran"]


async def test_recovery_takes_on_at_most_so_many_at_once(file: Path) -> None:
    running = 0
    most = 0

    async def act() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    @workflow
    async def works(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go")
        await ctx.step("act", act)

    ids = [str(number) for number in range(30)]

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            for one in ids:
                await engine.start(works, execution_id=one)
        async with DurableEngine(store) as engine:
            for one in ids:
                await engine.send_signal(one, "go")
        async with DurableEngine(store, workflows=[works], max_concurrent=4) as engine:
            statuses = await until_over(engine, *ids)
            assert set(statuses) == {ExecutionStatus.COMPLETED}
    assert 1 < most <= 4


async def test_one_that_is_pending_in_the_file_is_started(file: Path) -> None:
    @workflow
    async def greet(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("greet", lambda: f"hello {name}")

    async with SqliteCheckpointStore.file(file) as store:
        await store.save(
            greet.record,
            WorkflowExecution(
                workflow_execution_id="one",
                workflow_id=greet.record.workflow_id,
                input_data='["sam"]',
            ),
        )
        async with DurableEngine(store, workflows=[greet]) as engine:
            assert await engine.handle("one").result() == "hello sam"


def test_trouble_with_the_store_stops_the_execution_and_it_is_resumed_by_itself(
    file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_MS", 100)

    @workflow
    async def unlucky(ctx: WorkflowContext) -> str:
        await ctx.step("book", lambda: 1, compensate=lambda _: journal.note("undone"))
        journal.note("process")
        lock_for_a_while()
        return await ctx.step("end", lambda: "done")

    def lock_for_a_while() -> None:
        if len(journal.lines) > 1:
            return
        dba = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        dba.execute("begin immediate")
        threading.Timer(0.5, dba.close).start()

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(unlucky, execution_id="one")
            with pytest.raises(StoreBusyError):
                await handle.result()
            assert (await engine.load("one")).status is ExecutionStatus.RUNNING
            assert await until_over(engine, "one") == [ExecutionStatus.COMPLETED]
            assert await handle.result() == "done"

    asyncio.run(main())
    assert journal.lines == ["process", "process"]


async def test_waiting_for_a_blocked_execution_says_so(file: Path) -> None:
    @workflow
    async def waiting(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go")

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            await engine.start(waiting, execution_id="one")
        record = await loaded(store, "one")
        await store.save(
            msgspec.structs.replace(record, blocked_reason="it died", available_at=None)
        )
        async with DurableEngine(store) as engine:
            assert await engine.recover() == RecoveryResult(blocked=("one",))
            with pytest.raises(ExecutionBlockedError, match=r"it died.*unblock") as caught:
                await engine.handle("one").result()
            assert caught.value.workflow_execution_id == "one"
            assert caught.value.reason == "it died"


def test_what_keeps_an_engine_from_its_store_is_said_once_and_with_what_to_do(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "TRY_AGAIN_AFTER_S", 0.005)
    monkeypatch.setattr(dispatcher, "TRY_AGAIN_AFTER_S", 0.005)

    @workflow
    async def waiting(ctx: WorkflowContext) -> str:
        return str(await ctx.wait_signal("go"))

    async def main() -> None:
        async with an_engine(file, workflows=[waiting]) as (_, engine):
            handle = await engine.start(waiting, execution_id="one")
            await asyncio.sleep(0.1)
            elsewhere = file.with_name("elsewhere.db")
            os.rename(file, elsewhere)  # noqa: PTH104 - quick
            await asyncio.sleep(1.5)
            os.rename(elsewhere, file)  # noqa: PTH104 - quick
            await asyncio.sleep(0.7)
            await handle.signal("go", "on")
            with suppress(StoreGoneError):  # it may have been left while the file was away
                assert await asyncio.wait_for(handle.result(), 10) == "on"

    with caplog.at_level(logging.INFO, "durable_workflow_sqlite.engine"):
        asyncio.run(main())
    said = [(one.levelname, one.getMessage()) for one in caplog.records]
    (error,) = [text for level, text in said if level == "ERROR" and "look for changes" in text]
    assert "until somebody acts" in error
    assert "open a new store and a new engine" in error
    assert ("INFO", "can look for changes again") in said
    assert len([text for _, text in said if "look for work until" in text]) <= 1
