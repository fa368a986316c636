"""Locks on an open database that the rest of the process cannot drop by accident.

SQLite's locks belong to the process. Any code in it may open the database itself, or with another
copy of SQLite. When it closes the database, the kernel drops all locks
(sqlite.org/howtocorrupt.html, 2.2). Other processes then take the database for one that nobody has
open: the next one that closes it deletes the log, and the next one that opens it empties the
index.

So a store also holds locks of an open file (Linux' fcntl(2), "open file description locks"), which
only go with that file. They say the same as SQLite's: somebody has this database open, and this
index. To close them could drop SQLite's, too: they are kept until nobody has locks there.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from contextlib import suppress
from typing import Final

if sys.platform == "linux":
    import fcntl

_FLOCK: Final = struct.Struct("hhqqi4x")
"""Linux' struct flock on 64 bits."""

IS_POSSIBLE: Final = sys.platform == "linux" and struct.calcsize("P") == 8

_Range = tuple[int, int]
_READERS: Final[_Range] = (0x40000002, 510)
"""The bytes of a database that every connection to it locks (sqlite.org/src, os.h)."""

_IN_USE: Final[_Range] = (128, 1)
"""The byte of an index that every process locks that has it open (sqlite.org/walformat.html)."""

_WHOLE: Final[_Range] = (0, 0)


class LockGuard:
    """The guard of one store; several on one database share their locks."""

    def __init__(self, database: str | None) -> None:
        self._held: list[_Guarded] = []
        if IS_POSSIBLE and database is not None:
            with _one_at_a_time:
                for path, span in ((database, _READERS), (f"{database}-shm", _IN_USE)):
                    with suppress(OSError):  # what cannot be locked so is not guarded
                        self._held.append(_hold(path, span))

    def release(self) -> None:
        """Let others have the database alone, as far as this store goes."""
        with _one_at_a_time:
            for guarded in self._held:
                guarded.drop()
            self._held.clear()

    @staticmethod
    def has_inherited(database: str) -> bool:
        """Whether a parent of this process had the database open when it forked.

        SQLite takes the locks of the parent for locks of this process, which they are not. So
        without a guard, nothing protects what this process uses from others.
        """
        with suppress(OSError):
            found = os.stat(database)  # noqa: PTH116 - as it is everywhere here
            return (found.st_dev, found.st_ino) in _inherited
        return False

    @staticmethod
    def tidy() -> None:
        """Close what is not needed any more; after a connection was closed."""
        with _one_at_a_time:
            for key, guarded in list(_all.items()):
                if guarded.close_if_unused():
                    del _all[key]


class _Guarded:
    """A file that is open for its locks alone."""

    def __init__(self, file: int, span: _Range) -> None:
        self._file = file
        self._span = span
        self._holders = 0

    def hold(self) -> None:
        if self._holders == 0:
            _lock(self._file, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, self._span)
        self._holders += 1

    def drop(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            with suppress(OSError):
                _lock(self._file, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, self._span)

    def close_if_unused(self) -> bool:
        """Close it, unless somebody has locks there: they may be SQLite's in this process."""
        if self._holders:
            return False
        with suppress(OSError):
            if _lock(self._file, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, _WHOLE) != fcntl.F_UNLCK:
                return False
        os.close(self._file)
        return True

    def close_in_child(self) -> None:
        with suppress(OSError):
            os.close(self._file)


def _hold(path: str, span: _Range) -> _Guarded:
    found = os.stat(path)  # noqa: PTH116 - as it is everywhere here
    guarded = _all.get((found.st_dev, found.st_ino))
    if guarded is None:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(file)
        guarded = _all[found.st_dev, found.st_ino] = _Guarded(file, span)
    guarded.hold()
    return guarded


def _lock(file: int, command: int, kind: int, span: _Range) -> int:
    """Set a lock, or ask who is in its way; returns its kind."""
    asked = _FLOCK.pack(kind, os.SEEK_SET, *span, 0)
    (answer, *_) = _FLOCK.unpack(fcntl.fcntl(file, command, asked))
    return int(answer)


_all: Final[dict[tuple[int, int], _Guarded]] = {}
_inherited: Final[set[tuple[int, int]]] = set()
_one_at_a_time = threading.Lock()


def _let_go_in_child() -> None:
    # A child that kept the files would keep its parent's locks when that is gone.
    global _one_at_a_time  # noqa: PLW0603 - another thread may have had it
    _one_at_a_time = threading.Lock()
    for guarded in _all.values():
        guarded.close_in_child()
    _inherited.update(_all)
    _all.clear()


if IS_POSSIBLE:
    os.register_at_fork(after_in_child=_let_go_in_child)
