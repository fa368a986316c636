"""The store contract: which workers there are, which live, and what they may have died of."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ExecutionStatus,
    Record,
    StepKind,
    StepStatus,
    Workflow,
)
from durable_workflow_sqlite.testing.contract_base import (
    MINUTE,
    NOON,
    ORDER,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    claimed,
    claimed_ids,
    created,
    is_refused_everything,
    loaded,
    new_checkpoint,
    new_execution,
    nothing_belongs_to,
    over_a_store,
    over_workers,
    queued,
)


class MembershipContract(StoreContract):
    """Who lives, whose claims count, and what is counted when a worker dies."""

    @over_workers
    async def test_every_worker_has_an_id_of_its_own(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await other.close()
        ids = {store.worker_id, other.worker_id, (await open_another()).worker_id}
        assert len(ids) == 3
        assert store.worker_id in ids

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
        for queues in (["mail"], ["mail", "gpu"], [], None, ["mail"]):
            await store.join([("order", 1)], 5, queues=queues)
        with pytest.raises(ValueError, match="the name of a queue"):
            await store.join([("order", 3)], 5, queues=[""])
        assert ("order", 3) not in await store.load_served()
        # It is not a claim: nothing is in its hands.
        assert await store.release_claims_of_the_dead(3) == []

    @over_workers
    async def test_the_claim_of_a_live_worker_is_respected(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        claim = await created(store, new_execution("e"))
        assert await other.release_claims_of_the_dead(0) == []
        assert await other.claim_execution("e") is None
        assert await other.create_execution(WORKFLOW, new_execution("e")) is None
        await store.save(new_checkpoint("e", 0), claim=claim)

        await store.release_claims([claim])
        again = await claimed(other, "e")
        assert again.worker_id == other.worker_id
        assert again.fencing_token > claim.fencing_token
        assert await store.claim_execution("e") is None

    @over_workers
    async def test_the_claims_of_a_worker_that_is_gone_are_taken_over(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        claim = await created(store, new_execution("e"))
        await store.close()
        assert await other.claim_execution("e") is None
        (abandoned,) = await other.release_claims_of_the_dead(10)
        assert (abandoned.workflow_execution_id, abandoned.blocked_reason) == ("e", None)
        again = await claimed(other, "e")
        assert again.worker_id == other.worker_id
        assert again.fencing_token > claim.fencing_token
        assert await other.release_claims_of_the_dead(10) == []
        await is_refused_everything(other, claim)
        await other.save(new_checkpoint("e", 0), claim=again)

    @over_workers
    async def test_a_worker_whose_claim_another_has_now_can_change_nothing(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        lost = await created(store, new_execution("e"))
        await store.release_claims([lost])
        assert await other.claim_execution("e") is not None
        await is_refused_everything(store, lost)
        await nothing_belongs_to(other, "e")

    @over_workers
    async def test_an_execution_that_kills_its_workers_is_blocked(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        await store.enqueue_execution(WORKFLOW, queued("e", NOON))
        await store.save(queued("waits", None, status=ExecutionStatus.SUSPENDED, recovery_count=9))
        await store.save(new_checkpoint("waits", 0, kind=StepKind.SIGNAL))
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
            execution = await loaded(store, "e")
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
        """Its last attempt failed in this run, or the run has written its row at this wait."""
        failed = new_checkpoint(
            "e", 0, status=StepStatus.FAILED, started_at=NOON, due_at=NOON + MINUTE
        )
        undone = new_checkpoint("e", 1, attempt=0, started_at=NOON, due_at=NOON + MINUTE)
        retried = new_checkpoint("e", 0, attempt=2, started_at=NOON + MINUTE)
        undone_again = new_checkpoint("e", 1, attempt=0, started_at=NOON + MINUTE)
        in_another_branch = new_checkpoint("e", 0, branch="b", started_at=NOON)
        waits = new_checkpoint("e", 3, kind=StepKind.SIGNAL, started_at=NOON)
        row = queued("e", None, status=ExecutionStatus.RUNNING, updated_at=NOON + MINUTE)
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
        for number, (claimed_at, records, is_blamed) in enumerate(cases):
            one = f"e{number}"
            await store.enqueue_execution(WORKFLOW, queued(one, NOON))
            worker = await open_another()
            claim = await worker.claim_execution(one, claimed_at)
            for record in records:
                assert not isinstance(record, Workflow)
                of_it = msgspec.structs.replace(record, workflow_execution_id=one)
                await worker.save(of_it, claim=claim)
            await worker.close()
            await store.release_claims_of_the_dead(9, NOON)
            execution = await loaded(store, one)
            assert execution.recovery_count == is_blamed, (claimed_at, records)

    @over_workers
    async def test_a_worker_that_was_told_to_stop_did_not_die_of_what_it_had(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        worker = await open_another()
        claims = [await created(worker, queued(one, NOON)) for one in ("e", "f")]
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
        execution = await loaded(store, again.workflow_execution_id)
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
            return {one: (await loaded(store, one)).recovery_count for one in counts}

        for one, count in counts.items():
            await store.enqueue_execution(WORKFLOW, queued(one, NOON, recovery_count=count))
        assert await die_with(*counts) == counts | {"suspect": 3, "suspect, too": 4}
        assert await die_with("new", "once") == {
            "new": 1, "once": 2, "suspect": 3, "suspect, too": 4,
        }  # fmt: skip
