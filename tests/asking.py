"""Executions that wait until a person says what became of a step: for the tests of the tools."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    StepAmbiguousError,
    StepStatus,
    WorkflowContext,
    WorkflowDefinition,
    open_store,
    workflow,
)
from tests.processes import die, run_until_killed

IDS = ("asks", "asks too", "asks again", "undoing")


def made(*, dies: bool) -> tuple[WorkflowDefinition[..., Any], WorkflowDefinition[..., Any]]:
    """Two workflows; their process dies in the step, or in the compensation, if told so."""

    async def charge() -> int:
        if dies:
            die()
        return 7

    async def reserve() -> int:
        return 1

    def release(_: int) -> None:
        if dies:
            die()

    @workflow(name="paying")
    async def paying(ctx: WorkflowContext) -> str:
        try:
            return f"paid {await ctx.step('charge', charge, in_doubt='ask')}"
        except StepAmbiguousError as error:
            return str(error)

    @workflow(name="undoing")
    async def undoing(ctx: WorkflowContext) -> None:
        await ctx.step("reserve", reserve, compensate=release, compensate_in_doubt="ask")
        raise ValueError("sold out")

    return paying, undoing


def leave_questions(file: Path) -> None:
    """Let each of `IDS` wait for an answer, and no worker live."""
    for one in IDS:

        async def main(one: str = one) -> None:
            async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
                await engine.run(made(dies=True)[one == "undoing"], execution_id=one)

        run_until_killed(main)

    async def ask() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=made(dies=False)),
            asyncio.timeout(30),
        ):
            for one in IDS:
                while not any(
                    step.status is StepStatus.INTENT and step.error_message is not None
                    for step in await store.load_checkpoints(one)
                ):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)

    asyncio.run(ask())


def go_on(file: Path, execution_id: str) -> tuple[str, str | None]:
    """Let a worker take it to its end: its status, and what it returned."""

    async def run() -> tuple[str, str | None]:
        async with (
            open_store(str(file)) as store,
            DurableEngine(store, workflows=made(dies=False)),
            asyncio.timeout(30),
        ):
            while True:
                record = await store.load_execution(execution_id)
                assert record is not None
                if record.status.is_terminal:
                    return record.status.value, record.output_data
                await asyncio.sleep(0.01)

    return asyncio.run(run())
