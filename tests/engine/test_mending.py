"""Whoever is on call mends an execution: from a step again, or as if a step had returned."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    Cancellation,
    Client,
    DurableEngine,
    DurableEngineObserver,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionStatus,
    NonDeterminismError,
    Record,
    RetryPolicy,
    SerializationError,
    SignalStatus,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepStatus,
    TimerStatus,
    WorkflowCancelledError,
    WorkflowClaim,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowExecution,
    WorkflowFailedError,
    WorkflowSignal,
    workflow,
)
from durable_workflow_sqlite.records import RESOLVED_SIGNAL
from tests.commands import run_command
from tests.databases import delete_unnoticed
from tests.processes import Journal, die, run_until_killed, until, until_over

DAY, MOMENT = timedelta(days=1), timedelta(milliseconds=1)


@asynccontextmanager
async def opened(file: Path, *workflows: WorkflowDefinition[..., Any]) -> Any:
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=workflows) as engine:
            yield engine, store


async def contents(store: SqliteCheckpointStore, execution_id: str = "one") -> list[object]:
    return [
        await store.take_execution(execution_id),
        await store.load_signals(execution_id),
        await store.load_audit_log(execution_id),
    ]


async def refused(
    store: SqliteCheckpointStore, act: Callable[[], Awaitable[object]], *words: str
) -> None:
    """What cannot be done is refused in words, and nothing is written."""
    before = await contents(store)
    with pytest.raises((ExecutionConflictError, ValueError)) as caught:
        await act()
    for word in words:
        assert word in str(caught.value)
    assert await contents(store) == before


async def until_waiting(store: SqliteCheckpointStore, execution_id: str) -> None:
    await until(lambda: store.load_open_waits(execution_id, "approved"))


async def details(store: SqliteCheckpointStore, execution_id: str = "one") -> dict[str, Any]:
    last = (await store.load_audit_log(execution_id))[-1]
    return msgspec.json.decode(last.details or "{}", type=dict[str, Any])


def execute(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as dba:
        assert dba.execute(statement).rowcount == 1


# retry, from a step


async def test_it_runs_again_from_a_step_that_is_named_and_what_came_before_does_not(
    file: Path, journal: Journal
) -> None:
    def ship(address: str) -> str:
        if journal.note(f"ship to {address}") < 4:
            raise ConnectionError("no such place")
        return "shipped"

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("charge", journal.note, "charge")
        place = await ctx.step("address", lambda: f"place {journal.note('address')}")
        await asyncio.sleep(0.001)
        twice = RetryPolicy.fixed(max_attempts=2, delay=timedelta(0))
        return await ctx.step("ship", ship, place, retry=twice)

    async with opened(file, order) as (engine, store):
        with pytest.raises(WorkflowFailedError):
            await engine.run(order, execution_id="one")
        await engine.retry("one", from_step="address", by="kim")
        with pytest.raises(WorkflowFailedError):
            await engine.handle("one").result()
        assert await details(store) == {
            "from": "step 'address' (index 1)",
            "forgotten": [
                {"step": "step 'address' (index 1)", "was": "COMPLETED", "attempts": 1},
                {"step": "step 'ship' (index 2)", "was": "FAILED", "attempts": 2},
            ],
            "error": "builtins:ConnectionError",
            "message": "no such place",
        }
        await engine.retry("one", from_step="ship")
        assert await engine.handle("one").result() == "shipped"
    ships = [line for line in journal.lines if line.startswith("ship")]
    # Each time with all of its attempts.
    assert ships == ["ship to place 1"] * 2 + ["ship to place 2"] * 4
    assert journal.lines.count("charge") == 1
    assert journal.lines.count("address") == 2


async def test_what_was_undone_runs_again_and_nothing_is_there_twice(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def trip(ctx: WorkflowContext) -> str:
        await ctx.step("look", journal.note, "look")
        await ctx.step("flight", journal.note, "flight", compensate=lambda _: journal.note("-f"))
        await ctx.step("hotel", journal.note, "hotel", compensate=lambda _: journal.note("-h"))
        if journal.note("body") == 1:
            raise ValueError("sold out")
        return "booked"

    async with opened(file, trip) as (engine, store):
        with pytest.raises(WorkflowFailedError):
            await engine.run(trip, execution_id="one")
        await refused(
            store, lambda: engine.retry("one", from_step="hotel"), "'flight'", "is undone"
        )
        await refused(store, lambda: engine.retry("one"), "was compensated")
        await engine.retry("one", from_step="flight")
        assert await engine.handle("one").result() == "booked"
        noted = (await details(store))["forgotten"]
        assert [one["undone"] for one in noted] == [True, True]
    assert journal.lines == ["look", "flight", "hotel", "body", "-h", "-f", *journal.lines[6:]]
    assert journal.lines[6:] == ["flight", "hotel", "body"]


async def test_what_is_not_undone_stands_and_is_not_done_twice(file: Path) -> None:
    def refund(_: object) -> None:
        raise ConnectionError("the bank is closed")

    once = RetryPolicy.none()

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("charge", lambda: 1, compensate=refund, compensate_retry=once)
        await ctx.step("ship", lambda: 1 / 0)

    async with opened(file, order) as (engine, store):
        with pytest.raises(WorkflowFailedError):
            await engine.run(order, execution_id="one")
        await refused(
            store, lambda: engine.retry("one", from_step="charge"), "done twice", "acknowledge"
        )
        await engine.acknowledge("one")
        await engine.retry("one", from_step="charge")
        with pytest.raises(WorkflowFailedError):
            await engine.handle("one").result()


async def test_signals_are_taken_again_and_waits_keep_their_time(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def approval(ctx: WorkflowContext) -> list[object]:
        beside = asyncio.create_task(ctx.branch("b").sleep("a day", DAY))
        side = asyncio.create_task(ctx.branch("c").wait_signal("side", timeout=2 * DAY))
        first = await ctx.wait_signal("ok")
        await ctx.step("check", journal.note, "check")
        second = await ctx.wait_signal("ok", timeout=DAY)
        await side
        if journal.note("body") < 3:
            raise ValueError("not yet")
        beside.cancel()
        return [first, second, await ctx.wait_signal("late")]

    async with opened(file, approval) as (engine, store):
        handle = await engine.start(approval, execution_id="one")
        for name, payload in (("ok", 1), ("ok", {"n": 2}), ("late", 3)):
            await handle.signal(name, payload)
        async with asyncio.timeout(30):
            while await store.load_pending_signals("one", "ok"):
                await asyncio.sleep(0.005)
        await handle.signal("side", 4)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        (day,) = [one for one in await store.load_timers("one") if one.step_name == "a day"]
        assert day.status is TimerStatus.CANCELLED
    async with opened(file) as (engine, store):  # no worker claims it
        await engine.retry("one", from_step="check")
        assert [one.status for one in await store.load_signals("one")][:4] == [
            SignalStatus.DELIVERED,
            SignalStatus.PENDING,
            SignalStatus.PENDING,
            SignalStatus.PENDING,
        ]
        waits = [(one.step_name, one.status) for one in await store.load_checkpoints("one")]
        assert waits == [
            ("ok", StepStatus.COMPLETED),
            ("a day", StepStatus.INTENT),
            ("side", StepStatus.INTENT),
        ]
        timers = {one.step_name: one for one in await store.load_timers("one")}
        assert timers["a day"].status is TimerStatus.PENDING
        assert timers["a day"].fire_at == day.fire_at
        assert timers["ok"].status is TimerStatus.CANCELLED
        assert timers["side"].status is TimerStatus.PENDING
        assert (await details(store))["open_again"] == [
            "sleep 'a day' (index 0 of branch 'b')",
            "signal 'side' (index 0 of branch 'c')",
        ]
    async with opened(file, approval) as (engine, store):
        with pytest.raises(WorkflowFailedError):
            await engine.handle("one").result()
        # The row of a signal that was taken long ago may be gone: it is sent again.
        execute(file, "delete from workflow_signals where payload = '1'")
        await engine.retry("one", from_step=("", "ok", 0))
        assert await engine.handle("one").result() == [1, {"n": 2}, 3]
    assert journal.lines.count("check") == 3


async def test_a_cancel_of_what_may_have_lost_rows_is_left_to_a_worker(
    file: Path, journal: Journal
) -> None:
    """The row of the charge is gone: its refund must not be forgotten in silence."""

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("charge", lambda: 1, compensate=lambda _: journal.note("refund"))
        await ctx.wait_signal("approved")

    async with opened(file, order) as (engine, _):
        await engine.start(order, execution_id="one")
        async for state in engine.observe("one"):
            if state.status is ExecutionStatus.SUSPENDED:
                break
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        delete_unnoticed(connection, "delete from step_checkpoints where step_name = 'charge'")
    async with opened(file, order) as (engine, _):
        await engine.send_signal("one", "approved")
        with pytest.raises(NonDeterminismError):
            await engine.handle("one").result()
    async with opened(file) as (engine, _):
        assert await engine.cancel("one") is Cancellation.ASKED
        assert (await engine.load("one")).status is not ExecutionStatus.CANCELLED


async def test_signals_come_in_their_order_again_though_the_rows_of_some_are_deleted(
    file: Path,
) -> None:
    fails = [True]

    def check() -> None:
        if fails:
            raise ConnectionError("503")

    @workflow
    async def three(ctx: WorkflowContext) -> list[int]:
        first = [await ctx.wait_signal("go", type=int) for _ in range(2)]
        await ctx.step("check", check)
        return [*first, await ctx.wait_signal("go", type=int)]

    async with opened(file, three) as (engine, store):
        handle = await engine.start(three, execution_id="one")
        for number in (1, 2, 3):
            await handle.signal("go", number)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        for number in (1, 2):
            execute(file, f"delete from workflow_signals where payload = '{number}'")
        fails.clear()
        await engine.retry("one", from_step=("", "go", 0))
        assert await engine.handle("one").result() == [1, 2, 3]
        statuses = [one.status for one in await store.load_signals("one")]
        assert statuses == [SignalStatus.DELIVERED] * 5  # one says that it was mended


async def test_a_step_that_occurs_several_times_is_named_with_its_place(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def pages(ctx: WorkflowContext) -> None:
        for key in ("a", "b"):
            branch = ctx.branch(key)
            for number in range(2):
                await branch.step("page", journal.note, f"{key}{number}")
        if journal.note("body") < 3:
            raise ValueError("torn")

    async with opened(file, pages) as (engine, store):
        with pytest.raises(WorkflowFailedError):
            await engine.run(pages, execution_id="one")
        retry = engine.retry
        for step in ("page", ("a", "page")):
            words = ("index 0 of branch 'a'", "index 1 of branch 'a'")
            await refused(store, lambda step=step: retry("one", from_step=step), *words)
        await refused(store, lambda: retry("one", from_step="pag"), "did you mean 'page'")
        await refused(store, lambda: retry("one", from_step=("c", "page")), "no step 'page'")
        for wrong in (7, ("a", 1), ("", "page", "x"), ("",)):
            with pytest.raises(TypeError, match="named by"):
                await retry("one", from_step=wrong)  # type: ignore[arg-type]
        await retry("one", from_step=("b", "page", 1))
        await until_over(engine, "one")
        await retry("one", from_step=("a", "page", 1))
        assert await until_over(engine, "one") == [ExecutionStatus.COMPLETED]
    lines = [line for line in journal.lines if line != "body"]
    assert lines == ["a0", "a1", "b0", "b1", "b1", "a1", "b0", "b1"]


async def test_what_cannot_run_again_from_a_step_is_refused(file: Path, journal: Journal) -> None:
    @workflow
    async def both(ctx: WorkflowContext) -> str:
        await ctx.step("first", lambda: 1)
        slow = asyncio.create_task(ctx.branch("b").step("beside", asyncio.sleep, 0.05))
        if journal.note("body") == 1:
            await ctx.step("pay", lambda: 1 / 0)
        await slow
        return "done"

    @workflow
    async def waits(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: 1)
        await ctx.wait_signal("never")

    async with opened(file, both, waits) as (engine, store):
        with pytest.raises(WorkflowFailedError):
            await engine.run(both, execution_id="one")
        again = lambda step: lambda: engine.retry("one", from_step=step)  # noqa: E731
        await refused(store, again("beside"), "step 'pay' (index 1) failed it")
        execute(file, "update step_checkpoints set event = 9 where step_name = 'pay'")
        await refused(store, again("pay"), "event 2 before it is missing")
        execute(file, "update step_checkpoints set event = 2 where step_name = 'pay'")
        await engine.retry("one", from_step="pay")
        await engine.handle("one").result()
        await refused(store, again("first"), "is COMPLETED", "rerun")
        await engine.start(waits, execution_id="waits")
        with pytest.raises(ExecutionConflictError, match="runs in this engine"):
            await engine.retry("waits", from_step="first")
    async with opened(file) as (engine, _):
        with pytest.raises(ExecutionConflictError, match="goes on by itself"):
            await engine.retry("waits", from_step="first")


@pytest.mark.parametrize("worker", [True, False], ids=["by a worker", "at once"])
async def test_a_cancelled_one_goes_on_from_the_wait_that_was_open(
    file: Path, journal: Journal, worker: bool
) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("pay", journal.note, "pay")
        await asyncio.gather(ctx.branch("a").sleep("rest", MOMENT), ctx.branch("b").step("b", int))
        return str(await ctx.wait_signal("approved", timeout=DAY))

    async with opened(file, order) as (engine, store):
        handle = await engine.start(order, execution_id="one")
        await until_waiting(store, "one")
        if worker:
            assert await handle.cancel() is Cancellation.ASKED
            await until_over(engine, "one")
    if not worker:
        execute(file, "update workflow_executions set trouble = 'Gone: why'")
        async with opened(file) as (client, _):
            assert await client.cancel("one") is Cancellation.ENDED
    async with opened(file, order) as (engine, store):
        before = await store.load_checkpoints("one")
        (wait,) = [one for one in before if one.step_name == "approved"]
        assert wait.status is StepStatus.FAILED
        await engine.retry("one", from_step="approved")
        after = await store.load_checkpoints("one")
        assert [one for one in after if one.step_name != "approved"] == [
            one for one in before if one.step_name != "approved"
        ]
        (again,) = [one for one in after if one.step_name == "approved"]
        assert (again.status, again.due_at) == (StepStatus.INTENT, wait.due_at)
        (timer,) = await store.load_pending_timers()
        assert timer.fire_at == wait.due_at
        assert (await details(store))["open_again"] == ["signal 'approved' (index 1)"]
        await engine.send_signal("one", "approved", "kim")
        assert await engine.handle("one").result() == "kim"
    assert journal.lines == ["pay"]


async def test_a_failed_one_goes_on_from_an_open_wait_only_where_nothing_is_undone_or_failed(
    file: Path, journal: Journal
) -> None:
    is_mended, is_waiting = False, asyncio.Event()

    @workflow
    async def raises(ctx: WorkflowContext) -> str:
        waiting = asyncio.ensure_future(ctx.branch("a").wait_signal("approved"))
        await ctx.branch("b").step("pay", pay)
        if not is_mended:
            raise ValueError("no")
        return str(await waiting)

    async def pay() -> None:
        await is_waiting.wait()
        journal.note("pay")

    async def fail() -> None:
        await is_waiting.wait()
        raise ValueError("no")

    @workflow
    async def fails(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            ctx.branch("a").wait_signal("approved"), ctx.branch("b").step("fail", fail)
        )

    @workflow
    async def undone(ctx: WorkflowContext) -> None:
        await ctx.step("pay", journal.note, "pay", compensate=lambda _: None)
        await ctx.wait_signal("approved")

    @workflow
    async def slow(ctx: WorkflowContext) -> None:
        await ctx.step("forever", asyncio.Event().wait, on_cancel="stop")

    async with opened(file) as (engine, store):
        for one in (raises, fails):
            await engine.start(one, execution_id=one.name)
            await until_waiting(store, one.name)
            is_waiting.set()
            assert await until_over(engine, one.name) == [ExecutionStatus.FAILED]
            is_waiting.clear()
        await engine.start(undone, execution_id="undone")
        await until_waiting(store, "undone")
        await engine.start(slow, execution_id="slow")
        await until(lambda: store.load_checkpoints("slow"))
        for two in (undone, slow):
            await engine.cancel(two.name)
            await until_over(engine, two.name)
        for id_, step, words in (
            ("fails", "approved", "step 'fail' (index 0 of branch 'b') failed it"),
            ("undone", "approved", "is undone"),
            ("slow", "forever", "has no outcome: it was cut off"),
        ):
            with pytest.raises(ExecutionConflictError) as caught:
                await engine.retry(id_, from_step=step)
            assert words in str(caught.value)
        is_mended = True
        await engine.retry("raises", from_step="approved")
        await engine.send_signal("raises", "approved", "kim")
        assert await engine.handle("raises").result() == "kim"
    assert journal.lines == ["pay", "pay"]


async def test_one_in_trouble_goes_back_to_where_the_new_code_fits(
    file: Path, journal: Journal
) -> None:
    async def old(ctx: WorkflowContext) -> None:
        await ctx.step("first", journal.note, "first")
        await ctx.step("second", journal.note, "second")
        await ctx.wait_signal("never")

    async def new(ctx: WorkflowContext) -> str:
        await ctx.step("first", journal.note, "first")
        return await ctx.step("other", lambda: "new")

    before, after = workflow(name="order")(old), workflow(name="order")(new)

    async with opened(file, before) as (engine, _):
        await engine.start(before, execution_id="one")
        async with asyncio.timeout(30):
            while (await engine.load("one")).status is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0.005)
    async with opened(file) as (client, store), opened(file, after):
        await refused(store, lambda: client.retry("one", from_step="never"), "goes on by itself")
        await client.send_signal("one", "never")  # it is taken on, and does not fit
        async with asyncio.timeout(30):
            while (await client.load("one")).trouble is None:
                await asyncio.sleep(0.005)
        # The worker that has left it as it is hears of that. From an open wait is not enough.
        await client.retry("one", from_step="never")
        async with asyncio.timeout(30):
            while (await client.load("one")).trouble is None:
                await asyncio.sleep(0.005)
        assert await store.load_open_waits("one", "never") == []
        await client.retry("one", from_step="second")
        assert await client.handle("one").result() == "new"
    assert journal.lines == ["first", "second"]


def test_one_goes_back_in_the_very_moment_in_which_it_gets_into_trouble() -> None:
    """Whichever turn of the event loop it is: its worker may have released it, or not yet."""

    async def main(turns: int) -> None:
        is_mended = False

        @workflow
        async def order(ctx: WorkflowContext) -> str:
            await ctx.step("charge", lambda: 1)
            if not is_mended:
                raise KeyError("total")
            return "done"

        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            await engine.start(order, execution_id="one")
            one = engine._executions["one"]
            while one.trouble is None:
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            assert one.trouble is not None
            is_mended = True
            await engine.retry("one", from_step="charge")
            assert await engine.handle("one").result() == "done"

    for turns in range(4):
        asyncio.run(main(turns))


def test_a_blocked_one_goes_back_and_is_blocked_no_more(file: Path, journal: Journal) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("first", journal.note, "first")
        await asyncio.gather(
            ctx.branch("a").sleep("rest", DAY),
            ctx.branch("b").step("slow", slow, compensate=journal.note),
        )

    async def slow() -> None:
        await asyncio.sleep(0.02)
        die()

    async def first_process() -> None:
        async with opened(file, order) as (engine, _):
            await engine.run(order, execution_id="one")

    async def main() -> None:
        async with opened(file) as (engine, store):
            block(file)
            again = lambda: engine.retry("one", from_step="first")  # noqa: E731
            await refused(store, again, "'slow'", "done twice")
            execute(file, "update step_checkpoints set compensate_ref = null where branch = 'b'")
            await again()
            record = await engine.load("one")
            assert (record.status, record.blocked_reason) == (ExecutionStatus.PENDING, None)
            assert record.available_at is not None
            assert [one.status for one in await store.load_timers("one")] == [TimerStatus.CANCELLED]
            assert await store.load_checkpoints("one") == []
            noted = await details(store)
            assert noted["blocked"] == "x"
            assert [one["was"] for one in noted["forgotten"]] == ["COMPLETED", "INTENT", "in doubt"]

    run_until_killed(first_process)
    asyncio.run(main())


# resolve


async def test_a_step_that_failed_goes_on_with_the_value_and_is_undone_with_it(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> int:
        def pay() -> int:
            journal.note("pay")
            raise ConnectionError("timed out")

        paid = await ctx.step("pay", pay, compensate=lambda paid: journal.note(f"refund {paid}"))
        if await ctx.wait_signal("ship"):
            raise ValueError("it came back")
        return paid

    async with opened(file, order) as (engine, store):
        for one in ("one", "two"):
            with pytest.raises(WorkflowFailedError):
                await engine.run(order, execution_id=one)
            await engine.resolve(one, "pay", 42, by="kim")
            await engine.send_signal(one, "ship", one == "two")
        assert await engine.handle("one").result() == 42
        with pytest.raises(WorkflowFailedError, match="came back"):
            await engine.handle("two").result()
        steps = await store.load_checkpoints("one")
        assert [(one.attempt, one.status) for one in steps if one.step_name == "pay"] == [
            (1, StepStatus.FAILED),
            (2, StepStatus.COMPLETED),
        ]
        (entry,) = await store.load_audit_log("one")
        assert (entry.act, entry.actor) == ("resolve", "kim")
        assert await details(store) == {
            "step": "step 'pay' (index 0)",
            "was": "failed",
            "value": 42,
        }
        await refused(store, lambda: engine.resolve("one", "pay", 1), "is COMPLETED")
        with pytest.raises(ExecutionConflictError, match="was compensated"):
            await engine.resolve("two", "pay", 1)
    assert journal.lines == ["pay", "pay", "refund 42"]


@pytest.mark.parametrize("act", ["retry", "resolve"])
async def test_the_event_of_a_failure_that_is_taken_back_leaves_no_gap(
    file: Path, journal: Journal, act: str
) -> None:
    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "slow"

    def fails_first(name: str) -> str:
        if journal.note(name) < 2:
            raise ConnectionError(f"{name} is down")
        return name

    @workflow
    async def order(ctx: WorkflowContext) -> list[str]:
        both = await asyncio.gather(ctx.step("slow", slow), ctx.step("pay", fails_first, "pay"))
        return [*both, await ctx.step("last", fails_first, "ship")]

    async with opened(file, order) as (engine, store):
        with pytest.raises(WorkflowFailedError, match="pay is down"):
            await engine.run(order, execution_id="one")
        before = {one.step_name: one.event for one in await store.load_checkpoints("one")}
        assert before == {"pay": 1, "slow": 2}
        if act == "retry":
            await engine.retry("one")
        else:
            journal.note("pay")
            await engine.resolve("one", "pay", "pay")
        with pytest.raises(WorkflowFailedError, match="ship is down"):
            await engine.handle("one").result()
        after = [one for one in await store.load_checkpoints("one") if one.event is not None]
        assert {one.step_name: one.event for one in after} == {"slow": 1, "pay": 2, "last": 3}
        await engine.retry("one", from_step="last")
        assert await engine.handle("one").result() == ["slow", "pay", "ship"]
    assert "missing" not in run_command("doctor", file, env={}).stdout
    assert journal.lines == ["pay", "pay", "ship", "ship"]


@workflow
async def in_doubt(ctx: WorkflowContext, path: str) -> int:
    journal = Journal(Path(path))

    def act() -> int:
        if journal.note("act") == 1:
            die()
        return 1

    number = await ctx.step("act", act, compensate=lambda value: journal.note(f"undo {value}"))
    await ctx.sleep("rest", DAY)
    return number


async def until_it_rests(engine: DurableEngine) -> None:
    async with asyncio.timeout(30):
        while (await engine.load("one")).status is not ExecutionStatus.SUSPENDED:
            await asyncio.sleep(0.005)


async def once_it_is_left(act: Callable[[], Awaitable[None]]) -> None:
    """A worker that has heard that it was mended may just be trying it."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await act()
            except ExecutionConflictError:
                await asyncio.sleep(0.005)


def _dies(file: Path, journal: Path) -> None:
    async def main() -> None:
        async with opened(file, in_doubt) as (engine, _):
            await engine.run(in_doubt, str(journal), execution_id="one")

    run_until_killed(main)


async def test_a_step_in_doubt_and_a_sleep_are_resolved(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "acts"
    _dies(file, path)

    async with opened(file) as (engine, store):
        with pytest.raises(SerializationError):
            await engine.resolve("one", "act", object())
        await engine.resolve("one", "act", 7)
        assert (await details(store))["was"] == "in doubt"
        await refused(store, lambda: engine.resolve("one", "rest"), "no step 'rest'")
    async with opened(file, in_doubt) as (engine, store):
        await until_it_rests(engine)
        await refused(store, lambda: engine.resolve("one", "rest"), "runs in this engine")
        async with opened(file) as (other, _):
            await refused(store, lambda: other.resolve("one", "rest"), "claimed by worker")
    async with opened(file) as (engine, store):
        await refused(store, lambda: engine.resolve("one", "rest", 1), "give null")
        await refused(store, lambda: engine.resolve("one", "act", 8), "needs no value")
        await engine.resolve("one", "rest")
        (timer,) = await store.load_timers("one")
        assert timer.status is TimerStatus.CANCELLED
    async with opened(file, in_doubt) as (engine, _):
        assert await engine.handle("one").result() == 7
    assert Journal(path).lines == ["act"]


def test_a_step_that_ends_its_worker_while_it_is_undone_is_resolved_and_undone(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def poison(ctx: WorkflowContext) -> None:
        def act() -> int:
            journal.note("act")
            die()

        await ctx.step("act", act, compensate=lambda value: journal.note(f"undo {value}"))

    async def main() -> None:
        async with opened(file, poison) as (engine, _):
            handle = await engine.start(poison, execution_id="one")
            await handle.result()

    async def last_process() -> None:
        async with opened(file) as (engine, store):
            assert (await engine.load("one")).status is ExecutionStatus.COMPENSATING
            await refused(store, lambda: engine.retry("one", from_step="act"), "is COMPENSATING")
            await engine.resolve("one", "act", 7)
        async with opened(file, poison) as (engine, store):
            with pytest.raises(WorkflowCancelledError):
                await engine.handle("one").result()
            await refused(store, lambda: engine.resolve("one", "act", 7), "is CANCELLED")

    async def cancel() -> None:
        async with opened(file) as (engine, _):
            assert await engine.cancel("one") is Cancellation.ASKED

    run_until_killed(main)
    asyncio.run(cancel())
    run_until_killed(main)
    asyncio.run(last_process())
    assert journal.lines == ["act", "act", "undo 7"]


async def test_a_value_that_does_not_fit_stops_it_in_trouble_until_it_is_resolved_again(
    file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "acts"
    _dies(file, path)

    async with opened(file) as (engine, _):
        await engine.resolve("one", "act", "seven")
        await engine.resolve("one", "act", "eight")  # nobody has read it yet
    async with opened(file) as (client, _), opened(file, in_doubt) as (worker, _):
        for value in ("nine", 9.5):
            with pytest.raises(SerializationError, match="step 'act'"):
                await worker.handle("one").result()
            await once_it_is_left(lambda value=value: worker.resolve("one", "act", value))
        with pytest.raises(SerializationError, match="step 'act'"):
            await worker.handle("one").result()
        async with asyncio.timeout(30):
            while (await client.load("one")).trouble is None:
                await asyncio.sleep(0.005)
        # From another process: the worker that has left it as it is hears of that.
        await once_it_is_left(lambda: client.resolve("one", "act", 9))
        await until_it_rests(client)
        await client.cancel("one")
        with pytest.raises(WorkflowCancelledError):
            await client.handle("one").result()
    assert Journal(path).lines == ["act", "undo 9"]


async def test_a_step_in_a_back_off_is_resolved_and_a_signal_is_to_be_sent(
    file: Path, journal: Journal
) -> None:
    hourly = RetryPolicy.fixed(max_attempts=9, delay=timedelta(hours=1))

    @workflow
    async def order(ctx: WorkflowContext) -> list[object]:
        def pay() -> int:
            journal.note("pay")
            raise ConnectionError("down")

        wait = asyncio.create_task(ctx.branch("b").wait_signal("ok"))
        return [await ctx.step("pay", pay, retry=hourly), await wait]

    async with opened(file, order) as (engine, store):
        await engine.start(order, execution_id="one")
        async with asyncio.timeout(30):
            while not any(one.due_at for one in await store.load_checkpoints("one")):
                await asyncio.sleep(0.005)
    async with opened(file) as (engine, store):
        await refused(store, lambda: engine.resolve("one", "ok", 1), "Send it that signal")
        await engine.resolve("one", "pay", 5)
        assert (await details(store))["was"] == "in a back-off"
        await engine.send_signal("one", "ok", 1)
    async with opened(file, order) as (engine, _):
        assert await engine.handle("one").result() == [5, 1]
    assert journal.lines == ["pay"]


HOURLY = RetryPolicy.fixed(max_attempts=9, delay=timedelta(hours=1))


def order_that_cannot_pay(journal: Journal, *, in_thread: bool = False) -> Any:
    @workflow
    async def order(ctx: WorkflowContext) -> int:
        async def pay() -> int:
            journal.note("pay")
            raise ConnectionError("down")

        def pay_in_thread() -> int:
            journal.note("pay")
            raise ConnectionError("down")

        how = pay_in_thread if in_thread else pay
        undone = journal.note
        return await ctx.step("pay", how, retry=HOURLY, compensate=undone)

    return order


async def until_it_pauses(store: SqliteCheckpointStore) -> None:
    async with asyncio.timeout(30):
        while not any(one.due_at for one in await store.load_checkpoints("one")):
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("by_itself", [True, False], ids=["its engine", "a client"])
@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "thread"])
async def test_a_step_in_the_back_off_of_a_living_worker_is_resolved_at_once(
    in_thread: bool, by_itself: bool, file: Path, journal: Journal
) -> None:
    order = order_that_cannot_pay(journal, in_thread=in_thread)

    async with opened(file, order) as (engine, store):
        await engine.start(order, execution_id="one")
        await until_it_pauses(store)
        async with SqliteCheckpointStore.file(file) as others, asyncio.timeout(30):
            mends: Client = engine if by_itself else Client(others)
            await mends.resolve("one", "pay", 5, by="kim")
            assert await engine.handle("one").result() == 5
        first, second = await store.load_checkpoints("one")
        assert (first.status, second.attempt, second.event) == (StepStatus.FAILED, 2, 1)
        (entry,) = await store.load_audit_log("one")
        assert (entry.act, entry.actor) == ("resolve", "kim")
        assert (await details(store))["was"] == "in a back-off"
        statuses = {one.status for one in await store.load_signals("one")}
        assert statuses == {SignalStatus.DELIVERED}
    assert journal.lines == ["pay"]


async def test_a_worker_whose_next_attempt_has_begun_meanwhile_takes_the_value_all_the_same(
    file: Path, journal: Journal
) -> None:
    """It is resolved between the end of the pause and the record of the next attempt."""
    order = order_that_cannot_pay(journal)

    class Late(SqliteCheckpointStore):
        is_resolved = False

        async def save(
            self, *records: Record, claim: WorkflowClaim | None = None, **more: Any
        ) -> None:
            step = records[0]
            is_next = isinstance(step, StepCheckpoint) and step.attempt == 2
            if is_next and not self.is_resolved:
                self.is_resolved = True
                async with SqliteCheckpointStore.file(file) as others:
                    await Client(others).resolve("one", "pay", 4)
                    await Client(others).resolve("one", "pay", 5)  # the last one counts
            await super().save(*records, claim=claim, **more)

    async with (
        Late.file(file) as store,
        DurableEngine(store, workflows=[order]) as engine,
        asyncio.timeout(30),
    ):
        await engine.start(order, execution_id="one")
        await until_it_pauses(store)
        await engine.retry("one")
        assert await engine.handle("one").result() == 5
        await refused(store, lambda: engine.resolve("one", "pay", 6), "is COMPLETED")
    assert journal.lines == ["pay"]


async def test_a_value_that_a_worker_cannot_read_leaves_the_execution_in_trouble(
    file: Path, journal: Journal
) -> None:
    order = order_that_cannot_pay(journal)

    async with opened(file, order) as (engine, store), asyncio.timeout(30):
        await engine.start(order, execution_id="one")
        await until_it_pauses(store)
        await engine.resolve("one", "pay", "five")
        with pytest.raises(SerializationError, match="say with `resolve`"):
            await engine.handle("one").result()
        await once_it_is_left(lambda: engine.resolve("one", "pay", 5))
        assert await engine.handle("one").result() == 5
    assert journal.lines == ["pay"]


def test_a_worker_that_dies_before_it_takes_the_value_leaves_it_to_the_next_one(
    file: Path, journal: Journal
) -> None:
    order = order_that_cannot_pay(journal)
    processes = {"one": 1}

    class KillableStore(SqliteCheckpointStore):
        async def load_pending_signals(
            self, workflow_execution_id: str, signal_name: str
        ) -> list[WorkflowSignal]:
            if processes["one"] == 1 and signal_name == RESOLVED_SIGNAL:
                die()
            return await super().load_pending_signals(workflow_execution_id, signal_name)

    async def main() -> None:
        async with (
            KillableStore.file(file) as store,
            DurableEngine(store, workflows=[order]) as engine,
            asyncio.timeout(30),
        ):
            if processes["one"] == 1:
                await engine.start(order, execution_id="one")
                await until_it_pauses(store)
                await engine.resolve("one", "pay", 5)
            assert await engine.handle("one").result() == 5

    run_until_killed(main)
    processes["one"] = 2
    asyncio.run(main())
    assert journal.lines == ["pay"]


# cancel, without a worker


def block(file: Path) -> None:
    execute(file, "update workflow_executions set blocked_reason = 'x', available_at = null")


def test_one_that_is_blocked_with_nothing_to_undo_is_cancelled_at_once(file: Path) -> None:
    @workflow
    async def plain(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: 1)
        await asyncio.gather(
            ctx.branch("a").step("slow", die_soon), ctx.branch("b").wait_signal("never", DAY)
        )

    async def die_soon() -> None:
        await asyncio.sleep(0.02)
        die()

    async def first_process() -> None:
        async with opened(file, plain) as (engine, _):
            await engine.run(plain, execution_id="one")

    async def main() -> None:
        async with opened(file) as (waiting, _), opened(file) as (engine, store):
            states = asyncio.create_task(until_over(waiting, "one"))
            block(file)
            await waiting.send_signal("one", "never", 1)
            assert await engine.cancel("one", by="kim") == "ended"
            assert await states == [ExecutionStatus.CANCELLED]
            with pytest.raises(WorkflowCancelledError, match="was cancelled"):
                await waiting.handle("one").result()
            assert await details(store) == {"ended": "at once", "blocked": "x"}
            record = await engine.load("one")
            assert (record.blocked_reason, record.last_event) == (None, 1)
            # What was under way may have taken effect: that is on the lists until it is dealt with.
            by_name = {one.step_name: one for one in await store.load_checkpoints("one")}
            assert by_name["slow"].error_message == "it was cut off and may have taken effect"
            assert by_name["never"].error_message == "the workflow no longer waited for it"
            assert [one.status for one in await store.load_timers("one")] == [TimerStatus.CANCELLED]
            (signal,) = await store.load_signals("one")
            assert signal.status is SignalStatus.EXPIRED
            with pytest.raises(ExecutionFinishedError):
                await engine.cancel("one")
            assert await engine.acknowledge("one") == 1

    run_until_killed(first_process)
    asyncio.run(main())


async def test_one_that_is_blocked_with_something_to_undo_is_unblocked_and_undone(
    file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "acts"
    _dies(file, path)

    async with opened(file) as (engine, store):
        block(file)
        assert await engine.cancel("one") == "asked"
        assert await details(store) == {"unblocked": "x"}
        assert (await engine.load("one")).blocked_reason is None
        assert not await engine.cancel("one")
    block(file)  # again, before a worker has undone it
    async with opened(file, in_doubt) as (engine, _):
        assert await engine.cancel("one")
        with pytest.raises(WorkflowCancelledError):
            await engine.handle("one").result()
    assert Journal(path).lines == ["act", "act", "undo 1"]


class Ends(DurableEngineObserver):
    """Notes which executions an engine has seen end."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def on_status_change(self, execution: WorkflowExecution, before: ExecutionStatus) -> None:
        self.seen.append((before.value, execution.status.value))

    def on_execution_complete(self, execution: WorkflowExecution, elapsed: timedelta) -> None:
        self.seen.append(("complete", execution.status.value))


async def test_one_that_nobody_has_begun_is_cancelled_at_once(file: Path) -> None:
    ends = Ends()

    async with (
        opened(file) as (client, _),
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, observers=[ends]) as engine,
    ):
        handle = await client.enqueue(job, 1, execution_id="one")
        told = asyncio.create_task(handle.result())
        assert await engine.cancel("one") is Cancellation.ENDED
        with pytest.raises(WorkflowCancelledError):
            await told
        assert await details(store) == {"ended": "at once"}
        assert ends.seen == [("PENDING", "CANCELLED"), ("complete", "CANCELLED")]
        async with DurableEngine(store, workflows=[job]) as worker:
            with pytest.raises(ExecutionFinishedError):
                await worker.cancel("one")
            assert (await worker.recover()).resumed == ()


# by name


@workflow
async def job(ctx: WorkflowContext, number: int) -> int:
    return await ctx.step("double", lambda: 2 * number)


@workflow(name="job", version=2)
async def job_2(ctx: WorkflowContext, number: int) -> int:
    return await ctx.step("triple", lambda: 3 * number)


async def test_an_execution_is_enqueued_by_the_name_of_its_workflow(file: Path) -> None:
    async with opened(file) as (client, _):
        with pytest.raises(ValueError, match="No execution was ever started here"):
            await client.enqueue_named("job", [1])
    async with opened(file) as (client, _), opened(file, job) as (_, store):
        # Nothing was run yet; but whoever runs it lives.
        await until(store.load_served)
        with pytest.raises(ValueError, match="no workflow type 'jop'; did you mean 'job'"):
            await client.enqueue_named("jop", [1])
        assert await (await client.enqueue_named("job", [1])).result() == 2
    async with opened(file) as (client, _), opened(file, job, job_2) as (worker, store):
        start = client.enqueue_named
        assert await (await start("job", [4], execution_id="one", tags={"a": "b"})).result() == 8
        assert await store.load_tags("one") == {"a": "b"}
        await worker.run(job_2, 1)
        assert await (await start("job", (4,))).result() == 12
        assert await (await start("job", [4], version=1)).result() == 8
        # It can be repeated.
        assert await (await start("job", [4], version=1, execution_id="one")).result() == 8
        with pytest.raises(ExecutionConflictError, match="other input"):
            await start("job", [5], execution_id="one")
        later = await start("job", [4], delay=DAY, priority=7, ttl=2 * DAY)
        record = await client.load(later.execution_id)
        assert record.available_at is not None
        assert record.ttl_expires_at is not None
        assert record.ttl_expires_at - record.created_at == 2 * DAY
        assert record.available_at - record.created_at == DAY
        assert record.priority == 7
        count = len(await store.load_executions_by_status(ExecutionStatus))
        for wrong, message in (
            (lambda: start("jop", [1]), "did you mean 'job'"),
            (lambda: start("job", [1], version=3), "no version 3; there are 1, 2"),
            (lambda: start("job", "text"), "must be a list"),
            (lambda: start("job", [object()]), "cannot be written"),
            (
                lambda: worker.enqueue_named("job", ["one", "two"]),
                "does not take these arguments",
            ),
            (lambda: worker.enqueue_named("job", ["one"]), "cannot be read as int"),
        ):
            with pytest.raises((ValueError, TypeError, SerializationError), match=message):
                await wrong()
        assert len(await store.load_executions_by_status(ExecutionStatus)) == count


async def test_an_input_that_the_code_cannot_read_stops_it_in_trouble_and_it_can_be_cancelled(
    file: Path,
) -> None:
    async with opened(file) as (client, _), opened(file, job) as (worker, _):
        await worker.run(job, 1)
        await client.enqueue_named("job", ["x"], execution_id="one")
        async with asyncio.timeout(30):
            while (trouble := (await client.load("one")).trouble) is None:
                await asyncio.sleep(0.005)
        assert trouble.startswith("SerializationError: argument 1 of the input of workflow")
        assert await client.cancel("one") is Cancellation.ENDED
        assert (await client.load("one")).status is ExecutionStatus.CANCELLED


async def test_a_rerun_is_a_new_execution_with_all_that_the_old_one_was_started_with(
    file: Path,
) -> None:
    async with opened(file) as (client, store):
        handle = await client.enqueue(
            job, 4, execution_id="one", priority=3, ttl=DAY, tags={"customer": "7"}
        )
        before = await contents(store)
        new = await client.rerun("one", new_id="two", by="kim")
        assert (await contents(store))[0] == before[0]
        assert (await client.rerun("one", new_id="two")).execution_id == "two"
        old, copy = await client.load("one"), await client.load("two")
        assert (copy.workflow_id, copy.input_data) == (old.workflow_id, old.input_data)
        assert copy.priority == 3
        assert copy.ttl_expires_at is not None
        assert copy.ttl_expires_at - copy.created_at == DAY
        assert await store.load_tags("two") == {"customer": "7"}
        assert await details(store, "one") == {"as": "two"}
        assert await details(store, "two") == {"of": "one"}
        assert [one.actor for one in await store.load_audit_log("two")] == ["kim"]
        for taken in ("one", "two"):
            with pytest.raises(ExecutionConflictError, match="is taken"):
                await client.rerun("two", new_id=taken)
        # One that is a rerun is rerun for the first time.
        assert (await client.rerun("two", new_id="three", once=True)).execution_id == "three"
        await refused(
            store, lambda: client.rerun("one", once=True, by="lee"), "already, by kim", "two"
        )
        async with opened(file, job) as (worker, _):
            assert [await handle.result(), await new.result()] == [8, 8]
            again = await worker.rerun("one")
            assert await again.result() == 8


async def test_what_is_refused_says_what_to_do_instead(file: Path) -> None:
    @workflow
    async def waits(ctx: WorkflowContext) -> None:
        await ctx.sleep("rest", MOMENT)
        await ctx.branch("x").step("pay", lambda: 1)
        await ctx.wait_signal("approved")

    async def says(act: Callable[[], Awaitable[object]], *words: str) -> None:
        with pytest.raises((ExecutionConflictError, ValueError, SerializationError)) as caught:
            await act()
        for word in words:
            assert word in str(caught.value)

    async with opened(file, waits) as (engine, store):
        await engine.start(waits, execution_id="one")
        await until_waiting(store, "one")
        await says(lambda: engine.resolve("one", "approved", 1), "Send it that signal")
        await says(lambda: engine.resolve("one", "rest", 1), "runs in this engine")
        await says(
            lambda: engine.resolve("one", "rest", object()),
            "the value cannot be written as JSON: an object cannot",
        )
    async with opened(file) as (client, store):
        await says(lambda: client.resolve("one", "rest", 5), "is over", "takes no value")
        await says(
            lambda: client.resolve("one", "x/pay", 5),
            "did you mean ('x', 'pay'), in a command pay --branch x?",
        )
        await says(
            lambda: client.resolve("one", "pax", 5),
            "'pax'; it has recorded 'pay', 'approved', 'rest'; did you mean 'pay'?",
        )
    async with opened(file, waits) as (engine, store):
        assert await engine.cancel("one") is Cancellation.ASKED
        await until_over(engine, "one")
        await says(lambda: engine.retry("one"), "is CANCELLED", "from_step", "rerun")
        await engine.start(waits, execution_id="two")
        await engine.send_signal("two", "approved")
        await until_over(engine, "two")
        await says(lambda: engine.retry("two"), "is COMPLETED", "rerun")


def test_what_a_cancel_did_can_be_printed() -> None:
    assert [f"{one}" for one in Cancellation] == ["asked", "ended", "refused"]
    assert str(Cancellation.REFUSED) == "refused"
    assert not Cancellation.REFUSED
