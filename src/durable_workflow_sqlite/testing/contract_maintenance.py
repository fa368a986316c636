"""The store contract: deleting what is old, for a store that can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ClaimLostError,
    ExecutionStatus,
    Maintenance,
    Progress,
    SignalStatus,
    StreamItems,
    TimerStatus,
    WorkflowExecution,
    WorkflowPatch,
)
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    UNFINISHED,
    WORKFLOW,
    StoreContract,
    new_audit_entry,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    nothing_belongs_to,
    over_a_store,
    taken,
)


class MaintainedStore(CheckpointStore, Maintenance, Protocol):
    """A store that can also delete."""


class MaintenanceContract(StoreContract):
    """How records go. Subclass it beside `CheckpointStoreContract`."""

    async def open_store(self, path: Path) -> MaintainedStore:
        raise NotImplementedError("override open_store")

    @over_a_store
    async def test_deleting_an_execution_deletes_all_that_belongs_to_it(
        self, store: MaintainedStore
    ) -> None:
        claims = [
            await store.create_execution(WORKFLOW, new_execution(one), {"customer": "7"})
            for one in ("e", "other")
        ]
        await _give_everything(store, "e", "other")
        assert await store.delete_execution("e") is True
        assert await store.load_execution("e") is None
        await nothing_belongs_to(store, "e")
        with pytest.raises(ClaimLostError):
            await store.save(new_checkpoint("e", 1), claim=claims[0])

        await _has_everything(store, "other")
        assert await store.load_tags("other") == {"customer": "7"}
        await store.save(new_checkpoint("other", 1), claim=claims[1])
        assert await store.load_workflow("order:1") == WORKFLOW
        assert await store.delete_execution("e") is False
        assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
        await nothing_belongs_to(store, "e")

    @over_a_store
    async def test_completed_executions_are_deleted_by_age(self, store: MaintainedStore) -> None:
        everything = {
            f"{status} {minutes}": _aged(f"{status} {minutes}", status, minutes)
            for status in ExecutionStatus
            for minutes in (-1, 0, 1)
        }
        await store.save(*everything.values())
        await _give_everything(store, *everything)
        gone: set[str] = set()
        wanted = [ExecutionStatus.FAILED, ExecutionStatus.CANCELLED]
        a_day_later = NOON + timedelta(days=1)
        for before, statuses, more in (
            (NOON, None, {"COMPLETED -1"}),
            (NOON, wanted, {"FAILED -1", "CANCELLED -1"}),
            (a_day_later, FINAL, {f"{status} {n}" for status in FINAL for n in (0, 1)}),
            (a_day_later, [], set[str]()),
        ):
            some = () if statuses is None else (statuses,)
            assert await store.delete_completed_before(before, *some) == len(more)
            gone |= more
            assert set(await store.load_statuses(everything)) == set(everything) - gone
        for one in everything:
            if one in gone:
                await nothing_belongs_to(store, one)
            else:
                await _has_everything(store, one)

    @over_a_store
    async def test_what_is_not_finished_is_never_deleted_by_age(
        self, store: MaintainedStore
    ) -> None:
        await store.save(*(_aged(status, status, 0) for status in ExecutionStatus))
        for status in UNFINISHED:
            with pytest.raises(ValueError, match=status):
                await store.delete_completed_before(
                    NOON + MINUTE, [ExecutionStatus.COMPLETED, status]
                )
        assert len(await store.load_statuses(ExecutionStatus)) == len(ExecutionStatus)

    @over_a_store
    async def test_batches_delete_all_of_it(self, store: MaintainedStore) -> None:
        await store.save(
            new_execution("e"),
            *(_aged(f"e{number}", ExecutionStatus.COMPLETED, 0) for number in range(7)),
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
        assert await store.load_statuses(["e", *(f"e{n}" for n in range(7))]) == {
            "e": ExecutionStatus.PENDING
        }
        assert await store.load_signals("e") == []

    @over_a_store
    async def test_old_timers_and_signals_are_deleted_once_they_are_done(
        self, store: MaintainedStore
    ) -> None:
        await store.save(new_execution("e"))
        for minutes in (-1, 0):
            at = NOON + minutes * MINUTE
            await store.save(
                *(new_timer("e", f"{one} {minutes}", at, status=one) for one in TimerStatus),
                *(new_signal("e", "go", status=one, created_at=at) for one in SignalStatus),
            )
        for before, timers, left in ((NOON, 2, 5), (NOON + MINUTE, 2, 2)):
            assert await store.delete_old_timers(before) == timers
            pending = (await taken(store, "e")).pending_timers
            assert [timer.workflow_timer_id for timer in pending] == ["PENDING -1", "PENDING 0"]
            assert await store.delete_old_signals(before) == 3
            assert len(await store.load_signals("e")) == left
            assert len(await store.load_pending_signals("e")) == 2

    @over_a_store
    async def test_the_id_of_a_signal_is_never_used_again(self, store: MaintainedStore) -> None:
        await store.save(new_execution("e"))
        seen: list[int | None] = []
        for _ in range(3):
            await store.save(new_signal("e", "go", status=SignalStatus.DELIVERED))
            (saved,) = await store.load_signals("e")
            seen.append(saved.workflow_signal_id)
            assert await store.delete_old_signals(datetime.now(UTC) + MINUTE) == 1
        assert seen == sorted(set(seen) - {None})  # type: ignore[type-var]

    @over_a_store
    async def test_bad_arguments_of_a_deletion_are_refused_at_the_call(
        self, store: MaintainedStore
    ) -> None:
        ask: Any = store
        await store.save(
            _aged("e", ExecutionStatus.COMPLETED, 0),
            new_timer("e", "t", NOON, status=TimerStatus.FIRED),
        )
        later, naive = NOON + MINUTE, datetime(2100, 1, 1)  # noqa: DTZ001
        with pytest.raises(ValueError, match="workflow_execution_id"):
            await store.delete_execution("")
        for delete in (ask.delete_completed_before, ask.delete_old_timers, ask.delete_old_signals):
            for before, size, error in (
                (naive, 1, ValueError),
                ("2100-01-01", 1, TypeError),
                (later, 0, ValueError),
                (later, -1, ValueError),
                (later, True, TypeError),
                (later, 2.5, TypeError),
            ):
                with pytest.raises(error):
                    await delete(before, batch_size=size)
        assert await store.load_execution("e") is not None
        assert await store.delete_old_timers(later) == 1


def _aged(one: str, status: ExecutionStatus, minutes: int) -> WorkflowExecution:
    """One that was changed last so many minutes after noon."""
    changed = NOON + minutes * MINUTE
    return new_execution(one, status=status, created_at=NOON - 5 * MINUTE, updated_at=changed)


async def _give_everything(store: CheckpointStore, *ids: str) -> None:
    """A checkpoint, a timer that is done, a delivered signal, a patch, what a step told, an act."""
    for one in ids:
        await store.save(
            new_checkpoint(one, 0),
            new_timer(one, f"timer of {one}", NOON, status=TimerStatus.FIRED),
            new_signal(one, "go", status=SignalStatus.DELIVERED),
            WorkflowPatch(workflow_execution_id=one, patch_name="add-tax"),
            StreamItems(workflow_execution_id=one, step_index=0, step_name="say", items=("1",)),
            Progress(workflow_execution_id=one, done=1),
            new_audit_entry("look", one),
        )


async def _has_everything(store: CheckpointStore, one: str) -> None:
    assert len(await store.load_checkpoints(one)) == 1
    assert len(await store.load_signals(one)) == 1
    assert len((await taken(store, one)).patches) == 1
    assert len(await store.load_stream_items(one)) == 1
    assert len(await store.load_progress(one)) == 1
    assert len(await store.load_audit_log(one)) == 1
