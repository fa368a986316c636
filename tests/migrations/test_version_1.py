"""Version 1 of the schema, which files of other languages have: told here a second time."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.dart_file import write_dart_file
from tests.migrations.content import migrate_to

NOW = "strftime('%Y-%m-%dT%H:%M:%f', 'now')"

# name: type, not null, default, part of the primary key
COLUMNS = {
    "workflows": {
        "workflow_id": ("text", False, None, True),
        "workflow_type": ("text", True, None, False),
        "version": ("integer", True, "1", False),
        "created_at": ("text", True, NOW, False),
    },
    "workflow_executions": {
        "workflow_execution_id": ("text", False, None, True),
        "workflow_id": ("text", True, None, False),
        "status": ("text", True, "'PENDING'", False),
        "current_step": ("integer", False, "0", False),
        "input_data": ("text", False, None, False),
        "output_data": ("text", False, None, False),
        "error_message": ("text", False, None, False),
        "ttl_expires_at": ("text", False, None, False),
        "guarantee": ("text", True, "'FOREGROUND_ONLY'", False),
        "created_at": ("text", True, NOW, False),
        "updated_at": ("text", True, NOW, False),
    },
    "step_checkpoints": {
        "id": ("integer", False, None, True),
        "workflow_execution_id": ("text", True, None, False),
        "step_index": ("integer", True, None, False),
        "step_name": ("text", True, None, False),
        "status": ("text", True, None, False),
        "input_data": ("text", False, None, False),
        "output_data": ("text", False, None, False),
        "error_message": ("text", False, None, False),
        "attempt": ("integer", False, "1", False),
        "idempotency_key": ("text", False, None, False),
        "compensate_ref": ("text", False, None, False),
        "started_at": ("text", False, None, False),
        "completed_at": ("text", False, None, False),
    },
    "workflow_timers": {
        "workflow_timer_id": ("text", False, None, True),
        "workflow_execution_id": ("text", True, None, False),
        "step_name": ("text", True, None, False),
        "fire_at": ("text", True, None, False),
        "status": ("text", True, "'PENDING'", False),
        "created_at": ("text", True, NOW, False),
    },
    "workflow_signals": {
        "workflow_signal_id": ("integer", False, None, True),
        "workflow_execution_id": ("text", True, None, False),
        "signal_name": ("text", True, None, False),
        "payload": ("text", False, None, False),
        "status": ("text", True, "'PENDING'", False),
        "created_at": ("text", True, NOW, False),
    },
}

REFERENCES = {
    "workflows": set[tuple[str, str]](),
    "workflow_executions": {("workflow_id", "workflows")},
    "step_checkpoints": {("workflow_execution_id", "workflow_executions")},
    "workflow_timers": {("workflow_execution_id", "workflow_executions")},
    "workflow_signals": {("workflow_execution_id", "workflow_executions")},
}

INDEXES = {
    "idx_wf_exec_status": ("workflow_executions", ["status"]),
    "idx_wf_exec_workflow": ("workflow_executions", ["workflow_id"]),
    "idx_step_cp_exec": ("step_checkpoints", ["workflow_execution_id", "step_index"]),
    "idx_wf_timer_fire": ("workflow_timers", ["status", "fire_at"]),
    "idx_wf_signal_pending": (
        "workflow_signals",
        ["workflow_execution_id", "signal_name", "status"],
    ),
}

STATUSES = {
    "workflow_executions": {
        "PENDING",
        "RUNNING",
        "SUSPENDED",
        "COMPLETED",
        "FAILED",
        "COMPENSATING",
        "CANCELLED",
    },
    "step_checkpoints": {"INTENT", "COMPLETED", "FAILED", "COMPENSATED"},
    "workflow_timers": {"PENDING", "FIRED", "CANCELLED"},
    "workflow_signals": {"PENDING", "DELIVERED", "EXPIRED"},
}


def write_migration_001(file: Path) -> None:
    assert migrate_to(file, 1) == [1]


@pytest.fixture(params=[write_migration_001, write_dart_file], ids=["migration 001", "Dart"])
def connection(file: Path, request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    write: Callable[[Path], None] = request.param
    write(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("pragma foreign_keys = on")
        yield connection


def test_it_is_version_1(connection: sqlite3.Connection) -> None:
    assert connection.execute("pragma user_version").fetchone() == (1,)


def test_it_has_the_five_tables_and_their_columns(connection: sqlite3.Connection) -> None:
    tables = {
        name
        for _, name, kind, _, without_rowid, strict in connection.execute("pragma table_list")
        if not name.startswith("sqlite_") and (kind, without_rowid, strict) == ("table", 0, 0)
    }
    assert tables == set(COLUMNS)
    for table, columns in COLUMNS.items():
        found = {
            name: (kind.lower(), bool(not_null), default, bool(key))
            for _, name, kind, not_null, default, key in connection.execute(
                f"pragma table_info({table})"
            )
        }
        assert found == columns
        assert list(found) == list(columns)


def test_it_has_the_five_indexes_and_one_constraint_beside_the_keys(
    connection: sqlite3.Connection,
) -> None:
    made: dict[str, tuple[str, list[str]]] = {}
    unique: dict[str, list[str]] = {}
    for table in COLUMNS:
        for _, index, is_unique, origin, partial in connection.execute(
            f"pragma index_list({table})"
        ):
            columns = [name for _, _, name in connection.execute(f"pragma index_info({index})")]
            assert not partial
            if origin == "c":
                assert not is_unique
                made[index] = (table, columns)
            elif origin == "u":
                unique[table] = columns
    assert made == INDEXES
    assert unique == {"step_checkpoints": ["workflow_execution_id", "step_index", "attempt"]}


def test_its_tables_refer_to_each_other(connection: sqlite3.Connection) -> None:
    for table, references in REFERENCES.items():
        found = connection.execute(f"pragma foreign_key_list({table})").fetchall()
        assert {(column, other) for _, _, other, column, *_ in found} == references
        assert all(column == key for _, _, _, column, key, *_ in found)
        assert {row[5:7] for row in found} <= {("NO ACTION", "NO ACTION")}


def an_execution(connection: sqlite3.Connection) -> None:
    connection.execute("insert into workflows (workflow_id, workflow_type) values ('w', 'w')")
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id) values ('e', 'w')"
    )


REQUIRED: dict[str, dict[str, Any]] = {
    "workflow_executions": {"workflow_execution_id": "new", "workflow_id": "w"},
    "step_checkpoints": {
        "workflow_execution_id": "e",
        "step_index": 0,
        "step_name": "s",
        "status": "INTENT",
    },
    "workflow_timers": {
        "workflow_timer_id": "t",
        "workflow_execution_id": "e",
        "step_name": "s",
        "fire_at": "2024-03-01T10:00:00.123Z",
    },
    "workflow_signals": {"workflow_execution_id": "e", "signal_name": "s"},
}


def insert(connection: sqlite3.Connection, table: str, **values: Any) -> None:
    row = REQUIRED[table] | values
    connection.execute(
        f"insert into {table} ({', '.join(row)}) values ({', '.join('?' * len(row))})",
        tuple(row.values()),
    )


@pytest.mark.parametrize("table", STATUSES)
def test_it_takes_the_documented_statuses_and_no_other(
    connection: sqlite3.Connection, table: str
) -> None:
    an_execution(connection)
    for status in STATUSES[table]:
        connection.execute("savepoint one")
        insert(connection, table, status=status)
        connection.execute("rollback to one")
    for status in ("", "completed", "DONE", "PENDING ", *(set().union(*STATUSES.values()))):
        if status not in STATUSES[table]:
            with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
                insert(connection, table, status=status)


def test_its_times_default_to_now_in_utc_with_milliseconds(connection: sqlite3.Connection) -> None:
    an_execution(connection)
    insert(connection, "workflow_timers")
    insert(connection, "workflow_signals")
    times = [
        connection.execute(f"select {column} from {table} order by rowid desc").fetchone()[0]
        for table, column in [
            ("workflows", "created_at"),
            ("workflow_executions", "created_at"),
            ("workflow_executions", "updated_at"),
            ("workflow_timers", "created_at"),
            ("workflow_signals", "created_at"),
        ]
    ]
    (today,) = connection.execute("select date('now')").fetchone()
    for time in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", time)
        assert time[:10] <= today


def test_an_attempt_is_there_once(connection: sqlite3.Connection) -> None:
    an_execution(connection)
    insert(connection, "step_checkpoints")
    insert(connection, "step_checkpoints", attempt=2)
    insert(connection, "step_checkpoints", step_index=1)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        insert(connection, "step_checkpoints", attempt=1)


@pytest.mark.parametrize(
    ("table", "key"), [("step_checkpoints", "id"), ("workflow_signals", "workflow_signal_id")]
)
def test_it_gives_no_id_out_twice(connection: sqlite3.Connection, table: str, key: str) -> None:
    an_execution(connection)
    insert(connection, table)
    (highest,) = connection.execute(f"select max({key}) from {table}").fetchone()
    connection.execute(f"delete from {table} where {key} = ?", (highest,))
    insert(connection, table)
    assert connection.execute(f"select max({key}) from {table}").fetchone() == (highest + 1,)


@pytest.mark.parametrize("table", REQUIRED)
def test_a_row_of_nothing_that_exists_is_refused(
    connection: sqlite3.Connection, table: str
) -> None:
    an_execution(connection)
    reference = "workflow_id" if table == "workflow_executions" else "workflow_execution_id"
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        insert(connection, table, **{reference: "nobody"})
