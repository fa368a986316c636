"""Time that a test moves."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    RetryPolicy,
    SignalTimeoutError,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowExpiredError,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock

DAY = timedelta(days=1)


async def test_a_month_passes_at_once_and_stops_at_every_deadline() -> None:
    clock = ManualClock()
    woke: list[datetime] = []

    @workflow
    async def monthly(ctx: WorkflowContext) -> None:
        for day in range(30):
            await ctx.sleep(f"day {day}", DAY)
            woke.append(clock.now())

    store = SqliteCheckpointStore.in_memory()
    async with store, DurableEngine(store, clock=clock) as engine:
        handle = await engine.start(monthly)
        await clock.advance(timedelta(days=29, hours=23))
        assert await handle.status() is ExecutionStatus.SUSPENDED
        await clock.advance(timedelta(hours=1))
        assert await handle.status() is ExecutionStatus.COMPLETED
    assert woke == [datetime(2030, 1, 1, tzinfo=UTC) + n * DAY for n in range(1, 31)]


async def test_back_offs_timeouts_and_times_to_live_go_by_it() -> None:
    clock = ManualClock()
    tried: list[datetime] = []

    async def try_it() -> None:
        tried.append(clock.now())
        raise ConnectionError

    @workflow
    async def patient(ctx: WorkflowContext) -> str:
        with suppress(ConnectionError):
            retry = RetryPolicy.fixed(max_attempts=3, delay=timedelta(hours=1))
            await ctx.step("try", try_it, retry=retry)
        with suppress(SignalTimeoutError):
            await ctx.wait_signal("help", timeout=DAY)
        await ctx.sleep("for ever", 1000 * DAY)
        return "unreachable"

    store = SqliteCheckpointStore.in_memory()
    async with store, DurableEngine(store, clock=clock) as engine:
        handle = await engine.start(patient, ttl=7 * DAY)
        await clock.advance(timedelta(hours=2))
        assert [time - tried[0] for time in tried] == [timedelta(hours=n) for n in range(3)]
        await clock.advance(6 * DAY)
        assert await handle.status() is ExecutionStatus.SUSPENDED
        await clock.advance(DAY)
        with pytest.raises(WorkflowExpiredError):
            await handle.result()


async def test_a_clock_may_be_set_back_and_nothing_ends_early() -> None:
    clock = ManualClock(datetime(2030, 6, 1, tzinfo=UTC))

    @workflow
    async def nap(ctx: WorkflowContext) -> None:
        await ctx.sleep("nap", timedelta(hours=1))

    store = SqliteCheckpointStore.in_memory()
    async with store, DurableEngine(store, clock=clock) as engine:
        handle = await engine.start(nap)
        await clock.advance(timedelta(minutes=59))
        clock.set(clock.now() - timedelta(hours=1))
        await clock.advance(timedelta(minutes=60))
        assert await handle.status() is ExecutionStatus.SUSPENDED
        await clock.advance(timedelta(minutes=1))
        assert await handle.status() is ExecutionStatus.COMPLETED


def test_a_clock_must_know_its_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        ManualClock(datetime(2030, 1, 1))  # noqa: DTZ001
