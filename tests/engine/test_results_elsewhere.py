"""Whoever waits for a result hears that a worker elsewhere left the execution as it is."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    DurableWorkflowError,
    ExecutionHandle,
    ExecutionStatus,
    NonDeterminismError,
    SerializationError,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)


def code(*, is_mended: bool) -> WorkflowDefinition[..., Any]:
    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("pay", lambda: "paid", compensate=lambda _: None)
        name = await ctx.wait_signal("go")
        if not is_mended:
            raise KeyError(name)
        return f"done {name}"

    return order


async def until_suspended(engine: DurableEngine) -> None:
    async with asyncio.timeout(30):
        async for state in engine.observe("one"):
            if state.status is ExecutionStatus.SUSPENDED:
                return


async def in_trouble(engine: DurableEngine, execution_id: str) -> str:
    async with asyncio.timeout(30):
        while (trouble := (await engine.load(execution_id)).trouble) is None:
            await asyncio.sleep(0.005)
    return trouble


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_mistake_in_the_code_of_a_worker_elsewhere_is_raised(file: Path, when: str) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other_store,
        DurableEngine(store) as client,
        DurableEngine(other_store, workflows=[code(is_mended=False)]) as worker,
    ):
        await worker.enqueue_named("order", [], execution_id="one")
        handle = client.handle("one")
        waiting = asyncio.ensure_future(handle.result())
        if when == "before":
            await until_suspended(client)
        await handle.signal("go", "k")
        text = await in_trouble(client, "one")
        if when == "after":
            waiting.cancel()
            waiting = asyncio.ensure_future(handle.result())
        with pytest.raises(WorkflowCodeError, match="raised KeyError: 'k'") as caught:
            await asyncio.wait_for(waiting, 30)
        assert caught.value.workflow_execution_id == "one"
        assert text == f"WorkflowCodeError: {caught.value}"
        # The worker hears of the cancel, which is no error of the code.
        assert await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await asyncio.wait_for(handle.result(), 30)


async def test_an_engine_that_has_the_code_and_takes_it_on_raises_nothing_old(file: Path) -> None:
    old, new = code(is_mended=False), code(is_mended=True)
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[old]) as engine:
            handle = await engine.enqueue_named("order", [], execution_id="one")
            await handle.signal("go", "k")
            await in_trouble(engine, "one")
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[new]) as engine:
            handle = engine.handle("one")
            assert await asyncio.wait_for(handle.result(), 30) == "done k"


@pytest.mark.parametrize(
    ("trouble", "kind", "text"),
    [
        ("NonDeterminismError: it differs", NonDeterminismError, "it differs"),
        ("SerializationError: not a number", SerializationError, "not a number"),
        ("Unheard: of", WorkflowCodeError, "Unheard: of"),
        ("Interrupt", WorkflowCodeError, "Interrupt"),
    ],
)
async def test_the_error_is_of_the_class_that_the_trouble_names(
    file: Path, trouble: str, kind: type[DurableWorkflowError], text: str
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        async with DurableEngine(store, workflows=[code(is_mended=True)]) as engine:
            handle: ExecutionHandle[object] = await engine.enqueue_named("order", [])
            one = handle.execution_id
        with closing(sqlite3.connect(file)) as dba, dba:
            dba.execute("update workflow_executions set trouble = ?", [trouble])
        with pytest.raises(kind) as caught:
            await asyncio.wait_for(client.result_of(one), 30)
        assert type(caught.value) is kind
        assert (str(caught.value), caught.value.workflow_execution_id) == (text, one)
