"""One transaction for all writes of one turn of the event loop.

Writes queue up while the tasks of a turn run; then they are flushed together, and each caller's
`await` returns after the commit. An operation that raises fails alone. The event loop never waits
for the database: when someone else holds the lock, or when a commit must wait for the disk, the
flush moves to a thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS
from durable_workflow_sqlite.store.sqlite_errors import is_busy, translate

T = TypeVar("T")
_Queued = tuple[Callable[[], Any], "asyncio.Future[Any]"]
_Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]


class GroupCommit:
    """The one way to a connection: writes in groups, reads between them.

    `operation`s run on the connection, in the loop's thread or in another, never two at a time.
    One that writes may run twice (when another of its group failed the first time), so it must
    do nothing but send statements and return what they gave.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        path: str | None,
        waits_for_disk: bool,
        after_commit: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._path = path
        self._waits_for_disk = waits_for_disk
        self._after_commit = after_commit
        self._queue: list[_Queued] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._in_thread: asyncio.Future[list[_Outcome]] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._busy_timeout_ms = BUSY_TIMEOUT_MS
        self._data_version: int | None = None
        self._closed = False

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def write(self, operation: Callable[[], T]) -> T:
        """Run an operation in the next transaction; return its result once that is committed."""
        loop = self._enter()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append((operation, future))
        if len(self._queue) == 1 and self._in_thread is None:
            loop.call_soon(self._flush)
        return await future

    async def read(self, operation: Callable[[], T]) -> T:
        """Run an operation that only reads, outside of any transaction."""
        self._enter()
        while self._in_thread is not None:
            await asyncio.wait([self._in_thread])
        try:
            return operation()
        except sqlite3.Error as error:
            if not is_busy(error):
                raise self._translated(error) from error
        return await self.write(operation)  # the rare lock that readers must wait for, too

    def has_news(self) -> bool:
        """Whether another connection may have committed since this was last asked."""
        if self._in_thread is not None or self._closed:
            return False  # the answer can wait until the thread is done with the connection
        try:
            (version,) = self._connection.execute("pragma data_version").fetchone()
        except sqlite3.Error:
            return True  # whoever looks for the news will meet the error
        changed: bool = version != self._data_version
        self._data_version = version
        return changed

    async def close(self) -> None:
        """Flush what is queued, then refuse everything."""
        if self._closed:
            return
        self._closed = True
        while self._queue or self._in_thread is not None:
            if self._in_thread is not None:
                await asyncio.wait([self._in_thread])
            else:
                await asyncio.sleep(0)
        self._stop_thread()

    def _stop_thread(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _enter(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise StoreError("the store is closed")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(
                    "this store is in use by another event loop; open one store for each loop"
                )
            self._stop_thread()
            self._loop = loop
            self._queue.clear()  # what a loop that is gone never waited for
            self._in_thread = None
        return loop

    def _flush(self) -> None:
        """Commit what is queued: here and now if that cannot block, else in a thread."""
        group, self._queue = self._queue, []
        if not group:
            return
        if self._waits_for_disk or not self._try_begin():
            self._flush_in_thread(group)
        else:
            _settle(self._run(group))

    def _flush_in_thread(self, group: list[_Queued]) -> None:
        loop = asyncio.get_running_loop()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "durable-workflow-store")
        flushing = loop.run_in_executor(self._executor, self._begin_and_run, group)

        def settle(done: asyncio.Future[list[_Outcome]]) -> None:
            self._in_thread = None
            try:
                outcomes = done.result()
            except BaseException as error:  # noqa: BLE001 - whoever asked must hear of it
                outcomes = self._all_failed(group, error)
            _settle(outcomes)
            self._flush()  # what was asked for in the meantime

        flushing.add_done_callback(settle)
        self._in_thread = flushing

    def _begin_and_run(self, group: list[_Queued]) -> list[_Outcome]:
        try:
            self._begin(BUSY_TIMEOUT_MS)
        except sqlite3.Error as error:
            return self._all_failed(group, error)
        return self._run(group)

    def _try_begin(self) -> bool:
        """Take the write lock without waiting for it."""
        try:
            self._begin(0)
        except sqlite3.Error:
            return False  # whatever it is, the thread meets it again and reports it
        return True

    def _begin(self, timeout_ms: int) -> None:
        # Setting the timeout costs a quarter of a small transaction: only when it changes.
        if timeout_ms != self._busy_timeout_ms:
            self._connection.execute(f"pragma busy_timeout = {timeout_ms}")
            self._busy_timeout_ms = timeout_ms
        self._connection.execute("begin immediate")

    def _run(self, group: list[_Queued]) -> list[_Outcome]:
        """Run and commit a group whose transaction has begun."""
        outcomes: list[_Outcome] = []
        try:
            for operation, future in group:
                outcomes.append((future, operation(), None))
        except BaseException as error:  # noqa: BLE001
            self._roll_back()
            if len(group) == 1:
                return self._all_failed(group, error)
            return self._run_one_by_one(group)
        return self._commit(outcomes)

    def _run_one_by_one(self, group: list[_Queued]) -> list[_Outcome]:
        """Run a group again, each operation behind a savepoint, so that each fails alone."""
        outcomes: list[_Outcome] = []
        try:
            self._connection.execute("begin immediate")
            for operation, future in group:
                self._connection.execute("savepoint one")
                try:
                    result = operation()
                except BaseException as error:  # noqa: BLE001
                    self._connection.execute("rollback to one")
                    outcomes.append((future, None, self._translated(error)))
                else:
                    outcomes.append((future, result, None))
                self._connection.execute("release one")
        except sqlite3.Error as error:
            self._roll_back()
            return self._all_failed(group, error)
        return self._commit(outcomes)

    def _commit(self, outcomes: list[_Outcome]) -> list[_Outcome]:
        try:
            self._connection.execute("commit")
        except sqlite3.Error as error:
            self._roll_back()
            return [
                (future, None, failed or self._translated(error)) for future, _, failed in outcomes
            ]
        self._after_commit()
        return outcomes

    def _roll_back(self) -> None:
        # SQLite rolls back by itself on some errors; a second failure must not hide the first.
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("rollback")

    def _all_failed(self, group: list[_Queued], error: BaseException) -> list[_Outcome]:
        return [(future, None, self._translated(error)) for _, future in group]

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error):
            return error
        translated = translate(error, "use the database", self._path)
        translated.__cause__ = error
        return translated


def _settle(outcomes: list[_Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():
            continue  # its task was cancelled meanwhile
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
