"""What people may do to executions, one or many: retry, rerun, cancel, unblock, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from durable_workflow_sqlite.bulk import Command
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.engine import payloads
from durable_workflow_sqlite.engine.audit import details_of
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.deleted_rows import follow_a_step
from durable_workflow_sqlite.engine.enqueuing import RERUN
from durable_workflow_sqlite.engine.mending import is_about_records
from durable_workflow_sqlite.engine.mistakes import BEFORE_RECORDS
from durable_workflow_sqlite.engine.outcome import Cancellation
from durable_workflow_sqlite.engine.step_names import StepName
from durable_workflow_sqlite.errors import (
    ErrorClassNotFoundError,
    ExecutionConflictError,
    NonDeterminismError,
    SerializationError,
)
from durable_workflow_sqlite.reading.executions import ExecutionDetails, step_words
from durable_workflow_sqlite.reading.pauses import says
from durable_workflow_sqlite.records import (
    DELETED_ROWS,
    TERMINAL_STATUSES,
    ExecutionStatus,
    check_identifier,
)
from durable_workflow_sqlite.stores import open_reader

GOING_ON: Final = ("PENDING", "RUNNING", "SUSPENDED")
UNFINISHED: Final = (*GOING_ON, "COMPENSATING")
OVER: Final = tuple(sorted(TERMINAL_STATUSES))


_UNFIT: Final = tuple(
    kind.__qualname__ for kind in (NonDeterminismError, SerializationError, ErrorClassNotFoundError)
)


def needs_code_that_fits(trouble: str | None) -> bool:
    """Whether nobody can undo an execution before there is code that fits its records."""
    return trouble is not None and (
        trouble.partition(":")[0] in _UNFIT or BEFORE_RECORDS in trouble
    )


def how_to_undo(file: str, execution_id: str) -> str:
    """What lets an execution be undone whose code does not fit its records."""
    retry = command("retry", file, execution_id, "--from")
    return (
        "undoing needs code that fits its history: run the old code, or delete the records that"
        f" do not fit with {retry} STEP, where STEP is the first recorded step that differs"
    )


def signal(
    file: str,
    name: str,
    value: msgspec.Raw | None,
    *,
    has_payload: bool,
    key: str | None = None,
) -> Command:
    """Send a signal. has_payload: whether somebody gave `value`, or it stands for nothing.

    key: as for `Client.send_signal`. Raises ValueError for text that is not a name, or not a key.
    """
    check_identifier("a signal's name", name)
    if key is not None:
        check_identifier("the key of a signal", key)

    async def send(client: Client, execution_id: str) -> str:
        try:
            if not await client.send_signal(execution_id, name, value, key=key):
                return f"{name} was sent to {execution_id} before, with the key {key}: not again"
        except SerializationError as error:
            if has_payload:
                raise
            raise SerializationError(
                f"{error}; the payload is missing: add it as JSON, as in"
                f" `{command('signal', file, execution_id, name)} JSON`",
                workflow_execution_id=execution_id,
            ) from error
        return f"sent {name} to {execution_id}"

    return Command(name=f"send {name} to", done=f"sent {name} to", act=send, statuses=GOING_ON)


def cancel(file: str, *, by: str | None = None) -> Command:
    """Ask executions to stop. by: who asks, for the audit log; so for the others."""

    async def ask(client: Client, execution_id: str) -> str:
        before = await client.load(execution_id)
        was_blocked = before.blocked_reason is not None
        match await client.cancel(execution_id, by=by):
            case Cancellation.ENDED:
                return f"{execution_id} is CANCELLED: there was nothing to undo"
            case Cancellation.ASKED:
                found = await client.load(execution_id)
                is_blocked = found.blocked_reason is not None
                unblocked = ", and unblocked it" if was_blocked and not is_blocked else ""
                when = ";"
                if is_blocked:
                    when = f"; when `{command('unblock', file, execution_id)}` lets it go on,"
                elif found.paused_with is not None:
                    when = f"; when `{command('resume', file, found.paused_with)}` lets it go on,"
                elif needs_code_that_fits(before.trouble) or is_about_records(before.trouble):
                    when = f"; when `{command('show', file, execution_id)}` shows no trouble,"
                return (
                    f"asked {execution_id} to cancel{unblocked}{when} a worker undoes what it did"
                    " and ends it"
                )
            case Cancellation.REFUSED:
                pass
        found = await client.load(execution_id)
        if found.status.is_terminal:
            why = f"it has just ended {found.status}"
        elif found.status is ExecutionStatus.COMPENSATING:
            why = "it is already being undone"
            if found.paused_at is not None:
                why += f", and is paused; `{command('resume', file, execution_id)}` continues it"
            if was_blocked:
                why += f", and is blocked; `{command('unblock', file, execution_id)}` continues it"
        elif needs_code_that_fits(found.trouble):
            why = f"somebody has already asked; {how_to_undo(file, execution_id)}"
        else:
            why = "somebody has already asked; it ends when a worker notices the request"
        raise ExecutionConflictError(
            f"execution {execution_id!r} was not asked to cancel: {why}; see"
            f" `{command('show', file, execution_id)}`",
            workflow_execution_id=execution_id,
        )

    return Command(name="cancel", done="cancelled, or asked to cancel:", act=ask, statuses=GOING_ON)


Edits = Sequence[tuple[str, msgspec.Raw | None]]
"""Steps as people write them, and their new results."""


def edits_from(texts: Sequence[str]) -> Edits:
    """What `STEP=JSON` says. Raises ValueError for what is not written like that."""
    edits: list[tuple[str, msgspec.Raw | None]] = []
    for text in texts:
        name, is_value, rest = text.partition("=")
        while is_value:
            with suppress(ValueError):
                edits.append((name.strip(), payloads.from_text(rest.strip())))
                break
            more, is_value, rest = rest.partition("=")  # a name may have a =, too
            name = f"{name}={more}"
        else:
            raise ValueError(
                f"{text!r} is not STEP=JSON, as price=42; a string needs its own quotes, as"
                ' name="kim"'
            )
    return edits


def named_steps(details: ExecutionDetails | None, edits: Edits) -> dict[StepName, object]:
    """The edits for an execution. BRANCH/STEP and STEP#INDEX name a step that STEP does not."""
    names: dict[str, StepName] = {}
    for one in () if details is None else details.steps:
        branch = f"{one.branch}/" if one.branch else ""
        names[f"{branch}{one.step_name}#{one.step_index}"] = (
            one.branch,
            one.step_name,
            one.step_index,
        )
        if branch:
            names[f"{branch}{one.step_name}"] = (one.branch, one.step_name)
        names.setdefault(step_words(one.step_name), one.step_name)
    plain = {one.step_name for one in details.steps} if details is not None else set[str]()
    found: dict[StepName, object] = {}
    for name, value in edits:
        step = name if name in plain else names.get(name, name)
        if step in found:
            raise ValueError(f"the result of {name!r} is given twice")
        found[step] = value
    return found


def fork(
    file: str,
    *,
    before: StepName | None = None,
    edits: Edits = (),
    new_id: str | None = None,
    version: int | None = None,
    by: str | None = None,
) -> Command:
    """Start an execution with the records of another one that lie before a step."""

    async def ask(client: Client, execution_id: str) -> str:
        handle = await client.fork(
            execution_id,
            before=before,
            edit=named_steps(_details_of(file, execution_id), edits) if edits else None,
            new_id=new_id,
            version=version,
            by=by,
        )
        return f"{handle.execution_id} is a fork of {execution_id}; a worker claims it"

    return Command(name="fork", done="forked:", act=ask, statuses=())


def _details_of(file: str, execution_id: str) -> ExecutionDetails | None:
    with open_reader(file) as reader:
        return reader.execution(execution_id)


def retry(
    file: str,
    *,
    from_step: StepName | None = None,
    edits: Edits = (),
    by: str | None = None,
) -> Command:
    """Run failed or blocked executions again, or the compensations that failed.

    What waits for its next attempt is tried at once. from_step: from where; by default from what
    failed. edits: other results of steps that do not run again.
    """

    async def ask(client: Client, execution_id: str) -> str:
        before = await client.load(execution_id)
        edit = named_steps(_details_of(file, execution_id), edits) if edits else None
        await client.retry(execution_id, from_step=from_step, edit=edit, by=by)
        if edits and from_step is None:
            return f"{execution_id} continues with these results when a worker claims it"
        if from_step is None and not before.status.is_terminal and before.blocked_reason is None:
            return f"{execution_id} does not wait for its next attempt any more"
        if from_step is None:
            return f"{execution_id} continues from what failed when a worker claims it"
        step = from_step if isinstance(from_step, str) else from_step[1]
        return (
            f"{execution_id} runs again from {step} when a worker claims it; `"
            f"{command('show', file, execution_id)}` lists the deleted records"
        )

    return Command(name="retry", done="retried", act=ask, statuses=("FAILED",))


def rerun(*, new_id: str | None = None, once: bool = False, by: str | None = None) -> Command:
    """Rerun executions, as new ones. new_id: of the one that is named.

    once: refuse those that somebody has rerun before.
    """

    async def ask(client: Client, execution_id: str) -> str:
        handle = await client.rerun(execution_id, new_id=new_id, once=once, by=by)
        return f"{handle.execution_id} is the rerun of {execution_id}"

    return Command(name="rerun", done="rerun:", act=ask, statuses=("FAILED",))


def notes_on_rerun(found: ExecutionDetails) -> list[str]:
    """What to know before this execution is rerun: what it did may be done twice."""
    notes: list[str] = []
    if found.summary.status == ExecutionStatus.COMPLETED:
        notes.append(f"{found.summary.id} is COMPLETED; a rerun does all of its steps once more")
    logged = (details_of(one.details) for one in found.audit_log if one.act == RERUN)
    if earlier := [str(one["as"]) for one in logged if "as" in one]:
        notes.append(f"it was rerun before, as {', '.join(earlier)}")
    return notes


def how_to_unblock(file: str, details: ExecutionDetails) -> str:
    """What lets a blocked execution go on."""
    execution_id, reason = details.summary.id, details.summary.blocked_reason or ""
    unblock = command("unblock", file, execution_id)
    if reason.startswith(DELETED_ROWS):
        over = [(one.branch, one.step_index) for one in details.steps if one.status != "INTENT"]
        retry = command("retry", file, execution_id, "--from")
        again = f"; or run it again from a step before them: {retry} STEP"
        without = command("unblock", file, execution_id, "--without-rows")
        return (
            f"restore the rows, or a backup, and then {unblock}"
            f"{again if follow_a_step(reason, over) else ''}; or let it go on without them, and"
            f" perhaps do again what they did: {without}"
        )
    return f"find out why and correct that, then {unblock}"


def pause(file: str, *, reason: str | None = None, by: str | None = None) -> Command:
    """Pause executions. reason: why, for people."""

    async def ask(client: Client, execution_id: str) -> str:
        is_new = await client.pause(execution_id, reason=reason, by=by)
        if is_new:
            resume = command("resume", file, execution_id)
            return (
                f"{execution_id} is paused, with what is below it: a step that runs ends, and no"
                f" other begins until `{resume}`"
            )
        found = await client.load(execution_id)
        since = says(found.paused_at, found.paused_by, found.paused_reason)
        return f"{execution_id} was paused already, {since}"

    return Command(name="pause", done="paused", act=ask, statuses=UNFINISHED)


def resume(file: str, *, by: str | None = None) -> Command:
    """Resume executions that are paused themselves."""

    async def ask(client: Client, execution_id: str) -> str:
        is_ended = await client.resume(execution_id, by=by)
        above = (await client.load(execution_id)).paused_with
        if not is_ended:
            why = "is not paused itself"
            if above is not None:
                why += f", but with {above}: `{command('resume', file, above)}` ends that"
            raise ExecutionConflictError(
                f"execution {execution_id!r} {why}; see `{command('show', file, execution_id)}`",
                workflow_execution_id=execution_id,
            )
        if above is not None:
            resume = command("resume", file, above)
            return f"{execution_id} is resumed, and waits until `{resume}` lets it go on"
        return f"{execution_id} is resumed, and continues when a worker claims it"

    return Command(name="resume", done="resumed", act=ask, is_for_paused=True)


def unblock(file: str, *, without_rows: bool = False, by: str | None = None) -> Command:
    """Let workers claim blocked executions again. without_rows: also where some are missing."""

    async def ask(client: Client, execution_id: str) -> str:
        before = await client.load(execution_id)
        if await client.unblock(execution_id, without_rows=without_rows, by=by):
            then = ""
            if (before.blocked_reason or "").startswith(DELETED_ROWS) and without_rows:
                show = command("show", file, execution_id)
                then = f". If the rows that are left do not fit its code, `{show}` says what to do"
            return f"{execution_id} is unblocked, and continues when a worker claims it{then}"
        raise ExecutionConflictError(
            f"execution {execution_id!r} is not blocked; see"
            f" `{command('show', file, execution_id)}`",
            workflow_execution_id=execution_id,
        )

    return Command(name="unblock", done="unblocked", act=ask, is_for_blocked=True)


def acknowledge(
    file: str,
    *,
    step: StepName | None = None,
    note: str | None = None,
    by: str | None = None,
) -> Command:
    """Say that a person has dealt with what executions left."""

    async def ask(client: Client, execution_id: str) -> str:
        if number := await client.acknowledge(execution_id, step=step, note=note, by=by):
            steps = "1 step" if number == 1 else f"{number} steps"
            return f"{steps} of {execution_id} noted as dealt with"
        raise ExecutionConflictError(
            f"execution {execution_id!r} has left nothing to deal with; see"
            f" `{command('show', file, execution_id)}`",
            workflow_execution_id=execution_id,
        )

    return Command(name="acknowledge", done="acknowledged", act=ask, statuses=OVER)
