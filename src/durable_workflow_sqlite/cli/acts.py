"""`audit`: who did what, to executions, schedules, queues and limits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.arguments import on_database
from durable_workflow_sqlite.cli.output import WrongUsageError
from durable_workflow_sqlite.reading.acts import NamedAct
from durable_workflow_sqlite.stores import open_reader

app = typer.Typer(rich_markup_mode=None)

_OPTIONS: Final = {
    "schedule": "SCHEDULE",
    "queue": "QUEUE",
    "the limit for steps": "STEP",
    "workflow": "WORKFLOW",
}


@on_database(app)
def audit(
    file: str,
    is_json: bool,
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="NAME", help="what was done to a schedule")
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="NAME", help="what was done to a named queue")
    ] = None,
    limit: Annotated[
        str | None, typer.Option("--limit", metavar="NAME", help="to a limit for steps")
    ] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="TYPE", help="to a workflow as a whole")
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=100_000)] = 50,
) -> None:
    """Show what people did last, the newest first: to anything, or to what you name. What was done
    to one execution, `show` tells. In a pipe, a line for each: scope, name, when, what, who,
    details."""
    named = {"SCHEDULE": schedule, "QUEUE": queue, "STEP": limit, "WORKFLOW": workflow}
    asked = {scope: name for scope, name in named.items() if name is not None}
    if len(asked) > 1:
        raise WrongUsageError("--schedule, --queue, --limit and --workflow exclude each other")
    with open_reader(file) as reader:
        name = next(iter(asked.values()), None)
        found = reader.acts(list(asked) if asked else None, name, limit=number)
    if is_json:
        output.write_json(found)
    elif output.is_terminal():
        write_acts(found, datetime.now(UTC))
    else:
        tables.write_lines(map(cells, found))
    if asked and not found:
        option = next(one for one, given in _OPTIONS.items() if given in asked)
        hint = f"; for the number of lines, give -n {name}" if (name or "").isdigit() else ""
        output.fail(f"nobody has done anything to {option} {name!r}{hint}")


def write_acts(found: Sequence[NamedAct], now: datetime) -> None:
    """What people did, as a table."""
    tables.write_table(
        "what people did",
        ["when", "who", "what", "to what", "details"],
        [
            [output.ago(one.created_at, now), one.actor, one.act, one.to_what, one.in_words]
            for one in found
        ],
    )


def cells(one: NamedAct) -> list[tables.Cell]:
    """For a pipe."""
    return [one.scope, one.name, one.created_at, one.act, one.actor, one.details]
