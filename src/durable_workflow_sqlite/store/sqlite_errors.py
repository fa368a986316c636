"""Errors of SQLite to the errors of this library."""

from __future__ import annotations

import sqlite3
from typing import Final

from durable_workflow_sqlite.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreGoneError,
    StoreMovedError,
    StoreReadOnlyError,
)
from durable_workflow_sqlite.store.moves import MOVED, MOVED_ELSEWHERE

FAILURES: Final = (sqlite3.Error, MemoryError, UnicodeDecodeError)
"""What sqlite3 raises for an error of SQLite; the last two have no code.

A UnicodeDecodeError comes from a name in the schema that is not UTF-8: the file is damaged.
"""

_PRIMARY_CODE: Final = 0xFF
"""The low byte of an extended result code is its primary code (sqlite.org/rescode.html)."""

# What is wrong with the file, the disk or the rights, and what to do about it.
_CAUSES: Final[dict[int, tuple[type[StoreError], str]]] = {
    sqlite3.SQLITE_BUSY: (
        StoreBusyError,
        "someone else holds its lock; find who has a transaction open, and try again",
    ),
    sqlite3.SQLITE_LOCKED: (
        StoreBusyError,
        "someone else holds its lock; find who has a transaction open, and try again",
    ),
    sqlite3.SQLITE_NOTADB: (
        StoreCorruptError,
        "it is not a SQLite database; give another path",
    ),
    sqlite3.SQLITE_CORRUPT: (
        StoreCorruptError,
        "it is damaged; restore a backup, or save what is readable with `sqlite3 .recover`",
    ),
    sqlite3.SQLITE_READONLY: (
        StoreReadOnlyError,
        "it is read-only; give the process the right to write the file and its folder",
    ),
    sqlite3.SQLITE_READONLY_DBMOVED: (
        StoreGoneError,
        "its file was moved or deleted while it was open; put it back, or open it again",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        StoreError,
        "it cannot be opened; check that its folder exists and may be written",
    ),
    sqlite3.SQLITE_FULL: (
        StoreFullError,
        "the disk is full; make room and try again",
    ),
    sqlite3.SQLITE_IOERR: (
        StoreError,
        "the disk gave an error; check that it has room, that it may be written, and that the file"
        " is still there",
    ),
    sqlite3.SQLITE_NOMEM: (
        StoreError,
        "there is not enough memory for it; give the process more, or store less at once",
    ),
    sqlite3.SQLITE_PERM: (StoreReadOnlyError, "the process may not do that"),
    sqlite3.SQLITE_AUTH: (StoreReadOnlyError, "the process may not do that"),
}


_OF_THE_DISK: Final = frozenset(_CAUSES) - {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
}


def is_busy(error: BaseException) -> bool:
    """Whether someone else held a lock."""
    return _code(error) & _PRIMARY_CODE in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_of_the_disk(error: BaseException) -> bool:
    """Whether the file, the disk or the memory is at fault, whatever the statement was."""
    return isinstance(error, sqlite3.Error) and _code(error) & _PRIMARY_CODE in _OF_THE_DISK


def is_of_the_statement(error: sqlite3.Error) -> bool:
    """Whether the statement is at fault, and not the file, the disk or another process."""
    return _code(error) & _PRIMARY_CODE not in _CAUSES


def translate(
    error: sqlite3.Error | MemoryError | UnicodeDecodeError, doing: str, path: str | None
) -> StoreError:
    """The StoreError to raise from an error of SQLite.

    doing: what failed, as in "cannot {doing}". path: the file, None for a database in memory.
    """
    where = "the database in memory" if path is None else path
    code = _code(error)
    if MOVED in str(error):
        return StoreMovedError(f"cannot {doing} {where}: {MOVED_ELSEWHERE}")
    cause = _CAUSES.get(code) or _CAUSES.get(code & _PRIMARY_CODE)
    if cause is None:
        hint = ""
        if "no such table: workflow_" in str(error):
            hint = "; `durable-workflow doctor` says what is missing, `migrate` makes views again"
        return StoreError(f"cannot {doing} {where}: {error}{hint}")
    kind, why = cause
    said = str(error) or "out of memory"
    return kind(f"cannot {doing} {where}: {why} (SQLite says: {said})")


def _code(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return sqlite3.SQLITE_NOMEM
    if isinstance(error, UnicodeDecodeError):
        return sqlite3.SQLITE_CORRUPT
    # Errors that Python's module itself raises have no code.
    return getattr(error, "sqlite_errorcode", None) or 0
