"""The records to delete before an execution runs again from a step.

All that lies behind the point before that step (see `cutting`) is forgotten. A wait that was open
by then is open again, until the time that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from durable_workflow_sqlite.engine import deleted_rows, editing, origins
from durable_workflow_sqlite.engine.child_calls import child_of_wait
from durable_workflow_sqlite.engine.cutting import cut_before
from durable_workflow_sqlite.engine.editing import Edit
from durable_workflow_sqlite.engine.given import Given, left
from durable_workflow_sqlite.engine.history import TIMERS, Place, RecordedHistory, StepHistory
from durable_workflow_sqlite.engine.mending import may_need_undoing, refused
from durable_workflow_sqlite.engine.step_names import StepName, find_step, in_words, names_of
from durable_workflow_sqlite.engine.wait_records import timer_of
from durable_workflow_sqlite.questions import is_question
from durable_workflow_sqlite.records import (
    CHILD_SIGNAL,
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
    """kept: how many steps and waits stay. origin: of its record. details: for the audit log."""

    attempts: list[StepCheckpoint]
    records: list[Record]
    kept: int
    origin: str | None
    details: dict[str, object]

    def stays(self, checkpoints: Sequence[StepCheckpoint]) -> list[StepCheckpoint]:
        """What is recorded of steps from now on."""
        gone = {id(one) for one in self.attempts}
        now = {_key(one): one for one in checkpoints if id(one) not in gone}
        now |= {_key(one): one for one in self.records if isinstance(one, StepCheckpoint)}
        return [now[key] for key in sorted(now)]


def _key(one: StepCheckpoint) -> tuple[str, int, int]:
    return one.branch, one.step_index, one.attempt


def forget_from(
    seen: TakenExecution,
    signals: list[WorkflowSignal],
    values: dict[Place, Given],
    step: StepName,
    edits: Sequence[Edit],
    now: datetime,
) -> Forgotten:
    """What to change. Raises ExecutionConflictError or ValueError where that cannot be.

    values: what is given to steps, and was not taken yet. edits: other results of steps that stay.
    """
    execution_id = seen.execution.workflow_execution_id
    history = RecordedHistory(seen.checkpoints, seen.pending_timers)
    place, first = find_step(execution_id, history, step)
    edited = editing.found(execution_id, history, edits)
    cut = cut_before(seen, history, place, first, "run again from", edited=edited)
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
    stands = [one for other, one in kept.items() if other not in edited]
    _check_undone(seen.execution, stands, forgotten, values)
    assert first.last is not None
    changes = editing.changes_of(seen.execution, kept, edited, in_words(first.last))
    places = {other for other, _ in forgotten}
    attempts = [
        one
        for one in seen.checkpoints
        if (one.branch, one.step_index) in places
        or _came_after(one, kept.get((one.branch, one.step_index)))
        # What a person gives another result stands, whoever had undone it.
        or (one.attempt == 0 and (one.branch, one.step_index) in edited)
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
            *(one.after for one in changes),
        ],
        len(kept) + len(waits),
        origins.cut_at(seen.execution, cut.event - 1),
        {
            **_details(first.last, forgotten, waits),
            **editing.noted(changes),
        },
    )


def _came_after(attempt: StepCheckpoint, kept: StepHistory | None) -> bool:
    """Whether undoing has made the attempt, after one whose outcome stays."""
    return kept is not None and kept.told is not None and attempt.attempt > kept.told.attempt


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
    with those behind them that nothing has taken yet. An answer to a question is not among them:
    it is asked again, maybe about something else.
    """
    records: list[Record] = []
    for name in dict.fromkeys(wait.step_name for wait in waits):
        if is_question(name):
            records += [
                msgspec.structs.replace(one, status=SignalStatus.EXPIRED)
                for one in signals
                if one.signal_name == name and one.status is SignalStatus.PENDING
            ]
            continue
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
        return "is COMPLETED: others may use its result; rerun or fork it, under another id"
    if status is ExecutionStatus.COMPENSATING:
        return "is COMPENSATING: it can be run again from a step once it is over"
    return (
        f"is {status}, and goes on by itself: only one that is FAILED, CANCELLED, blocked or in"
        " trouble can be run again from a step"
    )
