"""Twelve workflows of a shop, as they were, and as thirty changes of the code leave them.

In the old world each execution stops at a stage: the step of that number never returns, and who
waits gets no signal. In the new one nothing hangs, and every signal comes.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from durable_workflow_sqlite import (
    RetryPolicy,
    SignalTimeoutError,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)

HARMLESS = (
    "another action of a step",
    "a step at the end",
    "a step in the middle, as a patch",
    "a longer sleep",
    "a step at the end of a branch",
    "a shorter timer",
    "a new field with a default",
    "a new version beside the old one",
    "other retries",
    "another compensation",
    "a longer timeout of a wait",
    "a function for a part",
    "a patch that all have passed is deprecated",
)
HARMFUL = (
    "a step has another name",
    "a step in the middle",
    "a step is gone",
    "two steps change places",
    "a step becomes a sleep",
    "a signal has another name",
    "a new field of the input",
    "another type of a result",
    "a workflow is gone",
    "a version without the old one",
    "a branch has another key",
    "a step before others that share the context",
    "a patch is gone",
    "a patch that is deprecated at once",
    "a call that is refused",
    "a mistake",
    "other keys of a map",
)
SIGNALS = ("approved", "accepted", "paid", "go")
HOUR = timedelta(hours=1)

Workflows = list[WorkflowDefinition[..., Any]]


class World:
    """is_old: whether steps hang at the stage of their execution. calls: of actions, so far."""

    is_old = True
    calls = 0


async def act(name: str, stage: int = -1, number: int = -2) -> str:
    World.calls += 1
    if World.is_old and stage == number:
        await asyncio.Event().wait()
    return name


async def act_otherwise(name: str, stage: int = -1, number: int = -2) -> str:
    return await act(name.upper(), stage, number)


async def undo(stage: int, _: str) -> None:
    World.calls += 1
    if World.is_old and stage != 4:
        await asyncio.Event().wait()


async def undo_otherwise(_: int, name: str) -> None:
    await undo(4, name.upper())


async def fail() -> None:
    World.calls += 1
    raise ConnectionError("the truck broke down")


async def flaky() -> str:
    World.calls += 1
    if World.is_old:
        raise ConnectionError("nobody answers")
    return "answered"


class Price(msgspec.Struct):
    amount: int


class PriceWithTax(msgspec.Struct):
    amount: int
    tax: int = 0


class PriceAsText(msgspec.Struct):
    amount: str


class Item(msgspec.Struct):
    stage: int


class HeavyItem(msgspec.Struct):
    stage: int
    weight: int


def orders(change: str) -> Workflows:
    async def order(ctx: WorkflowContext, stage: int) -> list[str]:
        if change == "a mistake":
            raise NameError("prise")
        first, second = ("reserve", "charge")
        if change == "two steps change places":
            first, second = second, first
        made = [await ctx.step(first, act, first, stage, 0)]
        if change == "a step in the middle" or (
            change == "a step in the middle, as a patch" and ctx.patched("check")
        ):
            made.append(await ctx.step("check", act, "check"))
        if change == "a patch that is deprecated at once":
            ctx.deprecate_patch("check")
            made.append(await ctx.step("check", act, "check"))
        if change == "a step has another name":
            second = "pay"
        if change != "a step is gone":
            made.append(await ctx.step(second, act, second, stage, 1))
        name = "accepted" if change == "a signal has another name" else "approved"
        await ctx.wait_signal(name)
        action = act_otherwise if change == "another action of a step" else act
        if change == "a function for a part":
            made += await last_part(ctx, stage, action)
        else:
            made.append(await ctx.step("ship", action, "ship", stage, 3))
            made.append(await ctx.step("mail", act, "mail", stage, 4))
        if change == "a step at the end":
            made.append(await ctx.step("thank", act, "thank"))
        return made

    async def last_part(ctx: WorkflowContext, stage: int, action: Callable[..., Any]) -> list[str]:
        names = enumerate(("ship", "mail"), 3)
        return [await ctx.step(name, action, name, stage, number) for number, name in names]

    versions = [1]
    if change == "a new version beside the old one":
        versions = [1, 2]
    elif change == "a version without the old one":
        versions = [2]
    return [workflow(name="order", version=one)(order) for one in versions]


def sagas(change: str) -> Workflows:
    @workflow
    async def travel(ctx: WorkflowContext, stage: int) -> None:
        how = undo_otherwise if change == "another compensation" else undo
        undoing = functools.partial(how, stage)
        await ctx.step("flight", act, "flight", stage, 0, compensate=undoing)
        await ctx.step("hotel", act, "hotel", stage, 1, compensate=undoing)
        if stage < 5:
            await ctx.step("pay", fail)

    return [travel]


def polls(change: str) -> Workflows:
    @workflow
    async def poll(ctx: WorkflowContext, stage: int, turn: int = 0) -> Any:
        longer = 3 if change == "a longer sleep" else 1
        for number in range(2):
            await ctx.step("ask", act, "ask", stage, 3 * turn + number)
            if stage > 4 or number:
                await ctx.sleep("rest", longer * HOUR)
        if turn < 1:
            return ctx.continue_as_new(stage, turn + 1)
        return turn

    return [poll]


def imports(change: str) -> Workflows:
    async def one(ctx: WorkflowContext, key: str, stage: int, number: int) -> None:
        await ctx.step("fetch", act, key, stage, number)
        await ctx.step("store", act, key, stage, number + 1)
        if change == "a step at the end of a branch":
            await ctx.step("note", act, key)

    @workflow
    async def nightly(ctx: WorkflowContext, stage: int) -> None:
        prefix = "of " if change == "a branch has another key" else ""
        branches = ((ctx.branch(prefix + key), key) for key in ("mail", "shop", "bank"))
        await asyncio.gather(
            *(one(branch, key, stage, 2 * n) for n, (branch, key) in enumerate(branches))
        )

    return [nightly]


def groups(change: str) -> Workflows:
    @workflow
    async def pack(ctx: WorkflowContext, stage: int) -> None:
        async with asyncio.TaskGroup() as group:
            if change == "a step before others that share the context":
                group.create_task(ctx.step("weigh", act, "weigh"))
            for number, name in enumerate(("box", "tape", "label")):
                group.create_task(ctx.step(name, act, name, stage, number))
        await ctx.step("close", act, "close", stage, 3)

    return [pack]


def maps(change: str) -> Workflows:
    async def resize(item: list[int]) -> str:
        return await act("resize", *item)

    @workflow
    async def album(ctx: WorkflowContext, stage: int) -> list[str]:
        prefix = "image " if change == "other keys of a map" else ""
        items = [[stage, number] for number in range(4)]
        made = await ctx.map(
            "resize", resize, items, key=lambda item: f"{prefix}{item[1]}", max_concurrency=2
        )
        return [*made, await ctx.step("bind", act, "bind", stage, 4)]

    return [album]


def families(change: str) -> Workflows:
    @workflow
    async def invoice(ctx: WorkflowContext, stage: int) -> str:
        await ctx.step("write", act, "write", stage, 1)
        await ctx.wait_signal("paid")
        return await ctx.step("book", act, "book", stage, 2)

    @workflow
    async def account(ctx: WorkflowContext, stage: int) -> str:
        await ctx.step("open", act, "open", stage, 0)
        made = await ctx.child("invoice", invoice, stage)
        return made + await ctx.step("close", act, "close", stage, 3)

    return [account, invoice]


def prices(change: str) -> Workflows:
    kind: Any = Price
    if change == "a new field with a default":
        kind = PriceWithTax
    elif change == "another type of a result":
        kind = PriceAsText

    async def ask() -> Any:
        World.calls += 1
        return kind(amount="7") if kind is PriceAsText else kind(amount=7)

    ask.__annotations__["return"] = kind
    item: Any = HeavyItem if change == "a new field of the input" else Item

    async def quote(ctx: WorkflowContext, item: Any) -> None:
        await ctx.step("begin", act, "begin", item.stage, 0)
        await ctx.step("ask", ask)
        await ctx.step("tell", act, "tell", item.stage, 1)

    quote.__annotations__["item"] = item
    return [workflow(quote)]


def waits(change: str) -> Workflows:
    @workflow
    async def survey(ctx: WorkflowContext, stage: int) -> str:
        await ctx.step("ask", act, "ask", stage, 0)
        try:
            days = 30 if change == "a longer timeout of a wait" else 3
            answer = await ctx.wait_signal("go", timedelta(days=days), type=str)
        except SignalTimeoutError:
            answer = "none"
        won = await ctx.wait_any(ctx.signal("paid"), ctx.timer("end", HOUR))
        await ctx.step("count", act, answer, stage, 1)
        return type(won).__name__

    return [] if change == "a workflow is gone" else [survey]


def timers(change: str) -> Workflows:
    @workflow
    async def watch(ctx: WorkflowContext, stage: int) -> float:
        if change == "a call that is refused":
            await asyncio.to_thread(print)
        await ctx.step("begin", act, "begin", stage, 0)
        await asyncio.sleep(600 if change == "a shorter timer" else 900)
        ctx.now()
        if change == "a step becomes a sleep":
            await ctx.sleep("look", HOUR)
        else:
            await ctx.step("look", act, "look", stage, 1)
        async with asyncio.timeout(7200):
            await ctx.step("end", act, "end", stage, 2)
        return ctx.random()

    return [watch]


def reports(change: str) -> Workflows:
    @workflow
    async def report(ctx: WorkflowContext, stage: int) -> list[str]:
        made = [await ctx.step("read", act, "read", stage, 0)]
        if change == "a patch that all have passed is deprecated":
            ctx.deprecate_patch("sum")
            made.append(await ctx.step("sum", act, "sum", stage, 1))
        elif change != "a patch is gone" and ctx.patched("sum"):
            made.append(await ctx.step("sum", act, "sum", stage, 1))
        return [*made, await ctx.step("print", act, "print", stage, 2)]

    return [report]


def calls(change: str) -> Workflows:
    @workflow
    async def call(ctx: WorkflowContext, stage: int) -> str:
        await ctx.step("look up", act, "look up", stage, 0)
        attempts = 9 if change == "other retries" else 4
        retry = RetryPolicy.fixed(max_attempts=attempts, delay=HOUR)
        return await ctx.step("call", flaky, retry=retry)

    return [call]


def workflows(change: str = "") -> Workflows:
    """All of the shop, with one change or none."""
    makers = (
        orders,
        sagas,
        polls,
        imports,
        groups,
        maps,
        families,
        prices,
        waits,
        timers,
        reports,
        calls,
    )
    return [one for make in makers for one in make(change)]


def input_of(name: str, stage: int) -> object:
    return Item(stage) if name == "quote" else stage
