"""How aiosql runs a query here: at once, on the connection itself, into the generated row classes.

aiosql's own adapters give lazy generators and plain tuples, and open a cursor for each call. With
them, an `update ... returning` would do nothing until it is iterated. They bind by name, which
takes three times as long as by number: for a checkpoint, as long as writing it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from itertools import starmap
from operator import itemgetter
from sqlite3 import Connection, Cursor, OperationalError
from typing import Any, Final

from msgspec import Struct

Statement = tuple[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]]
_Values = Callable[[Mapping[str, Any]], tuple[Any, ...]]

# What may hold a colon and is no parameter, and then a parameter.
_PARAMETER: Final = re.compile(r"'[^']*'|\"[^\"]*\"|--[^\n]*|:(\w+)")


class RowClassAdapter:
    """Takes a table from query name to row class. Positional parameters are aiosql's protocol."""

    def __init__(self, row_classes: Mapping[str, type[Struct]]) -> None:
        self._row_classes = row_classes
        self._numbered: dict[str, tuple[str, _Values]] = {}

    def process_sql(self, query_name: str, operation: object, sql: str) -> str:
        numbered, names = number_parameters(sql)
        self._numbered[query_name] = numbered, _values_of(names)
        return sql

    def select(
        self, connection: Connection, query_name: str, sql: str, parameters: Any, _: object
    ) -> list[Any]:
        row_class = self._row_classes[query_name]
        try:
            return list(starmap(row_class, self._run(connection, query_name, parameters)))
        except OperationalError as error:
            if not _is_of_text(error):
                raise
        with _whatever_the_text(connection):
            return list(starmap(row_class, self._run(connection, query_name, parameters)))

    def select_one(
        self, connection: Connection, query_name: str, sql: str, parameters: Any, _: object
    ) -> Any | None:
        try:
            row = self._run(connection, query_name, parameters).fetchone()
        except OperationalError as error:
            if not _is_of_text(error):
                raise
            with _whatever_the_text(connection):
                row = self._run(connection, query_name, parameters).fetchone()
        return None if row is None else self._row_classes[query_name](*row)

    def select_value(
        self, connection: Connection, query_name: str, sql: str, parameters: Any
    ) -> Any | None:
        row = self._run(connection, query_name, parameters).fetchone()
        return None if row is None else row[0]

    def insert_update_delete(
        self, connection: Connection, query_name: str, sql: str, parameters: Any
    ) -> int:
        numbered, values_of = self._numbered[query_name]
        return connection.execute(numbered, values_of(parameters)).rowcount

    def _run(self, connection: Connection, query_name: str, parameters: Any) -> Cursor:
        numbered, values_of = self._numbered[query_name]
        return connection.execute(numbered, values_of(parameters))


def as_statement(query: Any, *given: str) -> Statement:
    """A loaded query's statement, and what puts the values of these parameters in its order."""
    numbered, names = number_parameters(query.sql)
    return numbered, itemgetter(*(given.index(name) for name in names))


def number_parameters(sql: str) -> tuple[str, list[str]]:
    """A statement with a ? for each :name, and the names in that order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return found[0]
        names.append(name)
        return "?"

    return _PARAMETER.sub(number, sql), names


def _values_of(names: list[str]) -> _Values:
    if len(names) > 1:
        return itemgetter(*names)
    if not names:
        return lambda _: ()
    (name,) = names
    return lambda parameters: (parameters[name],)


def _is_of_text(error: OperationalError) -> bool:
    """Whether text was met that is not UTF-8; SQLite keeps any bytes, and sqlite3 has no code."""
    return "Could not decode to UTF-8" in str(error)


@contextmanager
def _whatever_the_text(connection: Connection) -> Generator[None]:
    """Give text that is not UTF-8 as bytes, so that its row alone cannot be read."""
    before = connection.text_factory
    connection.text_factory = _text_or_bytes
    try:
        yield
    finally:
        connection.text_factory = before


def _text_or_bytes(text: bytes) -> str | bytes:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text
