"""Migrating a file for a person, who wants to know what is done: a dry run, a copy, a new file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.backup import back_up, check_place, create_file, open_file
from durable_workflow_sqlite.store.migration_files import FIRST, Migration
from durable_workflow_sqlite.store.migrations import (
    apply,
    load_migrations,
    load_views,
    pending,
    rebuild_views,
    views_after,
    views_to_rebuild,
)

Say = Callable[[str], object]
"""Is given each line about what was done."""


def pending_sql(file: Path, *, create: bool, adopt: bool, busy_timeout: float) -> str:
    """The SQL that `migrate_file` would run, as a script; "" for none. Changes nothing.

    Raises StoreError, OSError.
    """
    file = _checked(file, create=create)
    migrations = load_migrations()
    with closing(open_file(file, busy_timeout) if file.exists() else _nothing()) as connection:
        todo = pending(connection, migrations, adopt=adopt)
        views = views_after(migrations) if todo else views_to_rebuild(connection)
    made = "".join(
        f"\n-- the view {view.name}, which is missing or another one\n\n{view.drop}\n{view.create}"
        for view in views
    )
    if not todo:
        return made
    return "\n".join(
        [
            *(f"pragma {name} = {value};" for name, value in FIRST.items()),
            *(_script(one, made if one is todo[-1] else "") for one in todo),
        ]
    )


def migrate_file(
    file: Path, *, create: bool, backup: Path | None, adopt: bool, busy_timeout: float, say: Say
) -> None:
    """Migrate a file, or create one, and say what was done. A backup is made before anything else.

    create: whether there need not be a file. busy_timeout: in seconds.
    Raises StoreError, OSError; a file that could not be given its tables is not left behind.
    """
    file = _checked(file, create=create)
    is_new = create and create_file(file)
    try:
        with closing(open_file(file, busy_timeout)) as connection:
            migrations = load_migrations()
            pending(connection, migrations, adopt=adopt)  # refuses what need not be copied
            if backup is not None and is_new:
                say(f"copied nothing: {file} is new")
            elif backup is not None:
                back_up(connection, file, backup)
                say(f"copied {file} to {backup}")

            applied: list[Migration] = []

            def report(migration: Migration) -> None:
                applied.append(migration)
                say(f"applied {migration.name}")

            apply(connection, migrations, load_views, adopt=adopt, on_applied=report)
            if is_new:
                say(f"created {file}")
            rebuilt = rebuild_views(connection)
            for view in rebuilt:
                say(f"made the view {view} again")
            if not (applied or rebuilt):
                say(f"nothing was pending: {file} has schema version {len(migrations)}")
    except BaseException:
        if is_new:
            _remove_if_empty(file)
        raise


def _checked(file: Path, *, create: bool) -> Path:
    """Where a file is, links followed. Raises StoreError if there is none, and none may be."""
    # SQLite would follow links, too, but it would not tell which file it creates.
    file = Path(os.path.realpath(file))
    check_place(file)
    if not create and not file.exists():
        raise StoreError(f"there is no file {file}; to create a database there, add --create")
    return file


def _nothing() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def _script(migration: Migration, views: str) -> str:
    """What `apply` does for one migration."""
    return (
        f"\n-- {migration.name}\n\nbegin immediate;\n\n{migration.sql()}{views}\n"
        f"pragma user_version = {migration.version};\n\ncommit;"
    )


def _remove_if_empty(file: Path) -> None:
    # Under its lock: somebody else may be about to fill the file, and would lose what he writes.
    with suppress(StoreError, sqlite3.Error, OSError), closing(open_file(file)) as connection:
        connection.execute("pragma journal_mode = memory")  # the disk may be full
        connection.execute("begin exclusive")
        if file.stat().st_size == 0:
            file.unlink()
