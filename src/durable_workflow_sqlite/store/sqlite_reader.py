"""`SqliteReader`: the `Reader` of a SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from durable_workflow_sqlite.reading.findings import Finding
from durable_workflow_sqlite.store import sqlite_checkup
from durable_workflow_sqlite.store.backup import Progress, back_up
from durable_workflow_sqlite.store.read_only import ReadOnlyFile
from durable_workflow_sqlite.store.reader import StatementReader


class SqliteReader(ReadOnlyFile, StatementReader):
    """`open` it, and close it or use `with`."""

    def check_up(self, now: datetime, *, quick: bool = False) -> Iterator[Finding]:
        return sqlite_checkup.check_up(self, now, quick=quick)

    def back_up(self, copy: Path, on_progress: Progress | None = None) -> None:
        """Copy the file as it is at one moment; see `backup.back_up`."""
        back_up(self._connection, self.path, copy, on_progress=on_progress)
