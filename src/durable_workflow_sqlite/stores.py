"""`open_store` and `open_reader`: the one place that knows which store a URL means.

What else the front ends do to a file of SQLite goes through here, too.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.moving.database import MovableDatabase
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.store.backup import vacuum
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS, Synchronous
from durable_workflow_sqlite.store.file_migration import migrate_file, pending_sql
from durable_workflow_sqlite.store.migrations import SCHEMA_VERSION
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.store.sqlite import SqliteCheckpointStore
from durable_workflow_sqlite.store.statement_store import StatementStore

__all__ = [
    "BUSY_TIMEOUT_MS",
    "SCHEMA_VERSION",
    "SQLITE_VERSION",
    "Synchronous",
    "get_ready",
    "migrate_file",
    "open_movable",
    "open_reader",
    "open_sqlite",
    "open_store",
    "path_of",
    "pending_sql",
    "vacuum",
    "without_password",
]

SQLITE_VERSION: Final = sqlite3.sqlite_version

_POSTGRES: Final = re.compile(r"postgres(ql)?://", re.IGNORECASE)
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # C: is a drive


def open_store(
    url: str | os.PathLike[str], *, synchronous: Synchronous = "normal"
) -> StatementStore:
    """Open the store that a path or a URL names, or create it; use it in `async with`.

    url: the path of a SQLite file, such as `workflows.db`, or its URL: `sqlite:///workflows.db` for
        a file in the current folder, `sqlite:////var/lib/workflows.db` for an absolute path.
        Percent-encoded characters are decoded. `sqlite://` alone, `sqlite:///:memory:` and
        `:memory:` are a store in memory, for tests. `postgresql://USER@HOST/DATABASE` is the schema
        `durable_workflow` of a database of PostgreSQL; it needs the extra `postgres`.
    synchronous: as for `SqliteCheckpointStore.file`; a server has a setting of its own.

    Raises ValueError for any other URL, and the errors of `SqliteCheckpointStore`.
    """
    if isinstance(url, str) and _POSTGRES.match(url):
        return _open_postgres(url)
    return open_sqlite(url, synchronous=synchronous)


def open_sqlite(
    url: str | os.PathLike[str], *, synchronous: Synchronous = "normal"
) -> SqliteCheckpointStore:
    """As `open_store`, only for SQLite."""
    path = path_of(url)
    if path is None:
        return SqliteCheckpointStore.in_memory()
    return SqliteCheckpointStore.file(path, synchronous=synchronous)


def _open_postgres(url: str) -> StatementStore:
    with _psycopg_for(url):
        from durable_workflow_sqlite.postgres.store import PostgresStore

    return PostgresStore(url)


@contextmanager
def _psycopg_for(url: str) -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise StoreError(
            f"cannot open {without_password(url)!r}: psycopg is not installed; install the extra"
            " `postgres`: pip install 'durable-workflow-sqlite[postgres]'"
        ) from error


def open_reader(url: str | os.PathLike[str]) -> Reader:
    """Open a store only for reading; use it in `with`. It is neither created nor migrated.

    url: as for `open_store`, except a store in memory, which only its own process can read.

    Raises ValueError for any other URL, and StoreError for a file that does not exist or has an
    older schema. Raises SchemaTooNewError for a newer schema, MigrationError for a file of another
    application, and StoreCorruptError.
    """
    path = path_of(url)
    if path is None:
        raise ValueError("only its own process can read a store in memory; give the path of a file")
    # Programs that run workflows read nothing, and need not wait for this import.
    from durable_workflow_sqlite.store.reader import SqliteReader

    return SqliteReader.open(path)


def open_movable(url: str | os.PathLike[str], *, create: bool) -> MovableDatabase:
    """Open a database that is to be moved; or, with `create`, one that another is moved into.

    url: as for `open_store`, except a store in memory.

    Raises ValueError for any other URL, and StoreError.
    """
    if isinstance(url, str) and _POSTGRES.match(url):
        with _psycopg_for(url):
            from durable_workflow_sqlite.postgres.moving import PostgresMoving

        return PostgresMoving(url)
    path = path_of(url)
    if path is None:
        raise ValueError("a store in memory cannot be moved; give the path of a file")
    from durable_workflow_sqlite.store.moving import SqliteMoving

    return SqliteMoving.open_file(Path(path), create=create)


def get_ready() -> None:
    """Load now what the first store or reader would load."""
    load_queries()


def path_of(url: str | os.PathLike[str]) -> str | None:
    """The file that a path or a URL names; None for a store in memory. Raises ValueError."""
    text = os.fspath(url)
    if not isinstance(text, str):
        raise TypeError(f"url must be a path or a URL as text, not {url!r}")
    named = _URL.match(text) if isinstance(url, str) else None
    if named is not None:
        text = _in_url(text, named[1].lower())
    if text == "" and named is None:
        raise ValueError("the path of the database is empty")
    return None if text in ("", ":memory:") else text


def _in_url(url: str, scheme: str) -> str:
    if scheme != "sqlite":
        raise ValueError(
            f"{without_password(url)!r} names no store: {scheme} is not known here; give the path"
            " of a SQLite file, or sqlite:///PATH"
        )
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ValueError(
            f"{url!r} names no store: a SQLite URL must not have ? or #. If the name of the file"
            " has them, write %3F and %23"
        )
    if parts.netloc:
        raise ValueError(
            f"{url!r} names no store: a SQLite URL has three slashes before the path, as in"
            f" sqlite:///{parts.netloc}{parts.path}"
        )
    return unquote(parts.path.removeprefix("/"))


def without_password(url: str) -> str:
    """A URL as people may see it."""
    return re.sub(r"//[^/@]*@", "//...@", url)
