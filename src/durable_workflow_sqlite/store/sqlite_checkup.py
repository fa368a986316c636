"""`check_up`: what is wrong with a file, beside what is in it, and with its content."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.reading.findings import SHOWN, Finding, Level, many
from durable_workflow_sqlite.store.checkup import check_content
from durable_workflow_sqlite.store.connection import LOG_BYTES
from durable_workflow_sqlite.store.in_memory import open_in_memory
from durable_workflow_sqlite.store.processes import writers
from durable_workflow_sqlite.store.read_only import ReadOnlyFile
from durable_workflow_sqlite.store.schema import normal
from durable_workflow_sqlite.store.worker_lock import lock_files

LOCK_WAIT_S: Final = 1.0
"""How long another transaction may hold the write lock."""


def check_up(file: ReadOnlyFile, now: datetime, *, quick: bool = False) -> Iterator[Finding]:
    """Check a file; quick: do not compare indexes with rows.

    Raises StoreError if a check cannot be done.
    """
    yield _sqlite_version()
    yield from _integrity(file, quick=quick)
    yield from _references(file)
    yield from _journal(file)
    yield file.disk()
    yield _write_lock(file)
    schema = _schema(file)
    yield schema
    if schema.level is Level.ERROR:
        return  # other checks need what is missing
    try:
        yield from check_content(file, now, quick=quick)
        yield from _lock_files(file)
    except StoreError as error:
        if schema.level is Level.OK:
            raise
        yield Finding(
            level=Level.ERROR,
            check="schema",
            message=f"the other checks were not done: {error}",
            hint="repair the schema, then run `durable-workflow doctor FILE` again",
        )


def _sqlite_version() -> Finding:
    version = sqlite3.sqlite_version_info
    text = f"SQLite {sqlite3.sqlite_version}"
    if not has_reset_bug(version):
        return Finding(level=Level.OK, check="sqlite", message=text)
    return Finding(
        level=Level.NOTE,
        check="sqlite",
        message=f"{text} has the WAL-reset bug (3.7.0 to 3.51.2); this library avoids it",
        hint="do not let other programs checkpoint this file: in the sqlite3 shell, run"
        " `pragma wal_autocheckpoint = 0` before you write",
    )


def has_reset_bug(version: tuple[int, int, int]) -> bool:
    """Whether a checkpoint that races a commit can corrupt a file (sqlite.org/wal.html)."""
    is_mended = version >= (3, 51, 3) or any(
        branch <= version < (3, branch[1] + 1, 0) for branch in ((3, 44, 6), (3, 50, 7))
    )
    return version >= (3, 7, 0) and not is_mended


def _integrity(file: ReadOnlyFile, *, quick: bool) -> Iterator[Finding]:
    pragma = "quick_check" if quick else "integrity_check"
    # A row that breaks a rule of its table is not damage; `rows_checkup.rows` reports it.
    file.pragma("ignore_check_constraints = on")
    problems = [text for (text,) in file.pragma(f"{pragma}({SHOWN})") if text != "ok"]
    if problems:
        yield Finding(
            level=Level.ERROR,
            check="integrity",
            message="; ".join(" ".join(text.split()) for text in problems),
            hint="stop the workers, copy the file to keep it, and restore a backup",
        )
    else:
        yield Finding(level=Level.OK, check="integrity", message=f"{pragma} finds nothing")


def _references(file: ReadOnlyFile) -> Iterator[Finding]:
    broken = list(file.pragma("foreign_key_check"))
    if broken:
        table, _, referred, _ = broken[0]
        yield Finding(
            level=Level.ERROR,
            check="references",
            message=f"{many(len(broken), 'row')} with a reference to a missing row, the first in"
            f" {table}, to {referred}",
            hint="list them in the sqlite3 shell with `pragma foreign_key_check`; then restore the"
            " missing rows from a backup, or delete the listed ones",
        )
    else:
        yield Finding(level=Level.OK, check="references", message="every reference has its row")


def _objects(file: ReadOnlyFile) -> list[tuple[str, str, str]]:
    """Tables, indexes, views and triggers: kind, name, and the statement that made it."""
    with file.reading() as connection:
        rows = file.queries.load_schema_objects(connection)
    return [(row.type, row.name, row.sql) for row in rows]


def _schema(file: ReadOnlyFile) -> Finding:
    found = {(kind, name): normal(sql) for kind, name, sql in _objects(file)}
    with closing(open_in_memory()) as fresh:
        wanted = {
            (row.type, row.name): normal(row.sql) for row in file.queries.load_schema_objects(fresh)
        }
    missing = [
        f"the {kind} {name} is missing" for kind, name in sorted(wanted.keys() - found.keys())
    ]
    other = [
        f"the {kind} {name} is different"
        for kind, name in sorted(wanted.keys() & found.keys())
        if wanted[kind, name] != found[kind, name]
    ]
    if missing or other:
        of_views = all(one.startswith("the view ") for one in missing + other)
        return Finding(
            level=Level.ERROR if missing else Level.WARNING,
            check="schema",
            message="; ".join(missing + other),
            hint="run `durable-workflow migrate FILE`: it creates the views again"
            if of_views
            else "create these objects again as in sql/schema.sql, then run `durable-workflow"
            " migrate FILE`, which creates the views again",
        )
    return Finding(level=Level.OK, check="schema", message=f"{len(wanted)} objects are as shipped")


def _journal(file: ReadOnlyFile) -> Iterator[Finding]:
    ((mode,),) = file.pragma("journal_mode")
    if mode != "wal":
        yield Finding(
            level=Level.WARNING,
            check="journal",
            message=f"journal_mode is {mode}: readers and writers wait for each other",
            hint="start a worker: it sets journal_mode to wal when it opens the file",
        )
        return
    size = _size(Path(f"{file.path}-wal"))
    if size > 2 * LOG_BYTES:
        yield Finding(
            level=Level.WARNING,
            check="journal",
            message=f"the log has {size / 1e6:.0f} MB: a program has an old read transaction open,"
            " or no worker lives to copy the log into the file",
            hint="close programs that have the file open for reading, and start a worker",
        )
    else:
        yield Finding(level=Level.OK, check="journal", message=f"wal, with {size / 1e6:.1f} MB")


def _write_lock(file: ReadOnlyFile) -> Finding:
    """Whether a worker could write now, or somebody keeps all others from it."""
    if file.can_be_written(wait_s=LOCK_WAIT_S):
        return Finding(level=Level.OK, check="lock", message="nobody keeps others from writing")
    who = ", ".join(map(str, writers(file.path)))
    return Finding(
        level=Level.WARNING,
        check="lock",
        message=f"the write lock was held for over {LOCK_WAIT_S:g} s"
        + (f", by process {who}" if who else "")
        + ": workers record nothing meanwhile",
        hint=(f"`ps -p {who.replace(', ', ',')} -o args` says what that is: " if who else "")
        + "somebody has begun a transaction and not ended it, as in a sqlite3 shell; end it there",
    )


def _lock_files(file: ReadOnlyFile) -> Iterator[Finding]:
    living = file.all_living()
    orphans = [file.name for one, file in lock_files(file.path).items() if one not in living]
    if orphans:
        yield Finding(
            level=Level.NOTE,
            check="locks",
            message=f"{many(len(orphans), 'lock file')} of dead workers: "
            + ", ".join(orphans[:SHOWN]),
            hint="do nothing: the next worker that starts deletes them",
        )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
