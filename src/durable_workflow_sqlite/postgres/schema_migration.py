"""Migrating a schema for a person, who wants to know what is done: a dry run, a new schema."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import psycopg

from durable_workflow_sqlite.errors import MigrationError, StoreError
from durable_workflow_sqlite.postgres.address import Address
from durable_workflow_sqlite.postgres.failures import translated
from durable_workflow_sqlite.postgres.migrations import bring_up_to_date, pending
from durable_workflow_sqlite.postgres.session import Session, in_schema, without_password
from durable_workflow_sqlite.postgres.sql import (
    MIGRATIONS_DIR,
    VIEWS_DIR,
    load_queries,
    read_views,
)
from durable_workflow_sqlite.store.migration_files import Migration, read_migrations

Say = Callable[[str], object]
"""Is given each line about what was done."""


def pending_schema_sql(address: Address, *, create: bool, busy_timeout: float) -> str:
    """The SQL that `migrate_schema` would run, as a script; "" for none. Changes nothing.

    Raises StoreError.
    """
    with _session(address, busy_timeout) as session:
        todo = _todo(session, address, create=create)
        views = [text for _, text in read_views(VIEWS_DIR)] if todo else _missing(session, address)
    parts = [f"-- {one.name}\n\n{one.sql()}\n{_noted(one)}" for one in todo] + views
    if not parts:
        return ""
    return in_schema("\n".join(["begin;\n", *parts, "commit;"]), address.schema)


def migrate_schema(address: Address, *, create: bool, busy_timeout: float, say: Say) -> None:
    """Migrate a schema, or create one, and say what was done.

    create: whether the schema need not be there. busy_timeout: in seconds.
    Raises StoreError.
    """
    with _session(address, busy_timeout) as session:
        is_new = len(_todo(session, address, create=create)) == _version()
        applied = bring_up_to_date(session, address.schema)
        for name in applied:
            say(f"applied {name}")
        if is_new and applied:
            say(f"created the schema {address.schema}")
        missing = _missing(session, address)
        for text in missing:
            try:
                session.run_script(in_schema(text, address.schema))
            except psycopg.Error as error:
                raise MigrationError(f"cannot make a view again: {error}") from error
        if missing:
            say(f"made {len(missing)} missing views again")
        if not (applied or missing):
            say(f"nothing was pending: {address.name} has schema version {_version()}")


@contextmanager
def _session(address: Address, busy_timeout: float) -> Generator[Session]:
    # A statement of a setting takes no parameter; 0 would be no limit at all.
    timeout = f"set lock_timeout = {max(1, round(busy_timeout * 1000))}"
    session = Session(address.url, timeout, is_pooled=address.is_pooled)
    try:
        yield session
    except psycopg.Error as error:
        raise translated(error, without_password(address.url)) from error
    finally:
        session.close()


def _version() -> int:
    return len(read_migrations(MIGRATIONS_DIR))


def _todo(session: Session, address: Address, *, create: bool) -> list[Migration]:
    migrations = read_migrations(MIGRATIONS_DIR)
    queries = load_queries(address.schema).of_postgres
    todo = pending(session, queries, address.schema, migrations)
    if len(todo) == len(migrations) and not create:
        raise StoreError(
            f"there is no schema {address.schema} with the tables of this library in"
            f" {without_password(address.url)}; to create it there, add --create"
        )
    return todo


def _missing(session: Session, address: Address) -> list[str]:
    """The texts of the views that are not there."""
    queries = load_queries(address.schema).of_postgres
    return [
        text
        for path, text in read_views(VIEWS_DIR)
        if not queries.is_there(session, table_name=f"{address.schema}.{path.stem}")
    ]


def _noted(one: Migration) -> str:
    return (
        "insert into durable_workflow.workflow_migrations (version, name)"
        f" values ({one.version}, '{one.name}');\n"
    )
