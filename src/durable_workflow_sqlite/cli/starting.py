"""The command that starts an execution by the name of its workflow."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from durable_workflow_sqlite.choosing import tags_of
from durable_workflow_sqlite.cli.arguments import on_database
from durable_workflow_sqlite.cli.output import say
from durable_workflow_sqlite.engine import payloads
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.new_signals import NewSignal
from durable_workflow_sqlite.stores import open_store

app = typer.Typer(rich_markup_mode=None)


@on_database(app)
def start(
    file: str,
    workflow_type: Annotated[str, typer.Argument(metavar="TYPE", help="the name of the workflow")],
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[JSON]",
            help="an array of the arguments; any other JSON is the only argument; without"
            " it, there are no arguments. For one argument that is an array, write [[1,"
            " 2]]",
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="the newest one by default")
    ] = None,
    execution_id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="an id that you choose: you can then repeat the command"
        ),
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="NAME=VALUE", help="a tag; repeat it for more tags"),
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="NAME", help="the named queue to put it into")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="its key, which the queue may limit"),
    ] = None,
    signals: Annotated[
        list[str] | None,
        typer.Option(
            "--signal",
            metavar="NAME[=JSON]",
            help="a signal to store with it, unless the id is taken; repeat it for more",
        ),
    ] = None,
    priority: Annotated[int, typer.Option(help="a higher number is claimed first")] = 0,
    delay: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="no worker claims it before this time"),
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="how long it may take; then it is undone"),
    ] = None,
) -> None:
    """Enqueue an execution of a workflow by its name, for a worker that has its code. The file must
    know the workflow. Prints the id."""
    # Most of this function is its signature: what the options are, and what they mean.
    args = [] if text is None else _arguments(text)
    sent = [_signal(one) for one in signals or ()]

    async def enqueue() -> str:
        async with open_store(file) as store:
            handle = await Client(store).enqueue_named(
                workflow_type,
                args,
                version=version,
                execution_id=execution_id,
                queue=queue,
                key=key,
                delay=_seconds("--delay", delay),
                priority=priority,
                ttl=_seconds("--ttl", ttl),
                tags=tags_of(tags or ()),
                signals=sent,
            )
            return handle.execution_id

    say(asyncio.run(enqueue()))


def _seconds(option: str, seconds: float | None) -> timedelta | None:
    try:
        return None if seconds is None else timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise ValueError(f"{option} must be a possible number of seconds, not {seconds}") from None


def _arguments(text: str) -> list[object]:
    """An array holds the arguments; anything else is the one argument. As it was written."""
    value = json_of(text, "the input")
    if value is not None and text.lstrip().startswith("["):
        return list(msgspec.json.decode(text, type=list[msgspec.Raw]))
    return [value]


def _signal(text: str) -> NewSignal:
    name, is_given, payload = text.partition("=")
    what = f"the payload of signal {name!r}"
    return NewSignal(name, json_of(payload, what) if is_given else None)


def json_of(text: str, what: str) -> msgspec.Raw | None:
    """What somebody wrote as JSON. Raises ValueError, and says which quotes are missing."""
    try:
        return payloads.from_text(text)
    except ValueError as error:
        raise ValueError(
            f"{what} {text!r} is not JSON ({error}); a string needs its own quotes: '\"{text}\"'"
        ) from None
