"""Workflow functions that catch the CancelledError they are told to end with, and go on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowExpiredError,
    workflow,
)

# Python tells of coroutines that refuse to be closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

FROZEN = 100_000
"""Rounds after which a loop gives in, so that a test fails where it would never end."""

Pastime = Callable[[WorkflowContext], Awaitable[object]]

rounds: list[int] = []
undone: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_has_happened() -> Iterator[None]:
    rounds.clear()
    undone.clear()
    yield
    rounds.extend([1] * FROZEN)  # so that the loops that are left end when they are closed
    gc.collect()  # what Python tells of these coroutines, it tells here, and not in another test


async def sleep(ctx: WorkflowContext) -> None:
    await ctx.sleep("long", timedelta(days=1))


async def step(ctx: WorkflowContext) -> None:
    await ctx.step("long", asyncio.sleep, 3600, on_cancel="stop")


async def clean_up(ctx: WorkflowContext) -> None:
    try:
        await ctx.wait_signal("never")
    finally:
        await ctx.step("clean up", lambda: None)


async def nap(_: WorkflowContext) -> None:
    await asyncio.sleep(3600)


async def take(_: WorkflowContext) -> None:
    await asyncio.wait_for(asyncio.Queue[int]().get(), 3600)


async def time_out(ctx: WorkflowContext) -> None:
    async with asyncio.timeout(3600):
        await ctx.wait_signal("never")


async def group(ctx: WorkflowContext) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ctx.branch("one", repeat=True).sleep("long", timedelta(days=1)))
        tasks.create_task(ctx.branch("two", repeat=True).wait_signal("never"))


def round_of(*caught: type[BaseException]) -> AbstractContextManager[object]:
    """One round of a loop, which catches these errors."""
    rounds.append(1)
    return suppress(*caught) if len(rounds) < FROZEN else nullcontext()


async def loop(ctx: WorkflowContext, do: Pastime, *caught: type[BaseException]) -> None:
    while len(rounds) < FROZEN:
        with round_of(*caught):
            await do(ctx)


async def loop_in_a_task(ctx: WorkflowContext, do: Pastime, *caught: type[BaseException]) -> None:
    task = asyncio.create_task(loop(ctx, do, *caught))
    await ctx.wait_signal("never")
    await task


async def loop_in_a_generator(
    ctx: WorkflowContext, do: Pastime, *caught: type[BaseException]
) -> None:
    async def items() -> AsyncIterator[int]:
        while len(rounds) < FROZEN:
            with round_of(*caught):
                await do(ctx)
                yield 1

    async for _ in items():
        pass


@workflow
async def neighbour(ctx: WorkflowContext) -> str:
    await ctx.step("wait", asyncio.sleep, 0.1)
    return "fine"


PASTIMES = {one.__name__: one for one in (sleep, step, clean_up, nap, take, time_out, group)}


@pytest.mark.few(2)
@pytest.mark.parametrize("caught", [asyncio.CancelledError, BaseException])
@pytest.mark.parametrize("loops", [loop, loop_in_a_task, loop_in_a_generator])
def test_a_function_that_catches_its_cancellation_ends_nevertheless(
    loops: Callable[..., Awaitable[None]],
    caught: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    @workflow
    async def stubborn(ctx: WorkflowContext, pastime: str) -> None:
        await ctx.step("first", lambda: 1, compensate=undone.append)
        await loops(ctx, PASTIMES[pastime], caught, TimeoutError)

    async def main() -> None:
        async with (
            SqliteCheckpointStore.in_memory() as store,
            DurableEngine(store, cancel_grace=timedelta(0)) as engine,
        ):
            other = await engine.start(neighbour)
            lives_for = timedelta(milliseconds=400)
            expire = [await engine.start(stubborn, one, ttl=lives_for) for one in PASTIMES]
            cancel = [await engine.start(stubborn, one, execution_id=one) for one in PASTIMES]
            async with asyncio.timeout(20):
                while len(rounds) < 2 * len(PASTIMES):
                    await asyncio.sleep(0.01)
            for handle in cancel:
                await handle.cancel()
                with pytest.raises(WorkflowCancelledError):
                    await asyncio.wait_for(handle.result(), 20)
                assert await handle.status() is ExecutionStatus.CANCELLED
            for handle in expire:
                with pytest.raises(WorkflowExpiredError):
                    await asyncio.wait_for(handle.result(), 20)
            assert await other.result() == "fine"

    asyncio.run(main())
    assert len(rounds) < FROZEN
    assert undone == [1] * 2 * len(PASTIMES)
    warnings = [one.getMessage() for one in caplog.records if "told to end" in one.getMessage()]
    assert len(warnings) == 2 * len(PASTIMES)
    (warning,) = (one for one in warnings if "workflow 'stubborn' of execution 'sleep'" in one)
    assert f" of {__file__}, in " in warning


@pytest.mark.parametrize("loops", [loop, loop_in_a_task, loop_in_a_generator])
def test_an_engine_closes_beside_a_function_that_catches_everything(
    loops: Callable[..., Awaitable[None]],
) -> None:
    @workflow
    async def stubborn(ctx: WorkflowContext, pastime: str) -> None:
        await loops(ctx, PASTIMES[pastime], BaseException)

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store:
            async with DurableEngine(store) as engine:
                for one in PASTIMES:
                    await engine.start(stubborn, one, execution_id=one)
                await asyncio.sleep(0.05)
                await engine.dispose(timedelta(0))
            for one in PASTIMES:
                record = await store.load_execution(one)
                assert record is not None
                assert not record.status.is_terminal

    asyncio.run(main())
    assert len(rounds) < FROZEN


def test_a_thousand_branches_each_clean_up() -> None:
    """More calls are refused at once than a loop is allowed: each `finally` runs, and once."""
    ends: list[int] = []

    @workflow
    async def wide(ctx: WorkflowContext) -> None:
        async def branch(number: int) -> None:
            its = ctx.branch(str(number))
            try:
                await its.wait_signal("never")
            finally:
                try:
                    await its.step("clean up", lambda: None)
                except asyncio.CancelledError:
                    ends.append(number)
                    raise

        await asyncio.gather(*(branch(number) for number in range(1500)))

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            handle = await engine.start(wide)
            await asyncio.sleep(0.05)
            await handle.cancel()
            with pytest.raises(WorkflowCancelledError):
                await asyncio.wait_for(handle.result(), 20)

    asyncio.run(main())
    assert sorted(ends) == list(range(1500))
