"""Four processes that open one fresh file at the same moment."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    SCHEMA_VERSION,
    SqliteCheckpointStore,
    StoreError,
    migrate,
    validate_schema,
)
from durable_workflow_sqlite.store.connection import configure
from tests.processes import a_process

PROCESSES = 4


def at_once(
    files: list[Path], open_file: Callable[[Path], object], *, processes: int = PROCESSES
) -> list[list[object]]:
    """What each process got from opening each file, or its error; all of them file by file."""
    # Forked processes share it.
    barrier = multiprocessing.get_context("fork").Barrier(processes)

    def open_all(say: Callable[[str], None]) -> None:
        answers: list[object] = []
        for file in files:
            barrier.wait(60)
            try:
                answers.append(open_file(file))
            except (StoreError, sqlite3.Error) as error:
                answers.append(f"{type(error).__name__}: {error}")
        say(json.dumps(answers))

    with ExitStack() as stack:
        opening = [stack.enter_context(a_process(open_all)) for _ in range(processes)]
        answers = [json.loads(process.hear() or "[]") for process in opening]
    return [list(of_one_file) for of_one_file in zip(*answers, strict=True)]


def open_as_store(file: Path) -> str:
    async def open_and_close() -> None:
        await SqliteCheckpointStore.file(file).close()

    asyncio.run(open_and_close())
    return "opened"


def open_and_migrate(file: Path) -> list[int]:
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        return migrate(connection)


def schema_changes(file: Path) -> int:
    """How often the schema of a file was changed; SQLite counts."""
    with closing(sqlite3.connect(file)) as connection:
        (changes,) = connection.execute("pragma schema_version").fetchone()
    return int(changes)


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.campaign)])
def test_files_that_four_open_at_once_are_migrated_once(tmp_path: Path, count: int) -> None:
    files = [tmp_path / f"{number}.db" for number in range(count)]
    for of_one_file in at_once(files, open_as_store):
        assert of_one_file == ["opened"] * PROCESSES

    alone = tmp_path / "alone.db"
    open_as_store(alone)
    for file in files:
        assert schema_changes(file) == schema_changes(alone) > SCHEMA_VERSION
        with closing(sqlite3.connect(file)) as connection:
            configure(connection)
            assert validate_schema(connection) == []


@pytest.mark.few(1)
@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_each_migration_is_applied_by_one_process(tmp_path: Path, journal_mode: str) -> None:
    files = [tmp_path / f"{number}.db" for number in range(2)]
    for file in files:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(f"pragma journal_mode = {journal_mode}")
    for of_one_file in at_once(files, open_and_migrate):
        assert all(isinstance(versions, list) for versions in of_one_file), of_one_file
        applied = sorted(version for versions in of_one_file for version in versions)
        assert applied == list(range(1, SCHEMA_VERSION + 1))
