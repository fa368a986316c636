"""A file of version 19 keeps its executions, of which none is paused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.migrations.content import migrate_to

OLD, NEW = 19, 20


def test_nothing_is_paused_in_an_older_file_and_its_queue_stays(file: Path) -> None:
    migrate_to(file, OLD)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("insert into workflows (workflow_id, workflow_type) values ('w', 'w')")
        for status in ("PENDING", "RUNNING", "SUSPENDED", "COMPLETED"):
            connection.execute(
                "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
                " guarantee, available_at) values (?, 'w', ?, 'BEST_EFFORT_BACKGROUND',"
                " '2026-01-01T00:00:00.000000Z')",
                (status, status),
            )
        before = connection.execute("select * from workflow_executions").fetchall()
        migrate_to(file, NEW)
        after = connection.execute("select * from workflow_executions").fetchall()
        assert after == [(*row, None, None, None) for row in before]
        assert connection.execute("select * from workflow_pauses").fetchall() == []
        connection.execute(
            "update workflow_executions set paused_at = '2026-01-01T00:00:00.000000Z',"
            " available_at = null where workflow_execution_id = 'RUNNING'"
        )
        for one in ("RUNNING", "PENDING"):
            connection.execute(
                "insert into workflow_signals (workflow_execution_id, signal_name)"
                " values (?, '$cancel')",
                (one,),
            )
        woken = connection.execute(
            "select workflow_execution_id, available_at is null from workflow_executions"
            " where status in ('RUNNING', 'PENDING') order by status"
        ).fetchall()
        assert woken == [("PENDING", 0), ("RUNNING", 1)]
        for statement, rule in (
            ("update workflow_executions set paused_at = 'today'", "paused_at_is_a_time"),
            (
                "insert into workflow_pauses (scope, name, paused_by) values ('', '', 'kim')",
                "scope_is_known",
            ),
            (
                "insert into workflow_pauses (scope, name, paused_by) values ('ALL', 'w', 'kim')",
                "name_is_that_of_a_workflow",
            ),
            (
                "insert into workflow_pauses (scope, name, paused_by)"
                " values ('WORKFLOW', '', 'kim')",
                "name_is_that_of_a_workflow",
            ),
            ("insert into workflow_pauses (scope, name) values ('ALL', '')", "paused_by"),
        ):
            with pytest.raises(sqlite3.IntegrityError, match=rule):
                connection.execute(statement)
