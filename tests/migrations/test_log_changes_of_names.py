"""A file of version 28 keeps its audit log, which may have entries about other things, too."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.migrations.content import migrate_to

OLD, NEW = 28, 29


def test_the_entries_stay_and_others_are_possible(file: Path) -> None:
    migrate_to(file, OLD)
    columns = "workflow_audit_id, workflow_execution_id, act, actor, details, created_at"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("insert into workflows (workflow_id, workflow_type) values ('w', 'w')")
        connection.execute(
            "insert into workflow_executions (workflow_execution_id, workflow_id) values ('e', 'w')"
        )
        connection.executemany(
            "insert into workflow_audit_log (workflow_execution_id, act, actor, details)"
            " values ('e', ?, 'kim', ?)",
            [("retry", None), ("rerun", "{}")],
        )
        connection.execute("create index of_mine on workflow_audit_log (actor)")
        select = f"select {columns} from workflow_audit_log order by workflow_audit_id"
        before = connection.execute(select).fetchall()
        assert len(before) >= 2
        migrate_to(file, NEW)
        assert connection.execute(select).fetchall() == before
        assert connection.execute(
            "select distinct scope, name from workflow_audit_log"
        ).fetchall() == [("EXECUTION", None)]
        (index,) = connection.execute(
            "select name from sqlite_schema where name = 'of_mine'"
        ).fetchone()
        assert index == "of_mine"
        insert = "insert into workflow_audit_log (workflow_execution_id, scope, name, act, actor)"
        connection.execute(f"{insert} values (null, 'QUEUE', 'mail', 'set', 'kim')")
        connection.execute(f"{insert} values (null, 'ALL', '', 'pause', 'kim')")
        for values, rule in (
            ("('e', 'QUEUE', 'mail', 'set', 'kim')", "either_an_execution_or_a_name"),
            ("(null, 'EXECUTION', null, 'set', 'kim')", "either_an_execution_or_a_name"),
            ("(null, 'QUEUE', '', 'set', 'kim')", "only_everything_has_no_name"),
            ("(null, 'ALL', 'mail', 'set', 'kim')", "only_everything_has_no_name"),
            ("(null, 'TABLE', 'mail', 'set', 'kim')", "scope_is_known"),
        ):
            with pytest.raises(sqlite3.IntegrityError, match=rule):
                connection.execute(f"{insert} values {values}")
