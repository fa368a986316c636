"""From times to places on a line of 100 units: to scale, or with the idle times squeezed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from durable_workflow_sqlite.dashboard.text import duration

Span = tuple[datetime, datetime]

_STEPS_S: Final = (
    *(m * 10.0**e for e in range(-6, 1) for m in (1, 2, 5)),
    *(10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400, 172_800, 604_800),
)
_TICKS: Final = 5
_GAP_SHARE: Final = 0.08
"""What a squeezed gap takes of the line."""


class Tick(NamedTuple):
    x: float
    label: str


class IdleSpan(NamedTuple):
    """A stretch in which nothing ran, drawn shorter than it was."""

    x: float
    width: float
    label: str


class Scale:
    """Places between 0 and 100 for the times of a span."""

    def __init__(self, start: datetime, end: datetime, gaps: Sequence[Span] = ()) -> None:
        self.start = start
        self.end = max(end, start + timedelta(microseconds=1))
        bounds = [self.start]
        for gap in gaps:
            bounds += gap
        bounds.append(self.end)
        lengths = [(b - a).total_seconds() for a, b in pairwise(bounds)]
        busy = sum(lengths[::2])
        share = min(_GAP_SHARE, 0.6 / max(len(gaps), 1))
        left = 100.0 * (1 - share * len(gaps))
        self._times = bounds
        self._places = [0.0]
        for index, length in enumerate(lengths):
            part = length / busy if busy else 1 / (len(gaps) + 1)
            width = share * 100 if index % 2 else left * part
            self._places.append(self._places[-1] + width)
        self.gaps = [
            IdleSpan(
                self._places[2 * number + 1],
                self._places[2 * number + 2] - self._places[2 * number + 1],
                duration(gap[1] - gap[0]),
            )
            for number, gap in enumerate(gaps)
        ]

    def place(self, time: datetime) -> float:
        if time <= self.start:
            return 0.0
        if time >= self.end:
            return 100.0
        index = bisect_right(self._times, time) - 1
        before, after = self._times[index], self._times[index + 1]
        share = (time - before) / (after - before) if after > before else 0.0
        return round(
            self._places[index] + share * (self._places[index + 1] - self._places[index]), 3
        )

    def ticks(self) -> list[Tick]:
        """Round times since the start; where gaps are squeezed, their labels say how long."""
        if self.gaps:
            return [Tick(0.0, "0")]
        length = (self.end - self.start).total_seconds()
        step = next((one for one in _STEPS_S if length / one <= _TICKS), length / _TICKS)
        ticks: list[Tick] = []
        for number in range(int(length / step) + 1):
            offset = timedelta(seconds=number * step)
            label = f"+{duration(offset)}" if number else "0"
            ticks.append(Tick(self.place(self.start + offset), label))
        return ticks


def idle_times(start: datetime, end: datetime, busy: Iterable[Span]) -> list[Span]:
    """The gaps between busy times that are worth squeezing: those that take most of the line."""
    gaps: list[Span] = []
    reached = start
    for begin, finish in sorted(busy):
        if begin > reached:
            gaps.append((reached, begin))
        reached = max(reached, finish)
    if end > reached:
        gaps.append((reached, end))
    shortest = (end - start) * _GAP_SHARE
    return [gap for gap in gaps if gap[1] - gap[0] > shortest]
