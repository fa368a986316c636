"""The patches of one execution: which way it takes where its code was changed.

An execution that comes to a patch for the first time takes the new way, and that is recorded with
the next write. One that came there before the code had the patch takes the old way: its records go
on behind that place, and none of them is the patch. So the answer is the same on every replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from durable_workflow_sqlite.engine.along import Along
from durable_workflow_sqlite.errors import NonDeterminismError
from durable_workflow_sqlite.records import WorkflowPatch


class Patches:
    """Those that an execution has passed, found by branch and name.

    is_over: whether the workflow function has ended, and is only run again to know what to undo.
    """

    __slots__ = ("_along", "_answers", "_recorded", "is_over")

    def __init__(self, recorded: Iterable[WorkflowPatch], along: Along) -> None:
        """along: where those go that are passed now."""
        self._along = along
        self._recorded = {(one.branch, one.patch_name) for one in recorded}
        self._answers: dict[tuple[str, str], bool] = {}
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
                self._along.add(
                    WorkflowPatch(
                        workflow_execution_id=execution_id,
                        branch=branch,
                        patch_name=name,
                        event=heard,
                    )
                )
            self._answers[key] = answer
        return answer


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
