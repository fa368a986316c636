"""Brings a schema of PostgreSQL up to date: what is pending is one transaction, under a lock."""

from __future__ import annotations

import re
from typing import Final

import psycopg

from durable_workflow_sqlite.errors import MigrationError, SchemaTooNewError, StoreError
from durable_workflow_sqlite.postgres.address import checked_schema
from durable_workflow_sqlite.postgres.failures import translated
from durable_workflow_sqlite.postgres.queries import Queries
from durable_workflow_sqlite.postgres.session import Session, in_schema, without_password
from durable_workflow_sqlite.postgres.sql import (
    MIGRATIONS_DIR,
    VIEWS_DIR,
    load_queries,
    read_views,
)
from durable_workflow_sqlite.store.migration_files import Migration, read_migrations

OLDEST_SERVER: Final = 150000

_MADE: Final = re.compile(
    r"^(create|drop) (?:unique )?(?:or replace )?(table|index|trigger|function)"
    r" (?:if exists )?(?:durable_workflow\.)?(\w+)",
    re.MULTILINE,
)


def migrate(url: str, *, schema: str) -> list[str]:
    """Apply what is pending; the names of the migrations. Raises StoreError."""
    session = Session(url)
    try:
        return bring_up_to_date(session, checked_schema(schema))
    except psycopg.Error as error:
        raise translated(error, without_password(url)) from error
    finally:
        session.close()


def bring_up_to_date(session: Session, schema: str) -> list[str]:
    """As `migrate`, in a session. Raises psycopg.Error, too."""
    queries = load_queries(schema).of_postgres
    server = session.connection.info.server_version
    if server < OLDEST_SERVER:
        raise StoreError(
            f"PostgreSQL {server // 10000} is too old: this library needs {OLDEST_SERVER // 10000}"
        )
    migrations = read_migrations(MIGRATIONS_DIR)
    if not pending(session, queries, schema, migrations):
        return []
    session.execute("begin isolation level read committed")
    try:
        # Another process may be at it; it is done when this one goes on.
        queries.hold(session, kind="durable_workflow migrations", name=schema)
        todo = pending(session, queries, schema, migrations)
        for one in todo:
            try:
                session.run_script(in_schema(one.sql(), schema))
            except psycopg.Error as error:
                raise MigrationError(
                    f"cannot apply {one.path.name}: {error}; nothing was changed"
                ) from error
            queries.insert_migration(session, version=one.version, name=one.name)
        for _, view in read_views(VIEWS_DIR) if todo else ():
            session.run_script(in_schema(view, schema))
        session.execute("commit")
    except BaseException:
        if not session.is_lost:
            session.execute("rollback")
        raise
    return [one.name for one in todo]


def pending(
    session: Session, queries: Queries, schema: str, migrations: list[Migration]
) -> list[Migration]:
    """Those that a schema lacks: all of them, if it is not there. Raises SchemaTooNewError."""
    version = 0
    if queries.is_there(session, table_name=f"{schema}.workflow_migrations"):
        version = queries.load_schema_version(session) or 0
    newest = migrations[-1].version
    if version > newest:
        raise SchemaTooNewError(
            f"schema {schema} of {without_password(session.url)} has version {version}, and this"
            f" library knows {newest}: update the library",
            found=version,
            supported=newest,
        )
    return [one for one in migrations if one.version > version]


def shipped_objects() -> set[tuple[str, str]]:
    """All objects that the migrations and the views make, by kind and name."""
    made = {("view", path.stem) for path in VIEWS_DIR.glob("*.sql")}
    for migration in read_migrations(MIGRATIONS_DIR):
        for what, kind, name in _MADE.findall(migration.sql()):
            (made.add if what == "create" else made.discard)((kind, name))
    return made
