"""New executions: their records, and what becomes of a start that finds its id taken."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.new_signals import NewSignal, records_of
from durable_workflow_sqlite.engine.open_engine import OpenEngine
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, check_workflow
from durable_workflow_sqlite.errors import DuplicateExecutionError, ExecutionConflictError
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import (
    MAX_INTEGER,
    ExecutionStatus,
    Workflow,
    WorkflowExecution,
    WorkflowGuarantee,
    WorkflowSignal,
    check_identifier,
    check_integer,
    check_queue_key,
)


async def start(
    open_engine: OpenEngine,
    workflow: AnyWorkflow,
    record: WorkflowExecution,
    tags: Mapping[str, str],
    signals: Iterable[NewSignal],
) -> None:
    """Store a new execution and run it here; or attach to the one that is there already."""
    sent = _checked(open_engine.store, record, signals)
    try:
        claim = await open_engine.store.create_execution(workflow.record, record, tags, *sent)
    except asyncio.CancelledError:
        open_engine.dispatcher.release_created(record)
        raise
    if open_engine.is_closed:
        await open_engine.release([] if claim is None else [claim])
        open_engine.check_open()
    if claim is not None:
        open_engine.launch(workflow, record, claim, RecordedHistory())
        return
    found = await _attach(open_engine, workflow.name, record)
    if not found.status.is_terminal and found.workflow_execution_id not in open_engine.executions:
        await open_engine.resume(found)


async def enqueue(
    access: Access,
    workflow: Workflow,
    record: WorkflowExecution,
    tags: Mapping[str, str],
    signals: Iterable[NewSignal],
    timing: Timing,
) -> str:
    """Store a new execution for any worker that has room; or attach to one that is there.

    Returns the id of the one that there is then.
    """
    sent = _checked(access.store, record, signals)
    try:
        if record.debounced:
            return await access.store.debounce_execution(workflow, record, tags, *sent)
        is_new = await access.store.enqueue_execution(workflow, record, tags, *sent)
    except DuplicateExecutionError as error:
        if timing.dedup.on_duplicate == "reject" or error.workflow_execution_id is None:
            raise
        found = await access.load(error.workflow_execution_id)
        await check_type(access, found, workflow.workflow_type)
        return error.workflow_execution_id
    finally:
        access.look()
    if not is_new:
        await _attach(access, workflow.workflow_type, record)
    return record.workflow_execution_id


def _checked(
    store: CheckpointStore, record: WorkflowExecution, signals: Iterable[NewSignal]
) -> list[WorkflowSignal]:
    """The signals to send with a new execution. Raises for what is too large, or cannot be sent."""
    execution_id, limit = record.workflow_execution_id, store.max_payload_bytes
    check_size(record.input_data, limit, f"the input of execution {execution_id!r}")
    return records_of(execution_id, signals, record.created_at, limit)


async def _attach(
    access: Access, workflow_type: str, wanted: WorkflowExecution
) -> WorkflowExecution:
    """Make sure that an execution that is there already is the one meant."""
    found = await access.load(wanted.workflow_execution_id)
    await check_type(access, found, workflow_type)
    if not serialization.is_same_json(found.input_data, wanted.input_data):
        raise ExecutionConflictError(
            f"execution {found.workflow_execution_id!r} was started with other input;"
            " nothing was started. Give the same arguments to attach to it, or another"
            " execution_id",
            workflow_execution_id=found.workflow_execution_id,
        )
    return found


async def check_type(access: Access, found: WorkflowExecution, workflow_type: str) -> None:
    """Raise ExecutionConflictError for an execution of another workflow."""
    definition = await access.store.load_workflow(found.workflow_id)
    found_type = None if definition is None else definition.workflow_type
    if found_type != workflow_type:
        raise ExecutionConflictError(
            f"execution {found.workflow_execution_id!r} is of workflow {found_type!r},"
            f" not {workflow_type!r}; nothing was started. Give another execution_id",
            workflow_execution_id=found.workflow_execution_id,
        )


OnDuplicate = Literal["reject", "existing"]


class Dedup(msgspec.Struct, frozen=True):
    """What keeps duplicates out of a queue; see `Client.enqueue`."""

    dedup_id: str | None = None
    on_duplicate: OnDuplicate = "reject"
    debounce: timedelta | None = None

    def check(self, delay: timedelta | None) -> None:
        """Raises TypeError or ValueError."""
        if self.dedup_id is not None:
            check_identifier("dedup_id", self.dedup_id)
        if self.on_duplicate not in ("reject", "existing"):
            raise ValueError(
                f'on_duplicate must be "reject" or "existing", not {self.on_duplicate!r}'
            )
        if self.debounce is None:
            return
        if self.dedup_id is None:
            raise ValueError("debounce is given without a dedup_id: give both")
        if delay is not None:
            raise ValueError("debounce and delay exclude each other: each says when it begins")


class Timing(msgspec.Struct, frozen=True):
    """When an execution in the queue is claimed, from which queue, and until when."""

    now: datetime
    available_at: datetime
    priority: int
    ttl_expires_at: datetime | None
    queue: str | None = None
    key: str | None = None
    dedup: Dedup = Dedup()


def timing(
    now: datetime,
    *,
    delay: timedelta | None,
    priority: int,
    ttl: timedelta | None,
    queue: str | None = None,
    key: str | None = None,
    dedup: Dedup = Dedup(),  # noqa: B008 - frozen
) -> Timing:
    """Raises TypeError or ValueError for what is none."""
    check_integer("priority", priority, minimum=-MAX_INTEGER - 1)
    if queue is not None:
        check_identifier("queue", queue)
    if key is not None:
        check_queue_key(queue, key)
    dedup.check(delay)
    expires_at = None if ttl is None else after("ttl", ttl, now)
    if dedup.debounce is not None:
        delay = after("debounce", dedup.debounce, now) - now
    due_at = now if delay is None else after("delay", delay, now, minimum=timedelta(0))
    available_at = due_at if expires_at is None else min(due_at, expires_at)
    return Timing(now, available_at, priority, expires_at, queue, key, dedup)


def running_record(
    workflow: AnyWorkflow,
    args: tuple[Any, ...],
    execution_id: str | None,
    now: datetime,
    ttl_expires_at: datetime | None,
    guarantee: WorkflowGuarantee,
) -> WorkflowExecution:
    """One that begins here; raises for arguments that would not come back as they are."""
    check_workflow(workflow)
    return WorkflowExecution(
        workflow_execution_id=_id_or_new(execution_id),
        workflow_id=workflow.record.workflow_id,
        status=ExecutionStatus.RUNNING,
        input_data=workflow.encode_input(args),
        ttl_expires_at=ttl_expires_at,
        guarantee=guarantee,
        started_at=now,
        created_at=now,
        updated_at=now,
    )


def queued_record(
    workflow: Workflow, input_data: str | None, execution_id: str | None, timing: Timing
) -> WorkflowExecution:
    """One that waits for a worker."""
    return WorkflowExecution(
        workflow_execution_id=_id_or_new(execution_id),
        workflow_id=workflow.workflow_id,
        status=ExecutionStatus.PENDING,
        input_data=input_data,
        ttl_expires_at=timing.ttl_expires_at,
        guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        priority=timing.priority,
        queue=timing.queue,
        queue_key=timing.key,
        dedup_id=timing.dedup.dedup_id,
        debounced=timing.dedup.debounce is not None,
        available_at=timing.available_at,
        created_at=timing.now,
        updated_at=timing.now,
    )


def _id_or_new(execution_id: str | None) -> str:
    if execution_id is None:
        return str(uuid.uuid4())
    check_identifier("execution_id", execution_id)
    return execution_id


def after(
    what: str, duration: timedelta, now: datetime, minimum: timedelta = timedelta(microseconds=1)
) -> datetime:
    """That long from now. Raises an error that names `what` if the duration cannot be used."""
    if not isinstance(duration, timedelta):
        raise TypeError(f"{what} must be a timedelta, as timedelta(hours=1), not {duration!r}")
    if duration < minimum:
        raise ValueError(
            f"{what} must not be {'zero or less' if minimum else 'negative'}: {duration}"
        )
    return later(now, duration)
