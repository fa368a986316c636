"""Executions whose workers died again and again: what counts, and who waits for whom."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionBlockedError,
    ExecutionStatus,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowClaim,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowGuarantee,
    workflow,
)
from tests.commands import run_command
from tests.processes import Journal, an_engine, die, run_until_killed, until, until_over

MANY = 20
NAMES = [f"suspect {number:02}" for number in range(MANY)]
LATER = RetryPolicy.fixed(max_attempts=None, delay=timedelta(minutes=10))


class CountingStore(SqliteCheckpointStore):
    """Counts how often somebody has looked for work."""

    looks = 0

    async def claim_available(self, *args: Any, **named: Any) -> list[WorkflowClaim]:
        self.looks += 1
        return await super().claim_available(*args, **named)


def rows(file: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql, values).fetchall()


def recovery_counts(file: Path) -> dict[str, int]:
    return dict(rows(file, "select workflow_execution_id, recovery_count from workflow_executions"))


def claims_made(file: Path) -> int:
    """The last fencing token: one is given for each claim."""
    found = rows(file, "select seq from sqlite_sequence where name = 'workflow_claims'")
    return int(found[0][0]) if found else 0


@pytest.fixture
def suspects(file: Path, journal: Journal) -> list[str]:
    """Twenty executions that were taken over five times each, as their workers were killed."""

    @workflow(name="suspect")
    async def interrupted(ctx: WorkflowContext) -> None:
        await ctx.step("call", asyncio.Event().wait)

    all_run = (
        "select count(*) from step_checkpoints where status = 'INTENT' and attempt = ("
        "select max(recovery_count) + 1 from workflow_executions)"
    )

    async def main() -> None:
        async with an_engine(file, workflows=[interrupted], max_recoveries=100) as (_, engine):
            if journal.note("process") == 1:
                for name in NAMES:
                    await engine.enqueue(interrupted, execution_id=name)
            await until(lambda: rows(file, all_run) == [(MANY,)])
            die()

    for _ in range(5):
        run_until_killed(main)
    return NAMES


def notice(file: Path, max_recoveries: int = 10) -> None:
    """Let an engine notice that the last worker is dead; it takes on nothing."""

    async def look() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, max_recoveries=max_recoveries),
        ):
            pass

    asyncio.run(look())


# Who waits for whom


@workflow
async def healthy(ctx: WorkflowContext) -> str:
    return await ctx.step("hi", lambda: "well")


@pytest.mark.campaign
async def test_suspects_that_back_off_are_claimed_once_each_and_hold_up_nobody(
    file: Path, suspects: list[str], journal: Journal
) -> None:
    async def call() -> None:
        journal.note("tried")
        raise ConnectionError("503")

    @workflow(name="suspect")
    async def flaky(ctx: WorkflowContext) -> None:
        await ctx.step("call", call, retry=LATER)

    async with CountingStore.file(file) as store:
        assert isinstance(store, CountingStore)
        assert set(recovery_counts(file).values()) == {4}
        before = claims_made(file)
        async with DurableEngine(store, workflows=[flaky, healthy]) as engine:
            handles = [await engine.enqueue(healthy) for _ in range(5)]
            assert [await one.result() for one in handles] == ["well"] * 5
            await until(lambda: journal.lines.count("tried") == MANY)
            looks = store.looks
            await until(lambda: store.looks >= looks + 5)
            assert claims_made(file) - before == MANY + 5
    assert {one: count for one, count in recovery_counts(file).items() if one in suspects} == (
        dict.fromkeys(suspects, 5)
    )


async def test_suspects_run_one_at_a_time_and_all_of_them(
    file: Path, suspects: list[str], journal: Journal
) -> None:
    """While one runs, the others are in nobody's hands, and healthy ones run beside it."""
    running: list[str] = []
    may_end = asyncio.Event()

    @workflow(name="suspect")
    async def mended(ctx: WorkflowContext) -> str:
        await ctx.step("call", call, ctx.execution_id)
        return "done"

    async def call(name: str) -> None:
        running.append(name)
        assert len(running) == 1
        await may_end.wait()
        running.remove(name)

    async with CountingStore.file(file) as store:
        assert isinstance(store, CountingStore)
        before = claims_made(file)
        async with DurableEngine(store, workflows=[mended, healthy]) as engine:
            await until(lambda: len(running) == 1)
            for _ in range(5):
                assert await (await engine.enqueue(healthy)).result() == "well"
            looks = store.looks
            await until(lambda: store.looks >= looks + 3)
            assert claims_made(file) - before == 1 + 5
            # Whoever asks for one of them does not get it out of its turn.
            (waits, *_) = [name for name in suspects if name not in running]
            assert await engine.cancel(waits)
            await until(lambda: store.looks >= looks + 5)
            assert len(running) == 1
            may_end.set()
            ends = await until_over(engine, *suspects)
            assert ends.count(ExecutionStatus.COMPLETED) == MANY - 1
            assert (await engine.load(waits)).status is ExecutionStatus.CANCELLED
            assert claims_made(file) - before == MANY + 5


async def test_a_suspect_that_gets_further_makes_way_for_the_next(
    file: Path, suspects: list[str]
) -> None:
    running: set[str] = set()

    @workflow(name="suspect")
    async def mended(ctx: WorkflowContext) -> None:
        await ctx.step("call", asyncio.sleep, 0)
        await ctx.step("hold", hold, ctx.execution_id)

    async def hold(name: str) -> None:
        running.add(name)
        await asyncio.Event().wait()

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store, workflows=[mended]):
        await until(lambda: len(running) == MANY)
    assert set(recovery_counts(file).values()) == {0}


def test_suspects_in_the_foreground_run_one_at_a_time(file: Path, journal: Journal) -> None:
    running: list[str] = []
    may_end = asyncio.Event()

    async def call(name: str) -> None:
        running.append(name)
        assert len(running) == 1
        await may_end.wait()
        running.remove(name)

    @workflow
    async def works(ctx: WorkflowContext, is_last: bool) -> None:
        await ctx.step("call", call if journal.lines else asyncio.Event().wait, ctx.execution_id)

    @workflow(name="works")
    async def interrupted(ctx: WorkflowContext, is_last: bool) -> None:
        await ctx.step("call", asyncio.Event().wait)

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for name in "abc":
                await engine.start(
                    interrupted,
                    False,
                    execution_id=name,
                    guarantee=WorkflowGuarantee.FOREGROUND_ONLY,
                )
            intents = "select count(*) from step_checkpoints where status = 'INTENT'"
            await until(lambda: rows(file, intents) == [(3,)])
            journal.note("died")
            die()

    async def last_process() -> None:
        async with (
            CountingStore.file(file) as store,
            DurableEngine(store, workflows=[works], max_recoveries=2) as engine,
        ):
            assert isinstance(store, CountingStore)
            await until(lambda: len(running) == 1)
            before = claims_made(file)
            looks = store.looks
            await until(lambda: store.looks >= looks + 3)
            assert claims_made(file) == before
            may_end.set()
            assert await until_over(engine, *"abc") == [ExecutionStatus.COMPLETED] * 3
            assert claims_made(file) == before + 2

    run_until_killed(first_process)
    asyncio.run(last_process())


# What is held against an execution


def waits_by_its_records(file: Path, name: str) -> bool:
    """Whether its row was written after its claim: it has come to its wait again."""
    found = rows(
        file,
        "select count(*) from workflow_executions join workflow_claims"
        " using (workflow_execution_id)"
        " where workflow_execution_id = ? and updated_at > claimed_at",
        name,
    )
    return found == [(1,)]


async def until_it_backs_off(file: Path, flow: WorkflowDefinition[[], Any]) -> None:
    """The first process: it dies when something waits for its next attempt."""
    async with an_engine(file) as (_, engine):
        await engine.start(flow, execution_id="one")
        due = "select count(*) from step_checkpoints where due_at is not null"
        await until(lambda: rows(file, due) == [(1,)])
        die()


async def until_it_waits_again(file: Path, flow: WorkflowDefinition[[], Any]) -> None:
    """The next one: it dies when that waits by its records alone."""
    async with an_engine(file, workflows=[flow], max_recoveries=0):
        await until(lambda: waits_by_its_records(file, "one"))
        die()


def test_a_crash_during_a_back_off_is_not_held_against_it(file: Path, journal: Journal) -> None:
    """Neither in the process in which the attempt failed nor in a later one, which waits again."""

    async def call() -> None:
        journal.note("called")
        raise ConnectionError("503")

    @workflow
    async def flaky(ctx: WorkflowContext) -> None:
        await ctx.step("call", call, retry=LATER)

    run_until_killed(lambda: until_it_backs_off(file, flaky))
    for _ in range(3):
        run_until_killed(lambda: until_it_waits_again(file, flaky))
        notice(file)
        assert recovery_counts(file) == {"one": 0}
    assert journal.lines == ["called"]


def test_a_crash_while_a_compensation_backs_off_is_not_held_against_it(file: Path) -> None:
    async def undo(result: object) -> None:
        raise ConnectionError("503")

    @workflow
    async def fails(ctx: WorkflowContext) -> None:
        await ctx.step("charge", lambda: 1, compensate=undo, compensate_retry=LATER)
        raise OSError("no goods")

    run_until_killed(lambda: until_it_backs_off(file, fails))
    for _ in range(2):
        run_until_killed(lambda: until_it_waits_again(file, fails))
        notice(file)
        assert recovery_counts(file) == {"one": 0}


def test_one_whose_replay_kills_the_worker_is_blocked_although_its_step_backs_off(
    file: Path, journal: Journal
) -> None:
    async def call() -> None:
        raise ConnectionError("503")

    @workflow
    async def deadly(ctx: WorkflowContext) -> None:
        if journal.note("body") > 1:
            die()
        await ctx.step("call", call, retry=LATER)

    async def next_process() -> None:
        async with an_engine(file, workflows=[deadly], max_recoveries=2) as (_, engine):
            await engine.handle("one").result()

    async def last_process() -> None:
        async with an_engine(file, workflows=[deadly], max_recoveries=2) as (_, engine):
            with pytest.raises(ExecutionBlockedError):
                await engine.handle("one").result()

    run_until_killed(lambda: until_it_backs_off(file, deadly))
    for _ in range(3):
        run_until_killed(next_process)
    asyncio.run(last_process())
    assert journal.lines == ["body"] * 4


def test_a_crash_after_the_worker_was_told_to_stop_is_not_held_against_it(file: Path) -> None:
    """Not even against the one whose step ran on until the worker was killed."""

    @workflow
    async def slow(ctx: WorkflowContext) -> None:
        await ctx.step("act", asyncio.Event().wait)

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(slow, execution_id="one")
            await die_while_it_stops(engine)

    async def next_process() -> None:
        async with an_engine(file, workflows=[slow], max_recoveries=0) as (_, engine):
            await die_while_it_stops(engine)

    async def die_while_it_stops(engine: DurableEngine) -> None:
        intent = (
            "select count(*) from step_checkpoints join workflow_claims"
            " using (workflow_execution_id) where status = 'INTENT' and started_at >= claimed_at"
        )
        await until(lambda: rows(file, intent) == [(1,)])
        stopping = asyncio.create_task(engine.dispose(timedelta(hours=1)))
        marked = "select count(*) from workflow_claims where is_stopping"
        await until(lambda: rows(file, marked) == [(1,)])
        assert not stopping.done()
        die()

    run_until_killed(first_process)
    for _ in range(2):
        run_until_killed(next_process)
        notice(file)
        assert recovery_counts(file) == {"one": 0}


def test_what_runs_beside_a_suspect_is_not_held_responsible(file: Path) -> None:
    begun = (
        "select count(*) from step_checkpoints join workflow_claims"
        " using (workflow_execution_id) where workflow_execution_id = 'slow'"
        " and started_at >= claimed_at"
    )

    @workflow
    async def deadly(ctx: WorkflowContext) -> None:
        async def act() -> None:
            if "slow" in recovery_counts(file):
                await until(lambda: rows(file, begun) == [(1,)])
            die()

        await ctx.step("act", act)

    @workflow
    async def slow(ctx: WorkflowContext) -> None:
        await ctx.step("act", asyncio.Event().wait)

    async def main() -> None:
        async with an_engine(file, workflows=[slow, deadly], max_recoveries=4) as (_, engine):
            await engine.run(deadly, execution_id="deadly")

    async def in_between() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.enqueue(slow, execution_id="slow")

    for _ in range(2):
        run_until_killed(main)
    asyncio.run(in_between())
    assert recovery_counts(file) == {"deadly": 2, "slow": 0}
    for _ in range(3):
        run_until_killed(main)
    notice(file, max_recoveries=4)
    assert recovery_counts(file) == {"deadly": 5, "slow": 0}
    blocked = "select workflow_execution_id from workflow_executions where blocked_reason not null"
    assert rows(file, blocked) == [("deadly",)]


# What people see


def test_doctor_names_suspects_how_often_and_what_to_do(file: Path, suspects: list[str]) -> None:
    notice(file)
    done = run_command("doctor", file, "--quick", env={})
    assert done.returncode == 3
    (told,) = [line for line in done.stdout.splitlines() if "\tsuspects\t" in line]
    assert "warning" in told
    assert f"{MANY} executions" in told
    assert "suspect 00 (5 times)" in told
    assert "and 15 more" in told
    assert "durable-workflow show" in told


def test_a_mark_that_cannot_be_written_does_not_keep_an_engine_from_stopping(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(SqliteCheckpointStore):
        async def mark_as_stopping(self, claims: object) -> None:
            raise OSError("no room")

    async def main() -> None:
        async with Refusing.file(file) as store:
            async with DurableEngine(store) as engine:
                await engine.start(healthy)

    with caplog.at_level(logging.DEBUG, "durable_workflow_sqlite"):
        asyncio.run(main())
    assert "no room" in caplog.text
