"""`ctx.map`: a step or a child for each item, each done once, results in the order of the items."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    ChildFailedError,
    DurableEngine,
    ExecutionStatus,
    Record,
    RetryPolicy,
    SqliteCheckpointStore,
    StepCheckpoint,
    Workflow,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowExecution,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine.execution import EVENTS_A_TURN
from durable_workflow_sqlite.engine.operations import Operation
from durable_workflow_sqlite.store import statement_store
from durable_workflow_sqlite.testing.contract_base import new_execution
from tests.engine.test_children import in_memory, invoice, waits
from tests.processes import Journal, an_engine, run_until_killed, until
from tests.stores import SavesAll


async def double(number: int) -> int:
    await asyncio.sleep(random.random() / 500)
    return 2 * number


async def test_results_come_in_the_order_of_the_items() -> None:
    @workflow
    async def body(ctx: WorkflowContext, count: int) -> list[int]:
        return await ctx.map("double", double, (number for number in range(count)))

    async with in_memory(body) as (store, engine):
        assert await engine.run(body, 250, execution_id="m") == [2 * one for one in range(250)]
        assert await engine.run(body, 0) == []
        branches = {one.branch for one in await store.load_checkpoints("m")}
        assert branches == {f"double/{number}" for number in range(250)}


async def test_no_more_are_under_way_than_it_says() -> None:
    running: list[int] = []
    most = 0

    async def act(number: int) -> None:
        nonlocal most
        running.append(number)
        most = max(most, len(running))
        await asyncio.sleep(0.001)
        running.remove(number)

    @workflow
    async def body(ctx: WorkflowContext) -> None:
        await ctx.map("act", act, range(50), max_concurrency=7)

    async with in_memory(body) as (_, engine):
        await engine.run(body)
    assert most == 7


def fail_at_3(number: int) -> int:
    if number == 3:
        raise ValueError("not three")
    return number


async def test_the_first_error_ends_the_others_and_is_raised() -> None:
    undone: list[int] = []

    @workflow
    async def body(ctx: WorkflowContext) -> None:
        await ctx.map("act", fail_at_3, range(10), max_concurrency=1, compensate=undone.append)

    async with in_memory(body) as (store, engine):
        with pytest.raises(WorkflowFailedError, match="not three"):
            await engine.run(body, execution_id="m")
        ran = {one.branch for one in await store.load_checkpoints("m")}
        assert ran == {f"act/{number}" for number in range(4)}
        assert undone == [2, 1, 0]


async def test_errors_are_collected_between_the_results() -> None:
    @workflow
    async def body(ctx: WorkflowContext) -> list[str]:
        got = await ctx.map("act", fail_at_3, range(5), on_error="collect")
        return [repr(one) for one in got]

    async with in_memory(body) as (_, engine):
        assert await engine.run(body) == ["0", "1", "2", "ValueError('not three')", "4"]


async def test_a_step_of_a_map_is_tried_again() -> None:
    tries: list[int] = []

    def flaky(number: int) -> int:
        tries.append(number)
        if tries.count(number) == 1:
            raise ConnectionError
        return number

    @workflow
    async def body(ctx: WorkflowContext) -> list[int]:
        return await ctx.map(
            "act", flaky, range(3), retry=RetryPolicy.fixed(max_attempts=2, delay=timedelta(0))
        )

    async with in_memory(body) as (_, engine):
        assert await engine.run(body) == [0, 1, 2]
    assert sorted(tries) == [0, 0, 1, 1, 2, 2]


async def test_a_workflow_is_mapped_as_children() -> None:
    @workflow
    async def one(ctx: WorkflowContext, name: str) -> int:
        return len((await ctx.child("invoice", invoice, name, 2)) or ())

    @workflow
    async def body(ctx: WorkflowContext, names: list[str]) -> list[int]:
        return await ctx.map("one", one, names, key=str.upper)

    async with in_memory(body, one, invoice) as (store, engine):
        assert await engine.run(body, ["a", "b"], execution_id="m") == [1, 1]
        child = await store.load_execution("m/one.A:one-0")
        assert child is not None
        assert child.parent_execution_id == "m"


async def test_the_other_children_are_cancelled_at_the_first_error() -> None:
    @workflow
    async def one(ctx: WorkflowContext, name: str) -> str:
        if name == "b":
            await ctx.step("fail", fail_at_3, 3)
        return await ctx.wait_signal("go", type=str)

    @workflow
    async def body(ctx: WorkflowContext) -> str:
        try:
            await ctx.map("one", one, ["a", "b", "c"], key=str)
        except ChildFailedError as error:
            await ctx.wait_signal("on")
            return str(error.error_message)
        return ""

    async with in_memory(body, one) as (store, engine):
        handle = await engine.start(body, execution_id="m")
        for name in "ac":
            await until(partial(store.load_execution, f"m/one.{name}:one-0"))
            with pytest.raises(Exception, match="cancelled"):
                await engine.handle(f"m/one.{name}:one-0").result()
        await handle.signal("on")
        assert await handle.result() == "not three"


async def test_a_child_whose_start_is_just_being_saved_is_cancelled_too() -> None:
    a, c = "m/one.a:one-0", "m/one.c:one-0"
    asked, failed, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(SavesAll):
        """The start of c is saved once the parent has heard that b failed, and no sooner."""

        async def load_execution(self, workflow_execution_id: str) -> WorkflowExecution | None:
            if workflow_execution_id == c:
                asked.set()
                await failed.wait()
            return await super().load_execution(workflow_execution_id)

        async def save(self, *records: Record, **more: Any) -> None:
            first = records[0] if records else None
            if isinstance(first, StepCheckpoint) and first.error_type and first.branch:
                failed.set()
            if [one.workflow_execution_id for one in more.get("send", ())] == [a]:
                told.set()
            if [one.execution.workflow_execution_id for one in more.get("start", ())] == [f"{c}~2"]:
                await told.wait()
            await super().save(*records, **more)

    @workflow
    async def one(ctx: WorkflowContext, name: str) -> str:
        if name == "b":
            await ctx.step("hold", asked.wait)
            await ctx.step("fail", fail_at_3, 3)
        return name if name == "x" else await ctx.wait_signal("go", type=str)

    @workflow
    async def body(ctx: WorkflowContext) -> None:
        with suppress(ChildFailedError):
            await ctx.map("one", one, ["a", "b", "x", "c"], key=str, max_concurrency=3)
        await ctx.wait_signal("on")

    async with Slow.in_memory() as store, DurableEngine(store, [body, one]) as engine:
        # As after `retry --from`: the parent has had a child of this id before.
        earlier = new_execution(
            c, workflow_id="one@1", parent_execution_id="m", status=ExecutionStatus.COMPLETED
        )
        await store.save(Workflow(workflow_id="one@1", workflow_type="one"), earlier)
        handle = await engine.start(body, execution_id="m")
        async with asyncio.timeout(30):
            for child in (a, f"{c}~2"):
                await until(partial(super(Slow, store).load_execution, child))
                with pytest.raises(WorkflowCancelledError):
                    await engine.handle(child).result()
            await handle.signal("on")
            await handle.result()


async def test_a_key_that_comes_twice_is_a_mistake_in_the_code() -> None:
    @workflow
    async def body(ctx: WorkflowContext) -> None:
        await ctx.map("double", double, [1, 1], key=str, on_error="collect")

    async with in_memory(body) as (_, engine):
        with pytest.raises(WorkflowCodeError, match="exists already"):
            await engine.run(body)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_concurrency": 0}, ValueError),
        ({"on_error": "ignore"}, ValueError),
        ({"over": 3}, TypeError),
        ({"name": ""}, ValueError),
        ({"over": waits, "retry": RetryPolicy()}, ValueError),
    ],
)
async def test_bad_arguments_of_map_are_refused_at_the_call(
    options: dict[str, object], error: type[Exception]
) -> None:
    @workflow
    async def body(ctx: WorkflowContext) -> None:
        with pytest.raises(error):
            ctx.map(**{"name": "m", "over": double, "items": [], **options})  # type: ignore[call-overload]

    async with in_memory(body) as (_, engine):
        await engine.run(body)


async def test_a_map_that_is_not_awaited_is_told() -> None:
    @workflow
    async def body(ctx: WorkflowContext) -> None:
        ctx.map("double", double, [1])  # type: ignore[unused-coroutine]

    async with in_memory(body) as (_, engine):
        with pytest.raises(Exception, match=r"map 'double' and never awaited"):
            await engine.run(body)


def test_after_a_crash_only_what_is_unfinished_runs(file: Path, journal: Journal) -> None:
    def items() -> Iterator[int]:
        yield from range(100)

    def act(number: int) -> int:
        journal.note(f"run {number}")
        if number == 90 and journal.lines.count("run 90") == 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)
        return number

    @workflow
    async def body(ctx: WorkflowContext) -> int:
        return sum(await ctx.map("act", act, items(), max_concurrency=1))

    async def main() -> None:
        async with an_engine(file, workflows=[body]) as (_, engine):
            journal.note(str(await engine.run(body, execution_id="m")))

    run_until_killed(main)
    asyncio.run(main())
    runs = [line for line in journal.lines if line.startswith("run ")]
    assert len(runs) == 101
    assert runs.count("run 90") == 2
    assert str(sum(range(100))) in journal.lines


@pytest.mark.few(1)
@pytest.mark.parametrize("over", ["actions", "workflows"])
def test_a_replay_keeps_no_more_in_memory_than_is_open(
    file: Path, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100,000 items, all that was asked for would be hundreds of megabytes."""
    in_memory: list[int] = []
    monkeypatch.setattr(statement_store, "CHECKPOINTS_AT_ONCE", 100)

    @workflow
    async def body(ctx: WorkflowContext) -> int:
        results = await ctx.map(
            "m", double if over == "actions" else itself, range(1_000), max_concurrency=20
        )
        in_memory.append(sum(isinstance(one, Operation) for one in gc.get_objects()))
        await ctx.wait_signal("go")
        return sum(results)

    @workflow
    async def itself(ctx: WorkflowContext, number: int) -> int:
        return 2 * number

    async def main(life: int) -> None:
        async with an_engine(file, workflows=[body, itself]) as (store, engine):
            handle = await engine.start(body, execution_id="m")
            while len(in_memory) < life:
                await asyncio.sleep(0.01)
            await until(lambda: store.load_open_waits("m", "go"))
            if life == 2:
                await handle.signal("go")
                assert await handle.result() == 999_000

    asyncio.run(main(1))
    asyncio.run(main(2))
    first, replayed = in_memory
    assert first < 100
    assert replayed < EVENTS_A_TURN + 100


async def test_a_map_keeps_the_names_of_two_uses_apart() -> None:
    @workflow
    async def body(ctx: WorkflowContext) -> list[int]:
        return [*await ctx.map("m", double, [1]), *await ctx.map("m", double, [2])]

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [body]) as engine,
    ):
        assert await engine.run(body) == [2, 4]


async def test_children_of_a_map_that_a_timeout_ends_go_on_until_their_parent_ends() -> None:
    @workflow
    async def body(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(0.05):
                await ctx.map("one", one, ["a"])
        except TimeoutError:
            await ctx.wait_signal("on")
        return "over"

    @workflow
    async def one(ctx: WorkflowContext, name: str) -> str:
        return name + await ctx.wait_signal("go", type=str)

    async with in_memory(body, one) as (store, engine):
        handle = await engine.start(body, execution_id="m")
        await until(lambda: store.load_open_waits("m", "on"))
        assert not await store.load_pending_signals("m/one.0:one-0", "$cancel")
        await handle.signal("on")
        assert await handle.result() == "over"
        with pytest.raises(WorkflowCancelledError):
            await engine.handle("m/one.0:one-0").result()
