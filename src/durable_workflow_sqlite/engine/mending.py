"""Changing the records of an execution that nobody works on, as a person wants: one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.history import StepHistory
from durable_workflow_sqlite.engine.results import not_found
from durable_workflow_sqlite.engine.undoing import UNSTORABLE
from durable_workflow_sqlite.errors import (
    ExecutionConflictError,
    NonDeterminismError,
    StoreCorruptError,
)
from durable_workflow_sqlite.records import (
    MENDED_SIGNAL,
    Record,
    SignalStatus,
    StepCheckpoint,
    StepStatus,
    TakenExecution,
    WorkflowExecution,
    WorkflowSignal,
)

_ABOUT_RECORDS: Final = (StoreCorruptError.__qualname__, NonDeterminismError.__qualname__)
"""Errors that a deleted row may cause."""


class Change(msgspec.Struct, frozen=True):
    """The record of the execution from now on, what is saved beside it, and what is forgotten."""

    becomes: WorkflowExecution
    records: list[Record]
    forget: list[StepCheckpoint] = []


async def mend(
    access: Access,
    execution_id: str,
    plan: Callable[[TakenExecution, datetime], Awaitable[Change]],
) -> tuple[WorkflowExecution, WorkflowExecution]:
    """Change an execution as it is planned for what it is now; its record before that, and now.

    Raises ExecutionConflictError if a worker has it, ExecutionNotFoundError, and what `plan` does.
    """
    access.check_open()
    execution = access.executions.get(execution_id)
    if execution is not None and (
        execution.trouble is not None or execution.record.status.is_terminal
    ):
        await execution.wait_outcome()  # it is just leaving
    elif execution is not None:
        raise refused(
            execution_id,
            "runs in this engine, or waits in its memory: nothing was changed. Dispose of the"
            " engine, and repeat this from another program",
        )
    await access.until_released(execution_id)
    while True:
        seen = await access.store.take_execution(execution_id)
        if seen is None:
            raise not_found(execution_id)
        now = max(access.clock.now(), seen.execution.updated_at)
        change = await plan(seen, now)
        if await access.store.mend_execution(
            seen, change.becomes, *change.records, forget=change.forget, now=now
        ):
            access.changes.changed(execution_id)
            return seen.execution, change.becomes


def as_open(record: WorkflowExecution, now: datetime, **changes: Any) -> WorkflowExecution:
    """The record of an execution that is neither blocked nor in trouble any more, nor over."""
    return msgspec.structs.replace(
        record,
        output_data=None,
        recovery_count=0,
        blocked_reason=None,
        trouble=None,
        available_at=None,
        updated_at=now,
        **changes,
    )


def to_whoever_left_it(execution_id: str, now: datetime) -> WorkflowSignal:
    """What tells the worker that has the execution, or has left it as it was, to look again."""
    return WorkflowSignal(
        workflow_execution_id=execution_id,
        signal_name=MENDED_SIGNAL,
        status=SignalStatus.DELIVERED,
        created_at=now,
    )


def is_about_records(trouble: str | None) -> bool:
    """Whether the records of an execution do not fit its code, or cannot be right."""
    return (trouble or "").startswith(_ABOUT_RECORDS)


def may_need_undoing(step: StepHistory) -> bool:
    """Whether a step with a compensation has taken effect, or may have, and was not undone."""
    last, undone = step.last, step.compensation
    if last is None or last.compensate_ref is None:
        return False
    if undone is not None and undone.status is StepStatus.COMPENSATED:
        return False
    return (
        undone is not None
        or last.status is StepStatus.COMPLETED
        or last.error_type == UNSTORABLE
        or step.is_in_doubt
    )


def missing_events(events: Iterable[StepCheckpoint]) -> list[int]:
    """The numbers that no event has, up to the last of these, which are in order."""
    missing: list[int] = []
    expected = 1
    for one in events:
        number = one.event or 0
        missing.extend(range(expected, number))
        expected = number + 1
    return missing


def refused(execution_id: str, why: str) -> ExecutionConflictError:
    return ExecutionConflictError(
        f"execution {execution_id!r} {why}", workflow_execution_id=execution_id
    )
