"""A compensation does not give up; where it was told to, an operator has it tried again."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ExecutionConflictError,
    ExecutionStatus,
    RetryPolicy,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine.retry import COMPENSATION_RETRY
from durable_workflow_sqlite.testing import Sandbox

TWICE = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=5))


class Bank:
    """Refunds what it is asked to, once it is up."""

    def __init__(self) -> None:
        self.is_down = True
        self.calls: list[str] = []

    def refund(self, reference: str) -> None:
        self.calls.append(f"refund {reference}")
        if self.is_down:
            raise ConnectionError("the bank is down")

    def release(self, seat: str) -> None:
        self.calls.append(f"release {seat}")


bank = Bank()


@pytest.fixture(autouse=True)
def _a_new_bank() -> None:
    bank.is_down = True
    bank.calls.clear()


def ship() -> None:
    raise ValueError("the parcel is lost")


@workflow
async def order(ctx: WorkflowContext) -> None:
    await ctx.step("reserve", lambda: "seat", compensate=bank.release)
    await ctx.step("charge", lambda: "money", compensate=bank.refund, compensate_retry=TWICE)
    if await ctx.wait_signal("decided", type=bool):
        await ctx.step("ship", ship)


async def fail(engine: DurableEngine) -> None:
    handle = await engine.start(order, execution_id="one")
    await handle.signal("decided", True)
    with pytest.raises(WorkflowFailedError, match="parcel") as caught:
        await handle.result()
    assert caught.value.compensation_error is not None
    assert (await engine.load("one")).status is ExecutionStatus.FAILED


async def test_retry_runs_the_compensations_that_failed_and_nothing_else(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await fail(engine)
        first = ["refund money", "refund money", "release seat"]
        assert bank.calls == first
        await engine.retry("one")
        with pytest.raises(WorkflowFailedError, match="parcel") as caught:
            await engine.handle("one").result()
        assert caught.value.compensation_error is not None, "the bank is still down"
        assert bank.calls == [*first, "refund money"]
    bank.is_down = False
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            await engine.retry("one")
            with pytest.raises(WorkflowFailedError, match="parcel") as caught:
                await engine.handle("one").result()
            assert caught.value.compensation_error is None
            assert bank.calls == [*first, "refund money", "refund money"]
            statuses = [
                one.status for one in await store.load_checkpoints("one") if not one.attempt
            ]
            assert statuses == [StepStatus.COMPENSATED, StepStatus.COMPENSATED]
            with pytest.raises(ExecutionConflictError, match="all that its steps did"):
                await engine.retry("one")


async def test_so_it_does_for_one_that_was_cancelled(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(order, execution_id="one")
        async with asyncio.timeout(30):
            while (await handle.status()) is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0.01)
        await handle.cancel()
        with pytest.raises(WorkflowCancelledError) as caught:
            await handle.result()
        assert caught.value.compensation_error is not None
        bank.is_down = False
        await engine.retry("one")
        with pytest.raises(WorkflowCancelledError) as caught:
            await handle.result()
        assert caught.value.compensation_error is None
        assert await handle.status() is ExecutionStatus.CANCELLED
    assert bank.calls == ["refund money", "refund money", "release seat", "refund money"]


def test_by_default_a_compensation_is_tried_for_as_long_as_it_takes(durable: Sandbox) -> None:
    @workflow
    async def paid(ctx: WorkflowContext) -> None:
        await ctx.step("charge", lambda: "money", compensate=bank.refund)
        await ctx.step("ship", ship)

    handle = durable.start(paid)
    durable.advance(timedelta(days=30))
    assert handle.status() is ExecutionStatus.COMPENSATING
    tried = len(bank.calls)
    assert 24 * 29 / 1.1 < tried < 24 * 31 / 0.9 + 20, "once an hour"
    bank.is_down = False
    durable.advance(timedelta(hours=2))
    assert handle.status() is ExecutionStatus.FAILED
    assert len(bank.calls) == tried + 1


def test_the_waits_grow_from_a_moment_to_an_hour() -> None:
    waits = [COMPENSATION_RETRY.delay_after(attempt) for attempt in (1, 5, 50, 10_000)]
    error = ConnectionError()
    assert all(COMPENSATION_RETRY.allows_another(attempt, error) for attempt in (1, 50, 10_000))
    assert waits[0] < timedelta(seconds=1) < waits[1] < timedelta(minutes=1)
    for wait in waits[2:]:
        assert timedelta(minutes=54) <= wait <= timedelta(minutes=66)


@pytest.mark.parametrize("wrong", ["3", 2.0, True])
def test_attempts_are_counted_by_an_integer_or_not_at_all(wrong: Any) -> None:
    with pytest.raises(TypeError, match="must be an integer or None"):
        RetryPolicy.exponential(max_attempts=wrong)
    assert RetryPolicy.from_json(RetryPolicy.fixed(max_attempts=None, delay=timedelta(1)).to_json())


# Undone by a person

HOURLY = RetryPolicy.fixed(max_attempts=99, delay=timedelta(hours=1))


@workflow
async def trip(ctx: WorkflowContext) -> None:
    await ctx.step("reserve", lambda: "seat", compensate=bank.release)
    await ctx.step("charge", lambda: "money", compensate=bank.refund, compensate_retry=HOURLY)
    await ctx.step("ship", ship)


async def until_it_pauses(store: SqliteCheckpointStore) -> None:
    async with asyncio.timeout(30):
        while not any(
            not one.attempt and one.due_at for one in await store.load_checkpoints("one")
        ):
            await asyncio.sleep(0.005)


async def check_it_ended(store: SqliteCheckpointStore) -> None:
    """Without another call of the bank, and the error of the one that failed stays."""
    assert bank.calls == ["refund money", "release seat"]
    undone = {one.step_name: one for one in await store.load_checkpoints("one") if not one.attempt}
    assert {one.status for one in undone.values()} == {StepStatus.COMPENSATED}
    assert undone["charge:compensate"].error_message == "the bank is down"
    (entry,) = [one for one in await store.load_audit_log("one") if one.act == "acknowledge"]
    assert entry.actor == "kim"
    assert json.loads(entry.details or "") == {
        "step": "step 'charge' (index 1)",
        "note": "refunded at the counter",
    }
    assert not await store.load_pending_signals("one", "$resolved")


async def acknowledge(client: Client) -> int:
    return await client.acknowledge("one", step="charge", note="refunded at the counter", by="kim")


@pytest.mark.parametrize("is_other", [False, True], ids=["its engine", "another program"])
def test_a_worker_that_waits_for_the_next_try_hears_that_a_person_has_undone_it(
    file: Path, is_other: bool
) -> None:
    async def main() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            SqliteCheckpointStore.file(file) as other,
            DurableEngine(store) as engine,
        ):
            handle = await engine.start(trip, execution_id="one")
            await until_it_pauses(store)
            client = Client(other) if is_other else engine
            with pytest.raises(ExecutionConflictError, match=r"acknowledge --step STEP"):
                await client.acknowledge("one")
            with pytest.raises(ExecutionConflictError, match=r"acknowledge --step charge"):
                await client.resolve("one", "charge:compensate", None)
            with pytest.raises(ExecutionConflictError, match=r"acknowledge --step charge"):
                await client.resolve("one", "charge", "money")
            assert await acknowledge(client) == 1
            with pytest.raises(WorkflowFailedError, match="parcel") as caught:
                await asyncio.wait_for(handle.result(), 30)
            assert caught.value.compensation_error is None
            await check_it_ended(store)

    asyncio.run(main())


def test_without_a_worker_the_next_one_goes_on_with_the_rest(file: Path) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(trip, execution_id="one")
            await until_it_pauses(store)
        async with SqliteCheckpointStore.file(file) as store:
            with pytest.raises(ExecutionConflictError, match="no compensation of step 'reserve'"):
                await Client(store).acknowledge("one", step="reserve")
            with pytest.raises(ValueError, match="no step 'charges'"):
                await Client(store).acknowledge("one", step="charges")
            assert await acknowledge(Client(store)) == 1
            with pytest.raises(ExecutionConflictError, match="has undone step 'charge'"):
                await acknowledge(Client(store))
            async with DurableEngine(store, workflows=[trip]) as engine:
                with pytest.raises(WorkflowFailedError, match="parcel"):
                    await asyncio.wait_for(engine.handle("one").result(), 30)
            await check_it_ended(store)

    asyncio.run(main())


def test_what_runs_right_now_is_not_taken_for_undone(file: Path) -> None:
    async def main() -> None:
        running, end = asyncio.Event(), asyncio.Event()

        async def refund(_: str) -> None:
            running.set()
            await end.wait()

        @workflow
        async def slow(ctx: WorkflowContext) -> None:
            await ctx.step("charge", lambda: "money", compensate=refund)
            await ctx.step("ship", ship)

        async with (
            SqliteCheckpointStore.file(file) as store,
            SqliteCheckpointStore.file(file) as other,
            DurableEngine(store) as engine,
        ):
            handle = await engine.start(slow, execution_id="one")
            await asyncio.wait_for(running.wait(), 30)
            for client in (engine, Client(other)):
                with pytest.raises(ExecutionConflictError):
                    await acknowledge(client)
            end.set()
            with pytest.raises(WorkflowFailedError, match="parcel"):
                await asyncio.wait_for(handle.result(), 30)
            assert await store.load_audit_log("one") == []

    asyncio.run(main())


def test_of_several_that_failed_for_good_one_is_acknowledged(file: Path) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await fail(engine)
            assert await acknowledge(engine) == 1
            assert (await engine.load("one")).status is ExecutionStatus.FAILED
            with pytest.raises(ExecutionConflictError, match="all that its steps did"):
                await engine.retry("one")

    asyncio.run(main())


def test_each_attempt_of_a_compensation_that_fails_is_a_warning(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await fail(engine)

    with caplog.at_level(logging.INFO, "durable_workflow_sqlite.engine"):
        asyncio.run(main())
    said = [one.levelname for one in caplog.records if "compensation of" in one.getMessage()]
    assert said == ["WARNING", "ERROR"]
