"""What is recorded where a wait ends: the outcome, its timer, the signal that it took."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from durable_workflow_sqlite.engine.answer_acts import acts_of_answer
from durable_workflow_sqlite.engine.child_calls import ChildWait, error_of_end
from durable_workflow_sqlite.engine.failures import error_type
from durable_workflow_sqlite.engine.question_calls import QuestionWait
from durable_workflow_sqlite.engine.wait_records import timed_out, timer_of
from durable_workflow_sqlite.records import (
    Record,
    SignalStatus,
    StepCheckpoint,
    StepStatus,
    TimerStatus,
)

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.operations import WaitCall
    from durable_workflow_sqlite.engine.run import Run
    from durable_workflow_sqlite.engine.transacting_run import TransactingRun
    from durable_workflow_sqlite.errors import SerializationError
    from durable_workflow_sqlite.records import WorkflowSignal

_log = logging.getLogger("durable_workflow_sqlite.engine")


async def save_end(
    run: TransactingRun, call: WaitCall, intent: StepCheckpoint, signal: WorkflowSignal | None
) -> StepCheckpoint | None:
    """Record that a wait has taken a signal, or that its deadline has come where that is None.

    Returns the outcome. None for a question that somebody has just answered: nothing was written.
    """
    outcome = msgspec.structs.replace(
        intent,
        status=StepStatus.COMPLETED,
        output_data=None if signal is None else signal.payload,
        completed_at=run.completion_time(),
    )
    along: list[Record] = []
    if signal is None:
        call.error = timed_out(run.id, intent)
    elif isinstance(call, ChildWait):
        call.error = error_of_end(run.id, call.child_id, call.value)
    if call.error is not None:
        outcome = msgspec.structs.replace(
            outcome,
            status=StepStatus.FAILED,
            error_type=error_type(call.error),
            error_message=run.environment.format_error(call.error),
        )
    if signal is None:
        along.append(timer_of(outcome, TimerStatus.FIRED))
    else:
        if intent.due_at is not None:
            along.append(timer_of(outcome, TimerStatus.CANCELLED))
        along.append(msgspec.structs.replace(signal, status=SignalStatus.DELIVERED))
    is_question = isinstance(call, QuestionWait)
    if is_question and signal is not None:
        along += acts_of_answer(signal, intent, run.environment.clock.now())
    outcome = msgspec.structs.replace(outcome, event=run.numbers.take(call))
    along += run.running(progressed=True)
    if is_question and signal is None:
        # Whoever has been told that the answer is stored can rely on it: so it is looked for again.
        is_saved = await run.save_unless_signal(call.name, call, outcome, *along)
        return outcome if is_saved else None
    await run.save_taken(call, outcome, *along)
    return outcome


async def save_refusal(run: Run, signal: WorkflowSignal, error: SerializationError) -> None:
    """No open wait can read a signal: mark it, and go on waiting for one that fits."""
    reason = run.environment.format_error(error)
    await run.save(
        msgspec.structs.replace(signal, status=SignalStatus.REFUSED, refused_reason=reason)
    )
    _log.warning(
        "signal %r (%s) to execution %r was refused, and the execution still waits for one: %s",
        signal.signal_name,
        signal.workflow_signal_id,
        run.id,
        reason,
        extra={"workflow_execution_id": run.id},
    )
    run.environment.observers.tell("on_error", error, run.id)
