"""What a schedule does at one moment: which of its times it fires, and what its row becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.schedule_times import ScheduleTimes
from durable_workflow_sqlite.engine.workflow import definition_record
from durable_workflow_sqlite.records import (
    SCHEDULE_TAG,
    ExecutionStatus,
    NewExecution,
    Schedule,
    WorkflowExecution,
    WorkflowGuarantee,
)

ON_TIME: Final = timedelta(minutes=1)
"""A time that is fired within this span was not missed."""

MOST_MISSED: Final = 1000
"""How many of the times that were missed `missed="all"` fires: the last ones."""

FIRED_AT_ONCE: Final = 100
"""How many executions one transaction starts."""


class Firing(msgspec.Struct, frozen=True):
    """The times to fire now, and the row after that; the same row if there is nothing to do."""

    times: list[datetime]
    becomes: Schedule


def fire(seen: Schedule, times: ScheduleTimes, now: datetime, *, is_busy: bool) -> Firing:
    """What a schedule does now; is_busy: whether an execution of an earlier time is unfinished."""
    started: list[datetime] = []
    skipped: list[datetime] = []
    buffered, next_at, ended_at = seen.buffered_at, seen.next_fire_at, seen.ended_at
    if buffered is not None and not is_busy:
        started.append(buffered)
        buffered, is_busy = None, True
    if ended_at is None and (next_at is None or next_at <= now):
        due, left_out, next_at = _due(seen, times, now)
        skipped += left_out
        for time in due:
            if seen.overlap == "all" or not is_busy:
                started.append(time)
                is_busy = True
            elif seen.overlap == "skip" or (seen.overlap == "buffer_one" and buffered is not None):
                skipped.append(time)
            else:
                skipped += [] if buffered is None else [buffered]
                buffered = time
        if next_at is None:
            ended_at = now
    return Firing(started, _after(seen, started, skipped, buffered, next_at, ended_at, now))


def _after(
    seen: Schedule,
    started: list[datetime],
    skipped: list[datetime],
    buffered: datetime | None,
    next_at: datetime | None,
    ended_at: datetime | None,
    now: datetime,
) -> Schedule:
    becomes = msgspec.structs.replace(
        seen,
        next_fire_at=next_at,
        last_fired_at=_latest(seen.last_fired_at, started),
        last_skipped_at=_latest(seen.last_skipped_at, skipped),
        last_execution_id=(
            execution_id_of(seen, started[-1]) if started else seen.last_execution_id
        ),
        buffered_at=buffered,
        ended_at=ended_at,
    )
    return seen if becomes == seen else msgspec.structs.replace(becomes, updated_at=now)


def _latest(before: datetime | None, times: Iterable[datetime]) -> datetime | None:
    return max([*times, *([] if before is None else [before])], default=None)


def _due(
    seen: Schedule, times: ScheduleTimes, now: datetime
) -> tuple[list[datetime], list[datetime], datetime | None]:
    """Which times are to be fired; the last of those that are not; the next time."""
    first = seen.next_fire_at
    if first is None:
        return [], [], next_time(seen, times, now)
    most = MOST_MISSED if seen.missed == "all" else 1
    passed = [first, *times.last_of(first, now, most + 1)]
    oldest = min(now - ON_TIME, first) if seen.missed != "skip" else now - ON_TIME
    if seen.within_seconds is not None:
        oldest = max(oldest, now - timedelta(seconds=seen.within_seconds))
    due = [time for time in passed[-most:] if time >= oldest]
    left_out = [time for time in passed if time not in due][-1:]
    if len(due) > FIRED_AT_ONCE:
        return due[:FIRED_AT_ONCE], left_out, due[FIRED_AT_ONCE]
    return due, left_out, next_time(seen, times, now)


def next_time(schedule: Schedule, times: ScheduleTimes, now: datetime) -> datetime | None:
    """The next time from now on; times that were fired do not come again if the clock is set."""
    return times.after(now if schedule.last_fired_at is None else max(now, schedule.last_fired_at))


def execution_id_of(schedule: Schedule, time: datetime) -> str:
    """SCHEDULE@UTC-TIME."""
    text = time.replace(tzinfo=None).isoformat()  # with digits of a second only if it has some
    return f"{schedule.schedule_name}@{text}Z"


def execution_of(schedule: Schedule, time: datetime, now: datetime) -> NewExecution:
    """The execution that a schedule starts for a time, for any worker.

    Raises ValueError or TypeError if somebody has written what no execution can have.
    """
    workflow = definition_record(schedule.workflow_type, schedule.version)
    begins_at = max(now, time + _jitter(schedule, time))
    ttl = schedule.ttl_seconds
    expires_at = None if ttl is None else later(now, timedelta(seconds=ttl))
    tags = msgspec.json.decode(schedule.tags, type=dict[str, str])
    return NewExecution(
        workflow=workflow,
        execution=WorkflowExecution(
            workflow_execution_id=execution_id_of(schedule, time),
            workflow_id=workflow.workflow_id,
            status=ExecutionStatus.PENDING,
            input_data=schedule.input_data,
            ttl_expires_at=expires_at,
            guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
            priority=schedule.priority,
            queue=schedule.queue,
            queue_key=schedule.queue_key,
            available_at=begins_at if expires_at is None else min(begins_at, expires_at),
            created_at=now,
            updated_at=now,
        ),
        tags={**tags, SCHEDULE_TAG: schedule.schedule_name},
    )


def _jitter(schedule: Schedule, time: datetime) -> timedelta:
    """The same for a time whichever worker asks, and spread evenly over schedules and times."""
    digest = hashlib.sha256(execution_id_of(schedule, time).encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return timedelta(seconds=schedule.jitter_seconds) * share
