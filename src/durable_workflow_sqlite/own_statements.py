"""Statements on tables that an integration keeps beside those of the library, in both dialects.

They stand in `sql/integrations` and `sql/postgres/integrations`, in a folder for each integration,
and run in functions that `ctx.transaction`, `store.write` or `store.read` call.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from durable_workflow_sqlite.store.sql import SQL_DIR, load_statements

_OF_SQLITE: Final = SQL_DIR / "integrations"
_OF_POSTGRES: Final = SQL_DIR / "postgres" / "integrations"

_TABLE: Final = re.compile(r"([a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*")
_LONGEST_NAME: Final = 100

# What may hold a colon and is no parameter, and then a parameter.
_PARAMETER: Final = re.compile(r"'[^']*'|--[^\n]*|::|:(\w+)")


class OwnStatements:
    """The statements of one integration, on tables in the user's database.

    name: of the folder of the statements.
    tables: by the name that the statements use, the name of the table that is meant, perhaps after
        that of a schema and a dot.

    Raises TypeError or ValueError for a name that would have to be quoted.
    """

    def __init__(self, name: str, tables: Mapping[str, str]) -> None:
        for table in tables.values():
            if not isinstance(table, str):
                raise TypeError(f"the name of a table must be a string, not {table!r}")
            if not _TABLE.fullmatch(table) or len(table) > _LONGEST_NAME:
                raise ValueError(
                    "the name of a table must be in lower case, perhaps after the name of a schema"
                    f" and a dot, not {table!r}"
                )
        self._key = name, tuple(tables.items())

    def rows(self, connection: Any, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """Run a statement, and return its rows; none if it has none.

        connection: a `sqlite3.Connection` or a `psycopg.Connection`.
        """
        is_sqlite = isinstance(connection, sqlite3.Connection)
        sql = _statements(*self._key, is_sqlite=is_sqlite)[statement]
        cursor = connection.execute(sql, values)
        return [] if cursor.description is None else [tuple(one) for one in cursor.fetchall()]

    def run_many(
        self, connection: Any, statement: str, rows: Sequence[Mapping[str, object]]
    ) -> None:
        """Run a statement that has no rows once for each of the values given."""
        is_sqlite = isinstance(connection, sqlite3.Connection)
        sql = _statements(*self._key, is_sqlite=is_sqlite)[statement]
        connection.cursor().executemany(sql, rows)

    def value(self, connection: Any, statement: str, **values: object) -> Any:
        """Run a statement that gives one value."""
        ((value,),) = self.rows(connection, statement, **values)
        return value


@cache
def _statements(
    name: str, tables: tuple[tuple[str, str], ...], *, is_sqlite: bool
) -> dict[str, str]:
    found = load_statements((_OF_SQLITE if is_sqlite else _OF_POSTGRES) / name)
    for default, table in tables:
        found = {key: re.sub(rf"\b{default}\b", table, text) for key, text in found.items()}
    return found if is_sqlite else {key: _for_psycopg(text) for key, text in found.items()}


def _for_psycopg(sql: str) -> str:
    """The statement with %(name)s for each :name."""
    return _PARAMETER.sub(
        lambda found: found[0] if found[1] is None else f"%({found[1]})s", sql.replace("%", "%%")
    )
