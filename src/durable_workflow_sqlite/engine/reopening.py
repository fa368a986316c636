"""What must be changed in the records of a failed execution so that it goes on where it failed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.wait_records import timer_of
from durable_workflow_sqlite.records import (
    Record,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TimerStatus,
    WorkflowExecution,
)


def reopened(
    execution: WorkflowExecution, checkpoints: Iterable[StepCheckpoint], now: datetime
) -> list[Record]:
    """The records to save; none where no step failed the execution, but its own code did.

    A step gets one more attempt, and a wait its whole time once more. If compensations have failed,
    each of these gets one more attempt instead, and more where its policy says so.
    """
    checkpoints = list(checkpoints)
    not_undone = [
        one for one in checkpoints if one.attempt == 0 and one.status is StepStatus.FAILED
    ]
    if not_undone:
        return [
            msgspec.structs.replace(one, status=StepStatus.INTENT, completed_at=None, due_at=now)
            for one in not_undone
        ]
    last = what_failed(execution, checkpoints)
    if last is None:
        return []
    later_events = without_event(last, checkpoints)
    if last.kind is StepKind.STEP:
        return [msgspec.structs.replace(last, due_at=now, event=None), *later_events]
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
    return [wait, *later_events, *timer]


def without_event(
    taken_back: StepCheckpoint, checkpoints: Iterable[StepCheckpoint]
) -> list[StepCheckpoint]:
    """The events after one that is taken back, each with the number before its own: no gap."""
    number = taken_back.event
    if number is None:
        return []
    return [
        msgspec.structs.replace(one, event=one.event - 1)
        for one in checkpoints
        if one.event is not None and one.event > number
    ]


def what_failed(
    execution: WorkflowExecution, checkpoints: Iterable[StepCheckpoint]
) -> StepCheckpoint | None:
    """The step or wait that failed an execution; None where its own code did.

    Another one may have failed later, beside it: it is the error that says which one it was.
    """
    failed = [
        one
        for one in checkpoints
        if one.status is StepStatus.FAILED
        and (one.due_at is None or one.kind is StepKind.SIGNAL)
        and (one.error_type, one.error_message) == (execution.error_type, execution.error_message)
    ]
    last = [one for one in failed if one.completed_at is None]
    return last[-1] if last else max(failed, key=_completed_at, default=None)


def _completed_at(checkpoint: StepCheckpoint) -> datetime:
    assert checkpoint.completed_at is not None
    return checkpoint.completed_at
