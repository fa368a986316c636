"""The slot of a named queue that an execution holds while its code runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from durable_workflow_sqlite.errors import StoreError

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.environment import Environment
    from durable_workflow_sqlite.records import WorkflowClaim, WorkflowExecution

KEPT_FOR: Final = timedelta(seconds=0.1)
"""What waits no longer than this keeps its slot: to free one and take it again are two writes."""

TRY_AGAIN_AFTER_S: Final = 1.0


class QueueSlot:
    """Of one execution. Its claim has taken the slot; the store frees it with the claim.

    is_held: False once the execution is saved as one that only waits, or has left its slot.
    """

    __slots__ = ("_claim", "_environment", "_key", "_leaving", "_queue", "_taking", "is_held")

    def __init__(
        self, environment: Environment, claim: WorkflowClaim, queue: str, key: str | None
    ) -> None:
        self._environment = environment
        self._claim = claim
        self._queue = queue
        self._key = key
        self._taking: asyncio.Task[bool] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self.is_held = True

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
            if self._leaving is not None:
                await self._leaving
            store = self._environment.store
            self.is_held = await store.take_slot(self._claim, self._queue, self._key)
        finally:
            self._taking = None
        return self.is_held

    def leave_until(self, until: datetime, when_free: Callable[[], None]) -> None:
        """No code runs before a time: if that is long, others of the queue go on meanwhile."""
        if self.is_held and until - self._environment.clock.now() > KEPT_FOR:
            self.is_held = False
            self._leaving = asyncio.create_task(self._leave(when_free))

    async def _leave(self, when_free: Callable[[], None]) -> None:
        while self._taking is None:
            try:
                await self._environment.store.leave_slot(self._claim)
            except StoreError as error:
                if not error.may_pass:
                    return  # the claim is lost, and the slot with it, or the worker stops
                await asyncio.sleep(TRY_AGAIN_AFTER_S)
            else:
                when_free()
                return


def slot_of(
    environment: Environment, record: WorkflowExecution, claim: WorkflowClaim
) -> QueueSlot | None:
    """None for an execution that is in no named queue."""
    if record.queue is None:
        return None
    return QueueSlot(environment, claim, record.queue, record.queue_key)
