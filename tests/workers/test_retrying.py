"""An operator runs a failed execution again: from the step that failed it, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionConflictError,
    ExecutionNotFoundError,
    ExecutionStatus,
    SignalTimeoutError,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from tests.lives import Journal


@pytest.mark.parametrize("in_a_group", [False, True], ids=["alone", "in a group"])
def test_it_goes_on_from_the_step_that_failed(
    in_a_group: bool, file: Path, journal: Journal
) -> None:
    def ship() -> str:
        if journal.note("ship") < 3:
            error = ConnectionError("the carrier is down")
            raise ExceptionGroup("two", [error, KeyError("x")]) if in_a_group else error
        return "shipped"

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("charge", journal.note, "charge")
        return await ctx.step("ship", ship)

    async def life() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order]) as engine:
                for _ in range(2):
                    with pytest.raises(WorkflowFailedError, match="carrier"):
                        await engine.run(order, execution_id="one")
                    await engine.retry("one")
                assert await engine.handle("one").result() == "shipped"
                attempts = [
                    one.attempt
                    for one in await store.load_checkpoints("one")
                    if one.step_name == "ship"
                ]
                assert attempts == [1, 2, 3]

    asyncio.run(life())
    assert journal.lines == ["charge", "ship", "ship", "ship"]


def test_a_client_retries_what_a_worker_runs(file: Path, journal: Journal) -> None:
    def fail_once() -> int:
        if journal.note("try") == 1:
            raise ValueError("once")
        return 1

    @workflow
    async def job(ctx: WorkflowContext) -> int:
        return await ctx.step("try", fail_once)

    async def life() -> None:
        async with SqliteCheckpointStore.file(file) as one, SqliteCheckpointStore.file(file) as two:
            async with DurableEngine(one) as client, DurableEngine(two, workflows=[job]):
                handle = await client.enqueue(job)
                with pytest.raises(WorkflowFailedError):
                    await handle.result()
                await client.retry(handle.execution_id)
                assert await handle.result() == 1

    asyncio.run(life())


def test_a_step_whose_error_was_caught_stays_as_it_is(file: Path, journal: Journal) -> None:
    def fail() -> None:
        journal.note("caught")
        raise ValueError("caught")

    @workflow
    async def job(ctx: WorkflowContext) -> str:
        with suppress(ValueError):
            await ctx.step("optional", fail)
        if journal.note("body") == 1:
            raise RuntimeError("a bug, mended in the meantime")
        return await ctx.step("rest", lambda: "done")

    async def life() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[job]) as engine:
                with pytest.raises(WorkflowFailedError, match="bug"):
                    await engine.run(job, execution_id="one")
                await engine.retry("one")
                assert await engine.handle("one").result() == "done"

    asyncio.run(life())
    assert journal.lines == ["caught", "body", "body"]


def test_of_two_steps_that_failed_side_by_side_the_one_that_failed_it_runs_again(
    file: Path, journal: Journal
) -> None:
    async def fail_once(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        if journal.note(name) == 1:
            raise ValueError(f"{name} failed")
        return name

    @workflow
    async def both(ctx: WorkflowContext) -> list[str]:
        one = ctx.branch("one").step("one", fail_once, "one", 0.0)
        two = ctx.branch("two").step("two", fail_once, "two", 0.0)
        found = await asyncio.gather(one, two, return_exceptions=True)
        for value in found:
            if isinstance(value, BaseException):
                raise value
        return [str(value) for value in found]

    async def life() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[both]) as engine:
                for name in ("one", "two"):
                    with pytest.raises(WorkflowFailedError, match=f"{name} failed"):
                        await engine.run(both, execution_id="it")
                    await engine.retry("it")
                assert await engine.handle("it").result() == ["one", "two"]

    asyncio.run(life())
    assert sorted(journal.lines) == ["one", "one", "two", "two"]


def test_a_wait_that_timed_out_waits_as_long_once_more(file: Path) -> None:
    @workflow
    async def approval(ctx: WorkflowContext) -> str:
        return str(await ctx.wait_signal("approved", timeout=timedelta(milliseconds=200)))

    async def life() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[approval]) as engine:
                for _ in range(2):
                    with pytest.raises(WorkflowFailedError) as failed:
                        await engine.run(approval, execution_id="one")
                    assert SignalTimeoutError.__name__ in str(failed.value.error_type)
                    await engine.retry("one")
                await engine.send_signal("one", "approved", "kim")
                assert await engine.handle("one").result() == "kim"

    asyncio.run(life())


def test_what_was_compensated_or_did_not_fail_is_refused(file: Path) -> None:
    @workflow
    async def booking(ctx: WorkflowContext) -> None:
        await ctx.step("book", lambda: 1, compensate=lambda _: None)
        await ctx.wait_signal("go", timeout=timedelta(0))

    @workflow
    async def fine(ctx: WorkflowContext) -> None:
        pass

    async def life() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.run(booking, execution_id="undone")
            await engine.run(fine, execution_id="fine")
            for one, why in (("undone", "compensated"), ("fine", "COMPLETED")):
                before = await engine.load(one)
                with pytest.raises(ExecutionConflictError, match=why):
                    await engine.retry(one)
                assert await engine.load(one) == before
            with pytest.raises(ExecutionNotFoundError):
                await engine.retry("unknown")
            assert (await engine.load("undone")).status is ExecutionStatus.FAILED

    asyncio.run(life())
