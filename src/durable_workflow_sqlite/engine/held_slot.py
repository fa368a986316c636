"""The slot of one execution: held while its code runs, and lent while it only waits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from durable_workflow_sqlite.engine.queue_slot import QueueSlot
from durable_workflow_sqlite.engine.slots import Slots
from durable_workflow_sqlite.engine.under_way import UnderWay

SOMETIME: Final = datetime.max.replace(tzinfo=UTC)
"""When what others do may end."""


class HeldSlot:
    """id: of the execution. under_way: what runs functions of the user now, or is about to.

    slots: where it holds one while its code runs; None if it was started here, and not claimed.
    queue_slot: that of its named queue, if it is in one.
    """

    __slots__ = ("_is_without_slot", "id", "queue_slot", "slots", "under_way")

    def __init__(self, execution_id: str) -> None:
        self.id = execution_id
        self.slots: Slots | None = None
        self.queue_slot: QueueSlot | None = None
        self._is_without_slot = False
        self.under_way: dict[UnderWay, None] = {}

    def leave_until_slot(self) -> None:
        """Take it out of memory: no slot of its queue is free, so it waits in the queue."""
        raise NotImplementedError

    def begins_to_wait(
        self, one: UnderWay, *, until: datetime | None = None, for_thread: bool = False
    ) -> None:
        """For a time, for others, or for a thread: it may be cancelled meanwhile."""
        one.interruptible = one.is_pausing = True
        one.waits_for_thread = for_thread
        one.pauses_until = until
        self.lend_slot_if_waiting()

    def waits_no_more(self, one: UnderWay) -> None:
        """It goes on."""
        one.interruptible = one.is_pausing = one.waits_for_thread = False
        one.pauses_until = None
        self.take_slot()

    def lend_slot_if_waiting(self) -> None:
        """If all that is under way only waits, others may be claimed in its place."""
        if self.slots is None or not all(one.is_pausing for one in self.under_way):
            return
        times = [one.pauses_until for one in self.under_way if one.pauses_until is not None]
        if self.queue_slot is not None and times and len(times) == len(self.under_way):
            self.queue_slot.leave_until(min(times), self.slots.freed_in_queue)
        if any(one.waits_for_thread for one in self.under_way):
            self._is_without_slot = True
            self.slots.lend_for_thread(self.id)
        else:
            self.lend_slot()

    def cut_off_what_waits(self) -> None:
        """Cancel what waits for its next attempt, or for a thread."""
        for one in list(self.under_way):
            if one.is_pausing and one.interruptible and one.task is not None:
                one.task.cancel()

    def cut_off(self) -> None:
        """Cancel what may be cancelled of what is under way."""
        for one in list(self.under_way):
            if one.interruptible and one.task is not None:
                one.task.cancel()

    async def take_queue_slot(self) -> bool:
        """Before its code goes on. False if no slot of its queue is free: then it leaves."""
        if self.queue_slot is None or await self.queue_slot.take():
            return True
        self.leave_until_slot()
        return False

    def take_slot(self) -> None:
        """Its code runs again."""
        self._is_without_slot = False
        if self.slots is not None:
            self.slots.take(self.id)

    def leave_slot(self) -> None:
        """It has left this worker: it takes no slot again."""
        self.lend_slot()
        if self.slots is not None:
            self.slots.clear(self.id)
        self.slots = None

    def lend_slot(self) -> None:
        """It only waits: others may be claimed in its place."""
        self._is_without_slot = True
        if self.slots is not None:
            self.slots.lend(self.id)
