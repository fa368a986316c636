"""Commands about the code of workflows: check-code and export."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from durable_workflow_sqlite.choosing import types_of
from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.arguments import on_database
from durable_workflow_sqlite.cli.progress import progress
from durable_workflow_sqlite.code_check import CheckedWorkflow, CodeCheck, CodeProblem, check_code
from durable_workflow_sqlite.engine.foreseeing import Verdict
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import DurableWorkflowError, ExecutionNotFoundError
from durable_workflow_sqlite.reading.findings import Finding, Level, many
from durable_workflow_sqlite.reading.histories import ExecutionHistory
from durable_workflow_sqlite.stores import open_reader
from durable_workflow_sqlite.worker import find_workflows

app = typer.Typer(rich_markup_mode=None)


@on_database(app, "check-code")
def check_the_code(
    file: Path,
    is_json: bool,
    apps: Annotated[
        list[str],
        typer.Option(
            "--app",
            metavar="MODULE[:NAME]",
            help="the workflows of the code at hand: one, a list of them, or all that a module"
            " holds; repeat it for more modules",
        ),
    ],
    last_finished: Annotated[
        int,
        typer.Option(
            "--finished",
            metavar="N",
            min=0,
            help="replay also the last N finished ones of each type",
        ),
    ] = 0,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            "-t",
            metavar="TYPE",
            help="only workflows of this type, or of several: order,refund",
        ),
    ] = None,
) -> None:
    """Replay every unfinished execution with the code at hand, and say which would stop, and where.
    It runs no step and writes nothing, beside running workers or on a copy. Exit status 1 if an
    execution would not go on."""
    workflows = workflows_of(apps)
    with open_reader(file) as reader:
        of_the_code = {one.name for one in workflows}
        wanted = types_of(reader, types or (), of_the_code)
    with (
        without_warnings(),
        progress("replaying", None) if output.is_terminal() else nullcontext() as advance,
    ):
        check = check_code(
            file, workflows, finished=last_finished, types=wanted or None, on_progress=advance
        )
    if is_json:
        output.write_json({"ok": check.is_ok, **msgspec.structs.asdict(check)})
    else:
        write(check)
    if not check.is_ok:
        raise typer.Exit(1)


@on_database(app)
def export(file: Path, ids: list[str]) -> None:
    """Write the history of executions as JSON, a line for each: all that a replay needs. It holds
    what the file holds: inputs, results and errors."""
    with open_reader(file) as reader:
        for one in dict.fromkeys(ids):
            found = reader.histories([one])
            if not found:
                raise ExecutionNotFoundError(f"no execution has the id {one!r}")
            history = found[0]
            if not isinstance(history, ExecutionHistory):
                raise DurableWorkflowError(f"cannot export execution {one!r}: {history.problem}")
            output.write(f"{history.to_json()}\n")


def finding_of(check: CodeCheck, apps: Iterable[str]) -> Finding:
    """What `doctor` says of it."""
    if check.is_ok:
        message = f"{many(check.checked, 'unfinished execution')} would go on with this code"
        return Finding(level=Level.OK, check="code", message=message)
    number = sum(one.count for one in check.problems)
    options = " ".join(f"--app {one}" for one in apps)
    return Finding(
        level=Level.ERROR,
        check="code",
        message=f"{many(number, 'unfinished execution')} would not go on with this code:"
        f" {check.problems[0]}",
        hint=f"`durable-workflow check-code FILE {options}` lists them; keep the old version or"
        " patch until they are finished",
        details=tuple(map(str, check.problems)),
    )


def write(check: CodeCheck) -> None:
    """What was found: tables for people, lines for a program."""
    if not output.is_terminal():
        tables.write_lines(["workflow", *_counts(one)] for one in check.workflows)
        tables.write_lines(_problem_line(one) for one in check.problems)
        tables.write_lines(["warning", *_problem_line(one)[1:]] for one in check.warnings)
        return
    tables.write_table(
        f"{check.checked:,} executions replayed",
        ["workflow", "version", *_COLUMNS],
        [
            [one.workflow_type or "?", one.version, *(f"{n:,}" if n else "" for n in _numbers(one))]
            for one in check.workflows
        ],
    )
    for one in (*check.problems, *check.warnings):
        ids = ", ".join(one.execution_ids)
        more = f" and {one.count - len(one.execution_ids):,} more" if _is_cut(one) else ""
        name = f"{one.workflow_type or '?'} v{one.version or '?'}"
        output.write("\n")
        output.say(f"{one.count:,} of {name} ({_in_words(one)}): {ids}{more}")
        output.say(f"    {one.message}")
    if any(one.verdict is Verdict.STOPS for one in check.problems):
        output.write("\n")
        output.say(HOW_TO_CHANGE)
    if check.is_ok:
        output.say("all of them go on with this code")


HOW_TO_CHANGE = (
    "Make the change a patch (`if ctx.patched(...)`), or give the new code a new version and keep"
    " the old one."
)


@contextmanager
def without_warnings() -> Generator[None]:
    """Hide warnings: an engine has given them before, when it ran what is replayed."""
    log = logging.getLogger("durable_workflow_sqlite.engine")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


_COLUMNS = ("go on", "stop", "cannot be read", "no workflow", "damaged", "could not be undone")


def _numbers(one: CheckedWorkflow) -> tuple[int, ...]:
    return (
        one.goes_on,
        one.stops,
        one.unreadable,
        one.no_workflow,
        one.damaged,
        one.cannot_be_undone,
    )


def _counts(one: CheckedWorkflow) -> list[tables.Cell]:
    return [one.workflow_type, one.version, *_numbers(one)]


def _problem_line(one: CodeProblem) -> list[tables.Cell]:
    cells: list[tables.Cell] = ["problem", one.verdict, one.workflow_type, one.version, one.count]
    return [*cells, one.recorded, one.asked, " ".join(one.execution_ids), one.message]


def _in_words(one: CodeProblem) -> str:
    if one.verdict is Verdict.GOES_ON:
        return "goes on, and would stop if it had to be undone"
    return one.verdict


def _is_cut(one: CodeProblem) -> bool:
    return one.count > len(one.execution_ids)


def workflows_of(apps: Iterable[str]) -> list[AnyWorkflow]:
    return [one for app in dict.fromkeys(apps) for one in find_workflows(app)]
