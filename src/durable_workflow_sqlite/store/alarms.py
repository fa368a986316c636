"""Counts of the problems that need a person, for the line on every page of the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from durable_workflow_sqlite.reading.executions import ExecutionCount, ExecutionSummary
from durable_workflow_sqlite.reading.findings import (
    COUNTED,
    LATE,
    RECENTLY,
    TOGETHER,
    Alarm,
    Kind,
    Level,
)
from durable_workflow_sqlite.reading.queues import Queues, queue_findings
from durable_workflow_sqlite.reading.schedules import schedule_findings
from durable_workflow_sqlite.records import ExecutionStatus, check_time
from durable_workflow_sqlite.store.overview import living_workers
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.reading_queues import read_queues
from durable_workflow_sqlite.store.reading_schedules import read_schedules
from durable_workflow_sqlite.store.reading_workers import read_workers
from durable_workflow_sqlite.store.rows import time_to_text

EXAMPLES: Final = 4


def alarms(
    file: Readable, now: datetime, counts: Sequence[ExecutionCount] | None = None
) -> list[Alarm]:
    """The alarms of a file, errors first. Each is counted by an index. Raises StoreError.

    counts: what `Reader.counts` gave, if the caller has it, as for `Reader.workers`.
    """
    check_time("now", now)
    with file.reading() as connection:
        found = [*_of_executions(file, connection, now), _failed(file, connection, now)]
    found += _of_workers(file, now, counts)
    found += _of_the_disk(file)
    order = list(Kind)
    return sorted((one for one in found if one.count), key=lambda one: order.index(one.kind))


def in_doubt_among(file: Readable, rows: Sequence[ExecutionSummary]) -> set[str]:
    """Those that are in a step, and that no living worker has."""
    in_a_step = [
        row
        for row in rows
        if row.status in (ExecutionStatus.RUNNING, ExecutionStatus.COMPENSATING)
        and row.current_step is not None
        and row.waiting_for is None
    ]
    living = file.living({row.worker_id for row in in_a_step if row.worker_id is not None})
    return {row.id for row in in_a_step if row.worker_id not in living}


def _of_executions(file: Readable, connection: object, now: datetime) -> Iterator[Alarm]:
    queries, late = file.queries, time_to_text(now - LATE)
    living = living_workers(file, connection)
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
            "unresolved",
            queries.count_unresolved(connection),
            lambda: queries.load_unresolved(connection, row_limit=EXAMPLES),
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


def _failed(file: Readable, connection: object, now: datetime) -> Alarm:
    queries = file.queries
    failed = queries.count_failed_since(connection, since=time_to_text(now - RECENTLY)) or 0
    groups = queries.load_fresh_failures(
        connection, since=time_to_text(now - RECENTLY), least=TOGETHER, at_most=COUNTED
    )
    return Alarm(kind=Kind.WARNING if groups else Kind.INFO, name="failed", count=failed)


def _of_workers(
    file: Readable, now: datetime, counts: Sequence[ExecutionCount] | None
) -> Iterator[Alarm]:
    workers = read_workers(file, counts, limit=0)
    schedules = schedule_findings(read_schedules(file), workers, now)
    yield Alarm(kind=Kind.WARNING, name="schedule", count=len(list(schedules)))
    queues = read_queues(file, now)
    of_queues = queue_findings(queues, workers, now)
    yield Alarm(kind=Kind.WARNING, name="queues", count=len(list(of_queues)))
    if not workers.living:
        waiting = sum(one.due for one in workers.queues) + workers.left_behind
        yield Alarm(kind=Kind.WARNING, name="workers", count=waiting)
        return
    stopped = workers.stopped
    held = [one for worker in stopped for one in worker.holds]
    yield Alarm(
        kind=Kind.WARNING, name="stopped", count=len(stopped), examples=tuple(held[:EXAMPLES])
    )
    unknown = sum(one.unfinished - one.blocked for one in workers.unknown)
    yield Alarm(kind=Kind.WARNING, name="unknown", count=unknown)
    waiting = sum(
        one.due
        for one in workers.queues
        if one.due_since is not None and one.due_since < now - LATE
    )
    yield Alarm(kind=Kind.WARNING, name="queue", count=max(waiting - _held(queues, now), 0))


def _held(queues: Queues, now: datetime) -> int:
    """How many are late because of the limits of their queue, which is what the limits are for."""
    holding = {one.name for one in queues.queues if one.may_hold}
    return sum(
        one.due
        for one in queues.due
        if one.queue in holding and one.due_since is not None and one.due_since < now - LATE
    )


def _of_the_disk(file: Readable) -> Iterator[Alarm]:
    level = file.disk().level
    if level is not Level.OK:
        kind = Kind.ERROR if level is Level.ERROR else Kind.WARNING
        yield Alarm(kind=kind, name="disk", count=1)
