"""What this worker knows of the pauses of workflows, of queues and of everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import Pause, PauseScope, WorkflowExecution


class Holds:
    """The pauses as they were read last; the store has the truth, and claims nothing of them.

    changed: told when other pauses were read than before.
    """

    def __init__(self, store: CheckpointStore, changed: Callable[[], None]) -> None:
        self._store = store
        self._changed = changed
        self._pauses: Sequence[Pause] = ()
        self._reading = asyncio.Lock()

    async def look(self) -> Sequence[Pause]:
        """The pauses now. One reads after the other: what is kept is what was read last."""
        async with self._reading:
            pauses = await self._store.load_pauses()
            if pauses != self._pauses:
                self._pauses = pauses
                self._changed()
        return pauses

    def why(self, record: WorkflowExecution, workflow_type: str) -> str | None:
        """Why an execution may not go on, in words; None if nothing holds it."""
        if record.paused_at is not None:
            return f"is paused{_by(record.paused_by, record.paused_at, record.paused_reason)}"
        if record.paused_with is not None:
            return f"is left to be resumed: {record.paused_with!r}, above it, is paused"
        for one in self._pauses:
            if one.holds(workflow_type, record.queue):
                is_all = one.scope is PauseScope.ALL
                what = "everything" if is_all else f"{one.scope.lower()} {one.name!r}"
                paused = _by(one.paused_by, one.paused_at, one.paused_reason)
                return f"is left to be resumed: {what} is paused{paused}"
        return None


def _by(who: str | None, since: datetime, reason: str | None) -> str:
    text = "" if who is None else f" by {who}"
    text += f" since {since:%Y-%m-%dT%H:%M:%SZ}"
    return text if reason is None else f"{text}: {reason}"
