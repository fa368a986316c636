"""The outcome of a step that did not complete, as it is recorded: it failed, or was cut off."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.operations import StepCall
from durable_workflow_sqlite.engine.step_notifications import tell_complete, tell_failure
from durable_workflow_sqlite.engine.step_records import cut_off, error_of, warn_of_cut_off
from durable_workflow_sqlite.records import Record, StepCheckpoint, StepStatus

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.run import Run


class CutOff(Exception):  # noqa: N818 - no error: it never leaves the engine
    """Nobody waits for the step any more, and it was kept from going on."""


def failed_attempt(
    run: Run, intent: StepCheckpoint, failure: BaseException, retried_in: timedelta | None
) -> StepCheckpoint:
    now = run.completion_time()
    return msgspec.structs.replace(
        intent,
        status=StepStatus.FAILED,
        error_type=failures.error_type(failure),
        error_message=run.environment.format_error(failure),
        completed_at=now,
        due_at=None if retried_in is None else later(now, retried_in),
    )


async def record_failure(
    run: Run,
    call: StepCall,
    intent: StepCheckpoint,
    failure: BaseException,
    first_started_at: datetime | None,
    *along: Record,
) -> None:
    """Record that a step has failed for good: that is its outcome."""
    failed = msgspec.structs.replace(
        failed_attempt(run, intent, failure, None),
        output_data=run.environment.error_codec.parts(failure),
        event=run.numbers.take(call),
    )
    take_error(run, call, failed, failure)
    failed = await run.finish_step(call, failed, *along, *run.running(progressed=True))
    tell_complete(run, failed, first_started_at, replayed=False)
    tell_failure(run, failed, failure)


def take_error(run: Run, call: StepCall, failed: StepCheckpoint, failure: BaseException) -> None:
    """What the body is told of a failure, as it is recorded."""
    codec = run.environment.error_codec
    if codec.is_whole(failed.output_data):
        call.error = failure
    else:
        # The body must not see more of it now than it will on a replay.
        call.error = error_of(run.id, call, failed, codec)
        call.error.__cause__ = failure


async def record_cut_off(
    run: Run,
    call: StepCall,
    intent: StepCheckpoint,
    *,
    has_begun: bool,
    error: asyncio.CancelledError | None = None,
) -> None:
    """Record that an attempt was cancelled; raise CutOff or, if this stops, a CancelledError.

    One that had begun may have taken effect. One that had not is known not to.
    """
    task = asyncio.current_task()
    assert task is not None
    if run.trouble is not None:
        raise error or asyncio.CancelledError(f"execution {run.id!r} is being stopped")
    if error is not None:
        task.uncancel()
    has_begun = has_begun and not call.is_idempotent
    # Else nothing is recorded of the attempt, and it holds no slot.
    if not call.is_idempotent or intent.attempt > 1 or call.limit is not None:
        await run.save(cut_off(intent, run.completion_time(), has_begun=has_begun))
    call.was_cut_off = has_begun
    if has_begun:
        warn_of_cut_off(run, intent)
    raise CutOff
