"""Noticing that somebody else checkpoints a file: not this library, and so beside commits.

When all of the log has been checkpointed and nobody reads from it, the next commit resets it. This
adds one to the salt in its header. Before this library checkpoints, it notes the salt of the log
in a file beside the database, the mark. So a log that is more than one ahead of the mark was reset
after a checkpoint of somebody else's.

The mark may miss one, but gives no false alarm: it is written before the checkpoint, under the
write lock, so that a crash in between leaves it too far ahead, never behind; it is compared with
the log under a lock of its own. A log that is deleted, as by the last connection that closes, or
repaired after a crash, gets a random new salt. It is not near the old one.

A file of that name which cannot be a mark is somebody else's, and is not touched.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from durable_workflow_sqlite.store.file_rights import give_rights_of

NEARBY: Final = 1000
"""How far a salt may be ahead and be taken for one that was counted up, and not for a new one."""

_HEADER_BYTES: Final = 32
_SALT: Final = struct.Struct(">I")
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class CheckpointMark:
    """The mark of one database. Errors of the file system are passed over: it goes unmarked."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._log = f"{database}-wal"
        self._path = Path(f"{database}-mark")
        self._seen: int | None = None

    def note(self) -> None:
        """Say that the log, as it is now, is about to be checkpointed; under the write lock."""
        salt = self.salt()
        if salt is not None:
            self._write(salt)

    def sees_another(self) -> bool:
        """Whether somebody else has checkpointed since the last call.

        Cheap as long as the log has not been reset.
        """
        if self.salt() == self._seen:
            return False
        try:
            with self._locked() as file:
                marked = os.pread(file, _SALT.size, 0)
                # After the mark was read, and before another can be written.
                self._seen = salt = self.salt()
                if salt is None:
                    return False
                ahead = (salt - _SALT.unpack(marked)[0]) % 2**32 if marked else NEARBY + 1
                if ahead > 1:
                    os.pwrite(file, _SALT.pack((salt - 1) % 2**32), 0)
                return 1 < ahead <= NEARBY
        except OSError:
            return False

    def remove_if_over(self) -> None:
        """Remove the mark where there is no log any more."""
        with suppress(OSError):
            if self._path.exists():
                with self._locked():
                    if not Path(self._log).exists():
                        self._path.unlink()

    def salt(self) -> int | None:
        """What the header of the log counts up; None where there is no whole header."""
        try:
            # No lock is lost by this: SQLite keeps none on the log, as it does on the database.
            file = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            header = os.read(file, _HEADER_BYTES)
        finally:
            os.close(file)
        return _SALT.unpack_from(header, 16)[0] if _is_whole(header) else None

    def _write(self, salt: int) -> None:
        try:
            with self._locked() as file:
                os.pwrite(file, _SALT.pack(salt), 0)
        except FileExistsError:
            pass  # it is no mark
        except OSError:
            with suppress(OSError):  # better none than one that is behind
                self._path.unlink()

    @contextmanager
    def _locked(self) -> Generator[int]:
        while True:
            try:
                file = os.open(self._path, _OPEN, 0o666)
            except OSError:
                if self._path.is_symlink() or self._path.is_dir():
                    raise FileExistsError(f"{self._path} is not a mark") from None
                raise
            try:
                found = os.fstat(file)
                if not stat.S_ISREG(found.st_mode) or found.st_size not in (0, _SALT.size):
                    raise FileExistsError(f"{self._path} is not a mark")
                give_rights_of(self._database, file)
                fcntl.flock(file, fcntl.LOCK_EX)
                if _is_at(self._path, file):
                    yield file
                    return
            finally:
                os.close(file)


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file is the one at a path, and was not removed meanwhile."""
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False


def _is_whole(header: bytes) -> bool:
    """Whether the checksum at the end of a log's header is right: one may be half written."""
    if len(header) < _HEADER_BYTES:
        return False
    magic, *_ = struct.unpack_from(">I", header)
    words = struct.unpack_from(f"{'>' if magic & 1 else '<'}6I", header)
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) % 2**32
        second = (second + other + first) % 2**32
    return struct.unpack_from(">2I", header, 24) == (first, second)
