"""`SqliteCheckpointStore`: opens a file, or a database in memory, and closes it.

What it does with its records is that of `StatementStore`.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Self

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.payload_codec import (
    MAX_PAYLOAD_BYTES,
    PayloadCodec,
    check_codec,
    check_max_payload_bytes,
)
from durable_workflow_sqlite.store.checkpointer import Checkpointer
from durable_workflow_sqlite.store.connection import (
    Synchronous,
    configure,
    database_path,
    is_bound_to_thread,
    open_connection,
    wait_for_locks,
)
from durable_workflow_sqlite.store.group_commit import GroupCommit
from durable_workflow_sqlite.store.in_memory import open_in_memory
from durable_workflow_sqlite.store.joined import join, wanted
from durable_workflow_sqlite.store.lock_guard import LockGuard
from durable_workflow_sqlite.store.migrations import (
    SCHEMA_VERSION,
    apply_pending,
    load_migrations,
    pending,
)
from durable_workflow_sqlite.store.moves import check_not_moved
from durable_workflow_sqlite.store.open_files import OpenFiles
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.store.sqlite_errors import FAILURES, translate
from durable_workflow_sqlite.store.statement_store import StatementStore
from durable_workflow_sqlite.store.worker_lock import WorkerLock


class SqliteCheckpointStore(StatementStore):
    """A `CheckpointStore` in one SQLite file, or in memory.

    Takes an open connection, sets its PRAGMAs, migrates its database and uses it until `close()`,
    which does not close it. `file` and `in_memory` open a connection of their own. A store is
    used from one event loop; many stores, in many processes, may share a file. Open a connection
    for a store with `check_same_thread=False`: else "full" waits for the disk on the event loop.

    synchronous: "normal" may lose the last commits to a power cut, "full" loses none and waits
    for the disk at every commit; neither loses anything when the process is killed.
    codec: encodes and decodes the values in the file, such as an `AesGcmCodec`; None: they are
    plain. max_payload_bytes: how large one value may be, as JSON in UTF-8, before the codec.

    Raises StoreError: SchemaTooNewError, MigrationError, StoreBusyError, StoreCorruptError.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        synchronous: Synchronous = "normal",
        codec: PayloadCodec | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        check_codec(codec)
        check_max_payload_bytes(max_payload_bytes)
        _check_usable(connection, synchronous)
        self._connection = connection
        self._owns_connection = False
        self._restore = (
            connection.isolation_level,
            connection.row_factory,
            connection.text_factory,
        )
        connection.isolation_level = None
        connection.row_factory = None
        connection.text_factory = str
        try:
            path = database_path(connection)
            wait_for_locks(connection)
            todo = pending(connection, load_migrations())  # a foreign file is not even made WAL
            configure(connection, synchronous)
            if todo:
                apply_pending(connection)
            if path is not None:
                _check_not_moved(connection, path)
        except BaseException:
            self._restore_connection()
            raise
        files = None if path is None else OpenFiles(connection, path)
        self._checkpointer = None if files is None else Checkpointer(files)
        self._lock = WorkerLock(path)
        commit = GroupCommit(
            connection,
            files=files,
            waits_for_disk=path is not None and synchronous == "full",
            bound_to_thread=is_bound_to_thread(connection),
            checkpointer=self._checkpointer,
            is_intact=self._is_intact,
        )
        self._commit = commit
        self._wanted = wanted(codec, max_payload_bytes)
        super().__init__(connection, self._wanted.queries, commit, self._lock, *self._wanted[1:])
        commit.join = self.joined
        self._guard = LockGuard(path)

    @classmethod
    def file(
        cls,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "normal",
        codec: PayloadCodec | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> SqliteCheckpointStore:
        """Open a file, or create it; its folder must exist."""
        if os.fspath(path) in ("", ":memory:"):
            raise ValueError("for a store in memory, use SqliteCheckpointStore.in_memory()")
        check_codec(codec)
        check_max_payload_bytes(max_payload_bytes)
        return cls._opened(open_connection(Path(path)), synchronous, codec, max_payload_bytes)

    @classmethod
    def in_memory(
        cls,
        *,
        codec: PayloadCodec | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> SqliteCheckpointStore:
        """A store that ends with the process, for tests."""
        return cls._opened(open_in_memory(), "normal", codec, max_payload_bytes)

    @classmethod
    def _opened(
        cls,
        connection: sqlite3.Connection,
        synchronous: Synchronous,
        codec: PayloadCodec | None,
        max_payload_bytes: int,
    ) -> Self:
        try:
            store = cls(
                connection,
                synchronous=synchronous,
                codec=codec,
                max_payload_bytes=max_payload_bytes,
            )
        except BaseException:
            connection.close()
            raise
        store._owns_connection = True
        return store

    def joined(self, connection: Any) -> StatementStore:
        path = database_path(self._connection)
        return join(connection, self._wanted, of=self._connection, path=path)

    async def close(self) -> None:
        """Commit all pending writes, and close the file. Closing twice has no effect."""
        if self._commit.is_closed:
            return
        if self._commit.is_inherited:
            await self._commit.close()
            return
        await self._commit.close()
        self._lock.release()
        if not self._owns_connection:
            self._restore_connection()
        if self._checkpointer is not None:
            connection = self._connection if self._owns_connection else None
            await self._checkpointer.close(connection, self._guard)
        elif self._owns_connection:
            self._connection.close()

    def _is_intact(self) -> bool:
        """Whether the database, as it is now, is the one that this store has written to."""
        self._known_workflows.clear()
        (version,) = self._connection.execute("pragma user_version").fetchone()
        if version < SCHEMA_VERSION or not self._claims.are_intact():
            return False
        self._membership.look_again()
        return True

    def _restore_connection(self) -> None:
        connection = self._connection
        connection.isolation_level, connection.row_factory, connection.text_factory = self._restore


def _check_not_moved(connection: sqlite3.Connection, path: str) -> None:
    try:
        check_not_moved(connection, load_queries(), path)
    except FAILURES as error:
        raise translate(error, "read", path) from error


def _check_usable(connection: sqlite3.Connection, synchronous: str) -> None:
    """Raise ValueError, TypeError or StoreError for what a store cannot be opened with."""
    if synchronous not in ("normal", "full"):
        raise ValueError(f'synchronous must be "normal" or "full", not {synchronous!r}')
    try:
        if connection.in_transaction:
            raise StoreError("the connection is in a transaction; commit or roll it back first")
    except sqlite3.Error as error:
        raise StoreError(f"cannot use the connection: {error}") from error
    except AttributeError:
        raise TypeError(
            f"connection must be an open sqlite3.Connection, not {connection!r}; to open"
            " a file, use SqliteCheckpointStore.file(path)"
        ) from None
