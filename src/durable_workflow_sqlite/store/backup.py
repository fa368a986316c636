"""Copying a database while others write to it, rewriting it, and opening files for that."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.checkpointer import READERS_MAY_TAKE_S, checkpoint
from durable_workflow_sqlite.store.sqlite_errors import translate

PAGES_AT_ONCE: Final = 2048

Progress = Callable[[int, int], object]
"""Is told how many pages are copied, and how many there are."""


def back_up(
    connection: sqlite3.Connection, file: Path, copy: Path, *, on_progress: Progress | None = None
) -> None:
    """Copy a database as it is at one moment, to a new file that may be read by as many.

    Others may read and write meanwhile. Raises StoreError, OSError; no half copy is left behind.
    """
    copy = copy.absolute()
    check_place(copy)
    if not create_file(copy, stat.S_IMODE(file.stat().st_mode)):
        raise StoreError(f"{copy} is there already, and a backup overwrites no file; use another")
    try:
        # The copying itself would wait for a lock forever; this waits for the busy timeout. It
        # also holds the moment: what others commit from here on is not in the copy.
        connection.execute("begin")
        connection.execute("pragma user_version").fetchone()
        with closing(open_file(copy)) as target:
            if on_progress is None:
                connection.backup(target)
            else:
                connection.backup(
                    target,
                    pages=PAGES_AT_ONCE,
                    progress=lambda _, left, total: on_progress(total - left, total),
                )
        connection.execute("commit")
    except BaseException as error:
        copy.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise translate(error, f"copy {file} to", str(copy)) from error
        raise


def vacuum(file: Path, busy_timeout: float) -> None:
    """Rewrite a file, without the room that deleted rows have left.

    Nobody else can write meanwhile. It takes as much room again while it runs. Raises StoreError.
    """
    try:
        with closing(open_file(file, busy_timeout)) as connection:
            connection.execute("vacuum")
        # All of it is in the log now.
        checkpoint(str(file), (0.0, *READERS_MAY_TAKE_S[1]), keep_bytes=0)
    except sqlite3.Error as error:
        raise translate(error, "vacuum", str(file)) from error


def check_place(file: Path) -> None:
    """Refuse a path where there can be no file. Raises StoreError."""
    if file.is_dir():
        raise StoreError(f"{file} is a folder; give the path of a file")
    if not file.parent.is_dir():
        raise StoreError(f"there is no folder {file.parent}; create it first")


def create_file(file: Path, mode: int = 0o644) -> bool:
    """Create an empty file; False if there is one already. Raises OSError."""
    try:
        file.touch(mode, exist_ok=False)
    except FileExistsError:
        return False
    return True


def open_file(file: Path, busy_timeout: float = 0) -> sqlite3.Connection:
    """Open a file that is there, to be written; `busy_timeout` in seconds. Raises StoreError."""
    try:
        # A bare name could be one that SQLite reads in its own way.
        connection = sqlite3.connect(
            f"{file.as_uri()}?mode=rw", uri=True, timeout=busy_timeout, isolation_level=None
        )
        # A checkpoint beside the commits of others could damage the file, see `configure`. The
        # one at the end is made by the last connection, with nobody beside it.
        connection.execute("pragma wal_autocheckpoint = 0")
    except sqlite3.Error as error:
        raise translate(error, "open", str(file)) from error
    return connection
