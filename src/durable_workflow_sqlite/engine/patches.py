"""The patches of one execution: which way it takes where its code was changed.

An execution that comes to a patch for the first time takes the new way, and that is recorded with
the next write. One that came there before the code had the patch takes the old way: its records go
on behind that place, and none of them is the patch. So the answer is the same on every replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from durable_workflow_sqlite.errors import NonDeterminismError
from durable_workflow_sqlite.records import WorkflowPatch


class Patches:
    """Those that an execution has passed, found by branch and name.

    new: those that it has passed in this run, and that are not saved yet.
    is_over: whether the workflow function has ended, and is only run again to know what to undo.
    """

    __slots__ = ("_answers", "_recorded", "is_over", "new")

    def __init__(self, recorded: Iterable[WorkflowPatch] = ()) -> None:
        # None where it would be empty: hardly an execution has a patch, and many are in memory.
        self._recorded = {(one.branch, one.patch_name) for one in recorded} or None
        self._answers: dict[tuple[str, str], bool] | None = None
        self.new: list[WorkflowPatch] | None = None
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
        answers = self._answers = self._answers or {}
        answer = answers.get(key)
        if answer is None:
            answer = self._recorded is not None and key in self._recorded
            if not answer and not self.is_over and not goes_on_after(heard):
                answer = True
                self.new = self.new or []
                self.new.append(
                    WorkflowPatch(
                        workflow_execution_id=execution_id,
                        branch=branch,
                        patch_name=name,
                        event=heard,
                    )
                )
            answers[key] = answer
        return answer

    def is_saved(self, patch: WorkflowPatch) -> None:
        """It is recorded: the next write need not say it again."""
        self._recorded = self._recorded or set()
        self._recorded.add((patch.branch, patch.patch_name))
        if self.new and patch in self.new:
            self.new.remove(patch)


def old_way_is_gone(
    execution_id: str, branch: str, name: str, how_to_mend: str
) -> NonDeterminismError:
    """The error for an execution that took the way that the code has no longer."""
    where = f" in branch {branch!r}" if branch else ""
    return NonDeterminismError(
        f"execution {execution_id!r} came to the place of patch {name!r}{where} before the code had"
        f" it. So it needs the old code, which is gone, as deprecate_patch({name!r}) says. It was"
        f" left as it is. {how_to_mend}",
        workflow_execution_id=execution_id,
        branch=branch,
        current_name=name,
    )
