"""The commands of the named queues: `queue list` and `queue set`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.arguments import on_database
from durable_workflow_sqlite.errors import QueueNotFoundError
from durable_workflow_sqlite.limits import Queue, Rate
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.reading.queues import NamedQueue
from durable_workflow_sqlite.stores import open_reader, open_store

NONE: Final = "none"

app = typer.Typer(rich_markup_mode=None)
commands = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Show the named queues, or change their limits.",
)
app.add_typer(commands, name="queue")


@app.callback()
def group() -> None:
    """A callback: so that Typer makes a group of the one command."""


@on_database(commands, name="list")
def show(file: Path) -> None:
    """Show the named queues: their limits, what runs in them, and what waits. In a pipe, a line for
    each: name, concurrency, per worker, per key, running, due, since, later, paused since."""
    with open_reader(file) as reader:
        queues = reader.named_queues()
    now = datetime.now(UTC)
    tables.write_table(
        "queues",
        ["queue", "at once", "per worker", "per key", "running", "due", "since", "later", "paused"],
        [
            [
                *_limits(one),
                one.running,
                one.due,
                _ago(one.due_since, now),
                one.later,
                _ago(one.paused_at, now),
            ]
            for one in queues
        ],
    )


@on_database(commands, name="set")
def change(
    file: Path,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the queue")],
    concurrency: Annotated[
        str | None,
        typer.Option(metavar="N", help="how many of its executions run at once, or none"),
    ] = None,
    per_worker: Annotated[
        str | None, typer.Option(metavar="N", help="how many of them in one worker, or none")
    ] = None,
    per_key: Annotated[
        str | None, typer.Option(metavar="N", help="how many of them with one key, or none")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="N/SECONDS", help="how many begin within that time, or none"),
    ] = None,
    key_rate: Annotated[
        str | None,
        typer.Option(metavar="N/SECONDS", help="how many with one key begin, or none"),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="add the queue if there is none of that name")
    ] = False,
) -> None:
    """Change the limits of a named queue; those that you do not name stay. A change counts at once
    for all workers. What runs already goes on. It stays until the code declares other limits."""
    given = {"concurrency": concurrency, "per_worker": per_worker, "per_key": per_key}
    changes: dict[str, object] = {
        what: _number(what, text) for what, text in given.items() if text is not None
    }
    for what, text in (("rate", rate), ("key_rate", key_rate)):
        if text is not None:
            changes[what] = _rate(what, text)

    async def save() -> None:
        async with open_store(file) as store:
            found = await store.load_limits()
            known = {one.name: one for one in found if isinstance(one, Queue)}
            if name not in known and not add:
                hint = nearest(name, known) or "; --add adds it"
                raise QueueNotFoundError(f"no queue {name!r} is declared{hint}")
            before = known.get(name) or Queue(name)
            await store.save_limit(msgspec.structs.replace(before, **changes))

    asyncio.run(save())
    output.say(f"queue {name}: changed")


def _number(what: str, text: str) -> int | None:
    if text == NONE:
        return None
    option = f"--{what.replace('_', '-')}"
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{option} must be a number of 1 or more, or none, and not {text!r}")
    return int(text)


def _rate(what: str, text: str) -> Rate | None:
    if text == NONE:
        return None
    number, _, seconds = text.partition("/")
    try:
        return Rate(int(number), timedelta(seconds=float(seconds)))
    except (ValueError, OverflowError):
        option = f"--{what.replace('_', '-')}"
        raise ValueError(
            f"{option} must be a number and seconds, as 100/60, or none, and not {text!r}"
        ) from None


def _limits(one: NamedQueue) -> list[tables.Cell]:
    return [one.name, one.concurrency, one.per_worker, one.per_key]


def _ago(time: datetime | None, now: datetime) -> tables.Cell:
    if not output.is_terminal():
        return time
    return "" if time is None else output.ago(time, now)
