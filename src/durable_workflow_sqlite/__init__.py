"""Durable workflows in one SQLite file, with every SQL statement in a plain `.sql` file."""

from durable_workflow_sqlite.engine.clock import Clock, SystemClock
from durable_workflow_sqlite.engine.context import WorkflowContext
from durable_workflow_sqlite.engine.engine import DurableEngine
from durable_workflow_sqlite.engine.handle import ExecutionHandle
from durable_workflow_sqlite.engine.observer import DurableEngineObserver
from durable_workflow_sqlite.engine.recovery import RecoveryResult
from durable_workflow_sqlite.engine.retry import RetryPolicy
from durable_workflow_sqlite.engine.workflow import WorkflowDefinition, workflow
from durable_workflow_sqlite.errors import (
    ClaimLostError,
    CompensationError,
    DurableWorkflowError,
    EngineStoppedError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    MigrationError,
    NonDeterminismError,
    SchemaTooNewError,
    SerializationError,
    SignalTimeoutError,
    StepAmbiguousError,
    StepFailedError,
    StepTimeoutError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    WorkflowCancelledError,
    WorkflowExpiredError,
    WorkflowFailedError,
)
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    Record,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TimerStatus,
    UnclaimedExecution,
    Workflow,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowGuarantee,
    WorkflowSignal,
    WorkflowTimer,
)
from durable_workflow_sqlite.store.migrations import SCHEMA_VERSION, migrate, validate_schema
from durable_workflow_sqlite.store.sqlite import SqliteCheckpointStore

__all__ = [
    "SCHEMA_VERSION",
    "CheckpointStore",
    "ClaimLostError",
    "Clock",
    "CompensationError",
    "DurableEngine",
    "DurableEngineObserver",
    "DurableWorkflowError",
    "EngineStoppedError",
    "ExecutionConflictError",
    "ExecutionHandle",
    "ExecutionNotFoundError",
    "ExecutionStatus",
    "MigrationError",
    "NonDeterminismError",
    "Record",
    "RecoveryResult",
    "RetryPolicy",
    "SchemaTooNewError",
    "SerializationError",
    "SignalStatus",
    "SignalTimeoutError",
    "SqliteCheckpointStore",
    "StepAmbiguousError",
    "StepCheckpoint",
    "StepFailedError",
    "StepKind",
    "StepStatus",
    "StepTimeoutError",
    "StoreBusyError",
    "StoreCorruptError",
    "StoreError",
    "SystemClock",
    "TimerStatus",
    "UnclaimedExecution",
    "Workflow",
    "WorkflowCancelledError",
    "WorkflowClaim",
    "WorkflowContext",
    "WorkflowDefinition",
    "WorkflowExecution",
    "WorkflowExpiredError",
    "WorkflowFailedError",
    "WorkflowGuarantee",
    "WorkflowSignal",
    "WorkflowTimer",
    "migrate",
    "validate_schema",
    "workflow",
]
