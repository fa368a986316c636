"""A migration that is killed: the file is at one whole version or the next, and goes on from it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import SCHEMA_VERSION, migrate
from durable_workflow_sqlite.store.migrations import load_migrations
from tests.dart_file import write_dart_file
from tests.migrations.content import content, migrate_to
from tests.processes import die, run_until_killed

FULL = "DURABLE_CRASH_FULL" in os.environ
AT_EACH = 1 if FULL else 192
"""In full, a kill at every statement; else at every 192nd, from one that the seed says, and
after every fourth version."""
A_FEW = 600
"""The same, for who has no time: some versions are left out."""


def write_empty_file(file: Path) -> None:
    file.touch()


def migrate_counting(file: Path, at: Callable[[int, str], object]) -> int:
    """Migrate a file, calling `at` with each statement before it runs; return how many."""
    count = 0

    def trace(statement: str) -> None:
        nonlocal count
        count += 1
        at(count, statement)

    with closing(sqlite3.connect(file)) as connection:
        connection.set_trace_callback(trace)
        migrate(connection)
        at(count + 1, "")
    return count


@pytest.mark.parametrize(
    ("write", "journal_mode", "every"),
    [
        pytest.param(write_dart_file, "wal", A_FEW, id="a few", marks=pytest.mark.campaign),
        *(
            pytest.param(
                write, journal_mode, every, marks=[pytest.mark.campaign, pytest.mark.crash]
            )
            for write, journal_mode, every in (
                (write_dart_file, "wal", AT_EACH),
                (write_dart_file, "delete", AT_EACH if FULL else A_FEW),
                (write_empty_file, "wal", AT_EACH if FULL else A_FEW),
                (write_empty_file, "delete", AT_EACH),
            )
        ),
    ],
)
def test_a_kill_at_any_statement_leaves_a_whole_version(
    tmp_path: Path, write: Callable[[Path], None], journal_mode: str, every: int
) -> None:
    """every: one of so many statements is tried."""
    begin = tmp_path / "begin"
    write(begin)
    with closing(sqlite3.connect(begin)) as connection:
        connection.execute(f"pragma journal_mode = {journal_mode}")
        (first_version,) = connection.execute("pragma user_version").fetchone()

    whole = {}
    file = tmp_path / "version by version"
    shutil.copy(begin, file)
    for version in range(first_version, SCHEMA_VERSION + 1):
        migrate_to(file, version)
        whole[version] = content(file)
        assert whole[version][0] == version

    counted = tmp_path / "counted"
    shutil.copy(begin, counted)
    commits: list[int] = []
    count = migrate_counting(
        counted, lambda number, text: text.lower() == "commit" and commits.append(number)
    )
    assert content(counted) == whole[SCHEMA_VERSION]
    statements = [
        statement
        for migration in load_migrations()[first_version:]
        for statement in migration.statements()
    ]
    assert count > len(statements) > 0

    found = []
    first = 1 + int(os.environ["DURABLE_SEED"]) % every
    one_of = 1 if FULL else 4
    after_versions = [] if every == A_FEW else [number + 1 for number in commits[::one_of]]
    for kill_at in sorted({*range(first, count + 1, every), *after_versions, count + 1}):
        file = tmp_path / f"killed at {kill_at}"
        shutil.copy(begin, file)

        async def main(file: Path = file, kill_at: int = kill_at) -> None:
            migrate_counting(file, lambda number, _: die() if number == kill_at else None)

        run_until_killed(main)
        left = content(file)
        assert left == whole[left[0]], f"killed at statement {kill_at}"
        found.append(left[0])
        with closing(sqlite3.connect(file)) as connection:
            assert migrate(connection) == list(range(left[0] + 1, SCHEMA_VERSION + 1))
        assert content(file) == whole[SCHEMA_VERSION]

    assert found == sorted(found)
    assert every != 1 or set(found) == set(whole)
