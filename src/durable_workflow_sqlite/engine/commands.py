"""What others may have done with an execution: a signal, an unblock, a retry, a note."""

from __future__ import annotations

from datetime import datetime

from durable_workflow_sqlite.engine import audit, deleted_rows, payloads, serialization
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.forgetting import can_run_again, forget_from
from durable_workflow_sqlite.engine.given import given
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.mending import (
    Change,
    as_open,
    mend,
    refused,
    to_whoever_left_it,
)
from durable_workflow_sqlite.engine.reopening import reopened, why_not_reopened
from durable_workflow_sqlite.engine.step_names import StepName, check_step, names_of
from durable_workflow_sqlite.errors import (
    SerializationError,
    StoreCorruptError,
)
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    TakenExecution,
    WorkflowExecution,
    WorkflowSignal,
    check_identifier,
)


async def send_signal(access: Access, execution_id: str, name: str, payload: object) -> None:
    """See `DurableEngine.send_signal`."""
    check_identifier("a signal's name", name)
    if name.startswith("$"):
        raise ValueError(
            f"signal names that begin with $ are reserved for the library: {name!r}; to cancel an"
            " execution, call cancel()"
        )
    text = serialization.to_json(payload, f"the payload of signal {name!r}")
    await _refuse_misfit(access, execution_id, name, text)
    signal = WorkflowSignal(
        workflow_execution_id=execution_id,
        signal_name=name,
        payload=text,
        created_at=access.clock.now(),
    )
    access.on_signal_sent(await access.store.send_signal(signal))


async def _refuse_misfit(access: Access, execution_id: str, name: str, payload: str) -> None:
    """Raise SerializationError for a payload that what waits for it cannot read."""

    async def misfit() -> str | None:
        execution = access.executions.get(execution_id)
        if execution is not None:
            return execution.misfit(name, payload)
        waits = await access.store.load_open_waits(execution_id, name)
        return payloads.misfit(waits, payload)

    # What was sent before comes first, so it is perhaps for another wait than is open now.
    if (
        await misfit() is not None
        and not await access.store.load_pending_signals(execution_id, name)
        and (reason := await misfit()) is not None
    ):
        raise SerializationError(
            f"signal {name!r} was not sent to execution {execution_id!r}: {reason}",
            workflow_execution_id=execution_id,
            step_name=name,
        )


async def unblock(
    access: Access,
    execution_id: str,
    by: str | None,
    act: str = "unblock",
    *,
    without_rows: bool = False,
) -> bool:
    """See `DurableEngine.unblock`."""
    found = await access.load(execution_id)
    now = access.clock.now()
    details: dict[str, object] = {"blocked": found.blocked_reason}
    if deleted_rows.are_why(found):
        checkpoints = await access.store.load_checkpoints(execution_id)
        missing = deleted_rows.still_missing(found, checkpoints)
        if missing is not None:
            if not without_rows:
                word = "unblocked" if act == "unblock" else "retried"
                raise refused(execution_id, deleted_rows.why_refused(f"was not {word}", missing))
            details["missing"] = missing
    entry = audit.entry(execution_id, act, by, now, details)
    if not await access.store.unblock_execution(execution_id, entry, now=now):
        return False
    await access.resume(await access.load(execution_id))
    return True


async def retry(access: Access, execution_id: str, by: str | None) -> None:
    """See `DurableEngine.retry`."""
    if await unblock(access, execution_id, by, "retry"):
        return
    found = await access.load(execution_id)
    if not found.status.is_terminal:
        if await _try_now(access, execution_id, by):
            return
        raise refused(execution_id, why_not_reopened(found, []))

    async def plan(seen: TakenExecution, now: datetime) -> Change:
        if why := why_not_reopened(seen.execution, seen.checkpoints):
            raise refused(execution_id, why)
        change = reopened(seen, now)
        entry = audit.entry(execution_id, "retry", by, now, _what_ended(seen.execution))
        return Change(change.becomes, [*change.records, entry])

    _, after = await mend(access, execution_id, plan)
    await access.resume(after)


async def _try_now(access: Access, execution_id: str, by: str | None) -> bool:
    """Do not wait for the next attempt, whether or not a worker has it; False if nothing waits."""
    now = access.clock.now()
    checkpoints = await access.store.load_checkpoints(execution_id)
    try:
        paused = list(RecordedHistory(checkpoints).paused())
    except StoreCorruptError:
        return False  # it is in trouble, which says why
    waiting = [one for one in paused if one.due_at is not None and one.due_at > now]
    if not waiting:
        return False
    entry = audit.entry(execution_id, "retry", by, now, {"now": names_of(waiting)})
    mended = to_whoever_left_it(execution_id, now)
    if not await access.store.hasten_attempts(execution_id, entry, mended, now=now):
        return False
    await access.hasten(execution_id)
    return True


async def retry_from(access: Access, execution_id: str, step: StepName, by: str | None) -> None:
    """See `DurableEngine.retry`, from a step that is named."""
    check_step(step)

    async def plan(seen: TakenExecution, now: datetime) -> Change:
        record = seen.execution
        is_stopped = record.blocked_reason is not None or record.trouble is not None
        if why := can_run_again(record.status, is_stopped=is_stopped):
            raise refused(execution_id, why)
        signals = await access.store.load_signals(execution_id)
        values = await given(access.store, execution_id)
        forgotten = forget_from(seen, signals, values, step, now)
        details = {**forgotten.details, **_what_ended(record)}
        if record.blocked_reason is not None:
            details["blocked"] = record.blocked_reason
        becomes = as_open(
            record,
            now,
            status=ExecutionStatus.PENDING,
            current_step=forgotten.kept,
            error_type=None,
            error_message=None,
            ttl_expires_at=None,
            last_event=None,
        )
        return Change(
            becomes,
            [
                *forgotten.records,
                audit.entry(execution_id, "retry", by, now, details),
                to_whoever_left_it(execution_id, now),
            ],
            forgotten.attempts,
        )

    _, after = await mend(access, execution_id, plan)
    await access.resume(after)


def _what_ended(record: WorkflowExecution) -> dict[str, object]:
    return {"error": record.error_type, "message": record.error_message}
