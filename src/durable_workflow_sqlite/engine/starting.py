"""New executions: their records, and what becomes of a start that finds its id taken."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.history import History
from durable_workflow_sqlite.engine.opened import Opened
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, check_workflow
from durable_workflow_sqlite.errors import ExecutionConflictError
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    WorkflowExecution,
    WorkflowGuarantee,
    check_identifier,
)


async def start(
    opened: Opened, workflow: AnyWorkflow, record: WorkflowExecution, tags: Mapping[str, str]
) -> None:
    """Store a new execution and run it here; or attach to the one that is there already."""
    try:
        claim = await opened.store.create_execution(workflow.record, record, tags)
    except asyncio.CancelledError:
        opened.intake.take_back(record)
        raise
    if opened.is_closed:
        await opened.let_go([] if claim is None else [claim])
        opened.check_open()
    if claim is not None:
        opened.launch(workflow, record, claim, History())
        return
    found = await _attach(opened, workflow, record)
    if not found.status.is_terminal and found.workflow_execution_id not in opened.executions:
        await opened.intake.resume(found)


async def enqueue(
    opened: Opened, workflow: AnyWorkflow, record: WorkflowExecution, tags: Mapping[str, str]
) -> None:
    """Store a new execution for whoever has room; or attach to the one that is there already."""
    if await opened.store.enqueue_execution(workflow.record, record, tags):
        opened.intake.look()
    else:
        await _attach(opened, workflow, record)


async def _attach(
    opened: Opened, workflow: AnyWorkflow, wanted: WorkflowExecution
) -> WorkflowExecution:
    """Make sure that an execution that is there already is the one meant."""
    found = await opened.load(wanted.workflow_execution_id)
    definition = await opened.store.load_workflow(found.workflow_id)
    found_type = None if definition is None else definition.workflow_type
    if found_type != workflow.name:
        raise ExecutionConflictError(
            f"execution {found.workflow_execution_id!r} is of workflow {found_type!r},"
            f" not {workflow.name!r}; nothing was started. Give another execution_id",
            workflow_execution_id=found.workflow_execution_id,
        )
    if not serialization.is_same_json(found.input_data, wanted.input_data):
        raise ExecutionConflictError(
            f"execution {found.workflow_execution_id!r} was started with other input;"
            " nothing was started. Give the same arguments to attach to it, or another"
            " execution_id",
            workflow_execution_id=found.workflow_execution_id,
        )
    return found


def new_record(
    workflow: AnyWorkflow,
    args: tuple[Any, ...],
    execution_id: str | None,
    now: datetime,
    *,
    status: ExecutionStatus,
    ttl_expires_at: datetime | None,
    guarantee: WorkflowGuarantee,
    priority: int = 0,
    available_at: datetime | None = None,
    started_at: datetime | None = None,
) -> WorkflowExecution:
    """A new execution; raises for arguments that would not come back as they are."""
    check_workflow(workflow)
    if execution_id is None:
        execution_id = str(uuid.uuid4())
    check_identifier("execution_id", execution_id)
    return WorkflowExecution(
        workflow_execution_id=execution_id,
        workflow_id=workflow.record.workflow_id,
        status=status,
        input_data=workflow.encode_input(args),
        ttl_expires_at=ttl_expires_at,
        guarantee=guarantee,
        priority=priority,
        available_at=available_at,
        started_at=started_at,
        created_at=now,
        updated_at=now,
    )


def after(
    what: str, duration: timedelta, now: datetime, minimum: timedelta = timedelta(microseconds=1)
) -> datetime:
    """That long from now. Raises, in the name of `what`, for what is no such duration."""
    if not isinstance(duration, timedelta):
        raise TypeError(f"{what} must be a timedelta, as timedelta(hours=1), not {duration!r}")
    if duration < minimum:
        raise ValueError(
            f"{what} must not be {'zero or less' if minimum else 'negative'}: {duration}"
        )
    return later(now, duration)
