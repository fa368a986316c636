"""The executions of a sandbox, replayed from their records where they rest and where they end."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from durable_workflow_sqlite import (
    DurableWorkflowError,
    ExecutionStatus,
    Record,
    StepCheckpoint,
    WorkflowExecution,
)
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.testing.simulated_process import SimulatedProcess


class _Recorded(msgspec.Struct):
    """What has been saved of one execution."""

    status: ExecutionStatus
    rows: int = 0
    rows_checked: int = 0
    is_new: bool = True
    """Whether anything was saved since it was last replayed."""


class ReplayChecks:
    """What is recorded, and what of it has been replayed.

    A replay runs all from the beginning. At each wait, this would take too long for a long
    history. So such an execution is replayed when its history has grown by an eighth, and at its
    end or the end of the test.
    """

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._recorded: dict[str, _Recorded] = {}

    def is_saved(self, record: Record) -> None:
        """Something is committed."""
        if not self._is_on:
            return
        if isinstance(record, StepCheckpoint):
            found = self._of(record.workflow_execution_id)
            found.rows += 1
            found.is_new = True
        elif isinstance(record, WorkflowExecution):
            found = self._of(record.workflow_execution_id)
            found.status = record.status
            found.is_new = True

    async def replay_due(
        self, process: SimulatedProcess, workflows: Iterable[AnyWorkflow], *, at_last: bool = False
    ) -> None:
        """Replay what is due. Raises AssertionError if a replay differs from the records.

        at_last: nothing more is to come.
        """
        if not (due := self._take_due(at_last)):
            return
        assert process.engine is not None
        definitions = {one.record.workflow_id: one for one in workflows}
        for execution_id in due:
            taken = await process.store.take_execution(execution_id)
            definition = None if taken is None else definitions.get(taken.execution.workflow_id)
            if taken is None or definition is None:
                continue
            try:
                process.engine.check_replay(
                    definition, taken.execution, taken.checkpoints, taken.patches
                )
            except DurableWorkflowError as error:
                raise AssertionError(
                    "a replay from the records differs from the first run:"
                    f"\n    {error}\n"
                    "What a workflow function does must follow from its arguments, from what its"
                    " steps and signals gave it, and from ctx.now(), ctx.random() and ctx.uuid4()."
                    " Anything else belongs in a step. (check_replay=False turns this off.)"
                ) from error

    def _take_due(self, at_last: bool) -> list[str]:
        """The executions that rest or have ended, and of which enough is new."""
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
