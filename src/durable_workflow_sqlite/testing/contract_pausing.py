"""The store contract: what people pause and resume."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    ExecutionStatus,
    NewExecution,
    OnParentEnd,
    Pause,
    PauseScope,
    Queue,
    SignalStatus,
    StepKind,
    Workflow,
    WorkflowExecution,
    WorkflowGuarantee,
)
from durable_workflow_sqlite.records import CANCEL_SIGNAL, PAUSED_SIGNAL
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
    has_news,
    loaded,
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

OTHER = Workflow(workflow_id="other:1", workflow_type="other")
BOTH = [("order", 1), ("other", 1)]
OF_MAIL = Pause(scope=PauseScope.QUEUE, name="mail", paused_at=NOON, paused_by="kim")
EVERYTHING = Pause(scope=PauseScope.ALL, paused_at=NOON, paused_by="kim")


def of_orders(reason: str | None = None, by: str = "kim") -> Pause:
    return Pause(
        scope=PauseScope.WORKFLOW,
        name="order",
        paused_at=NOON,
        paused_by=by,
        paused_reason=reason,
    )


def pause_of(execution: WorkflowExecution) -> tuple[object, str | None, str | None]:
    return execution.paused_at, execution.paused_by, execution.paused_reason


def below(
    parent: str, name: str, on_parent_end: OnParentEnd = OnParentEnd.CANCEL
) -> WorkflowExecution:
    return queued(name, NOON, parent_execution_id=parent, on_parent_end=on_parent_end)


async def spread(store: CheckpointStore, now: datetime = NOON) -> None:
    """Until all that is below what was paused or resumed knows it."""
    while await store.spread_pauses(now):
        pass


class PausingContract(StoreContract):
    """One execution, all of a workflow, everything."""

    # One execution

    @over_a_store
    async def test_what_is_paused_is_not_claimed_until_it_is_resumed(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, queued("e", NOON, priority=9))
        await store.enqueue_execution(WORKFLOW, queued("other", NOON))
        assert await store.pause_execution("e", by="kim", reason="the bank", now=NOON + MINUTE)
        found = await loaded(store, "e")
        assert pause_of(found) == (NOON + MINUTE, "kim", "the bank")
        assert found.status is ExecutionStatus.PENDING
        assert found.available_at is None
        assert await store.claim_execution("e", NOON + MINUTE) is None
        claims = await store.claim_available(ORDER, 9, now=NOON + MINUTE)
        assert claimed_ids(claims) == ["other"]
        assert await store.load_next_available_at(ORDER) is None
        await store.put_into_queue(["e"], NOON)
        assert (await loaded(store, "e")).available_at is None
        assert await store.resume_execution("e", now=NOON + 2 * MINUTE)
        found = await loaded(store, "e")
        assert pause_of(found) == (None, None, None)
        assert found.available_at == NOON + 2 * MINUTE
        claims = await store.claim_available(ORDER, 9, now=NOON + 2 * MINUTE)
        assert claimed_ids(claims) == ["e"]

    @over_a_store
    async def test_a_pause_keeps_what_it_began_with_except_for_a_new_reason(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"))
        entry = new_audit_entry("pause")
        assert await store.pause_execution("e", entry, by="kim", reason="the bank", now=NOON)
        assert not await store.pause_execution("e", by="lee", now=NOON + MINUTE)
        assert pause_of(await loaded(store, "e")) == (NOON, "kim", "the bank")
        assert not await store.pause_execution("e", by="lee", reason="audit", now=NOON + MINUTE)
        assert pause_of(await loaded(store, "e")) == (NOON, "kim", "audit")
        resumed = new_audit_entry("resume")
        assert await store.resume_execution("e", resumed, now=NOON + MINUTE)
        assert not await store.resume_execution("e", resumed, now=NOON + MINUTE)
        assert await store.load_audit_log("e") == [entry, resumed]

    @over_a_store
    async def test_what_is_unknown_or_final_is_not_paused(self, store: CheckpointStore) -> None:
        ask: Any = store
        calls: tuple[tuple[Callable[[], Awaitable[bool]], type[Exception]], ...] = (
            (lambda: store.pause_execution("?", by="kim"), ExecutionNotFoundError),
            (lambda: store.resume_execution("?"), ExecutionNotFoundError),
            (lambda: ask.pause_execution("", by="kim"), ValueError),
            (lambda: ask.pause_execution("e", by=""), ValueError),
            (lambda: ask.end_pause("ALL"), TypeError),
            (lambda: ask.end_pause(PauseScope.WORKFLOW), ValueError),
            (lambda: ask.end_pause(PauseScope.QUEUE), ValueError),
            (lambda: ask.end_pause(PauseScope.ALL, "order"), ValueError),
        )
        for refused, kind in calls:
            with pytest.raises(kind):
                await refused()
        for status in FINAL:
            execution = new_execution(str(status), status=status)
            await store.save(execution)
            with pytest.raises(ExecutionFinishedError):
                await store.pause_execution(
                    str(status), new_audit_entry("pause", str(status)), by="kim"
                )
            assert await store.load_audit_log(str(status)) == []
            assert not await store.resume_execution(str(status))
            assert await loaded(store, str(status)) == execution

    @over_a_store
    async def test_an_execution_has_any_status_beside_its_pause(
        self, store: CheckpointStore
    ) -> None:
        for status in UNFINISHED:
            one = str(status)
            await store.save(queued(one, NOON, status=status))
            await store.pause_execution(one, by="kim", now=NOON)
            found = await loaded(store, one)
            assert (found.status, found.paused_at) == (status, NOON)
            assert (await taken(store, one)).execution == found
            await store.save(msgspec.structs.replace(found, paused_reason="by hand"))
            assert (await loaded(store, one)).paused_reason == "by hand"
            await store.resume_execution(one, now=NOON + MINUTE)
            assert (await loaded(store, one)).available_at == NOON + MINUTE
        with pytest.raises(ValueError, match="is paused"):
            await store.enqueue_execution(WORKFLOW, queued("new", NOON, paused_at=NOON))

    @over_a_store
    async def test_a_worker_still_writes_for_what_is_paused_meanwhile(
        self, store: CheckpointStore
    ) -> None:
        running = queued("e", None, status=ExecutionStatus.RUNNING, updated_at=NOON)
        claim = await created(store, running)
        await store.pause_execution("e", by="kim", reason="the bank", now=NOON + MINUTE)
        await store.save(
            msgspec.structs.replace(running, current_step=1),
            new_checkpoint("e", 0),
            claim=claim,
        )
        found = await loaded(store, "e")
        assert found.current_step == 1
        assert pause_of(found) == (NOON + MINUTE, "kim", "the bank")
        assert await store.resume_execution("e", now=NOON + MINUTE)
        assert (await loaded(store, "e")).available_at is None  # its worker has it still
        await store.pause_execution("e", by="kim", now=NOON + MINUTE)
        await store.release_claims([claim], NOON + MINUTE)
        assert (await loaded(store, "e")).available_at is None
        assert await store.load_unqueued_executions() == []
        await store.resume_execution("e", now=NOON + 2 * MINUTE)
        assert (await loaded(store, "e")).available_at == NOON + 2 * MINUTE

    @over_a_store
    async def test_what_becomes_final_is_not_paused_any_more(self, store: CheckpointStore) -> None:
        running = queued("e", None, status=ExecutionStatus.RUNNING, updated_at=NOON)
        claim = await created(store, running)
        await store.pause_execution("e", by="kim", reason="the bank", now=NOON)
        completed = msgspec.structs.replace(running, status=ExecutionStatus.COMPLETED)
        await store.save(completed, claim=claim)
        assert pause_of(await loaded(store, "e")) == (None, None, None)

    @over_a_store
    async def test_signals_are_kept_and_wake_what_is_paused_only_once_it_is_resumed(
        self, store: CheckpointStore
    ) -> None:
        for one in ("signalled", "waits"):
            await store.save(
                queued(one, None, status=ExecutionStatus.SUSPENDED),
                new_checkpoint(one, 0, name="go", kind=StepKind.SIGNAL, due_at=NOON + 9 * MINUTE),
                new_timer(one, f"timer of {one}", NOON + 9 * MINUTE),
            )
            await store.pause_execution(one, by="kim", now=NOON)
        await store.send_signal(new_signal("signalled", "go", created_at=NOON))
        assert (await loaded(store, "signalled")).available_at is None
        for one in ("signalled", "waits"):
            await store.resume_execution(one, now=NOON + MINUTE)
        assert (await loaded(store, "signalled")).available_at == NOON + MINUTE
        assert (await loaded(store, "waits")).available_at == NOON + 9 * MINUTE
        (signal,) = await store.load_signals("signalled")
        assert signal.status is SignalStatus.PENDING

    @over_a_store
    async def test_a_request_to_cancel_ends_the_pause_of_an_execution(
        self, store: CheckpointStore
    ) -> None:
        await store.save(queued("e", None, status=ExecutionStatus.SUSPENDED))
        await store.pause_execution("e", by="kim", reason="the bank", now=NOON)
        assert await store.request_cancel("e", now=NOON + MINUTE)
        found = await loaded(store, "e")
        assert pause_of(found) == (None, None, None)
        assert found.available_at == NOON + MINUTE
        await store.pause_execution("e", by="kim", now=NOON + 2 * MINUTE)
        assert await store.request_cancel("e", now=NOON + 3 * MINUTE) is None
        assert (await loaded(store, "e")).paused_at == NOON + 2 * MINUTE

    @over_a_store
    async def test_what_is_mended_or_unblocked_stays_paused(self, store: CheckpointStore) -> None:
        await store.save(queued("e", NOON, blocked_reason="it kills"))
        await store.pause_execution("e", by="kim", now=NOON)
        assert await store.unblock_execution("e", now=NOON)
        found = await loaded(store, "e")
        assert (found.paused_at, found.available_at) == (NOON, None)
        seen = await taken(store, "e")
        assert await store.mend_execution(seen, seen.execution, now=NOON)
        found = await loaded(store, "e")
        assert (found.paused_at, found.available_at) == (NOON, None)
        seen = await taken(store, "e")
        becomes = msgspec.structs.replace(
            seen.execution, paused_at=None, paused_by=None, paused_reason=None
        )
        assert await store.mend_execution(seen, becomes, now=NOON + MINUTE)
        found = await loaded(store, "e")
        assert (found.paused_at, found.available_at) == (None, NOON + MINUTE)

    @over_a_store
    async def test_an_engine_that_starts_finds_what_is_paused_only_if_nobody_else_claims_it(
        self, store: CheckpointStore
    ) -> None:
        foreground = WorkflowGuarantee.FOREGROUND_ONLY
        await store.save(new_execution("here", guarantee=foreground))
        for status in UNFINISHED:
            await store.save(queued(str(status), NOON, status=status))
        for one in ("here", *map(str, UNFINISHED)):
            await store.pause_execution(one, by="kim", now=NOON)
        found = await store.load_unqueued_executions()
        assert [one.workflow_execution_id for one in found] == ["here"]

    @over_workers
    async def test_what_a_dead_worker_had_stays_paused(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.enqueue_execution(WORKFLOW, queued("e", NOON))
        await claimed(other, "e", NOON)
        await store.pause_execution("e", by="kim", now=NOON)
        await other.close()
        gone = await store.release_claims_of_the_dead(9, NOON)
        assert [one.workflow_execution_id for one in gone] == ["e"]
        assert (await loaded(store, "e")).available_at is None
        await store.resume_execution("e", now=NOON + MINUTE)
        assert (await loaded(store, "e")).available_at == NOON + MINUTE

    # With what is below

    @over_a_store
    async def test_a_pause_reaches_what_is_below_and_so_does_its_end(
        self, store: CheckpointStore
    ) -> None:
        await store.save(queued("p", NOON))
        await store.save(below("p", "c"), below("p", "detached", OnParentEnd.DETACH))
        await store.save(below("c", "grandchild"), below("detached", "of the detached"))
        await store.save(new_execution("over", status=ExecutionStatus.COMPLETED))
        await store.pause_execution("p", by="kim", now=NOON + MINUTE)
        await spread(store)
        for one in ("c", "grandchild"):
            found = await loaded(store, one)
            assert (found.paused_with, found.available_at) == ("p", None)
            assert pause_of(found) == (None, None, None)
            assert found.is_paused
            assert await store.claim_execution(one, NOON + MINUTE) is None
        claims = await store.claim_available(ORDER, 9, now=NOON + MINUTE)
        assert sorted(claimed_ids(claims)) == ["detached", "of the detached"]
        await store.put_into_queue(["c"], NOON)
        await store.send_signal(new_signal("c", "go", created_at=NOON))
        assert (await loaded(store, "c")).available_at is None
        await store.resume_execution("p", now=NOON + 2 * MINUTE)
        await spread(store, NOON + 2 * MINUTE)
        for one in ("c", "grandchild"):
            found = await loaded(store, one)
            assert (found.paused_with, found.available_at) == (None, NOON + 2 * MINUTE)
        assert await store.spread_pauses() is False

    @over_a_store
    async def test_what_is_below_keeps_a_pause_of_its_own(self, store: CheckpointStore) -> None:
        await store.save(queued("p", NOON))
        await store.save(below("p", "before"), below("p", "since"))
        await store.save(below("before", "below"))
        await store.pause_execution("before", by="lee", reason="mine", now=NOON)
        await store.pause_execution("p", by="kim", now=NOON + MINUTE)
        await spread(store)
        assert await store.pause_execution("since", by="lee", now=NOON + 2 * MINUTE)
        found = await loaded(store, "before")
        assert (pause_of(found), found.paused_with) == ((NOON, "lee", "mine"), "p")
        assert (await loaded(store, "below")).paused_with == "before"
        assert await store.resume_execution("before", now=NOON)
        await spread(store)
        found = await loaded(store, "before")
        assert (found.paused_at, found.paused_with, found.available_at) == (None, "p", None)
        assert (await loaded(store, "below")).paused_with == "p"
        assert not await store.resume_execution("before", now=NOON)
        await store.pause_execution("before", by="lee", now=NOON)
        await store.resume_execution("p", now=NOON)
        await spread(store)
        for one in ("before", "since"):
            found = await loaded(store, one)
            assert (found.paused_by, found.paused_with) == ("lee", None)
            assert await store.claim_execution(one, NOON) is None
        assert (await loaded(store, "below")).paused_with == "before"

    @over_a_store
    async def test_what_is_started_below_a_paused_execution_is_held_from_its_beginning(
        self, store: CheckpointStore
    ) -> None:
        claim = await created(store, new_execution("p"))
        await store.pause_execution("p", by="kim", now=NOON)
        new = [
            NewExecution(workflow=WORKFLOW, execution=below("p", "c")),
            NewExecution(workflow=WORKFLOW, execution=below("p", "free", OnParentEnd.DETACH)),
        ]
        await store.save(new_checkpoint("p", 0), claim=claim, start=new)
        await store.enqueue_execution(WORKFLOW, below("c", "grandchild"))
        for one in ("c", "grandchild"):
            found = await loaded(store, one)
            assert (found.paused_with, found.available_at) == ("p", None)
        claims = await store.claim_available(ORDER, 9, now=NOON)
        assert claimed_ids(claims) == ["free"]
        await store.resume_execution("p", now=NOON)
        await spread(store, NOON)
        claims = await store.claim_available(ORDER, 9, now=NOON)
        assert sorted(claimed_ids(claims)) == ["c", "grandchild"]

    @over_a_store
    async def test_the_end_or_a_cancel_of_what_is_paused_lets_go_what_is_below(
        self, store: CheckpointStore
    ) -> None:
        running = queued("p", None, status=ExecutionStatus.RUNNING, updated_at=NOON)
        claim = await created(store, running)
        await store.save(below("p", "c"), queued("q", NOON), below("q", "d"))
        for one in ("p", "q"):
            await store.pause_execution(one, by="kim", now=NOON)
        await spread(store)
        completed = msgspec.structs.replace(running, status=ExecutionStatus.COMPLETED)
        await store.save(completed, claim=claim)
        await store.request_cancel("q", now=NOON)
        await spread(store)
        for one in ("c", "d"):
            assert (await loaded(store, one)).paused_with is None
        assert await store.load_pending_signals("c", CANCEL_SIGNAL)

    @over_a_store
    async def test_what_is_over_is_held_by_nothing_and_again_if_it_is_run_again(
        self, store: CheckpointStore
    ) -> None:
        await store.save(queued("p", NOON), below("p", "c"))
        claim = await claimed(store, "c", NOON)
        await store.pause_execution("p", by="kim", now=NOON)
        await spread(store)
        running = await loaded(store, "c")
        failed = msgspec.structs.replace(running, status=ExecutionStatus.FAILED, updated_at=NOON)
        await store.save(failed, claim=claim)
        assert (await loaded(store, "c")).paused_with is None
        seen = await taken(store, "c")
        becomes = msgspec.structs.replace(seen.execution, status=ExecutionStatus.RUNNING)
        assert await store.mend_execution(seen, becomes, now=NOON)
        found = await loaded(store, "c")
        assert (found.paused_with, found.available_at) == ("p", None)

    @over_a_store
    async def test_a_worker_is_told_to_leave_what_is_below(self, store: CheckpointStore) -> None:
        await store.save(queued("p", NOON), below("p", "c"), below("p", "waits"))
        claim = await claimed(store, "c", NOON)
        await store.pause_execution("p", by="kim", now=NOON)
        before = await store.load_last_signal_id()
        await spread(store)
        told = await store.load_signals_after(before)
        names = {(one.workflow_execution_id, one.signal_name) for one in told}
        assert ("c", PAUSED_SIGNAL) in names
        await store.resume_execution("p", now=NOON)
        await spread(store)
        assert (await loaded(store, "c")).available_at is None  # its worker has it still
        await store.release_claims([claim], NOON)
        assert (await loaded(store, "c")).available_at == NOON

    @over_a_store
    async def test_a_pause_reaches_any_number_in_parts(self, store: CheckpointStore) -> None:
        await store.save(queued("p", NOON))
        names = [f"c{number}" for number in range(1200)]
        await store.save(*(below("p", name) for name in names))
        await store.pause_execution("p", by="kim", now=NOON)
        await spread(store)
        assert {(await loaded(store, name)).paused_with for name in names} == {"p"}
        await store.resume_execution("p", now=NOON)
        await spread(store)
        assert {(await loaded(store, name)).paused_with for name in names} == {None}

    # As a whole

    @over_a_store
    async def test_no_execution_of_a_paused_workflow_is_claimed(
        self, store: CheckpointStore
    ) -> None:
        await store.save(OTHER)
        await store.enqueue_execution(WORKFLOW, queued("e", NOON))
        await store.enqueue_execution(
            OTHER, queued("of another", NOON + MINUTE, workflow_id="other:1")
        )
        assert await store.begin_pause(of_orders("the bank"))
        assert await store.load_pauses() == [of_orders("the bank")]
        await store.enqueue_execution(WORKFLOW, queued("new", NOON))
        assert await store.claim_execution("e", NOON + MINUTE) is None
        assert await store.load_next_available_at(BOTH) == NOON + MINUTE
        claims = await store.claim_available(BOTH, 9, now=NOON + MINUTE)
        assert claimed_ids(claims) == ["of another"]
        found = await loaded(store, "e")
        assert (found.paused_at, found.available_at) == (None, NOON)
        assert await store.end_pause(PauseScope.WORKFLOW, "order")
        assert not await store.end_pause(PauseScope.WORKFLOW, "order")
        assert await store.load_pauses() == []
        claims = await store.claim_available(BOTH, 9, now=NOON + MINUTE)
        assert sorted(claimed_ids(claims)) == ["e", "new"]

    @over_a_store
    async def test_no_execution_in_a_paused_queue_is_claimed(self, store: CheckpointStore) -> None:
        await store.declare_limits([Queue("mail", concurrency=9, per_key=9), Queue("other")])
        await store.enqueue_execution(WORKFLOW, queued("e", NOON, queue="mail", queue_key="kim"))
        await store.enqueue_execution(WORKFLOW, queued("of another", NOON, queue="other"))
        await store.enqueue_execution(WORKFLOW, queued("of none", NOON))
        assert await store.begin_pause(OF_MAIL)
        assert not await store.begin_pause(OF_MAIL)
        assert await store.load_pauses() == [OF_MAIL]
        await store.enqueue_execution(WORKFLOW, queued("new", NOON, queue="mail"))
        assert await store.claim_execution("e", NOON) is None
        assert await store.claim_available(ORDER, 9, queues=["mail"], now=NOON) == []
        assert await store.load_next_available_at(ORDER, ["mail"], NOON) is None
        claims = await store.claim_available(ORDER, 9, now=NOON)
        assert sorted(claimed_ids(claims)) == ["of another", "of none"]
        assert await store.load_next_available_at(ORDER, now=NOON) is None
        found = await loaded(store, "e")
        assert (found.status, found.paused_at) == (ExecutionStatus.PENDING, None)
        assert found.available_at == NOON
        assert not await store.end_pause(PauseScope.WORKFLOW, "mail")
        assert not await store.end_pause(PauseScope.QUEUE, "other")
        assert await store.end_pause(PauseScope.QUEUE, "mail")
        assert await store.load_next_available_at(ORDER, now=NOON) == NOON
        claims = await store.claim_available(ORDER, 9, now=NOON)
        assert sorted(claimed_ids(claims)) == ["e", "new"]

    @over_a_store
    async def test_a_workflow_that_has_the_name_of_a_paused_queue_is_not_paused(
        self, store: CheckpointStore
    ) -> None:
        await store.declare_limits([Queue("order")])
        await store.begin_pause(msgspec.structs.replace(OF_MAIL, name="order"))
        await store.enqueue_execution(WORKFLOW, queued("of none", NOON))
        await store.enqueue_execution(WORKFLOW, queued("held", NOON, queue="order"))
        assert claimed_ids(await store.claim_available(ORDER, 9, now=NOON)) == ["of none"]

    @over_a_store
    async def test_nothing_is_claimed_while_everything_is_paused(
        self, store: CheckpointStore
    ) -> None:
        await store.enqueue_execution(WORKFLOW, queued("e", NOON))
        await store.begin_pause(of_orders())
        await store.begin_pause(EVERYTHING)
        assert await store.load_pauses() == [EVERYTHING, of_orders()]
        await store.end_pause(PauseScope.WORKFLOW, "order")
        assert await store.claim_execution("e", NOON) is None
        assert await store.claim_available(ORDER, 9, now=NOON) == []
        assert await store.load_next_available_at(ORDER) is None
        await store.end_pause(PauseScope.ALL)
        assert claimed_ids(await store.claim_available(ORDER, 9, now=NOON)) == ["e"]

    @over_a_store
    async def test_a_pause_of_a_workflow_keeps_what_it_began_with_except_for_a_new_reason(
        self, store: CheckpointStore
    ) -> None:
        assert await store.begin_pause(of_orders("the bank"))
        later = msgspec.structs.replace(of_orders(by="lee"), paused_at=NOON + MINUTE)
        assert not await store.begin_pause(later)
        assert await store.load_pauses() == [of_orders("the bank")]
        assert not await store.begin_pause(msgspec.structs.replace(later, paused_reason="audit"))
        assert await store.load_pauses() == [of_orders("audit")]

    @over_a_store
    async def test_what_is_started_while_its_workflow_is_paused_waits_in_the_queue(
        self, store: CheckpointStore
    ) -> None:
        await store.begin_pause(of_orders())
        started = queued(
            "e", None, status=ExecutionStatus.RUNNING, started_at=NOON, updated_at=NOON
        )
        signal = new_signal("e", "go", created_at=NOON)
        assert await store.create_execution(WORKFLOW, started, {"customer": "7"}, signal) is None
        found = await loaded(store, "e")
        assert found.status is ExecutionStatus.PENDING
        assert (found.started_at, found.available_at) == (None, NOON)
        assert await store.load_tags("e") == {"customer": "7"}
        assert [one.signal_name for one in await store.load_signals("e")] == ["go"]
        assert await store.create_execution(WORKFLOW, started) is None
        await store.end_pause(PauseScope.WORKFLOW, "order")
        assert claimed_ids(await store.claim_available(ORDER, 9, now=NOON)) == ["e"]

    @over_workers
    async def test_whoever_polls_notices_pauses(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.save(new_execution("e"))
        acts: tuple[Callable[[], Awaitable[bool]], ...] = (
            lambda: other.pause_execution("e", by="kim"),
            lambda: other.resume_execution("e"),
            lambda: other.begin_pause(EVERYTHING),
            lambda: other.end_pause(PauseScope.ALL),
        )
        for act in acts:
            before = store.change_counter(), other.change_counter()
            await act()
            assert await has_news(store, before[0])
            assert await has_news(other, before[1])
