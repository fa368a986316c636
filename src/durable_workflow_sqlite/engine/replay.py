"""A replay's pace: errors are raised again in the order in which they came."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Final

from durable_workflow_sqlite.engine.activity import SETTLED_TURNS, Activity
from durable_workflow_sqlite.records import StepCheckpoint

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.execution import Execution

REPLAY_PATIENCE_S: Final = 1.0
"""For how long a replay waits for what is recorded where the body does something of its own."""

_LULL_PAUSE_S: Final = 0.002


class RecordedErrors:
    """Those of one execution that its replay has come to.

    An error ends more of the body than its own branch. So errors are raised again in the order in
    which they came, each once all that went before it has been replayed. One that its own branch
    caught, since it went on after it, ends nothing, and waits for nobody: what the branch did then
    may have come before an older error was heard of, in a life between.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._due: dict[tuple[datetime, str, int], None] = {}

    @property
    def are_due(self) -> bool:
        """Whether one waits for its turn."""
        return bool(self._due)

    async def turn_of(self, failed: StepCheckpoint) -> None:
        """Wait until every branch has got as far as its records of before reach."""
        execution, activity = self._execution, self._execution.activity
        if execution.history.goes_on_after((failed.branch, failed.step_index)):
            activity.words += 1
            return
        at = failed.completed_at or execution.record.created_at
        turn = (at, failed.branch, failed.step_index)
        self._due[turn] = None
        lull = Lull(activity)
        try:
            while turn != min(self._due) or (
                len(execution.history)
                and (
                    lull.turns < SETTLED_TURNS
                    or (lull.seconds < REPLAY_PATIENCE_S and execution.is_behind(at))
                )
            ):
                await lull.go_on()
        finally:
            del self._due[turn]
            activity.words += 1  # the replay goes on from here


class Lull:
    """How long no branch of an execution has said a word."""

    __slots__ = ("_activity", "_began_at", "_loop", "turns")

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._loop = asyncio.get_running_loop()
        self._begin()

    def _begin(self) -> None:
        self.turns = 0
        self._began_at = self._loop.time()

    @property
    def seconds(self) -> float:
        """What has passed of it."""
        return self._loop.time() - self._began_at

    async def go_on(self) -> None:
        """Let the branches have a turn; a long lull is not worth all turns that there are."""
        before = self._activity.words
        await asyncio.sleep(0 if self.turns < SETTLED_TURNS else _LULL_PAUSE_S)
        if before == self._activity.words:
            self.turns += 1
        else:
            self._begin()
