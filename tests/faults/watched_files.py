"""SQLite's files by apsw, with every operation on them told to a watcher, who may let it fail.

Only for a process that opens the file with apsw alone: closing one library's file drops the locks
that the other one holds in the same process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

import apsw


class Op(NamedTuple):
    """What SQLite asks of the file system, or with "statement" for `file`, what it is asked for."""

    kind: str
    file: str
    offset: int = 0
    data: bytes = b""
    is_synced: bool = False
    """Of "open": whether the first sync of the file syncs its folder; of "delete": done here."""


class Watcher(Protocol):
    def before(self, op: Op) -> None:
        """Raise an error of apsw, and the operation fails with it."""
        ...

    def after(self, op: Op) -> None: ...


class _File(apsw.VFSFile):
    def __init__(self, watcher: Watcher, path: str, name: Any, flags: Any) -> None:
        self._watcher = watcher
        self._path = path
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        op = Op("write", self._path, offset, bytes(data))
        self._watcher.before(op)
        super().xWrite(data, offset)
        self._watcher.after(op)

    def xTruncate(self, size: int) -> None:
        op = Op("truncate", self._path, size)
        try:
            self._watcher.before(op)
        except apsw.Error:
            if size and self._path.endswith("-wal"):
                # The cut to journal_size_limit, which comes as part of a commit that has worked.
                # SQLite takes no notice of its failure, but apsw would raise it all the same.
                return
            raise
        super().xTruncate(size)
        self._watcher.after(op)

    def xSync(self, flags: int) -> None:
        op = Op("sync", self._path)
        self._watcher.before(op)
        super().xSync(flags)
        self._watcher.after(op)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._watcher.before(Op("read", self._path, offset))
        return super().xRead(amount, offset)

    def xLock(self, level: int) -> None:
        self._watcher.before(Op("lock", self._path, level))
        super().xLock(level)


_JOURNALS: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


class WatchedFiles(apsw.VFS):
    """A VFS under a name, over the operating system's own."""

    def __init__(self, name: str, watcher: Watcher) -> None:
        self._watcher = watcher
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        if name is None:  # a temporary file, which nobody misses
            return apsw.VFSFile("", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        is_created = bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        op = Op("open", path, is_synced=is_created and bool(flags[0] & _JOURNALS))
        self._watcher.before(op)
        file = _File(self._watcher, path, name, flags)
        self._watcher.after(op)
        return file

    def xDelete(self, path: str, syncdir: bool) -> None:
        op = Op("delete", path, is_synced=syncdir)
        self._watcher.before(op)
        super().xDelete(path, syncdir)
        self._watcher.after(op)


class Rows:
    """What is used of a `sqlite3.Cursor`."""

    def __init__(self, rows: list[tuple[Any, ...]], rowcount: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)

    def close(self) -> None:
        self._rows = iter(())


class WatchedConnection:
    """An apsw connection dressed as the `sqlite3.Connection` that the store uses."""

    isolation_level: str | None = None
    row_factory: Any = None
    text_factory: Any = str

    def __init__(self, path: str, vfs: str, watcher: Watcher) -> None:
        self._watcher = watcher
        try:
            self._connection = apsw.Connection(path, vfs=vfs)
        except apsw.Error as error:
            raise as_sqlite3(error) from error

    def execute(self, sql: str, parameters: Any = ()) -> Rows:
        try:
            self._watcher.before(Op(sql.split(maxsplit=1)[0], "statement"))
            rows = list(self._connection.execute(sql, parameters))
        except apsw.Error as error:
            raise as_sqlite3(error) from error
        return Rows(rows, self._connection.changes())

    @property
    def total_changes(self) -> int:
        return self._connection.total_changes()

    def executemany(self, sql: str, rows: Iterable[Any]) -> Rows:
        return Rows([], sum(self.execute(sql, parameters).rowcount for parameters in rows))

    def cursor(self) -> Rows:
        return Rows([], -1)

    def set_authorizer(self, authorizer: Callable[..., int] | None) -> None:
        self._connection.set_authorizer(authorizer)

    def set_progress_handler(self, handler: Callable[[], bool] | None, instructions: int) -> None:
        self._connection.set_progress_handler(handler, instructions)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def close(self) -> None:
        # As the standard library's: what goes wrong in a close is no news to anybody.
        with suppress(apsw.Error):
            self._connection.close(force=True)


_CODES: Final = {
    apsw.exception_for(code).__class__: code
    for code in (*range(apsw.SQLITE_ERROR, apsw.SQLITE_NOTADB + 1),)
}


def as_sqlite3(error: apsw.Error) -> Exception:
    """An error of apsw as the standard library raises it."""
    code = getattr(error, "extendedresult", None) or _CODES.get(type(error), apsw.SQLITE_ERROR)
    primary = code & 0xFF
    if primary == apsw.SQLITE_NOMEM:
        return MemoryError()
    kind: type[sqlite3.Error] = {
        apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
        apsw.SQLITE_CORRUPT: sqlite3.DatabaseError,
        apsw.SQLITE_NOTADB: sqlite3.DatabaseError,
    }.get(primary, sqlite3.OperationalError)
    translated = kind(str(error))
    translated.sqlite_errorcode = code
    return translated
