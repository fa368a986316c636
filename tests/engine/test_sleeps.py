"""Durable sleeps: a deadline is computed once, stored, and kept."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    DurableEngineObserver,
    ExecutionStatus,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TimerStatus,
    WorkflowContext,
    WorkflowExecution,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from tests.processes import Journal, an_engine, die, run_until_killed


@workflow
async def nap(ctx: WorkflowContext, seconds: float) -> str:
    await ctx.sleep("nap", timedelta(seconds=seconds))
    return "awake"


async def test_a_sleep_is_a_step_with_a_stored_deadline_and_suspends_the_execution() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(nap, 0.2, execution_id="one")
        await asyncio.sleep(0.05)
        assert await handle.status() is ExecutionStatus.SUSPENDED
        (step,) = await store.load_checkpoints("one")
        (timer,) = await store.load_pending_timers()
        assert (step.kind, step.status) == (StepKind.SLEEP, StepStatus.INTENT)
        assert step.due_at == timer.fire_at
        assert await handle.result() == "awake"
        assert datetime.now(UTC) >= timer.fire_at
        (step,) = await store.load_checkpoints("one")
        assert step.status is StepStatus.COMPLETED
        assert [t.status for t in await store.load_timers("one")] == [TimerStatus.FIRED]


def test_a_sleep_keeps_its_deadline_over_a_restart(file: Path) -> None:
    async def first_process() -> None:
        clock = ManualClock()
        async with an_engine(file, clock=clock) as (_, engine):
            await engine.start(nap, 60.0, execution_id="one")
            await clock.advance(timedelta(seconds=30))
            die()

    async def second_process() -> None:
        clock = ManualClock()
        clock.set(clock.now() + timedelta(seconds=30))
        async with an_engine(file, workflows=[nap], clock=clock) as (store, engine):
            (timer,) = await store.load_pending_timers()
            assert timer.fire_at == clock.now() + timedelta(seconds=30)
            handle = await engine.start(nap, 60.0, execution_id="one")
            await clock.advance(timedelta(seconds=29))
            assert await handle.status() is ExecutionStatus.SUSPENDED
            await clock.advance(timedelta(seconds=1))
            assert await handle.result() == "awake"
            assert [t.fire_at for t in await store.load_timers("one")] == [timer.fire_at]

    run_until_killed(first_process)
    asyncio.run(second_process())


def test_an_elapsed_sleep_is_not_slept_again_and_two_of_one_name_are_two(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def twice(ctx: WorkflowContext) -> None:
        await ctx.sleep("nap", timedelta(seconds=0.4))
        await ctx.sleep("nap", timedelta(seconds=0.4))
        if journal.note("slept") == 1:
            die()

    async def main(passes: timedelta) -> None:
        clock = ManualClock()
        async with an_engine(file, workflows=[twice], clock=clock) as (store, engine):
            handle = await engine.start(twice, execution_id="one")
            await clock.advance(passes)
            await handle.result()
            assert len(await store.load_timers("one")) == 2

    run_until_killed(lambda: main(timedelta(seconds=1)))
    asyncio.run(main(timedelta(0)))


def test_a_sleep_that_ended_while_nobody_was_there_ends_at_once(file: Path) -> None:
    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(nap, 0.2, execution_id="one")
            await asyncio.sleep(0.05)
            die()

    async def second_process() -> None:
        async with an_engine(file, workflows=[nap]) as (_, engine):
            assert await engine.run(nap, 0.2, execution_id="one") == "awake"

    run_until_killed(first_process)
    time.sleep(0.3)
    asyncio.run(second_process())


def test_sleep_until_takes_a_time_of_any_zone() -> None:
    @workflow
    async def until(ctx: WorkflowContext, deadline: datetime) -> None:
        await ctx.sleep_until("until", deadline)

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            zone = datetime.now().astimezone().tzinfo
            deadline = datetime.now(zone) + timedelta(seconds=0.1)
            await engine.run(until, deadline, execution_id="one")
            assert datetime.now(UTC) >= deadline
            (step,) = await store.load_checkpoints("one")
            assert step.due_at == deadline

    asyncio.run(main())


async def test_a_deadline_beyond_all_time_is_the_end_of_time() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:

        @workflow
        async def for_ever(ctx: WorkflowContext) -> None:
            await ctx.sleep("for ever", timedelta.max)

        await engine.start(for_ever, execution_id="one")
        await asyncio.sleep(0.05)
        (timer,) = await store.load_pending_timers()
        assert timer.fire_at.year == 9999
        assert await engine.cancel("one")


async def test_many_sleeps_end_in_order_of_their_deadlines() -> None:
    ends: list[int] = []
    last = datetime.now(UTC) + timedelta(seconds=2)  # all of them have begun by then

    @workflow
    async def sleeper(ctx: WorkflowContext, number: int) -> None:
        await ctx.sleep_until("nap", last - timedelta(milliseconds=10 * number))
        ends.append(number)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handles = [await engine.start(sleeper, number) for number in range(50)]
        await asyncio.gather(*(handle.result() for handle in handles))
    assert ends == sorted(ends, reverse=True)


async def test_an_execution_whose_wait_is_over_is_not_called_suspended() -> None:
    # One that is, has no timer any more, and whoever takes it over would wait for ever.
    status: dict[str, ExecutionStatus] = {}
    wrong: list[str] = []

    class Watch(DurableEngineObserver):
        def on_status_change(self, execution: WorkflowExecution, before: ExecutionStatus) -> None:
            status[execution.workflow_execution_id] = execution.status

        def on_step_complete(
            self, checkpoint: StepCheckpoint, elapsed: timedelta, *, replayed: bool
        ) -> None:
            if status.get(checkpoint.workflow_execution_id) is ExecutionStatus.SUSPENDED:
                wrong.append(checkpoint.workflow_execution_id)

    @workflow
    async def napping(ctx: WorkflowContext, seconds: float) -> None:
        await ctx.sleep("nap", timedelta(seconds=seconds))
        await ctx.step("work", lambda: 1)

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[Watch()]) as engine,
    ):
        handles = [await engine.start(napping, number / 10_000) for number in range(200)]
        for handle in handles:
            await handle.result()
    assert wrong == []


@pytest.mark.parametrize("hours", [-12, 12])
async def test_the_end_of_time_may_be_given_in_any_zone(hours: int) -> None:
    zone = timezone(timedelta(hours=hours))

    @workflow
    async def for_ever(ctx: WorkflowContext) -> None:
        await ctx.sleep_until("beginning", datetime.min.replace(tzinfo=zone))
        await ctx.sleep_until("end", datetime.max.replace(tzinfo=zone))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.start(for_ever, execution_id="one")
        while (await engine.load("one")).status is not ExecutionStatus.SUSPENDED:
            await asyncio.sleep(0.01)
        (_, end) = await store.load_checkpoints("one")
        assert end.due_at is not None
        assert end.due_at.year == 9999
