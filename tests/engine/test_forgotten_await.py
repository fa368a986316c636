"""A forgotten `await`, and a wait that cannot end: the error says which step, and which line."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowStuckError,
    workflow,
)


def price(_: object = None) -> int:
    return 3


@workflow
async def adds(ctx: WorkflowContext) -> int:
    total: Any = ctx.step("price", price)
    return int(total + 1)


@workflow
async def reads(ctx: WorkflowContext) -> str:
    total: Any = ctx.wait_signal("price")
    return str(total.amount)


@workflow
async def passes_on(ctx: WorkflowContext) -> int:
    total: Any = ctx.step("price", price)
    return await ctx.step("charge", price, total)


async def run(flow: Any) -> object:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        return await asyncio.wait_for(engine.run(flow, execution_id="one"), 30)


def quietly(act: Callable[[], object]) -> None:
    """Fail for a warning of Python's, also one that comes late."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        act()
        gc.collect()
    assert [str(one.message) for one in seen if one.category is RuntimeWarning] == []


@pytest.mark.parametrize(
    ("flow", "named"),
    [
        (adds, r"had called step 'price' \(index 0\) without `await`: write `await`"),
        (reads, r"had called signal 'price' \(index 0\) without `await`"),
        (passes_on, r"'charge' is given the coroutine of step 'price' \(index 0\)"),
    ],
    ids=["added", "read", "passed on"],
)
def test_the_error_names_the_step_that_lacks_its_await(flow: Any, named: str) -> None:
    def act() -> None:
        with pytest.raises(WorkflowCodeError, match=named):
            asyncio.run(run(flow))

    quietly(act)


def test_a_workflow_that_fails_for_another_reason_leaves_no_warning() -> None:
    class OutOfStockError(Exception):
        pass

    @workflow
    async def fails(ctx: WorkflowContext) -> None:
        calls = [ctx.step("price", price), ctx.step("weight", price)]
        if calls:
            raise OutOfStockError

    def act() -> None:
        with pytest.raises(WorkflowFailedError, match="OutOfStock"):
            asyncio.run(run(fails))

    quietly(act)


async def wait_for_nobody() -> None:
    await asyncio.Event().wait()  # here it waits


@workflow
async def stuck(ctx: WorkflowContext) -> None:
    await ctx.step("price", price)
    await wait_for_nobody()


def test_a_stuck_workflow_says_at_which_line() -> None:
    line = wait_for_nobody.__code__.co_firstlineno + 1
    with pytest.raises(
        WorkflowStuckError, match=rf"waits at line {line} of {__file__}, in wait_for_nobody, and no"
    ):
        asyncio.run(run(stuck))
