"""The patches of one execution: which way it takes where its code was changed.

An execution that comes to a patch for the first time takes the new way, and that is recorded with
the next write. One that came there before the code had the patch takes the old way: its records go
on behind that place, and none of them is the patch. So the answer is the same on every replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from durable_workflow_sqlite.errors import NonDeterminismError
from durable_workflow_sqlite.records import Progress, WorkflowPatch

ALONG_AT_MOST: Final = 8
"""How many patches each write may take along until one of these writes is committed."""


class Patches:
    """Those that an execution has passed, found by branch and name.

    new: those that it has passed in this run, and that are not saved yet: the next write takes them
        along. So it does with the newest progress of each step and branch.
    is_over: whether the workflow function has ended, and is only run again to know what to undo.
    """

    __slots__ = ("_answers", "_recorded", "_saving", "is_over", "new")

    def __init__(self, recorded: Iterable[WorkflowPatch] = ()) -> None:
        self._recorded = {(one.branch, one.patch_name) for one in recorded}
        self._answers: dict[tuple[str, str], bool] = {}
        self._saving: asyncio.Event | None = None
        self.new: list[WorkflowPatch | Progress] = []
        self.is_over = False

    def is_passed(
        self,
        execution_id: str,
        branch: str,
        name: str,
        heard: int,
        goes_on_after: Callable[[int], bool],
    ) -> bool:
        """Whether an execution takes the new way; the first answer stays.

        heard: the last event that its workflow function has got. goes_on_after: of its history.
        """
        key = branch, name
        answer = self._answers.get(key)
        if answer is None:
            answer = key in self._recorded
            if not answer and not self.is_over and not goes_on_after(heard):
                answer = True
                self.new.append(
                    WorkflowPatch(
                        workflow_execution_id=execution_id,
                        branch=branch,
                        patch_name=name,
                        event=heard,
                    )
                )
            self._answers[key] = answer
        return answer

    async def save_many(self, save: Callable[[WorkflowPatch | Progress], Awaitable[None]]) -> None:
        """Save the new patches if they are too many to go along with every write.

        save: saves all new patches, whichever it is given.
        """
        while len(self.new) > ALONG_AT_MOST:
            if self._saving is not None:  # another task is at it
                await self._saving.wait()
                continue
            self._saving = asyncio.Event()
            try:
                await save(self.new[0])
            finally:
                self._saving.set()
                self._saving = None

    def note(self, report: Progress) -> None:
        """The next write takes along how much is done, and no older report of the same."""
        place = report.branch, report.step_index
        self.new[:] = [
            one
            for one in self.new
            if type(one) is not Progress or (one.branch, one.step_index) != place
        ]
        self.new.append(report)

    def is_saved(self, record: WorkflowPatch | Progress) -> None:
        """It is recorded: the next write need not say it again."""
        if type(record) is WorkflowPatch:
            self._recorded.add((record.branch, record.patch_name))
        if record in self.new:
            self.new.remove(record)


def old_way_is_gone(
    execution_id: str, branch: str, name: str, how_to_mend: str
) -> NonDeterminismError:
    """The error for an execution that took a way that the code no longer has."""
    where = f" in branch {branch!r}" if branch else ""
    return NonDeterminismError(
        f"execution {execution_id!r} came to the place of patch {name!r}{where} before the code had"
        f" it. So it needs the old code, which is gone, as deprecate_patch({name!r}) says. It was"
        f" left as it is. {how_to_mend}",
        workflow_execution_id=execution_id,
        branch=branch,
        current_name=name,
    )
