"""How aiosql runs a query on PostgreSQL: at once, in a `Session`, into the row classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import starmap
from operator import itemgetter
from typing import Any, Final

from msgspec import Struct

from durable_workflow_sqlite.postgres.session import Session, in_schema

_Values = Callable[[Mapping[str, Any]], tuple[Any, ...]]

# What may hold a colon and is no parameter, and then a parameter.
_PARAMETER: Final = re.compile(r"'[^']*'|\"[^\"]*\"|--[^\n]*|::|:(\w+)")

FOR_THE_WORKER_ALONE: Final = frozenset(
    {
        "begin_step",
        "complete_step",
        "delete_old_limit_uses",
        "insert_limit_use",
        "insert_served",
        "insert_step_slot",
        "take_slot",
        "take_step_slot",
        "update_slots",
        "upsert_checkpoint",
        "upsert_timer",
    }
)
"""The statements that change what no other worker waits for, and that are sent most."""

_GOES_ON: Final = frozenset({"RUNNING", "SUSPENDED"})
"""The statuses with which `update_execution` tells nobody anything: a step was taken."""


class PostgresAdapter:
    """Takes a table from query name to row class. Positional parameters are aiosql's protocol."""

    def __init__(self, row_classes: Mapping[str, type[Struct]], schema: str) -> None:
        self._row_classes = row_classes
        self._schema = schema
        self._numbered: dict[str, tuple[str, _Values]] = {}

    def process_sql(self, query_name: str, operation: object, sql: str) -> str:
        sql = in_schema(sql, self._schema)
        numbered, names = number_parameters(sql)
        self._numbered[query_name] = numbered, partial(_in_order, names)
        return sql

    def select(
        self, session: Session, query_name: str, sql: str, parameters: Any, _: object
    ) -> list[Any]:
        numbered, values_of = self._numbered[query_name]
        found = session.execute(numbered, values_of(parameters)).fetchall()
        return list(starmap(self._row_classes[query_name], found))

    def select_one(
        self, session: Session, query_name: str, sql: str, parameters: Any, _: object
    ) -> Any | None:
        numbered, values_of = self._numbered[query_name]
        row = session.execute(numbered, values_of(parameters)).fetchone()
        return None if row is None else self._row_classes[query_name](*row)

    def select_value(
        self, session: Session, query_name: str, sql: str, parameters: Any
    ) -> Any | None:
        numbered, values_of = self._numbered[query_name]
        row = session.execute(numbered, values_of(parameters)).fetchone()
        return None if row is None else row[0]

    def insert_update_delete(
        self, session: Session, query_name: str, sql: str, parameters: Any
    ) -> int:
        numbered, values_of = self._numbered[query_name]
        changed: int = session.execute(numbered, values_of(parameters)).rowcount
        if changed and not session.others_wait and query_name not in FOR_THE_WORKER_ALONE:
            session.others_wait = (
                query_name != "update_execution" or parameters["status"] not in _GOES_ON
            )
        return changed


def as_statement(
    query: Any, *given: str
) -> tuple[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]]:
    """A loaded query's statement, and what puts the values of these parameters in its order."""
    numbered, names = number_parameters(query.sql)
    return numbered, itemgetter(*(given.index(name) for name in names))


def number_parameters(sql: str) -> tuple[str, list[str]]:
    """A statement with $1, $2, ... for each :name, and the names in that order."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return found[0]
        return f"${names.setdefault(name, len(names) + 1)}"

    return _PARAMETER.sub(number, sql), list(names)


def _in_order(names: list[str], parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple([parameters[name] for name in names])
