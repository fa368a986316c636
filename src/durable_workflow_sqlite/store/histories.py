"""The records of some executions that a replay needs, read at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from durable_workflow_sqlite.errors import StoreCorruptError
from durable_workflow_sqlite.reading.histories import ExecutionHistory, UnreadableHistory
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.rows import (
    checkpoint_from,
    execution_from,
    json_array,
    patch_from,
)

_OF: Final = attrgetter("workflow_execution_id")


def histories(
    connection: object, queries: q.Queries, execution_ids: Sequence[str]
) -> list[ExecutionHistory | UnreadableHistory]:
    """In the order of their ids; unknown ids are left out. To be called in a transaction."""
    ids = json_array(execution_ids)
    executions = queries.load_executions_among(connection, workflow_execution_ids=ids)
    checkpoints = {
        one: list(rows)
        for one, rows in groupby(
            queries.load_checkpoints_among(connection, workflow_execution_ids=ids), _OF
        )
    }
    patches = {
        one: list(rows)
        for one, rows in groupby(
            queries.load_patches_among(connection, workflow_execution_ids=ids), _OF
        )
    }
    workflows = {row.workflow_id: row for row in queries.load_workflows(connection)}
    return [
        _history(
            row,
            workflows.get(row.workflow_id),
            checkpoints.get(row.workflow_execution_id, []),
            patches.get(row.workflow_execution_id, []),
        )
        for row in executions
    ]


def _history(
    row: q.LoadExecutionsAmongRow,
    workflow: q.WorkflowRow | None,
    checkpoints: list[q.LoadCheckpointsAmongRow],
    patches: list[q.LoadPatchesAmongRow],
) -> ExecutionHistory | UnreadableHistory:
    try:
        if workflow is None:
            raise StoreCorruptError(
                f"its workflow {row.workflow_id!r} is not in the table workflows"
            )
        return ExecutionHistory(
            workflow_type=workflow.workflow_type,
            version=workflow.version,
            execution=execution_from(row),
            checkpoints=tuple(map(checkpoint_from, checkpoints)),
            patches=tuple(map(patch_from, patches)),
        )
    except StoreCorruptError as error:
        return UnreadableHistory(
            execution_id=row.workflow_execution_id,
            workflow_type=None if workflow is None else workflow.workflow_type,
            version=None if workflow is None else workflow.version,
            status=row.status,
            problem=str(error),
        )
