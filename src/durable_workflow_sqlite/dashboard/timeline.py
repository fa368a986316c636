"""The checkpoints of one execution as rows of a timeline: one row a step, in order of beginning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from durable_workflow_sqlite.dashboard.scale import Scale, Span, idle_times
from durable_workflow_sqlite.dashboard.text import duration
from durable_workflow_sqlite.reading.executions import StepAttempt, step_words
from durable_workflow_sqlite.records import CHILD_SIGNAL, StepKind, StepStatus, who_ran

ROWS_PER_PAGE: Final = 100
_NARROWEST: Final = 0.4
"""What can still be seen of a line that is as wide as a phone."""

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class StepState(StrEnum):
    """Where a step stands, in the words of the page."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    RUNNING = "running"
    RETRYING = "waits to retry"
    SLEEPING = "sleeps"
    WAITING = "waits"
    IN_DOUBT = "in doubt"
    ASKING = "waits for an answer"
    CUT_OFF = "cut off"
    UNDOING = "being undone"
    UNDONE = "undone"
    NOT_UNDONE = "could not be undone"


class Bar(NamedTuple):
    """A stretch of a row, in units of the line."""

    x: float
    width: float
    look: str
    title: str


@dataclass
class Row:
    """One step: its attempts, and its compensation."""

    branch: str
    index: int
    name: str
    kind: str
    attempts: list[StepAttempt] = field(default_factory=list[StepAttempt])
    compensation: StepAttempt | None = None
    state: StepState = StepState.CUT_OFF
    bars: list[Bar] = field(default_factory=list[Bar])

    @property
    def title(self) -> str:
        """Its name, for people."""
        return step_words(self.name)

    @property
    def child(self) -> str | None:
        """The id of the child whose end it waits for; None for any other row."""
        is_child = self.kind == StepKind.SIGNAL and self.name.startswith(CHILD_SIGNAL)
        return self.name.removeprefix(CHILD_SIGNAL) if is_child else None

    @property
    def last(self) -> StepAttempt | None:
        """The last attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def began_at(self) -> datetime:
        times = [one.started_at for one in self.records if one.started_at is not None]
        return min(times, default=_NEVER)

    @property
    def records(self) -> list[StepAttempt]:
        return [*self.attempts, *([] if self.compensation is None else [self.compensation])]

    @property
    def took(self) -> str:
        """From the first attempt to the end of the last; empty while it goes on."""
        last = self.last
        if last is None or last.completed_at is None or last.started_at is None:
            return ""
        if last.status == StepStatus.FAILED and last.due_at is not None:
            return ""
        return duration(last.completed_at - min(self.began_at, last.completed_at))

    @property
    def asks_to_undo(self) -> bool:
        """Whether it is its compensation that waits for an answer."""
        return self.compensation is not None and self.compensation.asks

    @property
    def can_resolve(self) -> bool:
        """Whether somebody may say what it returned."""
        return self.kind == StepKind.STEP and self.state in _TROUBLE - {StepState.NOT_UNDONE}

    @property
    def ran_in(self) -> str | None:
        """The execution that ran it, where this one is a fork that began with its records."""
        return None if self.last is None else who_ran(self.last.input_data)

    @property
    def is_trouble(self) -> bool:
        return self.state in _TROUBLE

    @property
    def look(self) -> str:
        """The name of an icon and of a colour."""
        return _LOOKS[self.state]

    @property
    def summary(self) -> str:
        """The row, read aloud."""
        count = len(self.attempts)
        words = f"{self.state}, {count} attempts" if count > 1 else str(self.state)
        return f"{words}, took {self.took}" if self.took else words


_TROUBLE: Final = {
    StepState.FAILED,
    StepState.IN_DOUBT,
    StepState.ASKING,
    StepState.NOT_UNDONE,
    StepState.RETRYING,
}


_LOOKS: Final = {
    StepState.COMPLETED: "COMPLETED",
    StepState.FAILED: "FAILED",
    StepState.TIMED_OUT: "SUSPENDED",
    StepState.RUNNING: "RUNNING",
    StepState.RETRYING: "RETRY",
    StepState.SLEEPING: "SUSPENDED",
    StepState.WAITING: "SUSPENDED",
    StepState.IN_DOUBT: "DOUBT",
    StepState.ASKING: "DOUBT",
    StepState.CUT_OFF: "CANCELLED",
    StepState.UNDOING: "COMPENSATING",
    StepState.UNDONE: "COMPENSATING",
    StepState.NOT_UNDONE: "FAILED",
}


class Timeline(NamedTuple):
    """A page of rows, with the scale that they are drawn to."""

    rows: list[Row]
    scale: Scale
    first: int
    """The number of the first row, from 1."""

    total: int
    page: int
    """From 1."""

    pages: int
    can_squeeze: bool


def rows_of(attempts: Iterable[StepAttempt], *, is_final: bool, is_worked_on: bool) -> list[Row]:
    """One row a step, in the order in which they began."""
    rows: dict[tuple[str, int], Row] = {}
    for one in attempts:
        place = (one.branch, one.step_index)
        row = rows.setdefault(place, Row(*place, one.step_name, one.kind))
        if one.attempt == 0:
            row.compensation = one
        else:
            row.attempts.append(one)
    for row in rows.values():
        row.attempts.sort(key=lambda one: one.attempt)
        row.state = _state(row, is_final, is_worked_on)
    return sorted(rows.values(), key=lambda row: (row.began_at, row.branch, row.index))


def timeline(
    rows: Sequence[Row], now: datetime, *, is_final: bool, page: int | None, squeeze: bool
) -> Timeline:
    """Draw a page of rows; by default the last one, where things go on or went wrong."""
    pages = max(1, -(-len(rows) // ROWS_PER_PAGE))
    page = pages if page is None else min(max(page, 1), pages)
    first = (page - 1) * ROWS_PER_PAGE
    shown = list(rows[first : first + ROWS_PER_PAGE])

    ends_now = not is_final and page == pages
    start = min((row.began_at for row in shown if row.began_at != _NEVER), default=now)
    times = [start, *(at for row in shown for at in _ends(row))]
    end = max(*times, now) if ends_now else max(times)
    gaps = idle_times(start, end, (span for row in shown for span in _busy(row, end)))
    scale = Scale(start, end, gaps if squeeze else ())
    for row in shown:
        row.bars = _bars(row, scale, is_final)
    return Timeline(shown, scale, first + 1, len(rows), page, pages, bool(gaps))


def _state(row: Row, is_final: bool, is_worked_on: bool) -> StepState:
    undo = row.compensation
    if undo is not None:
        if undo.status == StepStatus.COMPENSATED:
            return StepState.UNDONE
        if undo.status == StepStatus.FAILED:
            return StepState.NOT_UNDONE
        return StepState.ASKING if undo.asks else StepState.UNDOING
    last = row.last
    if last is None or last.status == StepStatus.COMPENSATED:
        return StepState.CUT_OFF
    if last.status == StepStatus.COMPLETED:
        return StepState.COMPLETED
    if last.status == StepStatus.FAILED:
        if last.kind == StepKind.SIGNAL:
            return StepState.TIMED_OUT
        is_retried = last.due_at is not None and not is_final
        return StepState.RETRYING if is_retried else StepState.FAILED
    if is_final:
        return StepState.CUT_OFF
    if last.asks:
        return StepState.ASKING
    if last.kind == StepKind.SLEEP:
        return StepState.SLEEPING
    if last.kind == StepKind.SIGNAL:
        return StepState.WAITING
    return StepState.RUNNING if is_worked_on else StepState.IN_DOUBT


def _ends(row: Row) -> Iterable[datetime]:
    for one in row.records:
        if one.started_at is not None:
            yield one.started_at
        if one.completed_at is not None:
            yield one.completed_at


def _busy(row: Row, end: datetime) -> Iterable[Span]:
    if row.kind != StepKind.STEP:
        return
    for number, one in enumerate(row.records):
        if one.started_at is not None:
            yield one.started_at, _end_of(row, number, end)


def _end_of(row: Row, number: int, end: datetime) -> datetime:
    """When an attempt ended: as recorded, or when the next one took its place."""
    one = row.records[number]
    begin = one.started_at or end
    if one.completed_at is not None:
        return max(one.completed_at, begin)
    following = row.records[number + 1 : number + 2]
    if following and following[0].started_at is not None:
        return max(following[0].started_at, begin)
    return max(end, begin)


def _bars(row: Row, scale: Scale, is_final: bool) -> list[Bar]:
    bars: list[Bar] = []
    records = row.records
    for number, one in enumerate(records):
        if one.started_at is None:
            continue
        finish = _end_of(row, number, one.started_at if is_final else scale.end)
        what = f"attempt {one.attempt}" if one.attempt else "compensation"
        took = duration(finish - one.started_at)
        look, says = _look(row, number)
        bars.append(_bar(scale, one.started_at, finish, look, f"{what}: {says}, {took}"))
        if one.completed_at is not None and one.due_at is not None and one.kind == StepKind.STEP:
            again = records[number + 1].started_at if number + 1 < len(records) else None
            until = again or (one.completed_at if is_final else min(one.due_at, scale.end))
            until = max(until, one.completed_at)
            length = duration(until - one.completed_at)
            bars.append(_bar(scale, one.completed_at, until, "pause", f"back-off, {length}"))
    return bars


def _look(row: Row, number: int) -> tuple[str, str]:
    """How an attempt is drawn, and what its title says."""
    one = row.records[number]
    if one.attempt == 0:
        if one.status == StepStatus.COMPENSATED:
            return "undone", "undone"
        if one.status == StepStatus.FAILED:
            return "failed", "could not be undone"
        return "undoing", "being undone"
    if one.kind != StepKind.STEP:
        if one.status == StepStatus.INTENT:
            return "wait open", str(row.state)
        return "wait", "timed out" if one.status == StepStatus.FAILED else "waited"
    if one.status == StepStatus.COMPLETED:
        return "completed", "completed"
    if one.status == StepStatus.FAILED:
        return "failed", "failed"
    is_last = number == len(row.attempts) - 1
    if is_last and row.state is StepState.RUNNING:
        return "running open", "running"
    return "doubt", "cut off: it may have taken effect"


def _bar(scale: Scale, start: datetime, end: datetime, look: str, title: str) -> Bar:
    width = max(scale.place(end) - scale.place(start), _NARROWEST)
    return Bar(min(scale.place(start), 100 - _NARROWEST), round(width, 3), look, title)
