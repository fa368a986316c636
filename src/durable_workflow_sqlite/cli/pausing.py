"""The commands `pause` and `resume`: for executions, a workflow, a queue, everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer

from durable_workflow_sqlite import commands
from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.cli.arguments import How, on_database
from durable_workflow_sqlite.cli.bulk import perform
from durable_workflow_sqlite.cli.output import WrongUsageError, say
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.errors import ExecutionConflictError
from durable_workflow_sqlite.reading.pauses import name_of, option_of, says
from durable_workflow_sqlite.records import PauseScope
from durable_workflow_sqlite.stores import open_store

app = typer.Typer(rich_markup_mode=None)

Whole = tuple[PauseScope, str]
"""What is meant as a whole, and its name."""

_EVERYTHING: Final = Chosen(is_all=True)

Workflow = Annotated[
    str | None,
    typer.Option(
        "--workflow", metavar="TYPE", help="the workflow as a whole, with executions to come"
    ),
]

Queue = Annotated[
    str | None,
    typer.Option("--queue", metavar="NAME", help="the named queue, with executions to come"),
]


@on_database(app)
def pause(
    file: str,
    chosen: Chosen,
    ids: list[str],
    how: How,
    workflow: Workflow = None,
    queue: Queue = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="why, for people")
    ] = None,
) -> None:
    """Pause executions, a workflow, a named queue, or everything: what runs ends its step, and no
    other begins. --all: everything, with executions to come. Other options choose executions, each
    of which is paused for itself. The pause of an execution holds what is below it, too."""
    whole = _whole(ids, chosen, workflow, queue)
    if whole is None:
        perform(file, commands.pause(file, reason=reason), ids, chosen, how)
        return

    async def begin(client: Client) -> str:
        scope, name = whole
        if scope is PauseScope.ALL:
            is_new = await client.pause_all(reason=reason)
        elif scope is PauseScope.QUEUE:
            is_new = await client.pause_queue(name, reason=reason)
        else:
            is_new = await client.pause_workflow(name, reason=reason)
        pauses = await client.pauses()
        found = next((one for one in pauses if (one.scope, one.name) == whole), None)
        if is_new or found is None:
            resume = command("resume", file, *option_of(*whole))
            return f"{name_of(*whole)} is paused; `{resume}` ends that"
        since = says(found.paused_at, found.paused_by, found.paused_reason)
        return f"{name_of(*whole)} was paused already, {since}"

    _do(file, how, f"pause {name_of(*whole)}", begin)


@on_database(app)
def resume(
    file: str,
    chosen: Chosen,
    ids: list[str],
    how: How,
    workflow: Workflow = None,
    queue: Queue = None,
) -> None:
    """End a pause: of executions, of a workflow, of a named queue, or of everything (--all). What
    is paused for itself stays paused when its workflow is resumed. Options choose among the paused
    executions; --paused chooses all of these."""
    whole = _whole(ids, chosen, workflow, queue)
    if whole is None:
        perform(file, commands.resume(file), ids, chosen, how)
        return

    async def end(client: Client) -> str:
        scope, name = whole
        if scope is PauseScope.ALL:
            is_ended = await client.resume_all()
        elif scope is PauseScope.QUEUE:
            is_ended = await client.resume_queue(name)
        else:
            is_ended = await client.resume_workflow(name)
        if is_ended:
            return f"{name_of(*whole)} is resumed"
        status = command("status", file)
        raise ExecutionConflictError(f"{name_of(*whole)} is not paused; `{status}` shows what is")

    _do(file, how, f"resume {name_of(*whole)}", end)


def _whole(ids: list[str], chosen: Chosen, workflow: str | None, queue: str | None) -> Whole | None:
    """What is meant as a whole; None for executions. Raises WrongUsageError."""
    if workflow is not None and queue is not None:
        raise WrongUsageError("--workflow and --queue exclude each other; give one")
    if workflow is not None:
        if ids or chosen.is_given:
            raise WrongUsageError(
                "--workflow means the workflow as a whole: give no ids and no other options; to"
                " choose executions of a workflow, give --type"
            )
        return PauseScope.WORKFLOW, workflow
    if queue is not None:
        if ids or chosen.is_given:
            raise WrongUsageError(
                "--queue means the named queue as a whole: give no ids and no other options"
            )
        return PauseScope.QUEUE, queue
    if not chosen.is_all:
        return None
    if ids or chosen != _EVERYTHING:
        raise WrongUsageError(
            "--all means everything, with executions to come: give no ids and no other options"
        )
    return PauseScope.ALL, ""


def _do(file: str, how: How, what: str, act: Callable[[Client], Awaitable[str]]) -> None:
    if how.dry_run:
        say(f"would {what}; nothing was done")
        return

    async def ask() -> str:
        async with open_store(file) as store:
            return await act(Client(store))

    say(asyncio.run(ask()))
