"""Other results for steps that have one, as a person says: for a fork, or for a retry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.engine import audit, serialization
from durable_workflow_sqlite.engine.child_calls import ChildEnd, child_of_wait
from durable_workflow_sqlite.engine.history import (
    Place,
    RecordedHistory,
    StepHistory,
    place_in_words,
)
from durable_workflow_sqlite.engine.mending import refused
from durable_workflow_sqlite.engine.origins import ancestors
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.step_names import (
    Results,
    StepName,
    check_step,
    find_step,
    in_words,
)
from durable_workflow_sqlite.records import (
    COMPENSATION_SUFFIX,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowExecution,
)

NOTED_AT_MOST: Final = 100
"""Edits that the audit log names."""


class Edit(msgspec.Struct, frozen=True):
    """A step, and the JSON of the result that it is to have."""

    step: StepName
    text: str


class Changed(msgspec.Struct, frozen=True):
    """The outcome of a step that gets another result, before and after, and that result."""

    before: StepCheckpoint
    after: StepCheckpoint
    text: str


def checked(edit: Results | None, max_bytes: int) -> list[Edit]:
    """What `edit` says. max_bytes: of each value.

    Raises TypeError, ValueError or SerializationError for what it cannot.
    """
    if edit is None:
        return []
    if not isinstance(edit, Mapping):
        raise TypeError(f"edit must say the result of each step, as {{'price': 42}}, not {edit!r}")
    edits: list[Edit] = []
    for step, value in edit.items():
        check_step(step)
        name = step if isinstance(step, str) else step[1]
        if name.endswith(COMPENSATION_SUFFIX):
            raise ValueError(f"edit names the compensation {name!r}, which returns nothing")
        text = serialization.to_json(value, what := f"the value of {name!r} in edit")
        check_size(text, max_bytes, what)
        edits.append(Edit(step, text))
    return edits


def found(execution_id: str, history: RecordedHistory, edits: Sequence[Edit]) -> dict[Place, Edit]:
    """The places of the steps. Raises ValueError for no step, and for one that is named twice."""
    places: dict[Place, Edit] = {}
    for one in edits:
        place, step = find_step(execution_id, history, one.step)
        if place in places:
            assert step.last is not None
            raise ValueError(f"edit names {in_words(step.last)} twice")
        places[place] = one
    return places


def changes_of(
    execution: WorkflowExecution,
    kept: Mapping[Place, StepHistory],
    edited: Mapping[Place, Edit],
    point: str,
) -> list[Changed]:
    """What becomes of the steps that are to have another result.

    kept: the steps before a point. point: in words.
    Raises ExecutionConflictError for a step that is not before it, or has no result.
    """
    execution_id, ids = execution.workflow_execution_id, ancestors(execution)
    changes: list[Changed] = []
    for place, edit in edited.items():
        step = kept.get(place)
        last = None if step is None else (step.told or step.last)
        if last is None:
            name = edit.step if isinstance(edit.step, str) else edit.step[1]
            raise refused(
                execution_id,
                f"was not changed: step {name!r} ({place_in_words(place)}) was not over before"
                f" {point}, so its result is not kept there, and cannot be replaced",
            )
        after = replaced(execution_id, last, edit.text, ids)
        changes.append(Changed(last, after, edit.text))
    return changes


def replaced(
    execution_id: str, last: StepCheckpoint, text: str, ids: Iterable[str]
) -> StepCheckpoint:
    """The outcome of a step with another result; a failure becomes a result, too.

    ids: of the execution, and of those whose records it may have.
    Raises ExecutionConflictError for what has no result.
    """
    name = in_words(last)
    if last.kind is StepKind.SLEEP:
        raise refused(execution_id, f"was not changed: {name} returns nothing, so leave it out")
    if last.event is None:
        raise refused(
            execution_id,
            f"was not changed: {name} has no result there, since its workflow function has got"
            " none. Name a step that has completed or failed",
        )
    if last.kind is StepKind.STEP and starts_child(last, ids):
        raise refused(
            execution_id,
            f"was not changed: {name} is the start of a child, and has its id as result. To change"
            " what the child returned, name the wait for its end",
        )
    if child_of_wait(last) is not None:
        end = ChildEnd(status="COMPLETED", output=msgspec.Raw(text.encode()))
        text = msgspec.json.encode(end).decode()
    return msgspec.structs.replace(
        last,
        status=StepStatus.COMPLETED,
        output_data=text,
        error_type=None,
        error_message=None,
        due_at=None if last.kind is StepKind.STEP else last.due_at,
    )


def starts_child(step: StepCheckpoint, ids: Iterable[str]) -> bool:
    """Whether a step is the start of a child, as far as its result tells."""
    output = step.output_data or ""
    return step.kind is StepKind.STEP and any(output.startswith(f'"{one}/') for one in ids)


def noted(changes: Sequence[Changed]) -> dict[str, object]:
    """For the audit log: of each step what it was, and its new result."""
    if not changes:
        return {}
    details: dict[str, object] = {
        "edit": [
            {
                "step": in_words(one.before),
                "was": _was(one.before),
                "value": audit.noted(one.text),
            }
            for one in changes[:NOTED_AT_MOST]
        ]
    }
    if len(changes) > NOTED_AT_MOST:
        details["more_edited"] = len(changes) - NOTED_AT_MOST
    texts = [one.text for one in changes]
    if len(changes) > NOTED_AT_MOST or any(len(one) > audit.NOTED_CHARACTERS for one in texts):
        # Not all of it is noted: this tells it from another one that begins like it.
        details["sha256"] = hashlib.sha256(msgspec.json.encode(texts)).hexdigest()
    return details


def _was(before: StepCheckpoint) -> Any:
    if before.status is StepStatus.COMPLETED:
        return audit.noted(before.output_data or "null")
    if before.status is StepStatus.INTENT:
        return "in doubt"
    return f"{before.status}: {before.error_type}: {before.error_message}"[: audit.NOTED_CHARACTERS]
