"""Commands that ask something of executions, through the engine as any client does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from durable_workflow_sqlite import deeds
from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.cli.bulk import FROM_PIPE, How, perform
from durable_workflow_sqlite.cli.mending import json_of
from durable_workflow_sqlite.cli.output import WrongUsageError, say
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.engine.places import StepName
from durable_workflow_sqlite.stores import open_reader


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

    deed = deeds.signal(file, name, value, has_payload=payload is not None)
    perform(file, deed, ids, chosen, how)
    if not ids or ids[0] == FROM_PIPE or how.dry_run:
        return
    with open_reader(file) as reader:
        details = reader.execution(ids[0])
    waits_for = None if details is None else details.summary.waiting_for
    if waits_for is not None and waits_for.startswith("signal ") and waits_for != f"signal {name}":
        say(f"note: it waits for {waits_for}; {name} is kept until it is waited for")


def cancel(file: Path, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Ask executions to stop. Raises ExecutionConflictError if the one that is named will not."""
    perform(file, deeds.cancel(file), ids, chosen, how)


def retry(
    file: Path, ids: Sequence[str], from_step: StepName | None, chosen: Chosen, how: How
) -> None:
    """Run failed or blocked executions again, or the compensations that failed.

    from_step: from where; by default from what failed.
    """
    perform(file, deeds.retry(file, from_step=from_step), ids, chosen, how)


def unblock(file: Path, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Let workers claim blocked executions again."""
    perform(file, deeds.unblock(file), ids, chosen, how)


def acknowledge(file: Path, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Say that a person has dealt with what executions left."""
    perform(file, deeds.acknowledge(file), ids, chosen, how)


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
