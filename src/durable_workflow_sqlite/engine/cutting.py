"""The point in the records of an execution from which on it, or a fork of it, goes another way.

The outcome of a step has a number. All that the workflow function heard from then on lies behind
the point, and so does every step that was not over by then. What lies before it is a history as a
crash would have left it: a replay of it comes to that step, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import msgspec

from durable_workflow_sqlite.engine import deleted_rows
from durable_workflow_sqlite.engine.history import Place, RecordedHistory, StepHistory
from durable_workflow_sqlite.engine.mending import missing_events, refused
from durable_workflow_sqlite.engine.reopening import what_failed
from durable_workflow_sqlite.engine.step_names import in_words
from durable_workflow_sqlite.records import (
    CUT_OFF,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TakenExecution,
)

_A_MOMENT: Final = timedelta(microseconds=1)


class Cut(msgspec.Struct, frozen=True):
    """The step, and the number and the time of its outcome.

    place: None for a point behind everything that the function has heard.
    is_open: whether it is a wait that had no outcome when the execution ended.
    row: what has a lower id than this had begun before.
    is_read: whether `at` was read from a clock. Outcomes that come at once have times that differ
        by a microsecond, and what began later may have an earlier time.
    """

    place: Place | None
    event: int
    at: datetime
    is_open: bool = False
    row: int = 0
    is_read: bool = True

    def is_after(self, step: StepHistory) -> bool:
        """Whether a step was over before."""
        last, told = step.last, step.told
        assert last is not None
        if told is not None:
            return (told.event or 0) < self.event
        is_over = last.status is StepStatus.FAILED and last.error_type == CUT_OFF
        return is_over and last.completed_at is not None and last.completed_at < self.at

    def is_within(self, last: StepCheckpoint, place: Place) -> bool:
        """Whether it is a wait that was open then; one that timed out since waits again."""
        has_timed_out = last.status is StepStatus.FAILED and last.event is not None
        if last.kind is StepKind.STEP or has_timed_out or last.started_at is None:
            return False
        if place == self.place:
            return self.is_open
        return (last.id or 0) < self.row or (self.is_read and last.started_at < self.at)


def cut_before(
    seen: TakenExecution,
    history: RecordedHistory,
    place: Place,
    first: StepHistory,
    act: str,
    *,
    edited: Collection[Place] = (),
    is_fork: bool = False,
) -> Cut:
    """The point before a step. act: what is to be done there, in words: "run again from".

    edited: what gets another outcome, so that it did not fail the execution.
    is_fork: whether a step may have no outcome yet: it goes on only in the other execution.

    Raises ExecutionConflictError where that cannot be.
    """
    execution_id, last = seen.execution.workflow_execution_id, first.last
    told = first.told
    assert last is not None
    name = in_words(last)
    deleted = deleted_rows.still_missing(seen.execution, seen.checkpoints)
    if deleted and deleted_rows.precede(deleted, place):
        # What was deleted would run again, too, and nobody has agreed to that.
        why = deleted_rows.why_refused(f"was not {act} {name}", deleted, seen.checkpoints)
        raise refused(execution_id, why)
    heard = seen.execution.last_event
    is_over = seen.execution.status.is_terminal
    if is_over and last.event is None and last.kind is not StepKind.STEP:
        # All that the function heard before its end stays.
        end = history.last_event if heard is None else heard
        at = last.completed_at or seen.execution.updated_at
        cut = Cut(place, end + 1, at, is_open=True)
    elif told is not None and told.event is not None and told.completed_at is not None:
        cut = Cut(place, told.event, told.completed_at)
    elif seen.execution.trouble is not None and first.first and first.first.started_at:
        # It may be what does not fit: it is forgotten, and what the function heard since it began.
        at = first.first.started_at
        since = [one.event for one in history.events if one.completed_at and one.completed_at > at]
        cut = Cut(place, (since[0] if since else None) or history.last_event + 1, at)
    elif is_fork:
        cut = behind_everything(seen, history)
    else:
        raise refused(
            execution_id,
            f"cannot be {act} {name}, which has no outcome"
            + (
                ": it was cut off. Name a step that has completed or failed, or a wait"
                if is_over
                else " yet: an execution goes on from such a step by itself, unless it is in"
                " trouble. Name a step that has completed or failed"
            ),
        )
    cut = _with_order(cut, seen)
    earlier = check_before(seen, history, cut, f"{act} {name}")
    failed = what_failed(seen.execution, seen.checkpoints)
    at_fault = None if failed is None else (failed.branch, failed.step_index)
    if (
        failed is not None
        and at_fault not in edited
        and any((one.branch, one.step_index) == at_fault for one in earlier)
    ):
        raise refused(
            execution_id,
            f"cannot be {act} {name}: {in_words(failed)} failed it, before that step had its"
            " outcome. Name that one",
        )
    if heard is not None and heard < cut.event and not cut.is_open and cut.place is not None:
        raise refused(
            execution_id,
            f"cannot be {act} {name}: its workflow function had ended before that step"
            " had its outcome. Name an earlier step",
        )
    return cut


def _with_order(cut: Cut, seen: TakenExecution) -> Cut:
    """With what tells whether something had begun before that point."""
    before = [
        one.completed_at
        for one in seen.checkpoints
        if one.completed_at is not None and one.completed_at < cut.at
    ]
    is_read = not before or cut.at - max(before) > _A_MOMENT
    until = (one.id or 0 for one in seen.checkpoints if 0 < (one.event or 0) <= cut.event)
    return msgspec.structs.replace(cut, row=max(until, default=0), is_read=is_read or cut.is_open)


def behind_everything(
    seen: TakenExecution, history: RecordedHistory, edited: Collection[Place] = ()
) -> Cut:
    """The point behind everything that the function heard; before what failed the execution."""
    record = seen.execution
    failed = what_failed(record, seen.checkpoints)
    if failed is not None and (failed.branch, failed.step_index) not in edited:
        place = (failed.branch, failed.step_index)
        found = next((one for other, one in history.steps() if other == place), None)
        told = None if found is None else found.told
        if told is not None and told.event is not None and told.completed_at is not None:
            return _with_order(Cut(None, told.event, told.completed_at), seen)
    end = history.last_event if record.last_event is None else record.last_event
    if not record.status.is_terminal:
        # A wait that has begun is open, whatever the clocks of its workers said.
        times = [one.started_at for one in seen.checkpoints if one.started_at is not None]
        return Cut(None, end + 1, max([record.updated_at, *times]) + _A_MOMENT)
    ends = [one.completed_at for one in history.events if (one.event or 0) <= end]
    at = max((one for one in ends if one), default=record.created_at)
    return _with_order(Cut(None, end + 1, at), seen)


def check_before(
    seen: TakenExecution, history: RecordedHistory, cut: Cut, act: str
) -> list[StepCheckpoint]:
    """The events before a point. Raises ExecutionConflictError if one of them is missing."""
    earlier = [one for one in history.events if (one.event or 0) < cut.event]
    left_out = _of_failed_attempts(seen, earlier)
    if missing := [number for number in missing_events(earlier) if number not in left_out]:
        raise refused(
            seen.execution.workflow_execution_id,
            f"cannot be {act}: event {missing[0]} before it is missing, so what is"
            " recorded may not be all. `durable-workflow doctor` says more; or rerun it",
        )
    return earlier


def _of_failed_attempts(seen: TakenExecution, events: Collection[StepCheckpoint]) -> set[int]:
    """The numbers that attempts may have had that are tried again, beside another step.

    An attempt of a transaction takes a number as it begins. If it fails and is to be tried again,
    it has no use for it, and another step may have the next one by then.
    """
    failed = [
        one
        for one in seen.checkpoints
        if one.status is StepStatus.FAILED and one.event is None and one.started_at is not None
    ]
    numbers: set[int] = set()
    before = None
    for event in events:
        first = (0 if before is None else before.event or 0) + 1
        if first < (event.event or 0) and any(_is_between(one, before, event) for one in failed):
            numbers.update(range(first, event.event or 0))
        before = event
    return numbers


def _is_between(
    attempt: StepCheckpoint, before: StepCheckpoint | None, after: StepCheckpoint
) -> bool:
    """Whether an attempt was under way at some time between two events."""
    began, ended = attempt.started_at, attempt.completed_at
    assert began is not None
    is_begun = after.completed_at is None or began <= after.completed_at
    if before is None or before.completed_at is None or ended is None:
        return is_begun
    return is_begun and ended >= before.completed_at
