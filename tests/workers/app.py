"""What the workers under test run. Their journal is the file that DURABLE_JOURNAL names."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

from durable_workflow_sqlite import WorkflowContext, workflow
from tests.processes import Journal, until


def note(words: str) -> str:
    Journal(Path(os.environ["DURABLE_JOURNAL"])).note(words)
    return words


@workflow
async def noted(ctx: WorkflowContext, name: str) -> int:
    """Who ran it, and that it ran."""
    await ctx.step("note", note, f"ran {name}")
    return await ctx.step("who", os.getpid)


@workflow
async def five_steps(ctx: WorkflowContext, name: str) -> int:
    for number in range(5):
        await ctx.step("note", note, f"{name} {number}")
        if number == 0:
            await ctx.step("meet", meet)
    return await ctx.step("who", os.getpid)


AT_ONCE = 10
IS_NO_WORKER = "IS_NO_WORKER"


async def meet() -> None:
    """Wait until two workers have so many executions each, as many as they run at once."""
    met = Journal(Path(os.environ["DURABLE_JOURNAL"]).with_name("met"))
    if IS_NO_WORKER not in os.environ:
        met.note(str(os.getpid()))
    await until(lambda: [n >= AT_ONCE for n in Counter(met.lines).values()].count(True) >= 2)


@workflow
async def patient(ctx: WorkflowContext, name: str) -> int:
    """Each of its two steps takes a while."""
    for number in range(2):
        await ctx.step(f"slow {number}", slow, name, number)
    return await ctx.step("who", os.getpid)


async def slow(name: str, number: int) -> None:
    note(f"begin {name} {number}")
    await asyncio.sleep(1.0)
    note(f"end {name} {number}")


@workflow
async def stuck(ctx: WorkflowContext) -> None:
    await ctx.step("stuck", be_stuck)


def be_stuck() -> None:
    note("stuck")
    time.sleep(60)


@workflow
async def blocks(_: WorkflowContext, how: str) -> None:
    block(how)


@workflow
async def blocks_in_a_step(ctx: WorkflowContext, how: str) -> None:
    await ctx.step("blocks", block_in_an_action, how)


async def block_in_an_action(how: str) -> None:
    block(how)


def block(how: str) -> None:
    """Keep the event loop from going on, for a minute."""
    note("blocks")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if how == "sleep":
            time.sleep(0.1)
        elif how == "sleep for long":
            time.sleep(60)


@workflow
async def echo(ctx: WorkflowContext, count: int) -> list[float]:
    """When it heard each of its signals."""
    heard: list[float] = []
    for _ in range(count):
        await ctx.wait_signal("go")
        heard.append(await ctx.step("heard", time.time))
    return heard


@workflow
async def napper(ctx: WorkflowContext) -> str:
    await ctx.sleep("nap", timedelta(milliseconds=200))
    return await ctx.step("wake", note, "woke")


@workflow(version=2)
async def versioned(ctx: WorkflowContext) -> int:
    return 2


some = [noted, napper]
nothing: list[object] = []
