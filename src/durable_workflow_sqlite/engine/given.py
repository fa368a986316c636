"""Values that people give instead of an attempt that is due, while a worker has the execution.

Such a value is a signal. It is written in one transaction that finds no later attempt. So a worker
first records an attempt, and then looks: it sees every value that was accepted, and nobody can give
another one. The value is the outcome of that attempt, whatever else was to become of it. Until that
is recorded the signal is PENDING, and the worker that has the execution next looks for it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durable_workflow_sqlite.engine.history import Place, asks
from durable_workflow_sqlite.records import (
    RESOLVED_SIGNAL,
    Record,
    SignalStatus,
    StepCheckpoint,
    StepStatus,
    WorkflowSignal,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from durable_workflow_sqlite.engine.run import Run
    from durable_workflow_sqlite.protocol import CheckpointStore


class _Payload(msgspec.Struct):
    branch: str
    step_index: int
    value: msgspec.Raw
    is_compensation: bool = False
    """Of the compensation of the step, which a person has done by hand; the value is null."""


class Given(msgspec.Struct, frozen=True):
    """The value, as JSON: the last one of several. The signals are to be saved with it."""

    value: str
    signals: list[WorkflowSignal]


def in_place_of_the_next(failed: StepCheckpoint, value: str, now: datetime) -> WorkflowSignal:
    """The signal that gives a value instead of the attempt after a failed one."""
    payload = _Payload(failed.branch, failed.step_index, msgspec.Raw(value.encode()))
    return WorkflowSignal(
        workflow_execution_id=failed.workflow_execution_id,
        signal_name=RESOLVED_SIGNAL,
        payload=msgspec.json.encode(payload).decode(),
        created_at=now,
    )


def may_be_given(last: StepCheckpoint) -> bool:
    """Whether somebody may have given a step a value: it has waited for that, or for a time."""
    return last.attempt > 1 or last.due_at is not None or asks(last)


async def given(store: CheckpointStore, execution_id: str) -> dict[Place, Given]:
    """What is given to the steps of an execution, and was not taken yet."""
    return await _pending(store, execution_id, is_compensation=False)


def as_undone_by_hand(compensation: StepCheckpoint, now: datetime) -> WorkflowSignal:
    """The signal that says, instead of the next attempt, that a person has done a compensation."""
    payload = _Payload(
        compensation.branch, compensation.step_index, msgspec.Raw(b"null"), is_compensation=True
    )
    return WorkflowSignal(
        workflow_execution_id=compensation.workflow_execution_id,
        signal_name=RESOLVED_SIGNAL,
        payload=msgspec.json.encode(payload).decode(),
        created_at=now,
    )


async def undone_by_hand(run: Run, failed: StepCheckpoint) -> list[Record]:
    """What to save if a person has done a compensation since it failed; its error stays."""
    found = await _pending(run.environment.store, run.id, is_compensation=True)
    place = (failed.branch, failed.step_index)
    if place not in found:
        return []
    done = msgspec.structs.replace(
        failed, status=StepStatus.COMPENSATED, completed_at=run.completion_time(), due_at=None
    )
    return [done, *found[place].signals]


async def _pending(
    store: CheckpointStore, execution_id: str, *, is_compensation: bool
) -> dict[Place, Given]:
    found: dict[Place, Given] = {}
    for one in await store.load_pending_signals(execution_id, RESOLVED_SIGNAL):
        try:
            payload = msgspec.json.decode(one.payload or "", type=_Payload)
        except msgspec.MsgspecError:
            continue  # written by hand, and of no step
        if payload.is_compensation != is_compensation:
            continue
        place = (payload.branch, payload.step_index)
        before = found[place].signals if place in found else []
        taken = msgspec.structs.replace(one, status=SignalStatus.DELIVERED)
        found[place] = Given(bytes(payload.value).decode(), [*before, taken])
    return found


def left(found: dict[Place, Given], places: Iterable[Place]) -> list[WorkflowSignal]:
    """The signals of some places, as they are where nobody takes them any more."""
    return [
        msgspec.structs.replace(one, status=SignalStatus.EXPIRED)
        for place in places
        if place in found
        for one in found[place].signals
    ]
