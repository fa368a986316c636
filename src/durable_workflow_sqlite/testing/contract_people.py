"""The store contract: what people say of executions, and what they do to them."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from durable_workflow_sqlite import (
    AuditEntry,
    CheckpointStore,
    ExecutionConflictError,
    ExecutionNotFoundError,
    ExecutionStatus,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TakenExecution,
    WorkflowClaim,
    WorkflowExecution,
)
from durable_workflow_sqlite.records import CUT_OFF
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    execution_with_everything,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    over_a_store,
    over_workers,
    queued,
)


class PeopleContract(StoreContract):
    """Tags, the audit log, and what a person has dealt with."""

    @over_a_store
    async def test_tags_come_back_as_they_were_given(self, store: CheckpointStore) -> None:
        tags = {"customer": "7", "größe": "L 'quoted' = \"x\""}
        assert await store.create_execution(WORKFLOW, new_execution("e"), tags) is not None
        assert await store.enqueue_execution(WORKFLOW, new_execution("f"), {"customer": "8"})
        assert await store.enqueue_execution(WORKFLOW, new_execution("g"))
        assert await store.load_tags("e") == tags
        assert await store.load_tags("f") == {"customer": "8"}
        assert await store.load_tags("g") == await store.load_tags("unknown") == {}

    @over_a_store
    async def test_a_worker_may_say_what_it_runs_again_and_again(
        self, store: CheckpointStore
    ) -> None:
        assert await store.load_served() == set()
        for workflows in ([("order", 1)], [("order", 1), ("order", 2)], []):
            await store.join(workflows, 5, NOON)
        assert await store.load_served() == {("order", 1), ("order", 2)}
        for wrong in ([("order", 0)], [("", 1)]):
            with pytest.raises(ValueError, match="a workflow's"):
                await store.join(wrong, 5)
        with pytest.raises(ValueError, match="max_concurrent"):
            await store.join([("order", 1)], 0)
        # It is not a claim: nothing is in its hands.
        assert await store.release_claims_of_the_dead(3) == []

    @over_a_store
    async def test_an_id_that_is_taken_keeps_its_tags(self, store: CheckpointStore) -> None:
        await store.create_execution(WORKFLOW, new_execution("e"), {"customer": "7"})
        assert await store.create_execution(WORKFLOW, new_execution("e"), {"customer": "8"}) is None
        assert not await store.enqueue_execution(WORKFLOW, new_execution("e"), {"other": "8"})
        assert await store.load_tags("e") == {"customer": "7"}

    @over_a_store
    async def test_what_is_no_tag_is_refused(self, store: CheckpointStore) -> None:
        wrong: tuple[dict[str, str], ...] = (
            {"": "7"},
            {"a=b": "7"},
            {"customer": ""},
            {"customer": " 7"},
            {"customer": 7},  # type: ignore[dict-item]
            {"x" * 257: "7"},
        )
        for tags in wrong:
            with pytest.raises((TypeError, ValueError), match="tag"):
                await store.create_execution(WORKFLOW, new_execution("e"), tags)
        assert await store.load_execution("e") is None

    @over_a_store
    async def test_the_audit_log_keeps_what_people_did_in_order(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        first = _entry("retry", details='{"error": null}')
        second = _entry("cancel", actor="kim@desk", created_at=NOON - MINUTE)
        await store.save(first)
        await store.save(second, new_checkpoint("e", 0))
        assert await store.load_audit_log("e") == [first, second]
        assert await store.load_audit_log("f") == []

    @over_a_store
    async def test_an_act_and_its_entry_are_one(self, store: CheckpointStore) -> None:
        await store.save(
            new_execution("failed", status=ExecutionStatus.FAILED),
            new_execution("blocked", blocked_reason="died", status=ExecutionStatus.RUNNING),
            new_execution("runs", status=ExecutionStatus.RUNNING),
        )
        await store.reopen_execution("failed", _entry("retry", "failed"), now=NOON)
        assert await store.unblock_execution("blocked", _entry("unblock", "blocked"), now=NOON)
        await store.send_signal(new_signal("runs", "$cancel"), _entry("cancel", "runs"))
        for one in ("failed", "blocked", "runs"):
            assert len(await store.load_audit_log(one)) == 1
        # What is not done is not noted.
        with pytest.raises(ExecutionConflictError):
            await store.reopen_execution("runs", _entry("retry", "runs"), now=NOON)
        assert not await store.unblock_execution("runs", _entry("unblock", "runs"), now=NOON)
        assert len(await store.load_audit_log("runs")) == 1

    @over_a_store
    async def test_what_is_deleted_takes_its_tags_and_its_log_along(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, new_execution("e"), {"customer": "7"})
        await store.save(_entry("retry"))
        assert await store.delete_execution("e")
        assert await store.load_tags("e") == {}
        assert await store.load_audit_log("e") == []

    @over_a_store
    async def test_a_person_acknowledges_what_a_final_execution_left(
        self, store: CheckpointStore
    ) -> None:
        for status in FINAL:
            one = f"e {status}"
            await store.save(
                new_execution(one, status=status),
                new_checkpoint(one, 0, status=StepStatus.COMPLETED, event=1),
                _failed(one, 0, attempt=0),
                _failed(one, 1, error_type=CUT_OFF),
                _failed(one, 2, error_type="builtins:ValueError", event=2),
                _failed(one, 3, error_type=CUT_OFF, kind=StepKind.SIGNAL),
            )
            assert await store.acknowledge(one, _entry("acknowledge", one), now=NOON) == 2
            assert [found.status for found in await store.load_checkpoints(one)] == [
                StepStatus.COMPENSATED,
                StepStatus.COMPLETED,
                StepStatus.FAILED,
                StepStatus.FAILED,
                StepStatus.FAILED,
            ]
            assert await store.acknowledge(one, _entry("acknowledge", one), now=NOON) == 0
            assert len(await store.load_audit_log(one)) == 1
            with pytest.raises(ExecutionConflictError):
                await store.reopen_execution(one, now=NOON)

    @over_a_store
    async def test_what_is_not_over_has_nothing_to_acknowledge(
        self, store: CheckpointStore
    ) -> None:
        await store.save(
            new_execution("e", status=ExecutionStatus.COMPENSATING), _failed("e", 0, attempt=0)
        )
        assert await store.acknowledge("e", _entry("acknowledge"), now=NOON) == 0
        assert await store.load_audit_log("e") == []

    @over_a_store
    async def test_a_mended_execution_is_changed_in_one_transaction(
        self, store: CheckpointStore
    ) -> None:
        for before in (ExecutionStatus.FAILED, ExecutionStatus.RUNNING):
            one = f"e {before}"
            broken = execution_with_everything(one, status=before)
            await store.save(
                broken,
                new_checkpoint(one, 0, status=StepStatus.COMPLETED, event=1),
                new_checkpoint(one, 1, status=StepStatus.COMPLETED, event=2),
                new_signal(one, "ok", status=SignalStatus.EXPIRED),
                new_signal(one, "$cancel", status=SignalStatus.EXPIRED),
            )
            seen = await _seen(store, one)
            becomes = msgspec.structs.replace(
                _open(seen.execution), current_step=1, ttl_expires_at=None, last_event=None
            )
            entry = _entry("retry", one)
            assert await store.mend_execution(
                seen, becomes, new_checkpoint(one, 2), entry, forget=seen.checkpoints[1:], now=NOON
            )
            found = await _seen(store, one)
            assert found.execution == msgspec.structs.replace(becomes, available_at=NOON)
            assert [found.step_index for found in found.checkpoints] == [0, 2]
            assert await store.load_audit_log(one) == [entry]
            was_over = before is ExecutionStatus.FAILED
            assert [signal.status for signal in await store.load_signals(one)] == [
                SignalStatus.PENDING if was_over else SignalStatus.EXPIRED,
                SignalStatus.EXPIRED,
            ]

    @over_a_store
    async def test_one_that_is_mended_to_its_end_rests(self, store: CheckpointStore) -> None:
        await store.save(
            new_execution("e"), new_timer("e", "t", NOON + MINUTE), new_signal("e", "go")
        )
        seen = await _seen(store, "e")
        becomes = msgspec.structs.replace(
            seen.execution, status=ExecutionStatus.CANCELLED, error_type="a:B", updated_at=NOON
        )
        assert await store.mend_execution(seen, becomes, now=NOON)
        found = await _seen(store, "e")
        assert found.execution == becomes
        assert found.pending_timers == []
        assert await store.load_pending_signals("e") == []
        assert await store.claim_execution("e") is None

    @over_a_store
    async def test_what_is_not_as_it_was_seen_or_is_claimed_is_not_mended(
        self, store: CheckpointStore
    ) -> None:
        await store.save(queued("e", NOON), new_checkpoint("e", 0))
        seen = await _seen(store, "e")
        stale = (
            new_checkpoint("e", 0, status=StepStatus.COMPLETED, event=1),
            queued("e", NOON + MINUTE),
            new_timer("e", "t", NOON),
        )
        for change in stale:
            await store.save(change)
            now = await _seen(store, "e")
            assert not await store.mend_execution(
                seen, _open(seen.execution), _entry("retry"), forget=seen.checkpoints
            )
            assert await _seen(store, "e") == now
            seen = now
        claim = await store.claim_execution("e", NOON)
        assert claim is not None
        seen = await _seen(store, "e")
        with pytest.raises(ExecutionConflictError, match=store.worker_id):
            await store.mend_execution(seen, _open(seen.execution), _entry("retry"))
        assert await _seen(store, "e") == seen
        assert await store.load_audit_log("e") == []
        with pytest.raises(ValueError, match="is not"):
            await store.mend_execution(seen, new_execution("f"))

    @over_workers
    async def test_what_a_dead_worker_had_is_mended_without_its_claim(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        claim = await store.create_execution(WORKFLOW, new_execution("e"))
        assert claim is not None
        seen = await _seen(other, "e")
        with pytest.raises(ExecutionConflictError, match=store.worker_id):
            await other.mend_execution(seen, _open(seen.execution), now=NOON)
        await store.close()
        assert await other.mend_execution(seen, _open(seen.execution), now=NOON)
        assert await other.release_claims_of_the_dead(10) == []
        assert (await _seen(other, "e")).execution.recovery_count == 0
        taken = await other.claim_execution("e")
        assert taken is not None
        assert taken.fencing_token > claim.fencing_token

    @over_a_store
    async def test_a_cancel_is_requested_once_and_only_of_what_can_be_cancelled(
        self, store: CheckpointStore
    ) -> None:
        for status in ExecutionStatus:
            entry = _entry("cancel", status)
            await store.save(new_execution(status, status=status))
            request = await store.request_cancel(status, entry, now=NOON)
            may_be = status not in (*FINAL, ExecutionStatus.COMPENSATING)
            assert (request is not None) is may_be
            pending = await store.load_pending_signals(status)
            assert pending == ([] if request is None else [request])
            if request is not None:
                assert (request.signal_name, request.created_at) == ("$cancel", NOON)
            assert len(await store.load_audit_log(status)) == may_be
            assert await store.request_cancel(status, entry, now=NOON) is None
            assert len(await store.load_audit_log(status)) == may_be
        with pytest.raises(ExecutionNotFoundError):
            await store.request_cancel("unknown", now=NOON)

    @over_a_store
    async def test_an_execution_that_is_opened_again_may_take_what_it_had_not(
        self, store: CheckpointStore
    ) -> None:
        await store.save(
            new_execution("e", status=ExecutionStatus.FAILED),
            new_signal("e", "ok", status=SignalStatus.EXPIRED),
            new_signal("e", "ok", status=SignalStatus.DELIVERED),
            new_signal("e", "$cancel", status=SignalStatus.EXPIRED),
        )
        await store.reopen_execution("e", now=NOON)
        assert [signal.status for signal in await store.load_signals("e")] == [
            SignalStatus.PENDING,
            SignalStatus.DELIVERED,
            SignalStatus.EXPIRED,
        ]

    @over_a_store
    async def test_what_is_saved_beside_a_new_execution_is_saved_with_it_or_not_at_all(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("old"))
        for is_new in (True, False):
            entries = (_entry("rerun", "old"), _entry("rerun", "new"))
            stored = await store.enqueue_execution(WORKFLOW, queued("new", NOON), None, *entries)
            assert stored is is_new
            for one in ("old", "new"):
                assert len(await store.load_audit_log(one)) == 1
        assert await store.load_workflows() == [WORKFLOW]

    @over_a_store
    async def test_what_waits_for_its_next_attempt_does_not_wait(
        self, store: CheckpointStore
    ) -> None:
        now, later = NOON + MINUTE, NOON + 60 * MINUTE
        await store.save_workflow(WORKFLOW)
        for name, status in (("e", ExecutionStatus.RUNNING), ("over", ExecutionStatus.FAILED)):
            await store.save_execution(queued(name, None, status=status))
            tried = _failed(name, 0, due_at=later)
            await store.save_checkpoints(
                [
                    tried,
                    msgspec.structs.replace(tried, attempt=2, due_at=None),
                    _failed(name, 1, due_at=later, started_at=NOON),
                    _failed(name, 2, due_at=NOON),
                    new_checkpoint(name, 3, attempt=0, due_at=later),
                    new_checkpoint(name, 4, kind=StepKind.SLEEP, due_at=later),
                ]
            )
        entry = _entry("retry")
        assert await store.hasten_attempts("e", entry, now=now) == 2
        due = [one.due_at for one in await store.load_checkpoints("e")]
        assert due == [later, None, now, NOON, now, later]
        assert [one.workflow_execution_id for one in await _claimed(store, now)] == ["e"]
        # Again, there is nothing; nor for what is over, or unknown.
        for name in ("e", "over", "unknown"):
            assert await store.hasten_attempts(name, _entry("retry", "e"), now=now) == 0
        assert await store.load_audit_log("e") == [entry]
        # One alone, also when its time has come, and not once a later attempt is there.
        first, _, other, *_ = await store.load_checkpoints("e")
        await store.save_checkpoint(_failed("e", 2, due_at=later))
        assert await store.hasten_attempts("e", only=first, now=later) == 0
        assert await store.hasten_attempts("e", only=other, now=later) == 1
        due = [one.due_at for one in await store.load_checkpoints("e")]
        assert due == [later, None, now, later, now, later]
        await store.save_checkpoint(_failed("e", 2, due_at=NOON))
        # A worker has it: that is nobody else's matter.
        await store.save_checkpoint(_failed("e", 1, due_at=later, started_at=NOON))
        assert await store.hasten_attempts("e", now=now) == 1
        assert await _claimed(store, now) == []


async def _claimed(store: CheckpointStore, now: datetime) -> list[WorkflowClaim]:
    workflows = [(WORKFLOW.workflow_type, WORKFLOW.version)]
    return await store.claim_available(workflows, 9, now=now)


async def _seen(store: CheckpointStore, execution_id: str) -> TakenExecution:
    seen = await store.take_execution(execution_id)
    assert seen is not None
    return seen


def _open(execution: WorkflowExecution) -> WorkflowExecution:
    return msgspec.structs.replace(
        execution,
        status=ExecutionStatus.PENDING,
        output_data=None,
        error_type=None,
        error_message=None,
        recovery_count=0,
        blocked_reason=None,
        trouble=None,
        available_at=None,
        updated_at=NOON + 2 * MINUTE,
    )


def _entry(
    act: str, execution_id: str = "e", *, actor: str = "ops", **fields: object
) -> AuditEntry:
    values: dict[str, object] = {"created_at": NOON, **fields}
    return AuditEntry(
        workflow_execution_id=execution_id,
        act=act,
        actor=actor,
        **values,  # type: ignore[arg-type]
    )


def _failed(execution_id: str, step_index: int, **fields: object) -> StepCheckpoint:
    return new_checkpoint(
        execution_id,
        step_index,
        **{"status": StepStatus.FAILED, "started_at": NOON, **fields},  # type: ignore[arg-type]
    )
