"""`ReadOnlyFile`: a database that is opened to be read, and is not changed by that."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Collection, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.payload_codec import PayloadCodec
from durable_workflow_sqlite.reading.findings import Finding, Level
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS, LOG_BYTES
from durable_workflow_sqlite.store.encoding import Encoding
from durable_workflow_sqlite.store.file_rights import give_rights_of
from durable_workflow_sqlite.store.migrations import SCHEMA_VERSION, load_migrations, pending
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.readable import Dialect, Readable
from durable_workflow_sqlite.store.sql import load_encoding_queries
from durable_workflow_sqlite.store.sqlite_errors import is_busy, translate
from durable_workflow_sqlite.store.worker_lock import is_locked, lock_files

_DIALECT: Final = Dialect(
    tokens="the row of workflow_claims in sqlite_sequence was deleted or edited",
    present="strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')",
)


class ReadOnlyFile(Readable):
    """A database opened to be read, by one thread, beside running workers or without any.

    Raises StoreError: StoreBusyError, StoreCorruptError, and what `open` raises.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        codec: PayloadCodec | None,
        *,
        is_immutable: bool,
    ) -> None:
        self._path = path
        self._connection = connection
        self._is_immutable = is_immutable
        self._encoding = Encoding(codec, hides=True)
        self._queries = load_encoding_queries(self._encoding)

    @classmethod
    def open(cls, path: str | os.PathLike[str], codec: PayloadCodec | None = None) -> Self:
        """Open a file that has the schema of this library; it is neither created nor migrated.

        codec: decodes its values; what it cannot decode is shown as "encrypted".

        Raises StoreError for a file that is not there or has an older schema, SchemaTooNewError
        for a newer one, MigrationError for another application's, StoreCorruptError.
        """
        # The lock files of workers are named after the file, not after a link to it.
        file = Path(os.path.realpath(path))
        if not file.is_file():
            raise StoreError(f"there is no file {file}; give the path of a database")
        connection, is_immutable = _connect(file)
        try:
            missing = pending(connection, load_migrations())
            if missing:
                version = SCHEMA_VERSION - len(missing)
                raise StoreError(
                    f"{file} has schema version {version}, and this library reads version"
                    f" {SCHEMA_VERSION}; migrate it with"
                    f" `durable-workflow migrate --db {file}`"
                )
        except BaseException:
            connection.close()
            raise
        return cls(file, connection, codec, is_immutable=is_immutable)

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        return self._path

    @property
    def name(self) -> str:
        return str(self._path)

    def changes(self) -> int:
        """A number that is another one whenever somebody else has committed; it costs nothing."""
        ((version,),) = self.pragma("data_version")
        return int(version)

    def pragma(self, pragma: str) -> list[tuple[Any, ...]]:
        """The rows of a PRAGMA that only reads."""
        with self.reading() as connection:
            return connection.execute(f"pragma {pragma}").fetchall()

    def living(self, worker_ids: Collection[str]) -> set[str]:
        """Those of some workers that live."""
        return {one for one in worker_ids if self.is_alive(one)}

    def all_living(self) -> set[str]:
        """The workers that have the file open."""
        return self.living(lock_files(self._path))

    def is_alive(self, worker_id: str) -> bool:
        """Whether a worker lives. Raises StoreError."""
        try:
            return is_locked(self._path, worker_id)
        except OSError as error:
            raise StoreError(f"cannot tell whether a worker lives: {error}") from error

    @property
    def queries(self) -> Queries:
        return self._queries

    @property
    def encoding(self) -> Encoding:
        return self._encoding

    @property
    def dialect(self) -> Dialect:
        return _DIALECT

    def disk(self) -> Finding:
        """Whether there is room for what workers record."""
        try:
            free = shutil.disk_usage(self._path.parent).free
        except OSError as error:
            raise StoreError(f"cannot find out how much room the disk has: {error}") from error
        text = f"{free / 1e6:,.0f} MB are free"
        if free >= 4 * LOG_BYTES:
            return Finding(level=Level.OK, check="disk", message=text)
        return Finding(
            level=Level.ERROR if free < 1_000_000 else Level.WARNING,
            check="disk",
            message=f"{text}: workers stop when the disk is full",
            hint="delete other files on this disk; workers then continue by themselves."
            " `durable-workflow prune` and `vacuum` need room, too",
        )

    def can_be_written(self, *, wait_s: float) -> bool:
        """Whether nobody holds the write lock for so long; True where this user may not write.

        Takes the lock for a moment, and writes nothing. This file stays open beside it, so that
        closing the other connection copies no log.
        """
        if self._is_immutable:
            return True
        try:
            with closing(
                sqlite3.connect(
                    f"{self._path.as_uri()}?mode=rw",
                    uri=True,
                    timeout=wait_s,
                    isolation_level=None,
                )
            ) as connection:
                connection.execute("begin immediate")
                connection.execute("rollback")
        except sqlite3.Error as error:
            return not is_busy(error)
        return True

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """One moment of the file. An error of SQLite comes out as a StoreError."""
        if self._is_immutable and _log_length(self._path):
            # Somebody began to write since; what was read as unchanging no longer is.
            self._connection.close()
            self._connection, self._is_immutable = _connect(self._path)
        try:
            self._connection.execute("begin")
            try:
                yield self._connection
            finally:
                with suppress(sqlite3.Error):
                    self._connection.execute("rollback")
        except sqlite3.Error as error:
            raise translate(error, "read", str(self._path)) from error


def _connect(file: Path) -> tuple[sqlite3.Connection, bool]:
    """Open a file read-only; say whether it is taken to be one that nobody can change.

    To read a file in WAL mode, SQLite makes a file beside it. It cannot do so in a folder that is
    read-only, or on a full disk. Where there is no log, SQLite may be told that the file does not
    change.
    """
    for is_immutable in (False, True):
        uri = f"{file.as_uri()}?mode=ro{'&immutable=1' if is_immutable else ''}"
        try:
            connection = sqlite3.connect(
                uri,
                uri=True,
                timeout=BUSY_TIMEOUT_MS / 1000,
                isolation_level=None,
                check_same_thread=False,  # whoever drops it last may close it
            )
        except sqlite3.Error as error:
            raise translate(error, "open", str(file)) from error
        try:
            connection.execute("pragma schema_version").fetchone()
        except sqlite3.Error as error:
            connection.close()
            if is_immutable or is_busy(error) or _log_length(file):
                raise translate(error, "read", str(file)) from error
            if not {error.sqlite_errorcode, error.sqlite_errorcode & 0xFF} & _NO_SHARED_MEMORY:
                raise translate(error, "read", str(file)) from error
        else:
            for suffix in ("-wal", "-shm"):  # it may have made them
                give_rights_of(str(file), f"{file}{suffix}")
            return connection, is_immutable
    raise AssertionError  # the second round returns or raises


_NO_SHARED_MEMORY: Final = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    # The disk is full.
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
}


def _log_length(file: Path) -> int:
    try:
        return Path(f"{file}-wal").stat().st_size
    except OSError:
        return 0
