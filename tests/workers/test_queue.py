"""Enqueued executions run in whatever worker has room, in order, and a client hears of them."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionStatus,
    SerializationError,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowExpiredError,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from tests.processes import an_engine

ran: list[str] = []


@workflow
async def job(ctx: WorkflowContext, name: str) -> str:
    await ctx.step("run", ran.append, name)
    return name


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


async def test_what_is_enqueued_runs_in_an_engine_that_has_the_workflow(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as one, SqliteCheckpointStore.file(file) as two:
        async with DurableEngine(one) as client:
            handle = await client.enqueue(job, "a", execution_id="a")
            await asyncio.sleep(0.05)
            assert await handle.status() is ExecutionStatus.PENDING
            async with DurableEngine(two, workflows=[job]):
                assert await handle.result() == "a"


async def test_an_enqueue_can_be_repeated(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[job]) as engine:
            for _ in range(3):
                handle = await engine.enqueue(job, "a", execution_id="a")
                assert await handle.result() == "a"
            with pytest.raises(ExecutionConflictError, match="other input"):
                await engine.enqueue(job, "b", execution_id="a")
            assert await engine.run(job, "a", execution_id="a") == "a"
    assert ran == ["a"]


async def test_a_start_of_what_is_enqueued_runs_it_here_and_now(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.enqueue(job, "a", execution_id="a", delay=timedelta(days=1))
        assert await engine.run(job, "a", execution_id="a") == "a"


async def test_the_higher_priority_runs_first_then_the_older(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as client:
            for name, priority in (("c", 0), ("d", 0), ("a", 9), ("e", -1), ("b", 9)):
                await client.enqueue(job, name, execution_id=name, priority=priority)
        async with DurableEngine(store, workflows=[job], max_concurrent=1) as engine:
            for name in "abcde":
                await engine.handle(name).result()
    assert ran == ["a", "b", "c", "d", "e"]


async def test_a_delay_is_kept_over_a_restart(file: Path) -> None:
    clock = ManualClock(datetime(2030, 1, 1, tzinfo=UTC))

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[job], clock=clock) as engine:
            await engine.enqueue(job, "a", execution_id="a", delay=timedelta(hours=2))
            await clock.advance(timedelta(minutes=119))
        async with DurableEngine(store, workflows=[job], clock=clock) as engine:
            assert await engine.handle("a").status() is ExecutionStatus.PENDING
            await clock.advance(timedelta(minutes=1))
            assert await engine.handle("a").result() == "a"


async def test_a_signal_does_not_shorten_a_delay(file: Path) -> None:
    clock = ManualClock(datetime(2030, 1, 1, tzinfo=UTC))

    @workflow
    async def heard(ctx: WorkflowContext) -> str:
        await ctx.step("run", ran.append, "it")
        return str(await ctx.wait_signal("go"))

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[heard], clock=clock) as engine:
            handle = await engine.enqueue(heard, delay=timedelta(hours=1))
            await handle.signal("go", "now")
            await clock.advance(timedelta(minutes=59))
            assert ran == []
            await clock.advance(timedelta(minutes=1))
            assert await handle.result() == "now"


async def test_a_start_again_that_is_cancelled_while_it_claims_is_run_all_the_same(
    file: Path,
) -> None:
    async with an_engine(file, max_concurrent=1) as (_, engine):
        for number in range(8):
            name = str(number)
            await engine.enqueue(job, name, execution_id=name, delay=timedelta(days=1))
            lock = sqlite3.connect(file, isolation_level=None)
            lock.execute("begin immediate")
            again = asyncio.ensure_future(engine.start(job, name, execution_id=name))
            await asyncio.sleep(0.01 * number)
            again.cancel()
            await asyncio.wait([again])
            lock.execute("rollback")
            lock.close()
            handle = await engine.start(job, name, execution_id=name)
            assert await asyncio.wait_for(handle.result(), 5) == name


async def test_what_is_enqueued_can_be_cancelled_before_it_runs(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as one, SqliteCheckpointStore.file(file) as two:
        async with DurableEngine(one) as client:
            handle = await client.enqueue(job, "a", delay=timedelta(days=1))
            assert await handle.cancel()
            with pytest.raises(ExecutionFinishedError):
                await handle.cancel()
            async with DurableEngine(two, workflows=[job]):
                with pytest.raises(WorkflowCancelledError):
                    await handle.result()
    assert ran == []


async def test_what_waits_in_the_queue_expires(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[job]) as engine:
            handle = await engine.enqueue(
                job, "a", delay=timedelta(days=1), ttl=timedelta(milliseconds=50)
            )
            with pytest.raises(WorkflowExpiredError):
                await handle.result()
    assert ran == []


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((), {}, TypeError),
        (("a", "b"), {}, TypeError),
        ((object(),), {}, SerializationError),
        (("a",), {"delay": 3}, TypeError),
        (("a",), {"delay": timedelta(seconds=-1)}, ValueError),
        (("a",), {"ttl": timedelta(0)}, ValueError),
        (("a",), {"priority": True}, TypeError),
        (("a",), {"priority": 1.5}, TypeError),
        (("a",), {"priority": 2**63}, ValueError),
        (("a",), {"execution_id": ""}, ValueError),
    ],
)
async def test_a_bad_enqueue_is_refused_with_nothing_written(
    file: Path, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        with pytest.raises(error):
            await engine.enqueue(job, *arguments, **options)
        assert await store.load_executions_by_status(ExecutionStatus) == []


async def test_what_is_no_workflow_is_refused(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        with pytest.raises(TypeError, match="not a workflow"):
            await engine.enqueue(len, "a")  # type: ignore[arg-type]


async def test_no_more_are_taken_on_than_there_is_room_for(file: Path) -> None:
    running, most = 0, 0

    async def act() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    @workflow
    async def works(ctx: WorkflowContext) -> None:
        await ctx.step("act", act)
        await ctx.sleep("rest", timedelta(milliseconds=20))  # which takes up no room

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[works], max_concurrent=3) as engine:
            handles = [await engine.enqueue(works) for _ in range(20)]
            await asyncio.gather(*(handle.result() for handle in handles))
    assert most == 3


def test_a_client_sees_every_state_of_what_runs_elsewhere(file: Path) -> None:
    @workflow
    async def slow(ctx: WorkflowContext) -> str:
        await ctx.step("a", asyncio.sleep, 0.1)
        return str(await ctx.wait_signal("go"))

    async def main() -> list[ExecutionStatus]:
        async with SqliteCheckpointStore.file(file) as one, SqliteCheckpointStore.file(file) as two:
            async with DurableEngine(one) as client, DurableEngine(two, workflows=[slow]):
                handle = await client.enqueue(slow)
                states: list[ExecutionStatus] = []
                async for state in client.observe(handle.execution_id):
                    states.append(state.status)
                    if state.status is ExecutionStatus.SUSPENDED:
                        await handle.signal("go", "now")
                assert await handle.result() == "now"
                return states

    states = asyncio.run(main())
    assert states[-2:] == [ExecutionStatus.SUSPENDED, ExecutionStatus.COMPLETED] or states[-3:] == [
        ExecutionStatus.SUSPENDED,
        ExecutionStatus.RUNNING,
        ExecutionStatus.COMPLETED,
    ]
    assert states[0] in (ExecutionStatus.PENDING, ExecutionStatus.RUNNING)
