"""What others may have done with an execution: an unblock, a retry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from durable_workflow_sqlite.engine import audit, deleted_rows
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.child_calls import (
    child_of_wait,
    children_without_end,
    end_of_record,
)
from durable_workflow_sqlite.engine.editing import Edit
from durable_workflow_sqlite.engine.fitting import check_fits
from durable_workflow_sqlite.engine.forgetting import can_run_again, forget_from
from durable_workflow_sqlite.engine.given import given
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.mending import (
    Change,
    as_open,
    mend,
    refused,
    to_whoever_left_it,
)
from durable_workflow_sqlite.engine.reopening import (
    reopened,
    waits_for_children,
    why_not_reopened,
)
from durable_workflow_sqlite.engine.step_names import StepName, check_step, names_of
from durable_workflow_sqlite.errors import ExecutionConflictError, StoreCorruptError
from durable_workflow_sqlite.records import (
    AuditEntry,
    ExecutionStatus,
    StepCheckpoint,
    TakenExecution,
    WorkflowExecution,
    WorkflowSignal,
)


async def unblock(
    access: Access,
    execution_id: str,
    by: str | None,
    act: str = "unblock",
    *,
    without_rows: bool = False,
) -> bool:
    """See `DurableEngine.unblock`."""
    found = await access.load(execution_id)
    now = access.clock.now()
    details: dict[str, object] = {"blocked": found.blocked_reason}
    if deleted_rows.are_why(found):
        checkpoints = await access.store.load_checkpoints(execution_id)
        missing = deleted_rows.still_missing(found, checkpoints)
        if missing is not None:
            if not without_rows:
                word = "unblocked" if act == "unblock" else "retried"
                raise refused(
                    execution_id, deleted_rows.why_refused(f"was not {word}", missing, checkpoints)
                )
            details["missing"] = missing
    entry = audit.entry(execution_id, act, by, now, details)
    is_tried = "missing" in details and await _try_without_rows(access, execution_id, entry)
    if not is_tried and not await access.store.unblock_execution(execution_id, entry, now=now):
        return False
    await access.resume(await access.load(execution_id))
    return True


async def _try_without_rows(access: Access, execution_id: str, entry: AuditEntry) -> bool:
    """Let a worker replay what is left at once: if that does not fit, people see it now.

    False if a worker has the execution: it knows what was deleted.
    """

    async def plan(seen: TakenExecution, now: datetime) -> Change:
        record, status = seen.execution, seen.execution.status
        if not deleted_rows.are_why(record):
            raise refused(execution_id, "is not blocked any more")
        if status is ExecutionStatus.SUSPENDED:
            status = ExecutionStatus.RUNNING
        return Change(as_open(record, now, status=status), [entry])

    try:
        await mend(access, execution_id, plan)
    except ExecutionConflictError:
        return False
    return True


async def retry(access: Access, execution_id: str, by: str | None) -> None:
    """See `DurableEngine.retry`."""
    if await unblock(access, execution_id, by, "retry"):
        return
    found = await access.load(execution_id)
    if not found.status.is_terminal:
        if await _try_now(access, execution_id, by):
            return
        raise refused(execution_id, why_not_reopened(found, []))

    async def plan(seen: TakenExecution, now: datetime) -> Change:
        if why := why_not_reopened(seen.execution, seen.checkpoints):
            raise refused(execution_id, why)
        await refuse_cancelled_children(access, seen)
        change = reopened(seen, now)
        told = await ends_again(access, change, by, now)
        entry = audit.entry(execution_id, "retry", by, now, what_ended(seen.execution))
        return Change(change.becomes, [*change.records, *told, entry])

    _, after = await mend(access, execution_id, plan)
    await access.resume(after)


async def refuse_cancelled_children(access: Access, seen: TakenExecution) -> None:
    """Raise if a child was cancelled as its parent ended: the parent would fail with that."""
    execution_id = seen.execution.workflow_execution_id
    for start, child_id in children_without_end(seen.checkpoints):
        child = await access.store.load_execution(child_id)
        if child is not None and child.status is ExecutionStatus.CANCELLED:
            raise refused(
                execution_id,
                f"cannot be run again where it failed: its child {child_id!r} was cancelled with"
                f" it. Run it again from step {start.step_name!r} (from_step, in a command --from),"
                " which starts another child; or rerun it",
            )


async def ends_again(
    access: Access, change: Change, by: str | None, now: datetime
) -> list[WorkflowSignal]:
    """What a parent that is retried is told at once of the children that it waits for again."""
    ends = [await _end_again(access, one, by, now) for one in waits_for_children(change)]
    return [one for one in ends if one is not None]


async def _end_again(
    access: Access, wait: StepCheckpoint, by: str | None, now: datetime
) -> WorkflowSignal | None:
    """What a parent that is retried is told of the child that failed it; None: it will be told.

    The child is retried, too, if that can be.
    """
    child_id = child_of_wait(wait)
    assert child_id is not None
    child = await access.store.load_execution(child_id)
    if child is not None and child.status is ExecutionStatus.FAILED:
        with suppress(ExecutionConflictError):  # what it did is undone
            await retry(access, child_id, by)
            return None
    if child is not None and not child.status.is_terminal:
        return None
    return WorkflowSignal(
        workflow_execution_id=wait.workflow_execution_id,
        signal_name=wait.step_name,
        payload=end_of_record(child),
        created_at=now,
    )


async def _try_now(access: Access, execution_id: str, by: str | None) -> bool:
    """Do not wait for the next attempt, whether or not a worker has it; False if nothing waits."""
    now = access.clock.now()
    checkpoints = await access.store.load_checkpoints(execution_id)
    try:
        paused = RecordedHistory(checkpoints).paused
    except StoreCorruptError:
        return False  # it is in trouble, which says why
    waiting = [one for one in paused if one.due_at is not None and one.due_at > now]
    if not waiting:
        return False
    entry = audit.entry(execution_id, "retry", by, now, {"now": names_of(waiting)})
    mended = to_whoever_left_it(execution_id, now)
    if not await access.store.hasten_attempts(execution_id, entry, mended, now=now):
        return False
    await access.hasten(execution_id)
    return True


async def retry_from(
    access: Access, execution_id: str, step: StepName, edits: Sequence[Edit], by: str | None
) -> None:
    """See `DurableEngine.retry`, from a step that is named."""
    check_step(step)

    async def plan(seen: TakenExecution, now: datetime) -> Change:
        record = seen.execution
        is_stopped = record.blocked_reason is not None or record.trouble is not None
        if why := can_run_again(record.status, is_stopped=is_stopped):
            raise refused(execution_id, why)
        signals = await access.store.load_signals(execution_id)
        values = await given(access.store, execution_id)
        forgotten = forget_from(seen, signals, values, step, edits, now)
        details = {**forgotten.details, **what_ended(record)}
        if record.blocked_reason is not None:
            details["blocked"] = record.blocked_reason
        becomes = as_open(
            record,
            now,
            status=ExecutionStatus.PENDING,
            current_step=forgotten.kept,
            error_type=None,
            error_message=None,
            ttl_expires_at=None,
            last_event=None,
            replay_origin=forgotten.origin,
        )
        if edits:
            stays = forgotten.stays(seen.checkpoints)
            act = "run again from there with these values"
            await check_fits(access, execution_id, becomes, stays, seen.patches, act)
        return Change(
            becomes,
            [
                *forgotten.records,
                audit.entry(execution_id, "retry", by, now, details),
                to_whoever_left_it(execution_id, now),
            ],
            forgotten.attempts,
        )

    _, after = await mend(access, execution_id, plan)
    await access.resume(after)


def what_ended(record: WorkflowExecution) -> dict[str, object]:
    """For the audit log: the error that is cleared."""
    return {"error": record.error_type, "message": record.error_message}
