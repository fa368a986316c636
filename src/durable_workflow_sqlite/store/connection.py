"""Opening a database the way this library needs it."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final, Literal

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.guard import StoreConnection
from durable_workflow_sqlite.store.sqlite_errors import FAILURES, is_busy, translate

BUSY_TIMEOUT_MS: Final = 5000
CACHE_KIB: Final = 8000
LOG_BYTES: Final = 32_000_000
"""How long the write-ahead log may grow before it is checkpointed."""

Synchronous = Literal["normal", "full"]
_SYNCHRONOUS_CODE: Final = {"normal": 1, "full": 2}


def open_connection(path: str | Path) -> sqlite3.Connection:
    """Open a file in autocommit mode, or create it, for use by one thread at a time.

    Raises StoreError.
    """
    if path != ":memory:":
        path = os.path.abspath(path)  # noqa: PTH100 - "file:x" is a URI
    return _connect(path, is_uri=False)


def open_existing(path: str | Path) -> sqlite3.Connection:
    """As `open_connection`, of a file that is there: one that was deleted is not made again."""
    return _connect(f"{Path(path).absolute().as_uri()}?mode=rw", is_uri=True)


def _connect(path: str | Path, *, is_uri: bool) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            path,
            uri=is_uri,
            factory=StoreConnection,
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except FAILURES as error:
        raise translate(error, "open the database", str(path)) from error


def configure(connection: sqlite3.Connection, synchronous: Synchronous = "normal") -> None:
    """Set the PRAGMAs and verify each; after `wait_for_locks`, since setting WAL needs one.

    Automatic checkpoints are off: SQLite up to 3.51.2 can corrupt a file when a checkpoint on one
    connection races a commit on another that resets the WAL. So checkpoints run where no one can
    commit. A log that is reset is cut to the length at which the next checkpoint is due, so its
    size tells.

    Raises StoreError.
    """
    path = database_path(connection)
    in_memory = path is None
    wanted: list[tuple[str, str | int, str | int]] = [
        ("journal_mode", "wal", "memory" if in_memory else "wal"),
        ("foreign_keys", "on", 1),
        ("synchronous", synchronous, _SYNCHRONOUS_CODE[synchronous]),
        ("cache_size", -CACHE_KIB, -CACHE_KIB),
        ("temp_store", "memory", 2),
        ("wal_autocheckpoint", 0, 0),
        ("journal_size_limit", LOG_BYTES, LOG_BYTES),
    ]
    for name, value, expected in wanted:
        _set_and_verify(connection, path, name, value, expected)


def wait_for_locks(connection: sqlite3.Connection) -> None:
    """Set the busy timeout, before anything that could need a lock. Raises StoreError."""
    path = database_path(connection)
    _set_and_verify(connection, path, "busy_timeout", BUSY_TIMEOUT_MS, BUSY_TIMEOUT_MS)


def _set_and_verify(
    connection: sqlite3.Connection,
    path: str | None,
    name: str,
    value: str | int,
    expected: str | int,
) -> None:
    try:
        _set(connection, name, value)
        (found,) = connection.execute(f"pragma {name}").fetchone()
    except FAILURES as error:
        raise translate(error, f"set pragma {name} of", path) from error
    if found != expected:
        raise StoreError(
            f"pragma {name} is {found!r} after it was set to {value!r}"
            f" on {path or 'an in-memory database'}"
        )


def _set(connection: sqlite3.Connection, name: str, value: str | int) -> None:
    """Set a PRAGMA; where SQLite does not wait for a lock by itself, wait here.

    To make a file WAL, a connection must have it alone. When two try at once, SQLite tells one of
    them that it is busy, and calls no busy handler (sqlite.org/c3ref/busy_handler.html).
    """
    give_up_at = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(f"pragma {name} = {value}").fetchall()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() >= give_up_at:
                raise
            time.sleep(0.005)
        else:
            return


def database_path(connection: sqlite3.Connection) -> str | None:
    """The file behind a connection, None for one in memory. Raises StoreError."""
    try:
        databases = connection.execute("pragma database_list").fetchall()
    except FAILURES as error:
        raise translate(error, "use", "the database") from error
    for _, name, file in databases:
        if name == "main" and file:
            return str(file)
    return None


def file_at(path: str) -> tuple[int, int] | None:
    """Which file a path leads to. SQLite goes on writing to one that was deleted."""
    try:
        found = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, at every commit
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_bound_to_thread(connection: sqlite3.Connection) -> bool:
    """Whether no other thread may use a connection: `check_same_thread`, the default of sqlite3."""
    refused: list[sqlite3.Error] = []

    def use() -> None:
        try:
            connection.cursor().close()
        except sqlite3.Error as error:
            refused.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    return bool(refused)
