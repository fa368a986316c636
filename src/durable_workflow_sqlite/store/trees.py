"""The tree of executions below one of them, as much of it as a person can look at."""

from __future__ import annotations

from typing import Final

from durable_workflow_sqlite.reading.executions import Child, Children
from durable_workflow_sqlite.reading.findings import COUNTED
from durable_workflow_sqlite.records import TERMINAL_STATUSES
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.rows import json_array, readable_time

SHOWN_OF_ONE: Final = 20
"""So many children of each execution are shown."""

SHOWN: Final = 100
"""So many executions of the whole tree are shown; those near its top come first."""


def tree_below(queries: q.Queries, connection: object, execution_id: str) -> Children:
    """The children of an execution, their children, and so on. However large, it costs the same."""
    below: dict[str, tuple[list[q.LoadChildrenRow], dict[str, int]]] = {}
    waiting, shown = [execution_id], 0
    for parent in waiting:
        if parent in below or (shown >= SHOWN and parent != execution_id):
            continue
        rows, counts = _children(queries, connection, parent)
        # Somebody may have edited rows by hand, and made a ring of them.
        rows = [row for row in rows if row.workflow_execution_id not in waiting][: SHOWN - shown]
        below[parent] = (rows, counts)
        shown += len(rows)
        waiting += [row.workflow_execution_id for row in rows]
    unfinished = [
        row.workflow_execution_id
        for rows, _ in below.values()
        for row in rows
        if row.status not in TERMINAL_STATUSES
    ]
    now_at: dict[str, q.LoadSummariesRow] = {}
    if unfinished:
        found = queries.load_summaries(connection, workflow_execution_ids=json_array(unfinished))
        now_at = {row.workflow_execution_id: row for row in found}
    made: dict[str, Children] = {}
    for parent in reversed(waiting):
        if parent in below:
            made[parent] = Children(
                shown=tuple(
                    _child(row, now_at.get(row.workflow_execution_id), made)
                    for row in below[parent][0]
                ),
                counts=below[parent][1],
            )
    return made[execution_id]


def _children(
    queries: q.Queries, connection: object, parent: str
) -> tuple[list[q.LoadChildrenRow], dict[str, int]]:
    counts = queries.count_children(connection, parent_execution_id=parent, at_most=COUNTED)
    if not counts:
        return [], {}
    rows = queries.load_children(connection, parent_execution_id=parent, row_limit=SHOWN_OF_ONE)
    return list(rows), {row.status: row.total for row in counts}


def _child(
    row: q.LoadChildrenRow, now_at: q.LoadSummariesRow | None, made: dict[str, Children]
) -> Child:
    return Child(
        id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        version=row.version,
        status=row.status,
        status_since=readable_time(row.status_since),
        on_parent_end=row.on_parent_end,
        error_message=row.error_message,
        waiting_for=None if now_at is None else now_at.waiting_for,
        waiting_until=None if now_at is None else readable_time(now_at.waiting_until),
        why_not=None if now_at is None else _why_not(now_at),
        children=made.get(row.workflow_execution_id),
    )


def _why_not(row: q.LoadSummariesRow) -> str | None:
    if row.paused_scope is not None:
        return "paused"
    if row.blocked_reason is not None:
        return "blocked"
    return None if row.trouble is None else "in trouble"
