"""Children: started once, awaited by a wait, and never lost or run twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    ChildCancelledError,
    ChildFailedError,
    DurableEngine,
    ExecutionConflictError,
    ExecutionStatus,
    Queue,
    QueueNotFoundError,
    SignalStatus,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine import event_numbers, history
from durable_workflow_sqlite.engine.child_calls import child_id
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.records import CANCEL_SIGNAL, OnParentEnd
from tests.processes import an_engine, until


@asynccontextmanager
async def in_memory(
    *workflows: AnyWorkflow,
) -> AsyncIterator[tuple[SqliteCheckpointStore, DurableEngine]]:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, workflows) as engine,
    ):
        yield store, engine


async def until_suspended(store: SqliteCheckpointStore, execution_id: str) -> None:
    async def is_suspended() -> bool:
        found = await store.load_execution(execution_id)
        return found is not None and found.status is ExecutionStatus.SUSPENDED

    await until(is_suspended)


@workflow
async def invoice(ctx: WorkflowContext, order: str, price: int) -> dict[str, int]:
    doubled = await ctx.step("double", lambda: price * 2)
    return {order: doubled}


@workflow
async def orders(ctx: WorkflowContext, names: list[str]) -> dict[str, int]:
    invoices: dict[str, int] = {}
    for number, name in enumerate(names):
        invoices |= await ctx.child("invoice", invoice, name, number)
    return invoices


@workflow
async def waits(ctx: WorkflowContext) -> str:
    return await ctx.wait_signal("go", type=str)


@workflow
async def fails(ctx: WorkflowContext) -> None:
    raise ValueError("no paper")


async def test_a_child_gives_its_result() -> None:
    async with in_memory(orders, invoice) as (store, engine):
        assert await engine.run(orders, ["a", "b"], execution_id="o") == {"a": 0, "b": 2}
        child = await store.load_execution("o/invoice-0")
        assert child is not None
        assert (child.parent_execution_id, child.root_execution_id) == ("o", "o")
        assert child.on_parent_end is OnParentEnd.CANCEL


async def test_what_the_child_raised_is_told_and_the_parent_may_go_on() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> list[object]:
        try:
            await ctx.child("fails", fails)
        except ChildFailedError as error:
            return [error.error_type, error.error_message, error.child_execution_id]
        return []

    async with in_memory(parent, fails) as (_, engine):
        got = await engine.run(parent, execution_id="p")
        assert got == ["builtins:ValueError", "no paper", "p/fails-0"]


async def test_a_child_that_fails_fails_its_parent() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.child("fails", fails)

    async with in_memory(parent, fails) as (_, engine):
        with pytest.raises(WorkflowFailedError, match="no paper") as raised:
            await engine.run(parent)
        assert raised.value.error_type == "durable_workflow_sqlite.errors:ChildFailedError"


async def test_my_child_was_cancelled_is_not_i_am_cancelled() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        handle = await ctx.start_child("waits", waits)
        await handle.cancel()
        try:
            return await handle.result()
        except ChildCancelledError as error:
            return f"cancelled {error.child_execution_id}"

    async with in_memory(parent, waits) as (_, engine):
        assert await engine.run(parent, execution_id="p") == "cancelled p/waits-0"


async def test_a_handle_signals_its_child_and_gives_its_result_again() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        handle = await ctx.start_child("waits", waits)
        await handle.signal("go", "now")
        both = await asyncio.gather(handle.result(), handle.result())
        return [*both, await handle.result()]

    async with in_memory(parent, waits) as (_, engine):
        assert await engine.run(parent) == ["now"] * 3


async def test_the_end_of_a_parent_cancels_its_children_unless_they_are_detached() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        one = await ctx.start_child("one", waits)
        other = await ctx.start_child("other", waits, on_parent_end="detach")
        return [one.execution_id, other.execution_id]

    async with in_memory(parent, waits) as (_, engine):
        one, other = await engine.run(parent)
        with pytest.raises(WorkflowCancelledError):
            await engine.handle(one).result()
        await engine.send_signal(other, "go", "free")
        assert await engine.handle(other).result() == "free"


async def test_a_tree_is_undone_from_its_leaves_to_its_root() -> None:
    undone: list[str] = []

    @workflow
    async def leaf(ctx: WorkflowContext) -> None:
        await ctx.step("do", lambda: "leaf", compensate=undone.append)
        await ctx.wait_signal("never")

    @workflow
    async def middle(ctx: WorkflowContext) -> None:
        await ctx.step("do", lambda: "middle", compensate=undone.append)
        await ctx.child("leaf", leaf)

    @workflow
    async def root(ctx: WorkflowContext) -> None:
        await ctx.step("do", lambda: "root", compensate=undone.append)
        await ctx.child("middle", middle)

    async with in_memory(root, middle, leaf) as (store, engine):
        handle = await engine.start(root, execution_id="r")
        await until_suspended(store, "r/middle-1/leaf-1")
        await engine.cancel("r")
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        assert undone == ["leaf", "middle", "root"]


async def test_a_child_that_has_completed_is_undone_by_its_compensation() -> None:
    undone: list[object] = []

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.child("invoice", invoice, "a", 2, compensate=undone.append)
        cut = await ctx.start_child("waits", waits, compensate=undone.append)
        assert cut
        raise ValueError("it does not go on")

    async with in_memory(parent, invoice, waits) as (_, engine):
        with pytest.raises(WorkflowFailedError, match="does not go on"):
            await engine.run(parent)
        assert undone == [{"a": 4}]


async def test_a_child_is_undone_in_the_order_of_its_start() -> None:
    undone: list[object] = []

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.step("before", lambda: "before", compensate=undone.append)
        child = await ctx.start_child("invoice", invoice, "a", 2, compensate=undone.append)
        await ctx.step("after", lambda: "after", compensate=undone.append)
        await child.result()
        raise ValueError("it does not go on")

    async with in_memory(parent, invoice) as (_, engine):
        with pytest.raises(WorkflowFailedError, match="does not go on"):
            await engine.run(parent)
    assert undone == ["after", {"a": 4}, "before"]


async def test_a_child_of_which_nothing_is_left_is_told_as_not_undone() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.start_child("invoice", invoice, "a", 2, compensate=print)
        await ctx.wait_signal("end")
        raise ValueError("it does not go on")

    async with in_memory(parent, invoice) as (store, engine):
        handle = await engine.start(parent, execution_id="p")
        await until(lambda: store.load_pending_signals("p", "$child:p/invoice-0"))
        await store.delete_execution("p/invoice-0")
        (told,) = await store.load_pending_signals("p", "$child:p/invoice-0")
        await store.save(msgspec.structs.replace(told, status=SignalStatus.EXPIRED))
        await handle.signal("end")
        with pytest.raises(WorkflowFailedError) as raised:
            await handle.result()
        assert "is lost: the end of the child was deleted" in str(
            raised.value.compensation_error and raised.value.compensation_error.failures
        )


async def test_a_wait_for_a_child_may_time_out_and_the_child_goes_on() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        handle = await ctx.start_child("waits", waits)
        try:
            async with asyncio.timeout(0.01):
                await handle.result()
        except TimeoutError:
            await handle.signal("go", "late")
        return await handle.result()

    async with in_memory(parent, waits) as (_, engine):
        assert await engine.run(parent) == "late"


async def test_a_child_whose_time_runs_out_fails() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        try:
            return await ctx.child("waits", waits, timeout=timedelta(milliseconds=20))
        except ChildFailedError as error:
            return str(error.error_type)

    async with in_memory(parent, waits) as (_, engine):
        assert await engine.run(parent) == "durable_workflow_sqlite.errors:WorkflowExpiredError"


async def test_a_child_that_is_deleted_wakes_its_parent() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        try:
            return await ctx.child("waits", waits)
        except ChildFailedError as error:
            assert error.error_type is None
            return "deleted"

    async with in_memory(parent) as (store, engine):  # no worker runs the child
        handle = await engine.start(parent, execution_id="p")
        await until(lambda: store.load_execution("p/waits-0"))
        await store.delete_execution("p/waits-0")
        assert await handle.result() == "deleted"


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda ctx: ctx.child("c", invoice, "a"), TypeError, "price"),
        (lambda ctx: ctx.child("c", print), TypeError, "not a workflow"),
        (lambda ctx: ctx.child("", waits), ValueError, "empty"),
        (lambda ctx: ctx.start_child("c", waits, on_parent_end="die"), ValueError, "detach"),
        (lambda ctx: ctx.child("c", waits, timeout=timedelta(0)), ValueError, "zero"),
        (lambda ctx: ctx.child("c", waits, timeout=3), TypeError, "timedelta"),
        (lambda ctx: ctx.child("c", waits, compensate=3), TypeError, "callable"),
        (
            lambda ctx: ctx.start_child("c", waits, on_parent_end="detach", compensate=print),
            ValueError,
            "detached",
        ),
        (lambda ctx: ctx.continue_as_new(1, 2), TypeError, "arguments"),
    ],
)
async def test_bad_arguments_are_refused_at_the_call(
    ask: Any, error: type[Exception], text: str
) -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        with pytest.raises(error, match=text):
            ask(ctx)
        return "refused"

    async with in_memory(parent) as (store, engine):
        assert await engine.run(parent, execution_id="p") == "refused"
        assert await store.load_checkpoints("p") == []


@pytest.mark.parametrize("child_first", [False, True])
async def test_a_retry_of_the_parent_retries_the_child_that_failed_it(child_first: bool) -> None:
    is_open = False

    @workflow
    async def child(ctx: WorkflowContext) -> str:
        return await ctx.step("try", try_it)

    def try_it() -> str:
        if not is_open:
            raise ConnectionError("closed")
        return "in"

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.child("child", child)

    async with in_memory(parent, child) as (_, engine):
        with pytest.raises(WorkflowFailedError, match="closed"):
            await engine.run(parent, execution_id="p")
        await engine.retry("p")
        with pytest.raises(WorkflowFailedError, match="closed"):
            await engine.handle("p").result()
        is_open = True
        if child_first:
            await engine.retry("p/child-0")
            assert await engine.handle("p/child-0").result() == "in"
        await engine.retry("p")
        assert await engine.handle("p").result() == "in"


@pytest.mark.parametrize("step", ["child", "before"])
async def test_a_parent_that_runs_again_from_a_step_starts_another_child(step: str) -> None:
    fails, undone, ran = True, list[object](), list[str]()

    @workflow
    async def child(ctx: WorkflowContext, order: str) -> str:
        return await ctx.step("do", lambda: ran.append(order) or order)

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        await ctx.step("before", list)
        got = await ctx.child("child", child, "a", compensate=undone.append)
        await ctx.step("after", after)
        return got

    def after() -> None:
        if fails:
            raise ConnectionError("not yet")

    async with in_memory(parent, child) as (store, engine):
        with pytest.raises(WorkflowFailedError, match="not yet"):
            await engine.run(parent, execution_id="p")
        assert undone == ["a"]
        fails = False
        await engine.retry("p", from_step=step)
        assert await engine.handle("p").result() == "a"
        assert ran == ["a", "a"]
        statuses = await store.load_statuses(["p/child-1", "p/child-1~2"])
        assert set(statuses.values()) == {ExecutionStatus.COMPLETED}


async def test_a_parent_whose_child_was_cancelled_with_it_is_run_again_from_the_child() -> None:
    fails = True

    def later() -> None:
        if fails:
            raise ConnectionError("not yet")

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        handle = await ctx.start_child("kid", waits)
        await ctx.step("later", later)
        await handle.signal("go", "gone")
        return await handle.result()

    async with in_memory(parent, waits) as (_, engine):
        with pytest.raises(WorkflowFailedError, match="not yet"):
            await engine.run(parent, execution_id="p")
        fails = False
        with pytest.raises(ExecutionConflictError, match=r"'p/kid-0' was cancelled with it.*'kid'"):
            await engine.retry("p")
        await engine.retry("p", from_step="kid")
        assert await engine.handle("p").result() == "gone"


async def test_an_id_that_another_execution_has_stops_the_parent_and_it_goes_on_once_it_is_free(
    tmp_path: Path,
) -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> dict[str, int]:
        return await ctx.child("invoice", invoice, "a", 2)

    async with an_engine(tmp_path / "w.db", workflows=[parent, invoice]) as (store, engine):
        await engine.run(invoice, "b", 1, execution_id="p/invoice-0")
        with pytest.raises(ExecutionConflictError, match="another execution has the id"):
            await engine.run(parent, execution_id="p")

        async def is_in_trouble() -> bool:
            found = await store.load_execution("p")
            assert found is not None
            return "another execution has the id 'p/invoice-0'" in str(found.trouble)

        await until(is_in_trouble)
        await store.delete_execution("p/invoice-0")
    async with an_engine(tmp_path / "w.db", workflows=[parent, invoice]) as (_, engine):
        assert await engine.handle("p").result() == {"a": 4}


async def test_two_children_never_have_one_id() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        handles = [
            await ctx.branch("eu").start_child("pay", waits),
            await ctx.start_child("eu/pay", waits),
            await ctx.start_child("eu.pay", waits),
            await ctx.branch("eu.b").start_child("pay", waits),
            await ctx.start_child("a:b", waits),
            await ctx.branch("a").start_child("b", waits),
            await ctx.branch("a/b").start_child("b", waits),
            await ctx.branch("a.b").start_child("b", waits),
        ]
        for handle in handles:
            await handle.signal("go", handle.execution_id)
        return [await one.result() for one in handles]

    async with in_memory(parent, waits) as (_, engine):
        ids = await engine.run(parent, execution_id="p")
        assert len(set(ids)) == len(ids)
    assert child_id("p", 2, ("", 0), "b") != child_id("p@2", 1, ("", 0), "b")
    assert child_id("p", 1, ("a-0", 0), "b") != child_id("p/a-0", 1, ("", 0), "b")


# Continue as new


async def test_the_log_advises_to_continue_as_new_once_in_a_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in (event_numbers, history):
        monkeypatch.setattr(one, "LONG_HISTORY", 10)

    @workflow
    async def long(ctx: WorkflowContext, number: int) -> int:
        for one in range(12):
            await ctx.step(f"do {one}", list)
        return ctx.continue_as_new(number + 1) if number < 2 else number

    async with in_memory(long) as (_, engine):
        assert await engine.run(long, 1, execution_id="l") == 2
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(told) == 2
    assert "'l' has recorded 10 outcomes, and a replay reads them all" in told[0]


async def test_an_execution_continues_as_new() -> None:
    lengths: list[int] = []

    @workflow
    async def counts(ctx: WorkflowContext, number: int) -> int:
        for one in range(3):
            await ctx.step(f"add {one}", list)
        lengths.append(ctx.history_length)
        if number < 4:
            return ctx.continue_as_new(number + 1)
        return number

    async with in_memory(counts) as (store, engine):
        assert await engine.run(counts, 1, execution_id="c") == 4
        found = await store.load_execution("c")
        assert found is not None
        assert (found.run_number, found.input_data) == (4, "[4]")
        assert len(await store.load_checkpoints("c")) == 3
        assert lengths == [3] * 4


async def test_signals_that_were_not_taken_go_over_to_the_next_run() -> None:
    @workflow
    async def takes(ctx: WorkflowContext, got: list[str]) -> list[str]:
        got = [*got, await ctx.wait_signal("item", type=str)]
        return got if len(got) == 3 else ctx.continue_as_new(got)

    async with in_memory(takes) as (_, engine):
        handle = await engine.start(takes, [])
        for item in "abc":
            await handle.signal("item", item)
        assert await handle.result() == ["a", "b", "c"]


async def test_a_cancel_that_comes_as_a_run_ends_reaches_the_next() -> None:
    @workflow
    async def forever(ctx: WorkflowContext, number: int) -> int:
        await ctx.step("one", lambda: number)
        return ctx.continue_as_new(number + 1)

    async with in_memory(forever) as (store, engine):
        handle = await engine.start(forever, 1, execution_id="f")
        await asyncio.sleep(0.05)
        await engine.cancel("f")
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        assert await store.load_pending_signals("f", CANCEL_SIGNAL) == []


async def test_continue_as_new_must_be_returned() -> None:
    @workflow
    async def forgets(ctx: WorkflowContext, number: int) -> int:
        ctx.continue_as_new(number + 1)
        return number

    async with in_memory(forgets) as (store, engine):
        with pytest.raises(
            WorkflowCodeError,
            match=r"^the workflow function of execution 'f' called continue_as_new",
        ):
            await engine.run(forgets, 1, execution_id="f")
        found = await store.load_execution("f")
        assert found is not None
        assert found.run_number == 1


# Queues


async def test_a_parent_and_its_children_in_one_queue_of_one_slot_finish() -> None:
    @workflow
    async def leaf(ctx: WorkflowContext) -> str:
        return await ctx.step("do", lambda: "leaf")

    @workflow
    async def middle(ctx: WorkflowContext) -> str:
        return await ctx.child("leaf", leaf, queue="one")

    @workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        handles = [
            await ctx.start_child("middle", middle, queue="one", key=str(number))
            for number in range(2)
        ]
        return [await one.result() for one in handles]

    async with in_memory(parent, middle, leaf) as (store, engine):
        await engine.declare(Queue("one", concurrency=1))
        handle = await engine.enqueue(parent, queue="one", execution_id="p")
        async with asyncio.timeout(20):
            assert await handle.result() == ["leaf", "leaf"]
        child = await store.load_execution("p/middle-1")
        assert child is not None
        assert (child.queue, child.queue_key) == ("one", "1")


async def test_a_child_in_a_queue_that_is_not_declared_stops_its_parent() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> dict[str, int]:
        return await ctx.child("invoice", invoice, "a", 1, queue="nowhere")

    async with in_memory(parent, invoice) as (store, engine):
        with pytest.raises(QueueNotFoundError, match="nowhere"):
            await engine.run(parent, execution_id="p")
        assert await store.load_checkpoints("p") == []
        await engine.declare(Queue("nowhere"))
        await engine.recover()
        async with DurableEngine(store, [parent, invoice]) as another:
            assert await another.handle("p").result() == {"a": 2}
