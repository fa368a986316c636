"""`PostgresReader`: the `Reader` of a schema of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.postgres.checkup import check_up
from durable_workflow_sqlite.postgres.read_only import ReadOnlySchema
from durable_workflow_sqlite.reading.findings import Finding
from durable_workflow_sqlite.store.reader import StatementReader


class PostgresReader(ReadOnlySchema, StatementReader):
    """`open` it, and close it or use `with`."""

    def check_up(self, now: datetime, *, quick: bool = False) -> Iterator[Finding]:
        return check_up(self, now, quick=quick)

    def back_up(self, copy: Path, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Refuse it: the tools of PostgreSQL copy a database."""
        raise StoreError(
            f"{self.name} is not a file, and is not copied as one; copy it with the tools of"
            f" PostgreSQL, such as `pg_dump --schema {self.schema}`"
        )
