"""Cancelling: a worker is asked to undo and to end it, or it ends at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.engine import audit, deleted_rows, pausing
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.endings import CANCELLED_TYPE
from durable_workflow_sqlite.engine.given import given
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.mending import (
    Change,
    as_open,
    is_about_records,
    may_need_undoing,
    mend,
    missing_events,
    to_whoever_left_it,
)
from durable_workflow_sqlite.engine.outcome import Cancellation, cancelled
from durable_workflow_sqlite.engine.results import finished
from durable_workflow_sqlite.engine.step_records import cut_off, no_next_attempt
from durable_workflow_sqlite.engine.wait_records import given_up
from durable_workflow_sqlite.errors import (
    ExecutionConflictError,
    StoreCorruptError,
)
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    AuditEntry,
    ExecutionStatus,
    Record,
    SignalStatus,
    StepKind,
    StepStatus,
    TakenExecution,
    WorkflowExecution,
    WorkflowSignal,
)

_NOT_PAUSED: Final[dict[str, Any]] = {
    "paused_at": None,
    "paused_by": None,
    "paused_reason": None,
}


async def cancel(access: Access, execution_id: str, by: str | None) -> Cancellation:
    """See `DurableEngine.cancel`."""
    found = await access.load(execution_id)
    if found.status.is_terminal:
        raise finished(found, "it was not asked to cancel")
    if found.status is ExecutionStatus.COMPENSATING:
        return Cancellation.REFUSED
    done = await _without_a_worker(access, found, by)
    done = await _ask(access, found, by) if done is None else done
    if found.paused_at is not None:  # so its descendants are not paused any more
        await pausing.spread(access)
    return done


# By whoever asks


class _NeedsAWorker(Exception):  # noqa: N818 - no error: nobody sees it but this module
    """It is to be asked for, as of any execution."""


async def _without_a_worker(
    access: Access, found: WorkflowExecution, by: str | None
) -> Cancellation | None:
    """Cancel what no worker needs to claim first; None if one must be asked."""
    execution_id = found.workflow_execution_id
    if execution_id in access.executions or not (found.current_step == 0 or _is_stopped(found)):
        return None
    if deleted_rows.are_why(found):
        return None  # nobody knows what is to be undone: it is undone once it is unblocked

    async def plan(seen: TakenExecution, now: datetime) -> Change:
        status = seen.execution.status
        if status.is_terminal or status is ExecutionStatus.COMPENSATING:
            raise _NeedsAWorker
        history = RecordedHistory(seen.checkpoints, seen.pending_timers)
        is_ended = _has_left_nothing(seen, history)
        # What somebody has given to a step is to be recorded, and perhaps undone.
        is_ended = is_ended and not await given(access.store, execution_id)
        if not is_ended and seen.execution.blocked_reason is None:
            raise _NeedsAWorker
        requests = await access.store.load_pending_signals(execution_id, CANCEL_SIGNAL)
        if is_ended:
            return _at_once(seen, history, requests, by, now)
        return _unblocked(seen.execution, requests, by, now)

    try:
        before, after = await mend(access, execution_id, plan)
    except (_NeedsAWorker, ExecutionConflictError, StoreCorruptError):
        return None
    if after.status is ExecutionStatus.CANCELLED:
        access.ended_at_once(after, before.status)
        return Cancellation.ENDED
    await access.resume(after)
    return Cancellation.ASKED


def _is_stopped(record: WorkflowExecution) -> bool:
    """Whether no worker goes on with it until somebody has done something about it."""
    # Where rows may be missing, nobody knows what is to be undone.
    is_left = record.trouble is not None and not is_about_records(record.trouble)
    return record.blocked_reason is not None or is_left


def _has_left_nothing(seen: TakenExecution, history: RecordedHistory) -> bool:
    """Whether it has not begun, or has nothing to undo as far as its records say."""
    if not seen.checkpoints:
        return True
    return (
        _is_stopped(seen.execution)
        and not missing_events(history.events)
        and not any(may_need_undoing(step) for _, step in history.steps())
    )


def _at_once(
    seen: TakenExecution,
    history: RecordedHistory,
    requests: list[WorkflowSignal],
    by: str | None,
    now: datetime,
) -> Change:
    """It is CANCELLED, as if its worker had ended it: what was under way is cut off."""
    record = seen.execution
    execution_id = record.workflow_execution_id
    becomes = msgspec.structs.replace(
        as_open(record, now),
        status=ExecutionStatus.CANCELLED,
        error_type=CANCELLED_TYPE,
        error_message=str(cancelled(execution_id)),
        last_event=history.last_event,
        **_NOT_PAUSED,
    )
    records: list[Record] = []
    for _, step in history.steps():
        last = step.last
        if last is None:
            continue
        if last.kind is not StepKind.STEP:
            records += given_up(last, now)
        elif last.status is StepStatus.INTENT:
            records.append(cut_off(last, now, has_begun=True))
        elif step.pauses:
            records.append(no_next_attempt(last, now))
    details: dict[str, object] = {"ended": "at once"}
    if record.blocked_reason is not None:
        details["blocked"] = record.blocked_reason
    details |= _pause_that_ends(record)
    return Change(
        becomes,
        [*records, *_answered(requests), audit.entry(execution_id, "cancel", by, now, details)],
    )


def _answered(requests: list[WorkflowSignal]) -> list[WorkflowSignal]:
    return [msgspec.structs.replace(one, status=SignalStatus.DELIVERED) for one in requests]


def _unblocked(
    record: WorkflowExecution, requests: list[WorkflowSignal], by: str | None, now: datetime
) -> Change:
    """It may be claimed again, to be undone."""
    execution_id = record.workflow_execution_id
    details = {"unblocked": record.blocked_reason, **_pause_that_ends(record)}
    entry = audit.entry(execution_id, "cancel", by, now, details)
    asked = [] if requests else [_request(execution_id, now)]
    return Change(as_open(record, now, **_NOT_PAUSED), [*asked, entry])


def _pause_that_ends(record: WorkflowExecution) -> dict[str, object]:
    return {} if record.paused_at is None else pausing.details_of(record)


# By a worker


def _request(execution_id: str, now: datetime) -> WorkflowSignal:
    return WorkflowSignal(
        workflow_execution_id=execution_id, signal_name=CANCEL_SIGNAL, created_at=now
    )


async def _ask(access: Access, found: WorkflowExecution, by: str | None) -> Cancellation:
    execution_id = found.workflow_execution_id
    now = access.clock.now()
    entry = audit.entry(execution_id, "cancel", by, now, _pause_that_ends(found) or None)
    request = await access.store.request_cancel(execution_id, entry, now=now)
    if request is None:
        return await _ask_again(access, found, entry)
    access.on_signal_sent(request)
    execution = access.executions.get(execution_id)
    if execution is not None and execution.is_leaving:
        return Cancellation.ASKED  # once its steps have ended
    if execution is not None and not execution.is_interrupted:
        # It was about to end by itself.
        await execution.wait_outcome()
        execution = None
    if execution is None:
        found = await access.load(execution_id)
        if found.status is ExecutionStatus.CANCELLED:
            return Cancellation.ENDED
        if found.status.is_terminal:
            raise finished(found, "it ended before the request reached it")
        await access.resume(found)
    return Cancellation.ASKED


async def _ask_again(access: Access, found: WorkflowExecution, entry: AuditEntry) -> Cancellation:
    """Somebody has asked before: if it was paused since, that ends, and a worker undoes it."""
    execution_id = found.workflow_execution_id
    now = entry.created_at
    if found.paused_at is None or not await access.store.resume_execution(
        execution_id, to_whoever_left_it(execution_id, now), entry, now=now
    ):
        return Cancellation.REFUSED
    await access.hasten(execution_id)
    access.look()
    return Cancellation.ASKED
