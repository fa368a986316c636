"""Reading the file for the pages: in threads, and counting no more often than it pays."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.inspection import ExecutionCount, Inspector
from durable_workflow_sqlite.store.sql import load_queries

T = TypeVar("T")

_READERS: Final = 4
_COUNTING_SHARE: Final = 20
"""Counting takes a twentieth of the time at most, however fast the file changes."""


class Reader:
    """The file. Every page opens it anew: so it may come later, be moved away and be put back."""

    def __init__(self, file: Path) -> None:
        self._file = file
        load_queries()  # it takes longer than any page, so now and not while somebody waits
        self._readers = ThreadPoolExecutor(_READERS, "durable-workflow-dashboard")
        self._asked: SimpleQueue[Future[str] | None] = SimpleQueue()
        self._watcher: threading.Thread | None = None
        # An app that is mounted into another hears nothing of the other's end: nobody closes this.
        self._abandoned = weakref.finalize(self, _abandon, self._asked, self._readers)
        self._abandoned.atexit = False
        self._counts: list[ExecutionCount] = []
        self._counts_are_of = ""
        self._counts_hold_until = 0.0

    async def read(self, question: Callable[[Inspector], T]) -> T:
        """Ask in a thread. Raises StoreError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, question)

    async def version(self) -> str:
        """The same for as long as nobody has written to the file."""
        if not self._abandoned.alive:
            raise RuntimeError("the dashboard is closed")
        if self._watcher is None:  # not before: a process may be forked after it made its app
            self._watcher = threading.Thread(
                target=_watch,
                args=(self._file, self._asked),
                name="durable-workflow-dashboard-watch",
                daemon=True,
            )
            self._watcher.start()
        answer: Future[str] = Future()
        self._asked.put(answer)
        return await asyncio.wrap_future(answer)

    def counts(self, inspector: Inspector, version: str) -> list[ExecutionCount]:
        """How many executions there are; in a large file that changes, as of a moment ago."""
        if self._counts_are_of == version or time.monotonic() < self._counts_hold_until:
            return self._counts
        began = time.monotonic()
        counts = inspector.counts()
        took = time.monotonic() - began
        self._counts, self._counts_are_of = counts, version
        self._counts_hold_until = began + _COUNTING_SHARE * took
        return counts

    async def close(self) -> None:
        """Let go of the file."""
        self._abandoned.detach()
        self._asked.put(None)
        if self._watcher is not None:
            await asyncio.get_running_loop().run_in_executor(self._readers, self._watcher.join)
        self._readers.shutdown()

    def _read(self, question: Callable[[Inspector], T]) -> T:
        with Inspector.open(self._file) as inspector:
            return question(inspector)


def _abandon(asked: SimpleQueue[Future[str] | None], readers: ThreadPoolExecutor) -> None:
    # This is called in the middle of anything, maybe while this very thread starts or feeds an
    # executor. So it takes no lock that such code may hold; a SimpleQueue may be put to anywhere.
    asked.put(None)
    readers.shutdown(wait=False)


def _watch(file: Path, asked: SimpleQueue[Future[str] | None]) -> None:
    """Answer whoever asks for the version, in the one thread that has the connection."""
    watch = _Watch(file)
    while (answer := asked.get()) is not None:
        if not answer.set_running_or_notify_cancel():
            continue
        try:
            answer.set_result(watch.version())
        except BaseException as error:  # noqa: BLE001 - it is whoever asked who must hear of it
            answer.set_exception(error)
    watch.close()


class _Watch:
    """One connection that stays open, in one thread: what `data_version` says is about it alone."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._inspector: Inspector | None = None
        self._inode = 0
        self._start = ""

    def version(self) -> str:
        try:
            inode = self._file.stat().st_ino
            if self._inspector is None or inode != self._inode:
                self.close()
                self._inspector = Inspector.open(self._file)
                self._inode, self._start = inode, secrets.token_hex(4)
            return f"{self._start}-{self._inspector.data_version()}"
        except (OSError, StoreError):
            self.close()
            return secrets.token_hex(8)  # it is gone: whatever comes is news

    def close(self) -> None:
        if self._inspector is not None:
            self._inspector.close()
            self._inspector = None
