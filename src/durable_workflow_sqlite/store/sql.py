"""Where the .sql files are, and the queries among them as one typed object."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.adapter import RowClassAdapter
from durable_workflow_sqlite.store.queries import ROW_CLASSES, Queries

_PACKAGE = Path(__file__).parents[1]
_SHIPPED = _PACKAGE / "sql"  # a wheel ships sql/ inside the package; a checkout has it at the root
_SQL = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parents[1] / "sql"

MIGRATIONS_DIR: Final = _SQL / "migrations"
VIEWS_DIR: Final = _SQL / "views"
QUERIES_DIR: Final = _SQL / "queries"


_NAME: Final = re.compile(r"^-- name: (\w+)(.?)\n", re.MULTILINE)


@cache
def load_queries(directory: Path = QUERIES_DIR) -> Queries:
    """The queries of `sql/queries`. They keep no state, so everybody shares one object."""
    # Imported here because it takes longer than the rest of the package.
    from aiosql.queries import Queries as LoadedQueries
    from aiosql.types import QueryDatum, SQLOperationType

    operations = {
        "": SQLOperationType.SELECT,
        "^": SQLOperationType.SELECT_ONE,
        "$": SQLOperationType.SELECT_VALUE,
        "!": SQLOperationType.INSERT_UPDATE_DELETE,
    }
    adapter = RowClassAdapter(ROW_CLASSES)
    loaded = LoadedQueries(cast("Any", adapter))
    files: dict[str, Path] = {}
    for path in sorted(directory.glob("*.sql")):
        for name, operation, sql in split_queries(path.read_text(encoding="utf-8")):
            # aiosql would let the second one take the place of the first.
            if other := files.get(name):
                raise StoreError(f"{other} and {path} both hold a query named {name}")
            files[name] = path
            adapter.add(name, sql)
            datum = QueryDatum(
                name, "", operations[operation], sql, None, None, (path, 1), None, None
            )
            loaded.load_from_list([datum])

    if missing := sorted(name for name in vars(Queries) if name[0] != "_" and name not in files):
        raise StoreError(f"{directory} lacks the queries {', '.join(missing)}")
    return cast("Queries", loaded)


def split_queries(text: str) -> Iterator[tuple[str, str, str]]:
    """The queries of a file: of each its name, what follows the name there, and its statement.

    As aiosql reads files that `tools/generate.py` accepts, in a tenth of the time: its search for
    comments that these cannot hold finds a match at every character.
    """
    parts = _NAME.split(text)[1:]
    for name, operation, lines in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        sql = (line.rstrip() for line in lines.split("\n") if not line.lstrip().startswith("--"))
        yield name, operation, "\n".join(sql).strip()
