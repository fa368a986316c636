"""What people ask about the named queues."""

from __future__ import annotations

from durable_workflow_sqlite.reading.queues import NamedQueue
from durable_workflow_sqlite.store.read_only import ReadOnlyFile
from durable_workflow_sqlite.store.rows import readable_time
from durable_workflow_sqlite.store.sql import load_queries


def named_queues(file: ReadOnlyFile) -> list[NamedQueue]:
    """The named queues, with their limits and what is in them, by name."""
    with file.reading() as connection:
        return [
            NamedQueue(
                name=row.queue,
                concurrency=row.concurrency,
                per_worker=row.per_worker,
                per_key=row.per_key,
                running=row.running,
                due=row.due,
                due_since=readable_time(row.due_since),
                later=row.later,
                running_longest=row.running_longest,
                running_since=readable_time(row.running_since),
                paused_at=readable_time(row.paused_at),
                paused_by=row.paused_by,
                paused_reason=row.paused_reason,
            )
            for row in load_queries().load_named_queues(connection)
        ]
