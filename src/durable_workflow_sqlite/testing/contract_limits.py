"""The store contract: deleting what is old, refusing what is bad, and closing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ClaimLostError,
    ExecutionStatus,
    Record,
    SignalStatus,
    StoreError,
    TimerStatus,
    WorkflowClaim,
)
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    UNFINISHED,
    WORKFLOW,
    StoreContract,
    checkpoint_with_everything,
    execution_with_everything,
    give_it_everything,
    has_everything,
    ids,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    nothing_belongs_to,
    over_a_store,
)

_NAIVE = datetime(2024, 2, 29, 12)  # noqa: DTZ001
_EXECUTION = new_execution("e")
_CHECKPOINT = new_checkpoint("e", 0)
_TIMER = new_timer("e", "t", NOON)
_SIGNAL = new_signal("e", "go")

BAD_IDENTIFIERS = (
    "",
    " padded",
    "padded\n",
    "\u00a0padded",
    "x" * 257,
    "bell\x07",
    "delete\x7f",
    "next\u0085line",
    "half \ud800 a pair",
)
IDENTIFIERS: list[tuple[Record, str]] = [
    (WORKFLOW, "workflow_id"),
    (WORKFLOW, "workflow_type"),
    (_EXECUTION, "workflow_execution_id"),
    (_EXECUTION, "workflow_id"),
    (_CHECKPOINT, "workflow_execution_id"),
    (_CHECKPOINT, "step_name"),
    (_TIMER, "workflow_execution_id"),
    (_TIMER, "step_name"),
    (_SIGNAL, "workflow_execution_id"),
    (_SIGNAL, "signal_name"),
]
BAD_FIELDS: list[tuple[Record, str, tuple[Any, ...], type[Exception]]] = [
    (_CHECKPOINT, "step_index", (-1, 2**63), ValueError),
    (_CHECKPOINT, "step_index", (True, 1.0, "1", None), TypeError),
    (_CHECKPOINT, "attempt", (-1,), ValueError),
    (_CHECKPOINT, "attempt", (False, None), TypeError),
    (_CHECKPOINT, "status", ("INTENT", TimerStatus.FIRED, None), TypeError),
    (_CHECKPOINT, "output_data", ({"a": 1}, b"1"), TypeError),
    (_CHECKPOINT, "output_data", ("\udc00",), ValueError),
    *(
        (_CHECKPOINT, one, (_NAIVE,), ValueError)
        for one in ("started_at", "completed_at", "due_at")
    ),
    (_CHECKPOINT, "event", (0, -1, 2**63), ValueError),
    (_CHECKPOINT, "event", (True, 1.0, "1"), TypeError),
    (_EXECUTION, "status", ("RUNNING", None), TypeError),
    (_EXECUTION, "current_step", (-1,), ValueError),
    (_EXECUTION, "ttl_expires_at", (_NAIVE,), ValueError),
    (_EXECUTION, "last_event", (-1, 2**63), ValueError),
    (_EXECUTION, "last_event", (False, "1"), TypeError),
    (_EXECUTION, "started_at", (_NAIVE,), ValueError),
    (_EXECUTION, "started_at", ("2024-02-29T12:00:00Z",), TypeError),
    (_EXECUTION, "created_at", (_NAIVE,), ValueError),
    (_EXECUTION, "updated_at", ("2024-02-29T12:00:00Z", 1709208000, None), TypeError),
    (WORKFLOW, "version", (0, -1), ValueError),
    (WORKFLOW, "version", (True, "1"), TypeError),
    (WORKFLOW, "created_at", (_NAIVE,), ValueError),
    (_TIMER, "workflow_timer_id", ("",), ValueError),
    (_TIMER, "fire_at", (_NAIVE,), ValueError),
    (_TIMER, "fire_at", (None, 12), TypeError),
    (_SIGNAL, "created_at", (_NAIVE,), ValueError),
    (_SIGNAL, "payload", (b"1", 1), TypeError),
    (_SIGNAL, "workflow_signal_id", (0, -1), ValueError),
]


class LimitsContract(StoreContract):
    """How records go, and what is refused."""

    # Retention

    @over_a_store
    async def test_deleting_an_execution_deletes_all_that_belongs_to_it(
        self, store: CheckpointStore
    ) -> None:
        claims: list[WorkflowClaim | None] = []
        for one in ("e", "other"):
            claims.append(await store.create_execution(WORKFLOW, new_execution(one)))
            await give_it_everything(store, one)
        assert await store.delete_execution("e") is True
        assert await store.load_execution("e") is None
        await nothing_belongs_to(store, "e")
        with pytest.raises(ClaimLostError):
            await store.save(new_checkpoint("e", 1), claim=claims[0])

        await has_everything(store, "other")
        await store.save(new_checkpoint("other", 1), claim=claims[1])
        assert await store.load_workflow("order:1") == WORKFLOW
        assert await store.delete_execution("e") is False
        assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
        await nothing_belongs_to(store, "e")

    @over_a_store
    async def test_completed_executions_are_deleted_by_age(self, store: CheckpointStore) -> None:
        for status in ExecutionStatus:
            for minutes in (-1, 0, 1):
                await give_it_everything(
                    store,
                    f"{status} {minutes}",
                    new_execution(
                        f"{status} {minutes}",
                        status=status,
                        created_at=NOON - 5 * MINUTE,
                        updated_at=NOON + minutes * MINUTE,
                    ),
                )
        everything = set(await ids(store))

        assert await store.delete_completed_before(NOON) == 1
        gone = {"COMPLETED -1"}
        assert set(await ids(store)) == everything - gone

        wanted = [ExecutionStatus.FAILED, ExecutionStatus.CANCELLED]
        assert await store.delete_completed_before(NOON, wanted) == 2
        gone |= {"FAILED -1", "CANCELLED -1"}
        assert set(await ids(store)) == everything - gone

        assert await store.delete_completed_before(NOON + timedelta(days=1), FINAL) == 6
        gone |= {f"{status} {minutes}" for status in FINAL for minutes in (0, 1)}
        assert set(await ids(store)) == everything - gone
        for one in gone:
            await nothing_belongs_to(store, one)
        for one in everything - gone:
            await has_everything(store, one)

    @over_a_store
    async def test_what_is_not_finished_is_never_deleted_by_age(
        self, store: CheckpointStore
    ) -> None:
        for status in ExecutionStatus:
            await store.save_execution(new_execution(status, status=status, updated_at=NOON))
        for status in UNFINISHED:
            with pytest.raises(ValueError, match=status):
                await store.delete_completed_before(
                    NOON + MINUTE, [ExecutionStatus.COMPLETED, status]
                )
        assert await store.delete_completed_before(NOON + MINUTE, []) == 0
        assert len(await ids(store)) == len(ExecutionStatus)

    @over_a_store
    async def test_batches_delete_all_of_it(self, store: CheckpointStore) -> None:
        await store.save(
            new_execution("e"),
            *(
                new_execution(str(number), status=ExecutionStatus.COMPLETED, updated_at=NOON)
                for number in range(7)
            ),
            *(new_timer("e", str(n), NOON, status=TimerStatus.FIRED) for n in range(7)),
            *(
                new_signal("e", "go", status=SignalStatus.DELIVERED, created_at=NOON)
                for _ in range(7)
            ),
        )
        later = NOON + MINUTE
        assert await store.delete_completed_before(later, batch_size=3) == 7
        assert await store.delete_old_timers(later, batch_size=3) == 7
        assert await store.delete_old_signals(later, batch_size=7) == 7
        assert await ids(store) == ["e"]
        assert await store.load_timers("e") == []

    @over_a_store
    async def test_old_timers_are_deleted_once_they_are_done(self, store: CheckpointStore) -> None:
        await store.save(
            new_execution("e"),
            *(
                new_timer("e", f"{status} {minutes}", NOON + minutes * MINUTE, status=status)
                for minutes in (-1, 0)
                for status in TimerStatus
            ),
        )
        assert await store.delete_old_timers(NOON) == 2
        assert [timer.workflow_timer_id for timer in await store.load_timers("e")] == [
            "PENDING -1",
            "CANCELLED 0",
            "FIRED 0",
            "PENDING 0",
        ]

    @over_a_store
    async def test_old_signals_are_deleted_once_they_are_done(self, store: CheckpointStore) -> None:
        await store.save_execution(new_execution("e"))
        for status in SignalStatus:
            for minutes in (-1, 0):
                created_at = NOON + minutes * MINUTE
                await store.save_signal(new_signal("e", "go", status=status, created_at=created_at))
        assert await store.delete_old_signals(NOON) == 3
        assert len(await store.load_pending_signals("e")) == 2
        assert await store.delete_old_signals(NOON + MINUTE) == 3
        assert len(await store.load_pending_signals("e")) == 2

    # Bad arguments

    def test_a_record_is_frozen_and_compares_by_value(self) -> None:
        for make in (
            lambda: execution_with_everything("e"),
            lambda: checkpoint_with_everything("e", 0),
            lambda: new_timer("e", "t", NOON),
            lambda: new_signal("e", "go", created_at=NOON),
        ):
            record: Any = make()
            assert record == make()
            with pytest.raises(AttributeError):
                record.workflow_execution_id = "f"
            assert record == make()
        assert new_timer("e", "t", NOON) != new_timer("e", "t", NOON + MINUTE)

    def test_bad_fields_are_refused_when_a_record_is_made(self) -> None:
        for record, field, values, error in BAD_FIELDS:
            for value in values:
                with pytest.raises(error, match=field):
                    _with(record, field, value)

    def test_identifiers_are_neither_empty_nor_padded_nor_long_nor_unprintable(self) -> None:
        for record, field in IDENTIFIERS:
            for good in ("x" * 256, "in between", "Größe 世界 \U0001f680"):
                assert getattr(_with(record, field, good), field) == good
            for bad in BAD_IDENTIFIERS:
                with pytest.raises(ValueError, match=field):
                    _with(record, field, bad)
            for other in (None, 7, b"bytes"):
                with pytest.raises(TypeError, match=field):
                    _with(record, field, other)

    @over_a_store
    async def test_bad_arguments_are_refused_at_the_call(self, store: CheckpointStore) -> None:
        ask: Any = store
        await store.save(
            new_execution("e", status=ExecutionStatus.COMPLETED, updated_at=NOON),
            new_timer("e", "t", NOON, status=TimerStatus.FIRED),
        )
        naive = datetime(2100, 1, 1)  # noqa: DTZ001
        later = NOON + MINUTE
        calls: list[tuple[Callable[[], Awaitable[object]], type[Exception]]] = [
            (lambda: ask.save("no record"), TypeError),
            (lambda: ask.save(None), TypeError),
            (lambda: ask.save_execution({"workflow_execution_id": "x"}), TypeError),
            (lambda: ask.load_workflow(""), ValueError),
            (lambda: ask.load_execution(""), ValueError),
            (lambda: ask.load_execution(None), TypeError),
            (lambda: ask.load_checkpoints(" e"), ValueError),
            (lambda: ask.load_timers(7), TypeError),
            (lambda: ask.take_execution(""), ValueError),
            (lambda: ask.load_pending_signals("e\n"), ValueError),
            (lambda: ask.load_next_signals("", ["go"]), ValueError),
            (lambda: ask.load_open_waits("e", ""), ValueError),
            (lambda: ask.save_signal(new_signal("e", "$cancle")), ValueError),
            (lambda: ask.send_signal(new_signal("e", "$CANCEL")), ValueError),
            (lambda: ask.claim_execution(""), ValueError),
            (lambda: ask.delete_execution(""), ValueError),
            (lambda: ask.load_executions_by_status(["UNKNOWN"]), ValueError),
            (lambda: ask.delete_completed_before(naive), ValueError),
            (lambda: ask.delete_completed_before("2100-01-01"), TypeError),
            (lambda: ask.delete_completed_before(later, batch_size=0), ValueError),
            (lambda: ask.delete_completed_before(later, batch_size=True), TypeError),
            (lambda: ask.delete_old_timers(naive), ValueError),
            (lambda: ask.delete_old_timers(later, batch_size=-1), ValueError),
            (lambda: ask.delete_old_signals(naive), ValueError),
            (lambda: ask.delete_old_signals(later, batch_size=2.5), TypeError),
        ]
        for call, error in calls:
            with pytest.raises(error):
                await call()
        assert await ids(store) == ["e"]
        assert len(await store.load_timers("e")) == 1

    # Closing

    @over_a_store
    async def test_closing_twice_is_harmless(self, store: CheckpointStore) -> None:
        await store.close()
        await store.close()

    @over_a_store
    async def test_a_closed_store_refuses_everything(self, store: CheckpointStore) -> None:
        claim = await store.create_execution(WORKFLOW, new_execution("e"))
        assert claim is not None
        await store.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.save(WORKFLOW),
            lambda: store.save(new_checkpoint("e", 0), claim=claim),
            lambda: store.save_workflow(WORKFLOW),
            lambda: store.load_workflow("order:1"),
            lambda: store.save_execution(new_execution("f")),
            lambda: store.load_execution("e"),
            lambda: store.load_executions_by_status(FINAL),
            lambda: store.save_checkpoint(new_checkpoint("e", 0)),
            lambda: store.save_checkpoints([new_checkpoint("e", 0)]),
            lambda: store.load_checkpoints("e"),
            lambda: store.take_execution("e"),
            lambda: store.save_timer(new_timer("e", "t", NOON)),
            store.load_pending_timers,
            lambda: store.load_timers("e"),
            lambda: store.save_signal(new_signal("e", "go")),
            lambda: store.send_signal(new_signal("e", "go")),
            lambda: store.load_pending_signals("e"),
            lambda: store.load_next_signals("e", ["go"]),
            lambda: store.load_open_waits("e", "go"),
            lambda: store.load_signals_after(0),
            lambda: store.load_statuses(["e"]),
            lambda: store.create_execution(WORKFLOW, new_execution("f")),
            lambda: store.claim_execution("e"),
            lambda: store.release_claims([claim]),
            lambda: store.release_claims_of_the_dead(0),
            lambda: store.enqueue_execution(WORKFLOW, new_execution("f")),
            lambda: store.claim_available([("order", 1)], 1),
            lambda: store.load_next_available_at([("order", 1)]),
            lambda: store.put_into_queue(["e"]),
            lambda: store.put_back(new_execution("e")),
            store.load_unqueued_executions,
            lambda: store.load_unregistered([], 9),
            store.load_blocked,
            lambda: store.unblock_execution("e"),
            lambda: store.reopen_execution("e"),
            lambda: store.delete_execution("e"),
            lambda: store.delete_completed_before(NOON),
            lambda: store.delete_old_timers(NOON),
            lambda: store.delete_old_signals(NOON),
        ]
        for call in calls:
            with pytest.raises(StoreError, match="closed"):
                await call()


def _with(record: Record, field: str, value: Any) -> Record:
    fields: dict[str, Any] = {name: getattr(record, name) for name in record.__struct_fields__}
    fields[field] = value
    return type(record)(**fields)
