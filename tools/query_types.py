"""Finds the types of a query's parameters and result, from the schema and the query's hints.

apsw prepares a query without running it and tells which column of which table each column of the
result comes from, which the standard library does not.
"""

# apsw's annotations name types that Python 3.11 does not have.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import apsw
import apsw.ext

import migration_folder
from query_files import SQL_TYPES, Query, SqlType, tokens

_RESULT_CLAUSES = frozenset({"select", "returning"})
_OTHER_CLAUSES = frozenset({"where", "group", "having", "window", "order", "limit", "on"})
_AGGREGATES = frozenset(
    {"avg", "count", "group_concat", "json_group_array", "json_group_object"}
    | {"max", "min", "string_agg", "sum", "total"}
)


class Types(NamedTuple):
    parameters: dict[str, SqlType]
    columns: dict[str, SqlType]
    """The result's columns in order; none for a statement that gives no rows."""


class Schema:
    """What all migrations add up to."""

    def __init__(self, migrations: Path) -> None:
        self._database = apsw.Connection(":memory:")
        for statement in migration_folder.statements(migrations):
            self._database.execute(statement)

        self.tables: dict[str, dict[str, SqlType]] = {}
        for table, column, declared, not_null in self._database.execute(
            """
            select schema.name, info.name, lower(info.type), info."notnull" or info.pk
            from sqlite_schema as schema, pragma_table_info(schema.name) as info
            where schema.type = 'table' and schema.name not like 'sqlite_%'
            order by schema.rowid, info.cid
            """
        ):
            columns = self.tables.setdefault(str(table), {})
            columns[str(column)] = SqlType(str(declared), nullable=not not_null)

        self.views = {
            str(name)
            for (name,) in self._database.execute(
                "select name from sqlite_schema where type = 'view'"
            )
        }

    def types_of(self, query: Query) -> Types:
        """The types of a query; raises `QueryError` for one that needs other hints, or fewer."""
        try:
            prepared = apsw.ext.query_info(self._database, query.statement)
        except apsw.Error as error:
            query.refuse(f"SQLite does not accept it: {error}")
        if set(prepared.bindings_names) != set(query.parameters):
            query.refuse("write every parameter as :name")

        parameters = {name: self._type_by_name(query, name) for name in query.parameters}
        columns: dict[str, SqlType | None] = {}
        for name, _, _, table, column in prepared.description_full or ():
            if name in columns:
                query.refuse(f"two columns of the result are named {name}")
            columns[name] = self.tables.get(table or "", {}).get(column or "")

        for name in query.parameter_hints.keys() - parameters.keys():
            query.refuse(f"the hint `-- :{name}` is for no parameter of the query; delete it")
        for name in query.column_hints.keys() - columns.keys():
            query.refuse(f"the hint `-- ={name}` is for no column of the result; delete it")
        return Types(
            _hinted(query, ":", parameters, query.parameter_hints),
            _hinted_columns(query, columns, self.views),
        )

    def _type_by_name(self, query: Query, name: str) -> SqlType | None:
        """The type of the column of that name: in the query's own table, or wherever it is."""
        own = self.tables.get(query.path.stem, {})
        if name in own:
            return own[name]
        found = {columns[name] for columns in self.tables.values() if name in columns}
        return found.pop() if len(found) == 1 else None


def _hinted_columns(
    query: Query, columns: dict[str, SqlType | None], views: set[str]
) -> dict[str, SqlType]:
    at_risk = any(found and not found.nullable for found in columns.values())
    if query.operation == "$":
        at_risk = False  # one value is None anyway where there is no row
    reason = _why_not_null_is_unsure(query.statement, views) if at_risk else None
    if reason is None:
        return _hinted(query, "=", columns, query.column_hints)
    missing = [
        f"-- ={name} {found or 'TYPE'}"
        for name, found in columns.items()
        if name not in query.column_hints
    ]
    if missing:
        query.refuse(
            f"{reason} can make columns null that never are in their table; say it of each column "
            f"of the result, with ` null` or without. {_add_lines(missing)}"
        )
    return {name: query.column_hints[name] for name in columns}


def _hinted(
    query: Query, sign: str, inferred: dict[str, SqlType | None], hints: dict[str, SqlType]
) -> dict[str, SqlType]:
    types: dict[str, SqlType] = {}
    missing: list[str] = []
    for name, found in inferred.items():
        hint = hints.get(name)
        if hint and hint == found:
            query.refuse(f"the schema tells already what `-- {sign}{name} {hint}` says; delete it")
        if hint:
            types[name] = hint
        elif found and found.name in SQL_TYPES:
            types[name] = found
        else:
            missing.append(f"-- {sign}{name} TYPE")
    if missing:
        query.refuse(f"the schema does not tell the type. {_add_lines(missing)}")
    return types


def _add_lines(lines: list[str]) -> str:
    text = "".join(f"\n    {line}" for line in lines)
    if not any(line.endswith("TYPE") for line in lines):
        return f"Add to its comment:{text}"
    choice = f"{', '.join(SQL_TYPES)}, then ` null` where it may be null"
    return f"Add to its comment, TYPE being one of {choice}:{text}"


def _why_not_null_is_unsure(statement: str, views: set[str]) -> str | None:
    """What in a statement can make a column of its result null that is NOT NULL in its table.

    Only what the result is made of counts: not a condition, a sort order or an assigned value.
    What looks like a risk and is none costs a few hints; the opposite would be a wrong type.
    """
    words = [token.lower() for token in tokens(statement)]
    if "returning" in words:
        words = words[words.index("returning") :]

    clause = ""
    enclosing: list[str] = []
    aggregate = grouped = False
    for word, after in zip(words, [*words[1:], ""], strict=True):
        grouped = grouped or word == "group"
        if word == "(":
            if clause in _RESULT_CLAUSES and after in ("select", "values", "with"):
                return "a scalar subquery"
            enclosing.append(clause)
        elif word == ")":
            clause = enclosing.pop()
        elif _OTHER_CLAUSES.isdisjoint(enclosing):
            if word in _RESULT_CLAUSES or word in _OTHER_CLAUSES or word == "from":
                clause = word
            elif word in ("left", "right", "full") and after in ("join", "outer"):
                return "an outer join"
            elif word in ("union", "intersect", "except"):
                return f"`{word}`"
            elif word in views:
                return f"the view {word}"
            aggregate = aggregate or (word in _AGGREGATES and after == "(")
    return "an aggregate without `group by`" if aggregate and not grouped else None
