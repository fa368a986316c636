"""Moving the write-ahead log into the database, away from the commits."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

from durable_workflow_sqlite.store.connection import LOG_BYTES, open_existing
from durable_workflow_sqlite.store.lock_guard import LockGuard
from durable_workflow_sqlite.store.log_header import salt_of
from durable_workflow_sqlite.store.open_files import OpenFiles

LOOK_EVERY: Final = 16
"""Commits between two looks at the log's size."""

GROWTH_BYTES: Final = LOG_BYTES // 4
"""How much a log that could not be reset grows before the next try."""

SYNCS_BEFORE: Final = 2
"""How often the log is put on the disk before: what is written during one is left for the next."""

READERS_MAY_TAKE_S: Final[tuple[tuple[float, ...], ...]] = ((), (0.01, 0.04, 0.2), (0.5,), (1.0,))
"""For how long writers are held up in each try, now and then, so that readers leave the log."""

_log = logging.getLogger("durable_workflow_sqlite.store")


class Checkpointer:
    """Runs a checkpoint in a thread when the log has grown, under the write lock.

    SQLite up to 3.51.2 has the WAL-reset bug (sqlite.org/wal.html): a checkpoint that runs during a
    commit of another connection can corrupt the file. While one connection
    here holds the write lock, nobody can commit, and a second one may checkpoint. A checkpoint by
    another program brings the bug back; docs/store.md says so.

    A checkpoint begins by putting the log on the disk, which takes ten times as long as the rest of
    it. That is done before the lock is taken, while others commit.
    """

    def __init__(self, files: OpenFiles) -> None:
        self._files = files
        self._path = files.database
        self._log = files.log
        self._commits = 0
        self._due_at = LOG_BYTES
        self._tries = 0
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._is_syncing = False
        self.wants_lock = False
        """Whether a checkpoint has the write lock, or asks for it: who goes on writing then may
        keep it from that. Also where the log grows faster than it gets to the disk."""

    def after_commit(self) -> None:
        """Cheap; called after every commit."""
        self._commits += 1
        if self._commits % LOOK_EVERY == 0:
            self._look()

    def wait(self, seconds: float) -> None:
        """Wait for a checkpoint that wants the lock, for so long at most."""
        if self._thread is not None and self.wants_lock:
            self._thread.join(seconds)

    async def close(self, connection: sqlite3.Connection | None, guard: LockGuard) -> None:
        """Close a connection (or none, if others will) and leave no long log, in a thread.

        The last connection that closes copies the log and deletes it. Where others are left, the
        log is emptied, unless one of them goes on reading from it.
        """
        with ThreadPoolExecutor(1, "durable-workflow-close") as executor:
            loop = asyncio.get_running_loop()
            try:
                closing = loop.run_in_executor(executor, self._close, connection, guard)
            except RuntimeError:
                # The interpreter is ending, and gives no more threads.
                self._close(connection, guard)
            else:
                await closing

    def _close(self, connection: sqlite3.Connection | None, guard: LockGuard) -> None:
        if self._thread is not None:
            self._thread.join()
        # Else SQLite would copy a log that is gone into what others have written since, and
        # delete theirs: under the guard, it cannot.
        are_there = self._files.are_there
        if are_there:
            guard.release()
        if connection is not None:
            connection.close()
            guard.release()
        guard.tidy()
        is_safe = are_there and not guard.has_inherited(self._path)
        if is_safe and self._commits and self._log_size() > 0:
            try:
                waits_s = (0.0, *READERS_MAY_TAKE_S[1])
                is_ours = self._files.is_database_there
                checkpoint(self._path, waits_s, keep_bytes=0, is_ours=is_ours)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next one will do it
                _log.info("could not empty the log of %s: %s", self._path, error)

    def _look(self) -> None:
        size = self._log_size()
        if self._is_syncing:
            with self._guard:
                if self._is_syncing:
                    self.wants_lock = size > LOG_BYTES + GROWTH_BYTES
        elif size <= LOG_BYTES:
            self._due_at = LOG_BYTES
            self._tries = 0
        elif size > self._due_at and not self._is_running:
            # It is reset when all of it has been copied and nobody reads from it. Where there
            # is always somebody who does, writers must wait for that; where one reader stays,
            # they wait in vain, and so ever more rarely.
            is_hopeless = self._tries >= len(READERS_MAY_TAKE_S)
            waits_s = READERS_MAY_TAKE_S[1 if is_hopeless else self._tries]
            self._tries += 1
            self._due_at = size + max(GROWTH_BYTES, size // 4 if is_hopeless else 0)
            if is_hopeless:
                _log.warning(
                    "the write-ahead log of %s has grown to %d MB: a connection has kept a read"
                    " transaction open for long, and the log cannot restart before it ends",
                    self._path,
                    size // 10**6,
                )
            thread = threading.Thread(
                target=self._run, args=(waits_s,), name="durable-workflow-checkpoint", daemon=True
            )
            try:
                thread.start()
            except (RuntimeError, MemoryError):
                # What was committed stays committed, whatever becomes of the log.
                _log.warning("no thread to checkpoint %s; will try again", self._path)
            else:
                self._thread = thread

    @property
    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _log_size(self) -> int:
        try:
            return os.stat(self._log).st_size  # noqa: PTH116 - half the time of Path.stat
        except OSError:
            return 0

    def _run(self, waits_s: tuple[float, ...]) -> None:
        try:
            self._is_syncing = True
            for _ in range(SYNCS_BEFORE):
                _sync(self._log)
            with self._guard:
                self._is_syncing, self.wants_lock = False, True
            checkpoint(self._path, waits_s, is_ours=lambda: self._files.are_there)
        except Exception:  # noqa: BLE001 - whatever it is
            # The next one will do it; until then the log is longer and nothing is lost.
            _log.warning("could not checkpoint %s; will try again", self._path, exc_info=True)
        finally:
            with self._guard:
                self._is_syncing = self.wants_lock = False


def _sync(path: str) -> None:
    """Put a file on the disk. Raises OSError, which the disk may tell only once."""
    # To close a descriptor of the log drops nobody's lock: those are on the two other files.
    try:
        file = open(path, "r+b")  # noqa: PTH123, SIM115 - as `_log_size`; closed below
    except OSError:
        return  # there is none, or SQLite will say what is wrong with it
    with file:
        os.fsync(file.fileno())


def checkpoint(
    path: str,
    waits_s: tuple[float, ...] = (),
    *,
    keep_bytes: int = LOG_BYTES,
    is_ours: Callable[[], bool] = lambda: True,
) -> None:
    """Copy the whole log into the database, while nobody can commit. Raises sqlite3.Error.

    waits_s: how long to hold up writers, in one try after another, so that readers leave and the
    log can be reset here; without any, the next commit resets it if it can.
    keep_bytes: to which length a log that is reset here is cut.
    is_ours: whether what is at that path is what it was: the log of a file that was replaced does
    not belong to what is there now, and would ruin it.
    """
    salt = salt_of(f"{path}-wal")
    with closing(open_existing(path)) as lock, closing(open_existing(path)) as worker:
        if not is_ours():
            return  # nothing has been read through these connections
        for connection in (lock, worker):
            connection.execute("pragma wal_autocheckpoint = 0")
        lock.execute(f"pragma journal_size_limit = {keep_bytes}").fetchall()
        # A connection that has read nothing yet does not know that there is a log.
        worker.execute("pragma user_version").fetchall()
        for wait_s in waits_s or (0.0,):
            lock.execute("begin immediate")
            try:
                if salt_of(f"{path}-wal") != salt:
                    return  # another process was first, and it has begun anew
                _copy_log(worker, wait_s)
            finally:
                lock.execute("rollback")
            if waits_s:
                _begin_anew(lock)


def _copy_log(worker: sqlite3.Connection, wait_s: float) -> None:
    worker.execute("pragma wal_checkpoint(passive)").fetchall()
    # Who begins to read now reads from the database alone; who began before will leave.
    give_up_at = time.monotonic() + wait_s
    while time.monotonic() < give_up_at:
        time.sleep(min(wait_s / 4, 0.01))
        worker.execute("pragma wal_checkpoint(passive)").fetchall()


def _begin_anew(lock: sqlite3.Connection) -> None:
    """Write, so that a log that is copied and read by nobody is reset, and cut."""
    # A new transaction: only one that needs no log itself may reset it.
    lock.execute("begin immediate")
    try:
        (version,) = lock.execute("pragma user_version").fetchone()
        lock.execute(f"pragma user_version = {version}")
        lock.execute("commit")
    except BaseException:
        if lock.in_transaction:
            lock.execute("rollback")
        raise
