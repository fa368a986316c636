"""A project that uses the library, for type checkers: what they must infer, and must reject.

Each `type: ignore` stands where an error must be; a type checker complains of one that it does not
need.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=error

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from durable_workflow_sqlite import (
    Awaited,
    AwaitedSignal,
    CheckpointStore,
    ChildHandle,
    Client,
    DurableEngine,
    ExecutionHandle,
    ExecutionStatus,
    NewSignal,
    RetryPolicy,
    SignalResult,
    SqliteCheckpointStore,
    StepCheckpoint,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowExecution,
    blocking,
    migrate,
    workflow,
)


@dataclass
class Receipt:
    order_id: str
    amount: int


async def price(order_id: str) -> int:
    return len(order_id) * 100


def charge(order_id: str, amount: int) -> Receipt:
    return Receipt(order_id, amount)


async def refund(receipt: Receipt) -> None:
    pass


def log_refund(receipt: Receipt) -> None:
    pass


def refund_by_id(order_id: str) -> None:
    pass


def receipt_to_data(receipt: Receipt) -> list[Any]:
    return [receipt.order_id, receipt.amount]


def receipt_from_data(data: Sequence[Any]) -> Receipt:
    return Receipt(*data)


@workflow
async def order(ctx: WorkflowContext, order_id: str, discount: int) -> Receipt:
    total = await ctx.step("price", price, order_id)
    assert_type(total, int)
    receipt = await ctx.step(
        "charge",
        charge,
        order_id,
        total - discount,
        compensate=refund,
        retry=RetryPolicy.exponential(max_attempts=5, give_up_on=(ValueError,)),
        timeout=timedelta(seconds=30),
    )
    assert_type(receipt, Receipt)
    both = await asyncio.gather(
        ctx.step("again", charge, order_id, 1, compensate=log_refund),
        ctx.branch("a").step("price", price, order_id),
    )
    assert_type(both, tuple[Receipt, int])
    await ctx.step(
        "as a list",
        charge,
        order_id,
        1,
        serialize=receipt_to_data,
        deserialize=receipt_from_data,
    )
    assert_type(ctx.execution_id, str)
    key = ctx.idempotency_key("note")
    assert_type(key, str)
    await ctx.step("note", str, key)
    await ctx.sleep("cooling-off", timedelta(milliseconds=1))
    await ctx.sleep_until("later", datetime.now(UTC))
    by = await ctx.wait_signal("approved", timeout=timedelta(days=7), type=str)
    assert_type(by, str)
    signed = ctx.signal("signed", type=Receipt)
    note = ctx.signal("note")
    assert_type(signed, AwaitedSignal[Receipt])
    first = await ctx.wait_any(signed, note, ctx.timer("tired", timedelta(days=1)))
    assert_type(first, Awaited)
    if first is signed:
        assert_type(signed.value, Receipt)
    elif first is note:
        assert_type(note.value, Any)
    return receipt


@workflow(name="greeting", version=2)
async def greet(ctx: WorkflowContext, *names: str) -> str:
    return ", ".join(names)


@workflow
async def choose(ctx: WorkflowContext, name: str, rank: int = 1) -> str:
    amount = await ctx.wait_signal("amount", type=int | None)
    assert_type(amount, int | None)
    rows = await ctx.wait_signal("rows", type=list[int])
    assert_type(rows, list[int])
    assert_type(await choose(ctx, name, rank=rank - 1), str)
    return name


async def length(order_id: str) -> int:
    return len(order_id)


def log_price(cents: int) -> None:
    pass


@workflow
async def orders(ctx: WorkflowContext, ids: list[str]) -> int:
    receipt = await ctx.child("order", order, ids[0], 50, timeout=timedelta(hours=1))
    assert_type(receipt, Receipt)
    handle = await ctx.start_child("choose", choose, "kim", on_parent_end="detach")
    assert_type(handle, ChildHandle[str])
    assert_type(handle.execution_id, str)
    await handle.signal("amount", 7)
    await ctx.start_child("order", order, ids[0], 1, compensate=refund)
    first = await ctx.wait_any(handle, ctx.timer("tired", timedelta(days=1)))
    if first is handle:
        assert_type(await handle.result(), str)
    await handle.cancel()
    assert_type(await ctx.map("length", length, ids, compensate=log_price), list[int])
    assert_type(await ctx.map("length", len, ids, key=str, max_concurrency=5), list[int])
    assert_type(await ctx.map("greet", greet, iter(ids), key=str), list[str])
    collected = await ctx.map("count", count, ids, on_error="collect")
    assert_type(collected, list[int | Exception])
    assert_type(ctx.history_length, int)
    if ctx.history_length > 1000:
        return ctx.continue_as_new(ids[1:])
    return sum(one for one in collected if not isinstance(one, Exception))


@workflow
async def count(ctx: WorkflowContext, order_id: str) -> int:
    return await ctx.step("length", length, order_id)


def take_any(workflows: list[WorkflowDefinition[..., Any]]) -> None:
    pass


take_any([order, greet, choose, orders, count])


async def use_the_engine(store: CheckpointStore) -> None:
    async with DurableEngine(store, workflows=[order, greet]) as engine:
        handle = await engine.start(order, "A-1001", 50, execution_id="order-A-1001")
        assert_type(handle, ExecutionHandle[Receipt])
        assert_type(handle.execution_id, str)
        await engine.send_signal(handle.execution_id, "approved", "kim")
        sent = await handle.signal("note", 7, key="mail-88")
        assert_type(sent, SignalResult)
        assert_type(await handle.result(), Receipt)
        assert_type(await handle.status(), ExecutionStatus)
        again = await engine.run(order, "A-1001", 50, execution_id="order-A-1001")
        assert_type(again, Receipt)
        assert again == Receipt("A-1001", 550), again
        greeting = await engine.run(greet, "kim", "sam", ttl=timedelta(minutes=1))
        assert_type(greeting, str)
        assert_type(await engine.result_of("order-A-1001", Receipt), Receipt)
    client = Client(store)
    told, result = await client.signal_or_start(
        choose, "kim", execution_id="one", signal=NewSignal("amount", 7, key="mail-1")
    )
    assert_type(told, ExecutionHandle[str])
    assert_type(result, SignalResult)
    chosen = await client.enqueue(choose, "kim")
    assert_type(chosen, ExecutionHandle[str])
    await client.enqueue(choose, "kim", 2)
    checkpoints = await store.load_checkpoints("order-A-1001")
    assert_type(checkpoints, list[StepCheckpoint])
    assert checkpoints[0].output_data == "600"


async def use_wrongly(ctx: WorkflowContext, engine: DurableEngine) -> None:
    await ctx.step("price", price)  # type: ignore[arg-type, call-arg]
    await ctx.step("price", price, 1)  # type: ignore[arg-type]
    await ctx.step("charge", charge, "A-1", "1")  # type: ignore[arg-type, call-arg]
    await ctx.step("charge", charge, "A-1", 1, compensate=refund_by_id)  # type: ignore[arg-type, call-arg]
    await ctx.step("charge", charge, "A-1", 1, retry=3)  # type: ignore[call-arg, call-overload]
    await ctx.step("charge", charge, "A-1", 1, timeout=30)  # type: ignore[call-arg, call-overload]
    await ctx.sleep("for a while", 5)  # type: ignore[arg-type]
    await ctx.wait_any(ctx.wait_signal("go"))  # type: ignore[arg-type]
    await ctx.child("order", order, "A-1")  # type: ignore[arg-type]
    await ctx.child("order", order, "A-1", "50")  # type: ignore[arg-type]
    await ctx.child("price", price, "A-1")  # type: ignore[arg-type]
    await ctx.child("order", order, "A-1", 50, compensate=refund_by_id)  # type: ignore[misc]
    await ctx.child("order", order, "A-1", 50, timeout=30)  # type: ignore[arg-type]
    await ctx.start_child("order", order, "A-1", 50, on_parent_end="die")  # type: ignore[arg-type]
    await ctx.map("count", count, [1, 2])  # type: ignore[arg-type]
    await ctx.map("length", length, ["a"], on_error="ignore")  # type: ignore[call-overload]
    await ctx.map("length", length, ["a"], max_concurrency="5")  # type: ignore[call-overload]
    await ctx.map("length", length, ["a"], key=len)  # type: ignore[arg-type]
    await engine.signal_or_start(greet, 1, execution_id="one", signal=NewSignal("go"))  # type: ignore[arg-type]
    await engine.signal_or_start(greet, execution_id="one", signal="go")  # type: ignore[arg-type]
    await engine.start(greet, signals=["go"])  # type: ignore[list-item]
    await engine.run(order, "A-1")  # type: ignore[arg-type]
    await engine.run(order, "A-1", "50")  # type: ignore[arg-type]
    await engine.start(greet, 1)  # type: ignore[arg-type]
    await engine.run(choose)  # type: ignore[arg-type]
    await engine.run(choose, "kim", "1")  # type: ignore[arg-type]
    await engine.run(price, "A-1")  # type: ignore[arg-type]
    RetryPolicy.fixed(max_attempts=3)  # type: ignore[call-arg]
    DurableEngine(sqlite3.connect(":memory:"))  # type: ignore[arg-type]


def use_without_await(store: blocking.SqliteCheckpointStore) -> None:
    with blocking.DurableEngine(store, workflows=[order, greet]) as engine:
        handle = engine.start(order, "A-1002", 50, execution_id="order-A-1002")
        assert_type(handle, blocking.ExecutionHandle[Receipt])
        assert_type(handle.execution_id, str)
        told, sent = engine.signal_or_start(
            greet, "kim", execution_id="greeting", signal=NewSignal("go")
        )
        assert_type(told, blocking.ExecutionHandle[str])
        assert_type(sent, SignalResult)
        engine.send_signal(handle.execution_id, "approved", "kim")
        handle.signal("note", 7)
        assert_type(handle.result(timedelta(minutes=1)), Receipt)
        assert_type(handle.status(), ExecutionStatus)
        assert_type(engine.run(order, "A-1002", 50, execution_id="order-A-1002"), Receipt)
        assert_type(engine.run(greet, "kim", "sam", ttl=timedelta(minutes=1)), str)
        for state in engine.observe("order-A-1002"):
            assert_type(state, WorkflowExecution)
    assert_type(store.load_checkpoints("order-A-1002"), list[StepCheckpoint])


def use_wrongly_without_await(engine: blocking.DurableEngine, store: CheckpointStore) -> None:
    engine.run(order, "A-1")  # type: ignore[arg-type]
    engine.run(order, "A-1", "50")  # type: ignore[arg-type]
    engine.run(order, "A-1", 50, execution_id=1)  # type: ignore[arg-type]
    engine.start(greet, 1)  # type: ignore[arg-type]
    engine.run(price, "A-1")  # type: ignore[arg-type]
    engine.send_signal("A-1")  # type: ignore[call-arg]
    engine.handle("A-1").result(5)  # type: ignore[arg-type]
    blocking.DurableEngine(store)  # type: ignore[arg-type]


if TYPE_CHECKING:

    @workflow  # type: ignore[arg-type]
    def not_async(ctx: WorkflowContext) -> int:
        return 1


async def main() -> None:
    connection = sqlite3.connect(":memory:")
    assert_type(migrate(connection), list[int])
    connection.close()
    async with SqliteCheckpointStore.in_memory() as store:
        await use_the_engine(store)


if __name__ == "__main__":
    with blocking.SqliteCheckpointStore.in_memory() as blocking_store:
        use_without_await(blocking_store)
    asyncio.run(main())
