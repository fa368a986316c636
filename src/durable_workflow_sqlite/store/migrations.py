"""Bringing a database to the schema of this library, one numbered file of `sql/` at a time.

Nothing here writes SQL but PRAGMAs and transaction control: the rest is in the files, and in the
database itself, where others have added to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from durable_workflow_sqlite.errors import MigrationError, SchemaTooNewError, StoreError
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS, database_path
from durable_workflow_sqlite.store.migration_files import (
    FIRST,
    Migration,
    MigrationFileError,
    Statement,
    read_migrations,
)
from durable_workflow_sqlite.store.sql import MIGRATIONS_DIR, load_queries
from durable_workflow_sqlite.store.sqlite_errors import FAILURES, is_of_the_statement, translate


def load_migrations(directory: Path = MIGRATIONS_DIR) -> list[Migration]:
    """The migrations of a folder, numbered from 1 without gaps or twins, or MigrationError."""
    with _migration_errors():
        return read_migrations(directory)


@contextmanager
def _migration_errors() -> Generator[None]:
    try:
        yield
    except MigrationFileError as error:
        raise MigrationError(str(error), version=error.version) from None


SCHEMA_VERSION: Final = len(load_migrations())
"""The version of the schema that this library needs: the number of its last migration."""


def migrate(connection: sqlite3.Connection, *, adopt: bool = False) -> list[int]:
    """Apply the migrations that are pending, each in a transaction; return their versions.

    adopt: add our tables to a database that holds somebody else's and has no version of its own.

    Raises, with the file as the last whole migration left it: SchemaTooNewError,
    StoreBusyError, StoreCorruptError, MigrationError (another application's database, a failing
    statement), or StoreError (read-only, full, a transaction is open). A file that needs nothing
    is only read.
    """
    applied: list[int] = []
    apply(
        connection,
        load_migrations(),
        adopt=adopt,
        on_applied=lambda migration: applied.append(migration.version),
    )
    return applied


def apply(
    connection: sqlite3.Connection,
    migrations: Sequence[Migration],
    *,
    adopt: bool = False,
    on_applied: Callable[[Migration], object],
) -> None:
    """`migrate`, with the migrations given; `on_applied` is called after each is committed."""
    todo = pending(connection, migrations, adopt=adopt)
    if not todo:
        return
    with _plain(connection, "migrate") as path, _under_first_pragmas(connection):
        for migration in todo:
            with _migration_errors():
                statements = migration.statements()
            connection.execute("begin immediate")
            try:
                # Somebody else may have applied it since; in here, nobody can any more.
                still_todo = _pending(connection, path, migrations, adopt=adopt)
                if migration in still_todo:
                    older = migrations[: migration.version - 1]
                    # Nobody has added to tables that are not there yet.
                    before = _Additions.to(connection, older) if todo[0].version > 1 else None
                    _apply(connection, migration, statements)
                    if before is not None:
                        before.restore(connection, migration)
                    _check_references(connection, migration, migrations)
                    connection.execute(f"pragma user_version = {migration.version}")
                connection.execute("commit")
            except BaseException:
                _roll_back(connection)
                raise
            if migration in still_todo:
                on_applied(migration)


def pending(
    connection: sqlite3.Connection, migrations: Sequence[Migration], *, adopt: bool = False
) -> list[Migration]:
    """The migrations that `apply` would apply now. Only reads, and raises as `apply` does."""
    with _plain(connection, "read the schema of") as path:
        if connection.in_transaction:
            raise StoreError("the connection is in a transaction; commit or roll it back first")
        # In one transaction: a version and the tables of another version would not fit.
        connection.execute("begin")
        try:
            return _pending(connection, path, migrations, adopt=adopt)
        finally:
            _roll_back(connection)


def validate_schema(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with a database and a connection to it, in short sentences; [] if nothing is.

    Looks for missing tables, columns, indexes and views, and for PRAGMAs that do not hold.
    Raises StoreError, and StoreCorruptError if it is no database.
    """
    problems: list[str] = []
    with _plain(connection, "read the schema of") as path:
        (version,) = connection.execute("pragma user_version").fetchone()
        if version != SCHEMA_VERSION:
            problems.append(f"the schema has version {version}, not {SCHEMA_VERSION}")
        found = _objects(connection)
        problems += [
            f"the {kind} {name} is missing"
            for kind, name in sorted(_expected_objects(tuple(load_migrations())) - found)
        ]
        problems += [
            f"pragma {name} is {value!r}, and should be {wanted}"
            for name, value, wanted in _pragmas_that_do_not_hold(connection, in_memory=path is None)
        ]
    return problems


def _pending(
    connection: sqlite3.Connection,
    path: str | None,
    migrations: Sequence[Migration],
    *,
    adopt: bool,
) -> list[Migration]:
    where = path or "the database in memory"
    (version,) = connection.execute("pragma user_version").fetchone()
    tables = _tables(connection)
    if version == 0:
        # Litestream, if it was there first, has put its own tables into a file that is still new.
        others = [name for name in tables if not name.startswith("_litestream_")]
        if others and not adopt:
            raise MigrationError(
                f"{where} belongs to another application: it has the table {min(others)}, and no"
                " schema version. To add the tables of durable_workflow_sqlite to it on purpose,"
                " use --adopt, or migrate(connection, adopt=True)"
            )
        return list(migrations)

    ours = _our_tables(migrations[: max(version, 1)])
    if version < 0 or not ours & tables.keys():
        raise MigrationError(
            f"{where} belongs to another application: it has schema version {version}, and none of"
            " the tables of durable_workflow_sqlite; give another path"
        )
    if version > len(migrations):
        raise SchemaTooNewError(
            f"{where} has schema version {version}, and this library knows versions up to"
            f" {len(migrations)}; update durable-workflow-sqlite",
            found=version,
            supported=len(migrations),
        )
    if missing := ours - tables.keys():
        raise MigrationError(
            f"{where} has schema version {version}, but lacks the table {min(missing)}: it was"
            " changed by hand; restore a backup"
        )
    return list(migrations[version:])


def _apply(
    connection: sqlite3.Connection, migration: Migration, statements: Sequence[Statement]
) -> None:
    for statement in statements:
        try:
            connection.execute(statement.text)
        except sqlite3.Error as error:
            if not is_of_the_statement(error):
                raise
            raise MigrationError(
                f"migration {migration.path.name} failed at line {statement.line}: {error};"
                " the database is as it was before it",
                version=migration.version,
            ) from error


class _Additions(NamedTuple):
    """What others have added to our tables: a migration that rebuilds a table drops it."""

    columns: frozenset[str]
    statements: dict[str, str]
    """What made their indexes and triggers, by name."""

    @classmethod
    def to(cls, connection: sqlite3.Connection, migrations: Sequence[Migration]) -> _Additions:
        tables = _our_tables(migrations)
        ours = _expected_statements(tuple(migrations))
        return cls(
            frozenset(
                name
                for kind, name in _objects(connection) - _expected_objects(tuple(migrations))
                if kind == "column" and name.partition(".")[0] in tables
            ),
            {name: sql for name, sql in _statements(connection).items() if name not in ours},
        )

    def restore(self, connection: sqlite3.Connection, migration: Migration) -> None:
        """Make the indexes and triggers again that are gone. Raises MigrationError for columns."""
        what = "column"
        lost = sorted(self.columns - {name for _, name in _objects(connection)})
        if not lost:
            what = "index or trigger"
            there = _statements(connection)
            for name, statement in self.statements.items():
                if name not in there:
                    try:
                        connection.execute(statement)
                    except sqlite3.Error as error:
                        if not is_of_the_statement(error):
                            raise
                        lost.append(f"{name} ({error})")
        if lost:
            raise MigrationError(
                f"migration {migration.path.name} rebuilds a table, and cannot keep your own {what}"
                f" {lost[0]}; move it to a table of your own, and migrate again. The database is as"
                " it was before it",
                version=migration.version,
            )


def _statements(connection: sqlite3.Connection) -> dict[str, str]:
    """What made the indexes and triggers of a database, by name."""
    return {
        row.name: row.sql
        for row in load_queries().load_schema_objects(connection)
        if row.type in ("index", "trigger")
    }


def _check_references(
    connection: sqlite3.Connection, migration: Migration, migrations: Sequence[Migration]
) -> None:
    # Table by table, since what an adopted database holds beside ours is not our concern.
    broken = [
        row
        for table in sorted(_our_tables(migrations[: migration.version]))
        for row in connection.execute(f"pragma main.foreign_key_check({table})")
    ]
    if broken:
        table, _, referred, _ = broken[0]
        raise MigrationError(
            f"after migration {migration.path.name}, rows refer to rows that do not exist:"
            f" {len(broken)}, the first in table {table}, to table {referred}. List them with"
            " `pragma foreign_key_check`, correct them, and migrate again; the database is as it"
            " was before",
            version=migration.version,
        )


def _roll_back(connection: sqlite3.Connection) -> None:
    # Most often because of an error, which a second one must not hide.
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("rollback")


def _tables(connection: sqlite3.Connection) -> dict[str, str]:
    """The tables of a database, and its views: the kind of each, by name."""
    return {
        name: "view" if kind == "view" else "table"
        for _, name, kind, *_ in connection.execute("pragma main.table_list").fetchall()
        if not name.startswith("sqlite_")
    }


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Tables, columns (as table.column), indexes and views of a database, by kind and name."""
    found: set[tuple[str, str]] = set()
    for table, kind in _tables(connection).items():
        found.add((kind, table))
        if kind == "view":
            continue  # its columns are the tables'; where one of these is gone, it has none
        quoted = '"' + table.replace('"', '""') + '"'
        for _, column, *_ in connection.execute(f"pragma main.table_info({quoted})"):
            found.add(("column", f"{table}.{column}"))
        for _, index, _, origin, _ in connection.execute(f"pragma main.index_list({quoted})"):
            if origin == "c":  # made by `create index`, and not by a constraint
                found.add(("index", index))
    return found


def _our_tables(migrations: Sequence[Migration]) -> set[str]:
    return {name for kind, name in _expected_objects(tuple(migrations)) if kind == "table"}


@cache
def _expected_objects(migrations: tuple[Migration, ...]) -> frozenset[tuple[str, str]]:
    """What migrations add up to."""
    with _new_database(migrations) as connection:
        return frozenset(_objects(connection))


@cache
def _expected_statements(migrations: tuple[Migration, ...]) -> frozenset[str]:
    """The indexes and triggers that migrations add up to."""
    with _new_database(migrations) as connection:
        return frozenset(_statements(connection))


@contextmanager
def _new_database(migrations: tuple[Migration, ...]) -> Generator[sqlite3.Connection]:
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as connection,
        _under_first_pragmas(connection),
        _migration_errors(),
    ):
        for migration in migrations:
            for statement in migration.statements():
                connection.execute(statement.text)
        yield connection


def _pragmas_that_do_not_hold(
    connection: sqlite3.Connection, *, in_memory: bool
) -> Iterator[tuple[str, object, str]]:
    (journal_mode,) = connection.execute("pragma journal_mode").fetchone()
    if journal_mode != ("memory" if in_memory else "wal"):
        yield "journal_mode", journal_mode, "wal"
    (foreign_keys,) = connection.execute("pragma foreign_keys").fetchone()
    if not foreign_keys:
        yield "foreign_keys", foreign_keys, "on"
    (synchronous,) = connection.execute("pragma synchronous").fetchone()
    if not synchronous:
        yield "synchronous", synchronous, "normal or full"
    (busy_timeout,) = connection.execute("pragma busy_timeout").fetchone()
    if busy_timeout < BUSY_TIMEOUT_MS:
        yield "busy_timeout", busy_timeout, f"at least {BUSY_TIMEOUT_MS}"


@contextmanager
def _plain(connection: sqlite3.Connection, doing: str) -> Generator[str | None]:
    """Plain rows and text, whatever the connection's owner likes, given back afterwards.

    Yields the database's path; an error of SQLite comes out as a StoreError. The isolation level
    stays: setting it may commit, and a transaction that is begun by hand has no use for it.
    """
    path: str | None = "the database"
    try:
        before = connection.row_factory, connection.text_factory
        connection.row_factory, connection.text_factory = None, str
        try:
            path = database_path(connection)
            yield path
        finally:
            connection.row_factory, connection.text_factory = before
    except FAILURES as error:
        raise translate(error, doing, path) from error


@contextmanager
def _under_first_pragmas(connection: sqlite3.Connection) -> Generator[None]:
    before = {name: connection.execute(f"pragma {name}").fetchone()[0] for name in FIRST}
    for name, value in FIRST.items():
        connection.execute(f"pragma {name} = {value}")
    try:
        yield
    finally:
        for name, value in before.items():
            connection.execute(f"pragma {name} = {value}")
