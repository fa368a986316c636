"""A store in the transaction of somebody else: its writes are committed with theirs, or never.

Nothing here waits: an operation is done when its call returns. So the methods of such a store need
no event loop, and `run_now` runs them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar

from durable_workflow_sqlite.errors import (
    SchemaTooNewError,
    StoreError,
    TransactionMisuseError,
)
from durable_workflow_sqlite.payload_codec import (
    PayloadCodec,
    check_codec,
    check_max_payload_bytes,
)
from durable_workflow_sqlite.store.adapter import as_statement
from durable_workflow_sqlite.store.connection import database_path, file_at
from durable_workflow_sqlite.store.encoding import Encoding
from durable_workflow_sqlite.store.guard import guard_of
from durable_workflow_sqlite.store.migrations import SCHEMA_VERSION
from durable_workflow_sqlite.store.moves import check_not_moved
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.sql import load_encoding_queries, load_queries
from durable_workflow_sqlite.store.sqlite_errors import FAILURES, translate
from durable_workflow_sqlite.store.statement_store import StatementStore
from durable_workflow_sqlite.store.transactions import (
    AsStatement,
    Liveness,
    Shortcut,
    Transaction,
    Transactions,
)

T = TypeVar("T")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise TransactionMisuseError(
        "an async connection needs `await`: call the method of the async Client or engine, and"
        " give it the connection"
    )


class NobodyWorks(Liveness):
    """A store in the transaction of somebody else is no worker."""

    @property
    def worker_id(self) -> str:
        return ""

    def acquire(self) -> None:
        raise StoreError("nothing runs in the transaction of somebody else")

    def is_alive(self, worker_id: str) -> bool:
        return True

    def count_alive(self) -> int:
        return 1


class JoinedTransactions(Transactions):
    """What is the same on every database."""

    async def transact(self, transaction: Transaction) -> bool:
        self._refuse()

    async def look(self, function: Callable[[Any], T], timeout_s: float) -> T:
        self._refuse()

    def total_changes(self) -> int:
        return 0

    def count_change(self) -> None:
        """Others notice the commit."""

    def change_counter(self) -> int:
        return 0

    def check_usable(self) -> None:
        """It was checked when it was made."""

    def hold_execution(self, workflow_execution_id: str) -> None:
        """See `GroupCommit`."""

    def hold(self, kind: str, name: str) -> None:
        """See `GroupCommit`."""

    def _refuse(self) -> NoReturn:
        raise TransactionMisuseError("a transaction of somebody else has no transaction within")


class JoinedStore(StatementStore):
    """There is nothing to close: the connection is that of its user."""

    async def close(self) -> None:
        pass


class InTransaction(JoinedTransactions):
    """The transaction of a connection of SQLite, which its user begins and ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def write(
        self,
        operation: Callable[[], T],
        shortcut: Shortcut | None = None,
        noted: Callable[[T], object] | None = None,
    ) -> T:
        connection = self._connection
        with self.as_ours():
            _begin(connection)  # what was committed since is another transaction
            connection.execute("savepoint durable_workflow")
            try:
                result = operation()
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("rollback to durable_workflow")
                    connection.execute("release durable_workflow")
                raise self._translated(error) from error
            connection.execute("release durable_workflow")
        if noted is not None:
            noted(result)
        return result

    async def read(self, operation: Callable[[], T]) -> T:
        with self.as_ours():
            try:
                return operation()
            except FAILURES as error:
                raise self._translated(error) from error

    def execute(self, statement: Shortcut) -> int:
        return self._connection.execute(*statement).rowcount

    @contextmanager
    def as_ours(self) -> Generator[None]:
        """The library is at it, and gets rows as it wants them."""
        connection = self._connection
        before = connection.row_factory, connection.text_factory
        connection.row_factory, connection.text_factory = None, str
        guard = guard_of(connection)
        try:
            if guard is None:
                yield
            else:
                guard.has_enqueued = True
                with guard.is_off():
                    yield
        finally:
            connection.row_factory, connection.text_factory = before

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, FAILURES):
            return error
        return translate(error, "write in the transaction on", database_path(self._connection))


class Wanted(NamedTuple):
    """How a store is to write, as `StatementStore` takes it."""

    queries: Queries
    as_statement: AsStatement
    max_payload_bytes: int
    encoding: Encoding | None


def wanted(codec: PayloadCodec | None, max_payload_bytes: int) -> Wanted:
    """What a store on SQLite with this codec and this limit writes with."""
    check_codec(codec)
    check_max_payload_bytes(max_payload_bytes)
    encoding = None if codec is None else Encoding(codec)
    queries = load_queries() if encoding is None else load_encoding_queries(encoding)
    return Wanted(queries, as_statement, max_payload_bytes, encoding)


def join(
    connection: Any, how: Wanted, *, of: sqlite3.Connection | None = None, path: str | None = None
) -> StatementStore:
    """A store in the transaction of a connection; it is begun if sqlite3 would begin it.

    of: the connection of the store that is asked to do this, and `path` its file; None if there is
        no such store.

    Raises TypeError, TransactionMisuseError and StoreError.
    """
    is_of_the_store = connection is of  # whatever class it has
    if not (isinstance(connection, sqlite3.Connection) or is_of_the_store):
        raise TypeError(f"connection must be a sqlite3.Connection, not {connection!r}")
    transactions = InTransaction(connection)
    with transactions.as_ours():
        _check(connection, of, path, how.queries)
        _begin(connection)
    return JoinedStore(connection, how.queries, transactions, NobodyWorks(), *how[1:])


def _check(
    connection: sqlite3.Connection,
    of: sqlite3.Connection | None,
    path: str | None,
    queries: Queries,
) -> None:
    """Raise for a connection that cannot be used here."""
    try:
        connection.cursor().close()  # it is open, and works in this thread
        found = database_path(connection)
        (version,) = connection.execute("pragma user_version").fetchone()
        where = found or "the database in memory"
        is_same = connection is of or of is None
        if not is_same and found is not None and path is not None:
            is_same = file_at(found) == file_at(path)
        if not is_same:
            raise TransactionMisuseError(
                f"the connection is to {where}, and the store is {path or 'in memory'}: what is"
                " enqueued must be in the same file; open the connection with that"
            )
        if version > SCHEMA_VERSION:
            raise SchemaTooNewError(
                f"{where} has schema version {version}, and this library knows {SCHEMA_VERSION}:"
                " update the library",
                found=version,
                supported=SCHEMA_VERSION,
            )
        if version < SCHEMA_VERSION or not _has_tables(connection, queries):
            raise StoreError(
                f"{where} has not the tables of this library, or older ones: open it once with"
                " open_store, or run `durable-workflow migrate`"
            )
        check_not_moved(connection, queries, where)
    except FAILURES as error:
        if isinstance(error, sqlite3.ProgrammingError):  # closed, or of another thread
            raise TransactionMisuseError(f"cannot use the connection: {error}") from error
        raise translate(error, "use", "the connection") from error


def _has_tables(connection: sqlite3.Connection, queries: Queries) -> bool:
    return any(row.name == "workflow_executions" for row in queries.load_schema_objects(connection))


def _begin(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        return
    how = connection.isolation_level
    if how is None or getattr(connection, "autocommit", False) is True:
        raise TransactionMisuseError(
            "the connection is in autocommit mode, and no transaction is open; begin one first, as"
            " by `connection.execute('begin immediate')`, and commit it afterwards"
        )
    try:
        connection.execute(f"begin {how}")  # as sqlite3 does before the first write
    except FAILURES as error:
        where = database_path(connection)
        raise translate(error, "begin a transaction on", where) from error
