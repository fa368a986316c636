"""`follow`: what the actions of an execution put into their streams, as they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeAlias

import msgspec
import typer
from rich import progress
from rich.text import Text

from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.arguments import Branch, Index, on_database
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.following import End, Item, Reset
from durable_workflow_sqlite.engine.step_names import step_named
from durable_workflow_sqlite.progress_texts import amount_of, name_of
from durable_workflow_sqlite.records import Progress
from durable_workflow_sqlite.stores import open_store

Event: TypeAlias = Item | Reset | Progress | End

app = typer.Typer(rich_markup_mode=None)


@on_database(app)
def follow(
    file: str,
    is_json: bool,
    execution_id: Annotated[str, typer.Argument(metavar="ID")],
    step: Annotated[
        str | None, typer.Option("--step", metavar="NAME", help="only the stream of this step")
    ] = None,
    branch: Branch = None,
    index: Index = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="CURSOR", help="go on behind the item with this cursor"),
    ] = None,
) -> None:
    """Print what the actions of an execution put into their streams, and its progress, until it is
    over. In a pipe, a line for each: item, reset, progress or end; branch, step, index, attempt;
    the item as JSON, its cursor; or done, total, note."""
    if step is None and (branch is not None or index is not None):
        raise output.WrongUsageError("--branch and --index need --step")
    wanted = None if step is None else step_named(step, branch, index)

    async def main() -> None:
        write = _writer(is_json=is_json)
        async with open_store(file) as store:
            async for one in Client(store).follow(execution_id, step=wanted, after=after):
                write(one)

    asyncio.run(main())


def _writer(*, is_json: bool) -> Callable[[Event], object]:
    if is_json:
        return _write_json
    if not output.is_terminal():
        return lambda one: tables.write_lines([_cells(one)])
    return _Screen().show


def _write_json(one: Event) -> None:
    kind = type(one).__name__.lower()
    output.write_json({"kind": kind, **msgspec.structs.asdict(one)})


class _Screen:
    """A terminal: a line for each item, and below the lines a bar for each progress."""

    def __init__(self) -> None:
        self._bars: progress.Progress | None = None
        self._tasks: dict[tuple[str, int], progress.TaskID] = {}

    def show(self, one: Event) -> None:
        match one:
            case Item(value=str(text)):
                self._say(f"{one.step}: {text}")
            case Item():
                self._say(f"{one.step}: {msgspec.json.encode(one.value).decode()}")
            case Reset():
                self._say(f"{one.step} runs again: attempt {one.attempt}")
            case Progress() if output.is_dumb():
                output.say(f"{name_of(one)}: {amount_of(one)} {one.note or ''}".rstrip())
            case Progress():
                self._draw(one)
            case End():
                if self._bars is not None:
                    self._bars.stop()
                output.say(str(one.status))

    def _say(self, text: str) -> None:
        if self._bars is None:
            output.say(text)
        else:  # above the bars
            self._bars.console.print(Text(output.printable(text)), soft_wrap=True)

    def _draw(self, one: Progress) -> None:
        if self._bars is None:
            self._bars = progress.Progress(
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[amount]}", markup=False),
                progress.TextColumn("{task.fields[note]}", markup=False),
                console=tables.console(),
            )
            self._bars.start()
        place = one.branch, one.step_index
        if place not in self._tasks:
            name = output.printable(name_of(one))
            self._tasks[place] = self._bars.add_task(name, amount="", note="")
        self._bars.update(
            self._tasks[place],
            completed=one.done,
            total=one.total,
            amount=amount_of(one),
            note=output.printable(one.note or ""),
        )


def _cells(one: Event) -> list[tables.Cell]:
    match one:
        case Item():
            text = msgspec.json.encode(one.value).decode()
            return ["item", one.branch, one.step, one.step_index, one.attempt, text, one.cursor]
        case Reset():
            return ["reset", one.branch, one.step, one.step_index, one.attempt]
        case Progress():
            place: list[tables.Cell] = [one.branch, one.step_name, one.step_index, one.attempt]
            total = None if one.total is None else f"{one.total:.15g}"
            return ["progress", *place, f"{one.done:.15g}", total, one.note]
        case End():
            return ["end", one.status]
