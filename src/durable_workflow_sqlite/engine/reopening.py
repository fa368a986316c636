"""What must be changed in the records of a failed execution so that it goes on where it failed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from durable_workflow_sqlite.engine.child_calls import child_of_wait
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.mending import Change, as_open
from durable_workflow_sqlite.engine.wait_records import timer_of
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    Record,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TakenExecution,
    TimerStatus,
    WorkflowExecution,
)


def why_not_reopened(execution: WorkflowExecution, checkpoints: Iterable[StepCheckpoint]) -> str:
    """Why an execution cannot be run again where it failed; empty if it can."""
    status = execution.status
    if status.is_terminal and _not_undone(checkpoints) and status is not ExecutionStatus.COMPLETED:
        return ""
    if status is ExecutionStatus.FAILED:
        if any(one.attempt == 0 for one in checkpoints):
            return "was compensated: all that its steps did is undone; rerun it, under another id"
        return ""
    if status is ExecutionStatus.CANCELLED:
        return (
            "is CANCELLED: name a step, and it runs again from there (from_step, in a command"
            " --from); or rerun it"
        )
    if status is ExecutionStatus.COMPLETED:
        return "is COMPLETED: only one that FAILED can be run again; rerun it, or fork it"
    why = f"is {status}, and waits for no later attempt: only one that FAILED can be run again"
    if execution.is_paused:
        with_it = "" if execution.paused_at is not None else f" with {execution.paused_with!r}"
        why += f". It is paused{with_it}: resume that, and it continues"
    if execution.trouble is not None:
        kind = execution.trouble.partition(":")[0]
        why += (
            f". Its worker left it as it is, because of a {kind}; once that is corrected,"
            " restarted workers claim it by themselves"
        )
    return why


def reopened(seen: TakenExecution, now: datetime) -> Change:
    """How a failed execution goes on where it failed; its time to live counts no more.

    A step gets one more attempt, and a wait its whole time once more. Nothing is saved beside if no
    step failed the execution, but its own code did. If compensations have failed, each of these
    gets one more attempt instead, and more where its policy says so: the error and the last event
    stay, and the execution ends as before.
    """
    record = seen.execution
    if not_undone := _not_undone(seen.checkpoints):
        becomes = as_open(record, now, status=ExecutionStatus.COMPENSATING, ttl_expires_at=None)
        return Change(
            becomes,
            [
                msgspec.structs.replace(
                    one, status=StepStatus.INTENT, completed_at=None, due_at=now
                )
                for one in not_undone
            ],
        )
    becomes = as_open(
        record,
        now,
        status=ExecutionStatus.PENDING,
        error_type=None,
        error_message=None,
        ttl_expires_at=None,
        last_event=None,
    )
    return Change(becomes, _tried_again(record, seen.checkpoints, now))


def waits_for_children(change: Change) -> list[StepCheckpoint]:
    """The waits for the ends of children that a change opens again."""
    return [
        one
        for one in change.records
        if isinstance(one, StepCheckpoint)
        and one.status is StepStatus.INTENT
        and one.kind is StepKind.SIGNAL
        and child_of_wait(one) is not None
    ]


def _not_undone(checkpoints: Iterable[StepCheckpoint]) -> list[StepCheckpoint]:
    return [one for one in checkpoints if one.attempt == 0 and one.status is StepStatus.FAILED]


def _tried_again(
    execution: WorkflowExecution, checkpoints: list[StepCheckpoint], now: datetime
) -> list[Record]:
    last = what_failed(execution, checkpoints)
    if last is None:
        return []
    others = without_events(last, checkpoints)
    if last.kind is StepKind.STEP:
        return [msgspec.structs.replace(last, due_at=now, event=None), *others]
    started_at = last.started_at or now
    wait = msgspec.structs.replace(
        last,
        status=StepStatus.INTENT,
        event=None,
        output_data=None,
        error_type=None,
        error_message=None,
        started_at=now,
        completed_at=None,
        due_at=None if last.due_at is None else later(now, last.due_at - started_at),
    )
    timer = [] if wait.due_at is None else [timer_of(wait, TimerStatus.PENDING)]
    return [wait, *others, *timer]


def without_events(
    last: StepCheckpoint, checkpoints: Iterable[StepCheckpoint]
) -> list[StepCheckpoint]:
    """What else changes as the events of a step or a wait are taken back; last: its last attempt.

    An attempt that timed out may have an event, too, and was only tried again. The events after it
    get lower numbers: no gap.
    """
    events = [one for one in checkpoints if one.event is not None]
    taken_back = [one for one in events if _is_of(last, one)]
    earlier = [
        msgspec.structs.replace(one, event=None, due_at=one.completed_at)
        for one in taken_back
        if one.attempt != last.attempt
    ]
    later = [(one, _number_before(one, taken_back)) for one in events if one not in taken_back]
    return earlier + [
        msgspec.structs.replace(one, event=event) for one, event in later if event != one.event
    ]


def _is_of(last: StepCheckpoint, one: StepCheckpoint) -> bool:
    return (one.branch, one.step_index) == (last.branch, last.step_index)


def _number_before(event: StepCheckpoint, taken_back: list[StepCheckpoint]) -> int:
    number = event.event or 0
    return number - sum((one.event or 0) < number for one in taken_back)


def what_failed(
    execution: WorkflowExecution, checkpoints: Iterable[StepCheckpoint]
) -> StepCheckpoint | None:
    """The last attempt of what failed an execution; None where its own code did.

    Another step or wait may have failed later, beside it: the error says which one it was.
    """
    checkpoints = list(checkpoints)
    failed = [
        one
        for one in checkpoints
        if one.status is StepStatus.FAILED
        and (one.due_at is None or one.kind is StepKind.SIGNAL)
        and (one.error_type, one.error_message) == (execution.error_type, execution.error_message)
    ]
    last = [one for one in failed if one.completed_at is None]
    found = last[-1] if last else max(failed, key=_completed_at, default=None)
    if found is None or found.attempt == 0:
        return found
    return max((one for one in checkpoints if _is_of(found, one)), key=lambda one: one.attempt)


def _completed_at(checkpoint: StepCheckpoint) -> datetime:
    assert checkpoint.completed_at is not None
    return checkpoint.completed_at
