"""Reading the file for the pages: in threads, and counting no more often than it pays."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final, NamedTuple, TypeVar

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.reading.executions import ExecutionCount
from durable_workflow_sqlite.reading.findings import Alarm
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.stores import get_ready, identity_of, open_reader

T = TypeVar("T")

_READERS: Final = 4
_SHARE: Final = 20
"""Keeping it takes a twentieth of the time at most, however fast the file changes."""

LOOK_AGAIN_S: Final = 5
"""How old an answer may get that nothing seems to change: time passes, and workers die."""


class _Kept(NamedTuple):
    """An answer, of which version of the file it is, when it came, and until when it holds."""

    answer: Any
    version: str
    came_at: float
    holds_until: float


class Source:
    """The file. Every page opens it again: so it may come later, be moved away and be put back."""

    def __init__(self, file: str) -> None:
        self._file = file
        get_ready(file)  # it takes longer than any page, so now and not while somebody waits
        self._readers = ThreadPoolExecutor(_READERS, "durable-workflow-dashboard")
        self._watch = _Watch(file)
        self._watcher = ThreadPoolExecutor(1, "durable-workflow-dashboard-watch")
        self._kept: dict[str, _Kept] = {}
        self._keeping: defaultdict[str, Lock] = defaultdict(Lock)

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Ask in a thread. Raises StoreError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, question)

    async def version(self) -> str:
        """The same for as long as nobody has written to the file."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._watcher, self._watch.version)

    def kept(self, name: str, version: str, ask: Callable[[], T]) -> T:
        """An answer that may be from a moment ago, the longer the more it costs to have it.

        To be called where `read` calls. Those who ask at the same time wait for one answer.
        """
        with self._keeping[name]:
            answers, began = self._kept, time.monotonic()
            kept = answers.get(name)
            if kept is not None and (
                began < kept.holds_until
                or (kept.version == version and began < kept.came_at + LOOK_AGAIN_S)
            ):
                answer: T = kept.answer
                return answer
            answer = ask()
            holds_until = began + _SHARE * (time.monotonic() - began)
            answers[name] = _Kept(answer, version, began, holds_until)
            return answer

    def forget(self) -> None:
        """Answer again: a person has done something on a page, and looks at it at once.

        What is being asked for may be from before, so it is not kept either.
        """
        self._kept = {}

    def counts(self, reader: Reader, version: str) -> list[ExecutionCount]:
        """How many executions there are."""
        return self.kept("counts", version, reader.counts)

    async def alarms(self) -> list[Alarm]:
        """What somebody should look at. Raises StoreError."""
        version = await self.version()

        def look(reader: Reader) -> list[Alarm]:
            return reader.alarms(datetime.now(UTC), self.counts(reader, version))

        # The file is opened only if they are not kept: every page asks for them.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._readers, self.kept, "alarms", version, lambda: self._read(look)
        )

    async def close(self) -> None:
        """Close the file."""
        await asyncio.get_running_loop().run_in_executor(self._watcher, self._watch.close)
        self._watcher.shutdown()
        self._readers.shutdown()

    def _read(self, question: Callable[[Reader], T]) -> T:
        with open_reader(self._file) as reader:
            return question(reader)


class _Watch:
    """One connection that stays open, in one thread: what `changes` says is about it alone."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._reader: Reader | None = None
        self._identity = 0
        self._start = ""

    def __del__(self) -> None:
        # An app that is mounted into another hears nothing of the other's end: nobody closes this.
        self.close()

    def version(self) -> str:
        try:
            identity = identity_of(self._file)
            if self._reader is None or identity != self._identity:
                self.close()
                self._reader = open_reader(self._file)
                self._identity, self._start = identity, secrets.token_hex(4)
            return f"{self._start}-{self._reader.changes()}"
        except (OSError, StoreError):
            self.close()
            return secrets.token_hex(8)  # it is gone: whatever comes is news

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
