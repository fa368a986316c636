"""Copies the rows of a file of SQLite into an empty schema of PostgreSQL, as they are."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

TABLES_WITHOUT_ROWS = frozenset({"workflow_leases", "workflow_migrations"})


def copy_rows(
    connection: sqlite3.Connection, server: psycopg.Connection[tuple[Any, ...]], schema: str
) -> None:
    """Copy all tables. No trigger fires, and no reference is checked: the file may be broken."""
    with server.transaction():
        server.execute("set local session_replication_role = replica")
        for table, columns in _tables(server, schema).items():
            names = [name for name in columns if (table, name) != ("workflow_executions", ROW)]
            number = ", rowid" if ROW in columns else ""
            rows = connection.execute(f"select {', '.join(names)}{number} from {table}").fetchall()
            into = [*names, *([ROW] if number else [])]
            marks = ", ".join(f"cast(%s as {columns[name]})" for name in into)
            statement = f"insert into {schema}.{table} ({', '.join(into)}) values ({marks})"
            with server.cursor() as cursor:
                cursor.executemany(
                    statement.encode(), [[_text(value) for value in row] for row in rows]
                )
        given = dict(connection.execute("select name, seq from sqlite_sequence").fetchall())
        for table, column in server.execute(_NUMBERED, [schema]).fetchall():
            server.execute(
                f"select setval(pg_get_serial_sequence('{schema}.{table}', '{column}'),"
                f" greatest(max({column}), {given.get(table, 0)}, 1),"
                f" max({column}) is not null or {given.get(table, 0)} > 0)"
                f" from {schema}.{table}".encode()
            )


_NUMBERED = (
    "select table_name, column_name from information_schema.columns"
    " where table_schema = %s and is_identity = 'YES'"
)

ROW = "row_number"
"""What stands in for the rowid."""


def _tables(server: psycopg.Connection[tuple[Any, ...]], schema: str) -> dict[str, dict[str, str]]:
    found = server.execute(
        "select columns.table_name, column_name, data_type from information_schema.columns"
        " inner join information_schema.tables using (table_schema, table_name)"
        " where table_schema = %s and table_type = 'BASE TABLE' order by ordinal_position",
        [schema],
    )
    tables: dict[str, dict[str, str]] = {}
    for table, column, type_ in found:
        if table not in TABLES_WITHOUT_ROWS:
            tables.setdefault(str(table), {})[str(column)] = str(type_)
    return tables


def _text(value: object) -> str | None:
    return None if value is None else str(value)
