"""The commands of the named queues and of the limits for steps: `queue list`, `show` and `set`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from durable_workflow_sqlite import limit_texts
from durable_workflow_sqlite.cli import acts, output, tables
from durable_workflow_sqlite.cli.arguments import AsJson, PlainForm, form_of, on_database
from durable_workflow_sqlite.cli.output import WrongUsageError
from durable_workflow_sqlite.cli.reading import ListForm
from durable_workflow_sqlite.engine import limiting
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.errors import LimitNotFoundError, QueueNotFoundError
from durable_workflow_sqlite.limits import Limit, Queue
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.reading.acts import NamedAct
from durable_workflow_sqlite.reading.queues import (
    HeldSlot,
    NamedQueue,
    StepLimit,
    rate_in_words,
)
from durable_workflow_sqlite.stores import open_reader, open_store

HOLDERS: Final = 20
ACTS: Final = 10

app = typer.Typer(rich_markup_mode=None)
commands = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Show the named queues and the limits for steps, or change them.",
)
app.add_typer(commands, name="queue")

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="the queue; not given with --limit")
]
OfSteps = Annotated[
    str | None, typer.Option("--limit", metavar="NAME", help="a limit for steps instead of a queue")
]


class _Shown(msgspec.Struct, frozen=True):
    """What `queue show` writes as JSON."""

    limits: NamedQueue | StepLimit
    holders: list[HeldSlot]
    changes: list[NamedAct]


@app.callback()
def group() -> None:
    """A callback: so that Typer makes a group of the one command."""


@on_database(commands, name="list")
def list_(
    file: str,
    only_limits: Annotated[
        bool, typer.Option("--limits", help="only the limits for steps; not the queues")
    ] = False,
    output_form: Annotated[
        ListForm | None,
        typer.Option(
            "--output", "-o", help="wide: also who has held a slot for longest; name: names alone"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the named queues and the limits for steps: how much may run, what runs, what waits. In a
    pipe, a line for each queue; with --limits, a line for each limit."""
    form = form_of(output_form, as_json=as_json)
    now = datetime.now(UTC)
    with open_reader(file) as reader:
        found = reader.queues(now)
    is_wide = form == "wide"
    if form == "json":
        output.write_json({"queues": found.queues, "limits": found.limits})
    elif form in ("name", "id"):
        output.write_ids(one.name for one in (found.limits if only_limits else found.queues))
    elif not output.is_terminal():
        if only_limits:
            tables.write_lines(_limit_line(one, is_wide) for one in found.limits)
        else:
            tables.write_lines(_queue_line(one, is_wide) for one in found.queues)
    else:
        if not only_limits:
            _write_queues(found.queues, now, is_wide=is_wide)
        if found.limits or only_limits:
            _write_limits(found.limits, now, is_wide=is_wide)


@on_database(commands)
def show(
    file: str,
    name: Name = None,
    limit: OfSteps = None,
    output_form: Annotated[
        PlainForm | None, typer.Option("--output", "-o", help="json: for a program")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show all of one queue, or of one limit for steps: who holds its slots and since when, and who
    changed it. In a pipe, each line begins with limit, slot or act."""
    form = form_of(output_form, as_json=as_json)
    kind, which = _named(name, limit)
    now = datetime.now(UTC)
    with open_reader(file) as reader:
        found = reader.queues(now)
        by_name: dict[str, NamedQueue | StepLimit] = {
            one.name: one for one in (found.queues if kind is Queue else found.limits)
        }
        if which not in by_name:
            hint = nearest(which, by_name)
            if kind is Queue:
                raise QueueNotFoundError(f"there is no queue {which!r}{hint}")
            raise LimitNotFoundError(f"there is no limit {which!r} for steps{hint}")
        scope = "QUEUE" if kind is Queue else "STEP"
        shown = _Shown(
            by_name[which],
            reader.held_slots(scope, which, limit=HOLDERS),
            reader.acts([scope], which, limit=ACTS),
        )
    if form == "json":
        output.write_json(shown)
    elif output.is_terminal():
        _write_one(kind, shown, now)
    else:
        tables.write_lines(["limit", what, value] for what, value in _rows(shown.limits))
        tables.write_lines(["slot", *_holder_cells(one)] for one in shown.holders)
        tables.write_lines(["act", *acts.cells(one)[2:]] for one in shown.changes)


@on_database(commands, name="set")
def change(
    file: str,
    name: Name = None,
    limit: OfSteps = None,
    concurrency: Annotated[
        str | None,
        typer.Option(metavar="N", help="how many of its executions or steps run at once, or none"),
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
        bool, typer.Option("--add", help="add the queue or the limit if there is none of that name")
    ] = False,
) -> None:
    """Change the limits of a named queue, or of steps (--limit NAME); those that you do not name
    stay. A change counts at once for all workers. What runs already goes on. It stays until the
    code declares other limits. The audit log has who changed what."""
    kind, which = _named(name, limit)
    given = {
        "concurrency": concurrency,
        "per_worker": per_worker,
        "per_key": per_key,
        "rate": rate,
        "key_rate": key_rate,
    }
    texts = {what: text for what, text in given.items() if text is not None}
    if kind is Limit and (wrong := [one for one in ("per_worker", "key_rate") if one in texts]):
        option = wrong[0].replace("_", "-")
        raise WrongUsageError(f"a limit for steps has no --{option}; only a queue has")
    if not texts and not add:
        raise WrongUsageError("nothing to change: give --concurrency, --per-key, --rate or others")
    changes: dict[str, Any] = dict(limit_texts.read(texts))

    async def save() -> bool:
        async with open_store(file) as store:
            client = Client(store)
            known = {(type(one), one.name): one for one in await client.limits()}
            before = known.get((kind, which))
            if before is None and not add:
                error = limiting.not_found(kind, which, known)
                raise type(error)(f"{error}; --add adds it")
            becomes = msgspec.structs.replace(before or kind(which), **changes)
            return await client.change_limits(becomes, add=add)

    words = f"queue {which}" if kind is Queue else f"limit {which}"
    output.say(f"{words}: {'changed' if asyncio.run(save()) else 'nothing was changed'}")


def _named(name: str | None, limit: str | None) -> tuple[type[Queue] | type[Limit], str]:
    if name is not None and limit is not None:
        raise WrongUsageError("give the name of a queue, or --limit NAME for steps, and not both")
    if name is not None:
        return Queue, name
    if limit is not None:
        return Limit, limit
    raise WrongUsageError("give the name of a queue, or --limit NAME for steps")


def _write_queues(queues: tuple[NamedQueue, ...], now: datetime, *, is_wide: bool) -> None:
    wide = ["keys", "used", "held longest", "since", "by", "why"] if is_wide else []
    tables.write_table(
        "queues",
        [
            *("queue", "at once", "per worker", "per key", "rate", "key rate"),
            *("running", "due", "since", "later", "paused", *wide),
        ],
        [
            [
                _queue_name(one),
                one.concurrency,
                one.per_worker,
                one.per_key,
                rate_in_words(one.rate, one.rate_seconds),
                rate_in_words(one.key_rate, one.key_rate_seconds),
                one.running,
                one.due,
                output.ago(one.due_since, now),
                one.later,
                output.ago(one.paused_at, now),
                *(
                    [
                        one.running_keys,
                        one.rate_used,
                        one.running_longest,
                        output.ago(one.running_since, now),
                        one.paused_by,
                        one.paused_reason,
                    ]
                    if is_wide
                    else ()
                ),
            ]
            for one in queues
        ],
        empty="none; a program declares them with engine.declare(Queue(...))",
    )


def _write_limits(limits: tuple[StepLimit, ...], now: datetime, *, is_wide: bool) -> None:
    tables.write_table(
        "limits for steps",
        [
            *("limit", "at once", "per key", "rate", "running"),
            *(("keys", "used") if is_wide else ()),
            *("held longest", "step", "since"),
        ],
        [
            [
                _queue_name(one),
                one.concurrency,
                one.per_key,
                rate_in_words(one.rate, one.rate_seconds),
                one.running,
                *((one.running_keys, one.rate_used) if is_wide else ()),
                one.held_longest,
                one.held_step,
                output.ago(one.held_since, now),
            ]
            for one in limits
        ],
        empty="none; a program declares them with engine.declare(Limit(...))",
    )


def _queue_name(one: NamedQueue | StepLimit) -> tables.Cell:
    if one.is_declared:
        return one.name
    return Text(output.printable(f"{one.name} (not declared)"), "bold red")


def _queue_line(one: NamedQueue, is_wide: bool) -> list[tables.Cell]:
    """For a pipe; what came later stands at the end."""
    return [
        one.name,
        one.concurrency,
        one.per_worker,
        one.per_key,
        one.running,
        one.due,
        one.due_since,
        one.later,
        one.paused_at,
        rate_in_words(one.rate, one.rate_seconds),
        rate_in_words(one.key_rate, one.key_rate_seconds),
        *(
            [
                one.running_keys,
                one.rate_used,
                one.running_longest,
                one.running_since,
                one.paused_by,
                one.paused_reason,
            ]
            if is_wide
            else []
        ),
    ]


def _limit_line(one: StepLimit, is_wide: bool) -> list[tables.Cell]:
    return [
        one.name,
        one.concurrency,
        one.per_key,
        rate_in_words(one.rate, one.rate_seconds),
        one.running,
        one.held_longest,
        one.held_step,
        one.held_since,
        *([one.running_keys, one.rate_used] if is_wide else []),
    ]


def _rows(one: NamedQueue | StepLimit) -> Iterator[tuple[str, tables.Cell]]:
    """Everything about one, each in a line."""
    yield "declared", "yes" if one.is_declared else "no"
    yield "at once", one.concurrency
    if isinstance(one, NamedQueue):
        yield "per worker", one.per_worker
    yield "per key", one.per_key
    yield "rate", rate_in_words(one.rate, one.rate_seconds) or None
    yield "begun within that time", one.rate_used
    if isinstance(one, NamedQueue):
        yield "key rate", rate_in_words(one.key_rate, one.key_rate_seconds) or None
    yield "running", one.running
    yield "keys of these", one.running_keys
    if isinstance(one, NamedQueue):
        yield "due", one.due
        yield "the first since", one.due_since
        yield "later", one.later
        yield "paused since", one.paused_at
        yield "paused by", one.paused_by
        yield "reason", one.paused_reason
    yield "limits changed", one.updated_at


def _write_one(kind: type[Queue] | type[Limit], shown: _Shown, now: datetime) -> None:
    title = f"{'queue' if kind is Queue else 'limit'} {shown.limits.name}"
    rows = [[what, value] for what, value in _rows(shown.limits) if value is not None]
    tables.write_table(output.printable(title), ["", ""], rows)
    tables.write_table(
        "slots in use",
        ["execution", "workflow", "step", "key", "worker", "since"],
        [
            [
                tables.execution_id(one.execution_id),
                one.workflow_type,
                one.step_name,
                one.key,
                one.worker,
                output.ago(one.since, now),
            ]
            for one in shown.holders
        ],
    )
    acts.write_acts(shown.changes, now)


def _holder_cells(one: HeldSlot) -> list[tables.Cell]:
    return [one.execution_id, one.workflow_type, one.step_name, one.key, one.worker, one.since]
