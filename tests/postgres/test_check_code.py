"""`check_code` and patches on PostgreSQL: read by a reader, beside a worker."""

from __future__ import annotations

import asyncio
import json

from durable_workflow_sqlite import (
    DurableEngine,
    WorkflowContext,
    open_store,
    workflow,
)
from durable_workflow_sqlite.code_check import check_code
from durable_workflow_sqlite.testing import Sandbox
from tests.cli.conftest import run


async def order(ctx: WorkflowContext, number: int) -> None:
    await ctx.step("charge", lambda: number)
    ctx.patched("note")
    await ctx.wait_signal("go")


async def renamed(ctx: WorkflowContext, number: int) -> None:
    await ctx.step("pay", lambda: number)


async def deprecated(ctx: WorkflowContext, number: int) -> None:
    await ctx.step("charge", lambda: number)
    ctx.deprecate_patch("note")
    await ctx.wait_signal("go")


async def test_what_is_recorded_there_is_replayed(url: str, schema: str) -> None:
    address = f"{url}?schema={schema}"
    definition = workflow(order)
    async with open_store(address) as store, DurableEngine(store, [definition]) as engine:
        for number in range(3):
            await engine.start(definition, number, execution_id=f"one {number}")
        while not await store.load_open_waits("one 2", "go"):
            await asyncio.sleep(0.01)
        for body, is_ok in ((order, True), (deprecated, True), (renamed, False)):
            new = workflow(name="order")(body)
            check = await asyncio.to_thread(check_code, address, [new])
            assert (check.checked, check.is_ok) == (3, is_ok), check.problems
        exported = (await asyncio.to_thread(run, "export", address, "one 1")).stdout
        assert json.loads(exported)["patches"][0]["patch_name"] == "note"

    def replay() -> None:
        with Sandbox() as sandbox:
            sandbox.replay(exported, definition)

    await asyncio.to_thread(replay)
