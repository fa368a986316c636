"""How aiosql runs a query here: at once, on the connection itself, into the generated row classes.

aiosql's own adapters give lazy generators (an `update ... returning` would do nothing until it is
iterated) and plain tuples, and open a cursor by hand for each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from sqlite3 import Connection
from typing import Any, NamedTuple


class RowClassAdapter:
    """Takes a table from query name to row class. Positional parameters are aiosql's protocol."""

    def __init__(self, row_classes: Mapping[str, type[NamedTuple]]) -> None:
        self._make = {name: row_class._make for name, row_class in row_classes.items()}

    def process_sql(self, query_name: str, operation: object, sql: str) -> str:
        return sql

    def select(
        self, connection: Connection, query_name: str, sql: str, parameters: Any, _: object
    ) -> list[Any]:
        return list(map(self._make[query_name], connection.execute(sql, parameters)))

    def select_one(
        self, connection: Connection, query_name: str, sql: str, parameters: Any, _: object
    ) -> Any | None:
        row = connection.execute(sql, parameters).fetchone()
        return None if row is None else self._make[query_name](row)

    def select_value(
        self, connection: Connection, query_name: str, sql: str, parameters: Any
    ) -> Any | None:
        row = connection.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def insert_update_delete(
        self, connection: Connection, query_name: str, sql: str, parameters: Any
    ) -> int:
        return connection.execute(sql, parameters).rowcount
