"""The numbers that the outcomes of one execution get: its workflow function gets them in order."""

from __future__ import annotations

from durable_workflow_sqlite.engine.history import LONG_HISTORY, warn_of_long_history
from durable_workflow_sqlite.engine.under_way import Pending


class EventNumbers:
    """Of one run.

    A number that no event has looks like a row that somebody deleted. So a number that was not
    used is taken by the next outcome, unless a later one is taken already.
    """

    __slots__ = ("_execution_id", "_last", "_last_written", "untold")

    def __init__(self, execution_id: str, last: int) -> None:
        """last: of what is recorded."""
        self._execution_id = execution_id
        self._last = self._last_written = last
        self.untold: dict[int, Pending] = {}
        """What has a number, and was not told to the workflow function yet."""

    def take(self, pending: Pending) -> int:
        """The number of an outcome that is about to be written."""
        number = self._last = self._last + 1
        if number == LONG_HISTORY:
            warn_of_long_history(self._execution_id)
        self.untold[number] = pending
        return number

    def give_back(self, number: int) -> None:
        """Nothing was written with it."""
        del self.untold[number]
        self._last = max(self._last_written, max(self.untold, default=0))

    def leave(self, number: int) -> None:
        """It may have been written, so no other outcome takes it; and it is told to nobody."""
        del self.untold[number]

    def is_written(self, number: int) -> None:
        """It is committed."""
        self._last_written = max(self._last_written, number)

    def forget_what_is_recorded(self) -> None:
        """The workflow function has ended: what is recorded of it reaches nobody."""
        self.untold = {n: one for n, one in self.untold.items() if not one.is_recorded}
