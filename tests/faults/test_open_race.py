"""Sixteen processes open one file at the same moment, whoever wrote it, and write to it at once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    SCHEMA_VERSION,
    SqliteCheckpointStore,
    Workflow,
    validate_schema,
)
from durable_workflow_sqlite.store import connection, group_commit
from durable_workflow_sqlite.store.connection import configure
from tests.dart_file import migrated, read_columns, read_rows, write_dart_file
from tests.faults.reliability import FULL
from tests.migrations.content import content, migrate_to
from tests.migrations.test_opening_at_once import at_once, schema_changes

PROCESSES = 16
FILES = 100 if FULL else 1
VERSIONS = range(1, SCHEMA_VERSION + 1, 1 if FULL else 6)


def fresh(file: Path) -> None:
    """It is not there yet."""


def of_version(version: int) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        migrate_to(file, version)
        with closing(sqlite3.connect(file)) as opened:
            opened.execute(
                "insert into workflows (workflow_id, workflow_type, version, created_at)"
                " values ('old', 'old', 1, '2024-03-01T10:00:00.000000Z')"
            )
            opened.commit()

    write.__name__ = f"of version {version}"
    return write


def of_dart(file: Path) -> None:
    write_dart_file(file)


WRITERS = [
    fresh,
    *(
        pytest.param(write, marks=pytest.mark.campaign)
        for write in (*map(of_version, VERSIONS), of_dart)
    ),
]


def open_and_save(file: Path) -> str:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            name = f"process {os.getpid()}"
            await store.save(Workflow(workflow_id=name, workflow_type=name))

    asyncio.run(main())
    return "saved"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, sixteen that migrate one after the other take longer than 5 seconds."""
    for module in (connection, group_commit):
        monkeypatch.setattr(module, "BUSY_TIMEOUT_MS", 60_000)


@pytest.mark.campaign
@pytest.mark.faults
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_sixteen_processes_that_open_one_file_at_once_all_get_it_whole(
    tmp_path: Path, write: Callable[[Path], None], counts: Counter[str]
) -> None:
    alone = tmp_path / "alone.db"
    write(alone)
    before = read_rows(alone, read_columns(alone)) if alone.exists() else {}
    columns = read_columns(alone) if alone.exists() else {}
    open_and_save(alone)
    files = [tmp_path / f"{number}.db" for number in range(FILES)]
    for file in files:
        write(file)
    for file, answers in zip(
        files, at_once(files, open_and_save, processes=PROCESSES), strict=True
    ):
        assert answers == ["saved"] * PROCESSES
        # SQLite counts the changes of a schema: each migration was applied once.
        assert schema_changes(file) == schema_changes(alone)
        version, _ = content(file)
        assert version == SCHEMA_VERSION
        after = migrated(read_rows(file, columns), columns)
        for table, rows in migrated(before, columns).items():
            assert set(rows) <= set(after[table]), table
        with closing(sqlite3.connect(file)) as opened:
            (saved,) = opened.execute(
                "select count(*) from workflows where workflow_id like 'process %'"
            ).fetchone()
            assert saved == PROCESSES
            configure(opened)
            assert validate_schema(opened) == []
    counts["files"] += FILES
    counts["openings"] += FILES * PROCESSES
