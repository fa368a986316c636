"""The workflows that a model may start in these tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from durable_workflow_sqlite import WorkflowContext, report_progress, workflow


@dataclass
class Item:
    sku: str
    price: float


class Address(BaseModel):
    street: str
    city: str = "Berlin"


print("what a module prints is no part of the protocol")


@workflow
async def order(
    ctx: WorkflowContext, item: Item, quantity: int = 1, address: Address | None = None
) -> dict[str, float]:
    """Orders an item, when somebody has approved it."""
    await ctx.step("reserve", lambda: item.sku * 3000, compensate=lambda _: None)
    by = await ctx.wait_signal("approved", timeout=timedelta(days=7), type=str)
    where = address.city if address is not None else "nowhere"
    return {f"{item.sku} for {by} in {where}": item.price * quantity}


@workflow
async def adding(ctx: WorkflowContext, *numbers: int) -> int:
    return await ctx.step("add", add, list(numbers))


@workflow
async def secret(ctx: WorkflowContext, path: Path) -> str:
    child = await ctx.start_child("sum", adding, 1, 2)
    return f"{path} {await child.result()}"


@workflow
async def paying(ctx: WorkflowContext, amount: int) -> str:
    is_fine = await ctx.ask("approve", f"May we pay {amount}?", type=bool, to="finance")
    return f"paid {amount}" if is_fine else "not paid"


@workflow
async def packing(ctx: WorkflowContext, boxes: int) -> str:
    ctx.progress(1, 4, "the label")
    await ctx.step("pack", pack, boxes)
    await ctx.wait_signal("collected")
    return f"{boxes} boxes"


def pack(boxes: int) -> None:
    report_progress(boxes, boxes, "taped " * 100)


def add(numbers: list[int]) -> int:
    if 13 in numbers:
        raise ValueError("not 13")
    return sum(numbers)
