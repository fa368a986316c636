"""What is paused: executions, workflows, queues, everything."""

from __future__ import annotations

from datetime import datetime

import msgspec

from durable_workflow_sqlite.reading.findings import at
from durable_workflow_sqlite.records import Pause, PauseScope

EXECUTION = "EXECUTION"
"""The `paused_scope` of an execution that is paused itself."""

TREE = "TREE"
"""The `paused_scope` of an execution that is held because one above it is paused."""


class PausedExecution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that is paused itself. ttl_expires_at: when it must be over: a pause does not
    move that. held: how many below it are held with it; a count ends at `findings.COUNTED`."""

    id: str
    workflow_type: str | None
    status: str
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    ttl_expires_at: datetime | None
    held: int


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has paused.

    wholes: everything, and workflows and queues by name. executions: some that are paused
    themselves, the oldest first; executions_total: how many there are.
    """

    wholes: tuple[Pause, ...]
    executions: tuple[PausedExecution, ...]
    executions_total: int

    @property
    def is_all(self) -> bool:
        """Whether everything is paused."""
        return any(one.scope is PauseScope.ALL for one in self.wholes)

    def has(self, workflow_type: str) -> bool:
        """Whether a workflow is paused itself."""
        return any(
            one.scope is PauseScope.WORKFLOW and one.name == workflow_type for one in self.wholes
        )


def name_of(scope: str, name: str | None) -> str:
    """What is paused, in words. name: of the workflow or of the queue; of a tree, its top."""
    if scope == PauseScope.ALL:
        return "everything"
    if scope == TREE:
        return f"the tree of {name}"
    return "it" if scope == EXECUTION else f"{scope.lower()} {name}"


def option_of(scope: str, name: str | None) -> list[str]:
    """What follows the names of the commands `pause` and `resume`, to mean it."""
    if scope == TREE:
        return [name or "?"]
    return ["--all"] if scope == PauseScope.ALL else [f"--{scope.lower()}", name or "?"]


def says(since: datetime | None, by: str | None, reason: str | None) -> str:
    """Since when, by whom and why: what follows "is paused"."""
    who = "" if by is None else f" by {by}"
    return f"since {at(since)}{who}" + ("" if reason is None else f": {reason}")
