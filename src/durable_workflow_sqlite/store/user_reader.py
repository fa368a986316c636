"""Functions of the user that only read: on a connection and in a thread of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from durable_workflow_sqlite.store.guard import Authorizer, Guard, StoreConnection
from durable_workflow_sqlite.store.guarded_calls import cannot_join
from durable_workflow_sqlite.store.sqlite_errors import FAILURES, translate

T = TypeVar("T")


class UserReader:
    """Of a file. Its connection is opened for the first function, and writers do not wait for it.

    path: None for a database in memory, which has no other connection.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._authorizer = Authorizer(is_asked=False)
        self._connection: sqlite3.Connection | None = None
        self._executor: ThreadPoolExecutor | None = None

    async def run(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[Any], T], timeout_s: float
    ) -> T:
        """Raises FunctionFailedError for an error of the function, and StoreError."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "durable-workflow-reader")
        return await loop.run_in_executor(self._executor, self._run, function, timeout_s)

    def _run(self, function: Callable[[Any], T], timeout_s: float) -> T:
        try:
            connection = self._opened()
            connection.execute("begin")
        except FAILURES as error:
            raise translate(error, "read", self._path) from error
        try:
            guard = Guard(connection, self._authorizer, timeout_s, cannot_join, only_reads=True)
            return guard.run(function)
        finally:
            if connection.in_transaction:
                connection.execute("rollback")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            assert self._path is not None
            self._connection = connection = sqlite3.connect(
                f"{Path(self._path).absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                factory=StoreConnection,
            )
            connection.execute("pragma query_only = on")
            connection.set_authorizer(self._authorizer)
        return self._connection

    async def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the function that runs, and close the connection."""
        if self._executor is None:
            return
        if self._connection is not None:
            await loop.run_in_executor(self._executor, self._connection.close)
        self._executor.shutdown()
        self._executor = None
