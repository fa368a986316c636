"""What people ask about the named queues, the limits for steps, and who holds their slots."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from durable_workflow_sqlite.reading.findings import COUNTED
from durable_workflow_sqlite.reading.queues import (
    DueInQueue,
    HeldSlot,
    MissingLimit,
    NamedQueue,
    Queues,
    StepLimit,
)
from durable_workflow_sqlite.records import check_integer
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows import readable_time, time_to_text

_MISSING: Final = re.compile(
    r"LimitNotFoundError: no limit '(.+?)' for steps is declared", re.DOTALL
)
"""The trouble of an execution whose step names a limit that nobody has declared."""


def read_queues(file: Readable, now: datetime) -> Queues:
    """See `Reader.queues`."""
    with file.reading() as connection:
        missing: dict[str, list[str]] = {}
        for row in file.queries.load_in_trouble(connection, row_limit=COUNTED):
            if found := _MISSING.match(row.trouble):
                missing.setdefault(found[1], []).append(row.workflow_execution_id)
        due = file.queries.load_due_by_queue(connection, now=time_to_text(now))
    limits = step_limits(file)
    declared = {one.name for one in limits if one.is_declared}
    return Queues(
        queues=tuple(named_queues(file)),
        limits=tuple(limits),
        due=tuple(
            DueInQueue(
                queue=row.queue,
                workflow_type=row.workflow_type,
                version=row.version,
                due=row.due,
                due_since=readable_time(row.due_since),
            )
            for row in due
        ),
        missing=tuple(
            MissingLimit(name=name, execution_ids=tuple(ids))
            for name, ids in sorted(missing.items())
            if name not in declared
        ),
    )


def named_queues(file: Readable) -> list[NamedQueue]:
    """The named queues, with their limits and what is in them, by name."""
    with file.reading() as connection:
        return [
            NamedQueue(
                name=row.queue,
                is_declared=bool(row.is_declared),
                concurrency=row.concurrency,
                per_worker=row.per_worker,
                per_key=row.per_key,
                rate=row.rate,
                rate_seconds=row.rate_seconds,
                rate_used=row.rate_used,
                key_rate=row.key_rate,
                key_rate_seconds=row.key_rate_seconds,
                running=row.running,
                running_keys=row.running_keys,
                due=row.due,
                due_since=readable_time(row.due_since),
                later=row.later,
                running_longest=row.running_longest,
                running_since=readable_time(row.running_since),
                paused_at=readable_time(row.paused_at),
                paused_by=row.paused_by,
                paused_reason=row.paused_reason,
                updated_at=readable_time(row.updated_at),
            )
            for row in file.queries.load_named_queues(connection)
        ]


def step_limits(file: Readable) -> list[StepLimit]:
    """The limits for steps, with what runs under them, by name."""
    with file.reading() as connection:
        return [
            StepLimit(
                name=row.name,
                is_declared=bool(row.is_declared),
                concurrency=row.concurrency,
                per_key=row.per_key,
                rate=row.rate,
                rate_seconds=row.rate_seconds,
                rate_used=row.rate_used,
                running=row.running,
                running_keys=row.running_keys,
                held_longest=row.held_longest,
                held_step=row.held_step,
                held_since=readable_time(row.held_since),
                updated_at=readable_time(row.updated_at),
            )
            for row in file.queries.load_step_limits(connection)
        ]


def held_slots(file: Readable, kind: str, name: str, *, limit: int) -> list[HeldSlot]:
    """See `Reader.held_slots`."""
    check_integer("limit", limit, minimum=1)
    with file.reading() as connection:
        return [
            HeldSlot(
                execution_id=row.workflow_execution_id,
                workflow_type=row.workflow_type,
                key=row.limit_key,
                branch=row.branch,
                step_index=row.step_index,
                step_name=row.step_name,
                worker=row.worker,
                since=readable_time(row.held_since),
            )
            for row in file.queries.load_held_slots(
                connection, kind=kind, name=name, row_limit=limit
            )
        ]
