"""A file as it looks in the middle of a day: orders in every state, made by real engines.

    python tools/demonstration.py FILE

Workers that died were killed, a step in doubt was cut off, what is blocked has killed its workers,
and what is in trouble met code that had changed. Only the times of finished orders are changed by
hand, so that they lie in the day before.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_workflow_sqlite import (
    DurableEngine,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.engine.workflow import AnyWorkflow

BLINK = 0.02
MAX_RECOVERIES = 2
CUT_OFF = "A-1039"
PLACES = ("Berlin", "Lisbon", "Oslo", "Utrecht", "Graz")


@dataclass
class Payment:
    number: str
    cents: int


@dataclass
class Parcel:
    carrier: str
    tracking: str


attempts: dict[str, int] = {}


async def price(order_id: str) -> int:
    await asyncio.sleep(BLINK)
    return 1900 + 700 * (sum(order_id.encode()) % 7)


async def reserve(order_id: str) -> list[str]:
    await asyncio.sleep(2 * BLINK)
    return ["shelf 12, place 4", "shelf 30, place 1"]


async def charge(order_id: str, cents: int) -> Payment:
    await asyncio.sleep(4 * BLINK)
    attempts[order_id] = attempts.get(order_id, 0) + 1
    if order_id.endswith("7") and attempts[order_id] < 3:
        raise ConnectionError("the payment service did not answer within 80 ms")
    return Payment(f"pay_{order_id[-4:]}", cents)


async def ship(order_id: str) -> Parcel:
    await asyncio.sleep(3 * BLINK)
    if order_id.endswith("3"):
        raise RuntimeError(f"no carrier delivers {order_id}: the address has no street number")
    if order_id.endswith("9"):
        os.kill(os.getpid(), signal.SIGKILL)
    return Parcel("post", f"RR{sum(order_id.encode()):09d}")


async def give_back(payment: Payment) -> None:
    await asyncio.sleep(3 * BLINK)


async def release(places: list[str]) -> None:
    await asyncio.sleep(BLINK)


async def tell(order_id: str) -> str:
    await asyncio.sleep(BLINK)
    return f"mail about {order_id}"


async def deadly(order_id: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@workflow
async def order(ctx: WorkflowContext, order_id: str, place: str) -> Parcel:
    cents = await ctx.step("price", price, order_id)
    await ctx.step("reserve stock", reserve, order_id, compensate=release)
    again = RetryPolicy.exponential(max_attempts=5, initial_delay=timedelta(milliseconds=60))
    await ctx.step("charge", charge, order_id, cents, compensate=give_back, retry=again)
    if cents > 5000:
        await ctx.wait_signal("approved", timeout=timedelta(days=7))
    await ctx.step("confirm by mail", tell, order_id)
    await ctx.sleep("cooling-off", timedelta(milliseconds=180))
    return await ctx.step("ship", ship, order_id)


@workflow
async def subscription(ctx: WorkflowContext, customer: str) -> int:
    cents = 0
    for _ in range(12):
        cents += await ctx.step("bill", price, customer)
        await ctx.sleep("until next month", timedelta(days=30))
    return cents


@workflow(version=2)
async def import_catalogue(ctx: WorkflowContext, supplier: str) -> int:
    async def part(branch: WorkflowContext, name: str) -> int:
        await branch.step("fetch", price, name)
        return await branch.step("store", price, name)

    await ctx.step("list", price, supplier)
    return sum(
        await asyncio.gather(
            *(part(ctx.branch(name), name) for name in ("books", "maps", "prints"))
        )
    )


@workflow
async def broken_import(ctx: WorkflowContext, supplier: str) -> None:
    await ctx.step("fetch", price, supplier)
    await ctx.step("unpack", deadly, supplier)


@workflow
async def invoice(ctx: WorkflowContext, number: str) -> str:
    await ctx.step("write", tell, number)
    await ctx.wait_signal("paid")
    return await ctx.step("file away", tell, number)


@workflow(name="invoice")
async def changed_invoice(ctx: WorkflowContext, number: str) -> str:
    await ctx.step("check address", tell, number)
    await ctx.step("write", tell, number)
    await ctx.wait_signal("paid")
    return await ctx.step("file away", tell, number)


WORKFLOWS: list[AnyWorkflow] = [order, subscription, import_catalogue, changed_invoice]


async def make(file: Path) -> None:
    """Fill a new file. Takes some seconds."""
    for _ in range(MAX_RECOVERIES + 2):  # the last one finds it blocked, and lives
        die(lambda: _unpack(file))
    async with open_(file, invoice) as engine:
        await engine.start(invoice, "2041", execution_id="invoice-2041")
        await asyncio.sleep(0.5)
    async with open_(file, *WORKFLOWS) as engine:
        await engine.send_signal("invoice-2041", "paid")
        for supplier in ("northwind", "acme"):
            await engine.run(import_catalogue, supplier, execution_id=f"import-{supplier}")
        await _yesterday(engine)
        running = [
            await engine.start(
                order, f"A-{number}", PLACES[number % 5], execution_id=f"order-A-{number}"
            )
            for number in range(1001, 1044)
            if number % 10 != 9
        ]
        for customer in ("lena", "yusuf"):
            await engine.start(subscription, customer, execution_id=f"subscription-{customer}")
        await asyncio.sleep(0.25)
        await engine.cancel("order-A-1022")
        await asyncio.sleep(1.2)
        for handle in running[::3]:
            if not (await handle.status()).is_terminal:
                await handle.signal("approved", {"by": "kim", "note": "fine for me"})
        await asyncio.sleep(0.8)
    die(lambda: _cut_off(file))
    spread(file)


async def _yesterday(engine: DurableEngine) -> None:
    """Many orders, of which every tenth fails."""

    async def one(number: int) -> None:
        name = f"B-{number}"
        handle = await engine.start(order, name, PLACES[number % 5], execution_id=f"order-{name}")
        await handle.signal("approved", {"by": "kim"})
        await handle.result()

    numbers = (number for number in range(2001, 2301) if number % 10 != 9)
    await asyncio.gather(*map(one, numbers), return_exceptions=True)


_TIMES = {
    "workflow_executions": ("created_at", "updated_at", "status_since", "started_at"),
    "step_checkpoints": ("started_at", "completed_at", "due_at"),
    "workflow_timers": ("fire_at", "created_at"),
    "workflow_signals": ("created_at",),
}


def spread(file: Path) -> None:
    """Move the orders of yesterday into the hours of a day; most of what failed, into two."""
    with closing(sqlite3.connect(file)) as connection, connection:
        found = connection.execute(
            "select workflow_execution_id, status from workflow_executions"
            " where workflow_execution_id glob 'order-B-*' order by 1"
        ).fetchall()
        for number, (one, status) in enumerate(found):
            minutes = 20 + number * 677 % 1380
            if status == "FAILED" and number % 4:
                minutes = 200 + number % 90
            for table, columns in _TIMES.items():
                changes = ", ".join(
                    f"{column} = strftime('%Y-%m-%dT%H:%M:%f000Z', {column}, '-{minutes} minutes')"
                    for column in columns
                )
                connection.execute(
                    f"update {table} set {changes} where workflow_execution_id = ?", (one,)
                )


@asynccontextmanager
async def open_(file: Path, *workflows: AnyWorkflow) -> AsyncGenerator[DurableEngine]:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, workflows, max_recoveries=MAX_RECOVERIES) as engine,
    ):
        yield engine


async def _unpack(file: Path) -> None:
    async with open_(file, broken_import) as engine:
        await engine.start(broken_import, "globex", execution_id="import-globex")
        await asyncio.sleep(0.5)


async def _cut_off(file: Path) -> None:
    async with open_(file, order) as engine:
        await engine.run(order, CUT_OFF, "Oslo", execution_id=f"order-{CUT_OFF}")


def die(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run in a process of its own, which may kill itself."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(body())
        finally:
            os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
