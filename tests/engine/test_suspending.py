"""What is SUSPENDED says in its records what it waits for, whenever it may be killed."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

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
        if sql == "commit" and hasattr(self, "seen"):
            self.seen.append(super().execute(WAITS_FOR_NOTHING).fetchone()[0])
        return cursor


def test_no_commit_leaves_an_execution_suspended_that_waits_for_nothing(tmp_path: Path) -> None:
    """With `full`, a commit takes many turns of the loop, in which all else comes to rest."""

    @workflow(name="naps")
    async def naps(ctx: WorkflowContext) -> None:
        for number in range(3):
            await ctx.sleep(f"nap {number}", timedelta(milliseconds=number))
            await ctx.wait_signal("go")

    async def live() -> None:
        connection = sqlite3.connect(
            tmp_path / "workflows.db", factory=Slow, check_same_thread=False
        )
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

    asyncio.run(live())
