"""What the executions of an engine share."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from datetime import timedelta

import msgspec

from durable_workflow_sqlite.engine.clock import Clock, Scheduler
from durable_workflow_sqlite.engine.error_codec import ErrorCodec
from durable_workflow_sqlite.engine.failures import ErrorFormatter
from durable_workflow_sqlite.engine.observer import Observers
from durable_workflow_sqlite.engine.parking import Parking
from durable_workflow_sqlite.engine.step_limits import StepLimits
from durable_workflow_sqlite.engine.streams import Streams
from durable_workflow_sqlite.engine.threads import Threads
from durable_workflow_sqlite.engine.watchdog import Watchdog
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import ExecutionStatus, WorkflowExecution


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
    threads: Threads
    """What sync functions run in."""
    status_changed: Callable[[WorkflowExecution, ExecutionStatus], None]
    look: Callable[[], None]
    """Told when there may be something to claim: a child was started, or a signal sent."""
    context: Context | None
    """The context variables that workflow functions see, if not those of their definition."""
    cancel_grace: timedelta
    """For how long async actions may go on when their execution ends without them."""
    watchdog: Watchdog
    parking: Parking
    max_payload_bytes: int
    """How large a value may be, as JSON."""
    streams: Streams
    """What actions tell while they run."""
    step_limits: StepLimits
    """Which step begins next under a limit."""
