"""Workflows that are moved in the middle of all that an execution can be doing."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    Limit,
    Queue,
    Rate,
    WorkflowContext,
    report_progress,
    step_stream,
    workflow,
)
from durable_workflow_sqlite.protocol import CheckpointStore

JOURNAL = "DURABLE_TEST_JOURNAL"
"""Names the file into which each call of an action writes a line."""

STEPS = 6


@workflow
async def order(ctx: WorkflowContext, number: int) -> str:
    ctx.progress(0, 2)
    await ctx.step("charge", charge, number, compensate=refund)
    if number % 5 == 4:
        raise ValueError("sold out")
    assert ctx.patched("parcels")
    await ctx.child("parcel", parcel, number)
    approved = await ctx.wait_signal("approved", type=str)
    await ctx.step("ship", note, "ship", number, limit="carrier")
    return f"{number}: {approved}"


@workflow
async def parcel(ctx: WorkflowContext, number: int) -> int:
    await ctx.step("weigh", note, "weigh", number)
    return number


@workflow
async def reminder(ctx: WorkflowContext, number: int) -> int:
    await ctx.sleep("a day", timedelta(days=1))
    return number


@workflow
async def walk(ctx: WorkflowContext, number: int) -> int:
    for leg in range(STEPS):
        await ctx.step(f"leg {leg}", slowly, number, leg)
    return number


async def charge(number: int) -> str:
    await note("charge", number)
    await step_stream().write(number)
    report_progress(number, 100, f"order {number}")
    return f"charge of {number} € \u00e9\u2028"


async def refund(charged: str) -> None:
    await note("refund", int(charged.split()[2]))


async def slowly(number: int, leg: int) -> int:
    await note(f"leg {leg}", number)
    await asyncio.sleep(0.02)
    return leg


async def note(what: str, number: int) -> int:
    """One line in one write: so a kill leaves it whole, or leaves none."""
    with open(os.environ[JOURNAL], "ab", buffering=0) as journal:  # noqa: ASYNC230, PTH123
        journal.write(f"{what} {number}\n".encode())
    return number


WORKFLOWS = [order, parcel, reminder, walk]


async def begin(store: CheckpointStore) -> None:
    """Executions of every state, and a row in almost every table."""
    client = Client(store)
    await client.declare(
        Queue("slow", concurrency=2, rate=Rate(100, timedelta(seconds=1))),
        Limit("carrier", concurrency=3),
    )
    await client.schedule("nightly", reminder, 1, cron="0 3 * * *", tz="Europe/Berlin")
    async with DurableEngine(store, WORKFLOWS) as engine:
        for number in range(10):
            await engine.start(order, number, execution_id=f"order {number}", tags={"shop": "A"})
        await engine.start(reminder, 7, execution_id="reminder")
        async with asyncio.timeout(30):
            for number in range(10):
                while not await _waits(engine, f"order {number}"):
                    await asyncio.sleep(0.01)
        await engine.send_signal("order 0", "approved", "at once")
        assert await engine.result_of("order 0") == "0: at once"
        assert await (await engine.enqueue(parcel, 98, queue="slow", key="k")).result() == 98
        await engine.cancel("order 1")
        await engine.pause("order 2", reason="a look at it")
        await engine.pause_queue("slow")
    await client.send_signal("order 3", "approved", "before the move")
    await client.enqueue(parcel, 99, execution_id="queued", queue="slow", key="k", dedup_id="d")


async def _waits(engine: DurableEngine, execution_id: str) -> bool:
    found = await engine.load(execution_id)
    return found.status.value not in ("PENDING", "RUNNING", "COMPENSATING")


async def end(store: CheckpointStore) -> dict[str, str]:
    """Let what is open end, after a move; the results."""
    async with DurableEngine(store, WORKFLOWS) as engine:
        await engine.resume("order 2")
        await engine.resume_queue("slow")
        for number in (2, 5, 6, 7, 8):
            await engine.send_signal(f"order {number}", "approved", "after the move")
        results = {
            f"order {number}": await engine.result_of(f"order {number}", str)
            for number in (0, 2, 3, 5, 6, 7, 8)
        }
        assert await engine.result_of("queued") == 99
        return results


RESULTS = {
    "order 0": "0: at once",
    "order 3": "3: before the move",
    **{f"order {number}": f"{number}: after the move" for number in (2, 5, 6, 7, 8)},
}
