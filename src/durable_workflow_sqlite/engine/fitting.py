"""Whether the code at hand goes on with records that a person has changed, or that are copied."""

from __future__ import annotations

from collections.abc import Iterable

from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.mending import refused
from durable_workflow_sqlite.records import (
    StepCheckpoint,
    Workflow,
    WorkflowExecution,
    WorkflowPatch,
)


async def check_fits(
    access: Access,
    source: str,
    record: WorkflowExecution,
    checkpoints: Iterable[StepCheckpoint],
    patches: Iterable[WorkflowPatch],
    act: str,
    workflow: Workflow | None = None,
) -> None:
    """Raise ExecutionConflictError if the workflow would stop with these records.

    It is known only where the code is: an engine that has the workflow. source: the execution that
    the message names. act: what is not done then, in words.
    """
    if workflow is None:
        workflow = await access.store.load_workflow(record.workflow_id)
    if workflow is None:
        return
    error = access.why_unfit(workflow, record, checkpoints, patches)
    if error is not None:
        raise refused(
            source,
            f"was not {act}, since its workflow would stop: {type(error).__name__}: {error}",
        ) from error
