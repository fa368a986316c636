"""The store contract: signals, claims, and several workers on the same records."""

from __future__ import annotations

import asyncio

import pytest

from durable_workflow_sqlite import (
    ArrivedSignal,
    CheckpointStore,
    ClaimLostError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    ExecutionStatus,
    Workflow,
    WorkflowSignal,
)
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    UNFINISHED,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    checkpoint_with_everything,
    execution_with_everything,
    is_refused_everything,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    nothing_belongs_to,
    over_a_store,
    over_workers,
    without_ids,
)


class ClaimsContract(StoreContract):
    """Who may write, and who hears of it."""

    # Signals

    @over_a_store
    async def test_a_signal_is_sent_to_every_execution_that_is_not_final(
        self, store: CheckpointStore
    ) -> None:
        sent: list[int | None] = []
        for status in UNFINISHED:
            await store.save_execution(new_execution(status, status=status))
            signal = await store.send_signal(new_signal(status, "go", payload="1"))
            assert await store.load_pending_signals(status, "go") == [signal]
            sent.append(signal.workflow_signal_id)
        assert len(set(sent) - {None}) == len(UNFINISHED)
        arrived = await store.load_signals_after(0)
        assert [one.workflow_execution_id for one in arrived] == list(UNFINISHED)
        assert [one.workflow_signal_id for one in arrived] == sent

    @over_a_store
    async def test_a_signal_to_an_unknown_or_final_execution_is_refused(
        self, store: CheckpointStore
    ) -> None:
        with pytest.raises(ExecutionNotFoundError) as unknown:
            await store.send_signal(new_signal("unknown", "go"))
        assert unknown.value.workflow_execution_id == "unknown"
        for status in FINAL:
            await store.save_execution(new_execution(status, status=status))
            with pytest.raises(ExecutionConflictError) as final:
                await store.send_signal(new_signal(status, "go"))
            assert final.value.workflow_execution_id == status
            assert await store.load_pending_signals(status) == []
        assert await store.load_signals_after(0) == []

    @over_a_store
    async def test_each_signal_is_news_once(self, store: CheckpointStore) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        assert await store.load_last_signal_id() == 0
        first = await store.send_signal(new_signal("e", "go"))
        second = await store.send_signal(new_signal("e", "on"))
        assert await store.load_signals_after(0) == [_arrived(first), _arrived(second)]
        third = await store.send_signal(new_signal("f", "go"))
        seen = second.workflow_signal_id
        assert seen is not None
        assert await store.load_signals_after(seen) == [_arrived(third)]
        assert await store.load_last_signal_id() == third.workflow_signal_id

    @over_a_store
    async def test_statuses_are_loaded_of_many_at_once(self, store: CheckpointStore) -> None:
        for status in ExecutionStatus:
            await store.save_execution(new_execution(status, status=status))
        wanted = [*ExecutionStatus, "unknown"]
        assert await store.load_statuses(wanted) == {status: status for status in ExecutionStatus}
        assert await store.load_statuses([]) == {}

    @over_a_store
    async def test_those_that_are_blocked_or_in_trouble_are_found(
        self, store: CheckpointStore
    ) -> None:
        await store.save_execution(new_execution("blocked", blocked_reason="killed its workers"))
        await store.save_execution(new_execution("troubled", trouble="TypeError: why"))
        await store.save_execution(new_execution("fine"))
        wanted = ["blocked", "troubled", "fine", "unknown"]
        assert await store.load_stopped(wanted) == {"blocked", "troubled"}
        assert await store.load_stopped([]) == set()

    # Claims

    @over_a_store
    async def test_an_execution_is_created_with_a_claim(self, store: CheckpointStore) -> None:
        workflow = Workflow(workflow_id="w2", workflow_type="w", created_at=NOON)
        execution = execution_with_everything(
            "e", workflow_id="w2", blocked_reason=None, trouble=None
        )
        claim = await store.create_execution(workflow, execution)
        assert claim is not None
        assert (claim.workflow_execution_id, claim.worker_id) == ("e", store.worker_id)
        assert claim.status_before is execution.status
        assert await store.load_workflow("w2") == workflow
        assert await store.load_execution("e") == execution
        assert await store.claim_execution("e") is None
        await store.save(new_execution("e", workflow_id="w2"), claim=claim)

    @over_a_store
    async def test_a_definition_that_is_there_stays_as_it_was(self, store: CheckpointStore) -> None:
        other = Workflow(workflow_id="order:1", workflow_type="order", created_at=NOON)
        assert await store.create_execution(other, new_execution("e")) is not None
        assert await store.load_workflow("order:1") == WORKFLOW

    @over_a_store
    async def test_creating_under_an_id_that_is_taken_writes_nothing(
        self, store: CheckpointStore
    ) -> None:
        first = new_execution("e", status=ExecutionStatus.COMPLETED)
        await store.save_execution(first)
        workflow = Workflow(workflow_id="w2", workflow_type="w")
        second = new_execution("e", workflow_id="w2")
        assert await store.create_execution(workflow, second) is None
        assert await store.load_execution("e") == first
        assert await store.load_workflow("w2") is None

    @over_a_store
    async def test_an_execution_is_created_of_its_own_workflow(
        self, store: CheckpointStore
    ) -> None:
        with pytest.raises(ValueError, match="unknown"):
            await store.create_execution(WORKFLOW, new_execution("e", workflow_id="unknown"))
        assert await store.load_execution("e") is None

    @over_a_store
    async def test_one_of_many_that_create_or_claim_at_once_gets_it(
        self, store: CheckpointStore
    ) -> None:
        created = await asyncio.gather(
            *(store.create_execution(WORKFLOW, new_execution("e")) for _ in range(10))
        )
        (claim,) = filter(None, created)
        await store.release_claims([claim])
        claims = await asyncio.gather(*(store.claim_execution("e") for _ in range(10)))
        assert len(list(filter(None, claims))) == 1

    @over_a_store
    async def test_what_is_unknown_or_final_cannot_be_claimed(self, store: CheckpointStore) -> None:
        assert await store.claim_execution("unknown") is None
        for status in FINAL:
            await store.save_execution(new_execution(status, status=status))
            assert await store.claim_execution(status) is None

    @over_a_store
    async def test_what_is_not_final_can_be_claimed_once(self, store: CheckpointStore) -> None:
        for status in UNFINISHED:
            await store.save_execution(new_execution(status, status=status))
            claim = await store.claim_execution(status)
            assert claim is not None
            assert (claim.workflow_execution_id, claim.worker_id) == (status, store.worker_id)
            assert claim.status_before is status
            assert await store.claim_execution(status) is None

    @over_a_store
    async def test_what_is_claimed_runs(self, store: CheckpointStore) -> None:
        later = NOON + MINUTE
        for status in UNFINISHED:
            await store.save_execution(new_execution(status, status=status, available_at=NOON))
            await store.claim_execution(status, later)
            claimed = await store.load_execution(status)
            assert claimed is not None
            is_undone = status is ExecutionStatus.COMPENSATING
            assert claimed.status is (status if is_undone else ExecutionStatus.RUNNING)
            assert claimed.available_at is None
            assert claimed.updated_at == later

    @over_a_store
    async def test_the_first_claim_says_when_an_execution_was_started(
        self, store: CheckpointStore
    ) -> None:
        for status in UNFINISHED:
            await store.save_execution(new_execution(status, status=status))
            for later in (0, 1):
                claim = await store.claim_execution(status, NOON + later * MINUTE)
                assert claim is not None
                claimed = await store.load_execution(status)
                assert claimed is not None
                assert claimed.started_at == NOON
                await store.release_claims([claim], NOON)

    @over_a_store
    async def test_under_a_claim_the_last_event_is_saved_and_the_start_stays(
        self, store: CheckpointStore
    ) -> None:
        created = new_execution("e", status=ExecutionStatus.RUNNING, started_at=NOON)
        claim = await store.create_execution(WORKFLOW, created)
        assert claim is not None
        ending = new_execution("e", status=ExecutionStatus.COMPENSATING, last_event=0)
        await store.save(ending, claim=claim)
        saved = await store.load_execution("e")
        assert saved is not None
        assert (saved.last_event, saved.started_at) == (0, NOON)
        await store.save(
            new_execution("e", status=ExecutionStatus.FAILED, last_event=3), claim=claim
        )
        ended = await store.load_execution("e")
        assert ended is not None
        assert (ended.last_event, ended.started_at) == (3, NOON)

    @over_a_store
    async def test_what_is_blocked_cannot_be_claimed(self, store: CheckpointStore) -> None:
        await store.save_execution(new_execution("e", blocked_reason="why not"))
        assert await store.claim_execution("e") is None
        assert await store.load_blocked() == ["e"]
        assert await store.unblock_execution("e")
        assert not await store.unblock_execution("e")
        assert not await store.unblock_execution("unknown")
        assert await store.load_blocked() == []
        assert await store.claim_execution("e") is not None

    @over_a_store
    async def test_why_an_execution_is_left_is_known_until_it_is_claimed_again(
        self, store: CheckpointStore
    ) -> None:
        for status in UNFINISHED:
            await store.save_execution(new_execution(status, status=status))
            claim = await store.claim_execution(status)
            assert claim is not None
            await store.save(new_checkpoint(status, 0), claim=claim)
            await store.release_claims([claim], NOON + MINUTE, trouble="it does not fit")
            left = await store.load_execution(status)
            assert left is not None
            assert (left.trouble, left.updated_at) == ("it does not fit", NOON + MINUTE)
            claim = await store.claim_execution(status)
            assert claim is not None
            held = await store.load_execution(status)
            assert held is not None
            assert held.trouble is None
            await store.release_claims([claim], NOON)
            released = await store.load_execution(status)
            assert released is not None
            assert released.trouble is None

    @over_a_store
    async def test_a_claim_that_was_lost_tells_of_no_trouble(self, store: CheckpointStore) -> None:
        lost = await store.create_execution(WORKFLOW, new_execution("e"))
        assert lost is not None
        await store.release_claims([lost])
        held = await store.claim_execution("e")
        await store.release_claims([lost], trouble="it does not fit")
        await store.save(new_execution("e", status=ExecutionStatus.COMPLETED), claim=held)
        await store.release_claims([lost], trouble="it does not fit")
        final = await store.load_execution("e")
        assert final is not None
        assert final.trouble is None

    @over_a_store
    async def test_what_is_blocked_in_trouble_or_final_cannot_be_started(
        self, store: CheckpointStore
    ) -> None:
        for execution in (
            new_execution("e", blocked_reason="why not"),
            new_execution("e", trouble="it does not fit"),
            *(new_execution("e", status=status) for status in FINAL),
        ):
            with pytest.raises(ValueError, match="'e'"):
                await store.create_execution(WORKFLOW, execution)
            with pytest.raises(ValueError, match="'e'"):
                await store.enqueue_execution(WORKFLOW, execution)
        assert await store.load_execution("e") is None

    @over_a_store
    async def test_fencing_tokens_grow(self, store: CheckpointStore) -> None:
        tokens: list[int] = []
        for number in range(3):
            claim = await store.create_execution(WORKFLOW, new_execution(f"e{number}"))
            while claim is not None:
                tokens.append(claim.fencing_token)
                await store.release_claims([claim])
                claim = await store.claim_execution(f"e{number}") if len(tokens) % 3 else None
        assert len(tokens) == 9
        assert tokens == sorted(set(tokens))

    @over_a_store
    async def test_records_are_written_under_a_claim(self, store: CheckpointStore) -> None:
        claim = await store.create_execution(WORKFLOW, new_execution("e"))
        assert claim is not None
        await store.save(
            Workflow(workflow_id="w2", workflow_type="w"),
            new_execution("e", status=ExecutionStatus.RUNNING),
            new_checkpoint("e", 0),
            new_timer("e", "t", NOON),
            new_signal("e", "go"),
            claim=claim,
        )
        execution = await store.load_execution("e")
        assert execution is not None
        assert execution.status is ExecutionStatus.RUNNING
        assert len(await store.load_checkpoints("e")) == 1
        assert len(await store.load_timers("e")) == 1
        assert len(await store.load_pending_signals("e")) == 1
        assert await store.load_workflow("w2") is not None

    @over_a_store
    async def test_a_claim_covers_its_own_execution_alone(self, store: CheckpointStore) -> None:
        claim = await store.create_execution(WORKFLOW, new_execution("e"))
        await store.save_execution(new_execution("other"))
        for record in (
            new_execution("other", status=ExecutionStatus.RUNNING),
            new_checkpoint("other", 0),
            new_timer("other", "t", NOON),
            new_signal("other", "go"),
        ):
            with pytest.raises(ValueError, match="other"):
                await store.save(new_checkpoint("e", 0), record, claim=claim)
        await nothing_belongs_to(store, "e")
        await nothing_belongs_to(store, "other")

    @over_a_store
    async def test_a_write_under_a_lost_claim_changes_nothing(self, store: CheckpointStore) -> None:
        lost = await store.create_execution(WORKFLOW, new_execution("e"))
        assert lost is not None
        signal = await store.send_signal(new_signal("e", "go"))
        timer = new_timer("e", "t", NOON)
        await store.save_timer(timer)
        await store.release_claims([lost])
        await is_refused_everything(store, lost)
        held = await store.claim_execution("e")
        await is_refused_everything(store, lost)

        execution = await store.load_execution("e")
        assert execution is not None
        assert execution.status is ExecutionStatus.RUNNING
        assert await store.load_pending_signals("e") == [signal]
        assert await store.load_timers("e") == [timer]
        assert await store.load_checkpoints("e") == []
        assert await store.load_workflow("w2") is None
        await store.save(new_checkpoint("e", 0), claim=held)

    @over_a_store
    async def test_a_claim_that_was_lost_releases_nothing(self, store: CheckpointStore) -> None:
        lost = await store.create_execution(WORKFLOW, new_execution("e"))
        assert lost is not None
        await store.release_claims([lost])
        held = await store.claim_execution("e")
        await store.release_claims([lost, lost])
        await store.save(new_checkpoint("e", 0), claim=held)
        assert await store.claim_execution("e") is None

    @over_a_store
    async def test_an_execution_that_becomes_final_loses_its_claim(
        self, store: CheckpointStore
    ) -> None:
        for status in FINAL:
            claim = await store.create_execution(WORKFLOW, new_execution(status))
            assert claim is not None
            # What is saved beside it is still written under the claim, in whatever order.
            await store.save(
                new_checkpoint(status, 0),
                new_execution(status, status=status),
                new_checkpoint(status, 1),
                claim=claim,
            )
            assert len(await store.load_checkpoints(status)) == 2
            with pytest.raises(ClaimLostError):
                await store.save(new_checkpoint(status, 2), claim=claim)
            assert len(await store.load_checkpoints(status)) == 2

    @over_a_store
    async def test_a_lost_claim_fails_alone_among_writes_at_once(
        self, store: CheckpointStore
    ) -> None:
        lost = await store.create_execution(WORKFLOW, new_execution("e"))
        held = await store.create_execution(WORKFLOW, new_execution("f"))
        assert lost is not None
        await store.release_claims([lost])
        outcomes = await asyncio.gather(
            store.save(new_checkpoint("f", 0), claim=held),
            store.save(new_checkpoint("e", 0), claim=lost),
            store.save(new_checkpoint("f", 1), claim=held),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), ClaimLostError, type(None)]
        assert len(await store.load_checkpoints("f")) == 2
        assert await store.load_checkpoints("e") == []

    # Several workers

    @over_workers
    async def test_records_outlive_the_store_that_wrote_them(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        execution = execution_with_everything("e")
        await store.save(execution, checkpoint_with_everything("e", 0))
        await store.close()
        again = await open_another()
        assert await again.load_execution("e") == execution
        assert without_ids(await again.load_checkpoints("e")) == [
            checkpoint_with_everything("e", 0)
        ]
        assert await again.load_workflow("order:1") == WORKFLOW

    @over_workers
    async def test_closing_finishes_what_was_asked_for(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        await store.save_execution(new_execution("e"))
        saves = [
            asyncio.create_task(store.save_checkpoint(new_checkpoint("e", index)))
            for index in range(20)
        ]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*saves)
        again = await open_another()
        assert len(await again.load_checkpoints("e")) == 20

    @over_workers
    async def test_every_worker_has_an_id_of_its_own(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await other.close()
        ids = {store.worker_id, other.worker_id, (await open_another()).worker_id}
        assert len(ids) == 3
        assert store.worker_id in ids

    @over_workers
    async def test_a_worker_sees_at_once_what_another_wrote(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.save_execution(new_execution("e"))
        signal = await other.send_signal(new_signal("e", "go"))
        assert await store.load_pending_signals("e") == [signal]
        await store.save_execution(new_execution("e", status=ExecutionStatus.RUNNING))
        seen = await other.load_execution("e")
        assert seen is not None
        assert seen.status is ExecutionStatus.RUNNING

    @over_workers
    async def test_there_is_news_when_another_worker_wrote(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.save_execution(new_execution("e"))
        for _ in range(3):
            before = store.news()
            assert store.news() == before
            await other.send_signal(new_signal("e", "go"))
            assert store.news() != before

    @over_a_store
    async def test_there_is_news_when_a_signal_or_work_came_through_this_store(
        self, store: CheckpointStore
    ) -> None:
        await store.save_execution(new_execution("e"))
        heard = {store.news()}
        await store.send_signal(new_signal("e", "go"))
        heard.add(store.news())
        await store.save_signal(new_signal("e", "go"))
        heard.add(store.news())
        await store.save(new_signal("e", "go"))
        heard.add(store.news())
        await store.enqueue_execution(WORKFLOW, new_execution("f", available_at=NOON))
        heard.add(store.news())
        assert len(heard) == 5

    @over_workers
    async def test_workers_that_write_at_once_lose_nothing(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.save_execution(new_execution("e"))

        async def write(worker: CheckpointStore, branch: str) -> None:
            for index in range(50):
                await worker.save_checkpoint(new_checkpoint("e", index, branch=branch))

        await asyncio.gather(write(store, "one"), write(other, "two"))
        assert len(await store.load_checkpoints("e")) == 100

    @over_workers
    async def test_the_claim_of_a_live_worker_is_respected(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        claim = await store.create_execution(WORKFLOW, new_execution("e"))
        assert claim is not None
        assert await other.release_claims_of_the_dead(0) == []
        assert await other.claim_execution("e") is None
        assert await other.create_execution(WORKFLOW, new_execution("e")) is None
        await store.save(new_checkpoint("e", 0), claim=claim)

        await store.release_claims([claim])
        taken = await other.claim_execution("e")
        assert taken is not None
        assert taken.worker_id == other.worker_id
        assert taken.fencing_token > claim.fencing_token
        assert await store.claim_execution("e") is None

    @over_workers
    async def test_one_of_two_workers_gets_what_both_claim(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        for number in range(20):
            await store.save_execution(new_execution(f"e{number}"))
            claims = await asyncio.gather(
                store.claim_execution(f"e{number}"), other.claim_execution(f"e{number}")
            )
            assert len(list(filter(None, claims))) == 1
            created = await asyncio.gather(
                *(
                    worker.create_execution(WORKFLOW, new_execution(f"f{number}"))
                    for worker in (other, store)
                )
            )
            assert len(list(filter(None, created))) == 1

    @over_workers
    async def test_the_claims_of_a_worker_that_is_gone_are_taken_over(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        claim = await store.create_execution(WORKFLOW, new_execution("e"))
        assert claim is not None
        await store.close()
        assert await other.claim_execution("e") is None
        (abandoned,) = await other.release_claims_of_the_dead(10)
        assert (abandoned.workflow_execution_id, abandoned.blocked_reason) == ("e", None)
        taken = await other.claim_execution("e")
        assert taken is not None
        assert taken.worker_id == other.worker_id
        assert taken.fencing_token > claim.fencing_token
        assert await other.release_claims_of_the_dead(10) == []
        await is_refused_everything(other, claim)
        await other.save(new_checkpoint("e", 0), claim=taken)

    @over_workers
    async def test_a_worker_whose_claim_another_has_now_can_change_nothing(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        lost = await store.create_execution(WORKFLOW, new_execution("e"))
        assert lost is not None
        await store.release_claims([lost])
        assert await other.claim_execution("e") is not None
        await is_refused_everything(store, lost)
        await nothing_belongs_to(other, "e")


def _arrived(signal: WorkflowSignal) -> ArrivedSignal:
    assert signal.workflow_signal_id is not None
    return ArrivedSignal(
        workflow_signal_id=signal.workflow_signal_id,
        workflow_execution_id=signal.workflow_execution_id,
        signal_name=signal.signal_name,
    )
