"""A file of SQLite as a database that is moved, or that one is moved into."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from durable_workflow_sqlite.errors import StoreCorruptError, StoreError
from durable_workflow_sqlite.moving.database import TABLES, Moves, Row
from durable_workflow_sqlite.store import moves
from durable_workflow_sqlite.store.connection import configure, open_connection, wait_for_locks
from durable_workflow_sqlite.store.migrations import load_migrations, migrate
from durable_workflow_sqlite.store.rows import text_to_time, time_to_text
from durable_workflow_sqlite.store.schema import our_tables, tables_of
from durable_workflow_sqlite.store.sql import MOVING_DIR, load_queries, load_statements
from durable_workflow_sqlite.store.sqlite_errors import FAILURES, translate
from durable_workflow_sqlite.store.worker_lock import WorkerLock

_LENGTH_OF_TIME: Final = len("2030-01-01T00:00:00.000000Z")
_ENDS_OF_TIMES: Final = ("_at", "_since")


class SqliteMoving:
    """Opened by `open_file`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._connection = connection
        self._queries = load_queries()
        self._statements = load_statements(MOVING_DIR)

    @classmethod
    def open_file(cls, path: Path, *, create: bool) -> SqliteMoving:
        """Open a file, and bring it up to date. Raises StoreError.

        create: whether there need not be one.
        """
        path = path.absolute()
        if not create and not path.is_file():
            raise StoreError(f"there is no file {path}")
        connection = open_connection(path)
        try:
            wait_for_locks(connection)
            migrate(connection)
            configure(connection, "full")
        except BaseException:
            connection.close()
            raise
        return cls(connection, path)

    def moves(self) -> Moves:
        with self._errors("read"):
            return moves.known(self._connection, self._queries)

    def count_living_workers(self) -> int:
        return WorkerLock(str(self._path)).count_alive() - 1  # the one that asks counts, too

    def count_rows(self) -> dict[str, int]:
        with self._errors("read"):
            return dict(self._connection.execute(self._statements["count_rows"]))

    def tables_of_others(self) -> list[str]:
        with self._errors("read"):
            found = tables_of(self._connection)
        tables = {name for name, kind in found.items() if kind == "table"}
        return sorted(tables - our_tables(load_migrations()))

    def check(self) -> None:
        with self._errors("read"):
            for table in TABLES:
                for _, key, other, _ in self._connection.execute(
                    f"pragma foreign_key_check({table})"
                ):
                    raise StoreCorruptError(
                        f"cannot move {self.name}: row {key} of {table} refers to a row of {other}"
                        " that is not there; `durable-workflow doctor` says what to do"
                    )

    def rows(self, table: str, skipped: int = 0) -> Iterator[Row]:
        with self._errors("read"), closing(self._connection.cursor()) as cursor:
            cursor.execute(self._statements[f"read_{table}"], {"skipped": skipped})
            names = [column[0] for column in cursor.description]
            times = [n for n, name in enumerate(names) if name.endswith(_ENDS_OF_TIMES)]
            for row in cursor:
                yield row if _has_our_times(row, times) else self._with_our_times(row, names, times)

    def _with_our_times(self, row: Row, names: list[str], times: list[int]) -> Row:
        values = list(row)
        for n in times:
            text = values[n]
            try:
                if text is not None:
                    values[n] = time_to_text(text_to_time(names[n], str(text)))
            except ValueError as error:
                raise StoreCorruptError(f"cannot move {self.name}: {error}") from None
        return tuple(values)

    def fence(self, move_id: str, other: str, moved_by: str, now: datetime) -> None:
        with self._transaction("fence"):
            moves.begin(
                self._connection, self._queries, "OUT", move_id, other, moved_by, now, put_off=None
            )
            moves.end_all_claims(self._connection, self._queries, now)

    def unfence(self) -> None:
        with self._transaction("use"):
            self._queries.delete_move(self._connection)

    def have_it_alone(self) -> None:
        """Nobody else can open the file. So the log can be checkpointed, and stays short."""
        with self._errors("use"):
            self._connection.execute("pragma locking_mode = exclusive")
            self._connection.execute("pragma wal_autocheckpoint = 1000")
        with self._transaction("use"):
            pass  # the first transaction takes the lock, and keeps it

    def begin(self, move_id: str, other: str, moved_by: str, now: datetime) -> None:
        with self._transaction("use"):
            put_off = [
                one
                for one in self._queries.load_schema_objects(self._connection)
                if one.type in ("index", "trigger") and one.sql
            ]
            moves.begin(
                self._connection,
                self._queries,
                "IN",
                move_id,
                other,
                moved_by,
                now,
                put_off=json.dumps([one.sql for one in put_off]),
            )
            for one in put_off:
                self._connection.execute(f"drop {one.type} {_quoted(one.name)}")

    def write(self, table: str, rows: Sequence[Row]) -> None:
        with self._transaction("write"):
            self._connection.executemany(self._statements[f"write_{table}"], rows)

    def finish(self, now: datetime) -> None:
        with self._transaction("use"):
            for row in self._queries.load_moves(self._connection):
                for statement in json.loads(row.put_off or "[]"):
                    self._connection.execute(statement)
                if row.finished_at is None:
                    self._queries.finish_move(
                        self._connection, direction=row.direction, finished_at=time_to_text(now)
                    )

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self, doing: str) -> Generator[None]:
        with self._errors(doing):
            self._connection.execute("begin immediate")
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise

    @contextmanager
    def _errors(self, doing: str) -> Generator[None]:
        try:
            yield
        except FAILURES as error:
            raise translate(error, doing, self.name) from error


def _has_our_times(row: Row, times: list[int]) -> bool:
    for n in times:
        text = row[n]
        if text is not None and (
            not isinstance(text, str) or len(text) != _LENGTH_OF_TIME or text[-1] != "Z"
        ):
            return False
    return True


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
