"""The room of an engine for executions that it claims: one slot for each whose code runs."""

from __future__ import annotations

from collections.abc import Callable


class Slots:
    """Which executions hold a slot.

    number: how many may be claimed at once. One that goes on after a wait takes its slot again
    without waiting for one: nothing more is claimed until there is room.
    when_free: called when a slot is free again, or code of a suspect runs no more.
    """

    def __init__(self, number: int, when_free: Callable[[], None]) -> None:
        self._number = number
        self._when_free = when_free
        self._taken: dict[str, None] = {}
        self._lent_for_threads: dict[str, None] = {}
        self._to_be_lent: dict[str, None] = {}
        """What waits for a thread too, and keeps its slot since so many others do."""
        self._suspects: set[str] = set()

    @property
    def room(self) -> int:
        """How many more may be claimed."""
        return self._number - len(self._taken)

    @property
    def has_suspect(self) -> bool:
        """Whether code of a suspect runs."""
        return not self._suspects.isdisjoint(self._taken)

    def suspect(self, execution_id: str) -> None:
        """Its workers died again and again: others like it wait while its code runs."""
        self._suspects.add(execution_id)

    def clear(self, execution_id: str) -> None:
        """It is not a suspect any more, or has left."""
        if execution_id in self._suspects:
            self._suspects.discard(execution_id)
            self._when_free()

    def take(self, execution_id: str) -> None:
        """Its code runs from now on, or is about to."""
        self._taken[execution_id] = None
        self._waits_for_no_thread(execution_id)

    def free(self, execution_id: str) -> None:
        """It only waits from now on, or has ended, or was released."""
        self._taken.pop(execution_id, None)
        self._suspects.discard(execution_id)
        self._waits_for_no_thread(execution_id)
        self._when_free()

    def freed_in_queue(self) -> None:
        """A slot of a named queue is free, so that there may be something to claim."""
        self._when_free()

    def lend(self, execution_id: str) -> None:
        """`free`, for a while: others may be claimed if they could not be before."""
        self._waits_for_no_thread(execution_id)
        self._lend(execution_id)

    def lend_for_thread(self, execution_id: str) -> None:
        """`lend`, while it waits for a thread.

        What is claimed in its place may need a thread, too. So only as many lend theirs as there
        are slots; the others keep theirs until one of these has its thread.
        """
        if len(self._lent_for_threads) < self._number:
            self._lent_for_threads[execution_id] = None
            self._lend(execution_id)
        else:
            self._to_be_lent[execution_id] = None

    def _lend(self, execution_id: str) -> None:
        is_missed = self.room <= 0 or execution_id in self._suspects
        self._taken.pop(execution_id, None)
        if is_missed:
            self._when_free()

    def _waits_for_no_thread(self, execution_id: str) -> None:
        self._to_be_lent.pop(execution_id, None)
        if execution_id in self._lent_for_threads:
            del self._lent_for_threads[execution_id]
            if self._to_be_lent:
                next_one = next(iter(self._to_be_lent))
                del self._to_be_lent[next_one]
                self.lend_for_thread(next_one)
