"""What a function of the user may do with the connection of a store, in one of its transactions.

It has a connection of psycopg that looks and works as any other: `%s` for values, and the usual
types. It speaks by the same session as the store, in the transaction that the store has begun.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar, cast

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from durable_workflow_sqlite.errors import TransactionMisuseError
from durable_workflow_sqlite.postgres.session import Session
from durable_workflow_sqlite.store.guarded_calls import FunctionFailedError, GuardedCall
from durable_workflow_sqlite.store.queries import TABLES

T = TypeVar("T")

# What is no statement, though it may hold words and semicolons.
_QUOTED: Final = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$", re.DOTALL
)

# What ends the transaction, or stays in the session after it.
_REFUSED: Final = re.compile(
    r"\s*(begin|start\s+transaction|commit|end|abort|rollback(?!\s+(?:work\s+|transaction\s+)?to\b)"
    r"|prepare\s+transaction|set(?!\s+(?:local|constraints)\b)|reset|discard|deallocate|prepare"
    r"|listen|unlisten)\b",
    re.IGNORECASE,
)

_WRITTEN: Final = re.compile(
    r"\b(?:insert\s+into|update(?:\s+only)?|delete\s+from(?:\s+only)?|truncate(?:\s+table)?"
    r"|merge\s+into|alter\s+table|drop\s+table)\s+(?:if\s+exists\s+)?(?:only\s+)?"
    r"(?:(\w+|\"[^\"]+\")\s*\.\s*)?\"?(\w+)\"?",
    re.IGNORECASE,
)


class Guard(GuardedCall):
    """Watches over one call of a function of the user."""

    def __init__(
        self, session: Session, schema: str, timeout_s: float, join: Callable[[Any], Any]
    ) -> None:
        super().__init__(timeout_s, join)
        self._session = session
        self._schema = schema

    def run(self, function: Callable[[Any], T]) -> T:
        """Call a function with a connection. Raises FunctionFailedError.

        Called within a transaction.
        """
        milliseconds = max(1, round(self.timeout_s * 1000))
        self._session.execute(f"set local statement_timeout = {milliseconds}")
        pgconn = self._session.connection.pgconn
        before = pgconn.notice_handler, pgconn.notify_handler
        connection = UserConnection(pgconn, self, self._schema)
        try:
            result, error = self.call(function, connection)
        finally:
            connection.guard = None
            pgconn.notice_handler, pgconn.notify_handler = before
        if isinstance(error, errors.ReadOnlySqlTransaction):
            self.note("a function that was given to `read` tried to write; give it to `write`")
        self.check_what_is_left(error)
        status = pgconn.transaction_status
        if status == TransactionStatus.INERROR:
            raise FunctionFailedError(
                TransactionMisuseError(
                    "a function in a transaction went on after an error of PostgreSQL, which rolls"
                    " back all of it; put what may fail into `with connection.transaction():`"
                )
            )
        if status != TransactionStatus.INTRANS:
            raise FunctionFailedError(
                TransactionMisuseError("a function has ended the transaction that it ran in")
            )
        return cast("T", result)

    def check(self, statement: str, schema: str) -> None:
        """Raise for a statement, or several, that the function may not send."""
        bare = _QUOTED.sub(lambda found: found[0] if found[0][0] == '"' else " ", statement)
        for one in bare.split(";"):
            if refused := _REFUSED.match(one):
                self.refuse(" ".join(refused[1].lower().split()))
        for of, table in _WRITTEN.findall(bare):
            if of.strip('"') == schema and table.lower() in TABLES:
                why = (
                    f"a function that runs in a transaction of the store tried to write to {table}:"
                    " only the library writes there; use tables of your own, and the `connection`"
                    " of enqueue and send_signal"
                )
                self.note(why)
                raise TransactionMisuseError(why)


class _UserCursor(psycopg.Cursor[Any]):
    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        self._look_at(query)
        return super().execute(query, *args, **options)

    def executemany(self, query: Any, *args: Any, **options: Any) -> Any:
        self._look_at(query)
        return super().executemany(query, *args, **options)

    def stream(self, query: Any, *args: Any, **options: Any) -> Any:
        self._look_at(query)
        return super().stream(query, *args, **options)

    def _look_at(self, query: Any) -> None:
        cast("UserConnection", self.connection).look_at(query, self)


class UserConnection(psycopg.Connection[Any]):
    """Of a function of the user; of no use when that has ended."""

    def __init__(self, pgconn: Any, guard: Guard, schema: str) -> None:
        super().__init__(pgconn)
        self.guard: Guard | None = guard
        self.store_schema = schema
        self.prepare_threshold = None  # its names would be those of the store's own
        self.cursor_factory = _UserCursor

    def __del__(self, *_: Any) -> None:
        pass  # the session is the store's

    def look_at(self, query: Any, cursor: Any) -> None:
        guard = self._guard()
        text = query
        if hasattr(query, "as_string"):
            text = query.as_string(cursor)
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        guard.check(str(text), self.store_schema)

    def _guard(self) -> Guard:
        if self.guard is None:
            raise psycopg.InterfaceError(
                "this connection is of a function that ran in a transaction of the store, and that"
                " has ended"
            )
        return self.guard

    def note_that_it_enqueues(self) -> None:
        self._guard().has_enqueued = True

    def joined(self) -> Any:
        """The store in its transaction."""
        return self._guard().join(self)

    def _refuse(self, what: str) -> NoReturn:
        self._guard().refuse(what)

    def cursor(self, *args: Any, **options: Any) -> Any:
        self._guard()
        return super().cursor(*args, **options)

    def commit(self) -> None:
        self._refuse("commit")

    def rollback(self) -> None:
        self._refuse("rollback")

    def close(self) -> None:
        self._refuse("close")

    def cancel(self) -> None:
        self._refuse("cancel")

    def set_autocommit(self, value: bool) -> None:
        self._refuse("autocommit")

    def set_isolation_level(self, value: Any) -> None:
        self._refuse("isolation_level")

    def set_read_only(self, value: Any) -> None:
        self._refuse("read_only")

    def __enter__(self) -> Any:
        self._refuse("with connection")
