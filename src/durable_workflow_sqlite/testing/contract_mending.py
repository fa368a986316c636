"""The store contract: what people do to executions, and what is known of that."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from durable_workflow_sqlite import (
    ChangeEntry,
    ChangeScope,
    CheckpointStore,
    ExecutionConflictError,
    ExecutionStatus,
    Pause,
    PauseScope,
    Queue,
    Schedule,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowClaim,
    WorkflowExecution,
)
from durable_workflow_sqlite.records import AMBIGUOUS, CUT_OFF, TIMED_OUT
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    claimed,
    created,
    execution_with_everything,
    new_audit_entry,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    over_a_store,
    over_workers,
    queued,
    taken,
)


class MendingContract(StoreContract):
    """Changes of an execution, what a person has dealt with, and the audit log."""

    @over_a_store
    async def test_the_log_of_what_is_no_execution_is_written_with_the_change_or_not_at_all(
        self, store: CheckpointStore
    ) -> None:
        async def acts(scope: ChangeScope, name: str) -> list[str]:
            return [one.act for one in await store.load_changes(scope, name)]

        def entry(scope: ChangeScope, name: str, act: str) -> ChangeEntry:
            return ChangeEntry(scope=scope, name=name, act=act, actor="kim", created_at=NOON)

        mail = (ChangeScope.QUEUE, "mail")
        await store.save_limit(Queue("mail", concurrency=2), entry(*mail, "set"), now=NOON)
        pause = Pause(scope=PauseScope.QUEUE, name="mail", paused_at=NOON, paused_by="kim")
        assert await store.begin_pause(pause, entry(*mail, "pause"))
        assert not await store.begin_pause(pause, entry(*mail, "again"))
        assert await store.end_pause(PauseScope.QUEUE, "mail", entry(*mail, "resume"))
        assert not await store.end_pause(PauseScope.QUEUE, "mail", entry(*mail, "again"))
        assert await store.load_changes(*mail) == [
            entry(*mail, act) for act in ("set", "pause", "resume")
        ]
        nightly = (ChangeScope.SCHEDULE, "nightly")
        schedule = Schedule(schedule_name="nightly", workflow_type="order", every_seconds=60)
        assert await store.save_schedule(schedule, entry(*nightly, "resume"), seen=None)
        assert not await store.save_schedule(schedule, entry(*nightly, "again"), seen=None)
        assert await store.delete_schedule("nightly", entry(*nightly, "delete"))
        assert not await store.delete_schedule("nightly", entry(*nightly, "again"))
        assert await acts(*nightly) == ["resume", "delete"]
        everything = entry(ChangeScope.ALL, "", "pause")
        await store.save(everything)
        assert await store.load_changes(ChangeScope.ALL) == [everything]
        assert await acts(ChangeScope.STEP, "mail") == []
        for wrong in ((ChangeScope.QUEUE, ""), (ChangeScope.ALL, "mail")):
            with pytest.raises(ValueError, match="name"):
                await store.load_changes(*wrong)
            with pytest.raises(ValueError, match="name"):
                entry(*wrong, "set")

    @over_a_store
    async def test_the_audit_log_keeps_what_people_did_in_order(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        first = new_audit_entry("retry", details='{"error": null}')
        second = new_audit_entry("cancel", actor="kim@desk", created_at=NOON - MINUTE)
        await store.save(first)
        await store.save(second, new_checkpoint("e", 0))
        assert await store.load_audit_log("e") == [first, second]
        assert await store.load_audit_log("f") == []

    @over_a_store
    async def test_what_waits_for_its_next_attempt_does_not_wait(
        self, store: CheckpointStore
    ) -> None:
        now, later = NOON + MINUTE, NOON + 60 * MINUTE
        await store.save(WORKFLOW)
        for name, status in (("e", ExecutionStatus.RUNNING), ("over", ExecutionStatus.FAILED)):
            await store.save(queued(name, None, status=status))
            tried = _failed(name, 0, due_at=later)
            await store.save(
                tried,
                msgspec.structs.replace(tried, attempt=2, due_at=None),
                _failed(name, 1, due_at=later, started_at=NOON),
                _failed(name, 2, due_at=NOON),
                new_checkpoint(name, 3, attempt=0, due_at=later),
                new_checkpoint(name, 4, kind=StepKind.SLEEP, due_at=later),
            )
        entry = new_audit_entry("retry")
        assert await store.hasten_attempts("e", entry, now=now) == 2
        due = [one.due_at for one in await store.load_checkpoints("e")]
        assert due == [later, None, now, NOON, now, later]
        assert [one.workflow_execution_id for one in await _claimed(store, now)] == ["e"]
        # Again, there is nothing; nor for what is over, or unknown.
        for name in ("e", "over", "unknown"):
            assert await store.hasten_attempts(name, new_audit_entry("retry"), now=now) == 0
        assert await store.load_audit_log("e") == [entry]
        # One alone, also when its time has come, and not once a later attempt is there.
        first, _, other, *_ = await store.load_checkpoints("e")
        await store.save(_failed("e", 2, due_at=later))
        assert await store.hasten_attempts("e", only=first, now=later) == 0
        assert await store.hasten_attempts("e", only=other, now=later) == 1
        due = [one.due_at for one in await store.load_checkpoints("e")]
        assert due == [later, None, now, later, now, later]
        await store.save(_failed("e", 2, due_at=NOON))
        # A worker has it: that is nobody else's matter.
        await store.save(_failed("e", 1, due_at=later, started_at=NOON))
        assert await store.hasten_attempts("e", now=now) == 1
        assert await _claimed(store, now) == []

    @over_a_store
    async def test_an_answer_is_kept_while_it_is_asked_for(self, store: CheckpointStore) -> None:
        await store.save(WORKFLOW)
        for name, status in (("e", ExecutionStatus.SUSPENDED), ("over", ExecutionStatus.FAILED)):
            await store.save(
                queued(name, None, status=status),
                new_checkpoint(name, 0, error_type=AMBIGUOUS, completed_at=NOON),
                new_checkpoint(name, 1, attempt=0, error_type=AMBIGUOUS, completed_at=NOON),
                _failed(name, 2, error_type=AMBIGUOUS, event=1),
                new_checkpoint(name, 3),
            )
        # It waits only for that: it is due when an answer comes.
        await store.put_into_queue(["e"], NOON)
        assert await store.claim_available([("order", 1)], 9, now=NOON + MINUTE) == []
        assert await store.hasten_attempts("e", new_audit_entry("retry"), now=NOON) == 0
        steps = {one.step_index: one for one in await store.load_checkpoints("e")}
        for index, number in ((0, 1), (1, 1), (2, 0), (3, 0)):
            answer = new_signal("e", "$resolved", created_at=NOON)
            entry = new_audit_entry("resolve")
            assert (
                await store.hasten_attempts("e", answer, entry, only=steps[index], now=NOON)
                == number
            )
        assert len(await store.load_pending_signals("e", "$resolved")) == 2
        assert len(await store.load_audit_log("e")) == 2
        assert list(steps.values()) == await store.load_checkpoints("e")
        assert [one.workflow_execution_id for one in await _claimed(store, NOON)] == ["e"]
        # Once it is answered, there is nothing to answer; nor for one that is over.
        await store.save(msgspec.structs.replace(steps[0], error_type=None, completed_at=None))
        assert await store.hasten_attempts("e", only=steps[0], now=NOON) == 0
        (asked, *_) = await store.load_checkpoints("over")
        assert await store.hasten_attempts("over", only=asked, now=NOON) == 0

    @over_a_store
    async def test_an_act_and_its_entry_are_one(self, store: CheckpointStore) -> None:
        await store.save(
            new_execution("blocked", blocked_reason="died", status=ExecutionStatus.RUNNING),
            new_execution("runs", status=ExecutionStatus.RUNNING),
        )
        assert await store.unblock_execution(
            "blocked", new_audit_entry("unblock", "blocked"), now=NOON
        )
        await store.send_signal(new_signal("runs", "$cancel"), new_audit_entry("cancel", "runs"))
        for one in ("blocked", "runs"):
            assert len(await store.load_audit_log(one)) == 1
        # What is not done is not noted.
        assert not await store.unblock_execution(
            "runs", new_audit_entry("unblock", "runs"), now=NOON
        )
        assert len(await store.load_audit_log("runs")) == 1

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
                _failed(one, 4, error_type=TIMED_OUT, event=3),
                _failed(one, 5, error_type=TIMED_OUT, due_at=NOON),
                _failed(one, 5, attempt=2, error_type="builtins:ValueError", event=4),
                _failed(one, 6, error_type=AMBIGUOUS, event=5),
                _failed(one, 7, error_type=AMBIGUOUS, event=6, input_data='{"answer":"failed"}'),
            )
            assert await store.acknowledge(one, new_audit_entry("acknowledge", one), now=NOON) == 4
            assert [found.status for found in await store.load_checkpoints(one)] == [
                StepStatus.COMPENSATED,
                StepStatus.COMPLETED,
                *[StepStatus.FAILED] * 8,
            ]
            assert await store.acknowledge(one, new_audit_entry("acknowledge", one), now=NOON) == 0
            assert len(await store.load_audit_log(one)) == 1

    @over_a_store
    async def test_what_is_not_over_has_nothing_to_acknowledge(
        self, store: CheckpointStore
    ) -> None:
        await store.save(
            new_execution("e", status=ExecutionStatus.COMPENSATING), _failed("e", 0, attempt=0)
        )
        assert await store.acknowledge("e", new_audit_entry("acknowledge"), now=NOON) == 0
        assert await store.load_audit_log("e") == []

    @over_a_store
    async def test_a_mended_execution_is_changed_in_one_transaction(
        self, store: CheckpointStore
    ) -> None:
        for before in (ExecutionStatus.FAILED, ExecutionStatus.RUNNING):
            one = f"e {before}"
            broken = execution_with_everything(one, status=before, is_paused=False)
            await store.save(
                broken,
                new_checkpoint(one, 0, status=StepStatus.COMPLETED, event=1),
                new_checkpoint(one, 1, status=StepStatus.COMPLETED, event=2),
                new_signal(one, "ok", status=SignalStatus.EXPIRED),
                new_signal(one, "$cancel", status=SignalStatus.EXPIRED),
            )
            seen = await taken(store, one)
            becomes = msgspec.structs.replace(
                _open(seen.execution), current_step=1, ttl_expires_at=None, last_event=None
            )
            entry = new_audit_entry("retry", one)
            assert await store.mend_execution(
                seen, becomes, new_checkpoint(one, 2), entry, forget=seen.checkpoints[1:], now=NOON
            )
            found = await taken(store, one)
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
        seen = await taken(store, "e")
        becomes = msgspec.structs.replace(
            seen.execution, status=ExecutionStatus.CANCELLED, error_type="a:B", updated_at=NOON
        )
        assert await store.mend_execution(seen, becomes, now=NOON)
        found = await taken(store, "e")
        assert found.execution == becomes
        assert found.pending_timers == []
        assert await store.load_pending_signals("e") == []
        assert await store.claim_execution("e") is None

    @over_a_store
    async def test_what_is_not_as_it_was_seen_or_is_claimed_is_not_mended(
        self, store: CheckpointStore
    ) -> None:
        await store.save(queued("e", NOON), new_checkpoint("e", 0))
        seen = await taken(store, "e")
        stale = (
            new_checkpoint("e", 0, status=StepStatus.COMPLETED, event=1),
            queued("e", NOON + MINUTE),
            new_timer("e", "t", NOON),
        )
        for change in stale:
            await store.save(change)
            now = await taken(store, "e")
            assert not await store.mend_execution(
                seen, _open(seen.execution), new_audit_entry("retry"), forget=seen.checkpoints
            )
            assert await taken(store, "e") == now
            seen = now
        await claimed(store, "e", NOON)
        seen = await taken(store, "e")
        with pytest.raises(ExecutionConflictError, match="worker"):
            await store.mend_execution(seen, _open(seen.execution), new_audit_entry("retry"))
        assert await taken(store, "e") == seen
        assert await store.load_audit_log("e") == []
        with pytest.raises(ValueError, match="is not"):
            await store.mend_execution(seen, new_execution("f"))

    @over_workers
    async def test_what_a_dead_worker_had_is_mended_without_its_claim(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        claim = await created(store, new_execution("e"))
        seen = await taken(other, "e")
        with pytest.raises(ExecutionConflictError, match="worker"):
            await other.mend_execution(seen, _open(seen.execution), now=NOON)
        await store.close()
        assert await other.mend_execution(seen, _open(seen.execution), now=NOON)
        assert await other.release_claims_of_the_dead(10) == []
        assert (await taken(other, "e")).execution.recovery_count == 0
        again = await claimed(other, "e")
        assert again.fencing_token > claim.fencing_token


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


def _failed(execution_id: str, step_index: int, **fields: object) -> StepCheckpoint:
    return new_checkpoint(
        execution_id,
        step_index,
        **{"status": StepStatus.FAILED, "started_at": NOON, **fields},  # type: ignore[arg-type]
    )


async def _claimed(store: CheckpointStore, now: datetime) -> list[WorkflowClaim]:
    workflows = [(WORKFLOW.workflow_type, WORKFLOW.version)]
    return await store.claim_available(workflows, 9, now=now)
