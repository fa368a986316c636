"""Executions through which a secret goes on every way that a value can take."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from durable_workflow_sqlite import (
    AesGcmCodec,
    CheckpointStore,
    DurableEngine,
    ExecutionStatus,
    NewSignal,
    RetryPolicy,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded

SECRET = "S3cr3tOf7"
KEY = b"k" * 32
CODEC = AesGcmCodec([("first", KEY)])

ONCE = RetryPolicy.none()


class OfAUser(Exception):
    """An error with data of its own."""

    def __init__(self, text: str, data: str) -> None:
        super().__init__(text, data)
        self.data = data


async def answer(text: str) -> str:
    return f"answer {text}"


async def fail(text: str) -> str:
    raise OfAUser(f"it failed: {text}", f"data {text}")


async def undo(text: str) -> None:
    raise ValueError(f"not undone: {text}")


@workflow
async def kid(ctx: WorkflowContext, text: str) -> str:
    return f"kid {text}"


@workflow
async def bad_kid(ctx: WorkflowContext, text: str) -> str:
    raise OfAUser(f"bad kid: {text}", text)


@workflow
async def through_everything(ctx: WorkflowContext, text: str) -> list[str]:
    said: list[str] = [await ctx.step("answer", answer, text)]
    try:
        await ctx.step("fail", fail, text, retry=ONCE)
    except OfAUser as error:
        said.append(error.data)
    said.append(await ctx.child("kid", kid, text))
    try:
        await ctx.child("bad kid", bad_kid, text)
    except Exception as error:
        said.append(str(error))
    said.append(await ctx.wait_signal("go", type=str))
    return said


@workflow
async def fails(ctx: WorkflowContext, text: str) -> str:
    await ctx.step("answer", answer, text, compensate=undo, compensate_retry=ONCE)
    result: str = await ctx.step("fail", fail, text, retry=ONCE)
    return result


@workflow
async def fails_alone(ctx: WorkflowContext, text: str) -> str:
    result: str = await ctx.step("fail", fail, text, retry=ONCE)
    return result


@workflow
async def mistaken(ctx: WorkflowContext, text: str) -> str:
    raise TypeError(f"a mistake with {text}")


@workflow
async def again(ctx: WorkflowContext, text: str, runs: int) -> str:
    await ctx.step("answer", answer, text)
    return f"ran with {text}" if runs == 0 else ctx.continue_as_new(text, runs - 1)


@workflow
async def waits(ctx: WorkflowContext, text: str) -> int:
    number: int = await ctx.wait_signal("number", type=int)
    return number


ALL = [through_everything, kid, bad_kid, fails, fails_alone, mistaken, again, waits]


def engine_of(store: CheckpointStore) -> DurableEngine:
    return DurableEngine(store, workflows=ALL)


async def live(store: CheckpointStore) -> None:
    """Run them all; `mistaken` stays in trouble, and `waits` waits."""
    async with engine_of(store) as engine:
        all_ = await engine.start(through_everything, SECRET, execution_id="all")
        await all_.signal("go", f"signal {SECRET}")
        result = await all_.result()
        assert result[0] == f"answer {SECRET}"
        assert result[1:3] == [f"data {SECRET}", f"kid {SECRET}"]
        assert f"bad kid: {SECRET}" in result[3]
        assert result[4] == f"signal {SECRET}"
        for one, definition in (("fails", fails), ("resolved", fails_alone)):
            failed = await engine.start(definition, SECRET, execution_id=one)
            try:
                await failed.result()
            except WorkflowFailedError as error:
                assert SECRET in str(error.error_message)
        await engine.retry("fails", by="kim")
        with suppress(WorkflowFailedError):
            await engine.handle("fails").result()
        await engine.resolve("resolved", "fail", f"by hand {SECRET}", by="kim")
        assert await engine.handle("resolved").result() == f"by hand {SECRET}"
        await engine.start(mistaken, SECRET, execution_id="mistaken")
        while not (await loaded(store, "mistaken")).trouble:
            await asyncio.sleep(0.01)
        assert await (await engine.start(again, SECRET, 2, execution_id="again")).result() == (
            f"ran with {SECRET}"
        )
        await engine.enqueue(waits, SECRET, execution_id="waits", signals=[NewSignal("x", SECRET)])
        while not await store.load_open_waits("waits", "number"):
            await asyncio.sleep(0.01)
        await engine.schedule(
            "nightly", waits, f"schedule {SECRET}", every=timedelta(days=1), queue=None
        )
        await engine.pause_schedule("nightly", by="kim")


async def go_on(store: CheckpointStore) -> None:
    """Another worker reads what was written, and goes on with it."""
    async with engine_of(store) as engine:
        for one in ("all", "again", "resolved"):
            assert SECRET in str(await engine.handle(one).result())
        with_input = await engine.start(through_everything, SECRET, execution_id="all")
        assert SECRET in str(await with_input.result()), "the same input is the same"
        while not (await loaded(store, "mistaken")).trouble:
            await asyncio.sleep(0.01)
        await engine.handle("waits").signal("number", 7)
        assert await engine.handle("waits").result() == 7
        (schedule,) = await store.load_schedules()
        assert schedule.input_data == f'["schedule {SECRET}"]'
        assert (await loaded(store, "fails")).status is ExecutionStatus.FAILED
