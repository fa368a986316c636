"""The records that a fork begins with: those of another execution before a point.

Nothing that they hold runs again. Each says which execution ran it: that one alone undoes it. So a
compensation is never called twice for the same effect, whatever becomes of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from durable_workflow_sqlite.engine import editing
from durable_workflow_sqlite.engine.child_calls import child_of_wait
from durable_workflow_sqlite.engine.cutting import Cut, behind_everything, check_before, cut_before
from durable_workflow_sqlite.engine.editing import Changed, Edit
from durable_workflow_sqlite.engine.history import (
    TIMERS,
    Place,
    RecordedHistory,
    StepHistory,
)
from durable_workflow_sqlite.engine.mending import refused
from durable_workflow_sqlite.engine.origins import ancestors, origin_of_fork
from durable_workflow_sqlite.engine.step_names import StepName, find_step, in_words, names_of
from durable_workflow_sqlite.engine.wait_records import timer_of
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    Record,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TakenExecution,
    TimerStatus,
    WorkflowPatch,
    WorkflowSignal,
    ran_in,
)

_NOT_TAKEN = (SignalStatus.PENDING, SignalStatus.EXPIRED)


class Beginning(msgspec.Struct, frozen=True):
    """What lies before the point, as it is recorded: steps and timers, open waits, and the rest.

    before: the point in words; None for one behind everything. until: when that step began; None
        without one. kept: how many steps and waits.
    origin: as `WorkflowExecution.replay_origin`.
    starts: of children whose ends are not among the steps, and their ids.
    """

    before: str | None
    until: datetime | None
    over: list[StepCheckpoint]
    waits: list[StepCheckpoint]
    patches: list[WorkflowPatch]
    kept: int
    origin: str | None
    changes: list[Changed]
    starts: list[tuple[StepCheckpoint, str]]


def beginning_of(seen: TakenExecution, before: StepName | None, edits: Sequence[Edit]) -> Beginning:
    """Raises ExecutionConflictError or ValueError where no fork can begin there."""
    record = seen.execution
    execution_id = record.workflow_execution_id
    history = RecordedHistory(seen.checkpoints, seen.pending_timers)
    edited = editing.found(execution_id, history, edits)
    words = until = None
    if before is None:
        cut = behind_everything(seen, history, edited)
        check_before(seen, history, cut, "forked")
    else:
        place, first = find_step(execution_id, history, before)
        cut = cut_before(seen, history, place, first, "forked before", edited=edited, is_fork=True)
        assert first.last is not None
        words = in_words(first.last)
        until = cut.at if first.first is None else first.first.started_at or cut.at
    kept: dict[Place, StepHistory] = {}
    open_waits: list[StepCheckpoint] = []
    for place, step in history.steps():
        assert step.last is not None
        if step.told is not None and (step.told.event or 0) < cut.event:
            kept[place] = step
        elif not cut.is_after(step) and cut.is_within(step.last, place):
            open_waits.append(step.last)
    changes = editing.changes_of(record, kept, edited, words or "its end")
    if cut.event == 1:  # the function has heard nothing by then: it begins anew
        kept, open_waits = {}, []
    _check_stands(seen, {place: one for place, one in kept.items() if place not in edited})
    after = {id(one.before): one.after for one in changes}
    over = [
        after.get(id(one), one)
        for one in sorted(seen.checkpoints, key=_row)  # so that the copies have the same order
        if _is_copied(one, kept.get((one.branch, one.step_index)), cut)
    ]
    waits = [
        msgspec.structs.replace(
            one,
            status=StepStatus.INTENT,
            output_data=None,
            error_type=None,
            error_message=None,
            completed_at=None,
            event=None,
        )
        for one in sorted(open_waits, key=_row)
    ]
    return Beginning(
        words,
        until,
        over,
        waits,
        [one for one in seen.patches if one.event < cut.event] if over or waits else [],
        len(kept) + len(waits),
        origin_of_fork(record, cut.event - 1) if over or waits else None,
        changes,
        _starts_of_children(over, ancestors(record)),
    )


def _row(one: StepCheckpoint) -> int:
    return one.id or 0


def _is_copied(one: StepCheckpoint, step: StepHistory | None, cut: Cut) -> bool:
    if one.branch == TIMERS:
        return one.event is not None and one.event < cut.event
    if step is None or step.told is None or one.attempt == 0:
        return False
    return one.attempt <= step.told.attempt


def _check_stands(seen: TakenExecution, kept: Mapping[Place, StepHistory]) -> None:
    """Raise if something is undone, or is about to be: a fork would go on as if it stood."""
    is_undoing = seen.execution.status is ExecutionStatus.COMPENSATING
    undone = [
        one.last
        for one in kept.values()
        if one.last is not None
        and (one.compensation is not None or (is_undoing and one.last.compensate_ref is not None))
    ]
    if undone:
        undone.sort(key=lambda one: one.event or 0)
        raise refused(
            seen.execution.workflow_execution_id,
            f"was not forked: what {names_of(undone)} did is undone, is being undone, or should"
            f" have been. Fork it before {in_words(undone[0])}, or give each of these steps the"
            " result that counts now (edit), or rerun it",
        )


def _starts_of_children(
    over: Sequence[StepCheckpoint], ids: Sequence[str]
) -> list[tuple[StepCheckpoint, str]]:
    ended = {child_of_wait(one) for one in over if one.event is not None}
    starts = [
        (one, msgspec.json.decode(one.output_data or "null", type=str))
        for one in over
        if one.status is StepStatus.COMPLETED and editing.starts_child(one, ids)
    ]
    return [(one, child) for one, child in starts if child not in ended]


def as_records_of(execution_id: str, source: str, begins: Beginning) -> list[Record]:
    """The copies for another execution, except its signals."""
    waits = [msgspec.structs.replace(one, **_of(execution_id)) for one in begins.waits]
    return [
        *(_copy(one, execution_id, source) for one in begins.over),
        *waits,
        *(timer_of(one, TimerStatus.PENDING) for one in waits if one.due_at is not None),
        *(
            msgspec.structs.replace(one, workflow_execution_id=execution_id)
            for one in begins.patches
        ),
    ]


def _of(execution_id: str) -> dict[str, str | None]:
    return {"workflow_execution_id": execution_id, "id": None}


def _copy(one: StepCheckpoint, execution_id: str, source: str) -> StepCheckpoint:
    if one.kind is not StepKind.STEP:
        return msgspec.structs.replace(one, **_of(execution_id))
    return msgspec.structs.replace(
        one,
        workflow_execution_id=execution_id,
        id=None,
        compensate_ref=None,
        input_data=ran_in(source, one.input_data),
    )


def signals_of(
    execution_id: str,
    seen: TakenExecution,
    signals: Sequence[WorkflowSignal],
    begins: Beginning,
) -> list[WorkflowSignal]:
    """What had been sent when the step at the point began, and no wait before it has taken.

    Signals of the library are not among them; nor is what was deleted since it was taken.
    """
    before = {(one.branch, one.step_index) for one in begins.over}
    names = dict.fromkeys(one.signal_name for one in signals if not one.signal_name.startswith("$"))
    copies: list[WorkflowSignal] = []
    for name in names:
        of_name = [one for one in signals if one.signal_name == name]
        later = [
            one
            for one in seen.checkpoints
            if one.kind is StepKind.SIGNAL
            and one.step_name == name
            and one.status is StepStatus.COMPLETED
            and (one.branch, one.step_index) not in before
        ]
        taken = [one for one in of_name if one.status is SignalStatus.DELIVERED]
        not_taken = [one for one in of_name if one.status in _NOT_TAKEN]
        copies += [
            *(taken[-len(later) :] if later else []),
            *not_taken,
        ]
    return [
        msgspec.structs.replace(
            one,
            workflow_execution_id=execution_id,
            workflow_signal_id=None,
            status=SignalStatus.PENDING,
        )
        for one in copies
        if begins.until is None or one.created_at <= begins.until
    ]


def end_of_child(execution_id: str, name: str, payload: str, now: datetime) -> WorkflowSignal:
    """What tells a fork how a child ended that the other execution has started."""
    return WorkflowSignal(
        workflow_execution_id=execution_id, signal_name=name, payload=payload, created_at=now
    )
