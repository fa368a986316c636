"""What is paused in a file of version 27 holds its children after the migration."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from durable_workflow_sqlite import SqliteCheckpointStore
from tests.migrations.content import migrate_to

OLD, NEW = 27, 28
NOON = "2026-01-01T12:00:00.000000Z"


def test_what_is_paused_holds_its_children(file: Path) -> None:
    migrate_to(file, OLD)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("insert into workflows (workflow_id, workflow_type) values ('o:1', 'o')")
        for one, parent, policy in (
            ("p", None, None),
            ("c", "p", "cancel"),
            ("detached", "p", "detach"),
            ("grandchild", "c", "cancel"),
            ("other", None, None),
            ("of other", "other", "cancel"),
        ):
            connection.execute(
                "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
                " guarantee, parent_execution_id, on_parent_end, available_at)"
                " values (?, 'o:1', 'PENDING', 'BEST_EFFORT_BACKGROUND', ?, ?, ?)",
                (one, parent, policy, NOON),
            )
        connection.execute(
            "update workflow_executions set paused_at = ?, available_at = null"
            " where workflow_execution_id = 'p'",
            (NOON,),
        )
        migrate_to(file, NEW)
        assert connection.execute("select * from workflow_spreading").fetchall() == [("p",)]

    async def spread() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            while await store.spread_pauses():
                pass

    asyncio.run(spread())
    with closing(sqlite3.connect(file)) as connection:
        held = connection.execute(
            "select workflow_execution_id, paused_with, available_at from workflow_executions"
            " where paused_with is not null order by 1"
        ).fetchall()
        assert held == [("c", "p", None), ("grandchild", "p", None)]
