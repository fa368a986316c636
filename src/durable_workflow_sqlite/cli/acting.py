"""Commands that ask something of executions, through the engine as any client does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from durable_workflow_sqlite.cli.bulk import FROM_PIPE, Deed, How, perform
from durable_workflow_sqlite.cli.choosing import Chosen
from durable_workflow_sqlite.cli.mending import json_of
from durable_workflow_sqlite.cli.output import WrongUsageError, command, say
from durable_workflow_sqlite.engine.engine import DurableEngine
from durable_workflow_sqlite.engine.outcome import Cancellation
from durable_workflow_sqlite.engine.places import StepName
from durable_workflow_sqlite.errors import ExecutionConflictError, SerializationError
from durable_workflow_sqlite.records import TERMINAL_STATUSES, ExecutionStatus
from durable_workflow_sqlite.store.inspection import Inspector

_GOING_ON = ("PENDING", "RUNNING", "SUSPENDED")
_OVER = tuple(sorted(TERMINAL_STATUSES))


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

    async def send(engine: DurableEngine, execution_id: str) -> str:
        try:
            await engine.send_signal(execution_id, name, value)
        except SerializationError as error:
            if payload is not None:
                raise
            raise SerializationError(
                f"{error}; the payload is missing: add it as JSON, as in"
                f" `{command('signal', file, execution_id, name)} JSON`",
                workflow_execution_id=execution_id,
            ) from error
        return f"sent {name} to {execution_id}"

    deed = Deed(name=f"send {name} to", done=f"sent {name} to", act=send, statuses=_GOING_ON)
    perform(file, deed, ids, chosen, how)
    if not ids or ids[0] == FROM_PIPE or how.dry_run:
        return
    with Inspector.open(file) as inspector:
        details = inspector.execution(ids[0])
    waits_for = None if details is None else details.summary.waiting_for
    if waits_for is not None and waits_for.startswith("signal ") and waits_for != f"signal {name}":
        say(f"note: it waits for {waits_for}; {name} is kept until it is waited for")


def cancel(file: Path, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Ask executions to stop. Raises ExecutionConflictError if the one that is named will not."""

    async def ask(engine: DurableEngine, execution_id: str) -> str:
        was_blocked = (await engine.load(execution_id)).blocked_reason is not None
        match await engine.cancel(execution_id):
            case Cancellation.ENDED:
                return f"{execution_id} is CANCELLED: there was nothing to undo"
            case Cancellation.ASKED:
                unblocked = ", and unblocked it" if was_blocked else ""
                return (
                    f"asked {execution_id} to cancel{unblocked}; a worker undoes what it did and"
                    " ends it"
                )
            case Cancellation.REFUSED:
                pass
        status = (await engine.load(execution_id)).status
        if status.is_terminal:
            why = f"it is {status} already"
        elif status is ExecutionStatus.COMPENSATING:
            why = "it is undoing what it did already"
            if was_blocked:
                why += f", and is blocked; `{command('unblock', file, execution_id)}` lets it go on"
        else:
            why = "it was asked to already; it ends when a worker hears of it"
        raise ExecutionConflictError(
            f"execution {execution_id!r} was not asked to cancel: {why}; see"
            f" `{command('show', file, execution_id)}`",
            workflow_execution_id=execution_id,
        )

    deed = Deed(name="cancel", done="cancelled, or asked to cancel:", act=ask, statuses=_GOING_ON)
    perform(file, deed, ids, chosen, how)


def retry(
    file: Path, ids: Sequence[str], from_step: StepName | None, chosen: Chosen, how: How
) -> None:
    """Run failed or blocked executions again, or the compensations that failed.

    from_step: from where; by default from what failed.
    """

    async def ask(engine: DurableEngine, execution_id: str) -> str:
        await engine.retry(execution_id, from_step=from_step)
        if from_step is None:
            return f"{execution_id} goes on from what failed when a worker takes it"
        step = from_step if isinstance(from_step, str) else from_step[1]
        return (
            f"{execution_id} runs again from {step} when a worker takes it;"
            f" `{command('show', file, execution_id)}` says what was forgotten"
        )

    deed = Deed(name="retry", done="retried", act=ask, statuses=("FAILED",))
    perform(file, deed, ids, chosen, how)


def unblock(file: Path, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Let workers take on blocked executions again."""

    async def ask(engine: DurableEngine, execution_id: str) -> str:
        if await engine.unblock(execution_id):
            return f"{execution_id} is unblocked, and goes on when a worker takes it"
        raise ExecutionConflictError(
            f"execution {execution_id!r} is not blocked; see"
            f" `{command('show', file, execution_id)}`",
            workflow_execution_id=execution_id,
        )

    deed = Deed(name="unblock", done="unblocked", act=ask, is_for_blocked=True)
    perform(file, deed, ids, chosen, how)


def acknowledge(file: Path, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Say that a person has dealt with what executions left."""

    async def ask(engine: DurableEngine, execution_id: str) -> str:
        if number := await engine.acknowledge(execution_id):
            steps = "1 step" if number == 1 else f"{number} steps"
            return f"{steps} of {execution_id} noted as dealt with"
        raise ExecutionConflictError(
            f"execution {execution_id!r} has left nothing to deal with; see"
            f" `{command('show', file, execution_id)}`",
            workflow_execution_id=execution_id,
        )

    deed = Deed(name="acknowledge", done="acknowledged", act=ask, statuses=_OVER)
    perform(file, deed, ids, chosen, how)


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
