"""The part of the contract about parents and children, and executions that begin again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ClaimLostError,
    ExecutionStatus,
    NewExecution,
    OnParentEnd,
    Progress,
    SignalStatus,
    StepKind,
    StepStatus,
    StreamItems,
    WorkflowExecution,
    WorkflowPatch,
    WorkflowSignal,
)
from durable_workflow_sqlite.records import CANCEL_SIGNAL, CHILD_SIGNAL
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    UNFINISHED,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    claimed,
    created,
    loaded,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    over_a_store,
    over_workers,
    queued,
    taken,
)

_TO_BE_ENDED = (ExecutionStatus.PENDING, ExecutionStatus.RUNNING, ExecutionStatus.SUSPENDED)


def child_of(parent: str, name: str, **fields: Any) -> WorkflowExecution:
    fields.setdefault("on_parent_end", OnParentEnd.CANCEL)
    return queued(name, NOON, parent_execution_id=parent, root_execution_id="root", **fields)


async def ends_of(store: CheckpointStore, parent: str) -> list[WorkflowSignal]:
    """What a parent was told of its children."""
    signals = await store.load_signals(parent)
    return [one for one in signals if one.signal_name.startswith(CHILD_SIGNAL)]


async def is_asked_to_cancel(store: CheckpointStore, one: str) -> bool:
    return bool(await store.load_pending_signals(one, CANCEL_SIGNAL))


class TreesContract(StoreContract):
    """Parents, children, and what begins again."""

    @over_a_store
    async def test_a_child_is_started_with_what_its_parent_records(
        self, store: CheckpointStore
    ) -> None:
        claim = await created(store, new_execution("p"))
        child = child_of("p", "c", run_number=1)
        new = NewExecution(workflow=WORKFLOW, execution=child)
        started = new_checkpoint("p", 0, status=StepStatus.COMPLETED, event=1)
        await store.save(started, claim=claim, start=[new])
        assert await loaded(store, "c") == child
        assert (await taken(store, "c")).execution == child

    @over_a_store
    async def test_a_parent_is_told_of_each_end_of_a_child(self, store: CheckpointStore) -> None:
        await store.save(new_execution("p"))
        ends: list[dict[str, Any]] = []
        for status in FINAL:
            is_well = status is ExecutionStatus.COMPLETED
            end = {
                "output_data": '{"a":[1.5,"ü"]}' if is_well else None,
                "error_type": None if is_well else "builtins:ValueError",
                "error_message": None if is_well else "it broke",
            }
            child = child_of("p", status.value)
            await store.save(child)
            claim = await claimed(store, status.value)
            assert len(await ends_of(store, "p")) == len(ends)
            over = child_of("p", status.value, status=status, updated_at=NOON + MINUTE, **end)
            await store.save(over, claim=claim)
            output = json.loads(end.pop("output_data") or "null")
            ends.append({"status": status.value, "output": output, **end})
        told = await ends_of(store, "p")
        assert [json.loads(one.payload or "") for one in told] == ends
        assert [one.signal_name for one in told] == [CHILD_SIGNAL + one.value for one in FINAL]
        assert {one.status for one in told} == {SignalStatus.PENDING}
        assert {one.created_at for one in told} == {NOON + MINUTE}

    @over_a_store
    async def test_what_does_not_end_a_child_is_not_told(self, store: CheckpointStore) -> None:
        await store.save(new_execution("p"))
        for status in UNFINISHED:
            await store.save(child_of("p", "c", status=status))
        await store.save(new_execution("alone", status=ExecutionStatus.RUNNING))
        await store.save(new_execution("alone", status=ExecutionStatus.COMPLETED))
        orphan = child_of("unknown", "orphan")
        await store.save(orphan)
        await store.save(child_of("unknown", "orphan", status=ExecutionStatus.COMPLETED))
        assert await ends_of(store, "p") == []

    @over_a_store
    async def test_a_parent_that_is_over_is_told_once_it_runs_again(
        self, store: CheckpointStore
    ) -> None:
        detached = child_of("p", "c", on_parent_end=OnParentEnd.DETACH)
        await store.save(new_execution("p"), detached)
        await store.save(new_execution("p", status=ExecutionStatus.FAILED))
        await store.save(child_of("p", "c", status=ExecutionStatus.COMPLETED))
        (told,) = await ends_of(store, "p")
        assert told.status is SignalStatus.EXPIRED
        seen = await taken(store, "p")
        assert await store.mend_execution(seen, new_execution("p"))
        (told,) = await ends_of(store, "p")
        assert told.status is SignalStatus.PENDING

    @over_a_store
    async def test_an_end_that_is_told_wakes_only_what_waits_for_it(
        self, store: CheckpointStore
    ) -> None:
        for parent, awaits in (("waits", "c of waits"), ("other", "another")):
            await store.save(
                queued(parent, None, status=ExecutionStatus.SUSPENDED),
                new_checkpoint(parent, 0, name=CHILD_SIGNAL + awaits, kind=StepKind.SIGNAL),
                child_of(parent, f"c of {parent}"),
            )
            over = child_of(parent, f"c of {parent}", status=ExecutionStatus.COMPLETED)
            await store.save(over)
            claim = await claimed(store, parent)
            await store.save(queued(parent, None, status=ExecutionStatus.SUSPENDED), claim=claim)
            await store.release_claims([claim], NOON)
        assert (await loaded(store, "waits")).available_at is not None
        assert (await loaded(store, "other")).available_at is None

    @over_a_store
    async def test_a_parent_that_begins_to_undo_or_is_over_cancels_its_children(
        self, store: CheckpointStore
    ) -> None:
        for end in (ExecutionStatus.COMPENSATING, *FINAL):
            parent = f"p {end}"
            await store.save(new_execution(parent))
            for status in ExecutionStatus:
                await store.save(
                    child_of(parent, f"{end} {status}", status=status),
                    child_of(
                        parent,
                        f"{end} {status} detached",
                        status=status,
                        on_parent_end=OnParentEnd.DETACH,
                    ),
                )
            claim = await claimed(store, parent)
            await store.save(new_execution(parent, status=end, updated_at=NOON), claim=claim)
            for status in ExecutionStatus:
                is_asked = await is_asked_to_cancel(store, f"{end} {status}")
                assert is_asked is (status in _TO_BE_ENDED), (end, status)
                assert not await is_asked_to_cancel(store, f"{end} {status} detached")

    @over_a_store
    async def test_children_are_asked_to_cancel_once(self, store: CheckpointStore) -> None:
        await store.save(new_execution("p"), child_of("p", "c"))
        await store.request_cancel("c")
        claim = await claimed(store, "p")
        for status in (ExecutionStatus.COMPENSATING, ExecutionStatus.CANCELLED):
            await store.save(new_execution("p", status=status), claim=claim)
        assert len(await store.load_pending_signals("c", CANCEL_SIGNAL)) == 1

    @over_a_store
    async def test_the_ends_of_a_tree_are_noticed(self, store: CheckpointStore) -> None:
        await store.save(new_execution("p"), child_of("p", "c"))
        claim = await claimed(store, "c")
        before = store.change_counter()
        await store.save(child_of("p", "c", status=ExecutionStatus.COMPLETED), claim=claim)
        assert store.change_counter() != before
        await store.save(child_of("p", "d"))
        claim = await claimed(store, "p")
        before = store.change_counter()
        await store.save(new_execution("p", status=ExecutionStatus.COMPLETED), claim=claim)
        assert store.change_counter() != before

    @over_a_store
    async def test_the_end_of_a_child_and_what_its_parent_is_told_are_one(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("p"), child_of("p", "c"))
        claim = await claimed(store, "c")
        await store.release_claims([claim])
        with pytest.raises(ClaimLostError):
            await store.save(child_of("p", "c", status=ExecutionStatus.COMPLETED), claim=claim)
        assert await ends_of(store, "p") == []

    # Beginning again

    @over_a_store
    async def test_an_execution_begins_anew(self, store: CheckpointStore) -> None:
        first = new_execution("e", input_data="[1]", created_at=NOON)
        claim = await created(store, first)
        await store.save(
            new_checkpoint("e", 0, status=StepStatus.COMPLETED, event=1),
            new_checkpoint("e", 1),
            new_timer("e", "t", NOON),
            WorkflowPatch(workflow_execution_id="e", patch_name="add-tax"),
            StreamItems(workflow_execution_id="e", step_index=1, step_name="say", items=("1",)),
            Progress(workflow_execution_id="e", done=1),
            new_execution("e", status=ExecutionStatus.RUNNING, current_step=2, recovery_count=3),
            claim=claim,
        )
        await store.save(child_of("e", "c"), child_of("e", "over"))
        await store.save(child_of("e", "over", status=ExecutionStatus.COMPLETED))
        await store.send_signal(new_signal("e", "go"))
        at = NOON + MINUTE
        anew = new_execution("e", input_data="[2]", run_number=2, created_at=NOON, updated_at=at)
        await store.continue_as_new(anew, claim=claim)
        found = await taken(store, "e")
        assert found.execution == new_execution(
            "e",
            status=ExecutionStatus.RUNNING,
            input_data="[2]",
            run_number=2,
            created_at=NOON,
            started_at=at,
            updated_at=at,
        )
        assert (found.checkpoints, found.pending_timers, found.patches) == ([], [], [])
        assert await store.load_stream_items("e") == []
        assert await store.load_progress("e") == []
        (kept,) = await store.load_pending_signals("e")
        assert kept.signal_name == "go"
        assert await is_asked_to_cancel(store, "c")
        await store.save(new_checkpoint("e", 0), claim=claim)

    @over_a_store
    async def test_a_fork_that_begins_anew_has_nothing_copied_any_more(
        self, store: CheckpointStore
    ) -> None:
        claim = await created(
            store, new_execution("e", forked_from="old", forked_before="x", replay_origin="{}")
        )
        await store.continue_as_new(new_execution("e", run_number=2), claim=claim)
        found = (await taken(store, "e")).execution
        assert (found.forked_from, found.forked_before) == ("old", "x")
        assert found.replay_origin is None

    @over_a_store
    async def test_only_the_worker_that_has_it_begins_it_anew(self, store: CheckpointStore) -> None:
        claim = await created(store, new_execution("e", input_data="[1]"))
        await store.save(new_checkpoint("e", 0), claim=claim)
        await store.release_claims([claim])
        before = await taken(store, "e")
        anew = new_execution("e", input_data="[2]", run_number=2)
        with pytest.raises(ClaimLostError):
            await store.continue_as_new(anew, claim=claim)
        with pytest.raises(ValueError, match="cover"):
            await store.continue_as_new(new_execution("other"), claim=claim)
        assert await taken(store, "e") == before

    @over_workers
    async def test_children_that_end_at_once_in_two_workers_are_both_told(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        await store.save(new_execution("p"), child_of("p", "a"), child_of("p", "b"))
        other = await open_another()
        for one, by in (("a", store), ("b", other)):
            claim = await claimed(by, one)
            await by.save(child_of("p", one, status=ExecutionStatus.COMPLETED), claim=claim)
        told = {one.signal_name for one in await ends_of(other, "p")}
        assert told == {CHILD_SIGNAL + "a", CHILD_SIGNAL + "b"}
