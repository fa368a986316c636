"""Of a sleep or a wait for a signal: its timer, its deadline, and what its record tells."""

from __future__ import annotations

from datetime import MINYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.child_calls import ChildWait, read_end, recorded_error
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.history import TIMERS
from durable_workflow_sqlite.engine.question_calls import overdue
from durable_workflow_sqlite.errors import SerializationError, SignalTimeoutError
from durable_workflow_sqlite.questions import is_question
from durable_workflow_sqlite.records import (
    CUT_OFF,
    Record,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TimerStatus,
    WorkflowTimer,
)

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.operations import WaitCall
    from durable_workflow_sqlite.engine.run import Run

_UNREADABLE: Final = f"{SerializationError.__module__}:{SerializationError.__qualname__}"


def timer_of(checkpoint: StepCheckpoint, status: TimerStatus) -> WorkflowTimer:
    """The timer of a wait; made of its checkpoint, so that it is the same one each time."""
    assert checkpoint.due_at is not None
    identity = (checkpoint.workflow_execution_id, checkpoint.branch, checkpoint.step_index)
    return WorkflowTimer(
        workflow_timer_id=msgspec.json.encode(identity).decode(),
        workflow_execution_id=checkpoint.workflow_execution_id,
        step_name=checkpoint.step_name,
        fire_at=checkpoint.due_at,
        status=status,
        created_at=checkpoint.started_at or checkpoint.due_at,
    )


def given_up(begun: StepCheckpoint, at: datetime) -> list[Record]:
    """What to save of a wait that nobody waits for any more; nothing if it is over."""
    if begun.status is not StepStatus.INTENT:
        return []
    outcome = msgspec.structs.replace(
        begun,
        status=StepStatus.FAILED,
        error_type=CUT_OFF,
        error_message="the workflow no longer waited for it",
        completed_at=at,
    )
    timer = [] if begun.due_at is None else [timer_of(outcome, TimerStatus.CANCELLED)]
    return [outcome, *timer]


def stored_timer(run: Run) -> StepCheckpoint | None:
    """The timer of a body's event loop that an earlier run has stored."""
    for timer in run.history.timers:
        try:
            identity = msgspec.json.decode(timer.workflow_timer_id, type=tuple[str, str, int])
        except msgspec.MsgspecError:
            continue  # of another make, and none of these
        if identity[:2] == (run.id, TIMERS):
            return StepCheckpoint(
                workflow_execution_id=run.id,
                branch=TIMERS,
                step_index=identity[2],
                step_name=timer.step_name,
                kind=StepKind.SLEEP,
                status=StepStatus.INTENT,
                started_at=timer.created_at,
                due_at=timer.fire_at,
            )
    return None


def deadline_of(run: Run, end: datetime | timedelta) -> datetime:
    if isinstance(end, datetime):
        try:
            return end.astimezone(UTC)
        except OverflowError:  # of a zone west or east of it, at the end or beginning of time
            if end.year == MINYEAR:
                return datetime.min.replace(tzinfo=UTC)
            return datetime.max.replace(tzinfo=UTC)
    return later(run.environment.clock.now(), end)


def read_payload(execution_id: str, call: WaitCall, payload: str | None) -> Any:
    """What a signal holds, as the wait wants it. Raises SerializationError."""
    if isinstance(call, ChildWait):
        return read_end(payload, call.child_id)
    what = f"{call.payload_in_words} execution {execution_id!r}"
    return serialization.from_json(payload, call.payload_type, what)


def recorded_payload(execution_id: str, call: WaitCall, completed: StepCheckpoint) -> Any:
    """As `read_payload`, of a signal that was delivered."""
    if isinstance(call, ChildWait):
        return read_end(completed.output_data, call.child_id)
    if call.payload_type is Any and not serialization.is_json(completed.output_data):
        return completed.output_data  # plain text: earlier versions delivered that, too
    return read_payload(execution_id, call, completed.output_data)


def failure_of_wait(execution_id: str, call: WaitCall, failed: StepCheckpoint) -> Exception:
    """What a wait raised when it failed: at its deadline, or because a child has failed.

    Or for a payload that it could not read: in earlier versions it failed with that.
    """
    if isinstance(call, ChildWait):
        return recorded_error(execution_id, call, failed)
    if failed.error_type != _UNREADABLE:
        return timed_out(execution_id, failed)
    return SerializationError(
        failed.error_message or "the payload cannot be read",
        workflow_execution_id=execution_id,
        step_name=failed.step_name,
        step_index=failed.step_index,
        branch=failed.branch,
    )


def timed_out(execution_id: str, checkpoint: StepCheckpoint) -> SignalTimeoutError:
    if is_question(checkpoint.step_name):
        return overdue(execution_id, checkpoint)
    return SignalTimeoutError(
        f"no signal {checkpoint.step_name!r} came to execution {execution_id!r}"
        f" by {checkpoint.due_at}",
        workflow_execution_id=execution_id,
        step_name=checkpoint.step_name,
        step_index=checkpoint.step_index,
        branch=checkpoint.branch,
        signal_name=checkpoint.step_name,
        deadline=checkpoint.due_at,
    )


def tell_wait_start(run: Run, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
    run.environment.observers.tell("on_step_start", checkpoint, replayed=replayed)


def tell_wait_complete(run: Run, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
    elapsed = timedelta(0)
    if checkpoint.started_at is not None and checkpoint.completed_at is not None:
        elapsed = checkpoint.completed_at - checkpoint.started_at
    run.environment.observers.tell("on_step_complete", checkpoint, elapsed, replayed=replayed)
