"""`durable-workflow`, and `python -m durable_workflow_sqlite`: a database from a shell.

`migrate` and `worker` need nothing but the library and stand here; the other commands are in `cli`.
Exits with 0 when it did what was asked. Exits with 1 and one line on stderr when it could not, and
with 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from durable_workflow_sqlite import database
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.backup import back_up, check_place, create_file, open_file
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS
from durable_workflow_sqlite.store.migration_files import FIRST, Migration
from durable_workflow_sqlite.store.migrations import (
    SCHEMA_VERSION,
    apply,
    load_migrations,
    load_views,
    pending,
    rebuild_views,
    views_after,
    views_to_rebuild,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code. Wrong usage raises SystemExit(2)."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["--version"]:
        _say(f"durable-workflow-sqlite {_version()}")
        _say(f"SQLite {sqlite3.sqlite_version}")
        _say(f"schema {SCHEMA_VERSION}")
        return 0
    if words[:1] not in (["migrate"], ["worker"]):
        if _has_cli():
            from durable_workflow_sqlite import cli

            return cli.main(words, run_here=main)
        if words[:1] and not words[0].startswith("-"):
            sys.stderr.write(
                f"{words[0]} needs what is not installed:"
                " pip install 'durable-workflow-sqlite[cli]'\n"
            )
            return 1
    parser = _parser()
    options = parser.parse_args(words)
    try:
        options.file = database.path_of(options.file, options.db)
    except ValueError as error:
        parser.error(str(error))
    if options.command == "worker":
        return _work(options)
    try:
        # SQLite would follow links, too, but it would not tell which file it creates.
        file = Path(os.path.realpath(options.file))
        if options.dry_run:
            print_pending(
                file,
                create=options.create,
                adopt=options.adopt,
                busy_timeout=options.busy_timeout,
            )
        else:
            migrate_file(
                file,
                create=options.create,
                backup=options.backup,
                adopt=options.adopt,
                busy_timeout=options.busy_timeout,
            )
    except StoreError as error:
        problem = str(error)
    except OSError as error:
        problem = f"cannot migrate {options.file}: {error}"
    else:
        return 0
    sys.stderr.write(" ".join(problem.splitlines()) + "\n")
    return 1


def console() -> None:
    """The script `durable-workflow`."""
    sys.exit(main())


def print_pending(file: Path, *, create: bool, adopt: bool, busy_timeout: float) -> None:
    """Print the SQL that `migrate_file` would run, as a script; change nothing.

    Raises StoreError, OSError.
    """
    _check_file(file, create=create)
    migrations = load_migrations()
    with closing(open_file(file, busy_timeout) if file.exists() else _nothing()) as connection:
        todo = pending(connection, migrations, adopt=adopt)
        views = views_after(migrations) if todo else views_to_rebuild(connection)
    if not (todo or views):
        _say("-- nothing is pending")
        return
    made = "".join(
        f"\n-- the view {view.name}, which is missing or another one\n\n{view.drop}\n{view.create}"
        for view in views
    )
    if not todo:
        _say(made)
        return
    for name, value in FIRST.items():
        _say(f"pragma {name} = {value};")
    for migration in todo:
        _say(
            f"\n-- {migration.name}\n\n{_script(migration, made if migration is todo[-1] else '')}"
        )


def migrate_file(
    file: Path, *, create: bool, backup: Path | None, adopt: bool, busy_timeout: float
) -> None:
    """Migrate a file, or create one, and say what was done. A backup is made before anything else.

    create: whether there need not be a file.
    Raises StoreError, OSError; a file that could not be given its tables is not left behind.
    """
    _check_file(file, create=create)
    is_new = create and create_file(file)
    try:
        with closing(open_file(file, busy_timeout)) as connection:
            migrations = load_migrations()
            pending(connection, migrations, adopt=adopt)  # refuses what need not be copied
            if backup is not None and is_new:
                _say(f"copied nothing: {file} is new")
            elif backup is not None:
                back_up(connection, file, backup)
                _say(f"copied {file} to {backup}")

            applied: list[Migration] = []

            def report(migration: Migration) -> None:
                applied.append(migration)
                _say(f"applied {migration.name}")

            apply(connection, migrations, load_views, adopt=adopt, on_applied=report)
            if is_new:
                _say(f"created {file}")
            rebuilt = rebuild_views(connection)
            for view in rebuilt:
                _say(f"made the view {view} again")
            if not (applied or rebuilt):
                _say(f"nothing was pending: {file} has schema version {len(migrations)}")
    except BaseException:
        if is_new:
            _remove_if_empty(file)
        raise


def _check_file(file: Path, *, create: bool) -> None:
    """Refuse a path where there is no file, unless one may be created. Raises StoreError."""
    check_place(file)
    if not create and not file.exists():
        raise StoreError(f"there is no file {file}; to create a database there, add --create")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("durable-workflow-sqlite")
    except PackageNotFoundError:  # run from a folder of its sources
        return "of an unknown version"


def _has_cli() -> bool:
    """Whether what the other commands need is installed."""
    return find_spec("typer") is not None and find_spec("rich") is not None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m durable_workflow_sqlite",
        description="Look after the database of durable workflows.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="store_true", help="print the versions of the library, SQLite, schema"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _describe_worker(
        commands.add_parser(
            "worker",
            help="run workflows until SIGTERM",
            description="Run what is in a database, and what is enqueued there, until SIGTERM.",
            allow_abbrev=False,
        )
    )
    migrate = commands.add_parser(
        "migrate",
        help="bring a database to the current schema; --create: make a new one",
        description="Bring a database to the current schema, or create one with --create.",
        allow_abbrev=False,
    )
    _describe_file(migrate, "the database; its folder must exist")
    migrate.add_argument(
        "--create", action="store_true", help="create the database if there is no file"
    )
    either = migrate.add_mutually_exclusive_group()
    either.add_argument(
        "--dry-run", action="store_true", help="print the SQL of what is pending, change nothing"
    )
    either.add_argument(
        "--backup", metavar="PATH", type=Path, help="copy the database first, to a new file"
    )
    migrate.add_argument(
        "--adopt",
        action="store_true",
        help="add the tables to a database that holds another application's",
    )
    migrate.add_argument(
        "--busy-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=BUSY_TIMEOUT_MS / 1000,
        help="how long to wait for a lock that someone else holds (default: %(default)g)",
    )
    return parser


def _describe_file(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help=f"{text}; not given where --db or {database.VARIABLE} names it",
    )
    command.add_argument("--db", metavar="FILE", help=database.HELP)


def _describe_worker(worker: argparse.ArgumentParser) -> None:
    _describe_file(worker, "the database; it is created if necessary")
    worker.add_argument(
        "--app",
        required=True,
        metavar="MODULE[:NAME]",
        help="the workflows: one, a list of them, or all that a module holds",
    )
    worker.add_argument(
        "--max-concurrent",
        type=int,
        default=100,
        metavar="N",
        help="executions at once; those that wait do not count (default: %(default)d)",
    )
    worker.add_argument(
        "--grace",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="for how long steps may go on after SIGTERM (default: %(default)g)",
    )
    worker.add_argument(
        "--synchronous",
        choices=("normal", "full"),
        default="normal",
        help="full: a power cut loses no committed step (default: %(default)s)",
    )


def _work(options: argparse.Namespace) -> int:
    from durable_workflow_sqlite.worker import AppError, find_workflows, run_worker

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(
            run_worker(
                options.file,
                find_workflows(options.app),
                max_concurrent=options.max_concurrent,
                synchronous=options.synchronous,
                grace=timedelta(seconds=options.grace),
            )
        )
    except (StoreError, AppError, ValueError) as error:
        sys.stderr.write(" ".join(str(error).splitlines()) + "\n")
        return 1
    return 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400 seconds")
    return seconds


def _nothing() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def _script(migration: Migration, views: str) -> str:
    """What `apply` does for one migration."""
    return (
        f"begin immediate;\n\n{migration.sql()}{views}\n"
        f"pragma user_version = {migration.version};\n\ncommit;"
    )


def _remove_if_empty(file: Path) -> None:
    # Under its lock: somebody else may be about to fill the file, and would lose what he writes.
    with suppress(StoreError, sqlite3.Error, OSError), closing(open_file(file)) as connection:
        connection.execute("pragma journal_mode = memory")  # the disk may be full
        connection.execute("begin exclusive")
        if file.stat().st_size == 0:
            file.unlink()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    console()
