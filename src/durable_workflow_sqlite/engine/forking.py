"""Fork: a new execution that begins with the records of another one, up to a point."""

from __future__ import annotations

import uuid

import msgspec

from durable_workflow_sqlite.engine import audit, copying, editing
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.child_calls import end_of_record
from durable_workflow_sqlite.engine.copying import Beginning
from durable_workflow_sqlite.engine.enqueuing import known_workflow, rerun_record
from durable_workflow_sqlite.engine.fitting import check_fits
from durable_workflow_sqlite.engine.mending import refused
from durable_workflow_sqlite.engine.results import not_found
from durable_workflow_sqlite.engine.step_names import Results, StepName, check_step, in_words
from durable_workflow_sqlite.errors import ExecutionConflictError
from durable_workflow_sqlite.records import (
    CHILD_SIGNAL,
    StepCheckpoint,
    StepKind,
    TakenExecution,
    Workflow,
    WorkflowExecution,
    WorkflowSignal,
    check_identifier,
    check_integer,
)

FORK = "fork"


async def fork(
    access: Access,
    execution_id: str,
    before: StepName | None,
    edit: Results | None,
    new_id: str | None,
    version: int | None,
    by: str | None,
) -> str:
    """See `DurableEngine.fork`; the id."""
    if before is not None:
        check_step(before)
    edits = editing.checked(edit, access.store.max_payload_bytes)
    new_id = str(uuid.uuid4()) if new_id is None else new_id
    check_identifier("new_id", new_id)
    if version is not None:
        check_integer("version", version, minimum=1)
    access.check_open()
    seen, signals = await _seen(access, execution_id)
    source = seen.execution
    workflow = await _workflow(access, source, version)
    begins = copying.beginning_of(seen, before, edits)
    ends = await _ends_of_children(access, source, begins)
    now = access.clock.now()
    record = msgspec.structs.replace(
        rerun_record(source, workflow, new_id, now),
        current_step=begins.kept,
        run_number=source.run_number,
        forked_from=execution_id,
        forked_before=begins.before,
        replay_origin=begins.origin,
    )
    records = copying.as_records_of(new_id, execution_id, begins)
    if edits or version is not None:
        steps = [one for one in records if isinstance(one, StepCheckpoint)]
        patches = [
            msgspec.structs.replace(one, workflow_execution_id=new_id) for one in begins.patches
        ]
        await check_fits(access, execution_id, record, steps, patches, "forked", workflow)
    details: dict[str, object] = {"before": begins.before, **editing.noted(begins.changes)}
    if version is not None:
        details["version"] = version
    is_new = await access.store.enqueue_execution(
        workflow,
        record,
        await access.store.load_tags(execution_id),
        *records,
        *copying.signals_of(new_id, seen, signals, begins),
        *(
            copying.end_of_child(new_id, CHILD_SIGNAL + child, end, now)
            for child, end in ends.items()
        ),
        audit.entry(execution_id, FORK, by, now, {"as": new_id, **details}),
        audit.entry(new_id, FORK, by, now, {"of": execution_id, **details}),
    )
    if is_new:
        access.look()
    elif not await _is_same_fork(access, new_id, execution_id, details):
        raise ExecutionConflictError(
            f"the id {new_id!r} is taken, and not by the same fork of execution {execution_id!r};"
            " nothing was started. Give another new_id",
            workflow_execution_id=new_id,
        )
    return new_id


async def _seen(access: Access, execution_id: str) -> tuple[TakenExecution, list[WorkflowSignal]]:
    """The records of an execution, which may run meanwhile, and its signals of the same moment."""
    seen = await access.store.take_execution(execution_id)
    while True:
        if seen is None:
            raise not_found(execution_id)
        signals = await access.store.load_signals(execution_id)
        again = await access.store.take_execution(execution_id)
        if again is not None and _waits(again) == _waits(seen):
            return seen, signals
        seen = again


def _waits(seen: TakenExecution) -> list[StepCheckpoint]:
    return [one for one in seen.checkpoints if one.kind is StepKind.SIGNAL]


async def _workflow(access: Access, source: WorkflowExecution, version: int | None) -> Workflow:
    """The definition that the fork is of: that of the other execution, or another version."""
    found = await access.store.load_workflow(source.workflow_id)
    if found is None:
        raise refused(
            source.workflow_execution_id,
            f"was not forked: it is of workflow {source.workflow_id!r}, whose row is gone",
        )
    if version is None or version == found.version:
        return found
    return await known_workflow(access, found.workflow_type, version)


async def _ends_of_children(
    access: Access, source: WorkflowExecution, begins: Beginning
) -> dict[str, str]:
    """How those children ended whose ends the fork may still ask for.

    Raises ExecutionConflictError for one that has not: its end is told to its parent alone.
    """
    ends: dict[str, str] = {}
    for start, child_id in begins.starts:
        child = await access.store.load_execution(child_id)
        if child is not None and child.parent_execution_id is None:
            continue  # a step has returned the id of another execution
        if child is not None and not child.status.is_terminal:
            raise refused(
                source.workflow_execution_id,
                f"was not forked: its child {child_id!r}, which {in_words(start)} started before"
                f" that point, is {child.status}, and tells only its parent how it ends. Fork it"
                f" before {in_words(start)}, which starts another child; or wait until it is over",
            )
        ends[child_id] = end_of_record(child)
    return ends


async def _is_same_fork(
    access: Access, new_id: str, execution_id: str, details: dict[str, object]
) -> bool:
    wanted = audit.details_of(msgspec.json.encode({"of": execution_id, **details}).decode())
    return any(
        one.act == FORK and audit.details_of(one.details) == wanted
        for one in await access.store.load_audit_log(new_id)
    )
