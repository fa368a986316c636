"""Commands for a whole file: prune, backup, vacuum, doctor, dashboard."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from durable_workflow_sqlite.cli import output
from durable_workflow_sqlite.cli.ages import time_before
from durable_workflow_sqlite.dashboard import serve
from durable_workflow_sqlite.errors import DurableWorkflowError
from durable_workflow_sqlite.records import TERMINAL_STATUSES, ExecutionStatus
from durable_workflow_sqlite.store import backup as copying
from durable_workflow_sqlite.store.checkup import Finding, Level, check_up
from durable_workflow_sqlite.store.inspection import Inspector
from durable_workflow_sqlite.store.sqlite import SqliteCheckpointStore

_LEVEL_STYLES = {
    Level.OK: "green",
    Level.NOTE: "cyan",
    Level.WARNING: "bold yellow",
    Level.ERROR: "bold red",
}
_EXIT_CODES = {Level.WARNING: 3, Level.ERROR: 4}


def prune(
    file: Path, *, older_than: str, statuses: Sequence[str], yes: bool, batch_size: int
) -> None:
    """Say what would be deleted; delete it if that is wanted."""
    before = time_before(older_than, datetime.now(UTC))
    final = {status.value for status in TERMINAL_STATUSES}
    if unfinished := [one for one in statuses if one not in final]:
        raise ValueError(
            f"only finished executions can be deleted, not those {unfinished[0]};"
            f" statuses are {', '.join(sorted(final))}"
        )
    with Inspector.open(file) as inspector:
        found = inspector.prunable(before, statuses)
    total = sum(one.count for one in found)
    output.write_table(
        f"ended before {before:%Y-%m-%d %H:%M:%S}Z",
        ["workflow", "version", "status", "executions", "oldest"],
        [[one.workflow_type, one.version, one.status, one.count, one.oldest] for one in found],
        empty="none, so there is nothing to delete",
    )
    if not total:
        return
    if not yes:
        if not output.is_terminal():
            output.fail("nothing was deleted; add --yes to delete them")
            return
        typer.confirm(f"delete {total:,} executions and all that belongs to them?", abort=True)

    async def delete() -> int:
        async with SqliteCheckpointStore.file(file) as store:
            with _progress("deleting", total) as advance:
                return await store.delete_completed_before(
                    before,
                    [ExecutionStatus(one) for one in statuses],
                    batch_size=batch_size,
                    on_deleted=advance,
                )

    deleted = asyncio.run(delete())
    output.say(f"deleted {deleted}; `durable-workflow vacuum {file}` gives their room back")


def backup(file: Path, path: Path) -> None:
    """Copy a database as it is at one moment, to a new file."""
    with Inspector.open(file) as inspector, _progress("copying", None) as advance:
        inspector.back_up(path, on_progress=advance)
    output.say(f"copied {file} to {path}, {path.stat().st_size} bytes")


def vacuum(file: Path, *, busy_timeout: float) -> None:
    """Write a file anew, without what was deleted."""
    Inspector.open(file).close()
    real = Path(os.path.realpath(file))
    before = real.stat().st_size
    copying.vacuum(real, busy_timeout)
    after = real.stat().st_size
    output.say(f"{file} had {before} bytes and has {after}")


def doctor(file: Path, *, quick: bool, as_json: bool) -> None:
    """Say what is wrong, and exit with how bad it is."""
    findings: list[Finding] = []
    with Inspector.open(file) as inspector:
        for finding in check_up(inspector, datetime.now(UTC), quick=quick):
            findings.append(finding)
            if not as_json:
                _write(finding)
    if as_json:
        output.write_json(findings)
    raise typer.Exit(max(_EXIT_CODES.get(one.level, 0) for one in findings))


def dashboard(file: Path, *, host: str, port: int, token: str | None, read_only: bool) -> None:
    """Serve the dashboard until interrupted."""
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


def _write(finding: Finding) -> None:
    if not output.is_terminal():
        output.write_lines([[finding.level, finding.check, finding.message, finding.hint]])
        return
    text = Text.assemble(
        (f"{finding.level:8}", _LEVEL_STYLES[finding.level]),
        (f"{finding.check:11}", "bold"),
        output.printable(finding.message),
    )
    output.console().print(text, soft_wrap=True)
    if finding.hint is not None:
        output.console().print(Text(f"{'':19}{finding.hint}", "italic"), soft_wrap=True)


class _Advance:
    """Moves the bar: `(done)` or `(done, total)`."""

    def __init__(self, progress: Progress, what: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)

    def __call__(self, done: int, total: int | None = None) -> None:
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def _progress(what: str, total: int | None) -> Generator[_Advance]:
    """A bar on a terminal, on stderr; nothing in a pipe."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=output.error_console(),
        transient=True,
        disable=not output.is_terminal(),
    ) as progress:
        yield _Advance(progress, what, total)
