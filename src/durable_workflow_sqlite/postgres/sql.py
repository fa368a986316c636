"""Where the .sql files of PostgreSQL are, and the queries among them as typed objects."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple, cast

from durable_workflow_sqlite.postgres import queries as of_postgres
from durable_workflow_sqlite.postgres.adapter import PostgresAdapter
from durable_workflow_sqlite.store import queries as shared
from durable_workflow_sqlite.store.sql import SQL_DIR, load

MIGRATIONS_DIR: Final = SQL_DIR / "postgres" / "migrations"
VIEWS: Final = SQL_DIR / "postgres" / "views.sql"
QUERIES_DIR: Final = SQL_DIR / "postgres" / "queries"
MOVING_DIR: Final = SQL_DIR / "postgres" / "moving"


class Loaded(NamedTuple):
    """shared: those that SQLite has, too; here there are only those that the store sends."""

    shared: shared.Queries
    of_postgres: of_postgres.Queries


@cache
def load_queries(schema: str) -> Loaded:
    """The queries of `sql/postgres/queries`, in a schema."""
    classes = {**shared.ROW_CLASSES, **of_postgres.ROW_CLASSES}
    loaded = load(QUERIES_DIR, PostgresAdapter(classes, schema), of_postgres.Queries)
    return Loaded(cast("shared.Queries", loaded), cast("of_postgres.Queries", loaded))
