"""A time of a schedule is fired once, by whichever process, wherever these are killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from tests.databases import new_database
from tests.processes import Child, Harm, Journal, an_engine, open_harmed, run_process, until

HOUR = timedelta(hours=1)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
EVERY = 1 if os.environ.get("DURABLE_CRASH_FULL") else 5
"""Of so many writes, one is harmed."""


def makes(journal: Journal) -> WorkflowDefinition[[], None]:
    @workflow(name="report")
    async def report(ctx: WorkflowContext) -> None:
        await ctx.step("note", lambda: journal.note("ran"))

    return report


async def fire_three_times(file: Path, journal: Journal, harm: Harm | None) -> None:
    """One process: it declares the schedule, and works until three hours are fired."""
    clock = ManualClock(NOON)
    report = makes(journal)
    async with open_harmed(file, harm) as store:
        async with DurableEngine(store, workflows=[report], clock=clock) as engine:
            await engine.schedule("s", report, every=HOUR, overlap="buffer_one", missed="all")
            for hour in range(1, 4):
                clock.set(max(clock.now(), NOON + hour * HOUR))
                await until_done(engine, hour)


async def until_done(engine: DurableEngine, hour: int) -> None:
    async def is_done() -> bool:
        found = await engine.load_schedule("s")
        if found.last_fired_at is None or found.last_fired_at < NOON + hour * HOUR:
            return False
        last = await engine.load(f"s@2026-03-02T{12 + hour}:00:00Z")
        return last.status is ExecutionStatus.COMPLETED

    await until(is_done)


async def is_as_promised(file: Path, journal: Journal) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        found = await store.load_executions_by_status(ExecutionStatus)
        assert [one.workflow_execution_id for one in found] == [
            f"s@2026-03-02T{hour}:00:00Z" for hour in (13, 14, 15)
        ]
        assert {one.status for one in found} == {ExecutionStatus.COMPLETED}
        schedule = await store.load_schedule("s")
        assert schedule is not None
        assert schedule.next_fire_at == NOON + 4 * HOUR
        assert schedule.buffered_at is None
    assert 3 <= len(journal.lines) <= 4  # one step may have been cut off, and ran again


@pytest.mark.campaign
@pytest.mark.crash
def test_a_kill_at_any_write_loses_no_time_and_fires_none_twice(tmp_path: Path) -> None:
    for commit in itertools.count(1, EVERY):
        for is_before in (True, False):
            folder = tmp_path / f"{commit} {is_before}"
            folder.mkdir()
            file = new_database(folder / "workflows.db")
            journal = Journal(folder / "journal")
            harm = Harm(commit, is_before)
            was_killed = run_process(partial(fire_three_times, file, journal, harm))
            if was_killed:
                assert not run_process(partial(fire_three_times, file, journal, None))
            asyncio.run(is_as_promised(file, journal))
        if not was_killed:
            break
    assert commit > 10, "it was over before it could be killed"


@pytest.mark.campaign
@pytest.mark.crash
def test_processes_that_are_killed_at_random_fire_each_second_once(
    file: Path, journal: Journal
) -> None:

    async def work() -> None:
        report = makes(journal)
        async with an_engine(file, workflows=[report]) as (_, engine):
            await engine.schedule(
                "s", report, every=timedelta(seconds=1), overlap="all", missed="all"
            )
            await asyncio.sleep(60)

    chance = random.Random(7)
    workers = [Child(lambda _: asyncio.run(work())) for _ in range(4)]
    while len(journal.lines) < 10:
        time.sleep(chance.uniform(0.1, 0.5))
        victim = chance.randrange(len(workers))
        workers[victim].kill()
        workers[victim] = Child(lambda _: asyncio.run(work()))
    time.sleep(1.2)
    for worker in workers:
        worker.kill()

    async def check() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            schedule = await store.load_schedule("s")
            assert schedule is not None
            assert schedule.last_fired_at is not None
            assert schedule.last_skipped_at is None
            found = await store.load_executions_by_status(ExecutionStatus)
        times = [one.workflow_execution_id.removeprefix("s@") for one in found]
        first = datetime.fromisoformat(times[0])
        count = int((schedule.last_fired_at - first).total_seconds()) + 1
        assert count >= 3
        expected = [first + timedelta(seconds=number) for number in range(count)]
        assert sorted(map(datetime.fromisoformat, times)) == expected

    asyncio.run(check())
    assert set(Counter(journal.lines)) == {"ran"}


def test_a_schedule_that_is_not_due_is_not_looked_at(tmp_path: Path) -> None:

    async def idle() -> None:
        asked: list[datetime] = []

        class Counting(SqliteCheckpointStore):
            async def load_due_schedules(self, now: datetime):  # type: ignore[no-untyped-def]
                asked.append(now)
                return await super().load_due_schedules(now)

        async with Counting.file(tmp_path / "workflows.db") as store:
            async with DurableEngine(store) as engine:
                await engine.schedule("s", makes(Journal(tmp_path / "j")), every=HOUR)
                await asyncio.sleep(0.7)
                before = len(asked)
                await asyncio.sleep(2)
                assert len(asked) == before

    asyncio.run(idle())
