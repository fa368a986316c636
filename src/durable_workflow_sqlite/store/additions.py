"""Indexes and triggers that others have added, kept by a migration that rebuilds a table."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from durable_workflow_sqlite.errors import MigrationError
from durable_workflow_sqlite.store.migration_files import Migration
from durable_workflow_sqlite.store.schema import (
    expected_objects,
    expected_statements,
    objects_of,
    our_tables,
    statements_of,
)
from durable_workflow_sqlite.store.sqlite_errors import is_of_the_statement


class Additions(NamedTuple):
    """What others have added to our tables: a migration that rebuilds a table drops it."""

    columns: frozenset[str]
    statements: dict[str, str]
    """What made their indexes and triggers, by name."""

    @classmethod
    def to(cls, connection: sqlite3.Connection, migrations: Sequence[Migration]) -> Additions:
        tables = our_tables(migrations)
        ours = expected_statements(tuple(migrations))
        return cls(
            frozenset(
                name
                for kind, name in objects_of(connection) - expected_objects(tuple(migrations))
                if kind == "column" and name.partition(".")[0] in tables
            ),
            {name: sql for name, sql in statements_of(connection).items() if name not in ours},
        )

    def restore(self, connection: sqlite3.Connection, migration: Migration) -> None:
        """Make the indexes and triggers again that are gone. Raises MigrationError for columns."""
        what = "column"
        lost = sorted(self.columns - {name for _, name in objects_of(connection)})
        if not lost:
            what = "index or trigger"
            there = statements_of(connection)
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
