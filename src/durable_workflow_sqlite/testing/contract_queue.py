"""The store contract: which worker has which execution, and what waits for one."""

from __future__ import annotations

import asyncio
from datetime import datetime

from durable_workflow_sqlite import (
    CheckpointStore,
    ExecutionStatus,
    StepKind,
    StepStatus,
    TimerStatus,
    Workflow,
    WorkflowClaim,
    WorkflowGuarantee,
)
from durable_workflow_sqlite.records import CANCEL_SIGNAL
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    ORDER,
    UNFINISHED,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    claimed,
    claimed_ids,
    created,
    loaded,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    over_a_store,
    over_workers,
    queued,
)

BACKGROUND = WorkflowGuarantee.BEST_EFFORT_BACKGROUND

NOT_FOR_IT = ("other", "GO", "go on", "step", "a sleep", "gone")
"""Names of signals that nothing waits for in the records of `_save_waits`."""


class QueueContract(StoreContract):
    """What is claimed, by whom, and what is claimed next."""

    @over_a_store
    async def test_what_is_enqueued_is_claimed_once(self, store: CheckpointStore) -> None:
        execution = queued("e", NOON)
        assert await store.enqueue_execution(WORKFLOW, execution)
        assert await store.load_execution("e") == execution
        assert not await store.enqueue_execution(WORKFLOW, queued("e", NOON, input_data="[2]"))
        assert await store.load_execution("e") == execution
        (claim,) = await store.claim_available(ORDER, 10, now=NOON)
        assert (claim.workflow_execution_id, claim.worker_id) == ("e", store.worker_id)
        assert claim.status_before is ExecutionStatus.PENDING
        assert await store.claim_available(ORDER, 10, now=NOON) == []
        claimed = await loaded(store, "e")
        assert (claimed.status, claimed.available_at) == (ExecutionStatus.RUNNING, None)
        await store.save(new_checkpoint("e", 0), claim=claim)

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
            await store.save(new_execution(status, status=status))
            assert await store.claim_execution(status) is None

    @over_a_store
    async def test_what_is_not_final_can_be_claimed_once_and_runs(
        self, store: CheckpointStore
    ) -> None:
        for status in UNFINISHED:
            await store.save(new_execution(status, status=status, available_at=NOON))
            is_undone = status is ExecutionStatus.COMPENSATING
            for later in (NOON, NOON + MINUTE):
                before = await loaded(store, status)
                claim = await claimed(store, status, later)
                assert (claim.workflow_execution_id, claim.worker_id) == (status, store.worker_id)
                assert claim.status_before is before.status
                assert await store.claim_execution(status) is None
                held = await loaded(store, status)
                assert held.status is (status if is_undone else ExecutionStatus.RUNNING)
                # The first claim says when it was started.
                assert (held.available_at, held.updated_at, held.started_at) == (None, later, NOON)
                await store.release_claims([claim], NOON)

    @over_a_store
    async def test_what_is_blocked_cannot_be_claimed(self, store: CheckpointStore) -> None:
        await store.save(new_execution("e", blocked_reason="why not"))
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
            await store.save(new_execution(status, status=status))
            claim = await claimed(store, status)
            await store.save(new_checkpoint(status, 0), claim=claim)
            await store.release_claims([claim], NOON + MINUTE, trouble="it does not fit")
            left = await loaded(store, status)
            assert (left.trouble, left.updated_at) == ("it does not fit", NOON + MINUTE)
            claim = await claimed(store, status)
            held = await loaded(store, status)
            assert held.trouble is None
            await store.release_claims([claim], NOON)
            released = await loaded(store, status)
            assert released.trouble is None

    @over_a_store
    async def test_a_claim_that_was_lost_tells_of_no_trouble(self, store: CheckpointStore) -> None:
        lost = await created(store, new_execution("e"))
        await store.release_claims([lost])
        held = await store.claim_execution("e")
        await store.release_claims([lost], trouble="it does not fit")
        await store.save(new_execution("e", status=ExecutionStatus.COMPLETED), claim=held)
        await store.release_claims([lost], trouble="it does not fit")
        final = await loaded(store, "e")
        assert final.trouble is None

    @over_a_store
    async def test_a_claim_that_was_lost_releases_nothing(self, store: CheckpointStore) -> None:
        lost = await created(store, new_execution("e"))
        await store.release_claims([lost])
        held = await store.claim_execution("e")
        await store.release_claims([lost, lost])
        await store.save(new_checkpoint("e", 0), claim=held)
        assert await store.claim_execution("e") is None

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
    async def test_the_higher_priority_goes_first_and_then_the_longer_waiting(
        self, store: CheckpointStore
    ) -> None:
        for name, priority, at in (
            ("low", -5, NOON - 9 * MINUTE),
            ("young", 0, NOON),
            ("old", 0, NOON - MINUTE),
            ("high", 7, NOON),
            ("highest", 2**63 - 1, NOON),
        ):
            await store.enqueue_execution(WORKFLOW, queued(name, at, priority=priority))
        order = [
            claim.workflow_execution_id
            for _ in range(3)
            for claim in await store.claim_available(ORDER, 2, now=NOON)
        ]
        assert order == ["highest", "high", "old", "young", "low"]

    @over_a_store
    async def test_workflows_of_one_priority_take_turns_by_age(
        self, store: CheckpointStore
    ) -> None:
        other = Workflow(workflow_id="w2", workflow_type="pay", version=3)
        await store.enqueue_execution(WORKFLOW, queued("first", NOON))
        await store.enqueue_execution(other, queued("second", NOON + MINUTE, workflow_id="w2"))
        await store.enqueue_execution(WORKFLOW, queued("third", NOON + 2 * MINUTE))
        claims = await store.claim_available([*ORDER, ("pay", 3)], 9, now=NOON + 9 * MINUTE)
        assert claimed_ids(claims) == ["first", "second", "third"]

    @over_a_store
    async def test_only_registered_types_and_versions_are_claimed(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, queued("e", NOON))
        for workflows in ([], [("order", 2)], [("pay", 1)]):
            assert await store.claim_available(workflows, 9, now=NOON) == []
            assert await store.load_next_available_at(workflows) is None
            assert await store.load_unregistered(workflows, 9) == ["e"]
        assert await store.load_unregistered(ORDER, 9) == []
        assert claimed_ids(await store.claim_available([("pay", 1), *ORDER], 9, now=NOON)) == ["e"]

    @over_a_store
    async def test_of_those_that_are_not_registered_the_oldest_are_found(
        self, store: CheckpointStore
    ) -> None:
        other = Workflow(workflow_id="w2", workflow_type="pay", version=3)
        await store.save(WORKFLOW, other)
        for number, status in enumerate([*UNFINISHED, *UNFINISHED, *FINAL]):
            await store.save(
                new_execution(
                    f"{number}",
                    workflow_id=("w2", WORKFLOW.workflow_id)[number % 3 == 0],
                    status=status,
                    created_at=NOON - number * MINUTE,
                )
            )
        assert await store.load_unregistered([], 9) == list("76543210")
        assert await store.load_unregistered([], 3) == list("765")
        assert await store.load_unregistered([("pay", 3)], 2) == list("63")
        assert await store.load_unregistered(ORDER, 9) == list("75421")

    @over_a_store
    async def test_nothing_is_claimed_before_its_time_or_when_it_is_passed_over(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, queued("late", NOON + MINUTE))
        assert await store.load_next_available_at(ORDER) == NOON + MINUTE
        assert await store.claim_available(ORDER, 9, now=NOON) == []
        at = NOON + MINUTE
        assert await store.claim_available(ORDER, 9, passed_over=["late"], now=at) == []
        assert claimed_ids(await store.claim_available(ORDER, 9, passed_over=["x"], now=at)) == [
            "late"
        ]
        assert await store.load_next_available_at(ORDER) is None

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

    @over_a_store
    async def test_what_is_released_may_be_claimed_again(self, store: CheckpointStore) -> None:
        for status in UNFINISHED:
            claim = await created(store, queued(status, None, status=status))
            await store.release_claims([claim], NOON)
            released = await loaded(store, status)
            assert released.available_at == NOON
            assert released.status is status

    @over_a_store
    async def test_what_waits_may_be_claimed_at_its_time_even_without_a_timer(
        self, store: CheckpointStore
    ) -> None:
        for kind in (StepKind.SIGNAL, StepKind.SLEEP):
            for number, due_at in enumerate((None, NOON, NOON + MINUTE)):
                one = queued(f"{kind} {number}", None, status=ExecutionStatus.SUSPENDED)
                claim = await created(store, one)
                wait = new_checkpoint(claim.workflow_execution_id, 0, kind=kind, due_at=due_at)
                await store.save(wait)
                await store.release_claims([claim], NOON)
                released = await loaded(store, claim.workflow_execution_id)
                assert released.available_at == due_at

    @over_a_store
    async def test_what_was_left_in_trouble_is_in_the_queue_and_claimed_without_it(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, queued("e", NOON))
        (claim,) = await store.claim_available(ORDER, 1, now=NOON)
        await store.release_claims([claim], NOON, trouble="it does not fit")
        assert await _available_at(store, "e") == NOON
        (claim,) = await store.claim_available(ORDER, 1, now=NOON)
        held = await loaded(store, "e")
        assert held.trouble is None

    @over_a_store
    async def test_what_was_enqueued_is_started_when_a_worker_takes_it_on(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, queued("e", NOON))
        assert (await loaded(store, "e")).started_at is None
        for later in (1, 2):
            now = NOON + later * MINUTE
            claims = await store.claim_available(ORDER, 1, now=now)
            assert (await loaded(store, "e")).started_at == NOON + MINUTE
            await store.release_claims(claims, now)

    @over_a_store
    async def test_one_that_waits_is_released_until_its_time(self, store: CheckpointStore) -> None:
        for name, timers, ttl, signals, expected in (
            ("timers", [MINUTE, 2 * MINUTE], None, [], NOON + MINUTE),
            ("ttl", [], NOON + 3 * MINUTE, [], NOON + 3 * MINUTE),
            ("both", [4 * MINUTE], NOON + 3 * MINUTE, [], NOON + 3 * MINUTE),
            ("signalled", [MINUTE], None, ["other", "go"], NOON),
            ("cancelled", [MINUTE], None, [CANCEL_SIGNAL], NOON),
            ("not for it", [MINUTE], None, NOT_FOR_IT, NOON + MINUTE),
            ("forever", [], None, [], None),
        ):
            suspended = queued(name, None, status=ExecutionStatus.SUSPENDED, ttl_expires_at=ttl)
            claim = await created(store, suspended)
            await store.save(
                *(new_timer(name, f"{name} {after}", NOON + after) for after in timers),
                new_timer(name, f"{name} fired", NOON - MINUTE, status=TimerStatus.FIRED),
            )
            await _save_waits(store, name, claim)
            for signal in signals:
                await store.send_signal(new_signal(name, signal, created_at=NOON))
            await store.release_claims([claim], NOON)
            assert await _available_at(store, name) == expected

    @over_a_store
    async def test_a_start_that_nobody_heard_of_is_put_back(self, store: CheckpointStore) -> None:
        mine = new_execution("e", guarantee=BACKGROUND, created_at=NOON)
        assert await store.create_execution(WORKFLOW, mine) is not None
        another = new_execution("e", guarantee=BACKGROUND, created_at=NOON + MINUTE)
        await store.release_created(another, NOON)
        assert await _available_at(store, "e") is None
        await store.release_created(mine, NOON)
        assert await _available_at(store, "e") == NOON
        await store.release_created(mine, NOON + MINUTE)
        await store.release_created(new_execution("unknown"), NOON)
        assert await _available_at(store, "e") == NOON
        assert len(await store.claim_available(ORDER, 9, now=NOON)) == 1

    @over_a_store
    async def test_a_signal_wakes_what_nobody_has(self, store: CheckpointStore) -> None:
        for status in UNFINISHED:
            await store.save(queued(status, None, status=status))
            await _save_waits(store, status, None)
            await store.send_signal(new_signal(status, "go", created_at=NOON))
            assert await _available_at(store, status) == NOON
            await store.send_signal(new_signal(status, "go", created_at=NOON + MINUTE))
            assert await _available_at(store, status) == NOON

    @over_a_store
    async def test_one_that_only_waits_is_woken_by_what_may_be_for_it(
        self, store: CheckpointStore
    ) -> None:
        for status in UNFINISHED:
            await store.save(
                new_execution(
                    status, status=status, guarantee=BACKGROUND, available_at=NOON + 9 * MINUTE
                )
            )
            await _save_waits(store, status, None)
            for name in NOT_FOR_IT:
                await store.send_signal(new_signal(status, name, created_at=NOON))
        for status, woken_at in (
            (ExecutionStatus.PENDING, NOON + 9 * MINUTE),  # it keeps its delay
            (ExecutionStatus.RUNNING, NOON),  # what it waits for is not recorded yet, perhaps
            (ExecutionStatus.SUSPENDED, NOON + 9 * MINUTE),
            (ExecutionStatus.COMPENSATING, NOON),
        ):
            assert await _available_at(store, status) == woken_at
        await store.save(new_signal("SUSPENDED", "go", created_at=NOON + MINUTE))
        assert await _available_at(store, "SUSPENDED") == NOON + MINUTE
        await store.save(new_signal("SUSPENDED", CANCEL_SIGNAL, created_at=NOON))
        assert await _available_at(store, "SUSPENDED") == NOON

    @over_a_store
    async def test_a_signal_that_came_before_its_wait_was_recorded_is_for_it(
        self, store: CheckpointStore
    ) -> None:
        """Also if it is never recorded, since the worker was cut off."""
        for one in ("e", "cut off"):
            claim = await created(store, queued(one, None, status=ExecutionStatus.RUNNING))
            await store.send_signal(new_signal(one, "go", created_at=NOON))
            if one == "e":
                wait = new_checkpoint(one, 0, name="go", kind=StepKind.SIGNAL)
                suspended = queued(one, None, status=ExecutionStatus.SUSPENDED)
                await store.save(wait, suspended, claim=claim)
            await store.release_claims([claim], NOON + MINUTE)
            assert await _available_at(store, one) == NOON + MINUTE

    @over_a_store
    async def test_a_signal_leaves_what_somebody_has_or_must_look_at(
        self, store: CheckpointStore
    ) -> None:
        held = queued("held", None)
        assert await store.create_execution(WORKFLOW, held) is not None
        await store.save(new_execution("foreground"))
        await store.save(queued("blocked", None, blocked_reason="why not"))
        for one in ("held", "foreground", "blocked"):
            await store.send_signal(new_signal(one, "go", created_at=NOON))
            assert await _available_at(store, one) is None

    @over_a_store
    async def test_what_runs_in_the_foreground_only_is_never_in_the_queue(
        self, store: CheckpointStore
    ) -> None:
        for status in UNFINISHED:
            claim = await created(store, new_execution(status, status=status))
            await store.release_claims([claim], NOON)
        await store.save(new_timer("SUSPENDED", "t", NOON + MINUTE))
        assert await store.claim_available(ORDER, 9, now=NOON + 9 * MINUTE) == []
        found = {one.workflow_execution_id: one for one in await store.load_unqueued_executions()}
        assert set(found) == set(UNFINISHED)
        assert all(one.workflow_id == "order:1" for one in found.values())
        assert [one for one in found if not found[one].is_due] == ["SUSPENDED"]
        assert found["SUSPENDED"].wakes_at == NOON + MINUTE
        assert await store.claim_execution("RUNNING") is not None
        assert len(await store.load_unqueued_executions()) == len(UNFINISHED) - 1

    @over_a_store
    async def test_one_that_was_saved_by_hand_is_found_and_can_be_put_into_the_queue(
        self, store: CheckpointStore
    ) -> None:
        await store.save(queued("e", None))
        (found,) = await store.load_unqueued_executions()
        assert (found.workflow_execution_id, found.guarantee) == ("e", BACKGROUND)
        await store.put_into_queue(["e", "unknown"], NOON)
        assert await store.load_unqueued_executions() == []
        (claim,) = await store.claim_available(ORDER, 9, now=NOON)
        await store.put_into_queue(["e"], NOON)
        assert await _available_at(store, "e") is None
        await store.save(new_checkpoint("e", 0), claim=claim)

    @over_a_store
    async def test_one_that_is_final_is_in_no_queue(self, store: CheckpointStore) -> None:
        for status in FINAL:
            await store.enqueue_execution(WORKFLOW, queued(status, NOON))
            (claim,) = await store.claim_available(ORDER, 9, now=NOON)
            await store.save(new_execution(status, status=status), claim=claim)
            await store.release_claims([claim], NOON)
            assert await _available_at(store, status) is None
        await store.enqueue_execution(WORKFLOW, queued("by hand", NOON))
        await store.save(queued("by hand", None, status=ExecutionStatus.CANCELLED))
        assert await store.claim_available(ORDER, 9, now=NOON) == []

    @over_workers
    async def test_two_workers_share_what_there_is(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        for number in range(40):
            await store.enqueue_execution(WORKFLOW, queued(f"e{number}", NOON))
        mine: list[str] = []
        others: list[str] = []
        for _ in range(20):
            mine += claimed_ids(await store.claim_available(ORDER, 4, now=NOON))
            others += claimed_ids(await other.claim_available(ORDER, 4, now=NOON))
        assert len({*mine, *others}) == len(mine) + len(others) == 40
        assert min(len(mine), len(others)) >= 10

    @over_workers
    async def test_one_of_two_workers_gets_what_both_claim(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        for number in range(20):
            await store.save(new_execution(f"e{number}"))
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


async def _save_waits(
    store: CheckpointStore, workflow_execution_id: str, claim: WorkflowClaim | None
) -> None:
    """It waits for the signal "go", and for no other name."""
    await store.save(
        new_checkpoint(workflow_execution_id, 0, name="step"),
        new_checkpoint(workflow_execution_id, 1, name="a sleep", kind=StepKind.SLEEP),
        new_checkpoint(
            workflow_execution_id,
            2,
            name="gone",
            kind=StepKind.SIGNAL,
            status=StepStatus.COMPLETED,
            event=1,
        ),
        new_checkpoint(workflow_execution_id, 3, name="go", kind=StepKind.SIGNAL),
        claim=claim,
    )


async def _available_at(store: CheckpointStore, workflow_execution_id: str) -> datetime | None:
    execution = await loaded(store, workflow_execution_id)
    return execution.available_at
