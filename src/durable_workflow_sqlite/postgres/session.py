"""One session of a server: statements, and whether others wait for what they have written.

A session that was lost is opened again for the next operation. What ran in it is the business of
`transactions.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, cast
from urllib.parse import urlsplit

import psycopg
from psycopg import RawCursor
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus

from durable_workflow_sqlite.postgres import values
from durable_workflow_sqlite.postgres.address import DEFAULT_SCHEMA

CONNECT_TIMEOUT_S: Final = 10

# So a connection that is cut is noticed within ten seconds, even if no message says so.
_KEEPALIVES: Final = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

# A client that freezes in a transaction must not keep others from its rows for ever, and a lock
# that nobody gives back must not keep this one. To compile the statement that looks through all
# queues takes a second, and to run it a millisecond.
_SETTINGS: Final = (
    "set jit = off",
    "set idle_in_transaction_session_timeout = '30s'",
    "set lock_timeout = '30s'",
)


def in_schema(sql: str, schema: str) -> str:
    """The text of a statement, in another schema than `durable_workflow`."""
    return re.sub(rf"\b{DEFAULT_SCHEMA}\b", schema, sql)


def without_password(url: str) -> str:
    """A URL as people may see it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection that commits each statement. Raises psycopg.Error."""
    connection = psycopg.connect(
        make_conninfo(url, **{**_KEEPALIVES, **conninfo_to_dict(url)}),
        autocommit=True,
        cursor_factory=RawCursor,
        prepare_threshold=0,
        connect_timeout=CONNECT_TIMEOUT_S,
    )
    values.register(connection)
    return connection


class Session:
    """What the queries are called with. Used by one thread at a time.

    settings: statements for each new connection, beside those of every session.
    is_pooled: whether the URL leads to a pooler, where a setting would stay for others. There are
        no settings then: the person who runs the pooler gives them to the user of the database. And
        no statement is prepared, since the next transaction may come to another session.
    prepares: whether the server plans a statement once for many calls, or for the values of each.
    others_wait: whether something was written that others wait for, since it was set to False.
    """

    def __init__(
        self, url: str, *settings: str, is_pooled: bool = False, prepares: bool = True
    ) -> None:
        self.url = url
        self.is_pooled = is_pooled
        self._prepares = prepares and not is_pooled
        self._settings = () if is_pooled else (*_SETTINGS, *settings)
        self.others_wait = False
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    @property
    def connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The connection; opened if there is none, or if it was lost."""
        connection = self._connection
        if connection is None or connection.closed:
            self._connection = connection = connect(self.url)
            if not self._prepares:
                connection.prepare_threshold = None
            for setting in self._settings:
                connection.execute(setting.encode())
        return connection

    @property
    def process(self) -> int | None:
        """The process of the server that serves it; None while there is none."""
        connection = self._connection
        return None if connection is None or connection.closed else connection.info.backend_pid

    @property
    def is_lost(self) -> bool:
        return self._connection is None or self._connection.closed

    def execute(self, statement: str, given: tuple[Any, ...] = ()) -> RawCursor[tuple[Any, ...]]:
        """Send a statement with $1, $2, ... for its values."""
        text = cast("Any", statement)  # psycopg takes only what stands in the code itself
        return cast("RawCursor[tuple[Any, ...]]", self.connection.execute(text, given, binary=True))

    def execute_many(self, batches: Mapping[str, Sequence[tuple[Any, ...]]]) -> int:
        """Send each statement for each of its rows of values; how many rows all of that changed.

        All of it goes to the server at once, and is one transaction where none has begun.
        """
        with ExitStack() as opened:
            cursors = [opened.enter_context(self.connection.cursor()) for _ in batches]
            with self.connection.pipeline():
                for cursor, (statement, rows) in zip(cursors, batches.items(), strict=True):
                    cursor.executemany(cast("Any", statement), rows)
            return sum(cursor.rowcount for cursor in cursors)

    def run_script(self, text: str) -> None:
        """Run the statements of a file, which may hold none. Raises psycopg.Error."""
        result = self.connection.pgconn.exec_(text.encode())
        done = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY)
        if result.status not in done:
            raise psycopg.errors.error_from_result(result)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
