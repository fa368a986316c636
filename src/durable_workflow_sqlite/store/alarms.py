"""What somebody should look at, each as one number: for the line that stands on every page."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from durable_workflow_sqlite.records import ExecutionStatus, check_time
from durable_workflow_sqlite.store import checkup
from durable_workflow_sqlite.store.inspection import Inspector
from durable_workflow_sqlite.store.rows import json_array, time_to_text
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.store.throughput import COUNTED, queue_waits

LATE: Final = timedelta(minutes=1)
"""What is due for longer should have been taken, or noticed, by a worker."""

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
    timers, queue, failed.
    """

    kind: Kind
    name: str
    count: int


def alarms(inspector: Inspector, now: datetime) -> list[Alarm]:
    """The alarms of a file, errors first. Each is counted by an index. Raises StoreError."""
    check_time("now", now)
    queries = load_queries()
    with inspector.reading() as connection:
        workers = [row.worker_id for row in queries.load_claiming_workers(connection)]
        living = json_array(sorted(inspector.living(workers)))
        late = time_to_text(now - LATE)
        counted = [
            (Kind.ERROR, "not-undone", queries.count_not_undone(connection)),
            (Kind.ERROR, "trouble", queries.count_in_trouble(connection)),
            (Kind.WARNING, "blocked", queries.count_blocked(connection)),
            (Kind.WARNING, "undoing", queries.count_undoing(connection)),
            (Kind.WARNING, "cut-off", queries.count_steps_cut_off(connection)),
            (
                Kind.WARNING,
                "in-doubt",
                queries.count_steps_in_doubt(connection, living=living),
            ),
            (
                Kind.WARNING,
                "timers",
                queries.count_overdue_timers(connection, before=late, at_most=COUNTED),
            ),
        ]
        failed = sum(
            row.total
            for row in queries.count_ended_by_hour(connection, since=time_to_text(now - RECENTLY))
            if row.status == ExecutionStatus.FAILED
        )
    disk = checkup.disk(inspector).level
    waiting = sum(
        one.waiting
        for one in queue_waits(inspector, now)
        if one.oldest_at is not None and one.oldest_at < now - LATE
    )
    found = [
        *counted,
        (
            Kind.ERROR if disk is checkup.Level.ERROR else Kind.WARNING,
            "disk",
            int(disk is not checkup.Level.OK),
        ),
        (Kind.WARNING, "queue", waiting),
        (Kind.INFO, "failed", failed),
    ]
    order = list(Kind)
    return sorted(
        (Alarm(kind=kind, name=name, count=count) for kind, name, count in found if count),
        key=lambda one: order.index(one.kind),
    )
