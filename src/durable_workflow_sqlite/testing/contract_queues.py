"""The store contract: the named queues, and how many of their executions run at once."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial

import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ClaimLostError,
    DuplicateExecutionError,
    ExecutionStatus,
    Limit,
    LimitFullError,
    LimitNotFoundError,
    NewExecution,
    Queue,
    QueueNotFoundError,
    Rate,
    StepSlot,
    StepStatus,
    WorkflowClaim,
    WorkflowExecution,
)
from durable_workflow_sqlite.testing.contract_base import (
    MINUTE,
    NOON,
    ORDER,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    claimed_ids,
    created,
    loaded,
    new_checkpoint,
    new_execution,
    new_signal,
    over_a_store,
    over_workers,
    queued,
)

SECOND = timedelta(seconds=1)


class QueuesContract(StoreContract):
    """Definitions, slots, and what a limit keeps waiting."""

    @over_a_store
    async def test_a_queue_that_is_not_declared_is_refused(self, store: CheckpointStore) -> None:
        await store.declare_limits([Queue("mails")])
        lost = queued("e", NOON, queue="mail")
        with pytest.raises(QueueNotFoundError, match=r"mail"):
            await store.enqueue_execution(WORKFLOW, lost)
        with pytest.raises(QueueNotFoundError):
            await store.save(start=[NewExecution(workflow=WORKFLOW, execution=lost)])
        assert await store.load_execution("e") is None
        in_queue = queued("e", NOON, queue="mails", queue_key="kim")
        assert await store.enqueue_execution(WORKFLOW, in_queue)
        assert await store.load_execution("e") == in_queue
        with pytest.raises(ValueError, match="queue"):
            await store.create_execution(WORKFLOW, queued("f", NOON, queue="mails"))
        assert await store.load_execution("f") is None

    @over_a_store
    async def test_what_is_declared_again_stays_as_it_was_changed(
        self, store: CheckpointStore
    ) -> None:
        mail, other = Queue("mail", concurrency=2, per_key=1), Queue("a", per_worker=3)
        await store.declare_limits([mail, other])
        assert await store.load_limits() == [other, mail]
        changed = Queue("mail", concurrency=7)
        await store.save_limit(changed)
        await store.declare_limits([mail, other])
        assert await store.load_limits() == [other, changed]
        newer = Queue("mail", concurrency=3)
        await store.declare_limits([newer])
        assert await store.load_limits() == [other, newer]
        await store.save_limit(Queue("new"))
        assert await store.load_limits() == [other, newer, Queue("new")]
        await store.declare_limits([])

    @over_a_store
    async def test_bad_declarations_change_nothing(self, store: CheckpointStore) -> None:
        with pytest.raises(ValueError, match="twice"):
            await store.declare_limits([Queue("a"), Queue("b"), Queue("a", per_key=1)])
        with pytest.raises(TypeError, match="declare"):
            await store.declare_limits([Queue("a"), "b"])  # type: ignore[list-item]
        assert await store.load_limits() == []

    @over_workers
    async def test_no_more_run_at_once_than_the_queue_allows(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.declare_limits([Queue("mail", concurrency=3)])
        for number in range(9):
            await _enqueue(store, f"m{number}", queue="mail")
        await _enqueue(store, "free")
        claims = [
            *await store.claim_available(ORDER, 9, now=NOON),
            *await other.claim_available(ORDER, 9, now=NOON),
            *await store.claim_available(ORDER, 9, now=NOON),
            *await other.claim_available(ORDER, 9, now=NOON),
        ]
        ids = sorted(claim.workflow_execution_id for claim in claims)
        assert ids == ["free", "m0", "m1", "m2"]
        assert await store.claim_execution("m7", NOON) is None
        assert await store.load_next_available_at(ORDER) is None
        await store.save_limit(Queue("mail", concurrency=4))
        assert await other.load_next_available_at(ORDER) == NOON
        assert claimed_ids(await other.claim_available(ORDER, 9, now=NOON)) == ["m3"]
        assert claimed_ids(await store.claim_available(ORDER, 9, now=NOON)) == []

    @over_workers
    async def test_a_slot_is_free_when_its_claim_is_released_or_its_execution_is_over(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.declare_limits([Queue("mail", concurrency=1)])
        for one in ("a", "b", "c"):
            await _enqueue(store, one, queue="mail")
        (claim,) = await store.claim_available(ORDER, 9, now=NOON)
        await store.release_claims([claim], NOON + MINUTE)
        (second,) = await other.claim_available(ORDER, 9, now=NOON)
        assert second.workflow_execution_id == "b"
        # Whoever has lost a claim has no slot that it could free.
        with pytest.raises(ClaimLostError):
            await store.save(_suspended("a"), claim=claim)
        await store.release_claims([claim], NOON)
        assert not await store.take_slot(claim, "mail", None)
        assert await store.claim_available(ORDER, 9, now=NOON) == []
        done = queued("b", None, queue="mail", status=ExecutionStatus.COMPLETED)
        await other.save(done, claim=second)
        assert claimed_ids(await store.claim_available(ORDER, 9, now=NOON)) == ["c"]

    @over_a_store
    async def test_what_only_waits_holds_no_slot(self, store: CheckpointStore) -> None:
        await store.declare_limits([Queue("mail", concurrency=1)])
        for one in ("a", "b"):
            await _enqueue(store, one, queue="mail")
        (claim,) = await store.claim_available(ORDER, 9, now=NOON)
        assert await store.take_slot(claim, "mail", None), "it holds one"
        assert await store.claim_available(ORDER, 9, now=NOON) == []
        await store.save(_suspended("a"), claim=claim)
        (second,) = await store.claim_available(ORDER, 9, now=NOON)
        assert second.workflow_execution_id == "b"
        assert not await store.take_slot(claim, "mail", None)
        await store.save(_suspended("a"), claim=claim)  # it has its claim all the same
        await store.release_claims([second], NOON + MINUTE)
        assert await store.take_slot(claim, "mail", None)
        assert await store.claim_available(ORDER, 9, now=NOON + MINUTE) == []
        await store.leave_slot(second)  # it is not its claim any more
        assert await store.claim_available(ORDER, 9, now=NOON + MINUTE) == []
        await store.leave_slot(claim)
        (second,) = await store.claim_available(ORDER, 9, now=NOON + MINUTE)
        assert not await store.take_slot(claim, "mail", None)
        await store.leave_slot(second)
        assert await store.take_slot(claim, "mail", None)

    @over_workers
    async def test_a_dead_worker_holds_no_slot(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        dead = await open_another()
        await store.declare_limits([Queue("mail", concurrency=2)])
        for one in ("a", "b", "c"):
            await _enqueue(store, one, queue="mail")
        claims = await dead.claim_available(ORDER, 9, now=NOON)
        claims += await dead.claim_available(ORDER, 9, now=NOON)
        assert len(claims) == 2
        assert await store.claim_available(ORDER, 9, now=NOON) == []
        assert await store.release_claims_of_the_dead(9, NOON) == []
        assert await store.claim_available(ORDER, 9, now=NOON) == []
        await dead.close()
        assert len(await store.release_claims_of_the_dead(9, NOON)) == 2
        assert len(await store.claim_available(ORDER, 9, now=NOON)) == 2
        assert await store.claim_available(ORDER, 9, now=NOON) == []

    @over_workers
    async def test_each_worker_has_its_own_limit(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.declare_limits([Queue("gpu", per_worker=1)])
        for number in range(5):
            await _enqueue(store, f"g{number}", queue="gpu")
        for worker in (store, other):
            assert len(await worker.claim_available(ORDER, 9, now=NOON)) == 1
            assert await worker.claim_available(ORDER, 9, now=NOON) == []

    @over_a_store
    async def test_each_key_has_its_own_limit_and_hides_no_other(
        self, store: CheckpointStore
    ) -> None:
        await store.declare_limits([Queue("mail", concurrency=5, per_key=2)])
        for number in range(150):
            await _enqueue(store, f"kim {number:03}", queue="mail", queue_key="kim")
        first = claimed_ids(await store.claim_available(ORDER, 9, now=NOON))
        assert sorted(first) == ["kim 000", "kim 001"]
        assert await store.claim_available(ORDER, 9, now=NOON) == []
        await _enqueue(store, "lee", NOON + SECOND, queue="mail", queue_key="lee")
        await _enqueue(store, "no key", NOON + SECOND, queue="mail")
        now = NOON + MINUTE
        assert sorted(claimed_ids(await store.claim_available(ORDER, 9, now=now))) == [
            "lee",
            "no key",
        ]
        assert await store.claim_available(ORDER, 9, now=now) == []

    @over_a_store
    async def test_a_worker_claims_from_the_queues_that_it_serves(
        self, store: CheckpointStore
    ) -> None:
        await store.declare_limits([Queue("a"), Queue("b")])
        for one, queue in (("a", "a"), ("b", "b"), ("in none", None)):
            await _enqueue(store, one, queue=queue)
        assert await store.load_next_available_at(ORDER, ["c"]) is None
        assert await store.claim_available(ORDER, 9, queues=["c"], now=NOON) == []
        assert await store.load_next_available_at(ORDER, ["b", "c"]) == NOON
        assert claimed_ids(await store.claim_available(ORDER, 9, queues=["b", "c"], now=NOON)) == [
            "b"
        ]
        assert sorted(claimed_ids(await store.claim_available(ORDER, 9, now=NOON))) == [
            "a",
            "in none",
        ]

    @over_a_store
    async def test_priority_counts_in_a_queue_and_between_queues(
        self, store: CheckpointStore
    ) -> None:
        await store.declare_limits([Queue("a", concurrency=2), Queue("b", concurrency=9)])
        for one, queue, priority in (
            ("a low", "a", -1),
            ("a", "a", 0),
            ("a high", "a", 5),
            ("b", "b", 1),
            ("none", None, 2),
        ):
            await _enqueue(store, one, queue=queue, priority=priority)
        order = [
            one
            for _ in range(4)
            for one in claimed_ids(await store.claim_available(ORDER, 1, now=NOON))
        ]
        assert order == ["a high", "none", "b", "a"]
        assert await store.claim_available(ORDER, 9, now=NOON) == []

    @over_a_store
    async def test_the_one_that_has_waited_longest_is_reached_in_the_end(
        self, store: CheckpointStore
    ) -> None:
        await store.declare_limits([Queue("mail", concurrency=1)])
        await _enqueue(store, "old", NOON - MINUTE, queue="mail", priority=-1)
        for number in range(30):
            await _enqueue(store, f"new {number}", NOON, queue="mail", priority=1)
        claimed: list[str] = []
        while "old" not in claimed:
            (claim,) = await store.claim_available(ORDER, 9, now=NOON + SECOND)
            claimed.append(claim.workflow_execution_id)
            done = queued(claimed[-1], None, queue="mail", status=ExecutionStatus.COMPLETED)
            await store.save(done, claim=claim)
        assert 5 < len(claimed) < 20

    @over_a_store
    async def test_a_signal_wakes_what_waits_outside_of_its_full_queue(
        self, store: CheckpointStore
    ) -> None:
        await store.declare_limits([Queue("mail", concurrency=1)])
        for one in ("a", "b"):
            await _enqueue(store, one, queue="mail")
        (claim,) = await store.claim_available(ORDER, 9, now=NOON)
        await store.save(_suspended("a"), claim=claim)
        (second,) = await store.claim_available(ORDER, 9, now=NOON)
        await store.release_claims([claim], NOON)
        await store.request_cancel("a", now=NOON)
        await store.send_signal(new_signal("a", "go", created_at=NOON))
        assert (await loaded(store, "a")).available_at is not None
        assert await store.claim_available(ORDER, 9) == []
        await store.release_claims([second], NOON + MINUTE)
        assert claimed_ids(await store.claim_available(ORDER, 1, now=NOON)) == ["a"]

    @over_workers
    async def test_one_of_those_with_the_same_dedup_id_is_started(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        stores = [store, *[await open_another() for _ in range(3)]]
        await store.declare_limits([Queue("mail"), Queue("other")])
        results = await asyncio.gather(
            *(
                one.enqueue_execution(
                    WORKFLOW, queued(f"{number}", NOON, queue="mail", dedup_id="one")
                )
                for number, one in enumerate(stores * 2)
            ),
            return_exceptions=True,
        )
        (first,) = (number for number, result in enumerate(results) if result is True)
        for number, result in enumerate(results):
            if number != first:
                assert isinstance(result, DuplicateExecutionError)
                assert result.workflow_execution_id == f"{first}"
                assert await store.load_execution(f"{number}") is None
        for queue in ("other", None):
            twin = queued(f"in {queue}", NOON, queue=queue, dedup_id="one")
            assert await store.enqueue_execution(WORKFLOW, twin)
        again = queued(f"{first}", NOON, queue="mail", dedup_id="one")
        assert not await store.enqueue_execution(WORKFLOW, again), "its own id"
        claim = await store.claim_execution(f"{first}", NOON)
        next_one = queued("next", NOON, queue="mail", dedup_id="one")
        with pytest.raises(DuplicateExecutionError):
            await store.enqueue_execution(WORKFLOW, next_one)
        done = queued(f"{first}", None, queue="mail", status=ExecutionStatus.COMPLETED)
        await store.save(done, claim=claim)
        assert await store.enqueue_execution(WORKFLOW, next_one)

    @over_a_store
    async def test_what_is_debounced_begins_after_the_last_call(
        self, store: CheckpointStore
    ) -> None:
        for number in range(3):
            one = queued(
                f"{number}",
                NOON + number * SECOND,
                input_data=f"[{number}]",
                dedup_id="one",
                debounced=True,
            )
            assert await store.debounce_execution(WORKFLOW, one) == "0"
        found = await loaded(store, "0")
        assert (found.input_data, found.available_at) == ("[2]", NOON + 2 * SECOND)
        assert await store.claim_available(ORDER, 9, now=NOON + SECOND) == []
        assert claimed_ids(await store.claim_available(ORDER, 9, now=NOON + MINUTE)) == ["0"]
        one = queued("3", NOON + MINUTE, dedup_id="one", debounced=True)
        assert await store.debounce_execution(WORKFLOW, one) == "3"
        with pytest.raises(ValueError, match="debounced"):
            await store.debounce_execution(WORKFLOW, queued("4", NOON, dedup_id="two"))
        await store.enqueue_execution(WORKFLOW, queued("5", NOON, dedup_id="two"))
        with pytest.raises(DuplicateExecutionError):
            await store.debounce_execution(
                WORKFLOW, queued("6", NOON, dedup_id="two", debounced=True)
            )

    @over_workers
    async def test_no_more_begin_within_a_time_than_the_rate_allows(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        rate, key_rate = Rate(3, MINUTE), Rate(2, MINUTE)
        await store.declare_limits([Queue("mail", rate=rate, key_rate=key_rate), Queue("free")])
        for number in range(9):
            await _enqueue(store, f"m{number}", queue="mail", queue_key="kim")
        await _enqueue(store, "f", NOON + SECOND, queue="free")
        assert len(await store.claim_available(ORDER, 1, now=NOON)) == 1
        assert len(await other.claim_available(ORDER, 9, now=NOON + SECOND)) >= 1
        await store.claim_available(ORDER, 9, now=NOON + SECOND)
        await other.claim_available(ORDER, 9, now=NOON + SECOND)
        claimed = [one for one in range(9) if (await loaded(store, f"m{one}")).started_at]
        assert claimed == [0, 1]
        assert (await loaded(store, "f")).started_at is not None
        await _enqueue(store, "lee", NOON + SECOND, queue="mail", queue_key="lee")
        assert claimed_ids(await store.claim_available(ORDER, 9, now=NOON + SECOND)) == ["lee"]
        await _enqueue(store, "pat", NOON, queue="mail", queue_key="pat")
        assert await other.claim_available(ORDER, 9, now=NOON + 59 * SECOND) == []
        assert await other.claim_execution("pat", NOON + 59 * SECOND) is None
        next_at = await other.load_next_available_at(ORDER, None, NOON + SECOND)
        assert next_at == NOON + MINUTE
        assert len(await other.claim_available(ORDER, 1, now=NOON + MINUTE)) == 1
        assert await store.claim_available(ORDER, 9, now=NOON + MINUTE) == []

    @over_workers
    async def test_what_begins_by_a_rate_is_stored_with_no_earlier_time_than_what_began_before(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        """The other worker read its clock later, and was first. So no window has too many."""
        other = await open_another()
        await store.declare_limits([Queue("mail", rate=Rate(9, MINUTE)), Queue("free")])
        for one in ("first", "second", "third"):
            await _enqueue(store, one, queue="mail")
        await _enqueue(store, "free", queue="free")
        assert await other.claim_execution("first", NOON + SECOND)
        assert await store.claim_execution("second", NOON)
        mail = await store.claim_available(ORDER, 1, queues=["mail"], now=NOON)
        assert claimed_ids(mail) == ["third"]
        assert await store.claim_execution("free", NOON)
        begun = [(await loaded(store, one)).started_at for one in ("second", "third", "free")]
        assert begun == [NOON + SECOND, NOON + SECOND, NOON]

    @over_a_store
    async def test_what_goes_on_after_a_wait_does_not_count_for_a_rate(
        self, store: CheckpointStore
    ) -> None:
        await store.declare_limits([Queue("mail", rate=Rate(2, MINUTE))])
        for one in ("a", "b"):
            await _enqueue(store, one, queue="mail")
        (claim,) = await store.claim_available(ORDER, 1, now=NOON)
        await store.save(_suspended("a"), claim=claim)
        await store.release_claims([claim], NOON)
        await store.request_cancel("a", now=NOON)
        again = await store.claim_execution("a", NOON)
        assert again is not None
        # Nor does what has only waited for its next attempt, whatever its worker has died of.
        failed = new_checkpoint("a", 0, status=StepStatus.FAILED, due_at=NOON + MINUTE)
        await store.save(failed, claim=again)
        await store.release_claims([again], NOON)
        again = await store.claim_execution("a", NOON)
        assert again is not None
        assert claimed_ids(await store.claim_available(ORDER, 1, now=NOON)) == ["b"]
        # What runs when its worker leaves it begins again.
        await store.save(new_checkpoint("a", 0, attempt=2, started_at=NOON), claim=again)
        await store.release_claims([again], NOON)
        assert await store.claim_execution("a", NOON) is None
        assert await store.claim_execution("a", NOON + MINUTE) is not None
        for one in ("c", "d"):
            await _enqueue(store, one, queue="mail")
        assert len(await store.claim_available(ORDER, 9, now=NOON + MINUTE)) == 1

    @over_workers
    async def test_the_slots_of_a_limit_for_steps(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        dead = await open_another()
        with pytest.raises(LimitNotFoundError, match="api"):
            await store.load_limit_room("api", None, NOON)
        await store.declare_limits([Limit("api", concurrency=2, per_key=1), Queue("api")])
        claims = [
            await created(worker, new_execution(f"{number}"))
            for number, worker in enumerate((store, dead, store))
        ]
        step = partial(_begin_with_slot, limit="api")
        await step(store, claims[0], 0, "kim")
        with pytest.raises(LimitFullError):
            await step(store, claims[0], 1, "kim")
        assert await store.load_checkpoints("0") == (await store.load_checkpoints("0"))[:1]
        assert (await store.load_limit_room("api", "lee", NOON)).is_free
        assert not (await store.load_limit_room("api", "kim", NOON)).is_free
        await step(dead, claims[1], 0, None)
        for key in ("lee", None):
            assert not (await store.load_limit_room("api", key, NOON)).is_free
            with pytest.raises(LimitFullError):
                await step(store, claims[2], 0, key)
        assert await store.load_checkpoints("2") == []
        # A worker that dies frees its slots, and nothing that it wrote later would free another.
        await dead.close()
        await store.release_claims_of_the_dead(9, NOON)
        await step(store, claims[2], 0, "lee")
        with pytest.raises(ClaimLostError):
            await store.save(_slot("1", 0, "api", None, is_held=False), claim=claims[1])
        assert not (await store.load_limit_room("api", None, NOON)).is_free
        outcome = new_checkpoint("2", 0, status=StepStatus.COMPLETED, event=1)
        await store.finish_step(
            outcome, _slot("2", 0, "api", "lee", is_held=False), claim=claims[2]
        )
        assert (await store.load_limit_room("api", "lee", NOON)).is_free

    @over_a_store
    async def test_the_rate_of_a_limit_for_steps(self, store: CheckpointStore) -> None:
        await store.declare_limits([Limit("api", rate=Rate(2, MINUTE))])
        claim = await created(store, new_execution("e"))
        for number in range(2):
            await _begin_with_slot(store, claim, number, None, limit="api", at=number * SECOND)
        room = await store.load_limit_room("api", None, NOON + 2 * SECOND)
        assert (room.is_free, room.again_at) == (False, NOON + MINUTE)
        with pytest.raises(LimitFullError):
            await _begin_with_slot(store, claim, 2, None, limit="api", at=2 * SECOND)
        await _begin_with_slot(store, claim, 2, None, limit="api", at=MINUTE)
        assert not (await store.load_limit_room("api", None, NOON + MINUTE)).is_free
        # A clock that is set back does not keep anything waiting for long.
        assert (await store.load_limit_room("api", None, NOON - 9 * MINUTE)).is_free


def _slot(
    one: str, index: int, limit: str, key: str | None, *, is_held: bool, at: datetime = NOON
) -> StepSlot:
    return StepSlot(
        workflow_execution_id=one,
        branch="",
        step_index=index,
        limit=limit,
        key=key,
        is_held=is_held,
        at=at,
    )


async def _begin_with_slot(
    store: CheckpointStore,
    claim: WorkflowClaim,
    index: int,
    key: str | None,
    *,
    limit: str,
    at: timedelta = timedelta(0),
) -> None:
    one = claim.workflow_execution_id
    slot = _slot(one, index, limit, key, is_held=True, at=NOON + at)
    await store.begin_step(new_checkpoint(one, index, started_at=NOON), slot, claim=claim)


async def _enqueue(
    store: CheckpointStore,
    one: str,
    available_at: datetime = NOON,
    *,
    queue: str | None = None,
    queue_key: str | None = None,
    priority: int = 0,
) -> None:
    execution = queued(one, available_at, queue=queue, queue_key=queue_key, priority=priority)
    assert await store.enqueue_execution(WORKFLOW, execution)


def _suspended(one: str) -> WorkflowExecution:
    return queued(one, None, queue="mail", status=ExecutionStatus.SUSPENDED)
