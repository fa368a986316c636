"""`migrate` on what it should take, and on what it should leave alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    SCHEMA_VERSION,
    MigrationError,
    SchemaTooNewError,
    SqliteCheckpointStore,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    migrate,
    validate_schema,
)
from durable_workflow_sqlite.store.migrations import MIGRATIONS_DIR, load_migrations, pending
from tests.migrations.content import content, migrate_to, old_versions

ALL_VERSIONS = list(range(1, SCHEMA_VERSION + 1))


def test_the_schema_version_is_the_number_of_the_last_migration() -> None:
    assert max(int(path.name[:3]) for path in MIGRATIONS_DIR.glob("*.sql")) == SCHEMA_VERSION
    assert [migration.version for migration in load_migrations()] == ALL_VERSIONS


@pytest.mark.parametrize("database", ["file", "memory"])
def test_it_applies_all_that_is_pending_and_says_what(file: Path, database: str) -> None:
    with closing(sqlite3.connect(file if database == "file" else ":memory:")) as connection:
        assert migrate(connection) == ALL_VERSIONS
        assert connection.execute("pragma user_version").fetchone() == (SCHEMA_VERSION,)
        assert not connection.in_transaction


def test_a_second_time_is_harmless(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        migrate(connection)
    before = file.read_bytes()
    with closing(sqlite3.connect(file)) as connection:
        assert migrate(connection) == []
        assert migrate(connection) == []
    assert file.read_bytes() == before


@pytest.fixture(scope="module")
def made_at_once(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The content of a file that was migrated at once."""
    file = tmp_path_factory.mktemp("migrated") / "at once"
    with closing(sqlite3.connect(file)) as connection:
        migrate(connection)
    return content(file)


@pytest.mark.parametrize("version", old_versions())
def test_it_goes_on_from_every_version_and_ends_in_the_same_schema(
    tmp_path: Path, version: int, made_at_once: object
) -> None:
    migrate_to(tmp_path / "stepwise", version)
    with closing(sqlite3.connect(tmp_path / "stepwise")) as connection:
        assert migrate(connection) == ALL_VERSIONS[version:]
    assert content(tmp_path / "stepwise") == made_at_once


def test_a_file_of_version_6_with_work_in_it_is_one_without_trouble(file: Path) -> None:
    migrate_to(file, 6)
    with closing(sqlite3.connect(file)) as connection:
        with connection:
            connection.executescript("""
                insert into workflows (workflow_id, workflow_type) values ('order@1', 'order');
                insert into workflow_executions (
                    workflow_execution_id, workflow_id, status, current_step, available_at
                )
                values ('one', 'order@1', 'RUNNING', 2, '2030-01-01T00:00:00.000000Z');
                insert into step_checkpoints (workflow_execution_id, step_index, step_name, status)
                values ('one', 0, 'charge', 'COMPLETED'), ('one', 1, 'ship', 'INTENT');
            """)
        tables = ("workflows", "workflow_executions", "step_checkpoints")
        before = [connection.execute(f"select * from {one}").fetchall() for one in tables]
        overview = connection.execute("select * from workflow_overview").fetchone()
        assert migrate_to(file, 7) == [7]
        after = [connection.execute(f"select * from {one}").fetchall() for one in tables]
        assert after == [before[0], [(*row, None) for row in before[1]], before[2]]
        again = connection.execute("select * from workflow_overview").fetchone()
        trouble_at, age_at = 13, 20
        assert again[trouble_at] is None
        assert [*again[:trouble_at], *again[trouble_at + 1 :]][:age_at] == [*overview[:age_at]]
        assert connection.execute("select * from workflow_in_trouble").fetchall() == []


def test_indexes_triggers_and_views_of_others_outlive_a_table_that_is_rebuilt(file: Path) -> None:
    migrate_to(file, 9)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript("""
            create index mine on step_checkpoints (completed_at);
            create view theirs as select step_name from step_checkpoints;
            create table changes (step_name text);
            create trigger noted after update on step_checkpoints
            begin
                insert into changes values (new.step_name);
            end;
            insert into workflows (workflow_id, workflow_type) values ('w', 'w');
            insert into workflow_executions (workflow_execution_id, workflow_id) values ('e', 'w');
            insert into step_checkpoints (workflow_execution_id, step_index, step_name, status)
            values ('e', 0, 'charge', 'INTENT');
        """)
        added = ("mine", "theirs", "noted")
        read = "select sql from sqlite_schema where name = ?"
        before = [connection.execute(read, (name,)).fetchone() for name in added]
        assert migrate_to(file, 10) == [10]
        assert [connection.execute(read, (name,)).fetchone() for name in added] == before
        assert connection.execute("select * from theirs").fetchall() == [("charge",)]
        assert connection.execute("select * from changes").fetchall() == []
        connection.execute("update step_checkpoints set status = 'COMPLETED'")
        assert connection.execute("select * from changes").fetchall() == [("charge",)]


@pytest.mark.parametrize("index", ["", "create index mine on step_checkpoints (note)"])
def test_a_column_of_others_in_a_table_that_is_rebuilt_is_not_lost(file: Path, index: str) -> None:
    migrate_to(file, 9)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("alter table step_checkpoints add column note text default 'n'")
        connection.execute(index)
        before = content(file)
        with pytest.raises(MigrationError, match=r"column step_checkpoints\.note; move") as refused:
            migrate(connection)
        assert refused.value.version == 10
        assert content(file) == before
        connection.execute("drop index if exists mine")
        connection.execute("alter table step_checkpoints drop column note")
        assert migrate(connection) == ALL_VERSIONS[9:]


def shout(text: bytes) -> str:
    return text.decode().upper()


def no_row(_cursor: object, _row: object) -> dict[str, object]:
    return {}


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("isolation_level", "row_factory", "text_factory", "foreign_keys"),
    [
        (None, None, bytes, 0),
        (None, no_row, shout, 1),
        ("", sqlite3.Row, str, 1),
        ("DEFERRED", no_row, bytes, 0),
        ("IMMEDIATE", None, shout, 1),
        ("EXCLUSIVE", sqlite3.Row, bytes, 1),
    ],
)
def test_it_takes_any_connection_and_gives_it_back_as_it_was(
    file: Path, isolation_level: Any, row_factory: Any, text_factory: Any, foreign_keys: int
) -> None:
    migrate_to(file, 1)
    with closing(sqlite3.connect(file, isolation_level=isolation_level)) as connection:
        connection.execute(f"pragma foreign_keys = {foreign_keys}")
        connection.row_factory = row_factory
        connection.text_factory = text_factory
        assert migrate(connection) == ALL_VERSIONS[1:]
        assert connection.row_factory is row_factory
        assert connection.text_factory is text_factory
        assert connection.isolation_level == isolation_level
        connection.row_factory = None
        assert connection.execute("pragma foreign_keys").fetchone() == (foreign_keys,)


def test_an_open_transaction_is_refused_and_left_open(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table mine (a integer)")
        connection.execute("insert into mine values (1)")
        assert connection.in_transaction
        with pytest.raises(StoreError, match="in a transaction; commit or roll it back"):
            migrate(connection)
        assert connection.in_transaction
        connection.commit()
        assert connection.execute("select a from mine").fetchall() == [(1,)]
        assert connection.execute("pragma user_version").fetchone() == (0,)


def test_a_closed_connection_is_a_store_error(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.close()
    with pytest.raises(StoreError, match="closed"):
        migrate(connection)


def test_what_is_pending_is_known_without_a_change(file: Path) -> None:
    migrate_to(file, 1)
    before = file.read_bytes()
    with closing(sqlite3.connect(file)) as connection:
        todo = pending(connection, load_migrations())
    assert [migration.version for migration in todo] == ALL_VERSIONS[1:]
    assert file.read_bytes() == before


# Databases of other applications


def anothers_database(file: Path, version: int = 0) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("create table customers (id integer primary key, name text)")
        connection.execute("insert into customers values (1, 'Müller')")
        connection.execute(f"pragma user_version = {version}")


@pytest.mark.parametrize("version", [0, 1, SCHEMA_VERSION, 99, -1])
def test_the_database_of_another_application_is_not_changed(file: Path, version: int) -> None:
    anothers_database(file, version)
    before = file.read_bytes()
    with (
        closing(sqlite3.connect(file)) as connection,
        pytest.raises(MigrationError, match="belongs to another application") as caught,
    ):
        migrate(connection)
    assert str(file) in str(caught.value)
    assert file.read_bytes() == before


def test_a_store_leaves_the_database_of_another_application_alone(file: Path) -> None:
    anothers_database(file)
    before = file.read_bytes()
    with pytest.raises(MigrationError, match="belongs to another application"):
        SqliteCheckpointStore.file(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_new_file_that_litestream_saw_first_is_ours(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table _litestream_seq (id integer primary key, seq integer)")
        connection.execute("create table _litestream_lock (id integer)")
        migrate(connection)
        validate_schema(connection)
        assert connection.execute("pragma user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_view_alone_is_another_application_too(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create view one as select 1 as one")
        with pytest.raises(MigrationError, match="belongs to another application"):
            migrate(connection)


def test_a_database_without_a_version_can_be_adopted_and_loses_nothing(file: Path) -> None:
    anothers_database(file)
    with closing(sqlite3.connect(file)) as connection:
        assert migrate(connection, adopt=True) == ALL_VERSIONS
        assert migrate(connection) == []
        assert connection.execute("select id, name from customers").fetchall() == [(1, "Müller")]


def test_broken_references_of_the_adopted_application_are_its_own_concern(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table parents (id integer primary key)")
        connection.execute("create table children (parent integer references parents)")
        connection.execute("create table odd (parent integer references parents (no_such_column))")
        connection.execute("insert into children values (7)")
        connection.execute("insert into odd values (7)")
        connection.commit()
        assert migrate(connection, adopt=True) == ALL_VERSIONS


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION, 99, -1])
def test_a_database_with_another_applications_version_cannot_be_adopted(
    file: Path, version: int
) -> None:
    anothers_database(file, version)
    before = file.read_bytes()
    with (
        closing(sqlite3.connect(file)) as connection,
        pytest.raises(MigrationError, match=f"schema version {version}, and none of the tables"),
    ):
        migrate(connection, adopt=True)
    assert file.read_bytes() == before


def test_an_adopted_database_with_a_table_of_our_name_is_left_as_it_was(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table workflow_timers (mine text)")
    before = content(file)
    with (
        closing(sqlite3.connect(file)) as connection,
        pytest.raises(MigrationError, match="workflow_timers already exists"),
    ):
        migrate(connection, adopt=True)
    assert content(file) == before


# Files that are not as they should be


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_a_newer_file_is_not_changed(file: Path, journal_mode: str) -> None:
    migrate_to(file, SCHEMA_VERSION)
    newer = SCHEMA_VERSION + 4
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"pragma journal_mode = {journal_mode}")
        connection.execute(f"pragma user_version = {newer}")
    before = file.read_bytes()
    with (
        closing(sqlite3.connect(file)) as connection,
        pytest.raises(SchemaTooNewError) as caught,
    ):
        migrate(connection)
    assert (caught.value.found, caught.value.supported) == (newer, SCHEMA_VERSION)
    for words in (str(file), f"version {newer}", f"up to {SCHEMA_VERSION};", "update"):
        assert words in str(caught.value)
    assert file.read_bytes() == before

    with pytest.raises(SchemaTooNewError):
        SqliteCheckpointStore.file(file)
    assert file.read_bytes() == before


def test_a_file_that_lacks_a_table_of_its_version_is_refused(file: Path) -> None:
    migrate_to(file, 1)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("drop table workflow_timers")
    before = file.read_bytes()
    with (
        closing(sqlite3.connect(file)) as connection,
        pytest.raises(MigrationError, match="lacks the table workflow_timers"),
    ):
        migrate(connection)
    assert file.read_bytes() == before


def test_a_file_that_is_no_database_is_not_changed(file: Path) -> None:
    file.write_text("Dear diary,\n" * 1000)
    before = file.read_bytes()
    with (
        closing(sqlite3.connect(file)) as connection,
        pytest.raises(StoreCorruptError, match="not a SQLite database") as caught,
    ):
        migrate(connection)
    assert str(file) in str(caught.value)
    assert file.read_bytes() == before


@pytest.mark.parametrize("lock", ["immediate", "exclusive"])
def test_a_file_that_is_locked_for_too_long_is_a_busy_error(file: Path, lock: str) -> None:
    migrate_to(file, 1)
    before = content(file)
    with (
        closing(sqlite3.connect(file, isolation_level=None)) as other,
        closing(sqlite3.connect(file, timeout=0.05)) as connection,
    ):
        other.execute(f"begin {lock}")
        with pytest.raises(StoreBusyError, match="someone else holds its lock"):
            migrate(connection)
        assert not connection.in_transaction
        other.execute("rollback")
        assert content(file) == before
        assert migrate(connection) == ALL_VERSIONS[1:]


def test_a_file_that_is_full_stays_at_a_whole_version(file: Path) -> None:
    migrate_to(file, 1)
    before = content(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        (pages,) = connection.execute("pragma page_count").fetchone()
        connection.execute(f"pragma max_page_count = {pages}")
        with pytest.raises(StoreError, match="disk is full; make room"):
            migrate(connection)
        assert not connection.in_transaction
        assert content(file) == before
        connection.execute(f"pragma max_page_count = {pages * 100}")
        assert migrate(connection) == ALL_VERSIONS[1:]
