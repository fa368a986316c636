"""The store contract: schedules, and the executions that they start."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    DueSchedules,
    ExecutionStatus,
    NewExecution,
    Queue,
    QueueNotFoundError,
    Schedule,
    StoreError,
    WorkflowExecution,
)
from durable_workflow_sqlite.testing.contract_base import (
    MINUTE,
    NOON,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    has_news,
    loaded,
    new_audit_entry,
    new_execution,
    over_a_store,
    over_workers,
    queued,
)

DAY = timedelta(days=1)
changed = msgspec.structs.replace


def new_schedule(schedule_name: str, **fields: Any) -> Schedule:
    fields.setdefault("next_fire_at", NOON)
    return Schedule(
        schedule_name=schedule_name,
        workflow_type="order",
        cron="0 12 * * *",
        created_at=NOON - DAY,
        updated_at=NOON - DAY,
        **fields,
    )


def started(execution: WorkflowExecution) -> NewExecution:
    return NewExecution(workflow=WORKFLOW, execution=execution, tags={"schedule": "s"})


EVERYTHING = Schedule(
    schedule_name="everything",
    workflow_type="order",
    version=3,
    input_data='["a", 1]',
    every_seconds=60,
    tz="Europe/Berlin",
    overlap="cancel_other",
    missed="all",
    within_seconds=7,
    jitter_seconds=8,
    ends_at=NOON + DAY,
    priority=-9,
    ttl_seconds=10,
    tags='{"team":"a"}',
    queue="llm",
    queue_key="customer-7",
    next_fire_at=NOON,
    last_fired_at=NOON - MINUTE,
    last_execution_id="everything@x",
    last_skipped_at=NOON - 2 * MINUTE,
    buffered_at=NOON - 3 * MINUTE,
    paused_at=NOON - 4 * MINUTE,
    paused_by="kim",
    paused_reason="holidays",
    ended_at=NOON - 5 * MINUTE,
    trouble="no such zone",
    declared="{}",
    created_at=NOON - DAY,
    updated_at=NOON - MINUTE / 7,
)


class SchedulesContract(StoreContract):
    """A schedule changes only as it was seen, together with what it starts."""

    @over_a_store
    async def test_schedules_come_back_as_they_were_saved(self, store: CheckpointStore) -> None:
        assert await store.load_schedule("s") is None
        assert await store.load_schedules() == []
        plain = new_schedule("s")
        assert await store.save_schedule(plain, seen=None)
        await store.declare_limits([Queue("llm")])
        assert await store.save_schedule(EVERYTHING, seen=None)
        assert await store.load_schedule("s") == plain
        assert await store.load_schedule("everything") == EVERYTHING
        assert await store.load_schedules() == [EVERYTHING, plain]

    @over_a_store
    async def test_a_schedule_changes_only_as_it_was_seen(self, store: CheckpointStore) -> None:
        first = new_schedule("s")
        second = changed(first, next_fire_at=NOON + DAY, last_fired_at=NOON)
        new = started(queued("s@noon", NOON))
        assert not await store.save_schedule(second, seen=first, start=[new])
        assert await store.load_schedule("s") is None
        assert await store.save_schedule(first, seen=None)
        assert not await store.save_schedule(second, seen=None, start=[new])
        for seen in (second, changed(first, paused_reason="why"), changed(first, tags="{ }")):
            assert not await store.save_schedule(second, seen=seen, start=[new])
        assert await store.load_execution("s@noon") is None
        assert await store.load_schedule("s") == first
        assert await store.save_schedule(second, seen=first, start=[new])
        assert await loaded(store, "s@noon") == new.execution
        assert await store.load_tags("s@noon") == {"schedule": "s"}
        assert await store.load_schedule("s") == second

    @over_a_store
    async def test_the_time_of_its_creation_stays(self, store: CheckpointStore) -> None:
        first = new_schedule("s")
        await store.save_schedule(first, seen=None)
        await store.save_schedule(changed(first, created_at=NOON, version=2), seen=first)
        assert await store.load_schedule("s") == changed(first, version=2)

    @over_a_store
    async def test_an_id_that_is_taken_is_left_out(self, store: CheckpointStore) -> None:
        there = new_execution("s@noon", status=ExecutionStatus.COMPLETED)
        await store.save(there)
        schedule = new_schedule("s")
        both = [started(queued("s@noon", NOON)), started(queued("s@later", NOON))]
        entry = new_audit_entry("backfill", "s@later")
        assert await store.save_schedule(schedule, entry, seen=None, start=both)
        assert await loaded(store, "s@noon") == there
        assert await loaded(store, "s@later") == both[1].execution
        assert await store.load_audit_log("s@later") == [entry]
        assert await store.load_unfinished_of_schedule("s") == ["s@later"]

    @over_a_store
    async def test_a_save_is_all_or_nothing(self, store: CheckpointStore) -> None:
        schedule = new_schedule("s")
        with pytest.raises(StoreError):
            await store.save_schedule(
                schedule,
                new_audit_entry("trigger", "unknown"),
                seen=None,
                start=[started(queued("s@noon", NOON))],
            )
        assert await store.load_schedule("s") is None
        assert await store.load_execution("s@noon") is None
        with pytest.raises(ValueError, match="is not"):
            await store.save_schedule(schedule, seen=new_schedule("t"))

    @over_a_store
    async def test_what_is_due(self, store: CheckpointStore) -> None:
        nothing = DueSchedules(due=[], buffered=[], next_fire_at=None)
        assert await store.load_due_schedules(NOON) == nothing
        due = new_schedule("due")
        uncomputed = new_schedule("uncomputed", next_fire_at=None)
        later = new_schedule("later", next_fire_at=NOON + DAY)
        sooner = new_schedule("sooner", next_fire_at=NOON + MINUTE)
        buffered = new_schedule("buffered", next_fire_at=NOON + DAY, buffered_at=NOON)
        over = new_schedule("over", next_fire_at=None, ended_at=NOON, buffered_at=NOON)
        left_out = [
            new_schedule("ended", next_fire_at=None, ended_at=NOON),
            new_schedule("paused", next_fire_at=None, paused_at=NOON),
            new_schedule("paused and due", paused_at=NOON),
            new_schedule("paused and buffered", paused_at=NOON, buffered_at=NOON),
            new_schedule("in trouble", trouble="no such zone", buffered_at=NOON),
        ]
        for one in (due, uncomputed, later, sooner, buffered, over, *left_out):
            assert await store.save_schedule(one, seen=None)
        found = await store.load_due_schedules(NOON)
        assert sorted(found.due, key=_name) == [due, uncomputed]
        assert sorted(found.buffered, key=_name) == [buffered, over]
        assert found.next_fire_at == NOON + MINUTE
        found = await store.load_due_schedules(NOON + 2 * DAY)
        assert sorted(found.due, key=_name) == [buffered, due, later, sooner, uncomputed]
        assert found.next_fire_at is None

    @over_a_store
    async def test_which_executions_of_a_schedule_are_unfinished(
        self, store: CheckpointStore
    ) -> None:
        schedule = new_schedule("s")
        ids = [f"s@{status}" for status in ExecutionStatus]
        start = [started(queued(one, NOON)) for one in ids]
        assert await store.save_schedule(schedule, seen=None, start=start)
        assert await store.save_schedule(
            new_schedule("t"), seen=None, start=[started(queued("t@noon", NOON))]
        )
        await store.save(new_execution("s@by hand"))
        assert await store.load_unfinished_of_schedule("s") == sorted(ids)
        for status in ExecutionStatus:
            await store.save(new_execution(f"s@{status}", status=status))
        unfinished = [f"s@{status}" for status in ExecutionStatus if not status.is_terminal]
        assert await store.load_unfinished_of_schedule("s") == sorted(unfinished)
        assert await store.load_unfinished_of_schedule("unknown") == []

    @over_a_store
    async def test_its_queue_must_be_declared_unless_it_is_in_trouble(
        self, store: CheckpointStore
    ) -> None:
        schedule = new_schedule("s", queue="llm", queue_key="7")
        with pytest.raises(QueueNotFoundError):
            await store.save_schedule(schedule, seen=None)
        assert await store.load_schedules() == []
        stopped = changed(schedule, trouble="no such queue")
        assert await store.save_schedule(stopped, seen=None)
        with pytest.raises(QueueNotFoundError):
            await store.save_schedule(schedule, seen=stopped)
        await store.declare_limits([Queue("llm")])
        new = started(queued("s@noon", NOON, queue="llm", queue_key="7"))
        assert await store.save_schedule(schedule, seen=stopped, start=[new])
        assert await loaded(store, "s@noon") == new.execution

    @over_a_store
    async def test_a_schedule_is_deleted_without_its_executions(
        self, store: CheckpointStore
    ) -> None:
        start = [started(queued("s@noon", NOON))]
        assert await store.save_schedule(new_schedule("s"), seen=None, start=start)
        assert await store.delete_schedule("s")
        assert not await store.delete_schedule("s")
        assert await store.load_schedules() == []
        assert await store.load_unfinished_of_schedule("s") == ["s@noon"]

    @over_workers
    async def test_another_worker_sees_it_and_that_it_has_changed(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        counters = [store.change_counter(), other.change_counter()]
        schedule = new_schedule("s")
        assert await store.save_schedule(schedule, seen=None)
        assert await other.load_schedule("s") == schedule
        assert await has_news(store, counters[0])
        assert await has_news(other, counters[1])
        fired = changed(schedule, next_fire_at=NOON + DAY)
        assert await other.save_schedule(fired, seen=schedule)
        assert not await store.save_schedule(fired, seen=schedule)


def _name(schedule: Schedule) -> str:
    return schedule.schedule_name
