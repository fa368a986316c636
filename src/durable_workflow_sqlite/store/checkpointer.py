"""Moving the write-ahead log into the database, away from the commits."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

from durable_workflow_sqlite.store.connection import LOG_BYTES, open_connection

LOOK_EVERY: Final = 16
"""Commits between two looks at the size of the log."""

READERS_MAY_TAKE_S: Final = 0.25
"""For how long writers are kept waiting, at the most, so that readers leave a log that grew."""

_log = logging.getLogger("durable_workflow_sqlite.store")


class Checkpointer:
    """Runs a checkpoint in a thread when the log has grown, under the write lock.

    SQLite up to 3.51.2 can corrupt a file when a checkpoint on one connection races a commit that
    resets the log on another (sqlite.org/wal.html, "The WAL-reset bug"). While one connection
    here holds the write lock, nobody can commit, and a second one may checkpoint.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._commits = 0
        self._thread: threading.Thread | None = None

    def after_commit(self) -> None:
        """Cheap; called after every commit."""
        self._commits += 1
        if self._commits >= LOOK_EVERY:
            self._commits = 0
            if self._log_size() > LOG_BYTES and not self.is_running:
                thread = threading.Thread(
                    target=self._run, name="durable-workflow-checkpoint", daemon=True
                )
                try:
                    thread.start()
                except (RuntimeError, MemoryError):
                    # What was committed stays committed, whatever becomes of the log.
                    _log.warning("no thread to checkpoint %s; will try again", self._path)
                else:
                    self._thread = thread

    @property
    def is_running(self) -> bool:
        """Whether a checkpoint is under way. Who goes on writing then may keep it from the lock."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait for a checkpoint under way, for so long at most."""
        if self._thread is not None:
            self._thread.join(seconds)

    def close(self) -> None:
        """Wait for a checkpoint under way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _log_size(self) -> int:
        try:
            return Path(f"{self._path}-wal").stat().st_size
        except OSError:
            return 0

    def _run(self) -> None:
        # The log begins anew when it has been copied and nobody reads from it. Where there is
        # always somebody who does, it grows, until it is worth a wait.
        patience_s = READERS_MAY_TAKE_S if self._log_size() > 1.25 * LOG_BYTES else 0.0
        try:
            checkpoint(self._path, patience_s)
        except Exception:  # noqa: BLE001 - whatever it is
            # The next one will do it; until then the log is longer and nothing is lost.
            _log.warning("could not checkpoint %s; will try again", self._path, exc_info=True)


def checkpoint(path: str, patience_s: float = 0.0) -> None:
    """Copy the whole log into the database, while nobody can commit. Raises sqlite3.Error.

    patience_s: how long to wait for readers to leave, so that the log can begin anew here.
    """
    lock = open_connection(path, create=False)
    try:
        worker = open_connection(path, create=False)
        try:
            for connection in (lock, worker):
                connection.execute("pragma wal_autocheckpoint = 0")
            # A connection that has read nothing yet does not know that there is a log.
            worker.execute("pragma user_version").fetchall()
            lock.execute("begin immediate")
            try:
                worker.execute("pragma wal_checkpoint(passive)").fetchall()
                give_up_at = time.monotonic() + patience_s
                while time.monotonic() < give_up_at:
                    time.sleep(patience_s / 50)
                    worker.execute("pragma wal_checkpoint(passive)").fetchall()
            finally:
                lock.execute("rollback")
            if patience_s:
                _begin_anew(lock)
        finally:
            worker.close()
    finally:
        lock.close()


def _begin_anew(lock: sqlite3.Connection) -> None:
    """Write, so that a log that is copied and read by nobody is begun anew, and cut."""
    lock.execute(f"pragma journal_size_limit = {LOG_BYTES}").fetchall()
    # A new transaction: only one that needed no log itself may begin it anew.
    lock.execute("begin immediate")
    (version,) = lock.execute("pragma user_version").fetchone()
    lock.execute(f"pragma user_version = {version}")
    lock.execute("commit")
