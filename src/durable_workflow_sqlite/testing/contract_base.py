"""What the parts of the store contract share: how a test gets its stores, and its records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from durable_workflow_sqlite import (
    AuditEntry,
    CheckpointStore,
    ClaimLostError,
    ExecutionStatus,
    NewExecution,
    OnParentEnd,
    Progress,
    StepCheckpoint,
    StepKind,
    StepStatus,
    StreamItems,
    TakenExecution,
    TimerStatus,
    Workflow,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowGuarantee,
    WorkflowPatch,
    WorkflowSignal,
    WorkflowTimer,
)

OpenAnother = Callable[[], Awaitable[CheckpointStore]]

WORKFLOW = Workflow(workflow_id="order:1", workflow_type="order")
NOON = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ORDER = [("order", 1)]
"""What a worker of WORKFLOW runs."""
FINAL = (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)
UNFINISHED = tuple(status for status in ExecutionStatus if status not in FINAL)


class StoreContract:
    """What you define about your store."""

    can_be_shared: ClassVar[bool] = True
    """Whether `open_store`, called twice with one path, gives two workers on the same records.
    If False, the tests that need two workers are skipped."""

    async def open_store(self, path: Path) -> CheckpointStore:
        """Open a store on the records that belong to `path`, whose folder exists."""
        raise NotImplementedError("override open_store")


C = TypeVar("C", bound=StoreContract)


def over_a_store(
    test: Callable[[C, Any], Coroutine[Any, Any, None]],
) -> Callable[[C, Path], None]:
    """A test of one store, which holds the definition WORKFLOW and no more."""

    async def alone(self: C, store: CheckpointStore, _: OpenAnother) -> None:
        await test(self, store)

    return _named_as(test, lambda self, tmp_path: asyncio.run(_story(self, tmp_path, alone)))


def over_workers(
    test: Callable[[C, Any, OpenAnother], Coroutine[Any, Any, None]],
) -> Callable[[C, Path], None]:
    """As `over_a_store`, and the test can open more stores on the same records."""

    def run(self: C, tmp_path: Path) -> None:
        if not self.can_be_shared:
            pytest.skip("two of these stores cannot work on the same records")
        asyncio.run(_story(self, tmp_path, test))

    return _named_as(test, run)


async def _story(
    self: C,
    tmp_path: Path,
    test: Callable[[C, Any, OpenAnother], Coroutine[Any, Any, None]],
) -> None:
    async with AsyncExitStack() as opened:

        async def open_another() -> CheckpointStore:
            store = await self.open_store(tmp_path / "records")
            opened.push_async_callback(store.close)
            return store

        store = await open_another()
        await store.save(WORKFLOW)
        await test(self, store, open_another)


def _named_as(
    test: Callable[..., object], run: Callable[[C, Path], None]
) -> Callable[[C, Path], None]:
    # functools.wraps would make pytest look for the arguments of the test that is wrapped.
    run.__name__, run.__qualname__ = test.__name__, test.__qualname__
    run.__doc__ = test.__doc__
    return run


async def has_news(store: CheckpointStore, before: int) -> bool:
    """Whether the counter is another one, at the latest some seconds after another worker wrote."""
    for _ in range(500):
        if store.change_counter() != before:
            return True
        await asyncio.sleep(0.01)
    return False


async def loaded(store: CheckpointStore, one: str) -> WorkflowExecution:
    execution = await store.load_execution(one)
    assert execution is not None
    return execution


async def taken(store: CheckpointStore, one: str) -> TakenExecution:
    found = await store.take_execution(one)
    assert found is not None
    return found


async def created(
    store: CheckpointStore, execution: WorkflowExecution, workflow: Workflow = WORKFLOW
) -> WorkflowClaim:
    claim = await store.create_execution(workflow, execution)
    assert claim is not None
    return claim


async def claimed(store: CheckpointStore, one: str, now: datetime | None = None) -> WorkflowClaim:
    claim = await store.claim_execution(one, now)
    assert claim is not None
    return claim


async def is_refused_everything(store: CheckpointStore, lost: WorkflowClaim) -> None:
    """Every kind of write is refused under a claim that is lost."""
    one = lost.workflow_execution_id
    child = NewExecution(workflow=WORKFLOW, execution=queued("child", NOON))
    other = new_execution("other")
    await store.save(other)
    before = await taken(store, "other")
    ended = new_checkpoint(one, 7, status=StepStatus.COMPLETED, started_at=NOON, event=1)
    for write in (
        partial(store.save, new_execution(one, status=ExecutionStatus.COMPLETED)),
        partial(store.save, new_checkpoint(one, 7)),
        partial(store.save, new_timer(one, "t", NOON + MINUTE, status=TimerStatus.FIRED)),
        partial(store.save, WorkflowPatch(workflow_execution_id=one, patch_name="p")),
        partial(
            store.save,
            StreamItems(workflow_execution_id=one, step_index=0, step_name="s", items=("1",)),
        ),
        partial(store.save, Progress(workflow_execution_id=one, done=1)),
        partial(store.save, new_signal(one, "late")),
        partial(store.save, new_signal(one, "late", id=1)),
        partial(store.save, Workflow(workflow_id="w2", workflow_type="w")),
        partial(store.save, new_checkpoint(one, 8), new_checkpoint(one, 9)),
        partial(store.save, start=[child]),
        partial(store.save, send=[new_signal("other", "go")]),
        partial(store.save, new_checkpoint(one, 8), start=[child], send=[new_signal("other", "a")]),
        partial(store.begin_step, new_checkpoint(one, 7, started_at=NOON)),
        partial(store.begin_step, new_checkpoint(one, 7), new_execution(one)),
        partial(store.finish_step, ended),
        partial(store.finish_step, ended, new_execution(one)),
        partial(store.continue_as_new, new_execution(one, input_data="[2]", run_number=2)),
    ):
        with pytest.raises(ClaimLostError) as raised:
            await write(claim=lost)
        assert raised.value.workflow_execution_id == one
    assert await store.load_execution("child") is None
    assert await store.load_signals("other") == []
    assert await taken(store, "other") == before


async def nothing_belongs_to(store: CheckpointStore, one: str) -> None:
    assert await store.load_checkpoints(one) == []
    found = await store.take_execution(one)
    assert found is None or (found.pending_timers, found.patches) == ([], [])
    assert await store.load_signals(one) == []
    assert await store.load_stream_items(one) == []
    assert await store.load_progress(one) == []
    assert await store.load_tags(one) == {}
    assert await store.load_audit_log(one) == []


def new_execution(
    workflow_execution_id: str,
    *,
    workflow_id: str = "order:1",
    status: ExecutionStatus = ExecutionStatus.PENDING,
    **fields: Any,
) -> WorkflowExecution:
    if "updated_at" in fields:
        fields.setdefault("created_at", fields["updated_at"])  # none is older than its changes
    return WorkflowExecution(
        workflow_execution_id=workflow_execution_id,
        workflow_id=workflow_id,
        status=status,
        **fields,
    )


def queued(
    workflow_execution_id: str, available_at: datetime | None, **fields: Any
) -> WorkflowExecution:
    """One for any worker, from a time on."""
    return new_execution(
        workflow_execution_id,
        guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        available_at=available_at,
        **fields,
    )


def claimed_ids(claims: Iterable[WorkflowClaim]) -> list[str]:
    return [claim.workflow_execution_id for claim in claims]


def execution_with_everything(
    workflow_execution_id: str,
    *,
    workflow_id: str = "order:1",
    status: ExecutionStatus = ExecutionStatus.RUNNING,
    blocked_reason: str | None = "why not",
    trouble: str | None = "it does not fit",
    is_paused: bool = True,
    created_at: datetime = NOON,
) -> WorkflowExecution:
    return WorkflowExecution(
        workflow_execution_id=workflow_execution_id,
        workflow_id=workflow_id,
        status=status,
        current_step=3,
        input_data="[1]",
        output_data='"out"',
        error_type="builtins:ValueError",
        error_message="it broke",
        ttl_expires_at=NOON,
        guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        priority=-7,
        recovery_count=4,
        blocked_reason=blocked_reason,
        trouble=trouble,
        available_at=NOON - MINUTE,
        last_event=2,
        started_at=NOON - 2 * MINUTE,
        parent_execution_id="parent",
        root_execution_id="root",
        on_parent_end=OnParentEnd.DETACH,
        run_number=7,
        forked_from="source",
        forked_before="step 'pay' (index 2)",
        replay_origin='{"began_at":"2025-01-01T00:00:00Z","seeds":[["source",2]]}',
        created_at=created_at,
        updated_at=NOON + MINUTE,
        paused_at=NOON if is_paused else None,
        paused_by="kim" if is_paused else None,
        paused_reason="the bank" if is_paused else None,
    )


def new_checkpoint(
    workflow_execution_id: str,
    step_index: int,
    *,
    name: str | None = None,
    status: StepStatus = StepStatus.INTENT,
    **fields: Any,
) -> StepCheckpoint:
    return StepCheckpoint(
        workflow_execution_id=workflow_execution_id,
        step_index=step_index,
        step_name=f"step {step_index}" if name is None else name,
        status=status,
        **fields,
    )


def checkpoint_with_everything(workflow_execution_id: str, step_index: int) -> StepCheckpoint:
    return StepCheckpoint(
        workflow_execution_id=workflow_execution_id,
        step_index=step_index,
        step_name="everything",
        status=StepStatus.FAILED,
        kind=StepKind.SLEEP,
        input_data="[1]",
        output_data='"out"',
        error_type="builtins:ValueError",
        error_message="it broke",
        idempotency_key="key",
        compensate_ref="shop:refund",
        started_at=NOON,
        completed_at=NOON + MINUTE / 7,
        due_at=NOON + MINUTE,
        event=7,
    )


def new_timer(
    workflow_execution_id: str,
    workflow_timer_id: str,
    fire_at: datetime,
    *,
    status: TimerStatus = TimerStatus.PENDING,
) -> WorkflowTimer:
    return WorkflowTimer(
        workflow_timer_id=workflow_timer_id,
        workflow_execution_id=workflow_execution_id,
        step_name="sleep",
        fire_at=fire_at,
        status=status,
        created_at=NOON,
    )


def new_signal(
    workflow_execution_id: str,
    signal_name: str,
    *,
    id: int | None = None,  # noqa: A002
    **fields: Any,
) -> WorkflowSignal:
    return WorkflowSignal(
        workflow_execution_id=workflow_execution_id,
        signal_name=signal_name,
        workflow_signal_id=id,
        **fields,
    )


async def send(store: CheckpointStore, signal: WorkflowSignal) -> WorkflowSignal:
    """A signal that was sent just now, with its id."""
    stored = await store.send_signal(signal)
    assert stored is not None, "it has no key, or a new one"
    return stored


def new_audit_entry(
    act: str, workflow_execution_id: str = "e", *, actor: str = "ops", **fields: Any
) -> AuditEntry:
    fields.setdefault("created_at", NOON)
    return AuditEntry(workflow_execution_id=workflow_execution_id, act=act, actor=actor, **fields)


def without_ids(checkpoints: Iterable[StepCheckpoint]) -> list[StepCheckpoint]:
    """What was saved of checkpoints: their ids are the store's."""
    return [
        StepCheckpoint(
            **{name: getattr(one, name) for name in one.__struct_fields__ if name != "id"}
        )
        for one in checkpoints
    ]
