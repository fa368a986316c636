"""Whether the rows of steps that somebody deleted by hand are there again: why is one blocked?"""

from __future__ import annotations

from collections.abc import Iterable

from durable_workflow_sqlite.records import DELETED_ROWS, StepCheckpoint, WorkflowExecution


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


def why_refused(act: str, missing: str) -> str:
    """What to say to somebody who would let it go on."""
    return (
        f"{act}: rows of step_checkpoints were deleted by hand, and are still missing: {missing}."
        " What these steps did would be done again, or never undone. Restore the rows, or a backup,"
        " and then unblock it; or run it again from a step before them (retry --from STEP). To let"
        " it go on as it is, unblock it without the rows (unblock --without-rows)"
    )


def _as_the_trigger_says(one: StepCheckpoint) -> str:
    """As trg_step_cp_deleted writes it."""
    branch = f" of branch '{one.branch}'" if one.branch else ""
    return (
        f"{one.kind.lower()} '{one.step_name}' (index {one.step_index}{branch},"
        f" attempt {one.attempt})"
    )
