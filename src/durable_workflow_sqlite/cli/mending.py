"""Commands that start executions by name, start them once more, or say what a step returned."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec

from durable_workflow_sqlite import deeds
from durable_workflow_sqlite.choosing import Chosen, tags_of
from durable_workflow_sqlite.cli.bulk import FROM_PIPE, How, perform
from durable_workflow_sqlite.cli.output import WrongUsageError, say
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.engine import payloads
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.places import StepName
from durable_workflow_sqlite.records import StepKind
from durable_workflow_sqlite.store.inspection import Inspector
from durable_workflow_sqlite.stores import open_store


def start(
    file: Path,
    workflow_type: str,
    text: str | None,
    *,
    version: int | None,
    execution_id: str | None,
    tags: Sequence[str],
    priority: int,
    delay: float | None,
    ttl: float | None,
) -> None:
    """Enqueue an execution of a workflow that the file knows. Raises ValueError for no JSON."""
    args = [] if text is None else _arguments(text)

    async def enqueue() -> str:
        async with open_store(file) as store:
            handle = await Client(store).enqueue_named(
                workflow_type,
                args,
                version=version,
                execution_id=execution_id,
                delay=_seconds("--delay", delay),
                priority=priority,
                ttl=_seconds("--ttl", ttl),
                tags=tags_of(tags),
            )
            return handle.execution_id

    say(asyncio.run(enqueue()))


def _seconds(option: str, seconds: float | None) -> timedelta | None:
    try:
        return None if seconds is None else timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise ValueError(
            f"{option} is no number of seconds that can be waited: {seconds}"
        ) from None


def _arguments(text: str) -> list[object]:
    """An array holds the arguments; anything else is the one argument. As it was written."""
    value = json_of(text, "the input")
    if value is not None and text.lstrip().startswith("["):
        return list(msgspec.json.decode(text, type=list[msgspec.Raw]))
    return [value]


def json_of(text: str, what: str) -> msgspec.Raw | None:
    """What somebody wrote as JSON. Raises ValueError, and says which quotes are missing."""
    try:
        return payloads.from_text(text)
    except ValueError as error:
        raise ValueError(
            f"{what} {text!r} is not JSON ({error}); a string needs its own quotes: '\"{text}\"'"
        ) from None


def rerun(file: Path, ids: Sequence[str], new_id: str | None, chosen: Chosen, how: How) -> None:
    """Enqueue executions once more. Raises WrongUsageError for one new id of several."""
    if new_id is not None and (len(ids) != 1 or ids[0] == FROM_PIPE):
        raise WrongUsageError("--new-id is for one execution that is named by its id")

    # Whoever names an id knows what has become of it.
    is_named = bool(ids) and ids[0] != FROM_PIPE
    perform(file, deeds.rerun(new_id=new_id, once=not is_named), ids, chosen, how)


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
    with Inspector.open(file) as inspector:
        details = inspector.execution(execution_id)
    kinds = {one.kind for one in details.steps if one.step_name == _name(step)} if details else None
    return kinds is None or kinds <= {StepKind.SLEEP}


def step_of(name: str, branch: str | None, index: int | None) -> StepName:
    """The step that is meant by a name and by `--branch` and `--index`, where they are given."""
    if index is not None:
        return (branch or "", name, index)
    return name if branch is None else (branch, name)
