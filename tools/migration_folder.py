"""The migrations and views, by the rules of whoever applies them. The views stand beside them.

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
    from durable_workflow_sqlite.store.migration_files import FIRST as FIRST
    from durable_workflow_sqlite.store.migration_files import (
        MigrationFileError as MigrationFileError,
    )
    from durable_workflow_sqlite.store.migration_files import read_migrations as read_migrations
    from durable_workflow_sqlite.store.migration_files import read_views as read_views
else:
    _PATH = Path(__file__).parents[1] / "src/durable_workflow_sqlite/store/migration_files.py"
    _SPEC = importlib.util.spec_from_file_location("migration_files", _PATH)
    _MODULE = sys.modules[_SPEC.name] = importlib.util.module_from_spec(_SPEC)
    _SPEC.loader.exec_module(_MODULE)
    FIRST, MigrationFileError = _MODULE.FIRST, _MODULE.MigrationFileError
    read_migrations, read_views = _MODULE.read_migrations, _MODULE.read_views


_VIEWS = "select name from sqlite_schema where type = 'view'"


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
        problems += _view_problems(connection, views_of(folder))
    if problems:
        raise MigrationsError("\n".join(problems))


def views_of(folder: Path) -> Path:
    """The folder of the views that go with a folder of migrations."""
    return folder.parent / "views"


def statements(folder: Path, *, with_views: bool = True) -> Iterator[str]:
    """Every statement of migrations and views that are well, and the pragmas before them."""
    yield from _first()
    for migration in read_migrations(folder):
        for statement in migration.statements():
            yield statement.text
    for view in read_views(views_of(folder)):
        yield view.drop
        if with_views:
            yield view.create


def _view_problems(connection: sqlite3.Connection, folder: Path) -> Iterator[str]:
    """Of the views, after the migrations."""
    try:
        views = read_views(folder)
    except MigrationFileError as error:
        yield f"{folder}: {error}"
        return
    for view in views:
        try:
            connection.execute(view.drop)
            connection.execute(view.create)
            connection.execute(f"explain select * from {view.name}")
        except sqlite3.Error as error:
            yield f"{view.path}: {error}"
    made = {name for (name,) in connection.execute(_VIEWS)}
    for name in sorted(made - {view.name for view in views}):
        yield (
            f"{folder}: the migrations make the view {name}, and it has no file; add one, or"
            f" `drop view if exists {name};` to a new migration"
        )


def _first() -> list[str]:
    return [f"pragma {name} = {value}" for name, value in FIRST.items()]
