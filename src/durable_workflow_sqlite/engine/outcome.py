"""How an execution leaves this worker, and what may interrupt it before."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from durable_workflow_sqlite.errors import (
    CompensationError,
    EngineStoppedError,
    WorkflowCancelledError,
    WorkflowExpiredError,
)
from durable_workflow_sqlite.records import WorkflowExecution

Interruption = WorkflowCancelledError | WorkflowExpiredError


class Cancellation(StrEnum):
    """The result of `cancel`; it is false only for REFUSED.

    ASKED: a worker will undo the execution and end it. ENDED: it is already CANCELLED: it had not
    begun, or it had nothing to undo and no worker was needed. REFUSED: nothing was done, because
    it fails, or somebody has already asked.
    """

    ASKED = "asked"
    ENDED = "ended"
    REFUSED = ""

    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class SignalResult(StrEnum):
    """What became of a signal that was sent; it is false only for DUPLICATE.

    SENT: it is stored, until a wait takes it. STARTED: `signal_or_start` started the execution, and
    the signal is stored with it. DUPLICATE: the execution has a signal with this key already;
    nothing was written.
    """

    SENT = "sent"
    STARTED = "started"
    DUPLICATE = ""

    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class PausedError(EngineStoppedError):
    """A person has paused an execution: its worker leaves it. No caller gets this."""


class Outcome(msgspec.Struct, frozen=True):
    """How an execution left this worker: `record` is final, unless `trouble` says why it is not.

    is_parked: it is out of memory until its time or signal comes, or until somebody resumes it.
    continues: it continues as new, and `record` is what it begins again with.
    """

    record: WorkflowExecution
    trouble: BaseException | None = None
    error: BaseException | None = None
    compensation_error: CompensationError | None = None
    is_parked: bool = False
    continues: bool = False


def expired(record: WorkflowExecution) -> WorkflowExpiredError:
    return WorkflowExpiredError(
        f"execution {record.workflow_execution_id!r} did not finish by {record.ttl_expires_at}",
        workflow_execution_id=record.workflow_execution_id,
    )


def cancelled(workflow_execution_id: str) -> WorkflowCancelledError:
    return WorkflowCancelledError(
        f"execution {workflow_execution_id!r} was cancelled",
        workflow_execution_id=workflow_execution_id,
    )
