"""The workflows that the worker processes of `make bench-workers` run."""

from __future__ import annotations

import asyncio
import os
import time

from durable_workflow_sqlite import WorkflowContext, workflow


@workflow
async def who(ctx: WorkflowContext) -> int:
    """Which process ran it."""
    return await ctx.step("who", pid)


async def pid() -> int:
    return os.getpid()


@workflow
async def slow(ctx: WorkflowContext) -> int:
    """Five steps that take a while each; interrupted in its first life."""
    for number in range(5):
        await ctx.step(f"wait {number}", asyncio.sleep, 0.05)
    return await ctx.step("who", pid)


@workflow
async def steps(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.step("step", nothing, number)
    return count


async def nothing(number: int) -> int:
    return number


@workflow
async def echo(ctx: WorkflowContext, count: int) -> list[float]:
    """How long each signal took from being sent to this running again."""
    taken: list[float] = []
    for _ in range(count):
        sent = await ctx.wait_signal("go", type=float)
        taken.append(time.time() - sent)
    return taken


@workflow
async def long(ctx: WorkflowContext) -> int:
    """When the step began that never ends by itself: the second time it begins elsewhere."""
    return await ctx.step("long", asyncio.sleep, 3600, 0)
