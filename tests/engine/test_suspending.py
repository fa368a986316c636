"""What is SUSPENDED says in its records what it waits for, whenever it may be killed."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    Record,
    SqliteCheckpointStore,
    WorkflowClaim,
    WorkflowContext,
    WorkflowExecution,
    workflow,
)
from durable_workflow_sqlite.engine.checking import check_replay
from durable_workflow_sqlite.testing import ManualClock
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import until
from tests.stores import SavesAll

WAITS_FOR_NOTHING = """
select count(*) from workflow_executions as e
where e.status = 'SUSPENDED' and not exists (
    select 1 from step_checkpoints as s
    where s.workflow_execution_id = e.workflow_execution_id
        and s.kind in ('SLEEP', 'SIGNAL') and s.status = 'INTENT'
)
"""


class Slow(sqlite3.Connection):
    """A disk that takes its time, and a look at the file after every commit."""

    seen: list[int]

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        cursor = super().execute(sql, *parameters)
        if sql.startswith("commit") and hasattr(self, "seen"):
            self.seen.append(super().execute(WAITS_FOR_NOTHING).fetchone()[0])
        return cursor


async def test_no_commit_leaves_an_execution_suspended_that_waits_for_nothing(
    tmp_path: Path,
) -> None:
    """With `full`, a commit takes many turns of the loop, in which all else comes to rest."""

    @workflow(name="naps")
    async def naps(ctx: WorkflowContext) -> None:
        for number in range(3):
            await ctx.sleep(f"nap {number}", timedelta(milliseconds=number))
            await ctx.wait_signal("go")

    connection = sqlite3.connect(tmp_path / "workflows.db", factory=Slow, check_same_thread=False)
    store = SqliteCheckpointStore(connection, synchronous="full")
    connection.seen = []
    async with store, DurableEngine(store, workflows=[naps]) as engine:
        handles = [await engine.start(naps, execution_id=str(n)) for n in range(8)]
        for _ in range(3):
            await asyncio.gather(*(handle.signal("go") for handle in handles))
            await asyncio.sleep(0.005)
        await asyncio.gather(*(handle.result() for handle in handles))
    assert len(connection.seen) > 10
    assert not any(connection.seen)
    connection.close()


@workflow
async def gives_up_a_wait(ctx: WorkflowContext) -> str:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            await ctx.wait_signal("late", timeout=timedelta(days=1))
    return str(await ctx.wait_signal("answer"))


class Checking(SavesAll):
    """Replays an execution from its records in the moment in which it is SUSPENDED."""

    replayed = 0

    async def save(self, *records: Record, claim: WorkflowClaim | None = None, **more: Any) -> None:
        await super().save(*records, claim=claim, **more)
        for one in records:
            if isinstance(one, WorkflowExecution) and one.status is ExecutionStatus.SUSPENDED:
                record = await loaded(self, one.workflow_execution_id)
                assert record.status is ExecutionStatus.SUSPENDED
                checkpoints = await self.load_checkpoints(one.workflow_execution_id)
                check_replay(gives_up_a_wait, record, checkpoints)
                self.replayed += 1


async def test_what_it_has_given_up_is_recorded_no_later_than_that_it_waits() -> None:
    clock = ManualClock()
    async with Checking.in_memory() as store, DurableEngine(store, clock=clock) as engine:
        assert isinstance(store, Checking)
        handle = await engine.start(gives_up_a_wait)
        async with asyncio.timeout(30):
            await until(lambda: store.replayed)
            await clock.advance(timedelta(seconds=1))
            await until(lambda: store.replayed >= 2)
            await handle.signal("answer", "yes")
            assert await handle.result() == "yes"
        assert not await store.load_pending_timers()
