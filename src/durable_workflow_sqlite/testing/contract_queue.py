"""The store contract: the queue of what nobody has claimed, and how executions get into it."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ExecutionConflictError,
    ExecutionNotFoundError,
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
    UNFINISHED,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    over_a_store,
    over_workers,
    without_ids,
)
from durable_workflow_sqlite.testing.contract_base import (
    claimed_ids as _ids,
)
from durable_workflow_sqlite.testing.contract_base import (
    queued as _queued,
)

ORDER = [("order", 1)]
BACKGROUND = WorkflowGuarantee.BEST_EFFORT_BACKGROUND

NOT_FOR_IT = ("other", "GO", "go on", "step", "a sleep", "gone")
"""Names of signals that nothing waits for in the records of `_save_waits`."""


class QueueContract(StoreContract):
    """What is claimed next, and by whom."""

    @over_a_store
    async def test_what_is_enqueued_is_claimed_once(self, store: CheckpointStore) -> None:
        execution = _queued("e", NOON)
        assert await store.enqueue_execution(WORKFLOW, execution)
        assert await store.load_execution("e") == execution
        assert not await store.enqueue_execution(WORKFLOW, _queued("e", NOON, input_data="[2]"))
        assert await store.load_execution("e") == execution
        (claim,) = await store.claim_available(ORDER, 10, now=NOON)
        assert (claim.workflow_execution_id, claim.worker_id) == ("e", store.worker_id)
        assert claim.status_before is ExecutionStatus.PENDING
        assert await store.claim_available(ORDER, 10, now=NOON) == []
        claimed = await store.load_execution("e")
        assert claimed is not None
        assert (claimed.status, claimed.available_at) == (ExecutionStatus.RUNNING, None)
        await store.save(new_checkpoint("e", 0), claim=claim)

    @over_a_store
    async def test_enqueuing_under_an_id_that_is_taken_writes_nothing(
        self, store: CheckpointStore
    ) -> None:
        await store.save_execution(new_execution("e", status=ExecutionStatus.FAILED))
        other = Workflow(workflow_id="w2", workflow_type="w")
        assert not await store.enqueue_execution(other, _queued("e", NOON, workflow_id="w2"))
        assert await store.load_workflow("w2") is None
        for status in FINAL:
            with pytest.raises(ValueError, match="final"):
                await store.enqueue_execution(WORKFLOW, _queued("f", NOON, status=status))
        assert await store.load_execution("f") is None

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
            await store.enqueue_execution(WORKFLOW, _queued(name, at, priority=priority))
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
        await store.enqueue_execution(WORKFLOW, _queued("first", NOON))
        await store.enqueue_execution(other, _queued("second", NOON + MINUTE, workflow_id="w2"))
        await store.enqueue_execution(WORKFLOW, _queued("third", NOON + 2 * MINUTE))
        claims = await store.claim_available([*ORDER, ("pay", 3)], 9, now=NOON + 9 * MINUTE)
        assert _ids(claims) == ["first", "second", "third"]

    @over_a_store
    async def test_only_registered_types_and_versions_are_claimed(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, _queued("e", NOON))
        for workflows in ([], [("order", 2)], [("pay", 1)]):
            assert await store.claim_available(workflows, 9, now=NOON) == []
            assert await store.load_next_available_at(workflows) is None
            assert await store.load_unregistered(workflows, 9) == ["e"]
        assert await store.load_unregistered(ORDER, 9) == []
        assert _ids(await store.claim_available([("pay", 1), *ORDER], 9, now=NOON)) == ["e"]

    @over_a_store
    async def test_of_those_that_are_not_registered_the_oldest_are_found(
        self, store: CheckpointStore
    ) -> None:
        other = Workflow(workflow_id="w2", workflow_type="pay", version=3)
        await store.save(WORKFLOW, other)
        for number, status in enumerate([*UNFINISHED, *UNFINISHED, *FINAL]):
            await store.save_execution(
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
    async def test_nothing_is_claimed_before_its_time_or_when_it_is_left_alone(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, _queued("late", NOON + MINUTE))
        assert await store.load_next_available_at(ORDER) == NOON + MINUTE
        assert await store.claim_available(ORDER, 9, now=NOON) == []
        at = NOON + MINUTE
        assert await store.claim_available(ORDER, 9, passed_over=["late"], now=at) == []
        assert _ids(await store.claim_available(ORDER, 9, passed_over=["x"], now=at)) == ["late"]
        assert await store.load_next_available_at(ORDER) is None

    @over_a_store
    async def test_what_is_released_may_be_claimed_again(self, store: CheckpointStore) -> None:
        for status in UNFINISHED:
            claim = await store.create_execution(
                WORKFLOW, new_execution(status, status=status, guarantee=BACKGROUND)
            )
            assert claim is not None
            await store.release_claims([claim], NOON)
            released = await store.load_execution(status)
            assert released is not None
            assert released.available_at == NOON
            assert released.status is status

    @over_a_store
    async def test_what_waits_may_be_claimed_at_its_time_even_without_a_timer(
        self, store: CheckpointStore
    ) -> None:
        for kind in (StepKind.SIGNAL, StepKind.SLEEP):
            for number, due_at in enumerate((None, NOON, NOON + MINUTE)):
                claim = await store.create_execution(
                    WORKFLOW,
                    new_execution(
                        f"{kind} {number}",
                        status=ExecutionStatus.SUSPENDED,
                        guarantee=BACKGROUND,
                    ),
                )
                assert claim is not None
                wait = new_checkpoint(claim.workflow_execution_id, 0, kind=kind, due_at=due_at)
                await store.save_checkpoint(wait)
                await store.release_claims([claim], NOON)
                assert await _available_at(store, claim.workflow_execution_id) == due_at

    @over_a_store
    async def test_what_was_left_in_trouble_is_in_the_queue_and_claimed_without_it(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, _queued("e", NOON))
        (claim,) = await store.claim_available(ORDER, 1, now=NOON)
        await store.release_claims([claim], NOON, trouble="it does not fit")
        assert await _available_at(store, "e") == NOON
        (claim,) = await store.claim_available(ORDER, 1, now=NOON)
        held = await store.load_execution("e")
        assert held is not None
        assert held.trouble is None

    @over_a_store
    async def test_what_was_enqueued_is_started_when_a_worker_takes_it_on(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, _queued("e", NOON))
        queued = await store.load_execution("e")
        assert queued is not None
        assert queued.started_at is None
        for later in (1, 2):
            now = NOON + later * MINUTE
            (claim,) = await store.claim_available(ORDER, 1, now=now)
            held = await store.load_execution("e")
            assert held is not None
            assert held.started_at == NOON + MINUTE
            await store.release_claims([claim], now)

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
            suspended = new_execution(
                name, status=ExecutionStatus.SUSPENDED, ttl_expires_at=ttl, guarantee=BACKGROUND
            )
            claim = await store.create_execution(WORKFLOW, suspended)
            assert claim is not None
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
        await store.put_back(another, NOON)
        assert await _available_at(store, "e") is None
        await store.put_back(mine, NOON)
        assert await _available_at(store, "e") == NOON
        await store.put_back(mine, NOON + MINUTE)
        await store.put_back(new_execution("unknown"), NOON)
        assert await _available_at(store, "e") == NOON
        assert len(await store.claim_available(ORDER, 9, now=NOON)) == 1

    @over_a_store
    async def test_a_signal_wakes_what_nobody_has(self, store: CheckpointStore) -> None:
        for status in UNFINISHED:
            await store.save_execution(new_execution(status, status=status, guarantee=BACKGROUND))
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
            await store.save_execution(
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
        await store.save_signal(new_signal("SUSPENDED", "go", created_at=NOON + MINUTE))
        assert await _available_at(store, "SUSPENDED") == NOON + MINUTE
        await store.save_signal(new_signal("SUSPENDED", CANCEL_SIGNAL, created_at=NOON))
        assert await _available_at(store, "SUSPENDED") == NOON

    @over_a_store
    async def test_a_signal_that_came_before_its_wait_was_recorded_is_for_it(
        self, store: CheckpointStore
    ) -> None:
        running = new_execution("e", status=ExecutionStatus.RUNNING, guarantee=BACKGROUND)
        claim = await store.create_execution(WORKFLOW, running)
        assert claim is not None
        await store.send_signal(new_signal("e", "go", created_at=NOON))
        wait = new_checkpoint("e", 0, name="go", kind=StepKind.SIGNAL)
        suspended = new_execution("e", status=ExecutionStatus.SUSPENDED, guarantee=BACKGROUND)
        await store.save(wait, suspended, claim=claim)
        await store.release_claims([claim], NOON + MINUTE)
        assert await _available_at(store, "e") == NOON + MINUTE

    @over_a_store
    async def test_a_signal_for_one_that_was_cut_off_is_not_lost(
        self, store: CheckpointStore
    ) -> None:
        running = new_execution("e", status=ExecutionStatus.RUNNING, guarantee=BACKGROUND)
        claim = await store.create_execution(WORKFLOW, running)
        assert claim is not None
        await store.send_signal(new_signal("e", "go", created_at=NOON))
        await store.release_claims([claim], NOON + MINUTE)
        assert await _available_at(store, "e") == NOON + MINUTE

    @over_a_store
    async def test_a_signal_leaves_what_somebody_has_or_must_look_at(
        self, store: CheckpointStore
    ) -> None:
        held = new_execution("held", guarantee=BACKGROUND)
        assert await store.create_execution(WORKFLOW, held) is not None
        await store.save_execution(new_execution("foreground"))
        await store.save_execution(
            new_execution("blocked", blocked_reason="why not", guarantee=BACKGROUND)
        )
        for one in ("held", "foreground", "blocked"):
            await store.send_signal(new_signal(one, "go", created_at=NOON))
            assert await _available_at(store, one) is None

    @over_a_store
    async def test_what_runs_in_the_foreground_only_is_never_in_the_queue(
        self, store: CheckpointStore
    ) -> None:
        for status in UNFINISHED:
            claim = await store.create_execution(WORKFLOW, new_execution(status, status=status))
            assert claim is not None
            await store.release_claims([claim], NOON)
        await store.save_timer(new_timer("SUSPENDED", "t", NOON + MINUTE))
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
        await store.save_execution(new_execution("e", guarantee=BACKGROUND))
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
            await store.enqueue_execution(WORKFLOW, _queued(status, NOON))
            (claim,) = await store.claim_available(ORDER, 9, now=NOON)
            await store.save(new_execution(status, status=status), claim=claim)
            await store.release_claims([claim], NOON)
            assert await _available_at(store, status) is None
        await store.enqueue_execution(WORKFLOW, _queued("by hand", NOON))
        await store.save_execution(_queued("by hand", None, status=ExecutionStatus.CANCELLED))
        assert await store.claim_available(ORDER, 9, now=NOON) == []

    @over_a_store
    async def test_a_failed_execution_is_reopened_with_what_is_saved_beside(
        self, store: CheckpointStore
    ) -> None:
        failed = new_execution(
            "e",
            status=ExecutionStatus.FAILED,
            guarantee=BACKGROUND,
            error_type="builtins:ValueError",
            error_message="it broke",
            ttl_expires_at=NOON,
            recovery_count=3,
            last_event=2,
            started_at=NOON - MINUTE,
        )
        await store.save(failed, new_checkpoint("e", 0, status=StepStatus.FAILED))
        again = new_checkpoint("e", 0, status=StepStatus.FAILED, due_at=NOON)
        await store.reopen_execution("e", again, now=NOON)
        reopened = await store.load_execution("e")
        assert reopened is not None
        assert reopened.status is ExecutionStatus.PENDING
        assert (reopened.error_type, reopened.error_message) == (None, None)
        assert reopened.ttl_expires_at is None
        assert (reopened.last_event, reopened.started_at) == (None, NOON - MINUTE)
        assert (reopened.recovery_count, reopened.available_at) == (0, NOON)
        assert [one.due_at for one in await store.load_checkpoints("e")] == [NOON]

    @over_a_store
    async def test_only_what_failed_and_was_not_undone_is_reopened(
        self, store: CheckpointStore
    ) -> None:
        with pytest.raises(ExecutionNotFoundError):
            await store.reopen_execution("unknown")
        for status in ExecutionStatus:
            execution = new_execution(status, status=status)
            await store.save_execution(execution)
            if status is ExecutionStatus.FAILED:
                undone = new_checkpoint(
                    status, 0, name="pay:compensate", status=StepStatus.COMPENSATED, attempt=0
                )
                await store.save_checkpoint(undone)
            with pytest.raises(ExecutionConflictError):
                await store.reopen_execution(status, new_checkpoint(status, 5))
            assert await store.load_execution(status) == execution
            assert all(one.step_index != 5 for one in await store.load_checkpoints(status))

    @over_a_store
    async def test_what_could_not_be_undone_is_reopened_to_be_undone(
        self, store: CheckpointStore
    ) -> None:
        for status in (ExecutionStatus.FAILED, ExecutionStatus.CANCELLED):
            ended = new_execution(
                status,
                status=status,
                guarantee=BACKGROUND,
                error_type="builtins:ValueError",
                error_message="it broke",
                ttl_expires_at=NOON,
                last_event=2,
            )
            failed = new_checkpoint(
                status, 0, name="pay:compensate", status=StepStatus.FAILED, attempt=0
            )
            await store.save(ended, failed)
            again = msgspec.structs.replace(failed, status=StepStatus.INTENT, due_at=NOON)
            await store.reopen_execution(status, again, now=NOON)
            reopened = await store.load_execution(status)
            assert reopened is not None
            assert reopened.status is ExecutionStatus.COMPENSATING
            assert (reopened.error_type, reopened.last_event) == ("builtins:ValueError", 2)
            assert (reopened.ttl_expires_at, reopened.available_at) == (None, NOON)
            assert without_ids(await store.load_checkpoints(status)) == [again]

    # Several workers

    @over_workers
    async def test_two_workers_share_what_there_is(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        for number in range(40):
            await store.enqueue_execution(WORKFLOW, _queued(f"e{number}", NOON))
        mine: list[str] = []
        others: list[str] = []
        for _ in range(20):
            mine += _ids(await store.claim_available(ORDER, 4, now=NOON))
            others += _ids(await other.claim_available(ORDER, 4, now=NOON))
        assert len({*mine, *others}) == len(mine) + len(others) == 40
        assert min(len(mine), len(others)) >= 10


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
    execution = await store.load_execution(workflow_execution_id)
    assert execution is not None
    return execution.available_at
