"""Commands for a whole file: prune, backup, vacuum, doctor, dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from durable_workflow_sqlite import stores
from durable_workflow_sqlite.ages import time_before
from durable_workflow_sqlite.bulk import Ids, delete_all
from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.arguments import BusyTimeout, How, on_database
from durable_workflow_sqlite.cli.bulk import Said, collect, is_wanted
from durable_workflow_sqlite.cli.code import finding_of, without_warnings, workflows_of
from durable_workflow_sqlite.cli.progress import progress
from durable_workflow_sqlite.code_check import check_code
from durable_workflow_sqlite.dashboard import DEFAULT_PORT, serve
from durable_workflow_sqlite.database import command, for_file
from durable_workflow_sqlite.errors import DurableWorkflowError
from durable_workflow_sqlite.reading.findings import Finding, Level
from durable_workflow_sqlite.records import TERMINAL_STATUSES, ExecutionStatus
from durable_workflow_sqlite.stores import open_reader, open_store

_LEVEL_STYLES = {
    Level.OK: "green",
    Level.NOTE: "cyan",
    Level.WARNING: "bold yellow",
    Level.ERROR: "bold red",
}
_EXIT_CODES = {Level.WARNING: 3, Level.ERROR: 4}


app = typer.Typer(rich_markup_mode=None)


@on_database(app)
def prune(
    file: str,
    finished: Chosen,
    ids: list[str],
    how: How,
    batch_size: Annotated[
        int, typer.Option(min=1, help="how many to delete in one transaction")
    ] = 500,
) -> None:
    """Delete finished executions, by ids or by age. It first shows what it would delete. A child
    may be deleted before its parent, which keeps how the child ended."""
    final = {status.value for status in TERMINAL_STATUSES}
    if unfinished := [one for one in finished.statuses if one not in final]:
        raise ValueError(
            f"only finished executions can be deleted, not those {unfinished[0]};"
            f" statuses are {', '.join(sorted(final))}"
        )
    if not ids and finished.ended_before is None and not finished.is_all:
        raise output.WrongUsageError(
            "give an age with --older-than AGE, or --all for any age; or give ids"
        )
    of_an_age = Chosen(
        statuses=finished.statuses, ended_before=finished.ended_before, is_all=finished.is_all
    )
    if not ids and finished == of_an_age:
        _prune_by_age(file, finished, how, batch_size=batch_size)
        return
    now = datetime.now(UTC)
    with Ids() as found:
        with open_reader(file) as reader:
            collect(found, reader, ids, finished, ["COMPLETED"])
            if not is_wanted(found, reader, "delete", how, is_named=bool(ids)):
                return
        outcome = Said(len(found), says_each=False)
        try:
            with progress("deleting", len(found)) as advance:
                asyncio.run(delete_all(file, found, now, outcome, advance, batch_size=batch_size))
        finally:
            output.say(outcome.summary("deleted"))
    if not outcome.is_whole:
        raise typer.Exit(1)


def _prune_by_age(file: str, chosen: Chosen, how: How, *, batch_size: int) -> None:
    """Delete all that ended before a time, without a list of them: there may be millions."""
    before = datetime.now(UTC)
    if chosen.ended_before is not None:
        before = time_before(chosen.ended_before, before)
    statuses = chosen.statuses or ["COMPLETED"]
    with open_reader(file) as reader:
        found = reader.prunable(before, statuses)
    total = sum(one.count for one in found)
    tables.write_table(
        f"ended before {before:%Y-%m-%d %H:%M:%S}Z",
        ["workflow", "version", "status", "executions", "oldest"],
        [[one.workflow_type, one.version, one.status, one.count, one.oldest] for one in found],
        empty="none, so there is nothing to delete",
    )
    if not total and (how.dry_run or not how.yes):
        return
    if how.dry_run:
        output.fail(f"would delete {total:,} executions; nothing was done")
        return
    if not how.yes:
        if not output.can_ask():
            output.fail("nothing was deleted; add --yes to delete them")
            raise typer.Exit(1)
        typer.confirm(f"delete {total:,} executions and all that belongs to them?", abort=True)

    async def delete() -> int:
        async with open_store(file) as store:
            with progress("deleting", total) as advance:
                return await store.delete_completed_before(
                    before,
                    [ExecutionStatus(one) for one in statuses],
                    batch_size=batch_size,
                    on_deleted=advance,
                )

    deleted = asyncio.run(delete())  # also workers that are dead for long
    if total:
        is_file = stores.address_of(file) is None
        smaller = f"; `{command('vacuum', file)}` makes the file smaller" if is_file else ""
        output.say(f"deleted {deleted}{smaller}")


@on_database(app)
def backup(
    file: str, path: Annotated[Path, typer.Argument(metavar="PATH", help="a new file")]
) -> None:
    """Copy the database at one moment, while workers write."""
    with open_reader(file) as reader, progress("copying", None) as advance:
        reader.back_up(path, on_progress=advance)
    output.say(f"copied {file} to {path}, {path.stat().st_size} bytes")


@on_database(app)
def vacuum(file: str, busy_timeout: BusyTimeout = stores.BUSY_TIMEOUT_MS / 1000) -> None:
    """Make the file smaller after executions were deleted."""
    before, after = stores.vacuum(file, busy_timeout)
    output.say(f"{file} had {before} bytes and has {after}")


@on_database(app)
def doctor(
    file: str,
    is_json: bool,
    quick: Annotated[
        bool, typer.Option("--quick", help="do not compare the indexes with the rows")
    ] = False,
    is_verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="also notes, and checks without a problem")
    ] = False,
    apps: Annotated[
        list[str] | None,
        typer.Option(
            "--app",
            metavar="MODULE[:NAME]",
            help="check also that unfinished executions would go on with these workflows, as"
            " `check-code` does it",
        ),
    ] = None,
) -> None:
    """Check the file and its workers. Exit status 0: no problem; 3: warnings; 4: errors."""
    findings: list[Finding] = []
    with open_reader(file) as reader:
        of_code = _of_code(file, apps) if apps else ()
        for finding in chain(reader.check_up(datetime.now(UTC), quick=quick), of_code):
            findings.append(finding)
            if not is_json and (is_verbose or finding.level.needs_somebody):
                _write(finding, file)
    if is_json:
        output.write_json(findings)
    elif output.is_terminal() and not any(one.level.needs_somebody for one in findings):
        output.say(f"nothing is wrong: {len(findings)} checks; --verbose lists them")
    raise typer.Exit(max(_EXIT_CODES.get(one.level, 0) for one in findings))


def _of_code(file: str, apps: list[str]) -> Iterator[Finding]:
    workflows = workflows_of(apps)
    with without_warnings():
        check = check_code(file, workflows, types={one.name for one in workflows})
    yield finding_of(check, apps)


@on_database(app)
def dashboard(
    file: str,
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535)] = DEFAULT_PORT,
    token: Annotated[
        str | None,
        typer.Option(envvar="DURABLE_WORKFLOW_TOKEN", help="a token that browsers must give, once"),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="no actions")] = False,
) -> None:
    """Serve the dashboard of a database; needs the extra `dashboard`."""
    try:
        serve(
            file,
            host,
            port,
            token=token,
            read_only=read_only,
            on_listening=lambda url: output.say(f"the dashboard is at {url} until Ctrl-C"),
        )
    except (ImportError, ValueError, OSError) as error:
        raise DurableWorkflowError(f"cannot serve the dashboard: {error}") from error


def _write(finding: Finding, file: str) -> None:
    hint = None if finding.hint is None else for_file(finding.hint, file)
    if not output.is_terminal():
        tables.write_lines([[finding.level, finding.check, finding.message, hint]])
        return
    text = Text.assemble(
        (f"{finding.level:8}", _LEVEL_STYLES[finding.level]),
        (f"{finding.check:11}", "bold"),
        output.printable(finding.message),
    )
    tables.console().print(text, soft_wrap=True)
    if hint is not None:
        text = Text(f"{'':19}{output.printable(hint)}", "italic")
        tables.console().print(text, soft_wrap=True)
