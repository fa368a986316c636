"""The workflow of these tests; run as a process, it starts orders and dies with them.

python -m tests.cli.orders FILE
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from datetime import timedelta

from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore, WorkflowContext, workflow

STARTED = ["A-1", "A-2", "WAIT-1", "WAIT-2", "SLEEP-1", "BAD-1", "BAD-UNDONE", "SLOW-1"]
AT_DEATH = {"COMPLETED": 2, "SUSPENDED": 3, "FAILED": 2, "RUNNING": 1}
SLOW = ("pack", "INTENT")
HOSTILE = "no address \x1b[31m\ttab\nline"


def charge(order_id: str) -> dict[str, str]:
    return {"charged": order_id}


def refund(_: dict[str, str]) -> None:
    pass


def pack(order_id: str) -> str:
    if order_id == "SLOW-1":
        time.sleep(60)
    return "packed"


def ship(order_id: str) -> str:
    if order_id.startswith("BAD"):
        raise ValueError(HOSTILE)
    return "shipped"


@workflow
async def order(ctx: WorkflowContext, order_id: str) -> str:
    undo = refund if order_id == "BAD-UNDONE" else None
    await ctx.step("charge", charge, order_id, compensate=undo)
    await ctx.step("pack", pack, order_id)
    if order_id.startswith("WAIT"):
        await ctx.wait_signal("approved", timeout=timedelta(days=7))
    if order_id.startswith("SLEEP"):
        await ctx.sleep("rest", timedelta(hours=2))
    return await ctx.step("ship", ship, order_id)


@workflow(name="order")
async def changed_order(ctx: WorkflowContext, order_id: str) -> str:
    """Code that does not fit what `order` recorded."""
    return await ctx.step("check", charge, order_id)


@workflow
async def refund_order(ctx: WorkflowContext, order_id: str) -> None:
    """What a worker of other code runs."""
    await ctx.step("refund", refund, {"charged": order_id})


async def start_and_die(file: str) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, workflows=[order]) as engine,
    ):
        for order_id in STARTED:
            await engine.start(order, order_id, execution_id=f"order-{order_id}")
        while True:
            await asyncio.sleep(0.02)
            statuses = Counter(
                [(await engine.load(f"order-{order_id}")).status for order_id in STARTED]
            )
            steps = await store.load_checkpoints("order-SLOW-1")
            if statuses == AT_DEATH and (steps[-1].step_name, steps[-1].status) == SLOW:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(start_and_die(sys.argv[1]))
