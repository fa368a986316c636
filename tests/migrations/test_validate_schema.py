"""`validate_schema` names what is missing and what does not hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    SCHEMA_VERSION,
    StoreCorruptError,
    StoreError,
    migrate,
    validate_schema,
)
from durable_workflow_sqlite.store.connection import configure
from tests.databases import new_database
from tests.migrations.content import migrate_to

TABLES = [
    "step_checkpoints",
    "workflow_claims",
    "workflow_executions",
    "workflow_signals",
    "workflow_timers",
    "workflows",
]


@pytest.fixture
def connection(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection as a store has it."""
    with closing(sqlite3.connect(new_database(file))) as connection:
        configure(connection)
        connection.execute("pragma foreign_keys = off")  # what refers to a table may stay
        assert validate_schema(connection) == ["pragma foreign_keys is 0, and should be on"]
        yield connection


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong, once the pragmas are set again."""
    connection.execute("pragma foreign_keys = on")
    return validate_schema(connection)


def test_nothing_is_wrong_with_a_migrated_file(connection: sqlite3.Connection) -> None:
    assert problems(connection) == []


def test_nothing_is_wrong_with_a_database_in_memory() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        configure(connection)
        migrate(connection)
        assert validate_schema(connection) == []


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_table_is_named(connection: sqlite3.Connection, table: str) -> None:
    connection.execute(f"drop table {table}")
    found = problems(connection)
    assert f"the table {table} is missing" in found
    assert not [problem for problem in found if "table " in problem and table not in problem]


def test_every_missing_index_is_named(connection: sqlite3.Connection) -> None:
    indexes = [
        name
        for (name,) in connection.execute(
            "select name from sqlite_schema where type = 'index' and sql is not null order by name"
        )
    ]
    assert len(indexes) >= 5
    for index in indexes:
        connection.execute(f"drop index {index}")
    assert problems(connection) == [f"the index {index} is missing" for index in indexes]


def test_a_missing_column_is_named(connection: sqlite3.Connection) -> None:
    for view in ("children", "problems", "overview"):  # SQLite drops no column that a view reads
        connection.execute(f"drop view workflow_{view}")
    connection.execute("drop trigger trg_wf_exec_ends")
    connection.execute("alter table workflow_executions drop column error_type")
    assert problems(connection) == [
        "the column workflow_executions.error_type is missing",
        "the trigger trg_wf_exec_ends is missing",
        "the view workflow_children is missing; `durable-workflow migrate` creates it again",
        "the view workflow_overview is missing; `durable-workflow migrate` creates it again",
        "the view workflow_problems is missing; `durable-workflow migrate` creates it again",
    ]


def test_what_an_application_adds_of_its_own_is_no_problem(connection: sqlite3.Connection) -> None:
    connection.execute('create table "my ""own"" table" (id integer primary key, "a b" text)')
    connection.execute("create index mine on workflows (created_at)")
    connection.execute("alter table workflows add column note text")
    assert problems(connection) == []


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_another_version_is_named(connection: sqlite3.Connection, version: int) -> None:
    connection.execute(f"pragma user_version = {version}")
    assert problems(connection) == [f"the schema has version {version}, not {SCHEMA_VERSION}"]


def test_an_empty_file_lacks_everything_and_is_not_changed(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        configure(connection)
        found = validate_schema(connection)
        assert f"the schema has version 0, not {SCHEMA_VERSION}" in found
        for table in TABLES:
            assert f"the table {table} is missing" in found
        assert connection.execute("select count(*) from sqlite_schema").fetchone() == (0,)


@pytest.mark.parametrize(
    ("pragma", "problem"),
    [
        ("journal_mode = delete", "pragma journal_mode is 'delete', and should be wal"),
        ("foreign_keys = off", "pragma foreign_keys is 0, and should be on"),
        ("synchronous = off", "pragma synchronous is 0, and should be normal or full"),
        ("busy_timeout = 100", "pragma busy_timeout is 100, and should be at least 5000"),
    ],
)
def test_a_pragma_that_does_not_hold_is_named(file: Path, pragma: str, problem: str) -> None:
    with closing(sqlite3.connect(new_database(file))) as connection:
        configure(connection)
        connection.execute(f"pragma {pragma}")
        assert validate_schema(connection) == [problem]


@pytest.mark.parametrize("pragma", ["synchronous = full", "busy_timeout = 60000"])
def test_a_stricter_pragma_is_no_problem(file: Path, pragma: str) -> None:
    with closing(sqlite3.connect(new_database(file))) as connection:
        configure(connection)
        connection.execute(f"pragma {pragma}")
        assert validate_schema(connection) == []


def test_a_plain_connection_to_a_file_of_the_dba_lacks_what_it_lacks(file: Path) -> None:
    migrate_to(file, SCHEMA_VERSION)
    with closing(sqlite3.connect(file, timeout=1)) as connection:
        assert validate_schema(connection) == [
            "pragma journal_mode is 'delete', and should be wal",
            "pragma foreign_keys is 0, and should be on",
            "pragma busy_timeout is 1000, and should be at least 5000",
        ]


def test_it_takes_any_row_factory_and_gives_it_back(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    connection.text_factory = bytes
    assert problems(connection) == []
    assert connection.row_factory is sqlite3.Row
    assert connection.text_factory is bytes


def test_a_file_that_is_no_database_is_an_error(file: Path) -> None:
    file.write_text("Dear diary,\n" * 100)
    with closing(sqlite3.connect(file)) as connection, pytest.raises(StoreCorruptError):
        validate_schema(connection)


def test_a_closed_connection_is_an_error(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.close()
    with pytest.raises(StoreError, match="closed"):
        validate_schema(connection)
