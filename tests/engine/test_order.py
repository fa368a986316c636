"""What asyncio keeps in sets, and what a crash leaves half done: it goes the same way."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    NonDeterministicCallError,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from tests.processes import Journal, an_engine, die, run_until_killed

MANY = 24


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def one_step(ctx: WorkflowContext, number: int) -> int:
    return await ctx.step("double", double, number)


@workflow
async def by_as_completed(ctx: WorkflowContext) -> None:
    for next_one in asyncio.as_completed([one_step(ctx, number) for number in range(MANY)]):
        await next_one


@workflow
async def by_a_set_of_tasks(ctx: WorkflowContext) -> list[int]:
    done, _ = await asyncio.wait(
        {asyncio.create_task(one_step(ctx, number)) for number in range(MANY)}
    )
    return [task.result() for task in done]


async def test_coroutines_of_as_completed_start_in_the_order_of_their_list() -> None:
    # asyncio itself starts them in the order of a set of their addresses.
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(by_as_completed, execution_id="one")
        assert [one.output_data for one in await store.load_checkpoints("one")] == [
            str(2 * number) for number in range(MANY)
        ]


async def test_coroutines_in_a_set_are_refused_to_as_completed() -> None:
    @workflow
    async def in_a_set(ctx: WorkflowContext) -> None:
        for next_one in asyncio.as_completed({one_step(ctx, number) for number in range(3)}):
            await next_one

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(NonDeterministicCallError, match="Give it a list"):
            await engine.run(in_a_set, execution_id="one")
        assert (await engine.load("one")).status is ExecutionStatus.RUNNING


async def test_a_set_of_tasks_is_in_the_order_in_which_they_were_made() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(by_a_set_of_tasks) == [2 * number for number in range(MANY)]


@workflow
async def by_done_futures(ctx: WorkflowContext) -> list[int]:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(MANY)]
    for number, future in enumerate(futures):
        future.set_result(number)
    in_a_set = [future.result() for future in set(futures)]
    assert in_a_set == [await next_one for next_one in asyncio.as_completed(futures)]
    return in_a_set


async def test_a_set_of_futures_is_in_the_order_in_which_they_were_made() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(by_done_futures) == list(range(MANY))


async def cleans_up(ctx: WorkflowContext, number: int) -> None:
    with anyio.move_on_after(3600):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await ctx.step(f"clean up {number}", double, number)


async def in_a_group_of_its_own(ctx: WorkflowContext, number: int) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(cleans_up, ctx, number)


@pytest.mark.parametrize("works", [cleans_up, in_a_group_of_its_own])
def test_the_scopes_within_a_scope_of_anyio_are_cancelled_in_the_order_of_their_tasks(
    works: Callable[[WorkflowContext, int], Coroutine[Any, Any, None]],
) -> None:
    # anyio itself cancels them in the order of a set of their addresses.
    @workflow
    async def cancels(ctx: WorkflowContext) -> None:
        async with anyio.create_task_group() as group:
            for number in range(MANY):
                group.start_soon(works, ctx, number)
            await ctx.step("let them begin", double, 1)
            asyncio.get_running_loop().call_soon(order.append, "before")
            group.cancel_scope.cancel()
            asyncio.get_running_loop().call_soon(order.append, "after")
        assert order == ["before", "after"]

    order: list[str] = []

    async def main() -> list[str]:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            await engine.run(cancels, execution_id="one")
            return [one.step_name for one in await store.load_checkpoints("one")]

    assert asyncio.run(main())[1:] == [f"clean up {number}" for number in range(MANY)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_a_set_of_tasks_that_begin_at_once_is_in_their_order_too() -> None:
    @workflow
    async def eager(ctx: WorkflowContext) -> list[int]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        tasks = {asyncio.create_task(one_step(ctx, number)) for number in range(MANY)}
        assert ctx._body.asked[""] == MANY
        done, _ = await asyncio.wait(tasks)
        return [task.result() for task in done]

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(eager) == [2 * number for number in range(MANY)]


def in_another_thread() -> None:
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()


@pytest.mark.parametrize("collect", [gc.collect, in_another_thread, lambda: None])
def test_python_s_collector_closes_no_async_generator_before_the_workflow_has_ended(
    collect: Callable[[], object],
) -> None:
    """It comes in each process at another time, and a `finally` may ask for steps."""
    closed: list[int] = []

    async def endless(number: int) -> AsyncIterator[int]:
        itself: list[object] = []
        itself.append(itself)
        try:
            while True:
                yield number
        finally:
            await asyncio.sleep(0)
            closed.append(number)

    async def begins(number: int) -> None:
        generator = endless(number)
        in_a_cycle: list[object] = [generator]
        in_a_cycle.append(in_a_cycle)
        await anext(generator)

    @workflow
    async def abandons(ctx: WorkflowContext) -> list[int]:
        for number in range(MANY):
            await begins(number)
        collect()
        await ctx.step("one", double, 1)
        collect()
        await asyncio.sleep(0)
        return list(closed)

    async def main() -> list[int]:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            return await engine.run(abandons)

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(main()) == []
        assert closed == list(range(MANY))
    finally:
        gc.enable()


def test_a_step_that_was_cut_off_right_before_a_crash_is_listed_after_it(
    file: Path, journal: Journal
) -> None:
    async def hangs() -> None:
        if journal.note("hangs") == 1:
            await asyncio.sleep(3600)

    async def dies() -> None:
        if journal.note("dies") == 1:
            die()

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(0.05):
                await ctx.step("hangs", hangs)
        except TimeoutError:
            await ctx.step("dies", dies)
        return "late"

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.run(order, execution_id="one")

    async def second_process() -> str:
        async with an_engine(file, workflows=[order]) as (_, engine):
            result: str = await engine.handle("one").result()
            return result

    run_until_killed(first_process)
    with closing(sqlite3.connect(file)) as dba, dba:
        # As if the process had died a little earlier, before that was recorded.
        dba.execute(
            "update step_checkpoints set status = 'INTENT', error_type = null,"
            " error_message = null, completed_at = null where step_name = 'hangs'"
        )
    assert asyncio.run(second_process()) == "late"
    assert journal.lines == ["hangs", "dies", "dies"]
    with closing(sqlite3.connect(file)) as dba:
        assert dba.execute("select step_name, step_status from workflow_in_doubt").fetchall() == [
            ("hangs", "FAILED")
        ]


def test_a_sleep_that_new_code_makes_longer_is_waited_for_once(file: Path) -> None:
    seconds = 60.0

    @workflow
    async def naps(ctx: WorkflowContext) -> None:
        await asyncio.sleep(seconds)

    beginning = ManualClock().now()

    async def main(clock: ManualClock) -> tuple[ExecutionStatus, list[str]]:
        async with an_engine(file, workflows=[naps], clock=clock) as (store, engine):
            await engine.start(naps, execution_id="one")
            await asyncio.sleep(0.1)
            timers = await store.load_timers("one")
            status = (await engine.load("one")).status
            return status, [f"{one.status} {one.fire_at - beginning}" for one in timers]

    assert asyncio.run(main(ManualClock())) == (ExecutionStatus.SUSPENDED, ["PENDING 0:01:00"])
    seconds = 90.0
    later = ManualClock(beginning + timedelta(seconds=70))
    assert asyncio.run(main(later)) == (ExecutionStatus.SUSPENDED, ["PENDING 0:01:30"])


def test_a_timer_fires_at_its_time_to_the_microsecond_and_is_one_event() -> None:
    """In seconds since 1970, as asyncio counts, the times of many of them are rounded."""

    @workflow
    async def naps(ctx: WorkflowContext) -> None:
        for number in range(MANY):
            await asyncio.sleep(number / 7)

    async def main(clock: ManualClock) -> list[int | None]:
        async with (
            SqliteCheckpointStore.in_memory() as store,
            DurableEngine(store, clock=clock) as engine,
        ):
            handle = await engine.start(naps, execution_id="one")
            while not (await handle.status()).is_terminal:
                await clock.advance(timedelta(seconds=1))
            return [one.event for one in await store.load_checkpoints("one")]

    assert asyncio.run(main(ManualClock())) == list(range(1, MANY))


def test_tasks_that_are_given_no_name_have_the_same_in_each_process() -> None:
    @workflow
    async def names(ctx: WorkflowContext) -> list[str]:
        tasks = [asyncio.create_task(one_step(ctx, number)) for number in range(3)]
        named = asyncio.create_task(one_step(ctx, 3), name="its own")
        await asyncio.gather(*tasks, named)
        return [task.get_name() for task in (*tasks, named)]

    async def main() -> list[str]:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            return await engine.run(names)

    first = asyncio.run(main())
    assert first == asyncio.run(main())
    assert len(set(first)) == 4
    assert first[-1] == "its own"


async def test_the_tasks_of_many_executions_do_not_get_into_each_others_way() -> None:
    """asyncio has them in one set: with the same hash each would be compared with all others."""
    hashes: set[int] = set()

    @workflow
    async def looks(ctx: WorkflowContext) -> None:
        hashes.add(hash(asyncio.current_task()))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        for number in range(MANY):
            await engine.run(looks, execution_id=str(number))
    assert len(hashes) == MANY
