"""`questions` and `answer`: what executions ask people."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.arguments import on_database
from durable_workflow_sqlite.cli.output import say
from durable_workflow_sqlite.cli.starting import json_of
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.stores import open_reader, open_store

app = typer.Typer(rich_markup_mode=None)


@on_database(app)
def questions(
    file: str,
    is_json: bool,
    to: Annotated[
        str | None, typer.Option("--to", metavar="WHOM", help="only those for this receiver")
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=100_000)] = 100,
) -> None:
    """List the questions to people that are open: the longest waiting first.

    In a pipe, a line for each: the execution, the name, whom it is for, since when, until when, the
    text, the details, the type of the answer.
    """
    with open_reader(file) as reader:
        found = reader.questions(to=to, limit=number)
    if is_json:
        output.write_json(found)
        return
    if not output.is_terminal():
        tables.write_lines(map(_cells, found))
        return
    now = datetime.now(UTC)
    tables.write_table(
        "questions to people",
        ["execution", "name", "for", "question", "details", "answer", "asked", "until"],
        [
            [
                tables.execution_id(one.workflow_execution_id),
                one.name,
                one.to,
                one.question,
                _json(one.details),
                "has come" if one.is_answered else one.type,
                output.ago(one.asked_at, now),
                output.ago(one.deadline, now),
            ]
            for one in found
        ],
    )
    if found:
        say(f"to answer one: {command('answer', file)} ID NAME JSON")


def _cells(one: Question) -> list[tables.Cell]:
    """For a pipe."""
    return [
        one.workflow_execution_id,
        one.name,
        one.to,
        one.asked_at,
        one.deadline,
        one.question,
        _json(one.details),
        one.type,
    ]


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


@on_database(app)
def answer(
    file: str,
    execution_id: Annotated[
        str, typer.Argument(metavar="ID", help="of the execution, as `questions` shows it")
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="of the question, or of the signal that answers")
    ],
    text: Annotated[str, typer.Argument(metavar="JSON", help="the answer")],
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="WHO", help="who answers; by default USER@MACHINE"),
    ] = None,
) -> None:
    """Answer a question of an execution. The first answer counts. One that is not of the type of
    the question is refused."""
    value = json_of(text, "the answer")

    async def give() -> Question:
        async with open_store(file) as store:
            return await Client(store).answer(execution_id, name, value, by=by)

    asyncio.run(give())
    say(f"question {name} of {execution_id} is answered; a worker goes on with it")
