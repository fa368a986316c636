"""Events that somebody edited by hand stop their execution, and say which row it is."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    StoreCorruptError,
    WorkflowContext,
    workflow,
)
from tests.databases import delete_unnoticed

ran: list[str] = []


@workflow
async def order(ctx: WorkflowContext) -> str:
    await ctx.step("reserve", ran.append, "reserve", compensate=lambda _: ran.append("release"))
    await ctx.step("charge", ran.append, "charge")
    return str(await ctx.wait_signal("go"))


EDITS = {
    "set completed_at = null where step_name = 'charge'": "'charge' .* is event 2, though",
    "set event = 1 where step_name = 'charge'": "'charge' .* is event 1, and so is another",
    "set event = 3 where step_name = 'go'": "'go' .* is event 3, though it has not ended",
    "set status = 'INTENT' where step_name = 'charge'": "'charge' .* is event 2, though",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_event_stops_the_execution_and_is_named(file: Path, edit: str) -> None:
    async def begin() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(order, execution_id="one")
            async with asyncio.timeout(30):
                while (await engine.load("one")).status is not ExecutionStatus.SUSPENDED:
                    await asyncio.sleep(0.01)

    async def go_on(signal: str | None = None) -> object:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order]) as engine:
                if signal is not None:
                    await engine.send_signal("one", signal, "went")
                return await engine.handle("one").result()

    ran.clear()
    asyncio.run(begin())
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        before = connection.execute("select * from step_checkpoints order by id").fetchall()
        connection.execute(f"update step_checkpoints {edit}")
    with pytest.raises(StoreCorruptError, match=EDITS[edit]) as caught:
        asyncio.run(go_on("go"))
    assert caught.value.workflow_execution_id == "one"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        (trouble,) = connection.execute("select trouble from workflow_executions").fetchone()
        assert trouble.startswith("StoreCorruptError: ")
        delete_unnoticed(connection, "delete from step_checkpoints")
        marks = ", ".join("?" * len(before[0]))
        connection.executemany(f"insert into step_checkpoints values ({marks})", before)
    assert asyncio.run(go_on()) == "went"
    assert ran == ["reserve", "charge"]
