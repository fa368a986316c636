"""A slot is held while code runs: what waits for its next attempt holds up nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    RetryPolicy,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowContext,
    workflow,
)

TEN_MINUTES = RetryPolicy.fixed(max_attempts=9, delay=timedelta(minutes=10))
SLOTS = 3


def fail(*_: object) -> None:
    raise ConnectionError("503")


@workflow
async def backs_off(ctx: WorkflowContext) -> None:
    await ctx.step("call", fail, retry=TEN_MINUTES)


@workflow
async def backs_off_side_by_side(ctx: WorkflowContext) -> None:
    await asyncio.gather(*(ctx.step(f"call {n}", fail, retry=TEN_MINUTES) for n in range(3)))


@workflow
async def cannot_undo(ctx: WorkflowContext) -> None:
    await ctx.step("pay", int, compensate=fail, compensate_retry=TEN_MINUTES)
    await ctx.step("ship", fail)


hung: set[str] = set()


async def hang_once(name: str) -> None:
    if name not in hung:
        hung.add(name)
        await asyncio.sleep(60)
    raise ConnectionError("503")


@workflow
async def settles(ctx: WorkflowContext) -> None:
    """It was cut off in a step, and has to find out what became of it before it undoes it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await ctx.step("book", hang_once, str(ctx.uuid4()), compensate=fail, retry=TEN_MINUTES)
    await ctx.step("ship", fail)


@workflow
async def healthy(ctx: WorkflowContext) -> int:
    return await ctx.step("one", lambda: 1)


@workflow
async def busy(ctx: WorkflowContext) -> None:
    await ctx.step("work", asyncio.sleep, 30)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("waits", [backs_off, backs_off_side_by_side, cannot_undo, settles])
def test_what_waits_for_its_next_attempt_holds_no_slot(file: Path, waits: object) -> None:
    async def life() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
            for number in range(20):
                await client.enqueue(waits, execution_id=f"waits {number}")  # type: ignore[call-overload]
            for number in range(5):
                await client.enqueue(healthy, execution_id=f"healthy {number}")
        workflows = [backs_off, backs_off_side_by_side, cannot_undo, settles, healthy]
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows, max_concurrent=SLOTS) as engine:
                async with asyncio.timeout(10):
                    for number in range(5):
                        assert await engine.handle(f"healthy {number}").result() == 1
                for number in range(20):
                    found = await engine.load(f"waits {number}")
                    assert not found.status.is_terminal

    asyncio.run(life())


def test_what_runs_holds_its_slot(file: Path) -> None:
    async def life() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
            for number in range(9):
                await client.enqueue(busy, execution_id=str(number))
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, [busy], max_concurrent=SLOTS) as engine:
                await asyncio.sleep(0.3)
                running = await store.load_executions_by_status([ExecutionStatus.RUNNING])
                assert len(running) == SLOTS
                await engine.dispose(grace=timedelta(0))

    asyncio.run(life())


def test_it_holds_one_again_while_its_next_attempt_runs(file: Path) -> None:
    runs: list[str] = []

    async def fail_once(name: str) -> None:
        runs.append(name)
        if runs.count(name) == 1:
            raise ConnectionError("503")
        await asyncio.sleep(30)

    @workflow
    async def tries_again(ctx: WorkflowContext, name: str) -> None:
        quick = RetryPolicy.fixed(max_attempts=9, delay=timedelta(milliseconds=300))
        await ctx.step("call", fail_once, name, retry=quick)

    async def life() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
            for number in range(SLOTS):
                await client.enqueue(tries_again, str(number))
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, [tries_again, healthy], max_concurrent=SLOTS) as engine:
                await until(lambda: len(runs) == 2 * SLOTS)
                async with (
                    SqliteCheckpointStore.file(file) as other,
                    DurableEngine(other) as client,
                ):
                    await client.enqueue(healthy, execution_id="late")
                await asyncio.sleep(0.3)
                assert (await engine.load("late")).status is ExecutionStatus.PENDING
                steps = await store.load_checkpoints("late")
                assert not [one for one in steps if one.status is StepStatus.COMPLETED]
                await engine.dispose(grace=timedelta(0))

    asyncio.run(life())
