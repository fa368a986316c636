"""The slot of a named queue that an execution holds while its code runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_workflow_sqlite.protocol import CheckpointStore
    from durable_workflow_sqlite.records import WorkflowClaim, WorkflowExecution


class QueueSlot:
    """Of one execution. Its claim has taken the slot; the store frees it with the claim.

    is_held: False once the execution is saved as one that only waits, or has given it up.
    """

    __slots__ = ("_claim", "_key", "_queue", "_store", "_taking", "is_held")

    def __init__(
        self, store: CheckpointStore, claim: WorkflowClaim, queue: str, key: str | None
    ) -> None:
        self._store = store
        self._claim = claim
        self._queue = queue
        self._key = key
        self._taking: asyncio.Task[bool] | None = None
        self.is_held = True

    async def give_up(self) -> None:
        """It waits for its children, and undoes after that: the slot is free meanwhile."""
        self.is_held = False
        await self._store.give_up_slot(self._claim)

    async def take(self) -> bool:
        """Take a slot again, before code runs; False if none is free. One that is held stays."""
        if self.is_held:
            return True
        if self._taking is None:
            # One for all that go on at once, whoever of them is cancelled meanwhile.
            self._taking = asyncio.create_task(self._take())
        return await asyncio.shield(self._taking)

    async def _take(self) -> bool:
        try:
            self.is_held = await self._store.take_slot(self._claim, self._queue, self._key)
        finally:
            self._taking = None
        return self.is_held


def slot_of(
    record: WorkflowExecution, claim: WorkflowClaim, store: CheckpointStore
) -> QueueSlot | None:
    """None for an execution that is in no named queue."""
    if record.queue is None:
        return None
    return QueueSlot(store, claim, record.queue, record.queue_key)
