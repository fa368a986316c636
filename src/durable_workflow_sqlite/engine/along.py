"""What the next write of an execution takes along: it can wait, and needs no commit of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from durable_workflow_sqlite.records import Progress, WorkflowPatch

AT_MOST: Final = 8
"""How many records each write may take along until one of these writes is committed."""


class Along:
    """Of one run.

    waiting: the patches that were passed and are not saved yet, and the newest progress of each
        step and branch.
    """

    __slots__ = ("_saving", "waiting")

    def __init__(self) -> None:
        self.waiting: list[WorkflowPatch | Progress] = []
        self._saving: asyncio.Event | None = None

    def add(self, patch: WorkflowPatch) -> None:
        self.waiting.append(patch)

    def replace(self, report: Progress) -> None:
        """Take along how much is done, and no older report of the same."""
        place = report.branch, report.step_index
        self.waiting[:] = [
            one
            for one in self.waiting
            if type(one) is not Progress or (one.branch, one.step_index) != place
        ]
        self.waiting.append(report)

    async def save_many(self, save: Callable[[WorkflowPatch | Progress], Awaitable[None]]) -> None:
        """Save what waits if it is too much to go along with every write.

        save: saves all that waits, whichever it is given.
        """
        while len(self.waiting) > AT_MOST:
            if self._saving is not None:  # another task is at it
                await self._saving.wait()
                continue
            self._saving = asyncio.Event()
            try:
                await save(self.waiting[0])
            finally:
                self._saving.set()
                self._saving = None

    def is_saved(self, record: WorkflowPatch | Progress) -> None:
        """It is recorded: the next write need not say it again."""
        if record in self.waiting:
            self.waiting.remove(record)
