"""A workflow function that ends with CancelledError, though nobody cancelled the execution."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine.checking import check_replay
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, die, run_until_killed

Ends = Callable[[WorkflowContext], Awaitable[Any]]


async def raises_it(ctx: WorkflowContext) -> None:
    raise asyncio.CancelledError


async def raises_it_with_a_text(ctx: WorkflowContext) -> None:
    raise asyncio.CancelledError("enough")


async def cancels_itself(ctx: WorkflowContext) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await ctx.step("never", int)


async def waits_for_what_it_has_cancelled(ctx: WorkflowContext) -> None:
    part = asyncio.create_task(ctx.sleep("long", timedelta(days=1)))
    await ctx.step("meanwhile", int)
    part.cancel()
    await part


async def in_a_group(ctx: WorkflowContext) -> None:
    raise BaseExceptionGroup("two", [asyncio.CancelledError(), ValueError("b")])


async def times_out_into_a_group_that_fails(ctx: WorkflowContext) -> None:
    """On Python 3.11 that ends with CancelledError, later with what the task raised."""

    async def fail() -> None:
        raise ValueError("late")

    async with asyncio.timeout(0.02):
        try:
            await ctx.wait_signal("never")
        finally:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())


ALL = [
    raises_it,
    raises_it_with_a_text,
    cancels_itself,
    waits_for_what_it_has_cancelled,
    in_a_group,
    times_out_into_a_group_that_fails,
]


def make(ends: Ends, journal: Journal) -> WorkflowDefinition[[], None]:
    """A workflow with something to undo; it dies in the middle of that the first time."""

    def undo(value: int) -> None:
        if journal.note(f"undo {value}") == 1 and value == 1:
            die()

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: 1, compensate=undo)
        await ctx.step("second", lambda: 2, compensate=undo)
        await ends(ctx)

    return order


@pytest.mark.parametrize("ends", ALL, ids=lambda ends: ends.__name__)
def test_it_has_failed_and_is_undone_in_every_process(
    ends: Ends, file: Path, journal: Journal
) -> None:
    order = make(ends, journal)

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.run(order, execution_id="one")

    async def second_process() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            left = await loaded(store, "one")
            assert left.status is ExecutionStatus.COMPENSATING
            check_replay(order, left, await store.load_checkpoints("one"))
            async with DurableEngine(store) as engine:
                with pytest.raises(WorkflowFailedError) as caught:
                    await asyncio.wait_for(engine.run(order, execution_id="one"), 10)
            record = await loaded(store, "one")
            assert record.status is ExecutionStatus.FAILED
            assert record.trouble is None
            assert (record.error_type, record.error_message) == (
                left.error_type,
                left.error_message,
            )
            assert caught.value.error_type == record.error_type
            check_replay(order, record, await store.load_checkpoints("one"))

    run_until_killed(first_process)
    asyncio.run(second_process())
    assert journal.lines == ["undo 2", "undo 1", "undo 1"]


@pytest.mark.parametrize(
    ("ends", "more"),
    [(raises_it, ""), (raises_it_with_a_text, ": enough"), (cancels_itself, "")],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_the_error_says_that_nobody_cancelled_it(ends: Ends, more: str) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ends(ctx)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError) as caught:
            await asyncio.wait_for(engine.run(order, execution_id="one"), 10)
    said = "the workflow function ended with CancelledError, though nobody cancelled"
    assert caught.value.error_type == "asyncio.exceptions:CancelledError"
    assert caught.value.error_message == f"{said} the execution{more}"
    assert said in str(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, asyncio.CancelledError)
    assert cause.__cause__ is not None  # with the traceback of where it was raised
    assert cause.__cause__.__traceback__ is not None


async def test_one_that_somebody_cancels_is_cancelled_however_it_ends() -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        try:
            await ctx.wait_signal("never")
        finally:
            raise asyncio.CancelledError("mine")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(order, execution_id="one")
        await asyncio.sleep(0.02)
        assert await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await asyncio.wait_for(handle.result(), 10)
