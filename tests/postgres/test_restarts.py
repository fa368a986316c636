"""The server crashes and starts again while an engine works: each execution ends all the same."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

import postgres_server
from durable_workflow_sqlite import DurableEngine, WorkflowContext, open_store, workflow

pytestmark = pytest.mark.campaign

EXECUTIONS = 10
STEPS = 8
RESTARTS = 2


async def test_each_execution_ends_though_the_server_crashes(url: str) -> None:
    runs: Counter[tuple[str, int]] = Counter()

    async def leg(execution_id: str, number: int) -> None:
        runs[execution_id, number] += 1
        await asyncio.sleep(0.01)

    @workflow
    async def journey(ctx: WorkflowContext) -> int:
        for number in range(STEPS):
            await ctx.step(f"leg {number}", leg, ctx.execution_id, number)
        return STEPS

    folder = postgres_server.new_folder()
    server = postgres_server.start(folder)
    try:
        async with (
            open_store(f"{server}postgres") as store,
            DurableEngine(store, [journey]) as engine,
        ):
            handles = [await engine.enqueue(journey) for _ in range(EXECUTIONS)]
            for restart in range(1, RESTARTS + 1):
                while len(runs) < EXECUTIONS * STEPS * restart // (RESTARTS + 1):
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(postgres_server.restart, folder)
            assert [await one.result() for one in handles] == [STEPS] * EXECUTIONS
        assert len(runs) == EXECUTIONS * STEPS
        assert max(runs.values()) <= 1 + RESTARTS
    finally:
        postgres_server.stop(folder)
