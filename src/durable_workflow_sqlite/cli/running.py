"""Commands of those who install and run an application: migrate and worker."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from durable_workflow_sqlite import stores
from durable_workflow_sqlite.cli import output
from durable_workflow_sqlite.cli.arguments import (
    BusyTimeout,
    OnNewDatabase,
    in_seconds,
    on_database,
)
from durable_workflow_sqlite.errors import DurableWorkflowError
from durable_workflow_sqlite.worker import find_queues, find_workflows, run_worker

app = typer.Typer(rich_markup_mode=None)


class Synchronous(StrEnum):
    NORMAL = "normal"
    FULL = "full"


@on_database(app, cls=OnNewDatabase)
def migrate(
    file: str,
    create: Annotated[
        bool, typer.Option("--create", help="create the database if there is no file")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the SQL of what is pending, change nothing")
    ] = False,
    backup: Annotated[
        Path | None,
        typer.Option(
            "--backup",
            metavar="PATH",
            readable=False,
            help="copy the database first, to a new file",
        ),
    ] = None,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt", help="add the tables to a database that holds another application's"
        ),
    ] = False,
    busy_timeout: BusyTimeout = stores.BUSY_TIMEOUT_MS / 1000,
) -> None:
    """Bring a database to the current schema, or create one with --create."""
    if dry_run and backup is not None:
        raise output.WrongUsageError("--dry-run and --backup exclude each other")
    try:
        if dry_run:
            sql = stores.pending_sql(file, create=create, adopt=adopt, busy_timeout=busy_timeout)
            output.write(f"{sql or '-- nothing is pending'}\n")
        else:
            stores.migrate(
                file,
                create=create,
                backup=backup,
                adopt=adopt,
                busy_timeout=busy_timeout,
                say=_say,
            )
    except OSError as error:
        raise DurableWorkflowError(f"cannot migrate {stores.name_of(file)}: {error}") from error


@on_database(app, cls=OnNewDatabase)
def worker(
    file: str,
    workflows: Annotated[
        str,
        typer.Option(
            "--app",
            metavar="MODULE[:NAME]",
            help="the workflows: one, a list of them, or all that a module holds",
        ),
    ],
    queues: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            metavar="NAME",
            help="serve only this named queue; repeat it for more; without it, the worker serves"
            " all, and also what is in none",
        ),
    ] = None,
    max_concurrent: Annotated[
        int,
        typer.Option(metavar="N", help="executions at once; those that wait do not count"),
    ] = 100,
    grace: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            callback=in_seconds,
            help="for how long steps may go on after SIGTERM",
        ),
    ] = 30.0,
    synchronous: Annotated[
        Synchronous, typer.Option(help="full: a power cut loses no committed step")
    ] = Synchronous.NORMAL,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="do not start if an unfinished execution of these workflows would not go on with"
            " this code, as `check-code` says it",
        ),
    ] = False,
) -> None:
    """Run what is in a database, and what is enqueued there, until SIGTERM. It declares the queues
    that the module has among its names."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    found = find_workflows(workflows)
    asyncio.run(
        run_worker(
            file,
            found,
            queues=queues or None,
            declared=find_queues(workflows),
            max_concurrent=max_concurrent,
            synchronous="full" if synchronous is Synchronous.FULL else "normal",
            grace=timedelta(seconds=grace),
            strict=strict,
        )
    )


def _say(line: str) -> None:
    with suppress(SystemExit):  # whoever reads may have seen enough; the work goes on
        output.say(line)
