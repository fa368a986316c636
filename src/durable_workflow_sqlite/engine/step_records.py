"""The record of an outcome: the value that a step returned, its error, or that it was cut off."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from durable_workflow_sqlite.engine.history import has_timed_out
from durable_workflow_sqlite.engine.observer import log_attributes
from durable_workflow_sqlite.engine.step_marks import unmarked
from durable_workflow_sqlite.errors import (
    ErrorClassNotFoundError,
    SerializationError,
    StepFailedError,
)
from durable_workflow_sqlite.records import CUT_OFF, StepCheckpoint, StepStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from durable_workflow_sqlite.engine.error_codec import ErrorCodec
    from durable_workflow_sqlite.engine.operations import StepCall
    from durable_workflow_sqlite.engine.run import Run

_log = logging.getLogger("durable_workflow_sqlite.engine")


def read_value(execution_id: str, call: StepCall, completed: StepCheckpoint) -> None:
    """Read what a step has returned, as it is recorded. Raises SerializationError."""
    try:
        call.value = call.decode(completed.output_data)
    except SerializationError as error:
        # The record is right and the code has changed: nothing of it is its fault.
        raise SerializationError(
            f"{error}. Give the function its old return type, or say with `resolve` what"
            " the step returned",
            workflow_execution_id=execution_id,
            step_name=call.name,
            branch=call.place[0],
            step_index=call.place[1],
        ) from error.__cause__


def error_of(
    execution_id: str,
    call: StepCall,
    failed: StepCheckpoint,
    codec: ErrorCodec,
    modules: Sequence[str] = (),
) -> Exception:
    """The error that a step failed with for good, as its record tells it.

    modules: where to look for a class that was defined in a program that ran then.
    Raises ErrorClassNotFoundError for one that was found by name then, and is not now.
    """
    ids: dict[str, Any] = {
        "workflow_execution_id": execution_id,
        "step_name": call.name,
        "step_index": call.place[1],
        "branch": call.place[0],
    }
    modules = (*modules, getattr(call.action, "__module__", None) or "")
    try:
        error = codec.rebuild(failed.error_type, failed.error_message, failed.output_data, modules)
    except ErrorClassNotFoundError as missing:
        for name, value in ids.items():
            setattr(missing, name, value)
        raise
    return error or StepFailedError(
        f"{call.describe()} of execution {execution_id!r} failed at attempt {failed.attempt}:"
        f" {failed.error_type}: {failed.error_message}",
        **ids,
        attempt=failed.attempt,
        error_type=failed.error_type,
        error_message=failed.error_message,
    )


def warn_of_cut_off(run: Run, attempt: StepCheckpoint) -> None:
    _log.warning(
        "step %r of execution %r was cut off at attempt %d and may have taken effect",
        attempt.step_name,
        run.id,
        attempt.attempt,
        extra=log_attributes(attempt),
    )


def cut_off(intent: StepCheckpoint, at: datetime, *, has_begun: bool) -> StepCheckpoint:
    """The record of an attempt that was cancelled before it had an outcome."""
    message = "it was cut off and may have taken effect" if has_begun else "it never began"
    return msgspec.structs.replace(
        intent,
        status=StepStatus.FAILED,
        error_type=CUT_OFF,
        error_message=message,
        started_at=intent.started_at if has_begun else None,
        completed_at=at,
        due_at=None,
        input_data=unmarked(intent.input_data),
    )


def no_next_attempt(failed: StepCheckpoint, at: datetime) -> StepCheckpoint:
    """The record of the attempt after a failed one, where there is to be none.

    If the failed one timed out, it may have taken effect, and so the step may have.
    """
    attempt = msgspec.structs.replace(failed, attempt=failed.attempt + 1, due_at=None)
    return cut_off(attempt, at, has_begun=has_timed_out(failed))
