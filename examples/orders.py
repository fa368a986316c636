"""The workflow of the demo: price an order, charge the customer, pack it, ship it."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from durable_workflow_sqlite import WorkflowContext, workflow


@dataclass(frozen=True)
class Item:
    name: str
    price: Decimal
    count: int


@dataclass(frozen=True)
class Order:
    number: str
    customer: str
    items: list[Item]


def read_orders(path: Path) -> list[Order]:
    return msgspec.json.decode(path.read_bytes(), type=list[Order])


@workflow
async def fulfil(ctx: WorkflowContext, order: Order, payments: str) -> str:
    total = await ctx.step("price", price, order)
    key = ctx.idempotency_key("charge")
    charge_id = await ctx.step("charge", charge, payments, key, order.number, total)
    parcel = await ctx.step("pack", pack, order)
    return await ctx.step("ship", ship, parcel, charge_id)


def price(order: Order) -> Decimal:
    return sum((item.price * item.count for item in order.items), Decimal())


def charge(payments: str, key: str, order: str, amount: Decimal) -> str:
    """Ask the payment service for the money; with the same key, it moves only once."""
    request = urllib.request.Request(
        payments,
        data=json.dumps({"order": order, "amount": str(amount)}).encode(),
        headers={"Idempotency-Key": key},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, str] = json.load(response)
    return answer["charge"]


def pack(order: Order) -> str:
    time.sleep(0.02)
    return f"parcel-{order.number}"


def ship(parcel: str, charge_id: str) -> str:
    time.sleep(0.02)
    return f"{parcel} shipped, paid by {charge_id}"
