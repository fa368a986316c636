"""A person at psql, asked as sqlite3 is: `?` for values, times are text, and flags are 0 and 1."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any


class Shell:
    def __init__(self, connection: Any, schema: str = "durable_workflow") -> None:
        from durable_workflow_sqlite.postgres import values

        values.register(connection)
        self._connection = connection
        connection.execute(f"set search_path = {schema}".encode())

    def execute(self, statement: str, given: Sequence[object] = ()) -> Any:
        text = statement.replace("%", "%%").replace("?", "%s")
        return self._connection.execute(text.encode(), given, binary=True)

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        for row in rows:
            self.execute(statement, row)

    def executescript(self, statements: str) -> None:
        self._connection.execute(statements.encode())

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        """Each statement is committed already."""


@contextmanager
def shell(url: str, schema: str) -> Generator[Shell]:
    """Of a schema, for a while."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        yield Shell(connection, schema)
