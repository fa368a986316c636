"""Runs each query and each view on a small database: do the rows have the types that are declared?

    python tools/check_types.py

What the schema tells, `generate` checks by itself. It cannot tell the type of an expression, or
whether one is ever null: there the hint of the query, or the comment of the view, is compared with
rows. The rows and the arguments stand in seeded_database.py.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from msgspec.structs import astuple

from durable_workflow_sqlite.store.sql import load_queries
from query_files import Query, SqlType, read_queries
from query_types import Schema
from seeded_database import SELECTS, WHOEVER, seeded_database
from view_files import ViewFile

ROOT = Path(__file__).parents[1]
QUERIES = Path("sql/queries")
MIGRATIONS = Path("sql/migrations")

_NAMES = {str: "text", int: "integer", float: "real", bytes: "blob"}


def main() -> int:
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder, seeded_database(Path(folder)) as connection:
        found = list(problems(QUERIES, MIGRATIONS, connection))
    for problem in found:
        print(problem)
    return 1 if found else 0


def problems(queries: Path, migrations: Path, connection: sqlite3.Connection) -> Iterator[str]:
    """What is declared otherwise than the rows are, on a database as `seeded_database` makes it."""
    schema = Schema(migrations)
    for view in schema.views.values():
        yield from _of_view(view, connection)
    for path in sorted(queries.glob("*.sql")):
        for query in read_queries(path):
            if query.operation in ("", "^"):
                yield from _of_query(query, schema.types_of(query).columns, queries, connection)


def _of_view(view: ViewFile, connection: sqlite3.Connection) -> Iterator[str]:
    rows = connection.execute(f"select * from {view.name}").fetchall()
    if not rows:
        yield f"{view.path}:1: no row of tools/seeded_database.py is in it; add one there"
    for (name, column), seen in zip(view.columns.items(), _types(rows), strict=False):
        where = f"{view.path}:{column.line}: {name}"
        yield from _differences(where, column.type, seen, "{}")


def _of_query(
    query: Query, columns: dict[str, SqlType], folder: Path, connection: sqlite3.Connection
) -> Iterator[str]:
    if query.name not in SELECTS:
        yield (
            f"{query.path}:{query.line}: {query.name}: add arguments for which it gives rows to"
            " SELECTS in tools/seeded_database.py"
        )
        return
    rows = _rows(query, folder, connection)
    if not rows:
        yield (
            f"{query.path}:{query.line}: {query.name}: it gives no row of tools/seeded_database.py;"
            " add one there, or other arguments"
        )
    for (name, declared), seen in zip(columns.items(), _types(rows), strict=False):
        line = query.hint_lines.get(f"={name}", query.line)
        where = f"{query.path}:{line}: {query.name}: {name}"
        yield from _differences(where, declared, seen, f"-- ={name} {{}}")
        if declared.nullable and type(None) not in seen:
            yield (
                f"{where} is null in no row of tools/seeded_database.py; delete ` null`, or add a"
                " row there"
            )


def _rows(query: Query, folder: Path, connection: sqlite3.Connection) -> list[Any]:
    queries = load_queries(folder)
    rows: list[Any] = []
    connection.execute("begin")
    try:
        (worker,) = queries.load_claiming_workers(connection)
        for arguments in SELECTS[query.name]:
            known = {
                key: worker.worker_id if value is WHOEVER else value
                for key, value in arguments.items()
            }
            result: Any = getattr(queries, query.name)(connection, **known)
            rows += map(astuple, cast("list[Any]", result) if query.operation == "" else [result])
    finally:
        connection.execute("rollback")
    return rows


def _types(rows: Iterable[Any]) -> list[set[type]]:
    return [set(map(type, column)) for column in zip(*rows, strict=True)]


def _differences(where: str, declared: SqlType, seen: set[type], hint: str) -> Iterator[str]:
    names = sorted(_NAMES[one] for one in seen if one is not type(None))
    for name in names:
        if name != declared.name:
            right = SqlType(name, declared.nullable)
            yield f"{where} is {name} in a row; write `{hint.format(right)}`"
    if type(None) in seen and not declared.nullable:
        right = SqlType(declared.name, nullable=True)
        yield f"{where} is null in a row; write `{hint.format(right)}`"


if __name__ == "__main__":
    raise SystemExit(main())
