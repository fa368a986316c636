"""A replay of one execution beside any engine: does the code still ask for what is recorded?

It is the replay of an engine and more. An engine goes on from where the records end, and asks no
further. Here the records must tell also what the workflow function waits for, and how it ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Final

from durable_workflow_sqlite.engine import failures, serialization
from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.body_loop import as_time
from durable_workflow_sqlite.engine.context import WorkflowContext
from durable_workflow_sqlite.engine.endings import CANCELLED_TYPE
from durable_workflow_sqlite.engine.error_codec import ErrorCodec
from durable_workflow_sqlite.engine.gaps import Gaps
from durable_workflow_sqlite.engine.history import (
    HOW_TO_MEND,
    TIMERS,
    Place,
    RecordedHistory,
    place_in_words,
)
from durable_workflow_sqlite.engine.operations import Operation, WaitCall
from durable_workflow_sqlite.engine.origins import origin_of
from durable_workflow_sqlite.engine.replay import (
    check_all_was_asked_for,
    check_rest_was_asked_for,
    replay_event,
)
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import (
    NonDeterminismError,
    SerializationError,
    StepFailedError,
    WorkflowExpiredError,
)
from durable_workflow_sqlite.records import (
    TERMINAL_STATUSES,
    ExecutionStatus,
    StepCheckpoint,
    StepStatus,
    WorkflowExecution,
    WorkflowPatch,
)

INTERRUPTED_TYPES: Final = frozenset(
    {CANCELLED_TYPE, f"{WorkflowExpiredError.__module__}:{WorkflowExpiredError.__qualname__}"}
)
"""The errors with which others end an execution."""

UNFIT_TYPE: Final = f"{SerializationError.__module__}:{SerializationError.__qualname__}"

MOST_SHOWN: Final = 200
"""Letters of a value that a message shows."""

_CODEC: Final = ErrorCodec()

_ENDED: Final = TERMINAL_STATUSES | {ExecutionStatus.COMPENSATING}


def check_replay(
    definition: AnyWorkflow,
    record: WorkflowExecution,
    checkpoints: Iterable[StepCheckpoint],
    patches: Iterable[WorkflowPatch] = (),
    *,
    codec: ErrorCodec = _CODEC,
    context: Context | None = None,
) -> None:
    """Replay an execution from its records, up to where they end.

    It runs the workflow function and no action, writes nothing, and needs neither a store nor an
    event loop.

    definition: the workflow as the code at hand has it.
    record, checkpoints: read at one time, or the record first while somebody works on it.
    patches: those that it has passed, read after the checkpoints.
    codec: of an engine that was given `errors`. context: as an engine is given it.

    Raises NonDeterminismError where the function does something else than is recorded: it asks for
    something else, waits for something else, or ends otherwise. What it gives its steps is not
    recorded, and not compared. Raises SerializationError or ErrorClassNotFoundError for a record
    that the code cannot read any more, and what an engine raises for a call that it refuses.
    """
    recorded = list(checkpoints)
    history = RecordedHistory(recorded, patches=patches)
    body = body_of(definition, record, history)
    variables = (context or definition.variables).copy()
    args = definition.decode_input(record.input_data)
    try:
        body.begin(definition.function, WorkflowContext(body), args, variables)
        if body.trouble is not None:
            raise body.trouble
        gaps = Gaps(history.events, record.last_event)
        try:
            _hear_all(body, history.events, record.last_event, gaps, codec)
            check_all_was_asked_for(body)
        except NonDeterminismError:
            gaps.refuse(body)
            raise
        gaps.refuse(body)
        _check_standing(definition, record, body, recorded)
    finally:
        body.drop()


def body_of(definition: AnyWorkflow, record: WorkflowExecution, history: RecordedHistory) -> Body:
    """A body of an execution, as an engine makes it, that has not begun."""
    history.patches.is_over = record.last_event is not None or record.status in _ENDED
    body = Body(
        definition.name,
        record.workflow_execution_id,
        origin_of(record),
        history,
    )
    body.run_number = record.run_number
    body.queue, body.queue_key = record.queue, record.queue_key
    body.encode_input = definition.encode_input
    return body


def _hear_all(
    body: Body, events: list[StepCheckpoint], last: int | None, gaps: Gaps, codec: ErrorCodec
) -> None:
    for number, event in enumerate(events):
        if last is not None and (event.event or 0) > last:
            break  # what came after the function's end reached nobody
        if body.new:
            _check_deadlines(body)
        if body.is_over:
            check_rest_was_asked_for(body, events[number:])
            break
        gaps.note(body, event)
        if event.branch == TIMERS:
            _check_timer(body, event)
        replay_event(body, event, codec)
    if body.new:
        _check_deadlines(body)


# What it waits for


def _check_deadlines(body: Body) -> None:
    """Raise if a wait that it has begun since ends at another time than is recorded."""
    for call in body.new:
        last = call.last
        if last is None or not isinstance(call, WaitCall):
            continue
        if isinstance(call.end, datetime):
            is_same = last.due_at is None or _is_same_time(last.due_at, call.end)
        else:
            # The time from which on a duration counts is not recorded.
            is_same = call.is_sleep or (last.due_at is None) == (call.end is None)
        if not is_same:
            raise _differs(
                body,
                f"{_in_words(last)}, {_due(last)}",
                f"where its workflow now asks for one {_until(call.end)}",
                last,
                call,
            )
    body.new.clear()
    body.given_up.clear()


def _check_timer(body: Body, fired: StepCheckpoint) -> None:
    """Raise if the next timer of its event loop is another one than fired then."""
    timer = body.loop.next_timer()
    if timer is not None and timer[1] == fired.step_index and as_time(timer[0]) == fired.due_at:
        return
    asked = "has none" if timer is None else f"has timer {timer[1]}, due at {as_time(timer[0])}"
    raise _differs(
        body,
        f"timer {fired.step_index} of its event loop (`asyncio.sleep`, a timeout), {_due(fired)},"
        f" recorded as event {fired.event}",
        f"where its workflow now {asked}",
        fired,
    )


def _check_open(body: Body, recorded: list[StepCheckpoint]) -> None:
    """Raise unless what it waits for is what is recorded as begun and not ended."""
    begun: dict[Place, StepCheckpoint] = {}
    for one in recorded:
        if one.attempt and one.branch != TIMERS:
            place = (one.branch, one.step_index)
            if place not in begun or one.attempt >= begun[place].attempt:
                begun[place] = one
    for place, one in begun.items():
        if one.status is StepStatus.INTENT and place not in body.open:
            raise _differs(
                body, f"{_in_words(one)}, not ended yet", f"where its workflow {_now(body)}", one
            )
    for place, call in body.open.items():
        if place not in begun:
            raise _differs(
                body,
                f"nothing recorded at {place_in_words(place)}",
                f"where its workflow now asks for {call.kind.lower()} {call.name!r}",
                None,
                call,
            )


# How it stands, or ended


def _check_standing(
    definition: AnyWorkflow, record: WorkflowExecution, body: Body, recorded: list[StepCheckpoint]
) -> None:
    result, error = body.result() if body.is_over else (None, None)
    if error is not None and body.is_refused(error):
        raise error
    status = record.status
    if status is ExecutionStatus.SUSPENDED:
        _check_open(body, recorded)
        if body.is_over:
            raise _differs(body, "no end recorded", f"where its workflow {_now(body)}")
    elif status is ExecutionStatus.COMPLETED:
        if error is not None or not body.is_over:
            raise _differs(
                body, "a result recorded", f"where its workflow {_now(body, error)}"
            ) from error
        text, _ = serialization.round_trip(
            result, definition.result_type, f"the result of workflow {definition.name!r}"
        )
        if not serialization.is_same_json(text, record.output_data):
            raise _differs(
                body,
                f"the result {_shown(record.output_data)} recorded",
                f"where its workflow now returns {_shown(text)}",
            )
        if calls := body.calls.take_unawaited():
            raise _differs(
                body,
                "a result recorded",
                f"where its workflow now asks for {calls[0].describe()}, and does not await it",
                None,
                calls[0],
            )
    elif record.error_type is not None and record.error_type not in INTERRUPTED_TYPES:
        # It has failed by itself, or is being compensated for that.
        if body.is_over and error is None:
            error = _why_unfit(definition, result)
            if error is None and record.error_type == UNFIT_TYPE:
                return  # the store could not hold the result
        if error is None or record.error_type not in (_type_of(error), failures.error_type(error)):
            raise _differs(
                body,
                f"the error {record.error_type} recorded",
                f"where its workflow {_now(body, error)}",
            ) from error


def _why_unfit(definition: AnyWorkflow, result: object) -> Exception | None:
    """What an engine makes of a result that cannot be stored and read again."""
    what = f"the result of workflow {definition.name!r}"
    try:
        serialization.round_trip(result, definition.result_type, what)
    except Exception as unfit:  # noqa: BLE001 - whatever a type of the user does
        return unfit
    return None


def _type_of(error: BaseException) -> str:
    """As an engine records it: of a step whose error's class cannot be found, what it was."""
    if isinstance(error, StepFailedError) and error.error_type is not None:
        return error.error_type
    return failures.error_type(error)


# In words


def _in_words(one: StepCheckpoint) -> str:
    place = place_in_words((one.branch, one.step_index))
    return f"{one.kind.lower()} {one.step_name!r} recorded at {place}"


def _due(one: StepCheckpoint) -> str:
    return "without a deadline" if one.due_at is None else f"due at {one.due_at}"


def _until(end: datetime | timedelta | None) -> str:
    if isinstance(end, datetime):
        return f"until {end}"
    return "without a timeout" if end is None else f"with a timeout of {end}"


def _now(body: Body, error: BaseException | None = None) -> str:
    """What it does at the end of the records."""
    if error is not None:
        text = f": {error}" if str(error) else ""
        return f"now raises {failures.error_type(error)}{_cut(text)}"
    if body.is_over:
        return "now ends without it"
    waits = ", ".join(call.describe() for call in list(body.open.values())[:3])
    return f"now waits for {waits}" if waits else "now waits for a timer of its event loop"


def _shown(text: str | None) -> str:
    return _cut("null" if text is None else text)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _is_same_time(recorded: datetime, asked: datetime) -> bool:
    try:
        return asked.astimezone(UTC) == recorded
    except OverflowError:  # of a zone west or east of it, at the end or beginning of time
        return True


def _differs(
    body: Body,
    recorded: str,
    instead: str,
    record: StepCheckpoint | None = None,
    call: Operation | None = None,
) -> NonDeterminismError:
    place: Place | None = None
    if call is not None:
        place = call.place
    elif record is not None:
        place = (record.branch, record.step_index)
    return NonDeterminismError(
        f"execution {body.execution_id!r} has {recorded}, {instead}. {HOW_TO_MEND}",
        workflow_execution_id=body.execution_id,
        step_index=None if place is None else place[1],
        branch=None if place is None else place[0],
        recorded_name=None if record is None else record.step_name,
        current_name=None if call is None else call.name,
    )
