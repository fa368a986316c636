"""Transactions of the user on PostgreSQL whose session ends, or whose claim is lost, within."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from durable_workflow_sqlite import (
    ClaimLostError,
    DurableEngine,
    RetryPolicy,
    StepStatus,
    TransactionTimeoutError,
    WorkflowContext,
    workflow,
)
from tests import postgres_server
from tests.own_tables import Database
from tests.processes import until

if TYPE_CHECKING:
    import psycopg

    ByHand = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database("postgres", tmp_path)


def pid_of(connection: Any) -> int:
    (pid,) = connection.execute("select pg_backend_pid()").fetchone()
    return int(pid)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_session_that_ends_within_leaves_nothing_and_is_tried_again(
    database: Database, by_hand: ByHand, moment: str
) -> None:
    tried: list[int] = []

    def function(connection: Any) -> int:
        tried.append(1)
        if moment == "after":
            database.put(connection, "a")
        if len(tried) < 3:
            by_hand.execute("select pg_terminate_backend(%s)", (pid_of(connection),))
        return database.put(connection, "b")

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        return await ctx.transaction("put", function)

    async with database.store() as store, DurableEngine(store) as engine:
        count = 2 if moment == "after" else 1
        assert await engine.run(order, execution_id="e") == count
        assert len(tried) == 3
        assert len(await store.read(database.all)) == count
        assert len(await store.load_checkpoints("e")) == 1


async def test_a_worker_that_is_frozen_within_keeps_its_claim_until_it_is_thrown_out(
    database: Database, by_hand: ByHand
) -> None:
    """Nobody takes the execution while its transaction is open: the claim is locked."""
    entered, goes_on = threading.Event(), threading.Event()

    def function(connection: Any) -> int:
        count = database.put(connection, "a")
        entered.set()
        assert goes_on.wait(30)
        return count

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        return await ctx.transaction("put", function, timeout=timedelta(minutes=1))

    async with database.store() as store, DurableEngine(store) as engine:
        handle = await engine.start(order, execution_id="e")
        ending = asyncio.ensure_future(handle.result())  # who asks later waits for the other worker
        await until(entered.is_set)
        thief = threading.Thread(
            target=by_hand.execute, args=(f"delete from {database.schema}.workflow_claims",)
        )
        thief.start()
        await asyncio.sleep(0.2)
        assert thief.is_alive()
        goes_on.set()
        await asyncio.to_thread(thief.join)
        with pytest.raises(ClaimLostError):
            await ending
        rows, steps = await store.read(database.all), await store.load_checkpoints("e")
        assert rows == ["a"]
        assert [one.status.value for one in steps] == ["COMPLETED"]


async def test_two_transactions_in_the_way_of_each_other_are_run_again(
    database: Database, by_hand: ByHand
) -> None:
    import psycopg

    tried: list[int] = []
    async with database.store() as store:
        await store.write(lambda one: (database.put(one, "a"), database.put(one, "b")))
        update = f"update {database.table} set sku = sku where sku = %s"
        other = psycopg.connect(postgres_server.url())
        other.execute("set deadlock_timeout = '60s'")  # the other one is to give way
        other.execute(update, ("b",))

        def function(connection: Any) -> None:
            connection.execute("set local deadlock_timeout = '10ms'")
            tried.append(1)
            connection.execute(update, ("a",))
            if len(tried) == 1:
                waits.start()
                while not by_hand.execute(
                    "select 1 from pg_locks where pid = %s and not granted",
                    (other.info.backend_pid,),
                ).fetchone():
                    pass
            connection.execute(update, ("b",))

        def wait_and_roll_back() -> None:
            other.execute(update, ("a",))
            other.rollback()
            other.close()

        waits = threading.Thread(target=wait_and_roll_back)
        await store.write(function, timeout=timedelta(seconds=30))
        waits.join()
    assert len(tried) == 2


async def test_a_statement_of_the_library_is_not_counted_as_the_functions(
    database: Database, by_hand: ByHand
) -> None:
    """A function that waits for a lock of somebody else is interrupted at its timeout."""
    import psycopg

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        try:
            await ctx.transaction(
                "put",
                database.put,
                "a",
                timeout=timedelta(milliseconds=100),
                retry=RetryPolicy(max_attempts=1),
            )
        except TransactionTimeoutError:
            return "late"
        return "in time"

    async with database.store() as store, DurableEngine(store) as engine:
        with psycopg.connect(postgres_server.url()) as other:
            other.execute(f"lock table {database.table} in exclusive mode")
            assert await engine.run(order) == "late"
        assert await engine.run(order) == "in time"
        assert await store.read(database.all) == ["a"]


async def test_what_is_always_in_the_way_is_a_failure_in_the_end(database: Database) -> None:
    from psycopg import errors

    calls: list[int] = []

    def function(_: Any) -> None:
        calls.append(1)
        raise errors.DeadlockDetected("always in the way")

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        try:
            await ctx.transaction("put", function)
        except errors.DeadlockDetected as error:
            return str(error)
        return "put"

    async with database.store() as store, DurableEngine(store) as engine:
        assert await engine.run(order, execution_id="e") == "always in the way"
        (step,) = await store.load_checkpoints("e")
        assert step.status is StepStatus.FAILED
        assert len(calls) > 1
        with pytest.raises(errors.DeadlockDetected):
            await store.write(function)
