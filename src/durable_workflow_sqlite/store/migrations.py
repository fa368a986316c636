"""Bringing a database to the schema of this library, one numbered file of `sql/` at a time."""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from durable_workflow_sqlite.errors import (
    MigrationError,
    SchemaTooNewError,
    StoreCorruptError,
    StoreError,
)
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS, database_path
from durable_workflow_sqlite.store.sql import MIGRATIONS_DIR
from durable_workflow_sqlite.store.sqlite_errors import is_busy, translate

_FILE_NAME: Final = re.compile(r"(\d{3})_\w+\.sql")


class Statement(NamedTuple):
    line: int
    text: str


class Migration(NamedTuple):
    """One file of `sql/migrations`."""

    version: int
    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    def statements(self) -> list[Statement]:
        """The file's statements; raises MigrationError if it is not one to a line."""
        statements: list[Statement] = []
        text, first_line = "", 0
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            if not text and (not line.strip() or line.lstrip().startswith("--")):
                continue
            first_line = first_line if text else number
            text += line + "\n"
            if sqlite3.complete_statement(text):
                if _holds_two(text):
                    raise self._error(number, "holds two statements on one line; part them")
                statements.append(Statement(first_line, text))
                text = ""
        if text:
            raise self._error(first_line, "begins a statement that no semicolon ends")
        return statements

    def _error(self, line: int, problem: str) -> MigrationError:
        return MigrationError(f"{self.path.name}, line {line}, {problem}", version=self.version)


def load_migrations(directory: Path = MIGRATIONS_DIR) -> list[Migration]:
    """The migrations of a folder, numbered from 1 without gaps or twins, or MigrationError."""
    migrations: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None or int(match[1]) != len(migrations) + 1:
            raise MigrationError(
                f"{path.name} should be migration {len(migrations) + 1:03}, named"
                f" {len(migrations) + 1:03}_verb_noun.sql: numbers go from 001 without gaps or twins"
            )
        migrations.append(Migration(len(migrations) + 1, path))
    return migrations


SCHEMA_VERSION: Final = len(load_migrations())
"""The version of the schema that this library needs: the number of its last migration."""


def migrate(connection: sqlite3.Connection, *, adopt: bool = False) -> list[int]:
    """Apply the migrations that are pending, each in a transaction; return their versions.

    adopt: add our tables to a database that holds somebody else's and has no version of its own.

    Raises, with the file as the last whole migration left it: SchemaTooNewError,
    StoreBusyError, StoreCorruptError, StoreError (read-only, full), or MigrationError (another
    application's database, a failing statement). A file that needs nothing is only read.
    """
    return apply(connection, load_migrations(), adopt=adopt)


def pending(
    connection: sqlite3.Connection, migrations: Sequence[Migration], *, adopt: bool = False
) -> list[Migration]:
    """The migrations that `apply` would apply now; raises as it does."""
    path = database_path(connection)
    (version,) = connection.execute("pragma user_version").fetchone()
    if version > len(migrations):
        raise SchemaTooNewError(
            f"{path or 'the database in memory'} has schema version {version}, and this library"
            f" knows versions up to {len(migrations)}; update durable-workflow-sqlite",
            found=version,
            supported=len(migrations),
        )
    _check_owner(connection, version, path, adopt=adopt)
    return list(migrations[version:])


def apply(
    connection: sqlite3.Connection, migrations: Sequence[Migration], *, adopt: bool = False
) -> list[int]:
    """`migrate`, with the migrations given."""
    if connection.in_transaction:
        raise StoreError("the connection is in a transaction; commit or roll it back first")
    path = database_path(connection)
    applied: list[int] = []
    try:
        with _plain(connection):
            if not pending(connection, migrations, adopt=adopt):
                return []
            with _without_foreign_keys(connection):
                for migration in migrations:
                    if _apply_one(connection, migration, migrations, adopt=adopt):
                        applied.append(migration.version)
    except sqlite3.Error as error:
        raise translate(error, "migrate", path) from error
    return applied


def validate_schema(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with a database and a connection to it, in short sentences; [] if nothing is.

    Looks for missing tables, columns and indexes, and for PRAGMAs that do not hold.
    """
    problems: list[str] = []
    with _plain(connection):
        (version,) = connection.execute("pragma user_version").fetchone()
        if version != SCHEMA_VERSION:
            problems.append(f"the schema has version {version}, not {SCHEMA_VERSION}")
        found = _objects(connection)
        for kind, name in _expected_objects(SCHEMA_VERSION):
            if (kind, name) not in found:
                problems.append(f"the {kind} {name} is missing")
        problems += [
            f"pragma {name} is {value!r}, and should be {wanted}"
            for name, value, wanted in _pragmas_that_do_not_hold(connection)
        ]
    return problems


def _apply_one(
    connection: sqlite3.Connection,
    migration: Migration,
    migrations: Sequence[Migration],
    *,
    adopt: bool,
) -> bool:
    """Apply one migration, unless somebody else has done so in the meantime."""
    statements = migration.statements()
    connection.execute("begin immediate")
    try:
        # Inside the transaction: nobody can come in between any more.
        if migration not in pending(connection, migrations, adopt=adopt):
            connection.execute("rollback")
            return False
        for statement in statements:
            try:
                connection.execute(statement.text)
            except sqlite3.Error as error:
                if is_busy(error) or not isinstance(error, sqlite3.DatabaseError):
                    raise
                if _is_fault_of_the_disk(error):
                    raise
                raise MigrationError(
                    f"migration {migration.path.name} failed at line {statement.line}: {error};"
                    " the database is as it was",
                    version=migration.version,
                ) from error
        broken = connection.execute("pragma foreign_key_check").fetchall()
        if broken:
            raise MigrationError(
                f"after migration {migration.path.name}, {len(broken)} rows would refer to nothing,"
                f" the first in table {broken[0][0]}; the database is as it was",
                version=migration.version,
            )
        connection.execute(f"pragma user_version = {migration.version}")
        connection.execute("commit")
    except BaseException:
        # A second error must not hide the first.
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("rollback")
        raise
    return True


def _is_fault_of_the_disk(error: sqlite3.Error) -> bool:
    return type(translate(error, "", None)) is StoreCorruptError or (
        (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
    )


def _check_owner(
    connection: sqlite3.Connection, version: int, path: str | None, *, adopt: bool
) -> None:
    """Refuse a database that another application made."""
    found = _objects(connection)
    where = path or "the database in memory"
    if version:
        missing = [name for one, name in _expected_objects(version) if one == "table"]
        missing = [name for name in missing if ("table", name) not in found]
        if missing:
            raise MigrationError(
                f"{where} says that it has schema version {version}, but lacks the table"
                f" {missing[0]}: it is another application's, or was changed by hand"
            )
        return
    others = sorted(name for kind, name in found if kind == "table")
    if others and not adopt:
        raise MigrationError(
            f"{where} belongs to another application: it has the table {others[0]} and none of"
            " ours. To add ours to it on purpose, use --adopt, or migrate(connection, adopt=True)"
        )


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Tables, their columns (as table.column), views and indexes of a database, by kind and name."""
    found: set[tuple[str, str]] = set()
    for row in connection.execute("pragma main.table_list").fetchall():
        table, kind = row[1], row[2]
        if table.startswith("sqlite_"):
            continue
        found.add((kind, table))
        quoted = '"' + table.replace('"', '""') + '"'
        for column in connection.execute(f"pragma main.table_info({quoted})"):
            found.add(("column", f"{table}.{column[1]}"))
        for index in connection.execute(f"pragma main.index_list({quoted})"):
            if index[3] == "c":
                found.add(("index", index[1]))
    return found


@functools.cache
def _expected_objects(version: int) -> tuple[tuple[str, str], ...]:
    """What the migrations up to a version add up to."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for migration in load_migrations()[:version]:
            for statement in migration.statements():
                connection.execute(statement.text)
        return tuple(sorted(_objects(connection)))
    finally:
        connection.close()


def _pragmas_that_do_not_hold(connection: sqlite3.Connection) -> Iterator[tuple[str, object, str]]:
    in_memory = database_path(connection) is None
    wanted = (
        ("journal_mode", {"memory"} if in_memory else {"wal"}, "wal"),
        ("foreign_keys", {1}, "on"),
        ("synchronous", {1, 2}, "normal or full"),
        ("busy_timeout", None, f"at least {BUSY_TIMEOUT_MS}"),
    )
    for name, good, words in wanted:
        (value,) = connection.execute(f"pragma {name}").fetchone()
        if value not in good if good is not None else value < BUSY_TIMEOUT_MS:
            yield name, value, words


@contextmanager
def _plain(connection: sqlite3.Connection) -> Iterator[None]:
    """Autocommit and plain rows, whatever the connection's owner likes; given back afterwards."""
    before = connection.isolation_level, connection.row_factory, connection.text_factory
    connection.isolation_level, connection.row_factory, connection.text_factory = None, None, str
    try:
        yield
    finally:
        connection.isolation_level, connection.row_factory, connection.text_factory = before


@contextmanager
def _without_foreign_keys(connection: sqlite3.Connection) -> Iterator[None]:
    """A table cannot be rebuilt while they are enforced, and inside a transaction it is too late."""
    (before,) = connection.execute("pragma foreign_keys").fetchone()
    connection.execute("pragma foreign_keys = off")
    try:
        yield
    finally:
        connection.execute(f"pragma foreign_keys = {before}")


def _holds_two(text: str) -> bool:
    """Whether a statement that is complete at a line's end was complete before it."""
    last_line = text.rstrip().rpartition("\n")[2]
    before = text[: len(text.rstrip()) - len(last_line)]
    return any(
        sqlite3.complete_statement(before + last_line[: position + 1])
        and last_line[position + 1 :].strip()
        and not last_line[position + 1 :].lstrip().startswith("--")
        for position, character in enumerate(last_line)
        if character == ";"
    )
