"""What failed and what is in trouble, in groups, and the command for each group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from durable_workflow_sqlite.choosing import options_of
from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.reading.executions import beginning
from durable_workflow_sqlite.reading.overview import Problem

SHOWN = 10


def as_table(problems: Sequence[Problem], file: str, now: datetime) -> RenderableType:
    """The first of them as a table, and below it the command that is about each."""
    shown = problems[:SHOWN]
    more = f"the last {SHOWN} of {len(problems)}" if len(problems) > SHOWN else f"{len(problems)}"
    table = tables.make_table(
        f"failures and trouble by error: {more} (the newest first)",
        ["", "executions", "error", "workflow", "step, line", "first", "last", "the last one says"],
        [
            [
                str(number),
                Text(f"{one.executions:,}", "bold red", no_wrap=True),
                one.error_type,
                one.workflow_type,
                one.step_name or one.short_place,
                output.ago(one.first_at, now),
                output.ago(one.last_at, now),
                ("back-off: " if one.problem == "BACK-OFF" else "") + (beginning(one.says) or ""),
            ]
            for number, one in enumerate(shown, 1)
        ],
    )
    commands = [
        # In one line, whatever the width: it can be copied.
        Text(f"{number}  {output.printable(command_of(one, file))}", "dim", overflow="ignore")
        for number, one in enumerate(shown, 1)
    ]
    if any(one.problem == "BACK-OFF" for one in shown):
        words = "what waits for its next attempt (back-off) is tried at once by `retry`"
        commands.append(Text(words, "dim"))
    if any(one.problem == "FAILED" for one in shown):
        commands.append(Text("what was undone: `rerun` with the same options", "dim"))
    return Group(table, *commands)


def as_lines(problems: Sequence[Problem]) -> Iterator[list[tables.Cell]]:
    for one in problems[:SHOWN]:
        yield [
            "problem",
            one.problem,
            one.workflow_type,
            one.step_name,
            one.error_type,
            one.executions,
            one.first_at,
            one.last_at,
            one.last_execution_id,
            beginning(one.last_message),
            one.place,
        ]


def command_of(problem: Problem, file: str) -> str:
    """What to do about a problem once its cause is gone; or, for trouble, how to see it all."""
    name = "list" if problem.problem == "IN TROUBLE" else "retry"
    return command(name, file, *options_of(problem))
