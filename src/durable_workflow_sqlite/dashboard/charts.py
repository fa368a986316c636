"""Charts as places and sizes: columns by the hour, and bars side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from durable_workflow_sqlite.reading.overview import Hour

HEIGHT: Final = 140
"""Of the columns, in pixels; places from left to right are percentages, so charts fit any page."""

_LAST_LABEL: Final = 90.0
"""A label that begins after that would be cut off."""

_LEFT: Final = 7.0
"""Where the columns begin: the numbers stand before."""


class Part(NamedTuple):
    """A part of a column. look: a class of the style sheet."""

    look: str
    y: float
    height: float


class Column(NamedTuple):
    """An hour. mark: at which height a line is drawn across it, None for none."""

    words: str
    x: float
    width: float
    parts: tuple[Part, ...]
    mark: float | None


class Label(NamedTuple):
    """A text at an axis, and its line. is_last: it ends there, and does not begin there."""

    at: float
    text: str
    is_last: bool = False


class Chart(NamedTuple):
    """Columns, their axes, and what they show in a sentence."""

    columns: list[Column]
    numbers: list[Label]
    hours: list[Label]
    summary: str


def throughput_chart(hours: Sequence[Hour]) -> Chart:
    """What ended in each hour, by its outcome, and how much began."""
    ended = [one.completed + one.failed + one.cancelled for one in hours]
    began = [one.began for one in hours]
    top = _top(max([*ended, *began, 0]))
    columns = [
        _column(
            number,
            len(hours),
            f"{_hours(one)}: {one.began:,} began; {one.completed:,} completed,"
            f" {one.failed:,} failed, {one.cancelled:,} cancelled",
            (("completed", one.completed), ("failed", one.failed), ("cancelled", one.cancelled)),
            top,
            one.began,
        )
        for number, one in enumerate(hours)
    ]
    summary = (
        f"In the last {len(hours)} hours {sum(began):,} began;"
        f" {sum(one.completed for one in hours):,} completed,"
        f" {sum(one.failed for one in hours):,} failed,"
        f" {sum(one.cancelled for one in hours):,} were cancelled."
    )
    return Chart(columns, _numbers(top), _hour_labels(hours), summary)


def failures_chart(hours: Sequence[Hour]) -> Chart:
    """What failed in each hour."""
    failed = [one.failed for one in hours]
    top = _top(max([*failed, 0]))
    columns = [
        _column(
            number,
            len(hours),
            f"{_hours(one)}: {one.failed:,} failed",
            (("failed", one.failed),),
            top,
            None,
        )
        for number, one in enumerate(hours)
    ]
    total = sum(failed)
    summary = f"In the last {len(hours)} hours {total:,} failed."
    if total:
        most = max(hours, key=lambda one: one.failed)
        summary += f" The most in one hour were {most.failed:,}, {_hours(most)} UTC."
    return Chart(columns, _numbers(top), _hour_labels(hours), summary)


def _column(
    number: int,
    of: int,
    words: str,
    parts: Sequence[tuple[str, int]],
    top: int,
    mark: int | None,
) -> Column:
    room = (100 - _LEFT) / of
    drawn: list[Part] = []
    ground = float(HEIGHT)
    for look, count in parts:
        if count:
            height = max(count / top * HEIGHT, 1.5)  # the least that is seen
            ground -= height
            drawn.append(Part(look, round(ground, 1), round(height, 1)))
    return Column(
        words=words,
        x=round(_LEFT + room * (number + 0.14), 3),
        width=round(room * 0.72, 3),
        parts=tuple(drawn),
        mark=None if not mark else round(HEIGHT - mark / top * HEIGHT, 1),
    )


def _hours(one: Hour) -> str:
    return f"{one.start:%H}:00 to {(one.start.hour + 1) % 24:02}:00"


def _top(most: int) -> int:
    """A round number that is not below it."""
    size = 1
    while True:
        for step in (1, 2, 4, 6, 10):
            if step * size >= max(most, 2):
                return step * size
        size *= 10


def _numbers(top: int) -> list[Label]:
    return [
        Label(HEIGHT, "0"),
        Label(HEIGHT / 2, _short(top // 2)),
        Label(0, _short(top)),
    ]


def _short(number: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:g} {unit}"
    return str(number)


def _hour_labels(hours: Sequence[Hour]) -> list[Label]:
    """Every sixth hour, at the beginning of its column; the last may end at the edge."""
    room = (100 - _LEFT) / max(len(hours), 1)
    labels: list[Label] = []
    for number, one in enumerate(hours):
        if one.start.hour % 6 == 0:
            at, text = round(_LEFT + room * number, 3), f"{one.start:%H}:00"
            is_last = at > _LAST_LABEL
            labels.append(Label(100 if is_last else at, text, is_last))
    return labels
