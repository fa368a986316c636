"""How the steps of an execution are undone: what its code says, beside what is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from durable_workflow_sqlite.engine.actions import reference
from durable_workflow_sqlite.engine.child_calls import ChildCall
from durable_workflow_sqlite.engine.history import Place, RecordedHistory
from durable_workflow_sqlite.engine.operations import StepCall
from durable_workflow_sqlite.engine.step_records import read_value
from durable_workflow_sqlite.errors import (
    NonDeterminismError,
    SerializationError,
    StoreCorruptError,
)
from durable_workflow_sqlite.records import StepKind, StepStatus, who_ran

UNSTORABLE: Final = f"{SerializationError.__module__}:{SerializationError.__qualname__}"
"""The error of a step that took effect, and whose result could not be stored."""


def check_can_be_undone(
    execution_id: str, calls: Mapping[Place, StepCall], history: RecordedHistory
) -> None:
    """Raise the error with which undoing would stop before it undoes anything.

    calls: the steps with a compensation that the workflow function has asked for.
    """
    refuse_lost_references(execution_id, calls, history)
    for place, step in history.steps():
        last, begun = step.last, step.compensation
        if last is None or last.compensate_ref is None:
            continue
        if begun is not None and begun.status is not StepStatus.INTENT:
            continue
        is_completed = last.status is StepStatus.COMPLETED
        if is_completed or last.error_type == UNSTORABLE or (step.is_in_doubt and begun is None):
            call = how_to_undo(execution_id, place, calls, history)
            if is_completed and not isinstance(call, ChildCall):
                read_value(execution_id, call, last)


def refuse_lost_references(
    execution_id: str, calls: Mapping[Place, StepCall], history: RecordedHistory
) -> None:
    """Raise StoreCorruptError for a step that its records would leave as it is.

    Its compensation is in the code and not in its record; or this process has recorded what it
    did, and somebody has deleted the row since.
    """
    recorded = {place for place, step in history.steps() if step.last is not None}
    for place, asked in calls.items():
        if asked.checkpoint is not None and asked.may_need_undoing and place not in recorded:
            raise StoreCorruptError(
                f"execution {execution_id!r} is to be undone, and {asked.describe()} is not"
                " recorded any more: a row of step_checkpoints was deleted by hand. Nothing is"
                " undone until you restore the row, or a backup",
                workflow_execution_id=execution_id,
                step_name=asked.name,
                step_index=place[1],
                branch=place[0],
            )
    for place, step in history.steps():
        call, last = calls.get(place), step.last
        if (
            call is None
            or last is None
            or last.compensate_ref is not None
            or who_ran(last.input_data) is not None
            or step.compensation is not None
            or not (
                last.status is StepStatus.COMPLETED
                or last.error_type == UNSTORABLE
                or step.is_in_doubt
            )
        ):
            continue
        assert call.compensate is not None
        raise StoreCorruptError(
            f"execution {execution_id!r} is to be undone, and {call.describe()} has a"
            " compensation in the code and none in its record: its compensate_ref was deleted"
            " by hand, or the code has got `compensate=` since. Nothing is undone until you"
            f" correct this: set its compensate_ref to {reference(call.compensate)!r} to undo"
            " it, or run code without the compensation to leave it as it is",
            workflow_execution_id=execution_id,
            step_name=call.name,
            step_index=place[1],
            branch=place[0],
        )


def how_to_undo(
    execution_id: str,
    place: Place,
    calls: Mapping[Place, StepCall],
    history: RecordedHistory,
) -> StepCall:
    """How to undo a step, as its workflow function has said. Raises NonDeterminismError."""
    call = calls.get(place)
    if call is not None:
        return call
    missing = [
        step.last
        for other, step in history.steps()
        if step.last is not None
        and step.last.compensate_ref is not None
        and step.last.kind is StepKind.STEP
        and other not in calls
    ]
    names = ", ".join(f"{one.step_name!r} (index {one.step_index})" for one in missing)
    raise NonDeterminismError(
        f"execution {execution_id!r} must undo {names}, but its workflow no longer asks for"
        " them, so their compensations are not known. It was left as it is. Resume it with the"
        " code that it was started with.",
        workflow_execution_id=execution_id,
        step_index=place[1],
        branch=place[0],
        recorded_name=missing[0].step_name if missing else None,
    )
