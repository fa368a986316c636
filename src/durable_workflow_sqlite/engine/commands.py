"""What others may have done with an execution: a signal, a cancel, an unblock, a retry."""

from __future__ import annotations

from durable_workflow_sqlite.engine import audit, payloads, serialization
from durable_workflow_sqlite.engine.opened import Opened
from durable_workflow_sqlite.engine.reopening import reopened
from durable_workflow_sqlite.errors import ExecutionConflictError, SerializationError
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    ExecutionStatus,
    WorkflowSignal,
    check_identifier,
)


async def send_signal(opened: Opened, execution_id: str, name: str, payload: object) -> None:
    """See `DurableEngine.send_signal`."""
    check_identifier("a signal's name", name)
    if name.startswith("$"):
        raise ValueError(
            f"signal names that begin with $ are reserved for the library: {name!r}; to cancel an"
            " execution, call cancel()"
        )
    text = serialization.to_json(payload, f"the payload of signal {name!r}")
    await _refuse_misfit(opened, execution_id, name, text)
    signal = WorkflowSignal(
        workflow_execution_id=execution_id,
        signal_name=name,
        payload=text,
        created_at=opened.clock.now(),
    )
    await opened.store.send_signal(signal)
    await opened.heed(execution_id)


async def _refuse_misfit(opened: Opened, execution_id: str, name: str, payload: str) -> None:
    """Raise SerializationError for a payload that what waits for it cannot read."""

    async def misfit() -> str | None:
        execution = opened.executions.get(execution_id)
        if execution is not None:
            return execution.misfit(name, payload)
        waits = await opened.store.load_open_waits(execution_id, name)
        return payloads.misfit(waits, payload)

    # What was sent before comes first, so it is perhaps for another wait than is open now.
    if (
        await misfit() is not None
        and not await opened.store.load_pending_signals(execution_id, name)
        and (reason := await misfit()) is not None
    ):
        raise SerializationError(
            f"signal {name!r} was not sent to execution {execution_id!r}: {reason}",
            workflow_execution_id=execution_id,
            step_name=name,
        )


async def cancel(opened: Opened, execution_id: str, by: str | None) -> bool:
    """See `DurableEngine.cancel`."""
    found = await opened.load(execution_id)
    if found.status.is_terminal or found.status is ExecutionStatus.COMPENSATING:
        return False
    if await opened.store.load_pending_signals(execution_id, CANCEL_SIGNAL):
        return False
    request = WorkflowSignal(
        workflow_execution_id=execution_id,
        signal_name=CANCEL_SIGNAL,
        created_at=opened.clock.now(),
    )
    try:
        request = await opened.store.send_signal(
            request, audit.entry(execution_id, "cancel", by, request.created_at)
        )
    except ExecutionConflictError:
        return False
    pending = await opened.store.load_pending_signals(execution_id, CANCEL_SIGNAL)
    if pending and pending[0] != request:
        return False  # of requests made at once, the first is the one that cancels
    await opened.heed(execution_id)
    execution = opened.executions.get(execution_id)
    if execution is not None and not execution.is_interrupted:
        # It was about to end by itself.
        await execution.its_outcome()
        execution = None
    if execution is None:
        found = await opened.load(execution_id)
        if found.status.is_terminal:
            return found.status is ExecutionStatus.CANCELLED
        await opened.intake.resume(found)
    return True


async def unblock(opened: Opened, execution_id: str, by: str | None, act: str = "unblock") -> bool:
    """See `DurableEngine.unblock`."""
    found = await opened.load(execution_id)
    now = opened.clock.now()
    details: dict[str, object] = {"blocked": found.blocked_reason}
    entry = audit.entry(execution_id, act, by, now, details)
    if not await opened.store.unblock_execution(execution_id, entry, now=now):
        return False
    await opened.intake.resume(await opened.load(execution_id))
    return True


async def retry(opened: Opened, execution_id: str, by: str | None) -> None:
    """See `DurableEngine.retry`."""
    if await unblock(opened, execution_id, by, "retry"):
        return
    found = await opened.load(execution_id)
    now = opened.clock.now()
    records = reopened(found, await opened.store.load_checkpoints(execution_id), now)
    details: dict[str, object] = {"error": found.error_type, "message": found.error_message}
    entry = audit.entry(execution_id, "retry", by, now, details)
    await opened.store.reopen_execution(execution_id, *records, entry, now=now)
    await opened.intake.resume(await opened.load(execution_id))


async def acknowledge(opened: Opened, execution_id: str, by: str | None) -> int:
    """See `DurableEngine.acknowledge`."""
    found = await opened.load(execution_id)
    if not found.status.is_terminal:
        raise ExecutionConflictError(
            f"execution {execution_id!r} is {found.status}: acknowledge what is left of it when"
            " it is over",
            workflow_execution_id=execution_id,
        )
    now = opened.clock.now()
    entry = audit.entry(execution_id, "acknowledge", by, now)
    return await opened.store.acknowledge(execution_id, entry, now=now)
