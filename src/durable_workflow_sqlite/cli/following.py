"""`follow`: what the actions of an execution put into their streams, as they do."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.arguments import on_database
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.following import End, Item, Reset
from durable_workflow_sqlite.engine.step_names import StepName
from durable_workflow_sqlite.stores import open_store

app = typer.Typer(rich_markup_mode=None)


@on_database(app)
def follow(
    file: str,
    is_json: bool,
    execution_id: Annotated[str, typer.Argument(metavar="ID")],
    step: Annotated[
        str | None, typer.Option("--step", metavar="NAME", help="only the stream of this step")
    ] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="BRANCH", help="the branch of that step")
    ] = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="CURSOR", help="go on behind the item with this cursor"),
    ] = None,
) -> None:
    """Print what the actions of an execution put into their streams, until it is over. In a pipe, a
    line for each: item, reset or end; branch, step, index, attempt; the item as JSON; its
    cursor."""
    if branch is not None and step is None:
        raise output.WrongUsageError("--branch needs --step")
    wanted: StepName | None = step if branch is None or step is None else (branch, step)

    async def main() -> None:
        async with open_store(file) as store:
            async for one in Client(store).follow(execution_id, step=wanted, after=after):
                _write(one, is_json=is_json)

    asyncio.run(main())


def _write(one: Item | Reset | End, *, is_json: bool) -> None:
    if is_json:
        kind = type(one).__name__.lower()
        output.write_json({"kind": kind, **msgspec.structs.asdict(one)})
    elif not output.is_terminal():
        tables.write_lines([_cells(one)])
    else:
        match one:
            case Item(value=str(text)):
                output.say(f"{one.step}: {text}")
            case Item():
                output.say(f"{one.step}: {msgspec.json.encode(one.value).decode()}")
            case Reset():
                output.say(f"{one.step} runs again: attempt {one.attempt}")
            case End():
                output.say(str(one.status))


def _cells(one: Item | Reset | End) -> list[tables.Cell]:
    match one:
        case Item():
            text = msgspec.json.encode(one.value).decode()
            return ["item", one.branch, one.step, one.step_index, one.attempt, text, one.cursor]
        case Reset():
            return ["reset", one.branch, one.step, one.step_index, one.attempt]
        case End():
            return ["end", one.status]
