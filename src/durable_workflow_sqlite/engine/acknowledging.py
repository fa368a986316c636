"""A person has dealt with what an execution left, or has undone a step by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from durable_workflow_sqlite.engine import audit, deleted_rows
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.given import as_undone_by_hand
from durable_workflow_sqlite.engine.history import RecordedHistory, StepHistory, asks
from durable_workflow_sqlite.engine.mending import (
    Change,
    as_open,
    is_about_records,
    may_need_undoing,
    mend,
    refused,
    to_whoever_left_it,
)
from durable_workflow_sqlite.engine.step_names import StepName, check_step, find_step, in_words
from durable_workflow_sqlite.errors import ExecutionConflictError, StoreCorruptError
from durable_workflow_sqlite.records import (
    COMPENSATION_SUFFIX,
    AuditEntry,
    StepCheckpoint,
    StepStatus,
    TakenExecution,
    WorkflowExecution,
)

ACT = "acknowledge"


async def acknowledge(access: Access, execution_id: str, by: str | None, note: str | None) -> int:
    """See `DurableEngine.acknowledge`."""
    found = await access.load(execution_id)
    if not found.status.is_terminal:
        raise ExecutionConflictError(
            f"execution {execution_id!r} is {found.status}: acknowledge what is left of it when"
            " it is over; or name the step whose compensation fails, and which a person has undone"
            " (acknowledge --step STEP)",
            workflow_execution_id=execution_id,
        )
    now = access.clock.now()
    details: dict[str, object] | None = None if note is None else {"note": note}
    entry = audit.entry(execution_id, ACT, by, now, details)
    return await access.store.acknowledge(execution_id, entry, now=now)


async def acknowledge_step(
    access: Access, execution_id: str, step: StepName, by: str | None, note: str | None
) -> int:
    """See `DurableEngine.acknowledge`, of the compensation of a step that is named."""
    check_step(step)

    def entry(last: StepCheckpoint, now: datetime) -> AuditEntry:
        details: dict[str, object] = {"step": in_words(last)}
        if note is not None:
            details["note"] = note
        return audit.entry(execution_id, ACT, by, now, details)

    async def plan(seen: TakenExecution, now: datetime) -> Change:
        record = seen.execution
        if missing := deleted_rows.still_missing(record, seen.checkpoints):
            raise refused(
                execution_id, deleted_rows.why_refused("was not changed", missing, seen.checkpoints)
            )
        history = RecordedHistory(seen.checkpoints, seen.pending_timers)
        _, found = find_step(execution_id, history, step)
        undoing = _to_be_undone(record, found)
        assert found.last is not None
        undone = msgspec.structs.replace(
            undoing,
            status=StepStatus.COMPENSATED,
            completed_at=undoing.completed_at or now,
            due_at=None,
        )
        becomes = record if record.status.is_terminal else as_open(record, now)
        told = to_whoever_left_it(execution_id, now)
        return Change(becomes, [undone, entry(found.last, now), told])

    try:
        _, after = await mend(access, execution_id, plan)
    except ExecutionConflictError:
        if not await _told_its_worker(access, execution_id, step, entry):
            raise
    else:
        if not after.status.is_terminal:
            await access.resume(after)
    return 1


def _to_be_undone(execution: WorkflowExecution, step: StepHistory) -> StepCheckpoint:
    """The compensation that is not done. Raises ExecutionConflictError if there is none.

    No worker can begin one if the records of the execution do not fit its code.
    """
    last, undoing = step.last, step.compensation
    execution_id = execution.workflow_execution_id
    assert last is not None
    if undoing is None and is_about_records(execution.trouble) and may_need_undoing(step):
        return StepCheckpoint(
            workflow_execution_id=execution_id,
            branch=last.branch,
            step_index=last.step_index,
            attempt=0,
            step_name=last.step_name + COMPENSATION_SUFFIX,
            status=StepStatus.INTENT,
            error_message="a person has undone it; no worker had begun to",
            compensate_ref=last.compensate_ref,
        )
    if undoing is None:
        raise refused(
            execution_id,
            f"is {execution.status}, and no compensation of {in_words(last)} has begun: there is"
            " nothing to acknowledge",
        )
    if undoing.status is StepStatus.COMPENSATED:
        raise refused(execution_id, f"has undone {in_words(last)} already")
    return undoing


async def _told_its_worker(
    access: Access,
    execution_id: str,
    step: StepName,
    entry: Callable[[StepCheckpoint, datetime], AuditEntry],
) -> bool:
    """Tell the worker that waits for the next try of a compensation; False if none waits."""
    try:
        history = RecordedHistory(await access.store.load_checkpoints(execution_id))
        _, found = find_step(execution_id, history, step)
    except (StoreCorruptError, ValueError):
        return False  # which has been said
    undoing = found.compensation
    if found.last is None or undoing is None or not (found.pauses or asks(undoing)):
        return False
    now = access.clock.now()
    told = await access.store.hasten_attempts(
        execution_id,
        as_undone_by_hand(undoing, now),
        entry(found.last, now),
        to_whoever_left_it(execution_id, now),
        only=undoing,
        now=now,
    )
    if told:
        await access.hasten(execution_id)
    return bool(told)
