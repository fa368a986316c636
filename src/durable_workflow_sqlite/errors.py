"""The errors of the library, one tree:

DurableWorkflowError
├── WorkflowFailedError        an execution ended FAILED
│   └── WorkflowExpiredError   ... because its time to live ran out
├── WorkflowCancelledError     an execution ended CANCELLED
├── StepFailedError            a step ran out of attempts, and its own error cannot be restored
├── StepTimeoutError           an attempt of a step took longer than its timeout
├── StepAmbiguousError         a step may or may not have run
├── TransactionTimeoutError    a function in a transaction of the store took too long
├── TransactionMisuseError     a function in a transaction of the store did what it may not do
├── SignalTimeoutError         no signal came before the deadline
│   └── QuestionOverdueError   ... and nobody answered the question of `ctx.ask`
├── QuestionNotFoundError      the execution asks no such question now
├── QuestionAnsweredError      somebody has answered the question already
├── CompensationError          compensations that failed
├── ChildFailedError           a child of a workflow ended FAILED, or was deleted
├── ChildCancelledError        a child of a workflow ended CANCELLED
├── SerializationError         a value that JSON cannot hold, or JSON of another type
│   └── PayloadTooLargeError   a value that is larger than the limit of the store
├── NonDeterminismError        a replay that does not match its history
├── StepNotAwaitedError        a workflow called a step, and never awaited it
├── NonDeterministicCallError  a workflow function made a call that a replay cannot repeat
├── WorkflowCodeError          a workflow function has a mistake in its code, such as a TypeError
├── WorkflowStuckError         a workflow function waits for something that cannot come
├── ErrorClassNotFoundError    the class of a recorded error cannot be found any more
├── ExecutionNotFoundError     no execution has this id
├── ExecutionConflictError     this id belongs to another workflow or input, or a worker has it
├── ExecutionFinishedError     the execution is over: it takes no signal and no cancel
├── DuplicateExecutionError    an unfinished execution of the queue has this `dedup_id`
├── QueueNotFoundError         no queue of this name is declared
├── LimitNotFoundError         no limit for steps of this name is declared
├── LimitFullError             no slot of a limit for steps is free
├── ScheduleNotFoundError      no schedule has this name
├── ExecutionBlockedError      an execution killed its workers too often; no worker claims it
├── ClaimLostError             another worker took the execution over
├── EngineStoppedError         the engine stopped before the execution finished
└── StoreError                 a problem of the database
    ├── StoreBusyError         locked by someone else for longer than the busy timeout
    ├── StoreFullError         no room on the disk, or in the database
    ├── StoreReadOnlyError     this process may not write the file or its folder
    ├── StoreGoneError         the file was deleted, moved or replaced while it was open
    ├── StoreCorruptError      not a database, a damaged one, or a row that cannot be read
    │   └── PayloadDecodeError     an encoded value that the codec cannot decode
    │       └── PayloadKeyError    ... because its key is not there, or no codec is
    ├── KeyFileError           a file of keys that cannot be read or used
    ├── SchemaTooNewError      written by a newer version of this library
    └── MigrationError         a migration that could not be applied

Bad arguments are `ValueError` or `TypeError`, raised at the call, before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar


class DurableWorkflowError(Exception):
    """Base of every error that this library raises on purpose.

    The ids of the execution and the step are attributes; an id that does not apply is None.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        step_name: str | None = None,
        step_index: int | None = None,
        branch: str | None = None,
    ) -> None:
        super().__init__(message)
        self.workflow_execution_id = workflow_execution_id
        self.step_name = step_name
        self.step_index = step_index
        self.branch = branch


class WorkflowFailedError(DurableWorkflowError):
    """An execution ended FAILED. `error_type` is `module:name` of the error that ended it.

    `compensation_error` says what could not be undone; None if everything was.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        error_type: str | None = None,
        error_message: str | None = None,
    ) -> None:
        super().__init__(message, workflow_execution_id=workflow_execution_id)
        self.error_type = error_type
        self.error_message = error_message
        self.compensation_error: CompensationError | None = None


class WorkflowExpiredError(WorkflowFailedError):
    """An execution's time to live ran out before it finished."""


class WorkflowCancelledError(DurableWorkflowError):
    """An execution was cancelled; `compensation_error` says what could not be undone."""

    compensation_error: CompensationError | None = None


class StepFailedError(DurableWorkflowError):
    """A step ran out of attempts, with an error whose class cannot be found by its name.

    Or its class is not a subclass of Exception.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        step_name: str | None = None,
        step_index: int | None = None,
        branch: str | None = None,
        attempt: int | None = None,
        error_type: str | None = None,
        error_message: str | None = None,
    ) -> None:
        super().__init__(
            message,
            workflow_execution_id=workflow_execution_id,
            step_name=step_name,
            step_index=step_index,
            branch=branch,
        )
        self.attempt = attempt
        self.error_type = error_type
        self.error_message = error_message


class StepTimeoutError(DurableWorkflowError, TimeoutError):
    """An attempt of a step took longer than its timeout, and may have taken effect.

    Retried like any failure. If it was the last attempt, the step is in doubt.
    """


class TransactionTimeoutError(DurableWorkflowError, TimeoutError):
    """A function in a transaction of the store took longer than its timeout.

    All that it did was rolled back: it has not taken effect.
    """


class TransactionMisuseError(DurableWorkflowError):
    """A function in a transaction of the store did what only the library may do, such as commit.

    All that it did was rolled back. The same goes for a connection that is not in the state which
    `enqueue` and `send_signal` need.
    """


class StepAmbiguousError(DurableWorkflowError):
    """A step was cut off or timed out, and may have taken effect; it is not run again.

    `ctx.step` raises it with `in_doubt="fail"`. It also does if a person has answered so, or if the
    probe has failed: then `__cause__` is the error of the probe, until the first replay.
    """


class SignalTimeoutError(DurableWorkflowError, TimeoutError):
    """No signal of that name came before the deadline of the wait."""

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        step_name: str | None = None,
        step_index: int | None = None,
        branch: str | None = None,
        signal_name: str | None = None,
        deadline: datetime | None = None,
    ) -> None:
        super().__init__(
            message,
            workflow_execution_id=workflow_execution_id,
            step_name=step_name,
            step_index=step_index,
            branch=branch,
        )
        self.signal_name = signal_name
        self.deadline = deadline


class QuestionOverdueError(SignalTimeoutError):
    """Nobody answered a question by its deadline: `ctx.ask` raises it.

    `question` is the name of the question, and `to` whom it was for; None for nobody in particular.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        step_name: str | None = None,
        step_index: int | None = None,
        branch: str | None = None,
        signal_name: str | None = None,
        deadline: datetime | None = None,
        question: str | None = None,
        to: str | None = None,
    ) -> None:
        super().__init__(
            message,
            workflow_execution_id=workflow_execution_id,
            step_name=step_name,
            step_index=step_index,
            branch=branch,
            signal_name=signal_name,
            deadline=deadline,
        )
        self.question = question
        self.to = to


class QuestionNotFoundError(DurableWorkflowError):
    """The execution asks no such question now, or several of that name."""


class QuestionAnsweredError(DurableWorkflowError):
    """Somebody has answered the question already; the answer was not stored.

    `answered_by` says who it was, and `answered_at` when; None where an answer was written by SQL.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        answered_by: str | None = None,
        answered_at: datetime | None = None,
    ) -> None:
        super().__init__(message, workflow_execution_id=workflow_execution_id)
        self.answered_by = answered_by
        self.answered_at = answered_at


class ChildFailedError(DurableWorkflowError):
    """A child ended FAILED, or was deleted before its end: `ctx.child` and its handle raise it.

    `child_execution_id` is its id. `error_type` is `module:name` of the error that ended it, and
    `error_message` what that error said; both are None for a child that was deleted.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        child_execution_id: str | None = None,
        error_type: str | None = None,
        error_message: str | None = None,
    ) -> None:
        super().__init__(message, workflow_execution_id=workflow_execution_id)
        self.child_execution_id = child_execution_id
        self.error_type = error_type
        self.error_message = error_message


class ChildCancelledError(DurableWorkflowError):
    """A child ended CANCELLED; its parent is not cancelled by that.

    `child_execution_id` is the id of the child.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        child_execution_id: str | None = None,
    ) -> None:
        super().__init__(message, workflow_execution_id=workflow_execution_id)
        self.child_execution_id = child_execution_id


class CompensationError(DurableWorkflowError):
    """Compensations failed; `failures` has their errors."""

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        failures: Sequence[StepFailedError] = (),
    ) -> None:
        super().__init__(message, workflow_execution_id=workflow_execution_id)
        self.failures = tuple(failures)


class SerializationError(DurableWorkflowError):
    """A value cannot be written as JSON, or stored JSON does not have the expected type."""


class PayloadTooLargeError(SerializationError):
    """A value is larger than `max_payload_bytes` of the store: an input, a result, a payload.

    `size` is its size as JSON in UTF-8, in bytes, before a codec encodes it; `limit` is the limit.
    An input or a payload is refused at the call, and nothing is written. A step fails with this
    error at once, without another attempt. If a workflow function returns such a value, its
    execution is left as it is, until the code or the limit has changed.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        step_name: str | None = None,
        step_index: int | None = None,
        branch: str | None = None,
        size: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(
            message,
            workflow_execution_id=workflow_execution_id,
            step_name=step_name,
            step_index=step_index,
            branch=branch,
        )
        self.size = size
        self.limit = limit


class NonDeterminismError(DurableWorkflowError):
    """A replay asked for a step that is not the step recorded at that place.

    The execution is left as it is; it can be resumed with code that matches its history.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        step_index: int | None = None,
        branch: str | None = None,
        recorded_name: str | None = None,
        current_name: str | None = None,
    ) -> None:
        super().__init__(
            message,
            workflow_execution_id=workflow_execution_id,
            step_name=current_name,
            step_index=step_index,
            branch=branch,
        )
        self.recorded_name = recorded_name
        self.current_name = current_name


class StepNotAwaitedError(DurableWorkflowError):
    """A workflow function called a step, a sleep or a wait, and returned without awaiting it.

    The execution is left as it is. It continues with code that has the `await`. Write the `await`
    after all recorded steps that were asked for after the call.
    """


class NonDeterministicCallError(DurableWorkflowError):
    """A workflow function made a call that a replay cannot repeat: a socket, a thread, the engine.

    The error is raised at the call. If the workflow function does not catch it, the execution is
    left as it is. It continues with code that makes the call in a step. `call` names the call.
    """

    def __init__(
        self, message: str, *, call: str | None = None, workflow_execution_id: str | None = None
    ) -> None:
        super().__init__(message, workflow_execution_id=workflow_execution_id)
        self.call = call


class WorkflowCodeError(DurableWorkflowError):
    """A workflow function raised an error that shows a mistake in its code, such as a TypeError.

    The function itself raised it, not a step. The execution is left as it is: nothing is undone. It
    continues with fixed code. `error_type` is the `module:name` of the error, which is the
    `__cause__` of this one. Both are None if the function ran in another engine.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        error_type: str | None = None,
    ) -> None:
        super().__init__(message, workflow_execution_id=workflow_execution_id)
        self.error_type = error_type


class WorkflowStuckError(DurableWorkflowError):
    """A workflow function waits, and no step, sleep, signal or timer is open that could wake it.

    The function waits for itself, or for something outside of the workflow. The execution is left
    as it is.
    """


class ErrorClassNotFoundError(DurableWorkflowError):
    """A step failed with an error whose class cannot be found now: renamed, moved or deleted.

    The execution is left as it is. It continues when the class is back. `error_type` is the
    `module:name` that the class had.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        step_name: str | None = None,
        step_index: int | None = None,
        branch: str | None = None,
        error_type: str | None = None,
    ) -> None:
        super().__init__(
            message,
            workflow_execution_id=workflow_execution_id,
            step_name=step_name,
            step_index=step_index,
            branch=branch,
        )
        self.error_type = error_type


class ExecutionNotFoundError(DurableWorkflowError):
    """No execution has this id."""


class ExecutionConflictError(DurableWorkflowError):
    """What was asked for does not fit an execution as it is; nothing was written.

    For example, its id belongs to another workflow or input, or a worker has it.
    """


class ExecutionFinishedError(DurableWorkflowError):
    """The execution is COMPLETED, FAILED or CANCELLED: it takes no signal and no cancel any more.

    `status` is the final status. The execution stays as it is.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        status: str | None = None,
    ) -> None:
        super().__init__(message, workflow_execution_id=workflow_execution_id)
        self.status = status


class DuplicateExecutionError(ExecutionConflictError):
    """An unfinished execution has this `dedup_id`: `workflow_execution_id`. Nothing was started."""


class LimitNotFoundError(DurableWorkflowError):
    """No limit for steps of this name is declared: see `Client.declare`."""


class LimitFullError(DurableWorkflowError):
    """No slot of a limit for steps is free: the step cannot begin yet. Nothing was written."""


class QueueNotFoundError(DurableWorkflowError):
    """No queue of this name is declared: see `Client.declare`. Nothing was started."""


class ScheduleNotFoundError(DurableWorkflowError):
    """No schedule has this name."""


class ExecutionBlockedError(DurableWorkflowError):
    """An execution is blocked: no worker claims it until a person calls `engine.unblock`.

    Its workers died too often in a row, or somebody deleted rows of its steps by hand. `reason` is
    the `blocked_reason` of the execution.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_execution_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, workflow_execution_id=workflow_execution_id)
        self.reason = reason


class ClaimLostError(DurableWorkflowError):
    """Another worker has taken the execution over; nothing was written."""


class EngineStoppedError(DurableWorkflowError):
    """The engine stopped before the execution finished; the execution can be resumed."""


class StoreError(DurableWorkflowError):
    """The database refused or failed; nothing was written.

    `may_pass` is True if the problem may end by itself: a lock is released, or a disk has room
    again. The engine then continues. If it is False, a person must act.
    """

    may_pass: ClassVar[bool] = True


class StoreBusyError(StoreError):
    """Another connection held the lock for longer than the busy timeout; try again."""


class StoreFullError(StoreError):
    """The disk has no room, or the database may not grow; make room and try again."""


class StoreReadOnlyError(StoreError):
    """This process may not write the file or its folder."""


class StoreGoneError(StoreError):
    """The file or its log was deleted, moved, replaced or restored while it was open.

    Data written to such a file is lost or does not fit, so the store writes nothing. Put the file
    back, or open the new file as a new store.
    """

    may_pass = False


class StoreMovedError(StoreGoneError):
    """`durable-workflow move` has moved all that the database holds to another one, or is at it.

    Open the other database: the message names it.
    """


class StoreCorruptError(StoreError):
    """The file is not a database, is damaged, or has a row that cannot be read."""

    may_pass = False


class PayloadDecodeError(StoreCorruptError):
    """A recorded value is encoded, and the codec of the store could not decode it.

    It was changed, copied from another place, or encoded with another key of the same name. The
    execution is left as it is. It continues when the value, or the right codec, is back.
    """


class PayloadKeyError(PayloadDecodeError):
    """The key that has encoded a recorded value is not there, or the store has no codec at all."""


class KeyFileError(StoreError):
    """The file of keys cannot be read or used: the message says why. Nothing was opened."""

    may_pass = False


class SchemaTooNewError(StoreError):
    """The file was written by a newer version of this library."""

    may_pass = False

    def __init__(self, message: str, *, found: int, supported: int) -> None:
        super().__init__(message)
        self.found = found
        self.supported = supported


class MigrationError(StoreError):
    """A migration could not be applied; the file is as it was."""

    may_pass = False

    def __init__(self, message: str, *, version: int | None = None) -> None:
        super().__init__(message)
        self.version = version
