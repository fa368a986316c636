"""Reads a file of named queries as a reviewer reads it, and refuses what aiosql would misread.

A file opens with a paragraph on its table. Each query then stands as

    -- name: load_execution^
    -- One line that says what it is for, and more where it is not obvious.
    -- :some_parameter integer null
    -- =some_result_column text
    -- @scan some_table: why that is well
    select ...;

where the lines with `:` and `=` are hints: the type of a parameter, or of a column of the result,
that the schema does not tell. Types are text, integer, real and blob, and `null` says that it may
be null. A line with `@` allows what would be refused: a scan of a table, `@sort: why`, or, of a
write that checks no claim, `@unfenced: why`.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import aiosql

import fencing_rule
import query_rules

MAX_COMMENT_LENGTH = 88

SQL_TYPES = ("text", "integer", "real", "blob")

_NAME_LINE = re.compile(r"-- name: (?P<name>[a-z]\w*)(?P<operation>.*)")
_AIOSQL_NAME = re.compile(r"--\s*name\s*:")  # wherever it stands, aiosql begins a query there
_HINT = re.compile(rf"([:=])(\w+) ({'|'.join(SQL_TYPES)})( null)?")
_ALLOWANCE = re.compile(r"@(scan \w+|sort|unfenced): (\S.*)")
_TOKEN = re.compile(r"""'(?:''|[^'])*'|"(?:""|[^"])*"|--[^\n]*|/\*|:?\w+|[^\s\w]""")


class QueryError(Exception):
    """A query, or a file of them, that must be changed; the message says where and how."""


class DialectError(Exception):
    """All that must be changed in the files of another dialect than SQLite's."""


class SqlType(NamedTuple):
    name: str
    nullable: bool

    def __str__(self) -> str:
        return f"{self.name} null" if self.nullable else self.name


@dataclass
class Query:
    path: Path
    line: int
    name: str
    operation: str
    """What follows the name: nothing for rows, ^ for a row, $ a value, ! a row count."""

    parameters: tuple[str, ...] = ()
    """In the order in which the statement has them."""

    purpose: list[str] = field(default_factory=list[str])
    parameter_hints: dict[str, SqlType] = field(default_factory=dict[str, SqlType])
    column_hints: dict[str, SqlType] = field(default_factory=dict[str, SqlType])
    allowances: dict[str, str] = field(default_factory=dict[str, str])
    """Why it may `scan some_table`, `sort`, or write `unfenced`."""

    hint_lines: dict[str, int] = field(default_factory=dict[str, int])
    """Where the hints stand, by sign and name."""

    statement: str = ""
    statement_line: int = 0
    words: list[query_rules.Word] = field(default_factory=list[query_rules.Word])
    """Of the statement, without its comments."""

    def refuse(self, message: str, line: int | None = None) -> NoReturn:
        refuse(self.path, line or self.line, f"{self.name}: {message}")


def read_queries(path: Path, schema: str | None = None) -> list[Query]:
    """The queries of one file, in its order; raises `QueryError`.

    schema: the name that stands before each table, on PostgreSQL; None on SQLite.
    """
    queries: list[Query] = []
    has_paragraph = False
    complete = True
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        query = queries[-1] if queries else None
        text = line.strip()
        if _AIOSQL_NAME.search(line):
            if query and not complete:
                query.refuse("the statement does not end with a semicolon")
            queries.append(_named_query(path, number, line))
            complete = False
        elif query is None:
            if text and not text.startswith("--"):
                refuse(path, number, "this stands before the first `-- name:` line")
            has_paragraph = has_paragraph or bool(text.strip("- "))
        elif complete:
            _refuse_after_statement(query, number, text)
        elif query.statement or (text and not text.startswith("--")):
            query.statement_line = query.statement_line or number
            query.statement += line + "\n"
            complete = sqlite3.complete_statement(query.statement)
        elif text:
            _read_comment(query, number, line)

    if not has_paragraph:
        refuse(path, 1, "a file of queries opens with a paragraph that says what its table holds")
    if queries and not complete:
        queries[-1].refuse("the statement does not end with a semicolon")
    for query in queries:
        _check(query, schema)
    _take_statements_as_aiosql_sends_them(path, queries)
    return queries


def refuse(path: Path, line: int, message: str) -> NoReturn:
    raise QueryError(f"{path}:{line}: {message}")


def tokens(statement: str) -> Iterator[str]:
    """Words, `:parameters`, quoted text, whole comments and single signs, each as it is written."""
    return (match.group() for match in _TOKEN.finditer(statement))


def _named_query(path: Path, number: int, line: str) -> Query:
    match = _NAME_LINE.fullmatch(line)
    if match is None:
        refuse(
            path,
            number,
            "a query begins with `-- name: query_name`, and no other comment may hold `-- name:`",
        )
    name, operation = match["name"], match["operation"]
    if operation not in ("", "^", "$", "!"):
        refuse(
            path,
            number,
            f"{name}: `{operation}` is not used here; after the name stands nothing for rows, ^ "
            "for one row, $ for one value (also of `returning`) or ! for a row count; no list of "
            "parameters, which are those of the statement",
        )
    return Query(path, number, name, operation)


def _refuse_after_statement(query: Query, number: int, text: str) -> None:
    if text.startswith("--"):
        query.refuse(
            "this comment follows the statement, so it would be taken for the query's own; "
            "move it to the top of the file, or below the `-- name:` line that it belongs to",
            number,
        )
    if text:
        query.refuse("a query is one statement; this is a second one", number)


def _read_comment(query: Query, number: int, line: str) -> None:
    if len(line) > MAX_COMMENT_LENGTH:
        query.refuse(f"a comment of more than {MAX_COMMENT_LENGTH} characters", number)
    text = line.removeprefix("--").strip()
    if text.startswith("@"):
        _read_allowance(query, number, line, text)
        return
    if not text.startswith((":", "=")):
        query.purpose.append(text)
        return
    match = _HINT.fullmatch(text)
    if match is None:
        query.refuse(
            f"`{line}` is no hint; write `-- :parameter TYPE` or `-- =column TYPE`, with ` null` "
            f"after it where it may be null; TYPE is one of {', '.join(SQL_TYPES)}",
            number,
        )
    sign, name, sql_type, null = match.groups()
    hints = query.parameter_hints if sign == ":" else query.column_hints
    if name in hints:
        query.refuse(f"a second hint for {sign}{name}; delete one", number)
    hints[name] = SqlType(sql_type, nullable=null is not None)
    query.hint_lines[f"{sign}{name}"] = number


def _read_allowance(query: Query, number: int, line: str, text: str) -> None:
    match = _ALLOWANCE.fullmatch(text)
    if match is None:
        query.refuse(
            f"`{line}` allows nothing; write `-- @scan TABLE: WHY`, `-- @sort: WHY` or"
            " `-- @unfenced: WHY`",
            number,
        )
    cost, why = match.groups()
    if cost in query.allowances:
        query.refuse(f"a second line that allows @{cost}; delete one", number)
    query.allowances[cost] = why


def _check(query: Query, schema: str | None) -> None:
    if not "".join(query.purpose):
        query.refuse("say in a comment below the `-- name:` line what the query is for")

    code = [line for line in query.statement.splitlines() if not line.lstrip().startswith("--")]
    used: dict[str, None] = {}
    for token in tokens("\n".join(code)):
        if token.startswith(("--", "/*")):
            query.refuse(
                f"`{token}`: a comment inside a statement takes a line of its own, with `--`; "
                "elsewhere aiosql reads a :word or a quote in it as SQL"
            )
        if token.startswith(":"):
            used[token.removeprefix(":")] = None
    query.parameters = tuple(used)
    query.words = words_of(query.statement, query.statement_line)
    lower = [word.lower() for word in query.words]
    if schema is not None:
        named = {
            at + more for at, word in enumerate(lower) if word.text == schema for more in (0, 1)
        }
        lower = [word for at, word in enumerate(lower) if at not in named]
    for problem in query_rules.problems(lower):
        query.refuse(problem.message, problem.line)
    hint = query.parameter_hints.get("fencing_token")
    for problem in fencing_rule.problems(
        lower,
        is_optional=hint is not None and hint.nullable,
        why_not=query.allowances.get("unfenced"),
        is_locked=schema is not None,
    ):
        query.refuse(problem.message, problem.line)


def words_of(statement: str, first_line: int) -> list[query_rules.Word]:
    """The tokens of a statement but for its comments, and the line that each stands in."""
    found: list[query_rules.Word] = []
    for match in _TOKEN.finditer(statement):
        if not match.group().startswith("--"):
            line = first_line + statement.count("\n", 0, match.start())
            found.append(query_rules.Word(line, match.group()))
    return found


def _take_statements_as_aiosql_sends_them(path: Path, queries: list[Query]) -> None:
    try:
        loaded = cast("Any", aiosql).from_path(
            path, "sqlite3", attribute=None, encoding="utf-8", mandatory_parameters=False
        )
    except (aiosql.SQLLoadException, aiosql.SQLParseException) as error:
        refuse(path, 1, f"aiosql does not accept it: {error}")
    for query in queries:
        query.statement = getattr(loaded, query.name).sql
