"""A replay: the recorded events, told in the order of their numbers to a body that runs again."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.body_loop import Before, as_time
from durable_workflow_sqlite.engine.error_codec import ErrorCodec
from durable_workflow_sqlite.engine.gaps import Gaps
from durable_workflow_sqlite.engine.history import HOW_TO_MEND, TIMERS, Place, place_in_words
from durable_workflow_sqlite.engine.mistakes import where
from durable_workflow_sqlite.engine.observer import Observers
from durable_workflow_sqlite.engine.operations import Operation, StepCall, WaitCall
from durable_workflow_sqlite.engine.step_records import error_of, read_value
from durable_workflow_sqlite.engine.wait_records import failure_of_wait, recorded_payload
from durable_workflow_sqlite.errors import NonDeterminismError
from durable_workflow_sqlite.records import StepCheckpoint, StepStatus

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_COMPLETED: Final = StepStatus.COMPLETED


def replay_events(
    body: Body,
    events: list[StepCheckpoint],
    gaps: Gaps,
    codec: ErrorCodec,
    observers: Observers | None = None,
) -> None:
    """Tell a body some recorded events, one after the other, as `replay_event` does.

    If it ends before the last of them, the rest must be what it had asked for.
    """
    if observers:
        _replay_all(body, events, gaps, codec, observers)
        return
    before = body.loop.enter()
    try:
        _replay_all(body, events, gaps, codec, None, before)
    finally:
        body.loop.leave(before)


def _replay_all(
    body: Body,
    events: list[StepCheckpoint],
    gaps: Gaps,
    codec: ErrorCodec,
    observers: Observers | None,
    before: Before | None = None,
) -> None:
    has_gaps = bool(gaps)
    for number, checkpoint in enumerate(events):
        if body.is_over:
            check_rest_was_asked_for(body, events[number:])
            break
        if has_gaps:
            gaps.note(body, checkpoint)
        replay_event(body, checkpoint, codec, observers, before)


def replay_event(
    body: Body,
    checkpoint: StepCheckpoint,
    codec: ErrorCodec,
    observers: Observers | None = None,
    before: Before | None = None,
) -> None:
    """Tell a body a recorded event, and let it run until it waits again.

    before: what `enter` of its event loop gave, if that is the running one.

    Raises NonDeterminismError if the body has not asked for the step whose outcome the event is.
    Raises SerializationError, or an error of rebuilding an error, for a record that it cannot
    read.
    """
    if checkpoint.branch == TIMERS:
        body.let_time_pass(checkpoint)  # what is due by then wakes, as it did
    else:
        place = (checkpoint.branch, checkpoint.step_index)
        call = body.open.get(place)
        if call is None:
            if not body.asked_for(place):
                raise _unasked(body, checkpoint)
            note_unheard(body, checkpoint)  # it has given it up since
            body.let_time_pass(checkpoint)
        else:
            if before is None or not call.runs_code_of_the_user:
                _read_outcome(body, call, checkpoint, codec)
            else:  # on the event loop of the program, as the first time
                body.loop.leave(before)
                try:
                    _read_outcome(body, call, checkpoint, codec)
                finally:
                    body.loop.enter()
            if observers:
                _tell(observers, call, checkpoint)
            body.hear(call, checkpoint)
    if body.trouble is not None:
        raise body.trouble


def _read_outcome(
    body: Body, call: Operation, checkpoint: StepCheckpoint, codec: ErrorCodec
) -> None:
    """What the body is to be told of a recorded outcome."""
    execution_id = body.execution_id
    call.checkpoint = checkpoint
    is_completed = checkpoint.status is _COMPLETED
    if isinstance(call, StepCall):
        if is_completed:
            read_value(execution_id, call, checkpoint)
        else:
            call.error = error_of(execution_id, call, checkpoint, codec, (body.module,))
    elif isinstance(call, WaitCall):
        if not is_completed:
            call.error = failure_of_wait(execution_id, call, checkpoint)
        elif not call.is_sleep:
            call.value = recorded_payload(execution_id, call, checkpoint)


def check_rest_was_asked_for(body: Body, events: list[StepCheckpoint]) -> None:
    """Raise NonDeterminismError if a body has ended, and events follow that it did not ask for.

    Outcomes of what it has asked for may follow, and timers. They reach nobody now. In an earlier
    run they may have reached somebody, if a mistake in changed code now ends the body sooner.
    """
    for checkpoint in events:
        place = (checkpoint.branch, checkpoint.step_index)
        if checkpoint.branch != TIMERS and not body.asked_for(place):
            raise _unasked(body, checkpoint)
        note_unheard(body, checkpoint)
        body.heard = checkpoint.event or body.heard


def note_unheard(body: Body, checkpoint: StepCheckpoint) -> None:
    """An outcome reaches nobody; it may still have to be undone."""
    call = body.undoable.get((checkpoint.branch, checkpoint.step_index))
    if call is not None:
        call.checkpoint = checkpoint


def check_all_was_asked_for(body: Body) -> None:
    """Raise NonDeterminismError if something is recorded that a body has not come to.

    To be called when it has got all recorded events.
    """
    for place, step in body.history.steps():
        if step.last is not None and not body.asked_for(place):
            raise _unasked(body, step.last)


def _unasked(body: Body, checkpoint: StepCheckpoint) -> NonDeterminismError:
    place: Place = (checkpoint.branch, checkpoint.step_index)
    recorded = (
        f"{checkpoint.kind.lower()} {checkpoint.step_name!r} recorded at {place_in_words(place)}"
    )
    if checkpoint.event is not None:
        recorded += f", as event {checkpoint.event}"
    error = body.result()[1] if body.is_over else None
    if error is not None:
        text = failures.as_text(error, failures.default_error_formatter)
        instead = f"but its workflow raised {text}{where(error)} before it asked for that"
    elif body.is_over or body.is_ended:
        instead = "but its workflow ended without it"
    else:
        by_the_end = " by the end of what is recorded" if checkpoint.event is None else ""
        instead = f"but its workflow has not asked for it{by_the_end}{_waits(body)}"
        for call in body.open.values():
            if call.last is None and call.place[0] == place[0] and call.place < place:
                instead += (
                    f". Nothing is recorded of {call.describe()}: its row may have been deleted"
                )
                break
    unfit = NonDeterminismError(
        f"execution {body.execution_id!r} has {recorded}, {instead}. It was left as it is."
        f" {HOW_TO_MEND}",
        workflow_execution_id=body.execution_id,
        step_index=checkpoint.step_index,
        branch=checkpoint.branch,
        recorded_name=checkpoint.step_name,
    )
    unfit.__cause__ = error
    return unfit


def _waits(body: Body) -> str:
    waits = [call.describe() for call in list(body.open.values())[:3]]
    timer = body.loop.next_timer()
    if timer is not None:
        waits.append(f"a timer of asyncio, due at {as_time(timer[0])}")
    return f" and waits for {', '.join(waits)}" if waits else ""


def _tell(observers: Observers, call: Operation, checkpoint: StepCheckpoint) -> None:
    first = call.history.first if call.history is not None else checkpoint
    elapsed = timedelta(0)
    if first is not None and first.started_at is not None and checkpoint.completed_at is not None:
        elapsed = checkpoint.completed_at - first.started_at
    observers.tell("on_step_start", checkpoint, replayed=True)
    observers.tell("on_step_complete", checkpoint, elapsed, replayed=True)
