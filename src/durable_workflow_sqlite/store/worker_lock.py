"""Which workers are alive, as the operating system knows it.

A worker holds an exclusive `flock` on a file of its own beside the database for as long as it
lives. The kernel drops the lock when the process ends, however it ends: there is no heartbeat to
miss and no clock to trust. Linux' flock(2): the lock belongs to the open file description, so two
workers in one process see each other too. Windows has a lock that does the same.

The file is empty, and its name ends with the id of the worker: 32 hexadecimal digits. A file of
another name is somebody else's: no worker has it, and it is not touched.
"""

from __future__ import annotations

import math
import os
import re
import stat
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from durable_workflow_sqlite.store.file_rights import give_rights_of

if sys.platform == "win32":
    from durable_workflow_sqlite.store.portable_lock import lock
else:
    import fcntl

    def lock(file: int, *, exclusive: bool) -> bool:
        """Lock an open file; False if somebody else's lock forbids it."""
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


_ID: Final = re.compile("[0-9a-f]{32}")
COUNT_AGAIN_AFTER_S: Final = 0.05
_NOT_INHERITED: Final[int] = getattr(os, "O_CLOEXEC", 0)
_AS_IT_IS: Final[int] = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""No link is followed, and no pipe waited for."""


class WorkerLock:
    """The lock of one worker; taken when first needed, so that readers leave no file."""

    # A database in memory has no folder for lock files; its workers are all in this process.
    _alive_in_memory: ClassVar[set[str]] = set()

    def __init__(self, database: str | None) -> None:
        self.worker_id = uuid.uuid4().hex
        self._database = database
        self._file: int | None = None
        self._count = 1
        self._counted_at = -math.inf

    def acquire(self) -> None:
        """Become visible as alive. Harmless when done already. Raises OSError."""
        if self._database is None:
            self._alive_in_memory.add(self.worker_id)
        elif self._file is None:
            self._file = _create_locked(self._path(self.worker_id), self._database)
            _held.add(self._file)
            self._sweep(self._database)

    def release(self) -> None:
        """Become visible as dead. Harmless when done already."""
        self._alive_in_memory.discard(self.worker_id)
        if self._file is not None:
            _held.discard(self._file)
            _close_and_remove(self._file, self._path(self.worker_id))
            self._file = None

    def is_alive(self, worker_id: str) -> bool:
        """Whether the worker of a claim lives. The lock file of a dead one is removed.

        Raises OSError.
        """
        if worker_id == self.worker_id:
            return True
        if self._database is None:
            return worker_id in self._alive_in_memory
        if not _is_an_id(worker_id):
            return False
        path = self._path(worker_id)
        file = _open(path)
        if file is None:
            return False
        # Shared, so that two who ask at once do not take each other for the worker.
        if not lock(file, exclusive=False):
            os.close(file)
            return True
        _close_and_remove(file, path)
        return False

    def count_alive(self) -> int:
        """How many workers live, this one included, as of a moment ago. Raises OSError."""
        if self._database is None:
            return 1
        now = time.monotonic()
        if now - self._counted_at > COUNT_AGAIN_AFTER_S:
            self._counted_at = now
            self._count = self._sweep(self._database)
        return self._count

    def _sweep(self, database: str) -> int:
        """Count the live workers, and remove the files of those that died unheard of."""
        alive = {self.worker_id}
        for worker_id in lock_files(Path(database)):
            with suppress(OSError):
                if self.is_alive(worker_id):
                    alive.add(worker_id)
        return len(alive)

    def _path(self, worker_id: str) -> Path:
        return _lock_file(str(self._database), worker_id)


def is_locked(database: Path, worker_id: str) -> bool:
    """Whether the worker of a claim lives, for one who only looks. Raises OSError."""
    file = _open(_lock_file(str(database), worker_id)) if _is_an_id(worker_id) else None
    if file is None:
        return False
    try:
        return not lock(file, exclusive=False)
    finally:
        os.close(file)


def lock_files(database: Path) -> dict[str, Path]:
    """The lock files beside a database, of living workers and of dead ones, by worker."""
    prefix = f"{database.name}-worker-"
    found: dict[str, Path] = {}
    for path in sorted(database.parent.iterdir()):
        worker_id = path.name.removeprefix(prefix)
        if worker_id != path.name and _is_an_id(worker_id):
            with suppress(FileNotFoundError):
                if _is_ours(path.lstat()):
                    found[worker_id] = path
    return found


def _is_an_id(worker_id: object) -> bool:
    """Whether a worker may have it: what was written by hand may be anything."""
    return isinstance(worker_id, str) and _ID.fullmatch(worker_id) is not None


def _is_ours(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _open(path: Path) -> int | None:
    """Open a lock file, which may be another user's; None where there is none."""
    try:
        file = os.open(path, os.O_RDONLY | _NOT_INHERITED | _AS_IT_IS)
    except FileNotFoundError:
        return None
    except OSError:
        if path.is_symlink():
            return None
        raise
    if _is_ours(os.fstat(file)):
        return file
    os.close(file)
    return None


def _lock_file(database: str, worker_id: str) -> Path:
    return Path(f"{database}-worker-{worker_id}")


def _create_locked(path: Path, database: str) -> int:
    """Create and lock a file. One that was removed before it was locked is created again."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | _NOT_INHERITED | _AS_IT_IS, 0o666)
        try:
            give_rights_of(database, file)
            if lock(file, exclusive=True) and path.stat().st_ino == os.fstat(file).st_ino:
                return file
        except FileNotFoundError:
            pass  # somebody looked whether we live, in the moment before we did
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _close_and_remove(file: int, path: Path) -> None:
    """Remove a file while it is locked; where an open one cannot be removed, right after."""
    with suppress(OSError):  # a folder may forbid to delete another user's files
        path.unlink()
    os.close(file)
    if sys.platform == "win32":
        with suppress(OSError):
            path.unlink(missing_ok=True)


_held: set[int] = set()


def _let_go_in_child() -> None:
    # A child that kept the descriptor would keep its dead parent alive.
    for file in _held:
        with suppress(OSError):
            os.close(file)
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go_in_child)
