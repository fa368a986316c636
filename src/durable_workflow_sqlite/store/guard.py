"""What a function of the user may do with a connection of SQLite in a transaction of the store.

The function has the connection itself. Two things watch over it: an authorizer, which SQLite asks
when it compiles a statement, and the class of the connection, which is another one meanwhile. The
authorizer stays the same object for as long as the store is open: SQLite compiles every statement
again after it got another one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final, NoReturn, TypeVar, cast

from durable_workflow_sqlite.store.guarded_calls import OF_THE_LIBRARY, GuardedCall
from durable_workflow_sqlite.store.queries import TABLES

T = TypeVar("T")

INSTRUCTIONS: Final = 2000
"""SQLite looks at the time after each so many of its instructions: less than a millisecond."""

_MAY_BE_READ: Final = frozenset(
    {
        "collation_list",
        "compile_options",
        "data_version",
        "database_list",
        "defer_foreign_keys",  # until the end of the transaction
        "encoding",
        "foreign_key_check",
        "foreign_key_list",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "module_list",
        "page_count",
        "page_size",
        "pragma_list",
        "schema_version",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    }
)
_TAKES_A_VALUE: Final = frozenset(
    one for one in _MAY_BE_READ if one.endswith(("_info", "_xinfo", "_list", "_check"))
) | {"defer_foreign_keys"}

_WRITES: Final = {
    sqlite3.SQLITE_INSERT: "insert",
    sqlite3.SQLITE_UPDATE: "update",
    sqlite3.SQLITE_DELETE: "delete",
    sqlite3.SQLITE_DROP_TABLE: "drop",
}
_WRITES_BY_SECOND: Final = {
    sqlite3.SQLITE_ALTER_TABLE: "alter",
    sqlite3.SQLITE_DROP_INDEX: "drop an index of",
    sqlite3.SQLITE_DROP_TRIGGER: "drop a trigger of",
}


class Authorizer:
    """Of one connection, for as long as a store uses it.

    has_compiled: whether SQLite has compiled a statement of the library since this was False. It
        compiles each once, and again for a new version of the schema.
    """

    def __init__(self, *, is_asked: bool) -> None:
        self.is_asked = is_asked
        self.has_compiled = is_asked
        self.guard: Guard | None = None

    def __call__(self, action: int, first: str | None, second: str | None, *_: object) -> int:
        if self.guard is None:
            self.has_compiled = self.is_asked
            return sqlite3.SQLITE_OK
        return self.guard.judges(action, first, second)


_at_work: dict[int, Guard] = {}
"""By the id of a connection: what watches over the function that has it now."""


def guard_of(connection: sqlite3.Connection) -> Guard | None:
    """What watches over the function that has a connection; None if none has it."""
    return _at_work.get(id(connection))


class Guard(GuardedCall):
    """Watches over one call of a function of the user."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        authorizer: Authorizer,
        timeout_s: float,
        join: Callable[[Any], Any],
        *,
        only_reads: bool = False,
    ) -> None:
        super().__init__(timeout_s, join)
        self._connection = connection
        self._authorizer = authorizer
        self._only_reads = only_reads

    def run(self, function: Callable[[Any], T]) -> T:
        """Call a function with the connection. Raises FunctionFailedError."""
        connection, kind = self._connection, type(self._connection)
        before = connection.row_factory, connection.text_factory
        connection.set_progress_handler(self.is_late, INSTRUCTIONS)
        guarded = None
        if issubclass(kind, sqlite3.Connection) and kind is not sqlite3.Connection:
            guarded = _guarded(cast("Hashable", kind))
        if guarded is not None:
            _change_class(connection, guarded)
            cast("Any", connection).guard = self
        self._authorizer.guard = self
        _at_work[id(connection)] = self
        try:
            result, error = self.call(function, connection)
        finally:
            del _at_work[id(connection)]
            self._authorizer.guard = None
            if guarded is not None:
                cast("Any", connection).guard = None
                _change_class(connection, kind)
            with suppress(sqlite3.ProgrammingError):  # it may be closed
                connection.set_progress_handler(None, INSTRUCTIONS)
                connection.row_factory, connection.text_factory = before
        self.check_what_is_left(error)
        return cast("T", result)

    @contextmanager
    def is_off(self) -> Generator[None]:
        """While the library writes for the function."""
        self._authorizer.guard = None
        try:
            yield
        finally:
            self._authorizer.guard = self

    def judges(self, action: int, first: str | None, second: str | None) -> int:
        """What SQLite is told of a part of a statement that it compiles."""
        why = self._why_not(action, first, second)
        if why is None:
            return sqlite3.SQLITE_OK
        self.note(why)
        return sqlite3.SQLITE_DENY

    def _why_not(self, action: int, first: str | None, second: str | None) -> str | None:
        if action in (sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION):
            return None
        if action == sqlite3.SQLITE_TRANSACTION:
            return OF_THE_LIBRARY.format((first or "").lower())
        if action == sqlite3.SQLITE_PRAGMA:
            name = (first or "").lower()
            if name in _MAY_BE_READ and (second is None or name in _TAKES_A_VALUE):
                return None
            return (
                f"`pragma {first}` in a function that runs in a transaction of the store: a"
                " setting would stay for what the library does with the connection; leave it out"
            )
        if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
            return (
                "`attach` or `detach` in a function that runs in a transaction of the store: the"
                " connection is the library's own; keep your tables in the same file"
            )
        table, doing = first, _WRITES.get(action)
        if doing is None:
            table, doing = second, _WRITES_BY_SECOND.get(action)
        if doing is not None and table is not None and table.lower() in TABLES:
            return (
                f"a function that runs in a transaction of the store tried to {doing} {table}: only"
                " the library writes there; use tables of your own, and the `connection` of"
                " enqueue and send_signal"
            )
        if self._only_reads and action in _ANY_WRITE and not _is_table_function(action, first):
            return "a function that was given to `read` tried to write; give it to `write`"
        return None

    def check_goes_on(self) -> None:
        """Raise if the transaction is over: what came now would be a transaction of its own."""
        if not self._connection.in_transaction and not self._only_reads:
            raise sqlite3.OperationalError(
                "SQLite has rolled back the transaction, because of an error before"
            )


def _is_table_function(action: int, table: str | None) -> bool:
    """Whether SQLite only makes a table-valued function known, such as `json_each`.

    It asks for that as for an update of its schema, which no statement could change.
    """
    return action == sqlite3.SQLITE_UPDATE and table == "sqlite_master"


_ANY_WRITE: Final = frozenset(
    {
        *_WRITES,
        *_WRITES_BY_SECOND,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_DROP_VIEW,
        sqlite3.SQLITE_REINDEX,
        sqlite3.SQLITE_ANALYZE,
    }
)


class StoreConnection(sqlite3.Connection):
    """What a store opens. Its class changes while a function of the user has it.

    guard: what watches over that function.
    """

    guard: Guard | None = None


class _GuardedCursor(sqlite3.Cursor):
    """Of a function of the user; of no use when that has ended."""

    def execute(self, sql: Any, *args: Any) -> Any:
        self._guard().check_goes_on()
        return super().execute(sql, *args)

    def executemany(self, sql: Any, *args: Any) -> Any:
        self._guard().check_goes_on()
        return super().executemany(sql, *args)

    def executescript(self, *_: Any) -> Any:
        self._guard().refuse("executescript")

    def _guard(self) -> Guard:
        guard: Guard | None = getattr(self.connection, "guard", None)
        if guard is None:
            raise sqlite3.ProgrammingError(
                "this cursor is of a function that ran in a transaction of the store, and that has"
                " ended"
            )
        return guard


class _Guarded:
    """The methods that a connection has while a function of the user has it."""

    guard: Guard

    def cursor(self, factory: Any = _GuardedCursor) -> Any:
        return super().cursor(factory)  # type: ignore[misc]

    def execute(self, sql: Any, *args: Any) -> Any:
        return self.cursor().execute(sql, *args)

    def executemany(self, sql: Any, *args: Any) -> Any:
        return self.cursor().executemany(sql, *args)

    def _refuse(self, what: str) -> NoReturn:
        self.guard.refuse(what)

    def commit(self) -> None:
        self._refuse("commit")

    def rollback(self) -> None:
        self._refuse("rollback")

    def close(self) -> None:
        self._refuse("close")

    def executescript(self, *_: Any) -> Any:
        self._refuse("executescript")

    def set_authorizer(self, *_: Any) -> None:
        self._refuse("set_authorizer")

    def set_progress_handler(self, *_: Any) -> None:
        self._refuse("set_progress_handler")

    def __enter__(self) -> Any:
        self._refuse("with connection")

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("isolation_level", "autocommit"):
            self._refuse(name)
        super().__setattr__(name, value)


@cache
def _guarded(kind: Hashable) -> type[sqlite3.Connection]:
    made = type("GuardedConnection", (_Guarded, cast("type", kind)), {})
    return cast("type[sqlite3.Connection]", made)


def _change_class(connection: sqlite3.Connection, kind: type[sqlite3.Connection]) -> None:
    object.__setattr__(connection, "__class__", kind)
