"""What the executions of an engine share, and how one of them leaves a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context
from datetime import timedelta

import msgspec

from durable_workflow_sqlite.engine.clock import Clock, Scheduler
from durable_workflow_sqlite.engine.error_codec import ErrorCodec
from durable_workflow_sqlite.engine.failures import ErrorFormatter
from durable_workflow_sqlite.engine.observer import Observers
from durable_workflow_sqlite.engine.parking import Parking
from durable_workflow_sqlite.engine.watchdog import Watchdog
from durable_workflow_sqlite.errors import (
    CompensationError,
    WorkflowCancelledError,
    WorkflowExpiredError,
)
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import ExecutionStatus, WorkflowExecution

NewTask = Callable[..., asyncio.Task[None]]
"""What `asyncio.Task` is: it takes a coroutine, and `loop`, `context` and `name`."""

Interruption = WorkflowCancelledError | WorkflowExpiredError


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What the executions of an engine share."""

    store: CheckpointStore
    clock: Clock
    scheduler: Scheduler
    observers: Observers
    is_observed: bool
    """Whether there is an observer; asked before what it is told costs anything."""
    format_error: ErrorFormatter
    error_codec: ErrorCodec
    """Takes errors of steps apart for the record, and makes them again."""
    executor: Executor
    status_changed: Callable[[WorkflowExecution, ExecutionStatus], None]
    context: Context | None
    """The context variables that workflow functions see, if not those of their definition."""
    cancel_grace: timedelta
    """For how long async actions may go on when their execution ends without them."""
    watchdog: Watchdog
    parking: Parking
    new_task: NewTask
    """Makes the tasks of executions; by no factory of the program's, which may be an eager one."""


class Outcome(msgspec.Struct, frozen=True):
    """How an execution left this worker: `record` is final, unless `trouble` says why it is not.

    is_parked: it only waits, and is out of memory until its time or signal comes.
    """

    record: WorkflowExecution
    trouble: BaseException | None = None
    error: BaseException | None = None
    compensation_error: CompensationError | None = None
    is_parked: bool = False


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
