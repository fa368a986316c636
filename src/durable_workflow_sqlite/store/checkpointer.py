"""Moving the write-ahead log into the database, away from the commits."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

from durable_workflow_sqlite.store.connection import LOG_BYTES, open_connection

LOOK_EVERY: Final = 16
"""Commits between two looks at the size of the log."""

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
                self._thread = threading.Thread(
                    target=self._run, name="durable-workflow-checkpoint", daemon=True
                )
                self._thread.start()

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
        try:
            checkpoint(self._path)
        except Exception:  # noqa: BLE001 - whatever it is
            # The next one will do it; until then the log is longer and nothing is lost.
            _log.warning("could not checkpoint %s; will try again", self._path, exc_info=True)


def checkpoint(path: str) -> None:
    """Copy the whole log into the database, while nobody can commit. Raises sqlite3.Error."""
    lock = open_connection(path)
    try:
        worker = open_connection(path)
        try:
            for connection in (lock, worker):
                connection.execute("pragma wal_autocheckpoint = 0")
            # A connection that has read nothing yet does not know that there is a log.
            worker.execute("pragma user_version").fetchall()
            lock.execute("begin immediate")
            try:
                worker.execute("pragma wal_checkpoint(passive)").fetchall()
            finally:
                lock.execute("rollback")
        finally:
            worker.close()
    finally:
        lock.close()
