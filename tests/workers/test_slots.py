"""A slot is held while code runs: what waits for its next attempt holds up nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    RetryPolicy,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import an_engine, until

TEN_MINUTES = RetryPolicy.fixed(max_attempts=9, delay=timedelta(minutes=10))
SLOTS = 3


def fail(*_: object) -> None:
    raise ConnectionError("503")


@workflow
async def backs_off(ctx: WorkflowContext) -> None:
    await ctx.step("call", fail, retry=TEN_MINUTES)


@workflow
async def backs_off_side_by_side(ctx: WorkflowContext) -> None:
    await asyncio.gather(*(ctx.step(f"call {n}", fail, retry=TEN_MINUTES) for n in range(3)))


@workflow
async def backs_off_beside_another(ctx: WorkflowContext) -> None:
    """The other step ends when this one waits already: nothing of the execution runs then."""
    await asyncio.gather(
        ctx.step("call", fail, retry=TEN_MINUTES), ctx.step("other", asyncio.sleep, 0.05)
    )


@workflow
async def cannot_undo(ctx: WorkflowContext) -> None:
    await ctx.step("pay", int, compensate=fail, compensate_retry=TEN_MINUTES)
    await ctx.step("ship", fail)


hung: set[str] = set()


async def hang_once(name: str) -> None:
    if name not in hung:
        hung.add(name)
        await asyncio.sleep(60)
    raise ConnectionError("503")


@workflow
async def settles(ctx: WorkflowContext) -> None:
    """It was cut off in a step, and has to find out what became of it before it undoes it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await ctx.step("book", hang_once, str(ctx.uuid4()), compensate=fail, retry=TEN_MINUTES)
    await ctx.step("ship", fail)


@workflow
async def healthy(ctx: WorkflowContext) -> int:
    return await ctx.step("one", lambda: 1)


@workflow
async def busy(ctx: WorkflowContext) -> None:
    await ctx.step("work", asyncio.sleep, 30)


WAITING = [
    backs_off,
    backs_off_side_by_side,
    backs_off_beside_another,
    cannot_undo,
    settles,
]
MANY = 100


@pytest.mark.few(2)
@pytest.mark.parametrize("waits", WAITING)
async def test_what_waits_for_its_next_attempt_holds_no_slot(file: Path, waits: object) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        for number in range(MANY):
            await client.enqueue(waits, execution_id=f"waits {number}")  # type: ignore[call-overload]
        for number in range(5):
            await client.enqueue(healthy, execution_id=f"healthy {number}")
    workflows = [*WAITING, healthy]
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows, max_concurrent=SLOTS) as engine:
            async with asyncio.timeout(60):
                for number in range(5):
                    assert await engine.handle(f"healthy {number}").result() == 1
            for number in range(MANY):
                found = await engine.load(f"waits {number}")
                assert not found.status.is_terminal


async def test_what_runs_holds_its_slot(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        for number in range(9):
            await client.enqueue(busy, execution_id=str(number))
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, [busy], max_concurrent=SLOTS) as engine:
            await asyncio.sleep(0.3)
            running = await store.load_executions_by_status([ExecutionStatus.RUNNING])
            assert len(running) == SLOTS
            await engine.dispose(grace=timedelta(0))


async def test_it_holds_one_again_while_its_next_attempt_runs(file: Path) -> None:
    runs: list[str] = []

    async def fail_once(name: str) -> None:
        runs.append(name)
        if runs.count(name) == 1:
            raise ConnectionError("503")
        await asyncio.sleep(30)

    @workflow
    async def tries_again(ctx: WorkflowContext, name: str) -> None:
        quick = RetryPolicy.fixed(max_attempts=9, delay=timedelta(milliseconds=300))
        await ctx.step("call", fail_once, name, retry=quick)

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        for number in range(SLOTS):
            await client.enqueue(tries_again, str(number))
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, [tries_again, healthy], max_concurrent=SLOTS) as engine:
            await until(lambda: len(runs) == 2 * SLOTS)
            async with SqliteCheckpointStore.file(file) as other, DurableEngine(other) as client:
                await client.enqueue(healthy, execution_id="late")
            await asyncio.sleep(0.3)
            assert (await engine.load("late")).status is ExecutionStatus.PENDING
            steps = await store.load_checkpoints("late")
            assert not [one for one in steps if one.status is StepStatus.COMPLETED]
            await engine.dispose(grace=timedelta(0))


# A graceful stop


@pytest.mark.parametrize("waits", WAITING)
async def test_a_graceful_stop_does_not_wait_for_the_next_attempt(file: Path, waits: Any) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        engine = DurableEngine(store, [waits])
        await engine.open()
        await engine.start(waits, execution_id="one")

        async def is_waiting() -> bool:
            steps = await store.load_checkpoints("one")
            return any(one.due_at is not None for one in steps)

        async with asyncio.timeout(30):
            await until(is_waiting)
            before = await store.load_checkpoints("one")
            await engine.dispose(grace=timedelta(hours=1))
        after = await store.load_checkpoints("one")
        due = [one for one in before if one.due_at is not None]
        assert [one for one in after if one in due] == due, "they are due as they were"


async def test_a_graceful_stop_waits_for_what_runs_beside_and_the_rest_goes_on_in_the_next_process(
    file: Path,
) -> None:
    tries: list[str] = []
    go_on = asyncio.Event()

    async def slow() -> str:
        tries.append("slow")
        await go_on.wait()
        return "slow"

    async def fail_once() -> str:
        tries.append("call")
        if tries.count("call") == 1:
            raise ConnectionError("503")
        return "call"

    async def fail_late() -> str:
        tries.append("late")
        await go_on.wait()
        if tries.count("late") == 1:
            raise ConnectionError("503")
        return "late"

    @workflow
    async def beside(ctx: WorkflowContext) -> list[str]:
        retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(seconds=1))
        return await asyncio.gather(
            ctx.step("slow", slow),
            ctx.step("call", fail_once, retry=retry),
            ctx.step("late", fail_late, retry=retry),
        )

    async with SqliteCheckpointStore.file(file) as store:
        engine = DurableEngine(store, [beside])
        await engine.open()
        await engine.start(beside, execution_id="one")
        await until(lambda: len(tries) == 3)
        disposing = asyncio.create_task(engine.dispose(grace=timedelta(hours=1)))
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        async with asyncio.timeout(30):
            await disposing
        steps = {one.step_name: one for one in await store.load_checkpoints("one")}
        assert steps["slow"].status is StepStatus.COMPLETED
        for name in ("call", "late"):
            assert (steps[name].status, steps[name].attempt) == (StepStatus.FAILED, 1)
            assert steps[name].due_at is not None
        async with DurableEngine(store, [beside]) as engine:
            assert await engine.handle("one").result() == ["slow", "call", "late"]
    assert sorted(tries) == ["call", "call", "late", "late", "slow"]


async def test_a_graceful_stop_in_the_middle_of_undoing_undoes_the_rest_in_the_next_process(
    file: Path,
) -> None:
    undone: list[str] = []
    go_on = asyncio.Event()

    async def undo(name: str) -> None:
        undone.append(name)
        await go_on.wait()

    @workflow
    async def saga(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: "first", compensate=undo)
        await ctx.step("second", lambda: "second", compensate=undo)
        await ctx.step("fail", fail)

    async with SqliteCheckpointStore.file(file) as store:
        engine = DurableEngine(store, [saga])
        await engine.open()
        await engine.start(saga, execution_id="one")
        await until(lambda: len(undone) == 1)
        disposing = asyncio.create_task(engine.dispose(grace=timedelta(hours=1)))
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        async with asyncio.timeout(30):
            await disposing
        assert undone == ["second"]
        found = await loaded(store, "one")
        assert found.status is ExecutionStatus.COMPENSATING
        async with DurableEngine(store, [saga]) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.handle("one").result()
    assert undone == ["second", "first"]


async def test_slots_that_are_taken_again_beside_a_look_for_work_disturb_it_not(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What comes back from a back-off takes its slot again, whatever the look saw before."""

    @workflow
    async def flaky(ctx: WorkflowContext) -> None:
        for number in range(3):
            tries = itertools.count()

            async def act(tries: Iterator[int] = tries) -> None:
                await asyncio.sleep(0.001)
                if next(tries) < 3:
                    raise ConnectionError("not yet")

            policy = RetryPolicy.fixed(max_attempts=None, delay=timedelta(milliseconds=4))
            await ctx.step(f"act {number}", act, retry=policy)

    async with an_engine(file, workflows=[flaky], max_concurrent=3) as (_, engine):
        handles = [await engine.enqueue(flaky) for _ in range(120)]
        for handle in handles:
            await handle.result()
    assert caplog.messages == []
