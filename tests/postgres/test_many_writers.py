"""Several workers write at the same time, and each sees what it must see of the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from durable_workflow_sqlite import (
    ClaimLostError,
    DuplicateExecutionError,
    ExecutionConflictError,
    ExecutionStatus,
    SerializationError,
    StepKind,
    StepStatus,
    WorkflowGuarantee,
)
from durable_workflow_sqlite.limits import Queue
from durable_workflow_sqlite.testing.contract_base import (
    NOON,
    ORDER,
    WORKFLOW,
    claimed,
    created,
    new_checkpoint,
    new_execution,
    new_signal,
    queued,
)

if TYPE_CHECKING:
    import psycopg

    from durable_workflow_sqlite.postgres.store import PostgresStore

    Open = Callable[[], PostgresStore]
    ByHand = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def held_back(by_hand: ByHand, statement: str) -> Generator[None]:
    """Somebody else has run a statement, and commits it after a while."""
    by_hand.execute("begin")
    by_hand.execute(statement.encode())
    timer = threading.Timer(0.2, lambda: by_hand.execute("commit"))
    timer.start()
    try:
        yield
    finally:
        timer.join()


async def test_a_takeover_that_is_not_committed_yet_counts(
    open_store: Open, schema: str, by_hand: ByHand
) -> None:
    async with open_store() as store:
        claim = await created(store, new_execution("e"))
        step = new_checkpoint("e", 0, status=StepStatus.INTENT)
        with held_back(by_hand, f"delete from {schema}.workflow_claims"):
            with pytest.raises(ClaimLostError):
                await store.begin_step(step, claim=claim)
        assert await store.load_checkpoints("e") == []


async def test_a_takeover_waits_for_a_write_that_is_not_committed_yet(
    open_store: Open, schema: str, by_hand: ByHand
) -> None:
    async with open_store() as store, open_store() as other:
        await created(store, new_execution("e"))
        await store.close()
        checked = f"select 1 from {schema}.workflow_claims for key share"
        with held_back(by_hand, checked):
            (abandoned,) = await other.release_claims_of_the_dead(3)
        assert abandoned.workflow_execution_id == "e"
        assert by_hand.info.transaction_status.name == "IDLE"


async def test_a_signal_that_comes_as_its_execution_is_released_wakes_it(
    open_store: Open, schema: str, by_hand: ByHand
) -> None:
    """Neither sees the other's write, and one of them waits for the other."""
    async with open_store() as store:
        guarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND
        claim = await created(store, new_execution("e", guarantee=guarantee))
        wait = new_checkpoint("e", 0, kind=StepKind.SIGNAL)
        await store.save(
            new_execution("e", status=ExecutionStatus.SUSPENDED, guarantee=guarantee),
            wait,
            claim=claim,
        )
        sent = (
            f"insert into {schema}.workflow_signals (workflow_execution_id, signal_name)"
            f" values ('e', '{wait.step_name}')"
        )
        with held_back(by_hand, sent):
            await store.release_claims([claim])
        execution = await store.load_execution("e")
        assert execution is not None
        assert execution.available_at is not None


async def test_what_another_is_about_to_claim_is_skipped(
    open_store: Open, schema: str, by_hand: ByHand
) -> None:
    async with open_store() as store:
        await store.save(WORKFLOW, queued("a", NOON), queued("b", NOON + timedelta(seconds=1)))
        locks = (
            f"select 1 from {schema}.workflow_executions where workflow_execution_id = 'a'"
            " for no key update"
        )
        with by_hand.transaction():
            by_hand.execute(locks.encode())
            claims = await store.claim_available(ORDER, 1, now=NOON + timedelta(hours=1))
        assert [one.workflow_execution_id for one in claims] == ["b"]


async def test_many_workers_claim_each_execution_once(open_store: Open) -> None:
    async with open_store() as first, open_store() as second, open_store() as third:
        stores = [first, second, third]
        ids = [f"e{number:03}" for number in range(30)]
        await first.save(WORKFLOW, *[queued(one, NOON) for one in ids])

        async def claim_all(store: PostgresStore) -> None:
            while len(all_found) < len(ids):
                claims = await store.claim_available(ORDER, 5, now=NOON + timedelta(hours=1))
                all_found.extend(one.workflow_execution_id for one in claims)

        all_found: list[str] = []
        await asyncio.gather(*map(claim_all, stores))
        assert sorted(all_found) == ids


async def test_no_more_of_a_queue_run_than_it_allows_however_many_claim(open_store: Open) -> None:
    async with open_store() as first, open_store() as second, open_store() as third:
        stores = [first, second, third]
        await first.declare_limits([Queue("mail", concurrency=4)])
        for number in range(20):
            await first.enqueue_execution(WORKFLOW, queued(f"e{number}", NOON, queue="mail"))
        now = NOON + timedelta(hours=1)
        for _ in range(5):
            await asyncio.gather(*(one.claim_available(ORDER, 3, now=now) for one in stores))
        running = await first.load_executions_by_status([ExecutionStatus.RUNNING])
        assert len(running) == 4


async def test_a_second_start_of_the_same_dedup_id_is_refused_also_at_the_same_time(
    open_store: Open,
) -> None:
    async with open_store() as first, open_store() as second:
        await first.save(WORKFLOW)
        stores = [first, second] * 10
        done = await asyncio.gather(
            *(
                store.enqueue_execution(WORKFLOW, queued(f"e{number}", NOON, dedup_id="one"))
                for number, store in enumerate(stores)
            ),
            return_exceptions=True,
        )
        assert done.count(True) == 1
        assert all(one is True or isinstance(one, DuplicateExecutionError) for one in done)


async def test_two_that_wait_for_each_other_are_both_written_in_the_end(open_store: Open) -> None:
    async with open_store() as first, open_store() as second:
        await first.save(WORKFLOW, new_execution("a"), new_execution("b"))
        for _ in range(4):
            await asyncio.gather(
                first.save(send=[new_signal("a", "go"), new_signal("b", "go")]),
                second.save(send=[new_signal("b", "go"), new_signal("a", "go")]),
            )
        assert len(await first.load_pending_signals("a")) == 8
        assert len(await first.load_pending_signals("b")) == 8


async def test_one_that_fails_takes_no_other_of_its_group_along(open_store: Open) -> None:
    async with open_store() as store:
        await store.save(WORKFLOW, new_execution("a"))
        claim = await claimed(store, "a")
        lost = await created(store, new_execution("b"))
        await store.release_claims([lost])
        done = await asyncio.gather(
            store.begin_step(new_checkpoint("a", 0, status=StepStatus.INTENT), claim=claim),
            store.begin_step(new_checkpoint("b", 0, status=StepStatus.INTENT), claim=lost),
            store.save(start=[_start("a")]),
            store.save(new_execution("c", input_data="[1\0]")),
            store.save(new_execution("d")),
            return_exceptions=True,
        )
        kinds = [type(one) for one in done]
        of_values = SerializationError
        none = type(None)
        assert kinds == [none, ClaimLostError, ExecutionConflictError, of_values, none]
        assert len(await store.load_checkpoints("a")) == 1
        assert await store.load_execution("d") is not None


async def test_a_signal_that_is_committed_late_is_found(
    open_store: Open, schema: str, by_hand: ByHand
) -> None:
    async with open_store() as store:
        await store.save(WORKFLOW, new_execution("a"), new_execution("b"))
        last = await store.load_last_signal_id()
        sent = (
            f"insert into {schema}.workflow_signals (workflow_execution_id, signal_name)"
            " values ('a', 'late')"
        )
        with held_back(by_hand, sent):
            await store.send_signal(new_signal("b", "go"))
            (arrived,) = await store.load_signals_after(last)
            assert arrived.signal_name == "go"
        (late,) = await store.load_signals_after(arrived.workflow_signal_id)
        assert late.signal_name == "late"
        assert await store.load_signals_after(arrived.workflow_signal_id) == []


def _start(one: str) -> Any:
    from durable_workflow_sqlite import NewExecution

    return NewExecution(workflow=WORKFLOW, execution=queued(one, NOON))
