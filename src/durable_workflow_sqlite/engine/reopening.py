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
