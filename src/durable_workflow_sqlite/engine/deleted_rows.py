"""Whether the rows of steps that somebody deleted by hand are there again: why is one blocked?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from durable_workflow_sqlite.records import DELETED_ROWS, StepCheckpoint, WorkflowExecution

Place = tuple[str, int]
_PLACE: Final = re.compile(r"\(index (\d+)(?: of branch '(.*?)')?, attempt \d+\)")


def are_why(record: WorkflowExecution) -> bool:
    """Whether an execution is blocked since rows of its steps were deleted."""
    return (record.blocked_reason or "").startswith(DELETED_ROWS)


def still_missing(record: WorkflowExecution, checkpoints: Iterable[StepCheckpoint]) -> str | None:
    """The rows that were deleted and are not there again, in words; None if there are none."""
    if not are_why(record):
        return None
    left = (record.blocked_reason or "").removeprefix(DELETED_ROWS)
    for one in checkpoints:
        left = left.replace(_as_the_trigger_says(one), "")
    return ", ".join(one for one in left.split(", ") if one) or None


def why_refused(act: str, missing: str, checkpoints: Iterable[StepCheckpoint]) -> str:
    """What to say to somebody who would let it go on."""
    recorded = [(one.branch, one.step_index) for one in checkpoints if one.event is not None]
    again = ""
    if follow_a_step(missing, recorded):
        again = "; or run it again from a step before them (retry --from STEP)"
    return (
        f"{act}: rows of step_checkpoints were deleted by hand, and are still missing: {missing}."
        " What these steps did would be done again, or never undone. Restore the rows, or a backup,"
        f" and then unblock it{again}. To let it go on as"
        " it is, unblock it without the rows (unblock --without-rows)"
    )


def follow_a_step(missing: str, recorded: Iterable[Place]) -> bool:
    """Whether one of the recorded steps came before all missing rows, as far as anybody knows."""
    deleted = _places(missing)
    return any(
        all(branch == one and step_index <= index for one, index in deleted)
        for branch, step_index in recorded
    )


def precede(missing: str, place: Place) -> bool:
    """Whether a row is missing of a step before this one. Branches have an order of their own."""
    return any(place[0] == branch and index < place[1] for branch, index in _places(missing))


def _places(missing: str) -> list[Place]:
    return [(branch, int(index)) for index, branch in _PLACE.findall(missing)]


def _as_the_trigger_says(one: StepCheckpoint) -> str:
    """As trg_step_cp_deleted writes it."""
    branch = f" of branch '{one.branch}'" if one.branch else ""
    return (
        f"{one.kind.lower()} '{one.step_name}' (index {one.step_index}{branch},"
        f" attempt {one.attempt})"
    )
