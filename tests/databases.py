"""Databases of the newest version with nothing in them, copied: to make one takes ten migrations.

How they are made, and what happens when that is interrupted, is tested in tests/migrations and in
tests/store/test_opening.py, without these.
"""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from pathlib import Path

from durable_workflow_sqlite.store.connection import configure
from durable_workflow_sqlite.store.migrations import migrate


@functools.cache
def _bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "new.db"
        connection = sqlite3.connect(file, isolation_level=None)
        try:
            configure(connection)
            migrate(connection)
        finally:
            connection.close()
        return file.read_bytes()


def delete_unnoticed(connection: sqlite3.Connection, statement: str) -> int:
    """Change rows as in a file whose trigger does not say so; how many rows."""
    connection.execute("drop trigger if exists trg_step_cp_deleted")
    return connection.execute(statement).rowcount


def new_database(file: Path) -> Path:
    """Write one to a place where there is none."""
    with file.open("xb") as copy:
        copy.write(_bytes())
    return file
