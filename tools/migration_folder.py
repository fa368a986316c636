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
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_workflow_sqlite.store.migration_files import FIRST as FIRST
    from durable_workflow_sqlite.store.migration_files import (
        MigrationFileError as MigrationFileError,
    )
    from durable_workflow_sqlite.store.migration_files import Statement as Statement
    from durable_workflow_sqlite.store.migration_files import read_migrations as read_migrations
    from durable_workflow_sqlite.store.migration_files import read_views as read_views
else:
    _PATH = Path(__file__).parents[1] / "src/durable_workflow_sqlite/store/migration_files.py"
    _SPEC = importlib.util.spec_from_file_location("migration_files", _PATH)
    _MODULE = sys.modules[_SPEC.name] = importlib.util.module_from_spec(_SPEC)
    _SPEC.loader.exec_module(_MODULE)
    FIRST, MigrationFileError = _MODULE.FIRST, _MODULE.MigrationFileError
    Statement = _MODULE.Statement
    read_migrations, read_views = _MODULE.read_migrations, _MODULE.read_views


_VIEWS = "select name from sqlite_schema where type = 'view'"


class StatementError(Exception):
    """SQLite does not accept the statement that begins at a line."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class MigrationsError(Exception):
    """All that must be changed in a folder of migrations."""


def check(folder: Path) -> None:
    """Whether they could be applied to a new file; raises `MigrationsError`."""
    try:
        migrations = read_migrations(folder)
    except MigrationFileError as error:
        raise MigrationsError(f"{folder}: {error}") from None
    problems: list[str] = []
    database = b""
    for migration in migrations:
        if not migration.sql().startswith("-- "):
            problems.append(f"{migration.path}:1: open it with a comment: what changes, and why")
        try:
            database = _after(database, tuple(migration.statements()))
        except MigrationFileError as error:
            problems.append(f"{folder}: {error}")
        except StatementError as error:
            problems.append(f"{migration.path}:{error.line}: {error}")
    problems += _view_problems(database, views_of(folder))
    if problems:
        raise MigrationsError("\n".join(problems))


def views_of(folder: Path) -> Path:
    """The folder of the views that go with a folder of migrations."""
    return folder.parent / "views"


def database(folder: Path, *, with_views: bool = True) -> bytes:
    """The empty database that migrations and views add up to, which are well."""
    made = b""
    for migration in read_migrations(folder):
        made = _after(made, tuple(migration.statements()))
    views = read_views(views_of(folder))
    return _after(
        made,
        tuple(
            Statement(1, text)
            for view in views
            for text in ((view.drop, view.create) if with_views else (view.drop,))
        ),
    )


def connect(folder: Path) -> sqlite3.Connection:
    """A connection to `database(folder)`, of its own."""
    return _connect(database(folder))


@lru_cache(maxsize=64)
def _after(before: bytes, statements: tuple[Statement, ...]) -> bytes:
    """A database after statements; each of many that begin alike is made once."""
    with closing(_connect(before)) as connection:
        for statement in statements:
            try:
                connection.execute(statement.text)
            except sqlite3.Error as error:
                raise StatementError(str(error), statement.line) from None
        return connection.serialize()


def _connect(database: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if database:
        connection.deserialize(database)
    for name, value in FIRST.items():
        connection.execute(f"pragma {name} = {value}")
    return connection


def _view_problems(database: bytes, folder: Path) -> Iterator[str]:
    """Of the views, after the migrations."""
    try:
        views = read_views(folder)
    except MigrationFileError as error:
        yield f"{folder}: {error}"
        return
    with closing(_connect(database)) as connection:
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
