"""What a file holds, to compare it with what it should hold."""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import SCHEMA_VERSION
from durable_workflow_sqlite.store.migration_files import Migration, View
from durable_workflow_sqlite.store.migrations import apply, load_migrations, load_views


def old_versions(first: int = 1) -> list[object]:
    """The versions before the newest, for a test of each; all but a few are for the campaigns."""
    few = (first, 15, SCHEMA_VERSION - 1)
    return [
        pytest.param(version, marks=() if version in few else pytest.mark.campaign)
        for version in range(first, SCHEMA_VERSION)
    ]


def content(file: Path) -> tuple[int, list[str]]:
    """The version of a file, and all that is in it as SQL."""
    with closing(sqlite3.connect(file)) as connection:
        # A migration keeps what others wrote against the rules.
        connection.execute("pragma ignore_check_constraints = on")
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        (version,) = connection.execute("pragma user_version").fetchone()
        return version, list(connection.iterdump())


def migrate_with(
    file: Path,
    migrations: Sequence[Migration],
    views: Callable[[], Sequence[View]] = tuple,
) -> list[int]:
    """Apply migrations to a file; return the versions applied."""
    applied: list[int] = []
    with closing(sqlite3.connect(file)) as connection:
        apply(
            connection,
            migrations,
            views,
            on_applied=lambda migration: applied.append(migration.version),
        )
    return applied


def migrate_to(file: Path, version: int) -> list[int]:
    """Bring a file to a version of this library's schema; return the versions applied.

    The newest has the views of the library; an older one those that its migrations make.
    """
    if not file.exists():
        file.write_bytes(_bytes_of(version))
        return list(range(1, version + 1))
    return _apply_up_to(file, version)


@functools.cache
def _bytes_of(version: int) -> bytes:
    """A new file that was brought to a version."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "new.db"
        if version > 1:
            file.write_bytes(_bytes_of(version - 1))
        _apply_up_to(file, version)
        return file.read_bytes()


def _apply_up_to(file: Path, version: int) -> list[int]:
    views = load_views if version == SCHEMA_VERSION else tuple
    return migrate_with(file, load_migrations()[:version], views)
