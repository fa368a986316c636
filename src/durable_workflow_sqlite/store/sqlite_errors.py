"""Errors of SQLite to the errors of this library."""

from __future__ import annotations

import sqlite3
from typing import Final

from durable_workflow_sqlite.errors import StoreBusyError, StoreCorruptError, StoreError

_PRIMARY_CODE: Final = 0xFF
"""The low byte of an extended result code is its primary code (sqlite.org/rescode.html)."""


def is_busy(error: sqlite3.Error) -> bool:
    """Whether someone else held a lock."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translate(error: sqlite3.Error, doing: str, path: str | None) -> StoreError:
    """The StoreError to raise from an error of SQLite.

    doing: what failed, as in "cannot {doing}". path: the file, None for a database in memory.
    """
    where = "the database in memory" if path is None else path
    kind: type[StoreError] = StoreError
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            kind = StoreBusyError
            why = "someone else holds its lock; find who has a transaction open, and try again"
        case sqlite3.SQLITE_NOTADB:
            kind = StoreCorruptError
            why = "it is no SQLite database; give another path"
        case sqlite3.SQLITE_CORRUPT:
            kind = StoreCorruptError
            why = "it is damaged; restore a backup, or save what is readable with `sqlite3 .recover`"
        case sqlite3.SQLITE_READONLY:
            why = "it is read-only; give the process the right to write the file and its folder"
        case sqlite3.SQLITE_CANTOPEN:
            why = "it cannot be opened; check that its folder exists and may be written"
        case sqlite3.SQLITE_FULL:
            why = "the disk is full; make room and try again"
        case sqlite3.SQLITE_IOERR:
            why = "the disk gave an error; check it, and whether the file is still there"
        case sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            why = "the process may not do that"
        case _:
            return StoreError(f"cannot {doing} {where}: {error}")
    return kind(f"cannot {doing} {where}: {why} (SQLite says: {error})")


def _code(error: sqlite3.Error) -> int:
    # Errors that Python's module itself raises have no code.
    return (getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY_CODE
