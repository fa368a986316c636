"""Functions of the user that only read: in a session and in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from durable_workflow_sqlite.postgres.failures import translated
from durable_workflow_sqlite.postgres.guard import Guard
from durable_workflow_sqlite.postgres.session import Session, without_password
from durable_workflow_sqlite.store.guarded_calls import cannot_join

T = TypeVar("T")


class UserReader:
    """Of a database. Its session is opened for the first function."""

    def __init__(self, of: Session, schema: str) -> None:
        self._session = Session(of.url, is_pooled=of.is_pooled, prepares=False)
        self._schema = schema
        self._executor: ThreadPoolExecutor | None = None

    async def run(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[Any], T], timeout_s: float
    ) -> T:
        """Raises FunctionFailedError for an error of the function, and StoreError."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "durable-workflow-reader")
        return await loop.run_in_executor(self._executor, self._run, function, timeout_s)

    def _run(self, function: Callable[[Any], T], timeout_s: float) -> T:
        session = self._session
        try:
            session.execute("begin isolation level repeatable read read only")
            return Guard(session, self._schema, timeout_s, cannot_join).run(function)
        except psycopg.Error as error:
            raise translated(error, without_password(session.url)) from error
        finally:
            with suppress(psycopg.Error):
                if not session.is_lost:
                    session.execute("rollback")

    async def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the function that runs, and end the session."""
        if self._executor is not None:
            await loop.run_in_executor(self._executor, self._session.close)
            self._executor.shutdown()
            self._executor = None
