"""The first page: how many there are, what is wrong, what failed, and how much is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from durable_workflow_sqlite.choosing import options_of
from durable_workflow_sqlite.dashboard.charts import failures_chart, throughput_chart
from durable_workflow_sqlite.dashboard.filters import Filters
from durable_workflow_sqlite.dashboard.listing import counts_of
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.text import duration
from durable_workflow_sqlite.dashboard.workers import paused_of
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.reading.executions import beginning
from durable_workflow_sqlite.reading.overview import Problem, QueueWait
from durable_workflow_sqlite.reading.reader import Reader

SPANS: Final = {
    "24h": ("the last 24 hours", timedelta(hours=24)),
    "7d": ("the last 7 days", timedelta(days=7)),
    "all": ("any time", None),
}
"""Of which time failures are grouped: each one is looked at."""

DEFAULT_SPAN: Final = "7d"

_GROUPS: Final = 50


class ProblemLine(NamedTuple):
    """A group of failures, or of what is in trouble.

    href: the list of them. retry_href: to retry them all, "" where that is not what helps. command:
    the same from a shell.
    """

    key: str
    problem: str
    number: str
    error_type: str
    workflow_type: str
    step: str
    place: str
    first_at: datetime | None
    last_at: datetime | None
    says: str
    href: str
    retry_href: str
    command: str


class WaitLine(NamedTuple):
    """What waits for a worker. share: of the longest wait, in percent."""

    workflow_type: str
    number: str
    age: str
    share: float
    is_late: bool
    href: str


def overview_of(
    source: Source, reader: Reader, version: str, now: datetime, span: str, at: str
) -> dict[str, Any]:
    """What the template of the first page shows."""
    counts = source.counts(reader, version)
    hours = source.kept("hours", version, lambda: reader.throughput(now))
    waits = source.kept("waits", version, reader.queue_waits)
    length = SPANS[span][1]
    since = None if length is None else now - length
    groups = source.kept(f"problems {span}", version, lambda: reader.problems(since, limit=_GROUPS))
    return {
        "counts": counts_of(counts, Filters(), at),
        "problems": [_problem_line(one, reader, at) for one in groups],
        "spans": [(name, words, name == span) for name, (words, _) in SPANS.items()],
        "hours": hours,
        "throughput": throughput_chart(hours),
        "failures": failures_chart(hours),
        "waits": _wait_lines(waits, now, at),
        "paused": paused_of(source, reader, version),
    }


def _problem_line(one: Problem, reader: Reader, at: str) -> ProblemLine:
    filters = Filters.of_problem(one)
    can_retry = one.problem != "IN TROUBLE"
    return ProblemLine(
        key=f"{one.problem} {one.workflow_type} {one.step_name} {one.error_type} {one.place}",
        problem=one.problem,
        number=f"{one.executions:,}",
        error_type=one.error_type or "unknown error",
        workflow_type=one.workflow_type or "unknown workflow",
        step=one.step_name or "",
        place=one.short_place,
        first_at=one.first_at,
        last_at=one.last_at,
        says=beginning(one.says) or "",
        href=filters.href(at),
        retry_href=f"{at}/bulk/retry?{filters.query()}" if can_retry else "",
        command=command("retry" if can_retry else "list", reader.name, *options_of(one)),
    )


def _wait_lines(waits: Sequence[QueueWait], now: datetime, at: str) -> list[WaitLine]:
    ages = [
        timedelta(0) if one.oldest_at is None else max(now - one.oldest_at, timedelta(0))
        for one in waits
    ]
    longest = max(ages, default=timedelta(0)) or timedelta(seconds=1)
    return [
        WaitLine(
            workflow_type=one.workflow_type,
            number=f"{one.waiting:,}",
            age=duration(age),
            share=round(max(age / longest * 100, 1), 1),
            is_late=age > timedelta(minutes=1),
            href=Filters(workflow_type=one.workflow_type).href(at),
        )
        for one, age in zip(waits, ages, strict=True)
    ]
