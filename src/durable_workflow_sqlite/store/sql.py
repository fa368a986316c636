"""Where the .sql files are, and the queries among them as one typed object."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.adapter import RowClassAdapter
from durable_workflow_sqlite.store.queries import ROW_CLASSES, Queries

if TYPE_CHECKING:
    from aiosql.query_loader import QueryLoader

_PACKAGE = Path(__file__).parents[1]
_SHIPPED = _PACKAGE / "sql"  # a wheel ships sql/ inside the package; a checkout has it at the root
SQL_DIR: Final = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parents[1] / "sql"

MIGRATIONS_DIR: Final = SQL_DIR / "migrations"
VIEWS_DIR: Final = SQL_DIR / "views"
QUERIES_DIR: Final = SQL_DIR / "queries"
MOVING_DIR: Final = SQL_DIR / "moving"

_NAME: Final = re.compile(r"--\s*name\s*:\s*")


@cache
def load_queries(directory: Path = QUERIES_DIR) -> Queries:
    """The queries of `sql/queries`. They keep no state, so everybody shares one object."""
    return cast("Queries", load(directory, RowClassAdapter(ROW_CLASSES), Queries))


@cache
def load_statements(directory: Path) -> dict[str, str]:
    """The statements of a folder, by name, as they stand there: for who streams rows."""
    loader = _loader(RowClassAdapter({}))
    return {
        query.query_name: query.sql
        for path in sorted(directory.glob("*.sql"))
        for query in loader.load_query_data_from_file(path, encoding="utf-8")  # pyright: ignore[reportUnknownMemberType]
    }


def load(directory: Path, driver_adapter: object, protocol: type) -> object:
    """The queries of a folder, which has all that a protocol asks for. Raises StoreError."""
    # Imported here because it takes longer than the rest of the package.
    from aiosql.queries import Queries as LoadedQueries

    adapter = cast("Any", driver_adapter)
    loader = _loader(adapter)
    loaded = LoadedQueries(adapter)
    files: dict[str, Path] = {}
    for path in sorted(directory.glob("*.sql")):
        queries = loader.load_query_data_from_file(path, encoding="utf-8")  # pyright: ignore[reportUnknownMemberType]
        for query in queries:
            # aiosql would let the second one take the place of the first.
            if other := files.get(query.query_name):
                raise StoreError(f"{other} and {path} both hold a query named {query.query_name}")
            files[query.query_name] = path
        loaded.load_from_list(queries)

    if missing := sorted(name for name in vars(protocol) if name[0] != "_" and name not in files):
        raise StoreError(f"{directory} lacks the queries {', '.join(missing)}")
    return loaded


def _loader(adapter: Any) -> QueryLoader:
    from aiosql.query_loader import QueryLoader

    class Loader(QueryLoader):
        """Takes no comments out: aiosql looks for `/*` at each character, which takes longest."""

        def load_query_data_from_sql(
            self, sql: str, ns_parts: list[str], fname: Path | str = "<unknown>"
        ) -> list[Any]:
            _, *queries = _NAME.split(sql)
            return [self._make_query_datum(query, ns_parts, (fname, 0)) for query in queries]

    return Loader(adapter, record_classes=None, mandatory_parameters=False)
