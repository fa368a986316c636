"""A saga: what was paid and reserved is given back when shipping fails.

    python checkout_with_refund.py

Each step names its compensation. When a later step fails for good, the completed steps are undone,
the last one first. After a crash in the middle of this, the compensations continue.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)

happened: list[str] = []


@dataclass
class Payment:
    number: str
    cents: int


@workflow
async def checkout(ctx: WorkflowContext, cart: list[str]) -> str:
    # A compensation gets the result of its step, with its type.
    await ctx.step("pay", pay, 100 * len(cart), compensate=refund)
    await ctx.step("reserve", reserve, cart, compensate=release)
    return await ctx.step("ship", ship, cart)


async def pay(cents: int) -> Payment:
    note(f"paid {cents} cents")
    return Payment("payment-1", cents)


async def refund(payment: Payment) -> None:
    note(f"gave {payment.cents} cents of {payment.number} back")


async def reserve(cart: list[str]) -> list[str]:
    note(f"reserved {', '.join(cart)}")
    return cart


async def release(cart: list[str]) -> None:
    note(f"released {', '.join(cart)}")


async def ship(cart: list[str]) -> str:
    raise RuntimeError("the truck broke down")


def note(line: str) -> None:
    print(line)
    happened.append(line)


async def main() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        try:
            await engine.run(checkout, ["pen", "ink"])
        except WorkflowFailedError as error:
            print(f"failed: {error.error_message}")
    assert happened == [
        "paid 200 cents",
        "reserved pen, ink",
        "released pen, ink",
        "gave 200 cents of payment-1 back",
    ]


if __name__ == "__main__":
    asyncio.run(main())
