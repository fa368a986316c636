"""What an engine with the code at hand would do with one execution: go on, or leave it as it is.

It is the replay of an engine, up to the place where functions of steps would run. `checking` is
stricter: it is for tests, and looks also at what an engine does not compare.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import Context
from enum import StrEnum
from typing import Final

from durable_workflow_sqlite.engine import failures, serialization
from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.checking import body_of
from durable_workflow_sqlite.engine.context import WorkflowContext
from durable_workflow_sqlite.engine.error_codec import ErrorCodec
from durable_workflow_sqlite.engine.gaps import Gaps
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.mistakes import is_failure, mistake_in, trouble_of
from durable_workflow_sqlite.engine.replay import check_all_was_asked_for, replay_events
from durable_workflow_sqlite.engine.undoing import check_can_be_undone
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import (
    NonDeterminismError,
    SerializationError,
    StepNotAwaitedError,
    StoreCorruptError,
    WorkflowCodeError,
    WorkflowStuckError,
)
from durable_workflow_sqlite.records import (
    TERMINAL_STATUSES,
    ExecutionStatus,
    StepCheckpoint,
    WorkflowExecution,
    WorkflowPatch,
)

_CODEC: Final = ErrorCodec()

_ENDED: Final = TERMINAL_STATUSES | {ExecutionStatus.COMPENSATING}

_UNDONE: Final = _ENDED - {ExecutionStatus.COMPLETED}

_OF_CODE: Final = (NonDeterminismError, StepNotAwaitedError, WorkflowCodeError)

_FORMAT: Final = failures.default_error_formatter


class Verdict(StrEnum):
    """What would become of an execution.

    STOPS: the code does something else than is recorded, or has a mistake. UNREADABLE: the code
    cannot read its input, or what is recorded. NO_WORKFLOW: no workflow here has its type and
    version. DAMAGED: somebody has edited or deleted rows, so no code can go on with it.
    """

    GOES_ON = "goes on"
    STOPS = "stops"
    UNREADABLE = "cannot be read"
    NO_WORKFLOW = "no workflow"
    DAMAGED = "damaged"


def foresee(
    definition: AnyWorkflow,
    record: WorkflowExecution,
    checkpoints: Iterable[StepCheckpoint],
    patches: Iterable[WorkflowPatch] = (),
    *,
    codec: ErrorCodec = _CODEC,
    context: Context | None = None,
) -> tuple[Verdict, Exception | None]:
    """What an engine with this definition would do, and what it would leave the execution with.

    If it goes on, there may be an error, too: what would stop it if it had to be undone then.

    It runs the workflow function and no action, writes nothing, and needs neither a store nor an
    event loop. An execution that is over is replayed as if it were not: up to its last event.
    """
    checkpoints = tuple(checkpoints)
    try:
        history = RecordedHistory(checkpoints, patches=patches)
        body = body_of(definition, record, history)
    except StoreCorruptError as error:
        return Verdict.DAMAGED, error
    variables = (context or definition.variables).copy()
    try:
        args = definition.decode_input(record.input_data)
    except Exception as error:  # noqa: BLE001 - whatever types of the user raise
        return Verdict.UNREADABLE, error
    try:
        body.begin(definition.function, WorkflowContext(body), args, variables)
        _replay(definition, record, body, history, codec)
    except StoreCorruptError as error:
        return Verdict.DAMAGED, error
    except Exception as error:  # noqa: BLE001 - whatever types of the user raise
        is_of_code = error is body.trouble or isinstance(error, _OF_CODE)
        return Verdict.STOPS if is_of_code else Verdict.UNREADABLE, error
    else:
        trouble = _at_the_edge(definition, record, body)
        if trouble is not None:
            return Verdict.STOPS, trouble
        if record.status.is_terminal:
            return Verdict.GOES_ON, None
        trouble = _undoing_stops_with(body, checkpoints)
        is_undone = record.status is ExecutionStatus.COMPENSATING or (
            body.is_over and body.result()[1] is not None
        )
        if trouble is None or not is_undone:
            return Verdict.GOES_ON, trouble
        is_unreadable = isinstance(trouble, SerializationError)
        return Verdict.UNREADABLE if is_unreadable else Verdict.STOPS, trouble
    finally:
        body.drop()


def _replay(
    definition: AnyWorkflow,
    record: WorkflowExecution,
    body: Body,
    history: RecordedHistory,
    codec: ErrorCodec,
) -> None:
    events, last = history.events, record.last_event
    gaps = Gaps(events, last)
    if last is not None:
        events = [one for one in events if (one.event or 0) <= last]
    try:
        if body.trouble is not None:
            raise body.trouble
        replay_events(body, events, gaps, codec)
        if last is None and record.status not in _UNDONE:
            check_all_was_asked_for(body)
    except NonDeterminismError:
        gaps.refuse(body)
        error = body.result()[1] if body.is_over and body.trouble is None else None
        mistake = error and mistake_in(error, definition.stops_on, body.outcome_errors)
        if mistake is not None:
            raise trouble_of(body, mistake, _FORMAT, is_replayed=True) from mistake
        raise
    gaps.refuse(body)


def _at_the_edge(
    definition: AnyWorkflow, record: WorkflowExecution, body: Body
) -> Exception | None:
    """What is wrong with what the function does behind its records, before a step of it runs."""
    if record.status in _ENDED:
        if record.status is ExecutionStatus.COMPLETED and body.is_over:
            error = body.result()[1]
            return None if error is None else _what_becomes_of(definition, body, error)
        return None
    if not body.is_over:
        if not body.is_stuck:
            return None
        return WorkflowStuckError(
            f"the workflow of execution {body.execution_id!r} waits{body.where_it_waits()}, and"
            " no step, sleep, signal or timer is open that could wake it",
            workflow_execution_id=body.execution_id,
        )
    result, error = body.result()
    body.end()
    if error is None:
        error = _why_unfit(definition, body, result)
    return None if error is None else _what_becomes_of(definition, body, error)


def _undoing_stops_with(body: Body, checkpoints: Iterable[StepCheckpoint]) -> Exception | None:
    try:
        check_can_be_undone(body.execution_id, body.undoable, RecordedHistory(checkpoints))
    except Exception as error:  # noqa: BLE001 - whatever types of the user raise
        return error
    return None


def _why_unfit(definition: AnyWorkflow, body: Body, result: object) -> Exception | None:
    if calls := body.calls.take_unawaited():
        return StepNotAwaitedError(
            f"the workflow of execution {body.execution_id!r} now calls {calls[0].describe()} and"
            " never awaits it",
            workflow_execution_id=body.execution_id,
            step_name=calls[0].name,
            step_index=calls[0].place[1],
            branch=calls[0].place[0],
        )
    if body.following is not None:
        if result is body.following:
            return None
        return WorkflowCodeError(
            f"the workflow function of execution {body.execution_id!r} now calls continue_as_new,"
            " and does not return what that gives",
            workflow_execution_id=body.execution_id,
        )
    try:
        what = f"the result of workflow {definition.name!r}"
        serialization.round_trip(result, definition.result_type, what)
    except Exception as unfit:  # noqa: BLE001 - whatever a type of the user does
        return unfit
    return None


def _what_becomes_of(definition: AnyWorkflow, body: Body, error: BaseException) -> Exception | None:
    """What the execution is left in trouble with; None if it fails with the error as usual."""
    if isinstance(error, Exception) and (isinstance(error, _OF_CODE) or body.is_refused(error)):
        return error
    mistake = mistake_in(error, definition.stops_on, body.outcome_errors)
    if mistake is None and not failures.ends_the_program(error) and is_failure(error):
        return None
    trouble = trouble_of(body, mistake or error, _FORMAT)
    trouble.__cause__ = error
    return trouble
