"""A workflow function that is dropped inside an async generator: the code in there ends, too."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar

import anyio
import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

VARIABLE: ContextVar[str] = ContextVar("variable", default="")
Body = Callable[[WorkflowContext, list[str]], Awaitable[None]]


@asynccontextmanager
async def tidied(notes: list[str], how: str) -> AsyncIterator[None]:
    """What waits for something else on its way out, within a scope and a context."""
    token = VARIABLE.set(how)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(0)
        VARIABLE.reset(token)
        notes.append(how)


async def waits(ctx: WorkflowContext, notes: list[str]) -> AsyncIterator[None]:
    async with tidied(notes, "inner"):
        yield None
        await ctx.wait_signal("never")


async def in_a_generator(ctx: WorkflowContext, notes: list[str]) -> None:
    async with tidied(notes, "outer"):
        async for _ in waits(ctx, notes):
            pass


async def in_a_generator_of_a_task(ctx: WorkflowContext, notes: list[str]) -> None:
    async with tidied(notes, "outer"):
        task = asyncio.create_task(in_a_generator(ctx, notes))
        try:
            async for _ in waits(ctx, notes):
                pass
        finally:
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:
                    task.cancel()


async def never_gives_up(ctx: WorkflowContext, notes: list[str]) -> None:
    async def stubborn() -> AsyncIterator[None]:
        while True:
            try:
                await asyncio.sleep(0 if notes else 3600)
            except asyncio.CancelledError:
                notes.append("no")
        yield None

    async for _ in stubborn():
        pass


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (in_a_generator, ["inner", "outer"]),
        (in_a_generator_of_a_task, ["inner", "inner", "outer", "outer"]),
        (never_gives_up, ["no"]),
    ],
)
async def test_it_ends_and_nothing_is_left_behind(body: Body, expected: list[str]) -> None:
    notes: list[str] = []
    begun = asyncio.Event()

    @workflow(name="dropped")
    async def dropped(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: None)
        begun.set()
        await body(ctx, notes)

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[dropped]) as engine:
            await engine.start(dropped, execution_id="one")
            while not begun.is_set():
                await asyncio.sleep(0.002)
        gc.collect()  # pytest would tell of what the collector finds
    assert sorted(notes) == expected
