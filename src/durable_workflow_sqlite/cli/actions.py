"""Commands that ask something of executions, through the engine as any client does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from durable_workflow_sqlite import commands
from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.cli.bulk import FROM_PIPE, How, perform
from durable_workflow_sqlite.cli.output import WrongUsageError, say
from durable_workflow_sqlite.cli.starting import json_of
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.places import StepName
from durable_workflow_sqlite.records import StepKind
from durable_workflow_sqlite.stores import open_reader, open_store


def signal(file: Path, words: Sequence[str], chosen: Chosen, how: How) -> None:
    """Send a signal: `words` are ID NAME [JSON], or NAME [JSON] to those that are chosen.

    Raises ValueError for a payload that is not JSON, or a reserved name.
    """
    ids, (name, payload) = _addressed(words, chosen)
    if name.startswith("$"):
        raise ValueError(
            f"signal names that begin with $ are reserved for the library: {name!r}; to cancel"
            f" executions there is `{command('cancel', file)}`"
        )
    value = None if payload is None else json_of(payload, "the payload")

    wanted = commands.signal(file, name, value, has_payload=payload is not None)
    perform(file, wanted, ids, chosen, how)
    if not ids or ids[0] == FROM_PIPE or how.dry_run:
        return
    with open_reader(file) as reader:
        details = reader.execution(ids[0])
    waits_for = None if details is None else details.summary.waiting_for
    if waits_for is not None and waits_for.startswith("signal ") and waits_for != f"signal {name}":
        say(f"note: it waits for {waits_for}; {name} is kept until it is waited for")


def cancel(file: Path, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Ask executions to stop. Raises ExecutionConflictError if the one that is named will not."""
    perform(file, commands.cancel(file), ids, chosen, how)


def retry(
    file: Path, ids: Sequence[str], from_step: StepName | None, chosen: Chosen, how: How
) -> None:
    """Run failed or blocked executions again, or the compensations that failed.

    from_step: from where; by default from what failed.
    """
    perform(file, commands.retry(file, from_step=from_step), ids, chosen, how)


def unblock(
    file: Path, ids: Sequence[str], chosen: Chosen, how: How, *, without_rows: bool
) -> None:
    """Let workers claim blocked executions again."""
    perform(file, commands.unblock(file, without_rows=without_rows), ids, chosen, how)


def acknowledge(file: Path, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Say that a person has dealt with what executions left."""
    perform(file, commands.acknowledge(file), ids, chosen, how)


def rerun(file: Path, ids: Sequence[str], new_id: str | None, chosen: Chosen, how: How) -> None:
    """Enqueue executions once more. Raises WrongUsageError for one new id of several."""
    if new_id is not None and (len(ids) != 1 or ids[0] == FROM_PIPE):
        raise WrongUsageError("--new-id is for one execution that is named by its id")

    # Whoever names an id knows what has become of it.
    is_named = bool(ids) and ids[0] != FROM_PIPE
    perform(file, commands.rerun(new_id=new_id, once=not is_named), ids, chosen, how)


def resolve(file: Path, execution_id: str, step: StepName, text: str | None) -> None:
    """Let an execution go on as if a step had returned a value."""
    value = None
    if text is not None:
        value = json_of(text, "the value")
    elif not _is_sleep(file, execution_id, step):
        raise WrongUsageError(
            f"the value is missing: add it as JSON, as in"
            f" `{command('resolve', file, execution_id, _name(step))} JSON`; null where the step"
            " returns nothing"
        )

    async def ask() -> None:
        async with open_store(file) as store:
            await Client(store).resolve(execution_id, step, value)

    asyncio.run(ask())
    became = "had ended" if text is None else "had returned that"
    say(f"when a worker takes {execution_id}, it goes on as if {_name(step)} {became}")


def _name(step: StepName) -> str:
    return step if isinstance(step, str) else step[1]


def _is_sleep(file: Path, execution_id: str, step: StepName) -> bool:
    """Whether nothing else of that name is recorded: a sleep returns nothing."""
    with open_reader(file) as reader:
        details = reader.execution(execution_id)
    kinds = {one.kind for one in details.steps if one.step_name == _name(step)} if details else None
    return kinds is None or kinds <= {StepKind.SLEEP}


def step_of(name: str, branch: str | None, index: int | None) -> StepName:
    """The step that is meant by a name and by `--branch` and `--index`, where they are given."""
    if index is not None:
        return (branch or "", name, index)
    return name if branch is None else (branch, name)


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
