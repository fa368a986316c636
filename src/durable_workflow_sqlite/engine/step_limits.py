"""Limits for steps: which step of this worker begins next, and which slots its steps hold.

In one worker, the steps under one limit and key begin in the order in which they came. Between
workers, chance decides. A worker that has begun many of its own in a row leaves the next slot to
the others for a moment.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from durable_workflow_sqlite.records import Record, StepCheckpoint, StepSlot, StepStatus

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.clock import Clock, Scheduler
    from durable_workflow_sqlite.protocol import CheckpointStore

LOOK_AGAIN_S: Final = 0.5
"""How often a step looks for a free slot, if nothing tells it of one."""

_INTENT: Final = StepStatus.INTENT

IN_A_ROW: Final = 10
LEAVE_TO_OTHERS_S: Final = 0.05


class StepLimits:
    """Of one engine."""

    def __init__(self, store: CheckpointStore, clock: Clock, scheduler: Scheduler) -> None:
        self.store = store
        self.clock = clock
        self.scheduler = scheduler
        self.in_a_row: Counter[str] = Counter()
        """By limit, how many steps have waited and begun here since others had their chance."""
        self._lines: dict[tuple[str, str | None], deque[Turn]] = {}

    def turn(self, limit: str, key: str | None) -> Turn:
        """A place at the end of the line."""
        turn = Turn(self, limit, key)
        line = self._lines.get((limit, key))
        if line is None:
            self._lines[limit, key] = deque((turn,))
            turn.begins_at_once = True
        else:
            line.append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        line = self._lines[turn.limit, turn.key]
        line.remove(turn)
        if not line:
            del self._lines[turn.limit, turn.key]
        else:
            line[0].wake()

    def is_first(self, turn: Turn) -> bool:
        return self._lines[turn.limit, turn.key][0] is turn

    def look(self, limit: str | None = None) -> None:
        """There may be a free slot of a limit, or of any."""
        if not self._lines:
            return
        for (name, _), line in self._lines.items():
            if limit is None or name == limit:
                line[0].wake()


class Turn:
    """The place of a step in the line of its limit, until it has begun.

    begins_at_once: whether nobody else was in the line when it came.
    """

    __slots__ = ("_limits", "_woken", "begins_at_once", "key", "limit")

    def __init__(self, limits: StepLimits, limit: str, key: str | None) -> None:
        self._limits = limits
        self.limit = limit
        self.key = key
        self._woken: asyncio.Future[None] | None = None
        self.begins_at_once = False

    @property
    def is_first(self) -> bool:
        return self._limits.is_first(self)

    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def leave(self) -> None:
        """It has begun, or will not."""
        self._limits.leave(self)

    async def comes(self) -> None:
        """Wait until it is the first, and a slot seems to be free.

        Raises LimitNotFoundError, StoreError.
        """
        limits = self._limits
        while True:
            alarm: asyncio.Future[None] | None = None
            self._woken = asyncio.get_running_loop().create_future()
            waiting = {self._woken}
            if self.is_first:
                if limits.in_a_row[self.limit] >= IN_A_ROW:
                    limits.in_a_row[self.limit] = 0
                    await asyncio.sleep(LEAVE_TO_OTHERS_S)
                room = await limits.store.load_limit_room(self.limit, self.key, limits.clock.now())
                if room.is_free:
                    limits.in_a_row[self.limit] += 1
                    return
                if room.again_at is not None:
                    alarm = limits.scheduler.at(room.again_at)
                    waiting.add(alarm)
            try:
                await asyncio.wait(
                    waiting, timeout=LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                if alarm is not None:
                    alarm.cancel()


class HeldSlots:
    """The slots that the steps of one execution hold.

    held: by the places of the steps; None if none has ever held one.
    """

    __slots__ = ("_limits", "held")

    def __init__(self, limits: StepLimits) -> None:
        self._limits = limits
        self.held: dict[tuple[str, int], StepSlot] | None = None

    def takes(self, slot: StepSlot) -> None:
        """A step has begun with it."""
        if self.held is None:
            self.held = {}
        self.held[slot.branch, slot.step_index] = slot

    def freed_by(self, *records: Record) -> list[Record]:
        """The slots that are free with these records, to be saved beside."""
        return [
            _free(slot)
            for one in records
            if type(one) is StepCheckpoint and one.status is not _INTENT and one.attempt > 0
            if self.held and (slot := self.held.get((one.branch, one.step_index)))
        ]

    def saved(self, records: Iterable[Record]) -> None:
        """Those that are saved as free are free now."""
        for record in records:
            if type(record) is StepSlot and not record.is_held and self.held is not None:
                self.held.pop((record.branch, record.step_index), None)
                self._limits.look(record.limit)


def _free(slot: StepSlot) -> StepSlot:
    return StepSlot(
        workflow_execution_id=slot.workflow_execution_id,
        branch=slot.branch,
        step_index=slot.step_index,
        limit=slot.limit,
        key=slot.key,
        is_held=False,
        at=slot.at,
    )
