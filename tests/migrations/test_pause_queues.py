"""A file of version 26 keeps what is paused, and a queue can be paused, too."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.migrations.content import migrate_to

OLD, NEW = 26, 27


def test_what_is_paused_stays_so_and_a_queue_can_be_paused(file: Path) -> None:
    migrate_to(file, OLD)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        insert = "insert into workflow_pauses (scope, name, paused_by, paused_reason) values"
        with pytest.raises(sqlite3.IntegrityError, match="scope_is_known"):
            connection.execute(f"{insert} ('QUEUE', 'mail', 'kim', null)")
        connection.execute(f"{insert} ('WORKFLOW', 'order', 'kim', 'the bank')")
        connection.execute(f"{insert} ('ALL', '', 'lee', null)")
        before = connection.execute("select * from workflow_pauses").fetchall()
        migrate_to(file, NEW)
        assert connection.execute("select * from workflow_pauses").fetchall() == before
        connection.execute(f"{insert} ('QUEUE', 'mail', 'kim', null)")
        seen = connection.execute("select scope, name from workflow_pauses").fetchall()
        assert seen == [("ALL", ""), ("QUEUE", "mail"), ("WORKFLOW", "order")]
        for values, rule in (
            ("('QUEUE', '', 'kim', null)", "name_is_that_of_a_workflow_or_queue"),
            ("('ALL', 'mail', 'kim', null)", "name_is_that_of_a_workflow_or_queue"),
            ("('STEP', 'mail', 'kim', null)", "scope_is_known"),
        ):
            with pytest.raises(sqlite3.IntegrityError, match=rule):
                connection.execute(f"{insert} {values}")
