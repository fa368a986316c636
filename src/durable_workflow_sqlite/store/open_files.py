"""The files of an open database: whether they are still the ones that were opened.

SQLite goes on writing to a file that was deleted or replaced, and what it writes there ends with
the process (sqlite.org/howtocorrupt.html, 2.4). So the files are looked at: before each transaction
of a group, and before a read or a lone write if the last look is half a millisecond old. What a log
that is gone holds is saved at once.

While a connection is open, nobody deletes its log by right. The last connection that closes does,
and who changes the journal mode, but both must have the database alone for it.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from durable_workflow_sqlite.errors import StoreGoneError
from durable_workflow_sqlite.store.connection import file_at
from durable_workflow_sqlite.store.file_rights import give_rights_of
from durable_workflow_sqlite.store.sqlite_errors import FAILURES

_stat: Final = os.stat  # half the time of Path.stat, at every commit


class OpenFiles:
    """A database, its write-ahead log and the index of that, as a connection has them open."""

    def __init__(self, connection: sqlite3.Connection, database: str) -> None:
        self.database = database
        self.log = f"{database}-wal"
        self._index = f"{database}-shm"
        self._connection = connection
        self._opened = file_at(database)
        # There is none for a connection that keeps them to itself.
        self._opened_log = file_at(self.log)
        self._opened_index = file_at(self._index)
        self._saved: bool | None = None
        for path, opened in ((self.log, self._opened_log), (self._index, self._opened_index)):
            if opened is not None:
                give_rights_of(database, path)

    def check(self) -> None:
        """Raises StoreGoneError, if one is not what was opened."""
        if (at := file_at(self.database)) != self._opened:
            raise StoreGoneError(
                f"{self.database} was {_fate(at)} while it was open; nothing is written to it"
                " or read from it any more. Put it back, or open what is there now as a new store"
            )
        self.check_log()
        if self._opened_index is not None and (at := file_at(self._index)) != self._opened_index:
            raise StoreGoneError(
                f"{self._index} was {_fate(at)} while {self.database} was open, so that processes"
                " do not see each other's locks any more; nothing is written or read any more."
                f" What was committed is in the database and its log. {_WHAT_TO_DO}"
            )

    def check_log(self) -> None:
        """As `check`, of the log alone."""
        opened = self._opened_log
        if opened is None:
            return
        try:
            # A file that takes its place is on the same device.
            is_there = _stat(self.log).st_ino == opened[1]
        except OSError:
            is_there = False
        if not is_there:
            at = file_at(self.log)
            raise StoreGoneError(
                f"{self.log}, the write-ahead log, was {_fate(at)} while {self.database} was open;"
                " nothing is written or read any more."
                f" {_SAVED if self._save() else _NOT_SAVED} {_WHAT_TO_DO}"
            )

    @property
    def are_there(self) -> bool:
        """Whether each is what was opened; for any thread."""
        return self.is_database_there() and all(
            opened is None or file_at(path) == opened
            for path, opened in ((self.log, self._opened_log), (self._index, self._opened_index))
        )

    def is_database_there(self) -> bool:
        return file_at(self.database) == self._opened

    def _save(self) -> bool:
        """Copy what a log that is gone holds into the database, once; say whether that is done.

        Not if another log may hold what somebody else has committed since: they do not fit.
        """
        if self._saved is None and not self._connection.in_transaction:
            self._saved = False
            if self.is_database_there() and _is_empty(self.log):
                try:
                    row = self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
                except FAILURES:
                    return False
                is_busy, pages, copied = row
                self._saved = not is_busy and pages == copied
        return bool(self._saved)


_SAVED: Final = "The commits to it before are saved in the database."
_NOT_SAVED: Final = "The commits since the last checkpoint were only in the log, which is gone."
_WHAT_TO_DO: Final = (
    "End every process that has the database open, then start them again; only SQLite may delete"
    " that file"
)


def _fate(at: tuple[int, int] | None) -> str:
    return "moved or deleted" if at is None else "replaced by another file"


def _is_empty(path: str) -> bool:
    try:
        return _stat(path).st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False
