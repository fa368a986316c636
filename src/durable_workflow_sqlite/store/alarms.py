"""What somebody should look at, each as one number: for the line that stands on every page."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.records import ExecutionStatus, check_time
from durable_workflow_sqlite.store import checkup
from durable_workflow_sqlite.store.findings import LATE, Level
from durable_workflow_sqlite.store.inspection import ExecutionCount, ExecutionSummary, Inspector
from durable_workflow_sqlite.store.rows import json_array, time_to_text
from durable_workflow_sqlite.store.sql import load_queries

COUNTED: Final = 10_000
"""So many late deadlines are counted; more are said to be so many."""

EXAMPLES: Final = 4

RECENTLY: Final = timedelta(hours=1)


class Kind(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Money or data are at stake."""

    WARNING = "warning"
    """Something does not go on, or may not."""

    INFO = "info"
    """It is good to know."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """So many things that are alike. count: where it is `COUNTED`, at least so many.

    name: as the checks of `doctor`: not-undone, trouble, disk, blocked, undoing, cut-off, in-doubt,
    timers, workers (none lives, and these wait for one), unknown (no living worker runs their
    workflow); and queue (waits for a worker for longer than `LATE`), failed (in the last hour).
    examples: the ids of some of these executions.
    """

    kind: Kind
    name: str
    count: int
    examples: tuple[str, ...] = ()


def alarms(
    inspector: Inspector, now: datetime, counts: Sequence[ExecutionCount] | None = None
) -> list[Alarm]:
    """The alarms of a file, errors first. Each is counted by an index. Raises StoreError.

    counts: what `Inspector.counts` gave, if the caller has it, as for `Inspector.staff`.
    """
    check_time("now", now)
    with inspector.reading() as connection:
        found = list(_of_executions(inspector, connection, now))
    found += _of_workers(inspector, now, counts)
    found += _of_the_disk(inspector)
    order = list(Kind)
    return sorted((one for one in found if one.count), key=lambda one: order.index(one.kind))


def in_doubt_among(inspector: Inspector, rows: Sequence[ExecutionSummary]) -> set[str]:
    """Those that are in a step, and that no living worker has."""
    in_a_step = [
        row
        for row in rows
        if row.status in (ExecutionStatus.RUNNING, ExecutionStatus.COMPENSATING)
        and row.current_step is not None
        and row.waiting_for is None
    ]
    living = inspector.living({row.worker_id for row in in_a_step if row.worker_id is not None})
    return {row.id for row in in_a_step if row.worker_id not in living}


def _of_executions(
    inspector: Inspector, connection: sqlite3.Connection, now: datetime
) -> Iterator[Alarm]:
    queries, late = load_queries(), time_to_text(now - LATE)
    workers = [row.worker_id for row in queries.load_claiming_workers(connection)]
    living = json_array(sorted(inspector.living(workers)))
    kinds: Sequence[tuple[Kind, str, int | None, Callable[[], Iterable[Any]]]] = (
        (
            Kind.ERROR,
            "not-undone",
            queries.count_not_undone(connection),
            lambda: queries.load_not_undone(connection, row_limit=EXAMPLES),
        ),
        (
            Kind.ERROR,
            "trouble",
            queries.count_in_trouble(connection),
            lambda: queries.load_in_trouble(connection, row_limit=EXAMPLES),
        ),
        (
            Kind.WARNING,
            "blocked",
            queries.count_blocked(connection),
            lambda: queries.load_blocked(connection, row_limit=EXAMPLES),
        ),
        (
            Kind.WARNING,
            "undoing",
            queries.count_undoing(connection),
            lambda: queries.load_undoing(connection, row_limit=EXAMPLES),
        ),
        (
            Kind.WARNING,
            "cut-off",
            queries.count_steps_cut_off(connection),
            lambda: queries.load_steps_cut_off(connection, row_limit=EXAMPLES),
        ),
        (
            Kind.WARNING,
            "in-doubt",
            queries.count_steps_in_doubt(connection, living=living),
            lambda: queries.load_steps_in_doubt(connection, living=living, row_limit=EXAMPLES),
        ),
        (
            Kind.WARNING,
            "timers",
            queries.count_overdue_timers(connection, before=late, at_most=COUNTED),
            lambda: [
                row
                for row in queries.load_next_timers(connection, row_limit=EXAMPLES)
                if row.fire_at < late
            ],
        ),
    )
    for kind, name, count, some in kinds:
        if count:
            ids = dict.fromkeys(row.workflow_execution_id for row in some())
            yield Alarm(kind=kind, name=name, count=count, examples=tuple(ids))
    failed = queries.count_failed_since(connection, since=time_to_text(now - RECENTLY)) or 0
    yield Alarm(kind=Kind.INFO, name="failed", count=failed)


def _of_workers(
    inspector: Inspector, now: datetime, counts: Sequence[ExecutionCount] | None
) -> Iterator[Alarm]:
    staff = inspector.staff(counts, limit=0)
    if not staff.living:
        waiting = sum(one.due for one in staff.queues) + staff.left_behind
        yield Alarm(kind=Kind.WARNING, name="workers", count=waiting)
        return
    unknown = sum(one.unfinished - one.blocked for one in staff.unknown)
    yield Alarm(kind=Kind.WARNING, name="unknown", count=unknown)
    waiting = sum(
        one.due for one in staff.queues if one.due_since is not None and one.due_since < now - LATE
    )
    yield Alarm(kind=Kind.WARNING, name="queue", count=waiting)


def _of_the_disk(inspector: Inspector) -> Iterator[Alarm]:
    level = checkup.disk(inspector).level
    if level is not Level.OK:
        kind = Kind.ERROR if level is Level.ERROR else Kind.WARNING
        yield Alarm(kind=kind, name="disk", count=1)
