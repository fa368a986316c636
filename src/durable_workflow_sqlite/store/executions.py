"""How executions stand: what every room of the store may ask of them, within a transaction."""

from __future__ import annotations

import logging

from durable_workflow_sqlite.errors import ExecutionFinishedError, ExecutionNotFoundError
from durable_workflow_sqlite.records import ExecutionStatus, WorkflowExecution
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.rows import execution_from, json_array

_log = logging.getLogger("durable_workflow_sqlite.store")


def load_execution(
    connection: object, queries: Queries, workflow_execution_id: str
) -> WorkflowExecution | None:
    row = queries.load_execution(connection, workflow_execution_id=workflow_execution_id)
    return None if row is None else execution_from(row)


def load_statuses(
    connection: object, queries: Queries, workflow_execution_ids: list[str]
) -> dict[str, ExecutionStatus]:
    """Those that are unknown, or that have no status one knows, are left out."""
    found = queries.load_statuses(
        connection, workflow_execution_ids=json_array(workflow_execution_ids)
    )
    statuses: dict[str, ExecutionStatus] = {}
    for row in found:
        try:
            statuses[row.workflow_execution_id] = ExecutionStatus(row.status)
        except ValueError:
            _log.error(
                "execution %r has the unknown status %r; it is left out",
                row.workflow_execution_id,
                row.status,
            )
    return statuses


def load_stopped(
    connection: object, queries: Queries, workflow_execution_ids: list[str]
) -> set[str]:
    found = queries.load_stopped(
        connection, workflow_execution_ids=json_array(workflow_execution_ids)
    )
    return {row.workflow_execution_id for row in found}


def not_found(workflow_execution_id: str, consequence: str = "") -> ExecutionNotFoundError:
    return ExecutionNotFoundError(
        f"no execution has the id {workflow_execution_id!r}" + (consequence and f"; {consequence}"),
        workflow_execution_id=workflow_execution_id,
    )


def finished(execution: WorkflowExecution, consequence: str) -> ExecutionFinishedError:
    execution_id, status = execution.workflow_execution_id, execution.status
    return ExecutionFinishedError(
        f"execution {execution_id!r} is finished ({status}); {consequence}",
        workflow_execution_id=execution_id,
        status=status,
    )
