"""What people answer when they are asked what became of a step, or of a compensation, in doubt.

An answer is a signal, as `given` says. A row that somebody wrote by hand may name the step instead
of its place. One that fits nothing is REFUSED, and says why.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from durable_workflow_sqlite.engine.history import Place, place_in_words
from durable_workflow_sqlite.records import (
    RESOLVED_SIGNAL,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowSignal,
)

if TYPE_CHECKING:
    from datetime import datetime

    from durable_workflow_sqlite.engine.run import Run

_log = logging.getLogger("durable_workflow_sqlite.engine")


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    step: str | None = None
    branch: str = ""
    step_index: int | None = None
    value: msgspec.Raw | UnsetType = UNSET
    not_done: bool | int = False
    failed: str | None = None
    is_compensation: bool = False


class Answer(msgspec.Struct, frozen=True):
    """value: what it returned, as JSON. failed: why the step is to fail.

    Without both, it has not taken effect. The signals are to be saved with what becomes of it.
    """

    value: str | None
    failed: str | None
    signals: list[WorkflowSignal]


def in_answer_to(
    question: StepCheckpoint, now: datetime, *, value: str | None, failed: str | None
) -> WorkflowSignal:
    """The signal that says what became of it; without value and failed, it did not take effect."""
    payload: dict[str, object] = {"branch": question.branch, "step_index": question.step_index}
    if question.attempt == 0:
        payload["is_compensation"] = True
    if failed is not None:
        payload["failed"] = failed
    elif value is None:
        payload["not_done"] = True
    else:
        payload["value"] = msgspec.Raw(value.encode())
    return WorkflowSignal(
        workflow_execution_id=question.workflow_execution_id,
        signal_name=RESOLVED_SIGNAL,
        payload=msgspec.json.encode(payload).decode(),
        created_at=now,
    )


async def answer_to(run: Run, question: StepCheckpoint) -> Answer | None:
    """The last answer that came for it, and was not taken yet. Refuses what fits nothing."""
    found: Answer | None = None
    opened: list[StepCheckpoint] | None = None
    place = (question.branch, question.step_index)
    is_compensation = question.attempt == 0
    for signal in await run.environment.store.load_pending_signals(run.id, RESOLVED_SIGNAL):
        try:
            payload = _read(signal.payload)
            if payload.step is None:
                meant: tuple[Place, bool] = (
                    (payload.branch, payload.step_index or 0),
                    payload.is_compensation,
                )
            else:
                opened = await _open_steps(run) if opened is None else opened
                meant = _named(payload, opened)
        except ValueError as error:
            await refuse(run, [signal], str(error))
            continue
        if meant == (place, is_compensation):
            before = [] if found is None else found.signals
            taken = msgspec.structs.replace(signal, status=SignalStatus.DELIVERED)
            value = None if payload.value is UNSET else bytes(payload.value).decode()
            found = Answer(value, payload.failed, [*before, taken])
    return found


async def refuse(run: Run, signals: list[WorkflowSignal], why: str) -> None:
    """Mark answers that cannot be taken; the question stays."""
    refused = [
        msgspec.structs.replace(one, status=SignalStatus.REFUSED, refused_reason=why)
        for one in signals
    ]
    await run.save(*refused)
    for one in refused:
        _log.warning(
            "an answer (signal %s) to execution %r was refused: %s",
            one.workflow_signal_id,
            run.id,
            why,
            extra={"workflow_execution_id": run.id},
        )


def _read(text: str | None) -> _Payload:
    """Raises ValueError, as msgspec does."""
    payload = msgspec.json.decode(text or "", type=_Payload)
    given = (payload.value is not UNSET) + bool(payload.not_done) + (payload.failed is not None)
    if given != 1:
        raise ValueError('give one of "value", "not_done" (true) and "failed" (a text)')
    if payload.step is None and payload.step_index is None:
        raise ValueError('give "step", the name of the step')
    return payload


async def _open_steps(run: Run) -> list[StepCheckpoint]:
    """The last attempts of what has begun and not ended, or waits for its next attempt."""
    last: dict[tuple[Place, bool], StepCheckpoint] = {}
    for one in await run.environment.store.load_checkpoints(run.id):
        if one.kind is StepKind.STEP:
            last[(one.branch, one.step_index), one.attempt == 0] = one
    return [
        one
        for one in last.values()
        if one.status is StepStatus.INTENT
        or (one.status is StepStatus.FAILED and one.due_at is not None)
    ]


def _named(payload: _Payload, opened: list[StepCheckpoint]) -> tuple[Place, bool]:
    """The step that is meant by its name. Raises ValueError if it is not one."""
    found = [
        one
        for one in opened
        if one.step_name == payload.step
        and one.branch == payload.branch
        and payload.step_index in (None, one.step_index)
    ]
    if len(found) == 1:
        return (found[0].branch, found[0].step_index), found[0].attempt == 0
    where = f" in branch {payload.branch!r}" if payload.branch else ""
    if found:
        places = ", ".join(place_in_words((one.branch, one.step_index)) for one in found)
        raise ValueError(
            f"{len(found)} steps named {payload.step!r} are open{where}: at {places}; say which by"
            ' "step_index"'
        )
    names = ", ".join(sorted({repr(one.step_name) for one in opened})) or "none"
    raise ValueError(
        f"no step named {payload.step!r} waits for an answer{where}; open are: {names}"
    )
