"""The records to delete before an execution runs again from a step.

The outcome of that step has a number. All that the workflow function heard from then on is
forgotten, and so is every step that was not over by then. A wait that was open by then is open
again, until the time that it had. What stays is a history as a crash would have left it: a replay
of it comes to that step, and goes on from there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from durable_workflow_sqlite.engine import deleted_rows
from durable_workflow_sqlite.engine.child_calls import child_of_wait
from durable_workflow_sqlite.engine.given import Given, left
from durable_workflow_sqlite.engine.history import TIMERS, Place, RecordedHistory, StepHistory
from durable_workflow_sqlite.engine.mending import may_need_undoing, missing_events, refused
from durable_workflow_sqlite.engine.reopening import what_failed
from durable_workflow_sqlite.engine.step_names import StepName, find_step, in_words, names_of
from durable_workflow_sqlite.engine.wait_records import timer_of
from durable_workflow_sqlite.records import (
    CHILD_SIGNAL,
    CUT_OFF,
    ExecutionStatus,
    Record,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TakenExecution,
    TimerStatus,
    WorkflowExecution,
    WorkflowSignal,
    WorkflowTimer,
)

_NOT_TAKEN = (SignalStatus.PENDING, SignalStatus.EXPIRED)

NOTED_AT_MOST = 100
"""Steps that the audit log names."""


class Forgotten(msgspec.Struct, frozen=True):
    """kept: how many steps and waits stay. details: for the audit log."""

    attempts: list[StepCheckpoint]
    records: list[Record]
    kept: int
    details: dict[str, object]


class _Cut(msgspec.Struct, frozen=True):
    """The step, and the number and the time of its outcome.

    is_open: whether it is a wait that had none when the execution ended.
    """

    place: Place
    event: int
    at: datetime
    is_open: bool = False

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
        return (
            last.kind is not StepKind.STEP
            and not has_timed_out
            and last.started_at is not None
            and (self.is_open if place == self.place else last.started_at < self.at)
        )


def forget_from(
    seen: TakenExecution,
    signals: list[WorkflowSignal],
    values: dict[Place, Given],
    step: StepName,
    now: datetime,
) -> Forgotten:
    """What to change. Raises ExecutionConflictError or ValueError where that cannot be.

    values: what is given to steps, and was not taken yet.
    """
    execution_id = seen.execution.workflow_execution_id
    history = RecordedHistory(seen.checkpoints, seen.pending_timers)
    place, first = find_step(execution_id, history, step)
    cut = _cut(seen, history, place, first)
    forgotten: list[tuple[Place, StepHistory]] = []
    open_again: list[StepCheckpoint] = []
    kept: dict[Place, StepHistory] = {}
    taken: list[StepCheckpoint] = []
    for other, one in history.steps():
        last = one.last
        assert last is not None
        if cut.is_after(one) and not (cut.is_open and other == place):
            kept[other] = one
            continue
        if last.kind is StepKind.SIGNAL and (
            last.status is StepStatus.COMPLETED
            or (child_of_wait(last) is not None and last.event is not None)
        ):
            taken.append(last)
        if cut.is_within(last, other):
            open_again.append(last)
        else:
            forgotten.append((other, one))
    _check_undone(seen.execution, list(kept.values()), forgotten, values)
    places = {other for other, _ in forgotten}
    attempts = [
        one
        for one in seen.checkpoints
        if (one.branch, one.step_index) in places
        or _came_after(one, kept.get((one.branch, one.step_index)))
        or (one.branch == TIMERS and (one.event or 0) >= cut.event)
    ]
    waits = [_open(one) for one in open_again]
    return Forgotten(
        attempts,
        [
            *waits,
            *_timers(waits, seen.pending_timers),
            *_to_be_taken_again(taken, signals, now),
            *left(values, places),
        ],
        len(kept) + len(waits),
        _details(first.last, forgotten, waits),
    )


def _came_after(attempt: StepCheckpoint, kept: StepHistory | None) -> bool:
    """Whether undoing has made the attempt, after one whose outcome stays."""
    return kept is not None and kept.told is not None and attempt.attempt > kept.told.attempt


def _cut(seen: TakenExecution, history: RecordedHistory, place: Place, first: StepHistory) -> _Cut:
    execution_id, last = seen.execution.workflow_execution_id, first.last
    told = first.told
    assert last is not None
    name = in_words(last)
    deleted = deleted_rows.still_missing(seen.execution, seen.checkpoints)
    if deleted and deleted_rows.precede(deleted, place):
        # What was deleted would run again, too, and nobody has agreed to that.
        why = deleted_rows.why_refused(f"was not run again from {name}", deleted, seen.checkpoints)
        raise refused(execution_id, why)
    heard = seen.execution.last_event
    is_over = seen.execution.status.is_terminal
    if is_over and last.event is None and last.kind is not StepKind.STEP:
        # All that the function heard before its end stays.
        end = history.last_event if heard is None else heard
        at = last.completed_at or seen.execution.updated_at
        cut = _Cut(place, end + 1, at, is_open=True)
    elif told is not None and told.event is not None and told.completed_at is not None:
        cut = _Cut(place, told.event, told.completed_at)
    elif seen.execution.trouble is not None and first.first and first.first.started_at:
        # It may be what does not fit: it is forgotten, and what the function heard since it began.
        at = first.first.started_at
        since = [one.event for one in history.events if one.completed_at and one.completed_at > at]
        cut = _Cut(place, (since[0] if since else None) or history.last_event + 1, at)
    else:
        raise refused(
            execution_id,
            f"cannot be run again from {name}, which has no outcome"
            + (
                ": it was cut off. Name a step that has completed or failed, or a wait"
                if is_over
                else " yet: an execution goes on from such a step by itself, unless it is in"
                " trouble. Name a step that has completed or failed"
            ),
        )
    earlier = [one for one in history.events if (one.event or 0) < cut.event]
    if missing := missing_events(earlier):
        raise refused(
            execution_id,
            f"cannot be run again from {name}: event {missing[0]} before it is missing, so what is"
            " recorded may not be all. `durable-workflow doctor` says more; or rerun it",
        )
    failed = what_failed(seen.execution, seen.checkpoints)
    if failed is not None and any(
        (one.branch, one.step_index) == (failed.branch, failed.step_index) for one in earlier
    ):
        raise refused(
            execution_id,
            f"cannot be run again from {name}: {in_words(failed)} failed it, before that step had"
            " its outcome. Run it again from that one",
        )
    if heard is not None and heard < cut.event and not cut.is_open:
        raise refused(
            execution_id,
            f"cannot be run again from {name}: its workflow function had ended before that step"
            " had its outcome. Name an earlier step",
        )
    return cut


def _check_undone(
    execution: WorkflowExecution,
    kept: list[StepHistory],
    forgotten: list[tuple[Place, StepHistory]],
    values: dict[Place, Given],
) -> None:
    """What stays must stand; what is to run again must not stand, or it would be there twice."""
    execution_id = execution.workflow_execution_id
    if undone := [one.last for one in kept if one.compensation and one.last]:
        undone.sort(key=lambda one: one.event or 0)
        raise refused(
            execution_id,
            f"cannot be run again from there: what {names_of(undone)} did before is undone, or"
            " should have been. Run it"
            f" again from {in_words(undone[0])} or an earlier step, or rerun it",
        )
    if standing := [
        one.last
        for place, one in forgotten
        if one.last
        and (may_need_undoing(one) or (place in values and one.last.compensate_ref is not None))
    ]:
        raise refused(
            execution_id,
            f"cannot be run again from there: what {names_of(standing)} did is not undone, or"
            " may not be, and would be done twice. If a compensation of it failed, let it succeed"
            f" (retry), or undo it by hand (acknowledge); else {_how_to_undo(execution)}",
        )


def _how_to_undo(execution: WorkflowExecution) -> str:
    if execution.trouble is None and not deleted_rows.are_why(execution):
        return "cancel the execution first, which undoes it"
    return (
        "let a worker undo it: restore missing rows, or run the code that fits, and cancel the"
        " execution; or undo it by hand, and say so when it is in trouble (acknowledge --step STEP)"
    )


def _open(wait: StepCheckpoint) -> StepCheckpoint:
    return msgspec.structs.replace(
        wait,
        status=StepStatus.INTENT,
        output_data=None,
        error_type=None,
        error_message=None,
        completed_at=None,
        event=None,
    )


def _timers(waits: list[StepCheckpoint], pending: list[WorkflowTimer]) -> list[WorkflowTimer]:
    """The timers of waits that are open again, pending; all others are cancelled."""
    timers = [timer_of(one, TimerStatus.PENDING) for one in waits if one.due_at is not None]
    ids = {one.workflow_timer_id for one in timers}
    return timers + [
        msgspec.structs.replace(one, status=TimerStatus.CANCELLED)
        for one in pending
        if one.workflow_timer_id not in ids
    ]


def _to_be_taken_again(
    waits: list[StepCheckpoint], signals: list[WorkflowSignal], now: datetime
) -> list[Record]:
    """The signals that some waits have taken, of each name in order of arrival.

    Rows of signals that were taken long ago may be deleted: then those of that name are sent again,
    with those behind them that nothing has taken yet.
    """
    records: list[Record] = []
    for name in dict.fromkeys(wait.step_name for wait in waits):
        if name.startswith(CHILD_SIGNAL) and any(
            one.signal_name == name and one.status in _NOT_TAKEN for one in signals
        ):
            continue  # the child was retried, and has ended again
        taken = [wait for wait in waits if wait.step_name == name]
        taken.sort(key=lambda one: one.event or 0)
        rows = [
            one
            for one in signals
            if one.signal_name == name and one.status is SignalStatus.DELIVERED
        ][-len(taken) :]
        if [one.payload for one in rows] == [wait.output_data for wait in taken]:
            records += [msgspec.structs.replace(one, status=SignalStatus.PENDING) for one in rows]
            continue
        behind = [one for one in signals if one.signal_name == name and one.status in _NOT_TAKEN]
        records += [msgspec.structs.replace(one, status=SignalStatus.DELIVERED) for one in behind]
        records += [
            WorkflowSignal(
                workflow_execution_id=wait.workflow_execution_id,
                signal_name=name,
                payload=wait.output_data,
                created_at=wait.completed_at or now,  # before the deadline that it had
            )
            for wait in taken
        ]
        records += [
            msgspec.structs.replace(one, workflow_signal_id=None, status=SignalStatus.PENDING)
            for one in behind
        ]
    return records


def _details(
    first: StepCheckpoint | None,
    forgotten: list[tuple[Place, StepHistory]],
    waits: list[StepCheckpoint],
) -> dict[str, object]:
    assert first is not None
    lasts = [(one.last, one) for _, one in forgotten if one.last is not None]
    lasts.sort(key=lambda pair: (pair[0].event is None, pair[0].event or 0))
    details: dict[str, object] = {
        "from": in_words(first),
        "forgotten": [_noted(last, one) for last, one in lasts[:NOTED_AT_MOST]],
    }
    if len(lasts) > NOTED_AT_MOST:
        details["more_forgotten"] = len(lasts) - NOTED_AT_MOST
    if waits:
        details["open_again"] = [in_words(one) for one in waits[:NOTED_AT_MOST]]
    return details


def _noted(last: StepCheckpoint, step: StepHistory) -> dict[str, Any]:
    noted: dict[str, Any] = {
        "step": in_words(last),
        "was": "in doubt" if step.is_in_doubt else last.status.value,
        "attempts": last.attempt,
    }
    if step.compensation is not None:
        noted["undone"] = True
    return noted


def can_run_again(status: ExecutionStatus, *, is_stopped: bool) -> str:
    """Why an execution cannot be run again from a step; empty if it can."""
    if status in (ExecutionStatus.FAILED, ExecutionStatus.CANCELLED) or (
        is_stopped and status is not ExecutionStatus.COMPENSATING
    ):
        return ""
    if status is ExecutionStatus.COMPLETED:
        return "is COMPLETED: others may use its result; rerun it, under another id"
    if status is ExecutionStatus.COMPENSATING:
        return "is COMPENSATING: it can be run again from a step once it is over"
    return (
        f"is {status}, and goes on by itself: only one that is FAILED, CANCELLED, blocked or in"
        " trouble can be run again from a step"
    )
