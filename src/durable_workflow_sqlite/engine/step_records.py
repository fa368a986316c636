"""What the record of an outcome tells of a step: the value that it returned, or its error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_workflow_sqlite.errors import (
    ErrorClassNotFoundError,
    SerializationError,
    StepFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_workflow_sqlite.engine.error_codec import ErrorCodec
    from durable_workflow_sqlite.engine.operations import StepCall
    from durable_workflow_sqlite.records import StepCheckpoint


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
