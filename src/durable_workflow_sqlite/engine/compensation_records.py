"""What the records of steps and of their compensations tell the saga."""

from __future__ import annotations

from datetime import datetime

from durable_workflow_sqlite.engine.step_info import tries_of
from durable_workflow_sqlite.errors import StepFailedError
from durable_workflow_sqlite.records import StepCheckpoint


def completed_at(checkpoint: StepCheckpoint) -> datetime:
    at = checkpoint.completed_at or checkpoint.started_at
    assert at is not None
    return at


def as_error(failed: StepCheckpoint) -> StepFailedError:
    return StepFailedError(
        f"{failed.step_name!r} (index {failed.step_index}): {failed.error_message}",
        workflow_execution_id=failed.workflow_execution_id,
        step_name=failed.step_name,
        step_index=failed.step_index,
        branch=failed.branch,
        attempt=tries_of(failed),
        error_type=failed.error_type,
        error_message=failed.error_message,
    )
