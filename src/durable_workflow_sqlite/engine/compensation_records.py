"""What the records of steps and of their compensations tell the saga."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from durable_workflow_sqlite.errors import StepFailedError
from durable_workflow_sqlite.records import StepCheckpoint


def completed_at(checkpoint: StepCheckpoint) -> datetime:
    at = checkpoint.completed_at or checkpoint.started_at
    assert at is not None
    return at


def attempts_of(compensation: StepCheckpoint) -> int:
    try:
        data: dict[str, Any] = msgspec.json.decode(
            compensation.input_data or "{}", type=dict[str, Any]
        )
        return int(data.get("attempt", 0))
    except (msgspec.MsgspecError, ValueError, TypeError):
        return 0


def as_error(failed: StepCheckpoint) -> StepFailedError:
    return StepFailedError(
        f"{failed.step_name!r} (index {failed.step_index}): {failed.error_message}",
        workflow_execution_id=failed.workflow_execution_id,
        step_name=failed.step_name,
        step_index=failed.step_index,
        branch=failed.branch,
        attempt=attempts_of(failed),
        error_type=failed.error_type,
        error_message=failed.error_message,
    )
