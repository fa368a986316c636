"""Values that people give instead of an attempt that is due, while a worker has the execution.

Such a value is a signal. It is written in one transaction that finds no later attempt; a worker
looks for it before it records the next attempt, and once more after that. So it is never missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durable_workflow_sqlite.records import (
    RESOLVED_SIGNAL,
    SignalStatus,
    StepCheckpoint,
    WorkflowSignal,
)

if TYPE_CHECKING:
    from datetime import datetime

    from durable_workflow_sqlite.engine.run import Run


class _Payload(msgspec.Struct):
    branch: str
    step_index: int
    attempt: int
    value: msgspec.Raw


class Given(msgspec.Struct, frozen=True):
    """The value, as JSON, and the signals that are answered with it."""

    value: str
    signals: list[WorkflowSignal]


def in_place_of_the_next(failed: StepCheckpoint, value: str, now: datetime) -> WorkflowSignal:
    """The signal that gives a value instead of the attempt after a failed one."""
    payload = _Payload(
        failed.branch, failed.step_index, failed.attempt + 1, msgspec.Raw(value.encode())
    )
    return WorkflowSignal(
        workflow_execution_id=failed.workflow_execution_id,
        signal_name=RESOLVED_SIGNAL,
        payload=msgspec.json.encode(payload).decode(),
        created_at=now,
    )


async def given_after(run: Run, failed: StepCheckpoint) -> Given | None:
    """What somebody has given instead of the attempt after a failed one; the last, of several."""
    next_one = (failed.branch, failed.step_index, failed.attempt + 1)
    value: str | None = None
    answered: list[WorkflowSignal] = []
    for one in await run.environment.store.load_pending_signals(run.id, RESOLVED_SIGNAL):
        try:
            payload = msgspec.json.decode(one.payload or "", type=_Payload)
        except msgspec.MsgspecError:
            continue  # written by hand, and of no attempt
        if (payload.branch, payload.step_index, payload.attempt) == next_one:
            value = bytes(payload.value).decode()
            answered.append(msgspec.structs.replace(one, status=SignalStatus.DELIVERED))
    return None if value is None else Given(value, answered)
