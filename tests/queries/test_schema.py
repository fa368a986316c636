"""tools/generate_schema.py: sql/schema.sql, and the checksums of the migrations that landed."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from shutil import copytree

import pytest

import generate_tables
from durable_workflow_sqlite import SCHEMA_VERSION, SqliteCheckpointStore, migrate, validate_schema
from generate import COLUMNS, MIGRATIONS, ROOT
from generate_schema import SCHEMA, LandedMigrationError, checksums, schema

Object = tuple[str, str, str, str | None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations and their checksums, to be changed."""
    return Path(copytree(ROOT / MIGRATIONS, tmp_path / "migrations"))


def objects(connection: sqlite3.Connection) -> list[Object]:
    return connection.execute(
        "select type, name, tbl_name, sql from sqlite_schema order by type, name"
    ).fetchall()


# schema.sql


def test_the_committed_schema_is_current() -> None:
    assert (ROOT / SCHEMA).read_text(encoding="utf-8") == schema(ROOT / MIGRATIONS)


def test_the_schema_is_what_a_new_file_gets(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    asyncio.run(SqliteCheckpointStore.file(file).close())
    with (
        closing(sqlite3.connect(file)) as migrated,
        closing(sqlite3.connect(":memory:")) as from_schema,
    ):
        from_schema.executescript((ROOT / SCHEMA).read_text(encoding="utf-8"))
        assert objects(from_schema) == objects(migrated)


def test_the_schema_names_its_version() -> None:
    first, *_ = (ROOT / SCHEMA).read_text(encoding="utf-8").splitlines()
    assert f"schema version {SCHEMA_VERSION}," in first
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection)
        assert connection.execute("pragma user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_database_made_from_the_schema_by_hand_lacks_only_its_version() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript((ROOT / SCHEMA).read_text(encoding="utf-8"))
        assert validate_schema(connection)[0] == f"the schema has version 0, not {SCHEMA_VERSION}"
        assert not [problem for problem in validate_schema(connection) if "missing" in problem]


def test_a_new_migration_changes_the_schema(folder: Path) -> None:
    (folder / f"{SCHEMA_VERSION + 1:03}_add_notes.sql").write_text(
        "create table notes (words text);\n"
    )
    assert schema(folder).endswith("\n\nCREATE TABLE notes (words text);\n")


# checksums.txt


def test_the_committed_checksums_are_current() -> None:
    committed = (ROOT / MIGRATIONS / "checksums.txt").read_text(encoding="utf-8")
    assert committed == checksums(ROOT / MIGRATIONS)
    names = [line.split()[1] for line in committed.splitlines()]
    assert names == sorted(path.name for path in (ROOT / MIGRATIONS).glob("*.sql"))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / MIGRATIONS).glob("*.sql")))
def test_an_edited_migration_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    # The smallest change there is: a space in a comment.
    path.write_text(path.read_text(encoding="utf-8").replace("-- ", "--  ", 1), encoding="utf-8")
    with pytest.raises(LandedMigrationError) as caught:
        checksums(folder)
    assert str(caught.value).startswith(f"{path}: its text has changed")


def test_a_deleted_migration_is_refused(folder: Path) -> None:
    last = sorted(folder.glob("*.sql"))[-1]
    last.unlink()
    with pytest.raises(LandedMigrationError) as caught:
        checksums(folder)
    assert str(caught.value).startswith(f"{last}: is gone")


def test_a_renamed_migration_is_refused(folder: Path) -> None:
    first = min(folder.glob("*.sql"))
    first.rename(folder / "001_make_tables.sql")
    with pytest.raises(LandedMigrationError, match="is gone"):
        checksums(folder)


def test_everything_that_was_done_to_migrations_is_said_at_once(folder: Path) -> None:
    first, second, *_ = sorted(folder.glob("*.sql"))
    first.write_text("create table other (x);\n")
    second.unlink()
    with pytest.raises(LandedMigrationError) as caught:
        checksums(folder)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        str(first),
        str(second),
    ]


def test_a_new_migration_is_added_at_the_end(folder: Path) -> None:
    before = checksums(folder)
    (folder / "999_add_notes.sql").write_text("create table notes (words text);\n")
    after = checksums(folder)
    assert after.startswith(before)
    (added,) = after.removeprefix(before).splitlines()
    assert added.endswith("  999_add_notes.sql")

    (folder / "checksums.txt").write_text(after)
    (folder / "999_add_notes.sql").write_text("create table notes (words blob);\n")
    with pytest.raises(LandedMigrationError, match=r"999_add_notes\.sql: its text has changed"):
        checksums(folder)


def test_the_checksums_are_those_of_sha256sum(folder: Path) -> None:
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "checksums.txt"],
        cwd=folder,
        check=True,
        timeout=60,
    )


# columns.sql


def test_a_column_that_is_not_described_is_refused(tmp_path: Path) -> None:
    columns = tmp_path / "columns.sql"
    text = (ROOT / COLUMNS).read_text()
    columns.write_text(
        text.replace("-- fire_at                the deadline\n", "").replace(
            "-- priority ", "-- importance "
        )
    )
    with pytest.raises(generate_tables.ColumnsError) as caught:
        generate_tables.generate(ROOT / MIGRATIONS, columns, ROOT / generate_tables.OUTPUT)
    for problem in (
        "workflow_timers.fire_at is not described",
        "workflow_executions.priority is not described",
        "workflow_executions has no column importance",
    ):
        assert problem in str(caught.value)
