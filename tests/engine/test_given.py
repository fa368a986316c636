"""A value that a person gives to a step in a back-off counts, whatever becomes of the step."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    DurableWorkflowError,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionStatus,
    RetryPolicy,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepStatus,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowSignal,
    workflow,
)
from durable_workflow_sqlite.records import RESOLVED_SIGNAL, Record, SignalStatus, WorkflowClaim
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, an_engine, die, run_until_killed, until

HOURLY = RetryPolicy.fixed(max_attempts=9, delay=timedelta(hours=1))
AT_ONCE = timedelta(milliseconds=1)


class GivenMeanwhile(SqliteCheckpointStore):
    """Somebody gives a value right before the worker records what becomes of the step instead.

    dies: whether the worker is killed before it looks for the value.
    """

    at_attempt = 2
    dies = False
    is_given = False

    async def save(self, *records: Record, claim: WorkflowClaim | None = None, **more: Any) -> None:
        for one in records:
            if (
                isinstance(one, StepCheckpoint)
                and (one.step_name, one.attempt) == ("pay", self.at_attempt)
                and not self.is_given
                and claim is not None
            ):
                self.is_given = True
                await self._given()
        await super().save(*records, claim=claim, **more)

    async def _given(self) -> None:
        (_, _, file), *_ = self._connection.execute("pragma database_list").fetchall()
        async with SqliteCheckpointStore.file(file) as others:
            await Client(others).resolve("one", "pay", 5)

    async def load_pending_signals(
        self, workflow_execution_id: str, signal_name: str | None = None
    ) -> list[WorkflowSignal]:
        if signal_name == RESOLVED_SIGNAL and self.dies and self.is_given:
            die()
        return await super().load_pending_signals(workflow_execution_id, signal_name)


def made(journal: Journal, end: str) -> WorkflowDefinition[..., Any]:
    """A workflow that gives up its step "pay" in some way, or is to be ended from outside."""

    async def pay() -> int:
        journal.note("pay")
        raise ConnectionError("down")

    async def bad() -> None:
        await asyncio.sleep(0.1)
        raise ValueError("bad")

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> str:
        paid = ctx.step("pay", pay, retry=HOURLY, compensate=lambda value: journal.note(f"{value}"))
        match end:
            case "a sibling fails":
                await asyncio.gather(paid, ctx.branch("b").step("bad", bad))
            case "a task group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(paid)
                    group.create_task(ctx.branch("b").step("bad", bad))
            case "a race" | "a race that it wins nevertheless":
                slow = ctx.branch("b").step("slow", asyncio.sleep, 0.1)
                tasks = [asyncio.create_task(paid), asyncio.create_task(slow)]
                _, losers = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for one in losers:
                    one.cancel()
                if end != "a race":
                    return "ends"
            case "it is left behind":
                task = asyncio.create_task(paid)
                await ctx.branch("b").sleep("rest", timedelta(seconds=0.1))
                return f"ends {task.done()}"
            case "a timeout" | "parked":
                with suppress(TimeoutError):
                    await asyncio.wait_for(paid, 0.1)
            case _:
                await paid
        if end == "parked":
            await ctx.wait_signal("go")
        raise ValueError("fails in the end")

    return order


async def drive(engine: DurableEngine, order: WorkflowDefinition[..., Any], end: str) -> None:
    """Bring an execution to its end, in whatever process this is."""
    ttl = timedelta(seconds=0.3) if end == "it expires" else None
    handle = await engine.start(order, execution_id="one", ttl=ttl)
    ending = asyncio.create_task(handle.result())
    if end == "a cancel":
        while not await engine._settings.store.load_checkpoints("one") and not ending.done():
            await asyncio.sleep(0.005)
        while True:
            steps = await engine._settings.store.load_checkpoints("one")
            if any(one.due_at or one.attempt > 1 for one in steps):
                break
            await asyncio.sleep(0.005)
        await handle.cancel()
    elif end == "parked":
        while not await engine._settings.store.load_open_waits("one", "go") and not ending.done():
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        with suppress(ExecutionFinishedError):  # an earlier run has sent it, and it is over
            await handle.signal("go")
    with suppress(DurableWorkflowError, ValueError, ExceptionGroup):
        await ending


ENDS = {
    "a cancel": ExecutionStatus.CANCELLED,
    "it expires": ExecutionStatus.FAILED,
    "a sibling fails": ExecutionStatus.FAILED,
    "a task group": ExecutionStatus.FAILED,
    "a race": ExecutionStatus.FAILED,
    "a race that it wins nevertheless": ExecutionStatus.COMPLETED,
    "it is left behind": ExecutionStatus.COMPLETED,
    "a timeout": ExecutionStatus.FAILED,
    "parked": ExecutionStatus.FAILED,
}


@pytest.mark.few(6)
@pytest.mark.parametrize("dies", [False, True], ids=["", "its worker dies"])
@pytest.mark.parametrize("end", ENDS)
def test_a_value_counts_though_the_step_is_given_up_in_that_moment(
    end: str, dies: bool, file: Path, journal: Journal
) -> None:
    order = made(journal, end)

    async def main(dies: bool) -> None:
        async with (
            GivenMeanwhile.file(file) as store,
            DurableEngine(store, workflows=[order], park_after=AT_ONCE) as engine,
            asyncio.timeout(30),
        ):
            assert isinstance(store, GivenMeanwhile)
            store.dies = dies
            store.is_given = bool(await store.load_signals("one"))
            await drive(engine, order, end)

    async def check() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            record = await loaded(store, "one")
            assert record.status is ENDS[end]
            steps = await store.load_checkpoints("one")
            paid = [one for one in steps if one.step_name == "pay"]
            assert [(one.attempt, one.status) for one in paid] == [
                (1, StepStatus.FAILED),
                (2, StepStatus.COMPLETED),
            ]
            assert paid[-1].output_data == "5"
            assert paid[-1].event is not None
            given = [
                one.status
                for one in await store.load_signals("one")
                if one.signal_name == RESOLVED_SIGNAL
            ]
            assert given == [SignalStatus.DELIVERED]

    if dies:
        run_until_killed(lambda: main(dies=True))
    asyncio.run(main(dies=False))
    asyncio.run(check())
    undone = [] if ENDS[end] is ExecutionStatus.COMPLETED else ["5"]
    assert journal.lines == ["pay", *undone]


async def until_it_pauses(store: SqliteCheckpointStore, attempt: int = 1) -> None:
    while not any(
        one.due_at is not None and one.attempt == attempt
        for one in await store.load_checkpoints("one")
    ):
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "thread"])
async def test_of_two_values_the_last_one_that_was_not_refused_counts(
    in_thread: bool, file: Path, journal: Journal
) -> None:
    """The second is given whenever the worker has read the first."""

    class Eager(SqliteCheckpointStore):
        last = 5

        async def load_pending_signals(
            self, workflow_execution_id: str, signal_name: str | None = None
        ) -> list[WorkflowSignal]:
            found = await super().load_pending_signals(workflow_execution_id, signal_name)
            if signal_name == RESOLVED_SIGNAL and found:
                async with SqliteCheckpointStore.file(file) as others:
                    with suppress(ExecutionConflictError):
                        await Client(others).resolve("one", "pay", self.last + 1)
                        self.last += 1
            return found

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> int:
        async def pay() -> int:
            journal.note("pay")
            raise ConnectionError("down")

        def pay_in_thread() -> int:
            journal.note("pay")
            raise ConnectionError("down")

        return await ctx.step("pay", pay_in_thread if in_thread else pay, retry=HOURLY)

    async with (
        Eager.file(file) as store,
        DurableEngine(store, workflows=[order]) as engine,
        asyncio.timeout(30),
    ):
        assert isinstance(store, Eager)
        handle = await engine.start(order, execution_id="one")
        await until_it_pauses(store)
        await engine.resolve("one", "pay", 5)
        assert await handle.result() == store.last
    assert journal.lines == ["pay"]


@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "thread"])
def test_a_value_is_taken_while_another_execution_has_the_slot(
    in_thread: bool, file: Path, journal: Journal
) -> None:
    async def pay() -> int:
        journal.note("pay")
        raise ConnectionError("down")

    def pay_in_thread() -> int:
        journal.note("pay")
        raise ConnectionError("down")

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        return await ctx.step("pay", pay_in_thread if in_thread else pay, retry=HOURLY)

    async def main() -> None:
        release = threading.Event()

        def hold() -> None:
            journal.note("hold")
            release.wait(30)

        @workflow
        async def other(ctx: WorkflowContext) -> None:
            await ctx.step("hold", hold)

        async with (
            SqliteCheckpointStore.file(file) as store,
            SqliteCheckpointStore.file(file) as others,
            DurableEngine(store, workflows=[order, other], max_concurrent=1) as engine,
            asyncio.timeout(30),
        ):
            handle = await engine.enqueue(order, execution_id="one")
            await until_it_pauses(store)
            holder = await engine.enqueue(other, execution_id="two")
            await until(lambda: "hold" in journal.lines)
            try:
                await Client(others).resolve("one", "pay", 5)
                assert await handle.result() == 5
            finally:
                release.set()
            await holder.result()

    asyncio.run(main())
    assert journal.lines == ["pay", "hold"]


@pytest.mark.parametrize("how", ["cancelled", "no other attempt", "expired", "not awaited"])
def test_a_value_that_a_dead_worker_was_given_is_for_the_next_one(
    how: str, file: Path, journal: Journal
) -> None:
    """Whatever the code says by then, and whatever else was asked for."""
    processes = {"now": 1}

    async def pay() -> int:
        journal.note("pay")
        raise ConnectionError("down")

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> None:
        retry = HOURLY if processes["now"] == 1 else RetryPolicy.none()
        undo = lambda value: journal.note(f"{value}")  # noqa: E731
        paid = asyncio.create_task(ctx.step("pay", pay, retry=retry, compensate=undo))
        await ctx.step("first", lambda: None)
        if how != "not awaited" or processes["now"] == 1:
            await paid
        raise ValueError("fails in the end")

    async def first_process() -> None:
        async with (
            GivenMeanwhile.file(file) as store,
            DurableEngine(store, workflows=[order]) as engine,
            SqliteCheckpointStore.file(file) as others,
            asyncio.timeout(30),
        ):
            assert isinstance(store, GivenMeanwhile)
            store.dies = store.is_given = True
            ttl = timedelta(seconds=0.5) if how == "expired" else None
            await engine.start(order, execution_id="one", ttl=ttl)
            await until_it_pauses(store)
            await Client(others).resolve("one", "pay", 5)
            await asyncio.sleep(30)

    async def next_life() -> None:
        processes["now"] = 2
        async with SqliteCheckpointStore.file(file) as store:
            if how == "cancelled":
                await Client(store).cancel("one")
            elif how == "expired":
                await asyncio.sleep(0.6)
            async with DurableEngine(store, workflows=[order]) as engine, asyncio.timeout(30):
                with pytest.raises(DurableWorkflowError):
                    await engine.handle("one").result()
            steps = await store.load_checkpoints("one")
            paid = [one for one in steps if one.step_name == "pay" and one.attempt]
            assert (paid[-1].status, paid[-1].output_data) == (StepStatus.COMPLETED, "5")

    run_until_killed(first_process)
    asyncio.run(next_life())
    assert journal.lines == ["pay", "5"]


@pytest.mark.parametrize("dies", [False, True], ids=["", "its worker dies"])
def test_a_step_that_is_run_to_be_undone_takes_a_value_in_its_back_off(
    dies: bool, file: Path, journal: Journal
) -> None:
    async def pay() -> int:
        if journal.note("pay") == 1:
            die()
        raise ConnectionError("down")

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> None:
        undo = lambda value: journal.note(f"{value}")  # noqa: E731
        await ctx.step("pay", pay, retry=HOURLY, compensate=undo)

    async def first_process() -> None:
        async with an_engine(file, workflows=[order]) as (_, engine):
            await engine.run(order, execution_id="one")

    async def cancelled_process(dies: bool) -> None:
        async with GivenMeanwhile.file(file) as store, SqliteCheckpointStore.file(file) as others:
            assert isinstance(store, GivenMeanwhile)
            store.at_attempt = 0
            await Client(others).cancel("one")
            async with DurableEngine(store, workflows=[order]) as engine, asyncio.timeout(30):
                if journal.lines.count("pay") == 1:
                    await until_it_pauses(others, 2)
                    store.is_given, store.dies = True, dies
                    await Client(others).resolve("one", "pay", 5)
                with pytest.raises(DurableWorkflowError):
                    await engine.handle("one").result()

    run_until_killed(first_process)
    if dies:
        run_until_killed(lambda: cancelled_process(dies=True))
    asyncio.run(cancelled_process(dies=False))
    assert journal.lines == ["pay", "pay", "5"]


async def test_a_compensation_takes_no_value(file: Path, journal: Journal) -> None:
    """It returns none: it is retried, or what failed is acknowledged."""

    def undo(value: int) -> None:
        if journal.note(f"undo {value}") == 1:
            raise ConnectionError("down")

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("pay", lambda: 5, compensate=undo, compensate_retry=HOURLY)
        raise ValueError("fails in the end")

    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as others,
        DurableEngine(store, workflows=[order]) as engine,
        asyncio.timeout(30),
    ):
        handle = await engine.start(order, execution_id="one")
        await until_it_pauses(store, 0)
        for client in (engine, Client(others)):
            with pytest.raises(ExecutionConflictError, match="undoes step 'pay'"):
                await client.resolve("one", "pay", 6)
        assert not await store.load_audit_log("one")
        await engine.retry("one")
        with pytest.raises(DurableWorkflowError, match="in the end"):
            await handle.result()
    assert journal.lines == ["undo 5", "undo 5"]


def test_what_stays_of_a_value_that_nobody_took_does_not_go_to_another_run_of_the_step(
    file: Path, journal: Journal
) -> None:
    """Its worker died, and somebody then resolved it once more, or had all of it run again."""

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> int:
        async def pay() -> int:
            journal.note("pay")
            raise ConnectionError("down")

        first = await ctx.step("first", lambda: 1)
        return first + await ctx.step("pay", pay, retry=HOURLY)

    async def first_process() -> None:
        async with (
            GivenMeanwhile.file(file) as store,
            DurableEngine(store, workflows=[order]) as engine,
            SqliteCheckpointStore.file(file) as others,
        ):
            assert isinstance(store, GivenMeanwhile)
            store.dies = store.is_given = True
            await engine.start(order, execution_id="one")
            await until_it_pauses(store)
            await Client(others).resolve("one", "pay", 5)
            await asyncio.sleep(30)

    async def second_life() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await Client(store).resolve("one", "pay", 6)
            statuses = [one.status for one in await store.load_signals("one")]
            assert SignalStatus.PENDING not in statuses
            async with DurableEngine(store, workflows=[order]) as engine, asyncio.timeout(30):
                assert await engine.handle("one").result() == 7

    run_until_killed(first_process)
    asyncio.run(second_life())
    assert journal.lines == ["pay"]
