"""A monthly invoice run: an execution for each customer, several at a time, in batches.

An invoice that fails does not hold up the others: the run collects it. After each batch the run
continues as new, so its history stays small however many customers there are.
"""

from __future__ import annotations

import asyncio

from durable_workflow_sqlite import (
    ChildFailedError,
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

BATCH = 3
ADDRESSES = {"kim": "Hill Road 1", "lee": "Mill Lane 2", "noa": "High Street 3", "sam": "Pond 4"}


def price(customer: str) -> int:
    return len(customer) * 100


def send(customer: str, cents: int, key: str) -> None:
    """Send the invoice. The key is the same when it is sent again after a crash."""
    if customer not in ADDRESSES:
        raise LookupError(f"{customer} has no address")


@workflow
async def invoice(ctx: WorkflowContext, customer: str) -> int:
    cents = await ctx.step("price", price, customer)
    await ctx.step("send", send, customer, cents, ctx.idempotency_key("send"))
    return cents


@workflow
async def invoice_run(
    ctx: WorkflowContext, customers: list[str], cents: int, failed: list[str]
) -> dict[str, object]:
    batch, rest = customers[:BATCH], customers[BATCH:]
    ends = await ctx.map("invoice", invoice, batch, key=str, max_concurrency=2, on_error="collect")
    for customer, end in zip(batch, ends, strict=True):
        if isinstance(end, ChildFailedError):
            failed.append(f"{customer}: {end.error_message}")
        elif isinstance(end, Exception):
            raise end
        else:
            cents += end
    if rest:
        return ctx.continue_as_new(rest, cents, failed)
    return {"cents": cents, "failed": failed}


async def main() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, workflows=[invoice_run, invoice]) as engine,
    ):
        customers = ["kim", "lee", "nobody", "noa", "sam"]
        done = await engine.run(invoice_run, customers, 0, [], execution_id="2030-01")
        print(f"{done['cents']} cents; not sent: {done['failed']}")
        run = await engine.load("2030-01")
        print(f"it ended in run {run.run_number}")


if __name__ == "__main__":
    asyncio.run(main())
