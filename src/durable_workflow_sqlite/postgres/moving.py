"""A schema of PostgreSQL as a database that is moved, or that one is moved into."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, cast

import psycopg

from durable_workflow_sqlite.errors import StoreBusyError, StoreError
from durable_workflow_sqlite.moving.database import Moves, Row
from durable_workflow_sqlite.postgres.adapter import number_parameters
from durable_workflow_sqlite.postgres.address import Address
from durable_workflow_sqlite.postgres.failures import translated
from durable_workflow_sqlite.postgres.migrations import bring_up_to_date, shipped_objects
from durable_workflow_sqlite.postgres.presence import key_of_moves_into, lock_space
from durable_workflow_sqlite.postgres.session import Session, in_schema
from durable_workflow_sqlite.postgres.sql import MOVING_DIR, load_queries
from durable_workflow_sqlite.store import moves
from durable_workflow_sqlite.store.rows import time_to_text
from durable_workflow_sqlite.store.sql import load_statements

_FETCHED_AT_ONCE: Final = 2000


class PostgresMoving:
    """Has a session of its own."""

    def __init__(self, address: Address) -> None:
        """Open a schema, or create it, and bring it up to date. Raises StoreError."""
        if address.is_pooled and address.direct is None:
            raise StoreError(
                f"cannot move {address.name} through a pooler; give the URL of the server itself,"
                " or its parameter `direct`"
            )
        self.name = address.name
        self._schema = schema = address.schema
        loaded = load_queries(schema)
        self._queries = loaded.shared
        self._of_postgres = loaded.of_postgres
        self._statements = load_statements(MOVING_DIR)
        self._session = Session(address.direct or address.url)
        try:
            with self._errors():
                bring_up_to_date(self._session, schema)
                # Between two parts of what is copied, the other database may take its time.
                self._session.execute("set idle_in_transaction_session_timeout = 0")
        except BaseException:
            self._session.close()
            raise

    def moves(self) -> Moves:
        with self._errors():
            return moves.known(self._session, self._queries)

    def count_living_workers(self) -> int:
        with self._errors():
            alive = self._of_postgres.count_alive(
                self._session, lock_space=lock_space(self._schema)
            )
            return alive or 0

    def count_rows(self) -> dict[str, int]:
        with self._errors():
            return dict(self._session.execute(self._text("count_rows")).fetchall())

    def tables_of_others(self) -> list[str]:
        with self._errors():
            rows = self._queries.load_schema_objects(self._session)
        shipped = shipped_objects()
        return sorted(
            one.name for one in rows if one.type == "table" and (one.type, one.name) not in shipped
        )

    def check(self) -> None:
        """The server has checked each row."""

    def rows(self, table: str, skipped: int = 0) -> Iterator[Row]:
        statement, _ = number_parameters(self._text(f"read_{table}"))
        at_once = _FETCHED_AT_ONCE if psycopg.capabilities.has_stream_chunked() else 1
        with self._errors(), self._session.connection.cursor() as cursor:
            yield from cursor.stream(cast("Any", statement), (skipped,), binary=True, size=at_once)

    def fence(self, move_id: str, other: str, moved_by: str, now: datetime) -> None:
        with self._transaction():
            self._run("fence.sql")
            moves.begin(
                self._session, self._queries, "OUT", move_id, other, moved_by, now, put_off=None
            )
            moves.end_all_claims(self._session, self._queries, now)
        self._tell_others()

    def unfence(self) -> None:
        with self._transaction():
            self._queries.delete_move(self._session)
        self._tell_others()

    def have_it_alone(self) -> None:
        key = key_of_moves_into(self._schema)
        with self._errors():
            if not self._of_postgres.become_alive(self._session, lock_key=key):
                raise StoreBusyError(f"another move into {self.name} is under way")

    def begin(self, move_id: str, other: str, moved_by: str, now: datetime) -> None:
        with self._transaction():
            moves.begin(
                self._session, self._queries, "IN", move_id, other, moved_by, now, put_off=None
            )
            self._run("begin.sql")

    def write(self, table: str, rows: Sequence[Row]) -> None:
        with self._transaction(f" ({table})"), self._session.connection.cursor() as cursor:
            statement = cast("Any", self._text(f"write_{table}").rstrip("; \n"))
            with cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)

    def finish(self, now: datetime) -> None:
        with self._transaction():
            known = moves.known(self._session, self._queries)
            if known.into is not None and not known.into.is_finished:
                self._run("finish.sql")
                direction = "IN"
            else:
                direction = "OUT"
            self._queries.finish_move(
                self._session, direction=direction, finished_at=time_to_text(now)
            )

    def close(self) -> None:
        self._session.close()

    def _text(self, name: str) -> str:
        return in_schema(self._statements[name], self._schema)

    def _run(self, file: str) -> None:
        script = (MOVING_DIR / file).read_text(encoding="utf-8")
        self._session.run_script(in_schema(script, self._schema))

    def _tell_others(self) -> None:
        with self._errors():
            self._of_postgres.tell_others(self._session, channel=self._schema)

    @contextmanager
    def _transaction(self, of: str = "") -> Generator[None]:
        with self._errors(of), self._session.connection.transaction():
            yield

    @contextmanager
    def _errors(self, of: str = "") -> Generator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise translated(error, self.name + of) from error
