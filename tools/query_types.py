"""Finds the types of a query's parameters and result, from the schema and the query's hints.

apsw prepares a query without running it and tells which column of which table each column of the
result comes from, which the standard library does not.
"""

# apsw's annotations name types that Python 3.11 does not have.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw
import apsw.ext

import migration_folder
import table_rules
from list_file import read_lists
from query_files import SQL_TYPES, Query, SqlType, tokens, words_of
from query_literals import Column, Values, known_values
from view_files import ViewFile, read_view_files

_RESULT_CLAUSES = frozenset({"select", "returning"})
_OTHER_CLAUSES = frozenset({"where", "group", "having", "window", "order", "limit", "on"})
_AGGREGATES = frozenset(
    {"avg", "count", "group_concat", "json_group_array", "json_group_object"}
    | {"max", "min", "string_agg", "sum", "total"}
)


_OUTER_JOIN = "an outer join"


class Types(NamedTuple):
    parameters: dict[str, SqlType]
    columns: dict[str, SqlType]
    """The result's columns in order; none for a statement that gives no rows."""


class Origin(NamedTuple):
    """The column of a table or a view that a column of a result is."""

    table: str
    column: str
    type: SqlType


class Schema:
    """What all migrations and views add up to."""

    def __init__(self, migrations: Path) -> None:
        self._migrations = migrations
        self._database = _database(migrations)
        self.views = read_view_files(migration_folder.views_of(migrations))
        # Where SQLite says which column of a view a column comes from, each view is a table.
        self._typed = _database(migrations, with_views=False)
        for view in self.views.values():
            columns = (
                f"{name} {column.type.name}{'' if column.type.nullable else ' not null'}"
                for name, column in view.columns.items()
            )
            self._typed.execute(f"create table {view.name} ({', '.join(columns)})")

        self.tables: dict[str, dict[str, SqlType]] = {}
        known: dict[Column, tuple[str, ...]] = {}
        for table, sql in self._database.execute(
            "select name, sql from sqlite_schema where type = 'table' and name not like 'sqlite_%'"
            " order by rowid"
        ):
            known |= known_values(str(table), str(sql))
            self.tables[str(table)] = {
                str(column): SqlType(str(declared), nullable=not not_null)
                for column, declared, not_null in self._database.execute(
                    """select name, lower(type), "notnull" or pk from pragma_table_info(?)""",
                    (table,),
                )
            }
        sources = {column: column for column in known}
        for shown in self.views:
            info = apsw.ext.query_info(self._database, f"select * from {shown}")
            for name, _, _, from_table, column in info.description_full or ():
                if (origin := (from_table or "", column or "")) in known:
                    sources[shown, name] = origin
        self._lists = migrations.parent / "lists.sql"
        self._values = Values(known, sources, read_lists(self._lists))

    def problems(self) -> list[str]:
        """What is wrong with the lists of values, and with the columns and values of the views."""
        problems = [f"{self._lists}: {problem}" for problem in self._values.unknown()]
        for kind, name, table, sql in self._database.execute(
            "select type, name, tbl_name, sql from sqlite_schema"
            " where type in ('index', 'trigger') and sql is not null order by rowid"
        ):
            problems += [
                f"{self._where(f'{kind} {name}')}: {kind} {name}: {problem.message}"
                for problem in self._values.of_table(str(table), words_of(str(sql), 1))
            ]
        problems += [
            f"{self._where(f'table {table}')}: table {table}: {problem}"
            for table, problem in table_rules.problems(self._database)
        ]
        for view in self.views.values():
            words = words_of(view.statement, view.statement_line)
            problems += [
                f"{view.path}:{problem.line}: {problem.message}"
                for problem in self._values.problems(words)
            ]
            select = view.statement.partition(" as\n")[2]
            found = self._origins(select)
            problems += _differences(view, list(found))
            texts = [word.text for word in words]
            reason = _why_not_null_is_unsure(select)
            for name, column in view.columns.items():
                if (origin := found.get(name)) and (
                    why := _why_wrong(column.type, origin, texts, reason)
                ):
                    problems.append(f"{view.path}:{column.line}: {name}: {why}")
        return problems

    def _where(self, made: str) -> str:
        """The file and the line of the last statement that creates or changes a table, or so."""
        for path in sorted(self._migrations.glob("*.sql"), reverse=True):
            lines = path.read_text(encoding="utf-8").splitlines()
            for number, line in enumerate(lines, 1):
                if f" {made} " in f"{line} ":
                    return f"{path}:{number}"
        return str(self._migrations)

    def types_of(self, query: Query) -> Types:
        """The types of a query; raises `QueryError` for one that needs other hints, or fewer."""
        try:
            prepared = apsw.ext.query_info(self._database, query.statement)
        except apsw.Error as error:
            query.refuse(f"SQLite does not accept it: {error}")
        if set(prepared.bindings_names) != set(query.parameters):
            query.refuse("write every parameter as :name")
        for problem in self._values.problems(query.words):
            query.refuse(problem.message, problem.line)

        parameters = {name: self._type_by_name(query, name) for name in query.parameters}
        names = [name for name, *_ in prepared.description_full or ()]
        if twice := next((name for name in names if names.count(name) > 1), None):
            query.refuse(f"two columns of the result are named {twice}")
        origins = self._origins(query.statement)

        for name in query.parameter_hints.keys() - parameters.keys():
            query.refuse(f"the hint `-- :{name}` is for no parameter of the query; delete it")
        for name in query.column_hints.keys() - origins.keys():
            query.refuse(f"the hint `-- ={name}` is for no column of the result; delete it")
        for name, hint in query.parameter_hints.items():
            if (found := parameters[name]) and found.name != hint.name:
                query.refuse(
                    f"the hint of :{name} says {hint.name}, and the column is {found.name}",
                    query.hint_lines[f":{name}"],
                )
        return Types(
            _hinted(query, ":", parameters, query.parameter_hints),
            _hinted_columns(query, origins),
        )

    def _origins(self, statement: str) -> dict[str, Origin | None]:
        """Which column of which table or view each column of a result is, if it is one."""
        origins: dict[str, Origin | None] = {}
        prepared = apsw.ext.query_info(self._typed, statement)
        for name, _, _, table, column in prepared.description_full or ():
            if table in self.views:
                of_view = self.views[table].columns.get(column or "")
                found = of_view and of_view.type
            else:
                found = self.tables.get(table or "", {}).get(column or "")
            origins[name] = Origin(table or "", column or "", found) if found else None
        return origins

    def _type_by_name(self, query: Query, name: str) -> SqlType | None:
        """The type of the column of that name: in the query's own table, or wherever it is."""
        own = self.tables.get(query.path.stem, {})
        if name in own:
            return own[name]
        found = {columns[name] for columns in self.tables.values() if name in columns}
        return found.pop() if len(found) == 1 else None


def _database(migrations: Path, *, with_views: bool = True) -> apsw.Connection:
    database = apsw.Connection(":memory:")
    database.deserialize("main", migration_folder.database(migrations, with_views=with_views))
    return database


def _differences(view: ViewFile, names: list[str]) -> Iterator[str]:
    for name in names:
        if name not in view.columns:
            yield f"{view.path}:1: say what {name} is, and means: `-- {name}  TYPE  MEANING`"
    for name, column in view.columns.items():
        if name not in names:
            yield f"{view.path}:{column.line}: the view has no column {name}; delete the line"
    described = [name for name in view.columns if name in names]
    if described != [name for name in names if name in described]:
        yield f"{view.path}:1: describe the columns in the order of the view: {', '.join(names)}"


def _why_wrong(
    declared: SqlType, origin: Origin, words: Sequence[str], reason: str | None
) -> str | None:
    """What is wrong with the type that is declared for a column of a result.

    reason: what may make columns of this result null that never are in their table.
    """
    place = f"{origin.table}.{origin.column}"
    if declared.name != origin.type.name:
        return f"it is not {declared.name}: {place} is {origin.type.name}"
    if declared.nullable:
        if not origin.type.nullable and _is_sure(origin, words, reason):
            return f"it is never null, as {place} is; delete ` null`"
        return None
    if _is_required(origin.column, words):
        return None
    add = f"write `{declared.name} null`, or the condition `{origin.column} is not null`"
    if origin.type.nullable:
        return f"{place} may be null; {add}"
    if _is_only_left_joined(origin.table, words):
        return f"{origin.table} is left joined, and all of it is null where no row fits; {add}"
    return None


def _is_required(column: str, words: Sequence[str]) -> bool:
    """Whether a condition of a statement leaves out rows where a column is null."""
    return any(
        word == column
        and (tuple(words[at + 1 : at + 4]) == ("is", "not", "null") or words[at + 1] in "<>")
        for at, word in enumerate(words[:-1])
    )


def _is_only_left_joined(table: str, words: Sequence[str]) -> bool:
    before = {
        tuple(words[at - 2 : at]) for at, word in enumerate(words) if word == table and at > 1
    }
    return ("left", "join") in before and not any(
        first != "left" and last in ("from", "join") for first, last in before
    )


def _hinted_columns(query: Query, origins: dict[str, Origin | None]) -> dict[str, SqlType]:
    columns = {name: origin and origin.type for name, origin in origins.items()}
    words = [word.text for word in query.words]
    risk = _why_not_null_is_unsure(query.statement)
    for name, hint in query.column_hints.items():
        if (origin := origins[name]) and (why := _why_wrong(hint, origin, words, risk)):
            query.refuse(f"the hint of {name}: {why}", query.hint_lines[f"={name}"])
    unsure = {
        name
        for name, origin in origins.items()
        # One value is None anyway where there is no row.
        if query.operation != "$" and origin and not _is_sure(origin, words, risk)
    }
    if unsure - query.column_hints.keys():
        missing = [
            f"-- ={name} {found or 'TYPE'}"
            for name, found in columns.items()
            if name not in query.column_hints and (name in unsure or found is None)
        ]
        query.refuse(
            f"{risk} can make columns null that never are in their table; say it of each of these, "
            f"with ` null` or without. {_add_lines(missing)}"
        )
    told = {name: None if name in unsure else found for name, found in columns.items()}
    return _hinted(query, "=", told, query.column_hints)


def _is_sure(origin: Origin, words: Sequence[str], risk: str | None) -> bool:
    """Whether a column of a result is null only where it is in its table.

    risk: what may make columns of this result null that never are in their table.
    """
    if risk is None or origin.type.nullable:
        return True
    joined = {words[at + 2] for at, word in enumerate(words) if word == "left"}
    others = {"(", "outer", origin.table}  # a select, or perhaps this table
    return risk == _OUTER_JOIN and "with" not in words and joined.isdisjoint(others)


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


def _why_not_null_is_unsure(statement: str) -> str | None:
    """What in a statement can make a column of its result null that is NOT NULL in its table.

    Only what the result is made of counts: not a condition, a sort order or an assigned value.
    What looks like a risk and is none costs a few hints; the opposite would be a wrong type.
    """
    words = [token.lower() for token in tokens(statement)]
    if "returning" in words:
        words = words[words.index("returning") :]

    clause = ""
    enclosing: list[str] = []
    found: set[str] = set()
    aggregate = grouped = False
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        grouped = grouped or word == "group"
        if word == "(":
            is_select = after in ("select", "values", "with")
            if clause in _RESULT_CLAUSES and is_select and before != "exists":
                found.add("a scalar subquery")
            enclosing.append(clause)
        elif word == ")":
            clause = enclosing.pop()
        elif _OTHER_CLAUSES.isdisjoint(enclosing):
            if word in _RESULT_CLAUSES or word in _OTHER_CLAUSES or word == "from":
                clause = word
            elif word in ("left", "right", "full") and after in ("join", "outer"):
                found.add(_OUTER_JOIN if word == "left" else f"a {word} join")
            elif word in ("union", "intersect", "except"):
                found.add(f"`{word}`")
            aggregate = aggregate or (word in _AGGREGATES and after == "(")
    if aggregate and not grouped:
        found.add("an aggregate without `group by`")
    # An outer join leaves some columns sure, and so counts only where it is alone.
    return max(found - {_OUTER_JOIN}, default=_OUTER_JOIN if found else None)
