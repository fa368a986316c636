"""How an execution ended, as a value or an error for the caller."""

from __future__ import annotations

from typing import Any, Final

from durable_workflow_sqlite.engine import deleted_rows, serialization
from durable_workflow_sqlite.engine.failures import error_type, in_words
from durable_workflow_sqlite.engine.outcome import Outcome
from durable_workflow_sqlite.errors import (
    DurableWorkflowError,
    ErrorClassNotFoundError,
    ExecutionBlockedError,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    NonDeterminismError,
    NonDeterministicCallError,
    SerializationError,
    StepNotAwaitedError,
    StoreCorruptError,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowExpiredError,
    WorkflowFailedError,
    WorkflowStuckError,
)
from durable_workflow_sqlite.records import ExecutionStatus, WorkflowExecution

_EXPIRED_TYPE: Final = f"{WorkflowExpiredError.__module__}:{WorkflowExpiredError.__qualname__}"


def result(outcome: Outcome, result_type: Any) -> Any:
    """What the workflow returned. Raises the error that says how else it ended, or was left."""
    if outcome.trouble is not None:
        raise outcome.trouble
    record = outcome.record
    execution_id = record.workflow_execution_id
    if record.status is ExecutionStatus.COMPLETED:
        what = f"the result of execution {execution_id!r}"
        return serialization.from_json(record.output_data, result_type, what)
    why = in_words(record.error_type, record.error_message)
    message = f"execution {execution_id!r} ended {record.status}: {why}"
    error: WorkflowCancelledError | WorkflowFailedError
    if record.status is ExecutionStatus.CANCELLED:
        error = WorkflowCancelledError(message, workflow_execution_id=execution_id)
    else:
        kind = WorkflowExpiredError if record.error_type == _EXPIRED_TYPE else WorkflowFailedError
        error = kind(
            message,
            workflow_execution_id=execution_id,
            error_type=record.error_type,
            error_message=record.error_message,
        )
    error.compensation_error = outcome.compensation_error
    if outcome.compensation_error is not None:
        error.add_note(str(outcome.compensation_error))
    cause = outcome.error
    if cause is None or error_type(cause) == error_type(error):
        raise error
    raise error from cause


def blocked(state: WorkflowExecution) -> ExecutionBlockedError:
    execution_id = state.workflow_execution_id
    is_deleted = deleted_rows.are_why(state)
    what = "Restore them, or a backup" if is_deleted else "Find out why and correct that"
    return ExecutionBlockedError(
        f"execution {execution_id!r} is blocked: {state.blocked_reason}. No worker claims it."
        f" {what}, then call engine.unblock(id)",
        workflow_execution_id=execution_id,
        reason=state.blocked_reason,
    )


_WHY_LEFT: Final[dict[str, type[DurableWorkflowError]]] = {
    kind.__qualname__: kind
    for kind in (
        ErrorClassNotFoundError,
        NonDeterminismError,
        NonDeterministicCallError,
        SerializationError,
        StepNotAwaitedError,
        StoreCorruptError,
        WorkflowStuckError,
    )
}


def left_as_it_is(state: WorkflowExecution) -> DurableWorkflowError:
    """The error because of which a worker, maybe in another process, left an execution."""
    trouble = state.trouble or ""
    name, _, text = trouble.partition(": ")
    kind = _WHY_LEFT.get(name, WorkflowCodeError)
    if name != kind.__qualname__ or not text:
        text = trouble
    return kind(text, workflow_execution_id=state.workflow_execution_id)


def not_found(execution_id: str) -> ExecutionNotFoundError:
    return ExecutionNotFoundError(
        f"no execution has the id {execution_id!r}: it was not started in this store, or it was"
        " deleted",
        workflow_execution_id=execution_id,
    )


def finished(state: WorkflowExecution, consequence: str) -> ExecutionFinishedError:
    execution_id, status = state.workflow_execution_id, state.status
    return ExecutionFinishedError(
        f"execution {execution_id!r} is finished ({status}); {consequence}",
        workflow_execution_id=execution_id,
        status=status,
    )
