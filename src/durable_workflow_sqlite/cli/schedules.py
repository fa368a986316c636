"""`schedule`: what workers start by themselves, and its pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.text import Text

from durable_workflow_sqlite.ages import time_before
from durable_workflow_sqlite.cli import acts, output, tables
from durable_workflow_sqlite.cli.arguments import AsJson, PlainForm, form_of, on_database
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.errors import ScheduleNotFoundError
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.reading.schedules import ScheduleState
from durable_workflow_sqlite.stores import open_reader, open_store

T = TypeVar("T")

NEXT = 5
ACTS = 10
STYLES = {"ACTIVE": "green", "PAUSED": "yellow", "ENDED": "dim", "TROUBLE": "bold red"}

Name = Annotated[str, typer.Argument(metavar="NAME", help="the name of the schedule")]
Form = Annotated[PlainForm | None, typer.Option("--output", "-o", help="json: for a program")]

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(
    group, name="schedule", help="Show, pause, resume, trigger, backfill and delete schedules."
)


@app.callback()
def _app() -> None: ...


@on_database(group, "list")
def list_(file: str, output_form: Form = None, as_json: AsJson = False) -> None:
    """Show the schedules: when each fires next, and what it started last."""
    form = form_of(output_form, as_json=as_json)
    with open_reader(file) as reader:
        found = reader.schedules()
    if form == "json":
        output.write_json(found)
    elif output.is_terminal():
        now = datetime.now(UTC)
        tables.write_table(
            "schedules",
            ["schedule", "state", "workflow", "when", "next", "last", "status"],
            [
                [
                    one.schedule_name,
                    Text(output.printable(one.state), STYLES.get(one.state, "bold red")),
                    f"{one.workflow_type} v{one.version}",
                    one.when,
                    output.ago(one.next_fire_at, now),
                    output.ago(one.last_fired_at, now),
                    "" if one.last_status is None else tables.status(one.last_status),
                ]
                for one in found
            ],
            empty="none; a program declares them with engine.schedule(...)",
        )
    else:
        tables.write_lines(map(_cells, found))


@on_database(group)
def show(file: str, name: Name, output_form: Form = None, as_json: AsJson = False) -> None:
    """Show all of a schedule, and who paused, resumed or started it."""
    form = form_of(output_form, as_json=as_json)
    with open_reader(file) as reader:
        found = {one.schedule_name: one for one in reader.schedules()}
        changes = reader.acts(["SCHEDULE"], name, limit=ACTS)
    one = found.get(name)
    if one is None:
        raise ScheduleNotFoundError(f"there is no schedule {name!r}{nearest(name, found)}")
    if form == "json":
        output.write_json(one)
        return
    rows: list[list[tables.Cell]] = [
        ["state", one.state],
        ["workflow", f"{one.workflow_type} v{one.version}"],
        ["when", one.when],
        ["overlap", one.overlap],
        ["missed", one.missed],
        ["next", one.next_fire_at],
        ["last fired", one.last_fired_at],
        ["last execution", one.last_execution_id],
        ["its status", one.last_status],
        ["unfinished", one.unfinished_executions],
        ["last not fired", one.last_skipped_at],
        ["waits for an end", one.buffered_at],
        ["ends", one.ends_at],
        ["paused since", one.paused_at],
        ["paused by", one.paused_by],
        ["reason", one.paused_reason],
        ["trouble", one.trouble],
    ]
    shown = [row for row in rows if row[1] is not None or not output.is_terminal()]
    tables.write_table(f"schedule {name}", ["", ""], shown)
    if output.is_terminal():
        acts.write_acts(changes, datetime.now(UTC))
    if output.is_terminal() and one.is_held_up and one.last_execution_id is not None:
        look = command("show", file, one.last_execution_id)
        why = "it is not fired while its last execution is not over"
        output.say(f"\n{why}; to look at that: {look}")


@on_database(group, "next")
def next_(
    file: str,
    name: Name,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000)] = NEXT,
) -> None:
    """Print the next times of a schedule, in UTC."""
    for time in _ask(file, lambda client: client.next_times(name, count)):
        output.say(tables.plain(time))


@on_database(group)
def pause(
    file: str,
    name: Name,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="why")] = None,
) -> None:
    """Pause a schedule: it fires nothing until it is resumed."""
    if _ask(file, lambda client: client.pause_schedule(name, reason=reason)):
        output.say(f"paused {name}; times that pass meanwhile are not fired")
    else:
        output.say(f"{name} was paused before: nothing was changed")


@on_database(group)
def resume(file: str, name: Name) -> None:
    """Resume a schedule that is paused, or that was in trouble."""
    if _ask(file, lambda client: client.resume_schedule(name)):
        (*_, last) = ("never", *_ask(file, lambda client: client.next_times(name, 1)))
        output.say(f"resumed {name}; it fires next: {last if isinstance(last, str) else _at(last)}")
    else:
        output.say(f"{name} is not paused: nothing was changed")


@on_database(group)
def trigger(file: str, name: Name) -> None:
    """Start an execution of a schedule now; prints its id."""

    async def start(client: Client) -> str:
        return (await client.trigger(name)).execution_id

    output.say(_ask(file, start))


@on_database(group)
def backfill(
    file: str,
    name: Name,
    since: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="the first time, as 2026-01-31T00:00Z, or an age: 7d"
        ),
    ],
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="the last time; by default now"),
    ] = None,
) -> None:
    """Start an execution for each time of the past that has none; prints their ids."""
    now = datetime.now(UTC)
    start, end = _time("--from", since, now), now if until is None else _time("--to", until, now)
    output.write_ids(_ask(file, lambda client: client.backfill(name, start, end)))


@on_database(group)
def delete(file: str, name: Name) -> None:
    """Delete a schedule, and leave its executions. A program that declares it creates it again."""

    async def unschedule(client: Client) -> None:
        await client.load_schedule(name)
        await client.unschedule(name)

    _ask(file, unschedule)
    output.say(f"deleted {name}")


def _ask(file: str, ask: Callable[[Client], Awaitable[T]]) -> T:
    async def answer() -> T:
        async with open_store(file) as store:
            return await ask(Client(store))

    return asyncio.run(answer())


def _time(option: str, text: str, now: datetime) -> datetime:
    """A time with a zone, or an age."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        try:
            return time_before(text, now)
        except ValueError:
            raise ValueError(
                f"{option} {text!r} is neither a time, as 2026-01-31T00:00Z, nor an age, as 7d"
            ) from None
    if time.tzinfo is None:
        as_read = f"{time:%Y-%m-%dT%H:%M}"
        raise ValueError(
            f"{option} {text!r} has no time zone; write {as_read}Z for UTC, or {as_read}+01:00"
        )
    return time


def _at(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _cells(one: ScheduleState) -> list[tables.Cell]:
    return [
        one.schedule_name,
        one.state,
        one.workflow_type,
        one.version,
        one.when,
        one.next_fire_at,
        one.last_fired_at,
        one.last_execution_id,
        one.last_status,
        one.unfinished_executions,
        one.paused_at,
        one.paused_by,
        one.paused_reason,
        one.trouble,
    ]
