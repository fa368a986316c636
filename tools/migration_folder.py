"""The migrations, by the rules of whoever applies them.

Their module is loaded by its path: the package itself cannot be imported while its folder of
migrations is out of order, or while `store/queries.py`, which these tools write, is in pieces.
"""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_workflow_sqlite.store.migration_files import (
        FIRST,
        MigrationFileError,
        read_migrations,
    )
else:
    _PATH = Path(__file__).parents[1] / "src/durable_workflow_sqlite/store/migration_files.py"
    _SPEC = importlib.util.spec_from_file_location("migration_files", _PATH)
    _MODULE = sys.modules[_SPEC.name] = importlib.util.module_from_spec(_SPEC)
    _SPEC.loader.exec_module(_MODULE)
    FIRST, MigrationFileError = _MODULE.FIRST, _MODULE.MigrationFileError
    read_migrations = _MODULE.read_migrations


class MigrationsError(Exception):
    """All that must be changed in a folder of migrations."""


def check(folder: Path) -> None:
    """Whether they could be applied to a new file; raises `MigrationsError`."""
    try:
        migrations = read_migrations(folder)
    except MigrationFileError as error:
        raise MigrationsError(f"{folder}: {error}") from None
    problems: list[str] = []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for pragma in _first():
            connection.execute(pragma)
        for migration in migrations:
            if not migration.sql().startswith("-- "):
                problems.append(
                    f"{migration.path}:1: open it with a comment: what changes, and why"
                )
            try:
                parts = migration.statements()
            except MigrationFileError as error:
                problems.append(f"{folder}: {error}")
                continue
            for statement in parts:
                try:
                    connection.execute(statement.text)
                except sqlite3.Error as error:
                    problems.append(f"{migration.path}:{statement.line}: {error}")
                    break
    if problems:
        raise MigrationsError("\n".join(problems))


def statements(folder: Path) -> Iterator[str]:
    """Every statement of migrations that are well, in order, and the pragmas before them."""
    yield from _first()
    for migration in read_migrations(folder):
        for statement in migration.statements():
            yield statement.text


def _first() -> list[str]:
    return [f"pragma {name} = {value}" for name, value in FIRST.items()]
