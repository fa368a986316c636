"""The audit log, for people."""

from __future__ import annotations

from collections.abc import Sequence

from durable_workflow_sqlite.reading.acts import NamedAct
from durable_workflow_sqlite.records import check_integer
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows import json_array, readable_time


def latest_acts(
    file: Readable, scopes: Sequence[str] | None, name: str | None, *, limit: int
) -> list[NamedAct]:
    """See `Reader.acts`."""
    check_integer("limit", limit, minimum=1)
    queries = file.queries
    with file.reading() as connection:
        if scopes is None:
            return [
                NamedAct(
                    scope=row.scope,
                    name=row.workflow_execution_id or row.name or "",
                    act=row.act,
                    actor=row.actor,
                    details=row.details,
                    created_at=readable_time(row.created_at),
                )
                for row in queries.load_latest_acts(connection, row_limit=limit)
            ]
        found = queries.load_acts_on(
            connection, scopes=json_array(scopes), name=name, row_limit=limit
        )
        return [
            NamedAct(
                scope=row.scope,
                name=row.name,
                act=row.act,
                actor=row.actor,
                details=row.details,
                created_at=readable_time(row.created_at),
            )
            for row in found
        ]
