"""The states and ends of executions, for callers that wait here; wherever these run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from durable_workflow_sqlite.engine import results
from durable_workflow_sqlite.engine.access import Access, States
from durable_workflow_sqlite.engine.outcome import Outcome
from durable_workflow_sqlite.records import CANCEL_SIGNAL, WorkflowExecution


async def states(access: Access, execution_id: str) -> AsyncGenerator[WorkflowExecution, None]:
    """Every state of an execution; see `DurableEngine.observe`."""
    coming_in = access.listen(execution_id)
    try:
        state = await access.load(execution_id)
        yield state
        while not state.status.is_terminal:
            before, state = state, await _next_state(access, state, coming_in)
            if state.status is not before.status:
                yield state
    finally:
        access.listen_no_more(execution_id, coming_in)


async def _next_state(
    access: Access, state: WorkflowExecution, coming_in: States
) -> WorkflowExecution:
    execution_id = state.workflow_execution_id
    coming = coming_in.next()
    change = access.changes.change_of(execution_id, state.status)
    either: list[asyncio.Future[Any]] = [coming, change]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if coming.done():
            return coming.result()
        change.result()
    finally:
        coming.cancel()
        change.cancel()
    return await access.load(execution_id)


async def result_of(access: Access, execution_id: str, result_type: Any) -> Any:
    """Wait for the end of an execution; see `ExecutionHandle.result`."""
    while True:
        if (execution := access.executions.get(execution_id)) is not None:
            outcome = await execution.wait_outcome()
            if not (outcome.is_parked or outcome.continues):
                return results.result(outcome, result_type)
        state = await access.load(execution_id)
        if state.status.is_terminal:
            return results.result(Outcome(state), result_type)
        if (trouble := access.trouble_of(execution_id)) is not None:
            raise trouble
        if state.blocked_reason is not None:
            raise results.blocked(state)
        if state.trouble is not None and not await _is_tried_again(access, state):
            raise results.left_as_it_is(state)
        await access.changes.change_of(execution_id, state.status)
        access.check_open()


async def _is_tried_again(access: Access, state: WorkflowExecution) -> bool:
    """Whether this worker claims it now, or nobody has heard since that it is to be cancelled."""
    execution_id = state.workflow_execution_id
    if await access.will_claim(state) or execution_id in access.executions:
        return True
    requests = await access.store.load_pending_signals(execution_id, CANCEL_SIGNAL)
    return any(one.created_at >= state.updated_at for one in requests)
