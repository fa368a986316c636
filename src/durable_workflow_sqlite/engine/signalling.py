"""Signals to executions, as their senders send them: a key makes a second one do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from durable_workflow_sqlite.engine import payloads, serialization, starting
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.new_signals import NewSignal, record_of
from durable_workflow_sqlite.engine.outcome import SignalResult
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.errors import (
    ExecutionConflictError,
    ExecutionNotFoundError,
    SerializationError,
)
from durable_workflow_sqlite.records import Workflow, WorkflowExecution, WorkflowSignal


async def send_signal(access: Access, execution_id: str, new: NewSignal) -> SignalResult:
    """See `DurableEngine.send_signal`."""
    limit = access.store.max_payload_bytes
    return await _send(access, record_of(execution_id, new, access.clock.now(), limit))


async def signal_or_start(
    access: Access,
    definition: Workflow,
    execution: WorkflowExecution,
    new: NewSignal,
    tags: Mapping[str, str],
) -> SignalResult:
    """See `DurableEngine.signal_or_start`. What it finds may end, or be deleted, at any time."""
    execution_id = execution.workflow_execution_id
    limit = access.store.max_payload_bytes
    check_size(execution.input_data, limit, f"the input of execution {execution_id!r}")
    signal = record_of(execution_id, new, execution.created_at, limit)
    while True:
        found = await access.store.load_execution(execution_id)
        if found is not None:
            await starting.check_type(access, found, definition.workflow_type)
            with suppress(ExecutionNotFoundError):
                return await _send(access, signal)
        elif await access.store.enqueue_execution(definition, execution, tags, signal):
            access.look()
            return SignalResult.STARTED


async def _send(access: Access, signal: WorkflowSignal) -> SignalResult:
    """Send it to an execution that is there. Raises for one that cannot receive it."""
    while True:
        if await _is_there(access, signal):
            return SignalResult.DUPLICATE
        await _refuse_misfit(access, signal)
        sent = await access.store.send_signal(signal)
        if sent is not None:
            access.on_signal_sent(sent)
            return SignalResult.SENT
        # Somebody has just sent one with this key: whether it is the same one is to be seen.


async def _is_there(access: Access, signal: WorkflowSignal) -> bool:
    """Whether it was sent before. Raises ExecutionConflictError for another one with its key."""
    execution_id, key = signal.workflow_execution_id, signal.signal_key
    if key is None:
        return False
    before = await access.store.load_keyed_signal(execution_id, key)
    if before is None:
        return False
    if before.signal_name != signal.signal_name:
        what = f"the name {before.signal_name!r}"
    elif not serialization.is_same_json(before.payload or "null", signal.payload):
        what = "another payload"
    else:
        return True
    raise ExecutionConflictError(
        f"signal {signal.signal_name!r} was not sent to execution {execution_id!r}: a signal with"
        f" the key {key!r} was sent to it before, with {what}. Give each message its own key",
        workflow_execution_id=execution_id,
    )


async def _refuse_misfit(access: Access, signal: WorkflowSignal) -> None:
    """Raise SerializationError for a payload that what waits for it cannot read."""
    execution_id, name = signal.workflow_execution_id, signal.signal_name
    payload = signal.payload or "null"

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
