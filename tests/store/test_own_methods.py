"""What `SqliteCheckpointStore` offers beyond the roles: saving one record, and listing records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta, timezone
from typing import Any

import pytest

from durable_workflow_sqlite import (
    ExecutionStatus,
    SignalStatus,
    SqliteCheckpointStore,
    StoreError,
    TimerStatus,
    Workflow,
)
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    WORKFLOW,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    queued,
    without_ids,
)


def with_a_store(
    test: Callable[[SqliteCheckpointStore], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store:
            await store.save_workflow(WORKFLOW)
            await test(store)

    def run() -> None:
        asyncio.run(main())

    run.__name__ = test.__name__
    return run


@with_a_store
async def test_one_record_is_saved_as_any_mix_is(store: SqliteCheckpointStore) -> None:
    workflow = Workflow(workflow_id="x", workflow_type="pay", version=7, created_at=NOON)
    execution, timer = new_execution("e", workflow_id="x"), new_timer("e", "t", NOON)
    checkpoints = [new_checkpoint("e", index) for index in range(3)]
    await store.save_workflow(workflow)
    await store.save_execution(execution)
    await store.save_checkpoint(checkpoints[0])
    await store.save_checkpoints(checkpoints[1:])
    await store.save_checkpoints([])
    await store.save_timer(timer)
    signal = await store.save_signal(new_signal("e", "go", payload="1", created_at=NOON))
    assert await store.load_workflow("x") == workflow
    assert await store.load_execution("e") == execution
    assert without_ids(await store.load_checkpoints("e")) == checkpoints
    assert await store.load_timers("e") == await store.load_pending_timers() == [timer]
    assert await store.load_pending_signals("e") == [signal]
    again = new_signal("e", "go", created_at=NOON, id=signal.workflow_signal_id)
    assert await store.save_signal(again) == again
    assert await store.load_signals("e") == [again]
    heard = await store.save_signal(new_signal("e", "go", status=SignalStatus.DELIVERED))
    assert heard.workflow_signal_id is not None
    assert await store.load_signals("e") == [again, heard]
    with pytest.raises(StoreError):
        await store.save_signal(new_signal("unknown", "go"))


@with_a_store
async def test_a_signal_that_is_saved_wakes_its_execution(store: SqliteCheckpointStore) -> None:
    await store.save_execution(queued("e", None))
    before = store.change_counter()
    await store.save_signal(new_signal("e", "go", created_at=NOON))
    assert store.change_counter() != before
    assert await store.load_next_available_at([("order", 1)]) == NOON


@with_a_store
async def test_executions_come_by_status_in_the_order_of_creation(
    store: SqliteCheckpointStore,
) -> None:
    for minutes, status in ((3, "RUNNING"), (1, "RUNNING"), (2, "FAILED"), (0, "PENDING")):
        await store.save_execution(
            new_execution(
                f"at {minutes}",
                status=ExecutionStatus(status),
                created_at=NOON + minutes * MINUTE,
                updated_at=NOON,
            )
        )

    async def ids(*statuses: ExecutionStatus) -> list[str]:
        found = await store.load_executions_by_status(statuses)
        return [one.workflow_execution_id for one in found]

    failed, running = ExecutionStatus.FAILED, ExecutionStatus.RUNNING
    assert await ids(running) == await ids(running, running) == ["at 1", "at 3"]
    assert await ids(failed, running) == ["at 1", "at 2", "at 3"]
    assert await ids(*ExecutionStatus) == ["at 0", "at 1", "at 2", "at 3"]
    assert await ids(ExecutionStatus.COMPLETED) == await ids() == []


@with_a_store
async def test_timers_come_by_deadline(store: SqliteCheckpointStore) -> None:
    await store.save(new_execution("e"), new_execution("f"))
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-8)))
    timers = [
        new_timer("e", "z", NOON - MINUTE),
        new_timer("f", "other", elsewhere),
        new_timer("e", "y", NOON + timedelta(microseconds=1)),
        new_timer("e", "a", NOON + MINUTE, status=TimerStatus.FIRED),
        new_timer("e", "b", NOON + 2 * MINUTE, status=TimerStatus.CANCELLED),
        new_timer("e", "x", NOON + 3 * MINUTE),
    ]
    for timer in reversed(timers):
        await store.save_timer(timer)
    assert await store.load_pending_timers() == [timers[0], timers[1], timers[2], timers[5]]
    assert await store.load_timers("e") == [timers[0], *timers[2:]]
    assert await store.load_timers("unknown") == []


@with_a_store
async def test_the_timers_of_a_final_execution_are_cancelled(store: SqliteCheckpointStore) -> None:
    for status in FINAL:
        await store.save(
            new_execution(status),
            new_timer(status, f"{status} waits", NOON),
            new_timer(status, f"{status} fired", NOON + MINUTE, status=TimerStatus.FIRED),
        )
        await store.save_execution(new_execution(status, status=status))
        assert [timer.status for timer in await store.load_timers(status)] == [
            TimerStatus.CANCELLED,
            TimerStatus.FIRED,
        ]
    assert await store.load_pending_timers() == []


@with_a_store
async def test_bad_arguments_are_refused_at_the_call(store: SqliteCheckpointStore) -> None:
    ask: Any = store
    with pytest.raises(TypeError):
        await ask.save_execution({"workflow_execution_id": "x"})
    with pytest.raises(TypeError):
        await ask.load_timers(7)
    with pytest.raises(ValueError, match=r"\$cancle"):
        await store.save_signal(new_signal("e", "$cancle"))
    with pytest.raises(ValueError, match="UNKNOWN"):
        await ask.load_executions_by_status(["UNKNOWN"])


@with_a_store
async def test_a_closed_store_refuses_everything(store: SqliteCheckpointStore) -> None:
    await store.close()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.save_workflow(WORKFLOW),
        lambda: store.save_execution(new_execution("f")),
        lambda: store.save_checkpoint(new_checkpoint("e", 0)),
        lambda: store.save_checkpoints([new_checkpoint("e", 0)]),
        lambda: store.save_timer(new_timer("e", "t", NOON)),
        lambda: store.save_signal(new_signal("e", "go")),
        lambda: store.load_executions_by_status(FINAL),
        store.load_pending_timers,
        lambda: store.load_timers("e"),
        lambda: store.delete_execution("e"),
        lambda: store.delete_completed_before(NOON),
        lambda: store.delete_finished(["e"], NOON),
        lambda: store.delete_old_timers(NOON),
        lambda: store.delete_old_signals(NOON),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="closed"):
            await call()
