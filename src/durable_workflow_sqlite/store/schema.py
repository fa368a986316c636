"""The schema of a database, and the one that migrations and views add up to."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from functools import cache, lru_cache

from durable_workflow_sqlite.errors import MigrationError
from durable_workflow_sqlite.store.migration_files import (
    FIRST,
    Migration,
    MigrationFileError,
    View,
)
from durable_workflow_sqlite.store.sql import load_queries


def tables_of(connection: sqlite3.Connection) -> dict[str, str]:
    """The tables of a database, and its views: the kind of each, by name."""
    # Not `pragma table_list`: it works out the columns of each view, which takes milliseconds.
    return {
        row.name: row.type
        for row in load_queries().load_schema_objects(connection)
        if row.type in ("table", "view")
    }


def objects_of(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Tables, columns (as table.column), indexes, triggers and views, by kind and name."""
    found: set[tuple[str, str]] = set()
    for one in load_queries().load_schema_objects(connection):
        kind, table = one.type, one.name
        if kind in ("table", "trigger", "view"):
            found.add((kind, table))
        if kind != "table":
            continue  # its columns are the tables'; where one of these is gone, it has none
        quoted = '"' + table.replace('"', '""') + '"'
        for _, column, *_ in connection.execute(f"pragma main.table_info({quoted})"):
            found.add(("column", f"{table}.{column}"))
        for _, index, _, origin, _ in connection.execute(f"pragma main.index_list({quoted})"):
            if origin == "c":  # made by `create index`, and not by a constraint
                found.add(("index", index))
    return found


def statements_of(connection: sqlite3.Connection) -> dict[str, str]:
    """What made the indexes and triggers of a database, by name."""
    return {
        row.name: row.sql
        for row in load_queries().load_schema_objects(connection)
        if row.type in ("index", "trigger")
    }


def our_tables(migrations: Sequence[Migration]) -> frozenset[str]:
    return _expected_tables(tuple(migrations))


@cache
def _expected_tables(migrations: tuple[Migration, ...]) -> frozenset[str]:
    with new_database(migrations) as connection:
        return frozenset(name for name, kind in tables_of(connection).items() if kind == "table")


@cache
def expected_objects(migrations: tuple[Migration, ...]) -> frozenset[tuple[str, str]]:
    """The tables, columns, indexes and triggers that migrations add up to."""
    with new_database(migrations) as connection:
        return frozenset(one for one in objects_of(connection) if one[0] != "view")


@cache
def expected_statements(migrations: tuple[Migration, ...]) -> frozenset[str]:
    """The indexes and triggers that migrations add up to."""
    with new_database(migrations) as connection:
        return frozenset(statements_of(connection))


def views_that_differ(connection: sqlite3.Connection, views: Sequence[View]) -> list[View]:
    """Which of these views a database lacks, or has with another text."""
    found = {
        row.name: normal(row.sql)
        for row in load_queries().load_schema_objects(connection)
        if row.type == "view"
    }
    return [view for view in views if found.get(view.name) != normal(view.kept)]


def normal(sql: str) -> str:
    """The text of a statement, without what SQLite changes in it as it renames a table."""
    return " ".join(sql.replace('"', "").split())


@contextmanager
def new_database(migrations: tuple[Migration, ...]) -> Generator[sqlite3.Connection]:
    """A database in memory that migrations made. Raises MigrationError."""
    with migration_errors(), closing(_in_memory(migrations)) as connection:
        yield connection


def _in_memory(migrations: tuple[Migration, ...]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if migrations:
        connection.deserialize(_bytes_of(migrations))
    return connection


@lru_cache(maxsize=2)
def _bytes_of(migrations: tuple[Migration, ...]) -> bytes:
    """A database that was migrated: the one before it, and the last migration.

    A file is migrated one version after the other, so each of these is made once.
    """
    *before, last = migrations
    with closing(_in_memory(tuple(before))) as connection, under_first_pragmas(connection):
        for statement in last.statements():
            connection.execute(statement.text)
        return connection.serialize()


@contextmanager
def migration_errors() -> Generator[None]:
    try:
        yield
    except MigrationFileError as error:
        raise MigrationError(str(error), version=error.version) from None


@contextmanager
def under_first_pragmas(connection: sqlite3.Connection) -> Generator[None]:
    before = {name: connection.execute(f"pragma {name}").fetchone()[0] for name in FIRST}
    for name, value in FIRST.items():
        connection.execute(f"pragma {name} = {value}")
    try:
        yield
    finally:
        for name, value in before.items():
            connection.execute(f"pragma {name} = {value}")
