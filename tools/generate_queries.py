"""The text of store/queries.py: what sql/queries/*.sql look like from Python.

A class for each shape of row, a protocol with a method for each query, a table from query to row
class, and the names of the tables.
"""

from __future__ import annotations

from pathlib import Path

import migration_folder
from query_files import Query, QueryError, read_queries
from query_module import QueryModule
from query_types import Schema
from view_files import ViewError

OUTPUT = Path("src/durable_workflow_sqlite/store/queries.py")


class QueriesError(Exception):
    """All that must be changed in the query files and the views."""


def generate(queries: Path, migrations: Path) -> str:
    """The module for a folder of query files; raises `QueriesError`."""
    try:
        schema = Schema(migrations)
    except (ViewError, migration_folder.MigrationFileError) as error:
        raise QueriesError(str(error)) from None
    module = QueryModule(schema)
    first: dict[str, Query] = {}
    problems = schema.problems()
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
