"""The records of executions that a replay needs, for a check of code, a test, or a file."""

from __future__ import annotations

from typing import Final

import msgspec

from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import StepCheckpoint, WorkflowExecution, WorkflowPatch

FORMAT: Final = 1
"""The version of the form of an exported history."""


class ExecutionHistory(msgspec.Struct, frozen=True, kw_only=True):
    """All that a replay of one execution needs: its row, its steps, the patches it has passed.

    workflow_type, version: what it was started with.
    """

    format: int = FORMAT
    workflow_type: str
    version: int
    execution: WorkflowExecution
    checkpoints: tuple[StepCheckpoint, ...]
    patches: tuple[WorkflowPatch, ...] = ()

    def to_json(self) -> str:
        """As `durable-workflow export` writes it."""
        return msgspec.json.encode(self).decode()


class UnreadableHistory(msgspec.Struct, frozen=True, kw_only=True):
    """An execution whose records no engine can read, and why."""

    execution_id: str
    workflow_type: str | None
    version: int | None
    status: str
    problem: str


def history_from_json(text: str | bytes) -> ExecutionHistory:
    """The history that `to_json` has written. Raises SerializationError for anything else."""
    try:
        found = msgspec.json.decode(text, type=ExecutionHistory)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise SerializationError(f"not an exported history of an execution: {error}") from error
    if found.format != FORMAT:
        raise SerializationError(
            f"the history has format {found.format}, and this library reads {FORMAT}: update the"
            " library, or export it again"
        )
    return found
