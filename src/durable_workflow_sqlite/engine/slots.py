"""The room of an engine for executions that it takes on: one slot for each whose code runs."""

from __future__ import annotations

from collections.abc import Callable


class Slots:
    """Which executions hold a slot.

    number: how many may be taken on at once. One that goes on after a wait takes its slot again
    without waiting for one: nothing more is taken on until there is room.
    when_free: called when a slot is free again.
    """

    def __init__(self, number: int, when_free: Callable[[], None]) -> None:
        self._number = number
        self._when_free = when_free
        self._taken: dict[str, None] = {}

    @property
    def room(self) -> int:
        """How many more may be taken on."""
        return self._number - len(self._taken)

    def take(self, execution_id: str) -> None:
        """Its code runs from now on, or is about to."""
        self._taken[execution_id] = None

    def free(self, execution_id: str) -> None:
        """It only waits from now on, or has ended, or was let go of."""
        self._taken.pop(execution_id, None)
        self._when_free()

    def lend(self, execution_id: str) -> None:
        """`free`, for a while: others may be taken on if there was no room for them."""
        had_room = self.room > 0
        self._taken.pop(execution_id, None)
        if not had_room:
            self._when_free()
