"""A file of version 17 keeps its signals, which have no key, and from then on a key is unique."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.migrations.content import migrate_to

OLD, NEW = 17, 18


def test_older_signals_have_no_key_and_newer_ones_one_of_their_own(file: Path) -> None:
    migrate_to(file, OLD)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("insert into workflows (workflow_id, workflow_type) values ('w', 'w')")
        for one in "ef":
            connection.execute(
                "insert into workflow_executions (workflow_execution_id, workflow_id)"
                " values (?, 'w')",
                (one,),
            )
        insert = (
            "insert into workflow_signals (workflow_execution_id, signal_name) values (?, 'go')"
        )
        for one in "eef":
            connection.execute(insert, (one,))
        before = connection.execute("select * from workflow_signals").fetchall()
        migrate_to(file, NEW)
        after = connection.execute("select * from workflow_signals").fetchall()
        assert after == [(*row, None) for row in before]
        connection.execute(insert, ("e",))  # as a process of the version before goes on
        insert = (
            "insert into workflow_signals (workflow_execution_id, signal_name, signal_key)"
            " values (?, 'go', ?)"
        )
        for one in "ef":
            connection.execute(insert, (one, "mail"))
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute(insert, ("e", "mail"))
        connection.execute(f"{insert} on conflict do nothing", ("e", "mail"))
        with pytest.raises(sqlite3.IntegrityError, match="signal_key_is_not_empty"):
            connection.execute(insert, ("e", ""))
        keys = (
            "select workflow_execution_id, signal_key from workflow_signals where signal_key > ''"
        )
        assert connection.execute(keys).fetchall() == [("e", "mail"), ("f", "mail")]
