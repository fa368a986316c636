"""The store contract: which executions a worker may have died of, and who claims these."""

from __future__ import annotations

from datetime import datetime, timedelta

from durable_workflow_sqlite import (
    CheckpointStore,
    ExecutionStatus,
    StepKind,
    StepStatus,
    WorkflowClaim,
    WorkflowGuarantee,
)
from durable_workflow_sqlite.records import Record
from durable_workflow_sqlite.testing.contract_base import (
    MINUTE,
    NOON,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    claimed_ids,
    new_checkpoint,
    new_execution,
    over_a_store,
    over_workers,
    queued,
)

ORDER = [("order", 1)]


class SuspectsContract(StoreContract):
    """What is counted when a worker dies, and what follows from the count."""

    @over_workers
    async def test_an_execution_that_kills_its_workers_is_blocked(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        await store.enqueue_execution(WORKFLOW, queued("e", NOON))
        await store.save_execution(
            queued("waits", None, status=ExecutionStatus.SUSPENDED, recovery_count=9)
        )
        await store.save_checkpoint(new_checkpoint("waits", 0, kind=StepKind.SIGNAL))
        for deaths in range(1, 4):
            worker = await open_another()
            assert claimed_ids(await worker.claim_available(ORDER, 9, now=NOON)) == ["e"]
            claim = await worker.claim_execution("waits")
            await worker.save(
                queued("waits", None, status=ExecutionStatus.SUSPENDED, recovery_count=9),
                claim=claim,
            )
            await worker.close()
            found = await store.release_claims_of_the_dead(2, NOON)
            reasons = {one.workflow_execution_id: one.blocked_reason for one in found}
            assert reasons.pop("waits") is None
            assert (reasons["e"] is not None) == (deaths == 3)
            execution = await store.load_execution("e")
            assert execution is not None
            assert execution.recovery_count == deaths
            if deaths == 3:
                assert "died 3 times" in str(execution.blocked_reason)
                assert execution.available_at is None
        assert await store.load_blocked() == ["e"]
        assert await store.claim_available(ORDER, 9, now=NOON) == []
        assert await store.unblock_execution("e", now=NOON)
        (claim_again,) = await store.claim_available(ORDER, 9, now=NOON)
        assert claim_again.workflow_execution_id == "e"

    @over_workers
    async def test_what_only_waited_is_no_suspect_of_its_workers_death(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        """Its last attempt failed in this life, or the life has written its row at this wait."""
        failed = new_checkpoint(
            "e", 0, status=StepStatus.FAILED, started_at=NOON, due_at=NOON + MINUTE
        )
        undone = new_checkpoint("e", 1, attempt=0, started_at=NOON, due_at=NOON + MINUTE)
        retried = new_checkpoint("e", 0, attempt=2, started_at=NOON + MINUTE)
        undone_again = new_checkpoint("e", 1, attempt=0, started_at=NOON + MINUTE)
        in_another_branch = new_checkpoint("e", 0, branch="b", started_at=NOON)
        waits = new_checkpoint("e", 3, kind=StepKind.SIGNAL, started_at=NOON)
        row = new_execution(
            "e",
            status=ExecutionStatus.RUNNING,
            guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
            updated_at=NOON + MINUTE,
        )
        cases: list[tuple[datetime, tuple[Record, ...], bool]] = [
            (NOON, (), True),
            (NOON, (waits,), True),
            (NOON, (failed,), False),
            (NOON, (failed, waits), False),
            (NOON, (undone,), False),
            (NOON, (failed, in_another_branch), True),
            (NOON, (failed, retried), True),
            (NOON, (undone, undone_again), True),
            (NOON + timedelta(seconds=1), (failed,), True),
            (NOON + timedelta(seconds=1), (failed, row), False),
            (NOON + timedelta(seconds=1), (failed, row, retried), True),
        ]
        for claimed_at, records, is_blamed in cases:
            await store.enqueue_execution(WORKFLOW, queued("e", NOON))
            worker = await open_another()
            claim = await worker.claim_execution("e", claimed_at)
            for record in records:
                await worker.save(record, claim=claim)
            await worker.close()
            await store.release_claims_of_the_dead(9, NOON)
            execution = await store.load_execution("e")
            assert execution is not None
            assert execution.recovery_count == is_blamed, (claimed_at, records)
            await store.delete_execution("e")

    @over_workers
    async def test_a_worker_that_was_told_to_stop_did_not_die_of_what_it_had(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        worker = await open_another()
        claims: list[WorkflowClaim] = []
        for one in ("e", "f"):
            claim = await worker.create_execution(WORKFLOW, queued(one, NOON))
            assert claim is not None
            claims.append(claim)
        await worker.mark_as_stopping(claims[:1])
        await worker.mark_as_stopping([])
        await worker.save(new_checkpoint("e", 0), claim=claims[0])
        assert await store.release_claims_of_the_dead(0) == []
        assert await store.claim_execution("e") is None
        await worker.close()
        found = await store.release_claims_of_the_dead(0, NOON)
        reasons = {one.workflow_execution_id: one.blocked_reason for one in found}
        assert reasons.pop("e") is None
        assert "died 1 times" in str(reasons.pop("f"))
        assert not reasons
        (again,) = await store.claim_available(ORDER, 9, now=NOON)
        execution = await store.load_execution(again.workflow_execution_id)
        assert execution is not None
        assert (execution.workflow_execution_id, execution.recovery_count) == ("e", 0)

    @over_workers
    async def test_beside_suspects_the_others_are_not_blamed(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        counts = {"new": 0, "once": 1, "suspect": 2, "suspect, too": 3}

        async def die_with(*ids: str) -> dict[str, int]:
            worker = await open_another()
            for one in ids:
                await worker.claim_execution(one, NOON)
            await worker.close()
            await store.release_claims_of_the_dead(9, NOON, suspect_at=2)
            found = await store.load_executions_by_status(ExecutionStatus)
            return {one.workflow_execution_id: one.recovery_count for one in found}

        for one, count in counts.items():
            await store.enqueue_execution(WORKFLOW, queued(one, NOON, recovery_count=count))
        assert await die_with(*counts) == counts | {"suspect": 3, "suspect, too": 4}
        assert await die_with("new", "once") == {
            "new": 1, "once": 2, "suspect": 3, "suspect, too": 4,
        }  # fmt: skip

    @over_a_store
    async def test_one_suspect_is_claimed_at_most(self, store: CheckpointStore) -> None:
        """And those behind the others are not held up by them."""
        for number in range(6):
            await store.enqueue_execution(
                WORKFLOW, queued(f"s{number}", NOON + number * MINUTE, recovery_count=number + 3)
            )
        for number in range(3):
            later = NOON + (10 + number) * MINUTE
            await store.enqueue_execution(WORKFLOW, queued(f"e{number}", later, recovery_count=2))
        await store.enqueue_execution(WORKFLOW, queued("urgent", NOON, priority=1))
        now = NOON + 60 * MINUTE

        async def claim(limit: int, *, takes_suspect: bool = True) -> list[str]:
            return claimed_ids(
                await store.claim_available(
                    ORDER, limit, suspect_at=3, takes_suspect=takes_suspect, now=now
                )
            )

        assert await claim(1, takes_suspect=False) == ["urgent"]
        assert await claim(1) == ["s0"]
        assert await claim(3) == ["s1", "e0", "e1"]
        assert await claim(3, takes_suspect=False) == ["e2"]
        assert await claim(3, takes_suspect=False) == []
        assert await claim(3) == ["s2"]
        assert claimed_ids(await store.claim_available(ORDER, 2, now=now)) == ["s3", "s4"]

    @over_a_store
    async def test_one_suspect_is_claimed_at_most_of_all_priorities(
        self, store: CheckpointStore
    ) -> None:
        for priority in (2, 1):
            for number in range(2):
                one = f"{priority}{number}"
                await store.enqueue_execution(
                    WORKFLOW, queued(one, NOON, priority=priority, recovery_count=3 * number)
                )
        found = claimed_ids(await store.claim_available(ORDER, 9, suspect_at=3, now=NOON))
        assert sorted(found) == ["10", "20", "21"]
