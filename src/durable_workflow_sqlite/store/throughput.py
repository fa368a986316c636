"""What began, ended and waits for workers: how much there was to do, and how much was done."""

from __future__ import annotations

from datetime import datetime, timedelta

from durable_workflow_sqlite.reading.overview import Hour, QueueWait
from durable_workflow_sqlite.records import check_integer, check_time
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows import json_array, readable_time, time_to_text


def throughput(file: Readable, now: datetime, *, hours: int = 24) -> list[Hour]:
    """The last hours, the oldest first; the last one is not over. Raises StoreError."""
    check_time("now", now)
    check_integer("hours", hours, minimum=1)
    last = now.replace(minute=0, second=0, microsecond=0)
    starts = [last - timedelta(hours=number) for number in reversed(range(hours))]
    texts = [time_to_text(start)[:13] for start in starts]
    with file.reading() as connection:
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
                file.queries.count_by_hour(connection, hours=json_array(texts)),
                strict=True,
            )
        ]


def queue_waits(file: Readable) -> list[QueueWait]:
    """What waits for a worker, by workflow, the one that has waited for longest first.

    Raises StoreError.
    """
    waiting: dict[str, int] = {}
    oldest: dict[str, str] = {}
    with file.reading() as connection:
        for row in file.queries.load_queues(connection):
            if row.due_since is not None:
                waiting[row.workflow_type] = waiting.get(row.workflow_type, 0) + row.due
                before = oldest.get(row.workflow_type, row.due_since)
                oldest[row.workflow_type] = min(row.due_since, before)
    return [
        QueueWait(
            workflow_type=workflow_type,
            waiting=waiting[workflow_type],
            oldest_at=readable_time(oldest_at),
        )
        for workflow_type, oldest_at in sorted(oldest.items(), key=lambda one: one[1])
    ]
