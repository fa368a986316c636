"""Writes store/queries.py: what sql/queries/*.sql look like from Python.

    python tools/generate_queries.py [--check]

A class for each shape of row, a protocol with a method for each query, and a table from query to
row class. With --check it writes nothing, and fails when the committed file is another one.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import committed_file
from query_files import Query, QueryError, read_queries
from query_module import QueryModule
from query_types import Schema

ROOT = Path(__file__).parents[1]
OUTPUT = Path("src/durable_workflow_sqlite/store/queries.py")


class QueriesError(Exception):
    """All that must be changed in the query files."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Write store/queries.py from sql/queries/*.sql.")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    check: bool = parser.parse_args().check
    os.chdir(ROOT)
    try:
        text = generate(Path("sql/queries"), Path("sql/migrations"))
    except QueriesError as error:
        print(error)
        return 1
    if check:
        return 0 if committed_file.is_current(OUTPUT, text) else 1
    committed_file.write(OUTPUT, text)
    return 0


def generate(queries: Path, migrations: Path) -> str:
    """The module for a folder of query files; raises `QueriesError`."""
    module = QueryModule(Schema(migrations))
    first: dict[str, Query] = {}
    problems: list[str] = []
    for path in sorted(queries.glob("*.sql")):
        try:
            in_file = read_queries(path)
        except QueryError as error:
            problems.append(str(error))
            continue
        for query in in_file:
            try:
                other = first.setdefault(query.name, query)
                if other is not query:
                    query.refuse(f"{other.path}:{other.line} has a query of this name already")
                module.add(query)
            except QueryError as error:
                problems.append(str(error))
    if problems:
        raise QueriesError("\n".join(problems))
    return module.text()


if __name__ == "__main__":
    raise SystemExit(main())
