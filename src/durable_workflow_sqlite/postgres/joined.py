"""A store in the transaction of somebody else's connection of psycopg."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeGuard, TypeVar

import psycopg
from psycopg import RawCursor
from psycopg.pq import TransactionStatus

from durable_workflow_sqlite.errors import StoreError, TransactionMisuseError
from durable_workflow_sqlite.payload_codec import (
    PayloadCodec,
    check_codec,
    check_max_payload_bytes,
)
from durable_workflow_sqlite.postgres import values
from durable_workflow_sqlite.postgres.adapter import as_statement
from durable_workflow_sqlite.postgres.failures import is_of_another_writer, translated
from durable_workflow_sqlite.postgres.guard import UserConnection
from durable_workflow_sqlite.postgres.migrations import pending
from durable_workflow_sqlite.postgres.session import Session
from durable_workflow_sqlite.postgres.sql import (
    MIGRATIONS_DIR,
    Loaded,
    load_encoding_queries,
    load_queries,
)
from durable_workflow_sqlite.store.encoding import Encoding
from durable_workflow_sqlite.store.joined import JoinedStore, JoinedTransactions, NobodyWorks
from durable_workflow_sqlite.store.migration_files import read_migrations
from durable_workflow_sqlite.store.moves import check_not_moved
from durable_workflow_sqlite.store.statement_store import StatementStore
from durable_workflow_sqlite.store.transactions import AsStatement, Shortcut

T = TypeVar("T")

AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


class _Shadow(psycopg.Connection[Any]):
    """Speaks by the session of another connection, as this library does."""

    def __init__(self, pgconn: Any) -> None:
        super().__init__(pgconn)
        self.cursor_factory = RawCursor
        self.prepare_threshold = None  # its names would be those of the other one
        values.register(self)

    def __del__(self, *_: Any) -> None:
        pass  # the session is that of the other one


class _JoinedSession(Session):
    """What the queries are called with."""

    def __init__(self, of: AnyConnection) -> None:
        super().__init__(name_of(of), prepares=False)
        pgconn = of.pgconn
        before = pgconn.notice_handler, pgconn.notify_handler
        self._shadow = _Shadow(pgconn)
        pgconn.notice_handler, pgconn.notify_handler = before

    @property
    def connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        return self._shadow

    @property
    def is_lost(self) -> bool:
        return self._shadow.closed


class InTransaction(JoinedTransactions):
    """The transaction of a connection, which its user begins and ends."""

    def __init__(self, connection: AnyConnection, schema: str, loaded: Loaded) -> None:
        self.connection = connection
        self.session = _JoinedSession(connection)
        self._schema = schema
        self._queries = loaded.of_postgres
        self._check: Callable[[], None] | None = None

    def check_first(self, check: Callable[[], None]) -> None:
        """Called before the first operation, as one of these."""
        self._check = check

    async def write(
        self,
        operation: Callable[[], T],
        shortcut: Shortcut | None = None,
        noted: Callable[[T], object] | None = None,
    ) -> T:
        result = await self._run(partial(self._write, operation))
        if noted is not None:
            noted(result)
        return result

    async def read(self, operation: Callable[[], T]) -> T:
        return await self._run(operation)

    async def _run(self, operation: Callable[[], T]) -> T:
        connection = self.connection
        if isinstance(connection, psycopg.AsyncConnection):
            await asyncio.sleep(0)  # so that `run_now` gives up before anything is sent
            if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                await connection.execute(b"")  # it begins a transaction, unless it is not to
            async with connection.lock:
                # A second that the server takes is not one of the event loop.
                return await asyncio.to_thread(self._run_here, operation)
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            connection.execute(b"")
        return self._run_here(operation)

    def _run_here(self, operation: Callable[[], T]) -> T:
        if isinstance(self.connection, UserConnection):
            self.connection.note_that_it_enqueues()
        try:
            if self._check is not None:
                self._check()
                self._check = None
            return operation()
        except psycopg.Error as error:
            raise translated(error, self.session.url) from error

    def _write(self, operation: Callable[[], T]) -> T:
        session = self.session
        for may_be_again in (True, False):
            session.execute("savepoint durable_workflow")
            try:
                result = operation()
                if session.others_wait:
                    self._queries.tell_others(session, channel=self._schema)  # with the commit
            except BaseException as error:
                if not session.is_lost:
                    session.execute("rollback to durable_workflow")
                    session.execute("release durable_workflow")
                if may_be_again and is_of_another_writer(error):
                    continue  # it sees now what it did not see
                raise
            session.execute("release durable_workflow")
            return result
        raise AssertionError("unreachable")

    def execute(self, statement: Shortcut) -> int:
        changed: int = self.session.execute(*statement).rowcount
        return changed

    def count_change(self) -> None:
        self.session.others_wait = True

    def hold_execution(self, workflow_execution_id: str) -> None:
        self._queries.hold_execution(self.session, workflow_execution_id=workflow_execution_id)

    def hold(self, kind: str, name: str) -> None:
        self._queries.hold(self.session, kind=f"{self._schema} {kind}", name=name)


class Wanted(NamedTuple):
    """How a store is to write, as `StatementStore` takes it."""

    loaded: Loaded
    as_statement: AsStatement
    max_payload_bytes: int
    encoding: Encoding | None


def wanted(schema: str, codec: PayloadCodec | None, max_payload_bytes: int) -> Wanted:
    """What a store on PostgreSQL with this codec and this limit writes with."""
    check_codec(codec)
    check_max_payload_bytes(max_payload_bytes)
    encoding = None if codec is None else Encoding(codec)
    loaded = load_queries(schema) if encoding is None else load_encoding_queries(schema, encoding)
    return Wanted(loaded, as_statement, max_payload_bytes, encoding)


def join(connection: Any, schema: str, how: Wanted, identity: str | None = None) -> StatementStore:
    """A store in the transaction of a connection; it is begun as psycopg would begin it.

    identity: of the database of the store that is asked to do this, if there is one.

    Raises TypeError, TransactionMisuseError and StoreError; some of it at the first operation.
    """
    if not _is_connection(connection):
        raise TypeError(
            f"connection must be a connection of psycopg to the same database, not {connection!r}"
        )
    if connection.closed:
        raise TransactionMisuseError("the connection is closed")
    where = name_of(connection)
    status = connection.pgconn.transaction_status
    if status == TransactionStatus.INERROR:
        raise TransactionMisuseError(
            f"the transaction of the connection to {where} has failed: roll it back first"
        )
    if status == TransactionStatus.IDLE and connection.autocommit:
        raise TransactionMisuseError(
            f"the connection to {where} is in autocommit mode, and no transaction is open; begin"
            " one first, as by `with connection.transaction():`"
        )
    loaded = how.loaded
    transactions = InTransaction(connection, schema, loaded)

    def check() -> None:
        session = transactions.session
        if identity not in (None, loaded.of_postgres.load_identity(session)):
            raise TransactionMisuseError(
                f"the connection is to {where}, which is not the database of the store: what is"
                " enqueued must be in the same database"
            )
        if pending(session, loaded.of_postgres, schema, read_migrations(MIGRATIONS_DIR)):
            raise StoreError(
                f"schema {schema} of {where} has not the tables of this library, or older ones:"
                " open it once with open_store, or run `durable-workflow migrate`"
            )
        check_not_moved(session, loaded.shared, where)

    transactions.check_first(check)
    return JoinedStore(transactions.session, loaded.shared, transactions, NobodyWorks(), *how[1:])


def _is_connection(value: object) -> TypeGuard[AnyConnection]:
    return isinstance(value, psycopg.Connection | psycopg.AsyncConnection)


def name_of(connection: AnyConnection) -> str:
    """A connection as people may see it."""
    info = connection.info
    return f"postgresql://{info.host}/{info.dbname}"
