"""What the log and the observers are told of a step."""

from __future__ import annotations

import logging
import reprlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.history import has_timed_out
from durable_workflow_sqlite.engine.observer import log_attributes
from durable_workflow_sqlite.records import StepCheckpoint

if TYPE_CHECKING:
    import asyncio

    from durable_workflow_sqlite.engine.environment import Environment
    from durable_workflow_sqlite.engine.run import Run

_log = logging.getLogger("durable_workflow_sqlite.engine")


def tell_complete(
    run: Run,
    checkpoint: StepCheckpoint,
    first_started_at: datetime | None,
    *,
    replayed: bool,
) -> None:
    elapsed = timedelta(0)
    if first_started_at is not None and checkpoint.completed_at is not None:
        elapsed = checkpoint.completed_at - first_started_at
    run.environment.observers.tell("on_step_complete", checkpoint, elapsed, replayed=replayed)


def tell_in_doubt(
    run: Run, checkpoint: StepCheckpoint, what_follows: str = "it runs again"
) -> None:
    _log.warning(
        "step %r of execution %r %s at attempt %d and may have taken effect; %s",
        checkpoint.step_name,
        run.id,
        "timed out" if has_timed_out(checkpoint) else "was interrupted",
        checkpoint.attempt,
        what_follows,
        extra=log_attributes(checkpoint),
    )
    run.environment.observers.tell("on_step_in_doubt", checkpoint)


def tell_retry(run: Run, failed: StepCheckpoint, error: BaseException, delay: timedelta) -> None:
    _log.info(
        "step %r of execution %r failed at attempt %d, retrying in %s: %s",
        failed.step_name,
        run.id,
        failed.attempt,
        delay,
        failed.error_message,
        extra=log_attributes(failed),
    )
    run.environment.observers.tell("on_step_retry", failed, error, delay)


def tell_failure(run: Run, failed: StepCheckpoint, error: BaseException) -> None:
    if has_timed_out(failed):
        _log.warning(
            "step %r of execution %r timed out at attempt %d and may have taken effect",
            failed.step_name,
            run.id,
            failed.attempt,
            extra=log_attributes(failed),
        )
    else:
        _log.warning(
            "step %r of execution %r failed for good at attempt %d: %s",
            failed.step_name,
            run.id,
            failed.attempt,
            failed.error_message,
            extra=log_attributes(failed),
        )
    run.environment.observers.tell("on_error", error, run.id)


def tell_late(
    environment: Environment, timed_out: StepCheckpoint, ended: asyncio.Future[Any]
) -> None:
    """A sync function has ended in its thread, after its attempt had timed out."""
    if ended.cancelled():
        return
    error = ended.exception()
    _log.warning(
        "step %r of execution %r ended after its timeout at attempt %d: it %s; its result is"
        " ignored, except to undo it",
        timed_out.step_name,
        timed_out.workflow_execution_id,
        timed_out.attempt,
        f"returned {reprlib.repr(ended.result())}"
        if error is None
        else f"raised {failures.as_text(error, environment.format_error)}",
        extra=log_attributes(timed_out),
    )
