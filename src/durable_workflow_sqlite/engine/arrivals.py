"""The signals that have come for one execution, and that nothing has taken yet."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable
from datetime import datetime

from durable_workflow_sqlite.engine.run import Run
from durable_workflow_sqlite.records import WorkflowSignal


class Arrivals:
    """Of each name that is waited for, the first signal. One that is known stays the first."""

    __slots__ = ("_by_name", "_in_order", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._by_name: dict[str, WorkflowSignal] = {}
        self._in_order: list[tuple[datetime, int, str]] = []

    async def load(self, names: Iterable[str]) -> None:
        """Look for signals of these names, where none is known."""
        run = self._run
        unknown = [name for name in names if name not in self._by_name]
        if not unknown:
            return
        try:
            signals = await run.environment.store.load_next_signals(run.id, unknown)
        except Exception as error:
            run.stop(error)
            raise
        for signal in signals:
            name, number = signal.signal_name, signal.workflow_signal_id
            assert number is not None
            self._by_name[name] = signal
            heapq.heappush(self._in_order, (signal.created_at, number, name))

    def first(self, names: Container[str]) -> WorkflowSignal | None:
        """The signal of these names that came first, of those that are known."""
        not_now: list[tuple[datetime, int, str]] = []
        found = None
        while self._in_order and found is None:
            one = self._in_order[0]
            signal = self._by_name.get(one[2])
            if signal is None or signal.workflow_signal_id != one[1]:
                heapq.heappop(self._in_order)  # it was taken
            elif one[2] in names:
                found = signal
            else:
                not_now.append(heapq.heappop(self._in_order))
        for one in not_now:
            heapq.heappush(self._in_order, one)
        return found

    def named(self, name: str) -> WorkflowSignal | None:
        """The first signal of one name, of those that are known."""
        return self._by_name.get(name)

    def take(self, signal: WorkflowSignal) -> None:
        """It is about to be taken: the next one of its name is not known."""
        self._by_name.pop(signal.signal_name, None)
