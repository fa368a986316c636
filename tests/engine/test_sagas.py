"""Compensation: in reverse order of completion, each step once, resumed wherever it was cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    CompensationError,
    DurableEngine,
    DurableEngineObserver,
    ExecutionStatus,
    NonDeterminismError,
    RetryPolicy,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepStatus,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, an_engine, die, run_until_killed, until

QUICK = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=5))


def fail() -> None:
    raise ValueError("out of stock")


async def fail_to_run(store: SqliteCheckpointStore, definition: object) -> WorkflowFailedError:
    async with DurableEngine(store, workflows=[definition]) as engine:  # type: ignore[list-item]
        with pytest.raises(WorkflowFailedError) as caught:
            await engine.run(definition, execution_id="one")  # type: ignore[arg-type]
    return caught.value


async def test_a_loop_of_one_step_name_is_undone_step_by_step_in_reverse_order(file: Path) -> None:
    undone: list[int] = []

    async def undo(number: int) -> None:
        undone.append(number)

    @workflow
    async def loop(ctx: WorkflowContext) -> None:
        for number in range(3):
            await ctx.step("reserve", lambda number=number: number, compensate=undo)
        await ctx.step("fail", fail)

    async with SqliteCheckpointStore.file(file) as store:
        error = await fail_to_run(store, loop)
        assert error.compensation_error is None
        rows = [
            (c.step_index, c.attempt, c.step_name, c.status)
            for c in await store.load_checkpoints("one")
        ]
        assert rows == [
            (0, 0, "reserve:compensate", StepStatus.COMPENSATED),
            (0, 1, "reserve", StepStatus.COMPLETED),
            (1, 0, "reserve:compensate", StepStatus.COMPENSATED),
            (1, 1, "reserve", StepStatus.COMPLETED),
            (2, 0, "reserve:compensate", StepStatus.COMPENSATED),
            (2, 1, "reserve", StepStatus.COMPLETED),
            (3, 1, "fail", StepStatus.FAILED),
        ]
        record = await loaded(store, "one")
        assert record.status is ExecutionStatus.FAILED
        assert record.error_message == "out of stock"
    assert undone == [2, 1, 0]


async def test_steps_side_by_side_are_undone_in_reverse_order_of_completion() -> None:
    undone: list[str] = []

    async def act(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return name

    @workflow
    async def together(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            ctx.step("slow", act, "slow", 0.1, compensate=undone.append),
            ctx.step("quick", act, "quick", 0.02, compensate=undone.append),
        )
        raise ValueError("after both")

    async with SqliteCheckpointStore.in_memory() as store:
        await fail_to_run(store, together)
    assert undone == ["slow", "quick"]


async def test_a_compensation_is_retried_and_gets_the_typed_result() -> None:
    runs: list[object] = []

    def flaky(result: tuple[int, str]) -> None:
        runs.append(result)
        if len(runs) == 1:
            raise ConnectionError("not now")

    def act() -> tuple[int, str]:
        return 1, "a"

    @workflow
    async def saga(ctx: WorkflowContext) -> None:
        await ctx.step("act", act, compensate=flaky, compensate_retry=QUICK)
        fail()

    async with SqliteCheckpointStore.in_memory() as store:
        error = await fail_to_run(store, saga)
        assert error.compensation_error is None
    assert runs == [(1, "a"), (1, "a")]


def test_a_compensation_that_cannot_succeed_is_reported_and_leaves_the_others_to_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    undone: list[str] = []
    told: list[tuple[str, StepStatus]] = []

    class Observer(DurableEngineObserver):
        def on_compensation_complete(self, checkpoint: StepCheckpoint, elapsed: timedelta) -> None:
            told.append((checkpoint.step_name, checkpoint.status))

    def cannot(_: str) -> None:
        raise ConnectionError("never")

    @workflow
    async def saga(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: "first", compensate=undone.append)
        await ctx.step("second", lambda: "second", compensate=cannot, compensate_retry=QUICK)
        await ctx.step("third", lambda: "third", compensate=undone.append)
        fail()

    async def main() -> None:
        async with (
            SqliteCheckpointStore.in_memory() as store,
            DurableEngine(store, workflows=[saga], observers=[Observer()]) as engine,
        ):
            with pytest.raises(WorkflowFailedError) as caught:
                await engine.run(saga, execution_id="one")
            failed = caught.value.compensation_error
            assert isinstance(failed, CompensationError)
            assert [error.step_name for error in failed.failures] == ["second:compensate"]
            assert failed.failures[0].error_message == "never"
            rows = {c.step_name: c for c in await store.load_checkpoints("one") if c.attempt == 0}
            assert rows["second:compensate"].status is StepStatus.FAILED
            assert rows["second:compensate"].error_message == "never"
            assert rows["first:compensate"].status is StepStatus.COMPENSATED
            record = await loaded(store, "one")
            assert record.status is ExecutionStatus.FAILED

    with caplog.at_level(logging.ERROR, "durable_workflow_sqlite"):
        asyncio.run(main())
    assert undone == ["third", "first"]
    assert ("second:compensate", StepStatus.FAILED) in told
    assert "never" in caplog.text


def test_a_crash_in_a_compensation_is_resumed_and_what_is_undone_stays_undone(
    file: Path, journal: Journal
) -> None:
    def undo(name: str) -> None:
        if journal.note(f"undo {name}") == 1 and name == "second":
            die()

    @workflow
    async def saga(ctx: WorkflowContext) -> None:
        for name in ("first", "second", "third"):
            await ctx.step(name, lambda name=name: name, compensate=undo)
        await ctx.step("more", journal.note, "more")
        await ctx.step("fail", fail)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await fail_to_run(store, saga)

    run_until_killed(main)
    asyncio.run(main())
    assert journal.lines == ["more", "undo third", "undo second", "undo second", "undo first"]


def test_a_resumed_compensation_registers_every_branch_and_runs_nothing_new(
    file: Path, journal: Journal
) -> None:
    def undo(name: str) -> None:
        if journal.note(f"undo {name}") == 1 and len(journal.lines) == 6:
            die()

    async def chain(ctx: WorkflowContext, name: str) -> None:
        for number in range(2):
            await ctx.step(
                "do",
                journal.note,
                f"{name}{number}",
                compensate=lambda _, number=number: undo(f"{name}{number}"),
            )
        if name == "a":
            await ctx.wait_signal("others are done")
            await ctx.step("fail", fail)
        await ctx.wait_signal("never")

    @workflow
    async def saga(ctx: WorkflowContext) -> None:
        await asyncio.gather(chain(ctx.branch("a"), "a"), chain(ctx.branch("b"), "b"))

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(saga, execution_id="one")
            await until(lambda: len(journal.lines) >= 4)
            await asyncio.sleep(0.05)
            await handle.signal("others are done")
            await handle.result()

    async def second_process() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await fail_to_run(store, saga)

    run_until_killed(first_process)
    asyncio.run(second_process())
    done, undone = journal.lines[:4], journal.lines[4:]
    assert sorted(done) == ["a0", "a1", "b0", "b1"]
    assert sorted(set(undone)) == ["undo a0", "undo a1", "undo b0", "undo b1"]
    assert len(undone) == 5  # the one that was cut off ran again


async def pause() -> None:
    await asyncio.sleep(0.02)


async def many_tasks(depth: int = 40) -> None:
    if depth:
        await asyncio.create_task(many_tasks(depth - 1))


@pytest.mark.parametrize("own", [pause, many_tasks])
def test_a_resumed_compensation_waits_for_a_branch_that_does_something_of_its_own(
    own: Callable[[], Awaitable[None]], file: Path, journal: Journal
) -> None:
    async def slow(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: 1)
        await own()
        await ctx.step("second", lambda: 2, compensate=lambda _: journal.note("undone"))

    async def failing(ctx: WorkflowContext) -> None:
        await ctx.step("wait", asyncio.sleep, 0.2)
        await ctx.step("fail", fail)

    @workflow
    async def saga(ctx: WorkflowContext) -> None:
        await asyncio.gather(slow(ctx.branch("slow")), failing(ctx.branch("failing")))

    class DiesThen(DurableEngineObserver):
        def on_compensation_start(self, checkpoint: StepCheckpoint) -> None:
            die()

    async def first_process() -> None:
        async with an_engine(file, observers=[DiesThen()]) as (_, engine):
            await engine.run(saga, execution_id="one")

    async def second_process() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await fail_to_run(store, saga)

    run_until_killed(first_process)
    asyncio.run(second_process())
    assert journal.lines == ["undone"]


def test_what_can_no_longer_be_undone_stops_the_execution_instead_of_failing_it(
    file: Path, journal: Journal
) -> None:
    @workflow(name="saga")
    async def as_started(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: 1, compensate=lambda _: die())
        await ctx.step("fail", fail)

    @workflow(name="saga")
    async def as_changed(ctx: WorkflowContext) -> None:
        raise ValueError("before its first step")

    async def main(definition: object) -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.run(definition, execution_id="one")  # type: ignore[arg-type]

    async def look() -> ExecutionStatus:
        async with SqliteCheckpointStore.file(file) as store:
            record = await loaded(store, "one")
            return record.status

    run_until_killed(lambda: main(as_started))
    with pytest.raises(NonDeterminismError, match="first"):
        asyncio.run(main(as_changed))
    assert asyncio.run(look()) is ExecutionStatus.COMPENSATING


async def cancelled_from_within(_: object) -> None:
    raise asyncio.CancelledError


async def test_a_compensation_that_is_cancelled_from_within_is_a_failed_one_like_any() -> None:
    undone: list[str] = []

    @workflow
    async def saga(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: 1, compensate=lambda _: undone.append("first"))
        await ctx.step(
            "second", lambda: 2, compensate=cancelled_from_within, compensate_retry=QUICK
        )
        await ctx.step("fail", fail)

    async with SqliteCheckpointStore.in_memory() as store:
        error = await asyncio.wait_for(fail_to_run(store, saga), 10)
        assert error.compensation_error is not None
        (failure,) = error.compensation_error.failures
        assert failure.step_name == "second:compensate"
        assert failure.attempt == 2
    assert undone == ["first"]


def test_a_compensation_that_ends_the_worker_leaves_the_execution_to_be_resumed(
    file: Path,
) -> None:
    is_over = False
    undone: list[str] = []

    async def undo(_: object) -> None:
        if not is_over:
            raise KeyboardInterrupt
        undone.append("undone")

    @workflow
    async def saga(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: 1, compensate=undo)
        await ctx.step("fail", fail)

    async def first() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await asyncio.wait_for(engine.run(saga, execution_id="one"), 5)

    async def second() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            record = await store.load_execution("one")
            assert record is not None
            assert record.status is ExecutionStatus.COMPENSATING
            await asyncio.wait_for(fail_to_run(store, saga), 5)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(first())
    is_over = True
    asyncio.run(second())
    assert undone == ["undone"]
