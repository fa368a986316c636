"""Executions that are enqueued without the code of their workflow: by its name, or as a rerun."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from durable_workflow_sqlite.engine import audit, serialization, starting
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.new_signals import NewSignal
from durable_workflow_sqlite.engine.workflow import definition_record
from durable_workflow_sqlite.errors import ExecutionConflictError
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.records import (
    AuditEntry,
    Workflow,
    WorkflowExecution,
    check_identifier,
    check_integer,
)

RERUN = "rerun"


async def enqueue_named(
    access: Access,
    workflow_type: str,
    args: Sequence[object],
    version: int | None,
    execution_id: str | None,
    timing: starting.Timing,
    tags: Mapping[str, str],
    signals: Iterable[NewSignal],
) -> str:
    """See `DurableEngine.enqueue_named`; the id."""
    check_identifier("type", workflow_type)
    if version is not None:
        check_integer("version", version, minimum=1)
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise TypeError(f"args must be a list of the arguments, not {args!r}")
    text = serialization.to_json(list(args), f"the input of workflow {workflow_type!r}")
    definition = await known_workflow(access, workflow_type, version)
    if (code := access.registry.find(workflow_type, definition.version)) is not None:
        code.check_arguments(args)
        code.decode_input(text)  # raises for what it does not take
    record = starting.queued_record(definition, text, execution_id, timing)
    return await starting.enqueue(access, definition, record, tags, signals, timing)


async def known_workflow(access: Access, workflow_type: str, version: int | None) -> Workflow:
    """The definition of that name, or its newest version: stored, or what a living worker has.

    Raises ValueError for an unknown one.
    """
    stored = await access.store.load_workflows()
    versions = {one.version: one for one in stored if one.workflow_type == workflow_type}
    served = await access.store.load_served() | set(access.registry.names_and_versions)
    for name, number in served:
        if name == workflow_type and number not in versions:
            versions[number] = definition_record(name, number)
    if not versions:
        names = {one.workflow_type for one in stored} | {name for name, _ in served}
        hint = nearest(workflow_type, names) or (
            ""
            if names
            else ". No execution was ever started here, and no living worker has a workflow: start"
            " a worker first, then try again"
        )
        raise ValueError(f"nothing was started: no workflow type {workflow_type!r}{hint}")
    if version is not None and version not in versions:
        there = ", ".join(map(str, sorted(versions)))
        raise ValueError(
            f"nothing was started: workflow {workflow_type!r} has no version {version}; there are"
            f" {there}"
        )
    return versions[max(versions) if version is None else version]


async def rerun(
    access: Access, execution_id: str, new_id: str | None, by: str | None, *, once: bool
) -> str:
    """See `DurableEngine.rerun`; the id."""
    new_id = str(uuid.uuid4()) if new_id is None else new_id
    check_identifier("new_id", new_id)
    found = await access.load(execution_id)
    definition = await access.store.load_workflow(found.workflow_id)
    if definition is None:
        raise ExecutionConflictError(
            f"execution {execution_id!r} is of workflow {found.workflow_id!r}, whose row is gone",
            workflow_execution_id=execution_id,
        )
    if once:
        for one in await _log_of(access, execution_id):
            if one.act == RERUN and "as" in audit.details_of(one.details):
                raise ExecutionConflictError(
                    f"execution {execution_id!r} was rerun already, by {one.actor}"
                    f" ({one.details}); nothing was started. To rerun it again, name its id",
                    workflow_execution_id=execution_id,
                )
    tags = await access.store.load_tags(execution_id)
    now = access.clock.now()
    record = rerun_record(found, definition, new_id, now)
    entries = (
        audit.entry(execution_id, RERUN, by, now, {"as": new_id}),
        audit.entry(new_id, RERUN, by, now, {"of": execution_id}),
    )
    if await access.store.enqueue_execution(definition, record, tags, *entries):
        access.look()
    elif not any(_is_rerun_of(one, execution_id) for one in await _log_of(access, new_id)):
        raise ExecutionConflictError(
            f"the id {new_id!r} is taken, and not by a rerun of execution {execution_id!r};"
            " nothing was started. Give another new_id",
            workflow_execution_id=new_id,
        )
    return new_id


async def _log_of(access: Access, execution_id: str) -> list[AuditEntry]:
    return await access.store.load_audit_log(execution_id)


def _is_rerun_of(entry: AuditEntry, execution_id: str) -> bool:
    return entry.act == RERUN and audit.details_of(entry.details).get("of") == execution_id


def rerun_record(
    found: WorkflowExecution, definition: Workflow, new_id: str, now: datetime
) -> WorkflowExecution:
    """A new execution that is enqueued with what an old one was."""
    ttl: timedelta | None = None
    if found.ttl_expires_at is not None:
        ttl = max(found.ttl_expires_at - found.created_at, timedelta(microseconds=1))
    timing = starting.timing(
        now,
        delay=None,
        priority=found.priority,
        ttl=ttl,
        queue=found.queue,
        key=found.queue_key,
    )
    return starting.queued_record(definition, found.input_data, new_id, timing)
