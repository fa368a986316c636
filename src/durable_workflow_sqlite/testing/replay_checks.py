"""Which executions of a sandbox are to be replayed from their records, and when."""

from __future__ import annotations

import msgspec

from durable_workflow_sqlite import ExecutionStatus, Record, StepCheckpoint, WorkflowExecution


class _Recorded(msgspec.Struct):
    """What has been saved of one execution."""

    status: ExecutionStatus
    rows: int = 0
    rows_checked: int = 0
    is_new: bool = True
    """Whether anything was saved since it was last replayed."""


class ReplayChecks:
    """What is recorded, and what of it has been replayed.

    A replay runs all from the beginning. So that a year of nights does not take a year squared,
    an execution with a long history is replayed when that has grown by an eighth, not at each rest;
    and at its end, or the test's, in any case.
    """

    def __init__(self) -> None:
        self._recorded: dict[str, _Recorded] = {}

    def is_saved(self, record: Record) -> None:
        """Something is committed."""
        if isinstance(record, StepCheckpoint):
            found = self._of(record.workflow_execution_id)
            found.rows += 1
            found.is_new = True
        elif isinstance(record, WorkflowExecution):
            found = self._of(record.workflow_execution_id)
            found.status = record.status
            found.is_new = True

    def take_due(self, *, at_last: bool = False) -> list[str]:
        """The executions to be replayed now: they rest or have ended, and are new enough."""
        due: list[str] = []
        for execution_id, found in self._recorded.items():
            is_final = found.status.is_terminal
            if not found.is_new or not (is_final or found.status is ExecutionStatus.SUSPENDED):
                continue
            if is_final or at_last or 8 * (found.rows - found.rows_checked) >= found.rows_checked:
                found.is_new, found.rows_checked = False, found.rows
                due.append(execution_id)
        return due

    def _of(self, execution_id: str) -> _Recorded:
        found = self._recorded.get(execution_id)
        if found is None:
            found = self._recorded[execution_id] = _Recorded(ExecutionStatus.RUNNING)
        return found
