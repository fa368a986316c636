"""Where the .sql files are, and the queries among them as one typed object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any, Final, cast

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.adapter import RowClassAdapter
from durable_workflow_sqlite.store.encoding import Encoding, EncodingAdapter
from durable_workflow_sqlite.store.queries import ROW_CLASSES, Queries

_PACKAGE = Path(__file__).parents[1]
_SHIPPED = _PACKAGE / "sql"  # a wheel ships sql/ inside the package; a checkout has it at the root
SQL_DIR: Final = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parents[1] / "sql"

MIGRATIONS_DIR: Final = SQL_DIR / "migrations"
VIEWS_DIR: Final = SQL_DIR / "views"
QUERIES_DIR: Final = SQL_DIR / "queries"
MOVING_DIR: Final = SQL_DIR / "moving"

_NAME: Final = re.compile(r"--\s*name\s*:\s*")
_WORD: Final = re.compile(r"\w+")


@cache
def load_queries(directory: Path = QUERIES_DIR) -> Queries:
    """The queries of `sql/queries`. They keep no state, so everybody shares one object."""
    return cast("Queries", load(directory, RowClassAdapter(ROW_CLASSES), Queries))


def load_encoding_queries(encoding: Encoding) -> Queries:
    """The same, with a codec between them and the database."""
    adapter = EncodingAdapter(RowClassAdapter(ROW_CLASSES), encoding)
    return cast("Queries", load(QUERIES_DIR, adapter, Queries))


@cache
def load_statements(directory: Path) -> dict[str, str]:
    """The statements of a folder, by name, as they stand there: for code that streams rows."""
    loader = _loader(RowClassAdapter({}))
    return {
        query.query_name: query.sql
        for path in sorted(directory.glob("*.sql"))
        for query in loader.load_query_data_from_file(path, encoding="utf-8")
    }


def load(directory: Path, driver_adapter: object, protocol: type) -> object:
    """The queries of a folder, which has all that a protocol asks for. Raises StoreError."""
    found: dict[str, tuple[str, Path]] = {}
    for path in sorted(directory.glob("*.sql")):
        _, *texts = _NAME.split(path.read_text(encoding="utf-8"))
        for text in texts:
            name = _WORD.match(text)[0]  # type: ignore[index]
            if name in found:
                raise StoreError(f"{found[name][1]} and {path} both hold a query named {name}")
            found[name] = text, path
    if missing := sorted(name for name in vars(protocol) if name[0] != "_" and name not in found):
        raise StoreError(f"{directory} lacks the queries {', '.join(missing)}")
    return _made_when_needed(found, cast("Any", driver_adapter))


def _made_when_needed(texts: Mapping[str, tuple[str, Path]], adapter: Any) -> object:
    """Make each query when it is first asked for: an engine needs only a third of them."""
    # Imported here because it takes longer than the rest of the package.
    from aiosql.queries import Queries as LoadedQueries

    loader = _loader(adapter)

    class QueriesOfFolder(LoadedQueries):
        def __getattr__(self, name: str) -> Any:
            if name not in texts:
                raise AttributeError(f"there is no query named {name}")
            text, path = texts[name]
            made = MethodType(self._make_sync_fn(loader.made_of(text, path)), self)
            setattr(self, name, made)  # from now on, this is found first
            return made

    return QueriesOfFolder(adapter)


def _loader(adapter: Any) -> Any:
    from aiosql.query_loader import QueryLoader

    class Loader(QueryLoader):
        """Takes no comments out: aiosql looks for `/*` at each character, which takes longest."""

        def load_query_data_from_sql(
            self, sql: str, ns_parts: list[str], fname: Path | str = "<unknown>"
        ) -> list[Any]:
            _, *queries = _NAME.split(sql)
            return [self.made_of(query, fname) for query in queries]

        def made_of(self, text: str, path: Path | str) -> Any:
            return self._make_query_datum(text, [], (path, 0))

    return Loader(adapter, record_classes=None, mandatory_parameters=False)
