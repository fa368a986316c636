"""What an action can learn of its step: its key, its attempt, the token of the claim."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from durable_workflow_sqlite.engine.step_keys import key_of
from durable_workflow_sqlite.engine.step_marks import PROBES, mark_of
from durable_workflow_sqlite.records import COMPENSATION_SUFFIX, StepCheckpoint

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.run import Run

AT_WORK: Final[ContextVar[tuple[Run, StepCheckpoint]]] = ContextVar("durable_workflow_step")
"""The attempt whose function runs. In an event loop it is set only meanwhile: `leave`."""


class StepInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt of a step, for the function that it runs.

    execution_id: of the execution. step_name, branch, step_index: of the step, also for its
        compensation or its probe.
    attempt: from 1; of a compensation, how often it has begun. A probe has that of what it asks
        for.
    idempotency_key: as `ctx.idempotency_key` gives it, the same on each attempt. That of a
        compensation ends with ":compensate".
    fencing_token: of the claim of the worker. It grows each time that a worker claims an execution.
        A service that keeps the highest token it has seen can refuse a worker that was taken for
        dead.
    started_at: when the attempt began, in UTC.
    """

    execution_id: str
    step_name: str
    branch: str
    step_index: int
    attempt: int
    is_compensation: bool
    idempotency_key: str
    fencing_token: int
    started_at: datetime


def step_info() -> StepInfo:
    """The step whose action, compensation or probe calls this, also from a task of the action.

    Raises RuntimeError anywhere else, also in a workflow function, and in a thread that the action
    has started itself.
    """
    try:
        run, attempt = AT_WORK.get()
    except LookupError:
        raise RuntimeError(
            "step_info() was called outside of an action: call it in the function of a step, in a"
            " compensation or in a probe"
        ) from None
    is_compensation = attempt.attempt == 0
    name = attempt.step_name.removesuffix(COMPENSATION_SUFFIX if is_compensation else "")
    place = (attempt.branch, attempt.step_index)
    key = key_of(run.id, place, name, run.record.run_number)
    assert attempt.started_at is not None
    return StepInfo(
        execution_id=run.id,
        step_name=name,
        branch=attempt.branch,
        step_index=attempt.step_index,
        attempt=tries_of(attempt) if is_compensation else attempt.attempt,
        is_compensation=is_compensation,
        idempotency_key=key + COMPENSATION_SUFFIX if is_compensation else key,
        fencing_token=run.claim.fencing_token,
        started_at=attempt.started_at,
    )


def tries_of(compensation: StepCheckpoint) -> int:
    """How often a compensation has begun, as its record says."""
    return _number_in(compensation, "attempt")


def probes_of(attempt: StepCheckpoint) -> int:
    """How often the probe of an attempt in doubt has failed, as its record says."""
    return _number_in(attempt, PROBES)


def _number_in(checkpoint: StepCheckpoint, name: str) -> int:
    number = mark_of(checkpoint.input_data, name)
    return number if isinstance(number, int) else 0


def leave(token: Token[tuple[Run, StepCheckpoint]]) -> None:
    """The function has ended by an error; its coroutine may be closed in another context."""
    with suppress(ValueError):
        AT_WORK.reset(token)
