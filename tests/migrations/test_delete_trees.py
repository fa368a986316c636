"""Who deletes executions by hand leaves no signal of the library to what is gone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite.store.migrations import migrate


@pytest.mark.parametrize("foreign_keys", [0, 1])
@pytest.mark.parametrize("order", [["root", "child", "leaf"], ["leaf", "child", "root"]])
def test_a_tree_is_deleted_by_one_statement(
    foreign_keys: int, order: list[str], tmp_path: Path
) -> None:
    parents = {"root": None, "child": "root", "leaf": "child"}
    with closing(sqlite3.connect(tmp_path / "workflows.db", isolation_level=None)) as connection:
        migrate(connection)
        connection.execute(f"pragma foreign_keys = {foreign_keys}")
        connection.execute("insert into workflows (workflow_id, workflow_type) values ('w', 'w')")
        for name in order:
            connection.execute(
                "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
                " parent_execution_id, on_parent_end) values (?, 'w', 'RUNNING', ?, 'cancel')",
                (name, parents[name]),
            )
        connection.execute("begin")
        connection.execute("delete from workflow_executions where workflow_execution_id = 'child'")
        heard = connection.execute(
            "select workflow_execution_id, signal_name from workflow_signals order by 1"
        ).fetchall()
        assert heard == [("leaf", "$cancel"), ("root", "$child:child")]
        connection.execute("rollback")
        connection.execute("delete from workflow_executions")
        assert connection.execute("select * from workflow_signals").fetchall() == []
        assert connection.execute("pragma foreign_key_check").fetchall() == []
