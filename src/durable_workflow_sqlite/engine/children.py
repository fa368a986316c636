"""The children of an execution: starting them, and waiting for their ends before undoing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.actions import reference
from durable_workflow_sqlite.engine.child_calls import (
    ChildCall,
    ChildEnd,
    SendCall,
    SignalCall,
    end_of_record,
    read_end,
)
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.loop_backoff import SAVE_AGAIN_AFTER_S
from durable_workflow_sqlite.engine.run import Run
from durable_workflow_sqlite.engine.step_notifications import tell_complete
from durable_workflow_sqlite.engine.step_outcomes import CutOff
from durable_workflow_sqlite.errors import (
    ExecutionConflictError,
    StoreBusyError,
    StoreFullError,
)
from durable_workflow_sqlite.records import (
    CHILD_SIGNAL,
    NewExecution,
    StepCheckpoint,
    StepStatus,
    WorkflowExecution,
    WorkflowGuarantee,
    WorkflowSignal,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from durable_workflow_sqlite.engine.history import RecordedHistory


FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 1.0
"""Between two looks at children that are to end, the pauses grow from one to the other."""


async def record_sent(run: Run, call: SendCall) -> None:
    """Start a child or send a signal, and record it, in one transaction.

    Raises CutOff if nobody waits for it any more, before it was sent.
    """
    started_at = run.environment.clock.now()
    call.value = call.decode(call.output)
    while True:
        if call.is_given_up or run.is_finishing or run.stops_after_steps is not None:
            raise CutOff
        call.has_begun = True
        try:
            if isinstance(call, ChildCall):
                outcome = await _start(run, call, started_at)
            else:
                assert isinstance(call, SignalCall)
                outcome = _outcome(run, call, call.output, started_at)
                along = run.running(progressed=True)
                await run.save_taken(call, outcome, *along, send=[_signal(call, started_at)])
        except (StoreBusyError, StoreFullError):
            if run.trouble is not None:
                raise
            # The outcome of a step waits to be saved as well.
            await asyncio.sleep(SAVE_AGAIN_AFTER_S)
        else:
            break
    run.environment.look()
    tell_complete(run, outcome, started_at, replayed=False)


def _outcome(run: Run, call: SendCall, output: str, started_at: datetime) -> StepCheckpoint:
    return StepCheckpoint(
        workflow_execution_id=run.id,
        branch=call.place[0],
        step_index=call.place[1],
        step_name=call.name,
        status=StepStatus.COMPLETED,
        output_data=output,
        compensate_ref=None if call.compensate is None else reference(call.compensate),
        started_at=started_at,
        completed_at=run.completion_time(),
        event=run.numbers.take(call),
    )


async def _start(run: Run, call: ChildCall, started_at: datetime) -> StepCheckpoint:
    """Start a child; where this execution runs again from a step before it, another one.

    The child of before is left as it is. It was cancelled, or its effect may be undone.
    """
    number, execution_id = 1, call.to
    while True:
        child = _record_of(run, call, execution_id)
        new = NewExecution(workflow=call.definition.record, execution=child)
        output = serialization.to_json(execution_id, "the id of a child")
        call.value = execution_id
        outcome = _outcome(run, call, output, started_at)
        try:
            await run.save_taken(call, outcome, *run.running(progressed=True), start=[new])
        except ExecutionConflictError:
            found = await run.environment.store.load_execution(execution_id)
            if found is None or found.parent_execution_id != run.id:
                taken = ExecutionConflictError(
                    f"execution {run.id!r} cannot start {call.describe()}: another execution has"
                    f" the id {execution_id!r}",
                    workflow_execution_id=run.id,
                )
                run.stop(taken)
                raise taken from None
            number += 1
            execution_id = f"{call.to}~{number}"
        else:
            return outcome


def _record_of(run: Run, call: ChildCall, execution_id: str) -> WorkflowExecution:
    parent, now = run.record, run.environment.clock.now()
    return WorkflowExecution(
        workflow_execution_id=execution_id,
        workflow_id=call.definition.record.workflow_id,
        input_data=call.input_data,
        ttl_expires_at=None if call.ttl is None else later(now, call.ttl),
        guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        priority=parent.priority,
        queue=call.queue,
        queue_key=call.queue_key,
        available_at=now,
        parent_execution_id=run.id,
        root_execution_id=parent.root_execution_id or run.id,
        on_parent_end=call.on_parent_end,
        created_at=now,
        updated_at=now,
    )


def _signal(call: SignalCall, now: datetime) -> WorkflowSignal:
    return WorkflowSignal(
        workflow_execution_id=call.to,
        signal_name=call.signal_name,
        payload=call.payload,
        created_at=now,
    )


async def not_over(run: Run, children: Iterable[ChildCall]) -> list[str]:
    """The ids of those of some children that have not ended."""
    ids = [one.child_id for one in children if one.is_started]
    if not ids:
        return []
    statuses = await run.environment.store.load_statuses(ids)
    return [one for one in ids if one in statuses and not statuses[one].is_terminal]


async def until_over(run: Run, children: Collection[ChildCall]) -> None:
    """Wait until some children have ended; they have been asked to cancel."""
    pause = FIRST_PAUSE_S
    while await not_over(run, children):
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


async def end_of(run: Run, call: ChildCall, history: RecordedHistory) -> ChildEnd | None:
    """How a child ended, which is over; None if nothing says it any more."""
    name = CHILD_SIGNAL + call.child_id
    for signal in await run.environment.store.load_pending_signals(run.id, name):
        return read_end(signal.payload, call.child_id)
    for _, step in history.steps():
        last = step.last
        if last is not None and last.step_name == name and last.output_data is not None:
            return read_end(last.output_data, call.child_id)
    child = await run.environment.store.load_execution(call.child_id)
    if child is None or not child.status.is_terminal:
        return None
    return read_end(end_of_record(child), call.child_id)
