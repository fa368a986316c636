"""What began, ended and waits for workers: how much there was to do, and how much was done."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from durable_workflow_sqlite.records import check_integer, check_time
from durable_workflow_sqlite.store.inspection import Inspector
from durable_workflow_sqlite.store.rows import json_array, readable_time, time_to_text
from durable_workflow_sqlite.store.sql import load_queries

COUNTED: Final = 10_000
"""So many that wait are counted of each workflow and priority; more are said to be so many."""


class Hour(msgspec.Struct, frozen=True, kw_only=True):
    """How many executions began and ended in an hour. start: its beginning."""

    start: datetime
    began: int
    completed: int
    failed: int
    cancelled: int


class QueueWait(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for a worker although it is due.

    waiting: how many; at least so many where it is `COUNTED` or more. oldest_at: when the first of
    them was due.
    """

    workflow_type: str
    waiting: int
    oldest_at: datetime | None


def throughput(inspector: Inspector, now: datetime, *, hours: int = 24) -> list[Hour]:
    """The last hours, the oldest first; the last one is not over. Raises StoreError."""
    check_time("now", now)
    check_integer("hours", hours, minimum=1)
    last = now.replace(minute=0, second=0, microsecond=0)
    starts = [last - timedelta(hours=number) for number in reversed(range(hours))]
    texts = [time_to_text(start)[:13] for start in starts]
    with inspector.reading() as connection:
        return [
            Hour(
                start=start,
                began=row.began,
                completed=row.completed,
                failed=row.failed,
                cancelled=row.cancelled,
            )
            for start, row in zip(
                starts,
                load_queries().count_by_hour(connection, hours=json_array(texts)),
                strict=True,
            )
        ]


def queue_waits(inspector: Inspector, now: datetime) -> list[QueueWait]:
    """What waits for a worker, by workflow, the one that has waited for longest first.

    Raises StoreError.
    """
    check_time("now", now)
    with inspector.reading() as connection:
        return [
            QueueWait(
                workflow_type=row.workflow_type,
                waiting=row.waiting,
                oldest_at=readable_time(row.oldest_at),
            )
            for row in load_queries().load_queue_waits(
                connection, due_at=time_to_text(now), at_most=COUNTED
            )
        ]
