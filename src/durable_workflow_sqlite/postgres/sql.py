"""Where the .sql files of PostgreSQL are, and the queries among them as typed objects."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, cast

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.postgres import queries as of_postgres
from durable_workflow_sqlite.postgres.adapter import PostgresAdapter
from durable_workflow_sqlite.store import queries as shared
from durable_workflow_sqlite.store.encoding import Encoding, EncodingAdapter
from durable_workflow_sqlite.store.sql import SQL_DIR, load

MIGRATIONS_DIR: Final = SQL_DIR / "postgres" / "migrations"
VIEWS_DIR: Final = SQL_DIR / "postgres" / "views"
QUERIES_DIR: Final = SQL_DIR / "postgres" / "queries"
MOVING_DIR: Final = SQL_DIR / "postgres" / "moving"


def read_views(directory: Path) -> list[tuple[Path, str]]:
    """The files of views and their texts, each after those of the views that it reads from."""
    left = {path.stem: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.sql"))}
    found: list[tuple[Path, str]] = []
    while left:
        ready = [
            name
            for name, text in left.items()
            if not any(_reads(text, other) for other in left if other != name)
        ]
        if not ready:
            raise StoreError(f"these views read from each other: {', '.join(left)}")
        found += [(directory / f"{name}.sql", left.pop(name)) for name in ready]
    return found


def _reads(text: str, view: str) -> bool:
    return re.search(rf"\b(?:from|join) durable_workflow\.{view}\b", text) is not None


class Loaded(NamedTuple):
    """shared: those that SQLite has, too."""

    shared: shared.Queries
    of_postgres: of_postgres.Queries


@cache
def load_queries(schema: str) -> Loaded:
    """The queries of `sql/postgres/queries`, in a schema."""
    return _loaded(_adapter(schema))


def load_encoding_queries(schema: str, encoding: Encoding) -> Loaded:
    """The same, with a codec between them and the database."""
    return _loaded(EncodingAdapter(_adapter(schema), encoding))


def _adapter(schema: str) -> PostgresAdapter:
    return PostgresAdapter({**shared.ROW_CLASSES, **of_postgres.ROW_CLASSES}, schema)


def _loaded(adapter: object) -> Loaded:
    loaded = load(QUERIES_DIR, adapter, of_postgres.Queries)
    return Loaded(cast("shared.Queries", loaded), cast("of_postgres.Queries", loaded))
