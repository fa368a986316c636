"""Commands that ask something of executions, as any client does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from durable_workflow_sqlite import commands
from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.cli.arguments import Branch, Edit, How, Index, on_database
from durable_workflow_sqlite.cli.bulk import FROM_PIPE, confirm, perform
from durable_workflow_sqlite.cli.output import WrongUsageError, say
from durable_workflow_sqlite.cli.starting import json_of
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.step_names import StepName, step_named
from durable_workflow_sqlite.records import ExecutionStatus, StepKind
from durable_workflow_sqlite.stores import open_reader, open_store

app = typer.Typer(rich_markup_mode=None)


@on_database(app)
def signal(
    file: str,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[ID] NAME [JSON]",
            help="the id of the execution (- reads ids from a pipe), the name of the signal,"
            " and its payload",
        ),
    ],
    chosen: Chosen,
    how: How,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="a name for this message: if the execution has a signal with this key, nothing"
            " is sent. So you can repeat the command",
        ),
    ] = None,
) -> None:
    """Send a signal to an execution, or to all that the options choose (then without ID). It is
    stored until a wait takes it."""
    ids, (name, payload) = _addressed(words, chosen)
    if name.startswith("$"):
        raise ValueError(
            f"signal names that begin with $ are reserved for the library: {name!r}; to cancel"
            f" executions there is `{command('cancel', file)}`"
        )
    value = None if payload is None else json_of(payload, "the payload")

    wanted = commands.signal(file, name, value, has_payload=payload is not None, key=key)
    perform(file, wanted, ids, chosen, how)
    if not ids or ids[0] == FROM_PIPE or how.dry_run:
        return
    with open_reader(file) as reader:
        details = reader.execution(ids[0])
    waits_for = None if details is None else details.summary.waiting_for
    if waits_for is not None and waits_for.startswith("signal ") and waits_for != f"signal {name}":
        say(f"note: it waits for {waits_for}; {name} is stored until a wait takes it")


@on_database(app)
def cancel(file: str, chosen: Chosen, ids: list[str], how: How) -> None:
    """Ask executions to stop, and to undo their steps. Their children are cancelled with them,
    except those that are detached."""
    perform(file, commands.cancel(file), ids, chosen, how)


@on_database(app)
def retry(
    file: str,
    chosen: Chosen,
    ids: list[str],
    how: How,
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STEP",
            help="run this step again, and everything after it; the records of it are deleted",
        ),
    ] = None,
    branch: Branch = None,
    index: Index = None,
    edit: Edit = None,
) -> None:
    """Run failed executions again from their failed step, unblock executions, or end a back-off.
    A child that failed its parent runs again with it. --edit gives other results to steps that do
    not run again. Options choose FAILED executions, unless you
    give --status, --blocked, --in-trouble or --not-undone."""
    if from_step is None and (branch is not None or index is not None):
        raise WrongUsageError("--branch and --index need --from: they say which step of that name")
    step = None if from_step is None else step_named(from_step, branch, index)
    edits = commands.edits_from(edit or ())
    perform(file, commands.retry(file, from_step=step, edits=edits), ids, chosen, how)


@on_database(app)
def unblock(
    file: str,
    chosen: Chosen,
    ids: list[str],
    how: How,
    without_rows: Annotated[
        bool,
        typer.Option(
            "--without-rows",
            help="also if deleted rows of steps are not restored: these steps may run again",
        ),
    ] = False,
) -> None:
    """Let workers claim blocked executions again; --all: all blocked executions."""
    perform(file, commands.unblock(file, without_rows=without_rows), ids, chosen, how)


@on_database(app)
def acknowledge(
    file: str,
    chosen: Chosen,
    ids: list[str],
    how: How,
    branch: Branch = None,
    index: Index = None,
    note: Annotated[
        str | None, typer.Option("--note", metavar="TEXT", help="why or how, for the audit log")
    ] = None,
) -> None:
    """Say that a person has dealt with problems of finished executions: compensations that failed
    for good, and steps that were cut off. `retry` does not run these compensations again. With an
    ID, --step STEP says that a person has undone this step: its compensation, which fails, is not
    tried again, and the execution continues with the others."""
    step: StepName | None = None
    if ids and chosen.step is not None:
        step = step_named(chosen.step, branch, index)
        chosen = msgspec.structs.replace(chosen, step=None)
    elif branch is not None or index is not None:
        raise WrongUsageError("--branch and --index need an ID and --step: they say which step")
    perform(file, commands.acknowledge(file, step=step, note=note), ids, chosen, how)


@on_database(app)
def rerun(
    file: str,
    chosen: Chosen,
    ids: list[str],
    how: How,
    new_id: Annotated[
        str | None, typer.Option("--new-id", metavar="ID", help="the id of the new execution")
    ] = None,
) -> None:
    """Start new executions with the workflow, version, input and tags of old ones. The old ones do
    not change. Options choose FAILED executions, unless you give --status. For a COMPLETED
    execution that is named by its id alone, it asks first."""
    if new_id is not None and (len(ids) != 1 or ids[0] == FROM_PIPE):
        raise WrongUsageError("--new-id is only for one execution, with its id")

    # Whoever names an id knows what has become of it.
    is_named = bool(ids) and ids[0] != FROM_PIPE
    if is_named and len(ids) == 1 and not chosen.is_given:
        _confirm_rerun(file, ids[0], how)
    perform(file, commands.rerun(new_id=new_id, once=not is_named), ids, chosen, how)


def _confirm_rerun(file: str, execution_id: str, how: How) -> None:
    """Say what is to know, and ask where others may have used the result."""
    with open_reader(file) as reader:
        found = reader.execution(execution_id)
    if found is None:
        return  # to rerun it says so, in better words
    for note in commands.notes_on_rerun(found):
        say(f"note: {note}")
    if found.summary.status == ExecutionStatus.COMPLETED and not how.dry_run:
        confirm(f"rerun {execution_id}", how)


@on_database(app)
def fork(
    file: str,
    execution_id: Annotated[
        str, typer.Argument(metavar="ID", help="of the execution, as `list` shows it")
    ],
    before: Annotated[
        str | None,
        typer.Option(
            "--before",
            metavar="STEP",
            help="the first step that runs again; by default nothing that has completed does",
        ),
    ] = None,
    branch: Branch = None,
    index: Index = None,
    edit: Edit = None,
    new_id: Annotated[
        str | None, typer.Option("--new-id", metavar="ID", help="the id of the new execution")
    ] = None,
    version: Annotated[
        int | None,
        typer.Option("--version", min=1, help="of its workflow; by default that of the old one"),
    ] = None,
) -> None:
    """Start a new execution that begins with the records of another one, up to a step. The steps
    before that one do not run again. The old execution does not change, and it alone undoes them.
    Prints the id of the new execution."""
    if before is None and (branch is not None or index is not None):
        raise WrongUsageError("--branch and --index need --before: they say which step")
    wanted = commands.fork(
        file,
        before=None if before is None else step_named(before, branch, index),
        edits=commands.edits_from(edit or ()),
        new_id=new_id,
        version=version,
    )

    async def ask() -> str:
        async with open_store(file) as store:
            return await wanted.act(Client(store), execution_id)

    say(asyncio.run(ask()))


@on_database(app)
def resolve(
    file: str,
    execution_id: Annotated[
        str, typer.Argument(metavar="ID", help="of the execution, as `list` shows it")
    ],
    step_name: Annotated[str, typer.Argument(metavar="STEP", help="its name")],
    text: Annotated[str | None, typer.Argument(metavar="[JSON]", help="what it returned")] = None,
    branch: Branch = None,
    index: Index = None,
    not_done: Annotated[
        bool, typer.Option("--not-done", help="it has not taken effect: run it again")
    ] = False,
    failed: Annotated[
        str | None,
        typer.Option("--failed", metavar="WHY", help="it fails with StepAmbiguousError"),
    ] = None,
) -> None:
    """Continue an execution as if a step had returned a value. The step has failed the execution,
    is in doubt or in a back-off, or its result cannot be read. A sleep takes no JSON, and ends now.
    Except in a back-off, no worker may have the execution.

    It also answers what became of a step with in_doubt="ask", also while a worker has it."""
    step = step_named(step_name, branch, index)
    if not_done or failed is not None:
        if text is not None or (not_done and failed is not None):
            raise WrongUsageError("give one of JSON, --not-done and --failed WHY")
        _answer(file, execution_id, step, not_done=not_done, failed=failed)
        return
    value = None
    if text is not None:
        value = json_of(text, "the value")
    elif not _is_sleep(file, execution_id, step_name):
        raise WrongUsageError(
            "the value is missing: add it as JSON, as in"
            f" `{command('resolve', file, execution_id, step_name)} JSON`; give null if the step"
            " returns nothing"
        )

    async def ask() -> None:
        async with open_store(file) as store:
            await Client(store).resolve(execution_id, step, value)

    asyncio.run(ask())
    said = f"when a worker claims {execution_id}, it continues as if {step_name} had "
    if text is None:
        say(f"{said}ended")
    else:
        show = command("show", file, execution_id)
        say(f"{said}returned that; it checks the type of the value then, and `{show}` tells")


def _answer(
    file: str, execution_id: str, step: StepName, *, not_done: bool, failed: str | None
) -> None:
    async def ask() -> None:
        async with open_store(file) as store:
            await Client(store).resolve(execution_id, step, not_done=not_done, failed=failed)

    asyncio.run(ask())
    name = step if isinstance(step, str) else step[1]
    what = "runs again" if not_done else "fails with StepAmbiguousError"
    say(f"{name} of {execution_id} {what}, once a worker has noticed it")


def _is_sleep(file: str, execution_id: str, name: str) -> bool:
    """Whether nothing else of that name is recorded: a sleep returns nothing."""
    with open_reader(file) as reader:
        details = reader.execution(execution_id)
    kinds = {one.kind for one in details.steps if one.step_name == name} if details else None
    return kinds is None or kinds <= {StepKind.SLEEP}


def _addressed(words: Sequence[str], chosen: Chosen) -> tuple[list[str], tuple[str, str | None]]:
    """To whom, the name of the signal, and its payload."""
    ids, rest = ([], words) if chosen.is_given else (list(words[:1]), words[1:])
    match rest:
        case [name]:
            return ids, (name, None)
        case [name, payload]:
            return ids, (name, payload)
        case _:
            raise WrongUsageError(
                "with options that choose executions, the arguments are NAME [JSON]"
                if chosen.is_given
                else "the arguments are ID NAME [JSON], or - NAME [JSON] for ids from a pipe"
            )
