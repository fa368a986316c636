"""Bringing a database to the schema of this library, one numbered file of `sql/` at a time.

The last migration also makes the views of `sql/views` that differ, in its own transaction. So a
file that has the newest version has the newest views; who only opens it makes none.

Nothing here writes SQL but PRAGMAs and transaction control: the rest is in the files, and in the
database itself, where others have added to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

from durable_workflow_sqlite.errors import MigrationError, SchemaTooNewError, StoreError
from durable_workflow_sqlite.store.additions import Additions
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS, database_path
from durable_workflow_sqlite.store.migration_files import (
    Migration,
    Statement,
    View,
    read_migrations,
    read_views,
)
from durable_workflow_sqlite.store.queries import TABLES
from durable_workflow_sqlite.store.schema import (
    expected_objects,
    migration_errors,
    new_database,
    objects_of,
    our_tables,
    tables_of,
    under_first_pragmas,
    views_that_differ,
)
from durable_workflow_sqlite.store.sql import MIGRATIONS_DIR, VIEWS_DIR
from durable_workflow_sqlite.store.sqlite_errors import FAILURES, is_of_the_statement, translate


def load_migrations(directory: Path = MIGRATIONS_DIR) -> list[Migration]:
    """The migrations of a folder, numbered from 1 without gaps or twins, or MigrationError.

    Those of the library are listed once: each time that a file is opened, it needs them.
    """
    if directory == MIGRATIONS_DIR:
        return list(_SHIPPED)
    with migration_errors():
        return read_migrations(directory)


@cache
def load_views() -> tuple[View, ...]:
    """The views of the library, or MigrationError."""
    with migration_errors():
        return tuple(read_views(VIEWS_DIR))


with migration_errors():
    _SHIPPED: Final = read_migrations(MIGRATIONS_DIR)

SCHEMA_VERSION: Final = len(_SHIPPED)
"""The version of the schema that this library needs: the number of its last migration."""


def migrate(connection: sqlite3.Connection, *, adopt: bool = False) -> list[int]:
    """Apply the migrations that are pending, each in a transaction; return their versions.

    A view of the library that somebody dropped or edited is made again.

    adopt: add our tables to a database that holds somebody else's and has no version of its own.

    Raises, with the file as the last whole migration left it: SchemaTooNewError,
    StoreBusyError, StoreCorruptError, MigrationError (another application's database, a failing
    statement), or StoreError (read-only, full, a transaction is open). A file that needs nothing
    is only read.
    """
    applied = apply_pending(connection, adopt=adopt)
    rebuild_views(connection)
    return applied


def apply_pending(connection: sqlite3.Connection, *, adopt: bool = False) -> list[int]:
    """`migrate`, when a file is opened: the views of one that is up to date stay as they are."""
    applied: list[int] = []
    apply(
        connection,
        load_migrations(),
        load_views,
        adopt=adopt,
        on_applied=lambda migration: applied.append(migration.version),
    )
    return applied


def rebuild_views(connection: sqlite3.Connection) -> list[str]:
    """Make the views of the library that are missing or were edited; return their names.

    Of a database that is up to date. Raises as `migrate` does.
    """
    if not views_to_rebuild(connection):
        return []
    with _plain(connection, "make the views of") as path:
        connection.execute("begin immediate")
        try:
            made = _make_views(connection, path, load_views())
            connection.execute("commit")
        except BaseException:
            _roll_back(connection)
            raise
    return made


def views_to_rebuild(connection: sqlite3.Connection) -> list[View]:
    """The views that `rebuild_views` would make now. Only reads."""
    with _plain(connection, "read the schema of"):
        return views_that_differ(connection, load_views())


def views_after(migrations: Sequence[Migration]) -> list[View]:
    """The views that migrations leave otherwise, and that are made with the last of them."""
    with new_database(tuple(migrations)) as connection:
        return views_that_differ(connection, load_views())


def apply(
    connection: sqlite3.Connection,
    migrations: Sequence[Migration],
    views: Callable[[], Sequence[View]] = tuple,
    *,
    adopt: bool = False,
    on_applied: Callable[[Migration], object],
) -> None:
    """`migrate`, with the migrations and views given.

    `on_applied` is called after each migration is committed. The views are read, and made, with the
    last one.
    """
    todo = pending(connection, migrations, adopt=adopt)
    if not todo:
        return
    with _plain(connection, "migrate") as path, under_first_pragmas(connection):
        for migration in todo:
            with migration_errors():
                statements = migration.statements()
            connection.execute("begin immediate")
            try:
                # Somebody else may have applied it since; in here, nobody can any more.
                (version,) = connection.execute("pragma user_version").fetchone()
                still_todo = [migration]
                if version == 0 or version != migration.version - 1:
                    still_todo = _pending(connection, path, migrations, adopt=adopt)
                if migration in still_todo:
                    older = migrations[: migration.version - 1]
                    # Nobody has added to tables that are not there yet.
                    before = Additions.to(connection, older) if todo[0].version > 1 else None
                    _apply(connection, migration, statements)
                    if migration is todo[-1]:
                        _make_views(connection, path, views())
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

    Looks for missing tables, columns, indexes and views, for views that were edited, and for
    PRAGMAs that do not hold.
    Raises StoreError, and StoreCorruptError if it is not a database.
    """
    problems: list[str] = []
    with _plain(connection, "read the schema of") as path:
        (version,) = connection.execute("pragma user_version").fetchone()
        if version != SCHEMA_VERSION:
            problems.append(f"the schema has version {version}, not {SCHEMA_VERSION}")
        found = objects_of(connection)
        missing = expected_objects(tuple(load_migrations())) - found
        problems += [f"the {kind} {name} is missing" for kind, name in sorted(missing)]
        if version == SCHEMA_VERSION:
            problems += [
                f"the view {view.name} is"
                f" {'different' if ('view', view.name) in found else 'missing'};"
                " `durable-workflow migrate` creates it again"
                for view in views_that_differ(connection, load_views())
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
    tables = tables_of(connection)
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

    # Those of the newest version are written down, since each file that is opened needs them.
    is_newest = migrations[:version] == _SHIPPED
    ours = TABLES if is_newest else our_tables(migrations[: max(version, 1)])
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


def _make_views(
    connection: sqlite3.Connection, path: str | None, views: Sequence[View]
) -> list[str]:
    """Make those that differ, in the transaction that is open; return their names."""
    todo = views_that_differ(connection, views)
    found = tables_of(connection) if todo else {}
    for view in todo:
        if found.get(view.name, "view") != "view":
            raise MigrationError(
                f"{path or 'the database in memory'} has a table {view.name}, where the library"
                " has a view; give the table another name"
            )
        connection.execute(view.drop)
        connection.execute(view.create)
    return [view.name for view in todo]


def _check_references(
    connection: sqlite3.Connection, migration: Migration, migrations: Sequence[Migration]
) -> None:
    # Table by table, since what an adopted database holds beside ours is not our concern.
    broken = [
        row
        for table in sorted(our_tables(migrations[: migration.version]))
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
    """Plain rows and text, whatever the connection's owner likes, restored afterwards.

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
