"""What an execution holds in memory while it waits there, by Python's own count."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from datetime import timedelta
from pathlib import Path

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.execution import Execution

FIRST, MORE = 50, 500
AT_MOST = 8 * 1024


async def nothing(number: int) -> int:
    return number


@workflow
async def steps(ctx: WorkflowContext) -> int:
    return sum([await ctx.step("step", nothing, number) for number in range(3)])


@workflow
async def waiting(ctx: WorkflowContext) -> float:
    return await ctx.wait_signal("go", type=float)


async def until_all_wait(store: SqliteCheckpointStore, count: int) -> None:
    while len(await store.load_executions_by_status([ExecutionStatus.SUSPENDED])) < count:
        await asyncio.sleep(0.01)


async def test_an_execution_that_waits_for_a_signal_holds_at_most_8_kb(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, park_after=timedelta(hours=1)) as engine,
    ):
        for number in range(FIRST):  # what is made once
            await engine.start(waiting, execution_id=f"first {number}")
        await until_all_wait(store, FIRST)
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(MORE):
                await engine.start(waiting, execution_id=str(number))
            await until_all_wait(store, FIRST + MORE)
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept / MORE <= AT_MOST, f"{kept / MORE:.0f} bytes"


async def test_an_execution_that_has_ended_is_freed_before_the_garbage_collector_comes(
    file: Path,
) -> None:
    def of_executions() -> list[object]:
        return [one for one in gc.get_objects() if type(one) in (Body, Execution)]

    gc.disable()
    try:
        of_other_tests = of_executions()
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            assert [await engine.run(steps) for _ in range(3)] == [3, 3, 3]
            await asyncio.sleep(0)  # the task of the last one ends
            assert len(of_executions()) == len(of_other_tests)
    finally:
        gc.enable()
