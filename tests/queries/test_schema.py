"""tools/generate_schema.py: sql/schema.sql, and the checksums of the migrations that landed."""

from __future__ import annotations

import asyncio
import itertools
import re
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations and their checksums, to be changed."""
    return Path(copytree(ROOT / MIGRATIONS, tmp_path / "migrations"))


# schema.sql


def test_the_committed_schema_is_current() -> None:
    made = schema(ROOT / MIGRATIONS, ROOT / COLUMNS)
    assert (ROOT / SCHEMA).read_text(encoding="utf-8") == made


def shape(connection: sqlite3.Connection) -> dict[str, object]:
    """All that the tables, indexes and triggers are, however their statements are written."""
    found: dict[str, object] = {}
    for kind, name, sql in connection.execute(
        "select type, name, sql from sqlite_schema where sql is not null and type != 'view'"
    ).fetchall():
        text = re.sub(r"\s+--[^\n]*|\s|\"", "", sql).lower()
        if kind != "table":
            found[name] = text
            continue
        checks = re.findall(r"constraint(\w+)check(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))", text)
        found[name] = (
            connection.execute(f"pragma table_xinfo({name})").fetchall(),
            sorted(row[2:] for row in connection.execute(f"pragma foreign_key_list({name})")),
            sorted(row[1:] for row in connection.execute(f"pragma index_list({name})")),
            sorted(checks),
            "autoincrement" in text,
            text.rpartition(")")[2],
        )
    return found


def test_the_schema_is_what_a_new_file_gets(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    asyncio.run(SqliteCheckpointStore.file(file).close())
    with (
        closing(sqlite3.connect(file)) as migrated,
        closing(sqlite3.connect(":memory:")) as from_schema,
    ):
        from_schema.executescript((ROOT / SCHEMA).read_text(encoding="utf-8"))
        by_hand, wanted = shape(from_schema), shape(migrated)
        assert by_hand.keys() == wanted.keys()
        for name, what in wanted.items():
            assert by_hand[name] == what, name


def test_each_column_has_a_line_with_its_meaning() -> None:
    lines = (ROOT / SCHEMA).read_text(encoding="utf-8").splitlines()
    tables = generate_tables.read_schema(ROOT / MIGRATIONS)
    for table, columns in tables.items():
        start = lines.index(f"create table {table} (")
        of_table = list(itertools.takewhile(bool, lines[start:]))
        for column in columns:
            (line,) = (line for line in of_table if line.startswith(f"    {column.name} "))
            assert " -- " in line
    assert max(map(len, lines)) <= 100


def test_the_schema_names_its_version() -> None:
    first, *_ = (ROOT / SCHEMA).read_text(encoding="utf-8").splitlines()
    assert f"schema of version {SCHEMA_VERSION}," in first
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection)
        assert connection.execute("pragma user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_database_made_by_hand_lacks_only_its_version() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for file in (ROOT / SCHEMA, *sorted((ROOT / "sql/views").glob("*.sql"))):
            connection.executescript(file.read_text(encoding="utf-8"))
        assert validate_schema(connection)[0] == f"the schema has version 0, not {SCHEMA_VERSION}"
        connection.execute(f"pragma user_version = {SCHEMA_VERSION}")
        assert not [one for one in validate_schema(connection) if not one.startswith("pragma ")]


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
