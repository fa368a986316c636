"""Schedules, as programs and people ask for them: declare, pause, trigger, backfill, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.engine import audit
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.firing import (
    FIRED_AT_ONCE,
    execution_id_of,
    execution_of,
    next_time,
)
from durable_workflow_sqlite.engine.pausing import details_of
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.schedule_times import ScheduleTimes
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import ScheduleNotFoundError
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.records import (
    SCHEDULE_TAG,
    ChangeEntry,
    ChangeScope,
    Missed,
    Overlap,
    Schedule,
    check_identifier,
    check_integer,
    check_queue_key,
    check_tags,
    check_text,
    check_time,
)

MOST_BACKFILLED: Final = 1000

MICROSECOND: Final = timedelta(microseconds=1)

TIMING: Final = ("cron", "tz", "every_seconds", "ends_at")
"""What the times of a schedule depend on."""


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """What a program declares of a schedule. Its JSON is kept, to know a change."""

    workflow_type: str
    version: int
    input_data: str
    cron: str | None
    tz: str
    every_seconds: int | None
    overlap: Overlap
    missed: Missed
    within_seconds: int | None
    jitter_seconds: int
    ends_at: datetime | None
    priority: int
    ttl_seconds: int | None
    tags: str
    is_paused: bool
    queue: str | None = None
    queue_key: str | None = None


def declaration(
    workflow: AnyWorkflow,
    args: tuple[Any, ...],
    *,
    cron: str | None,
    tz: str,
    every: timedelta | None,
    overlap: Overlap,
    missed: Missed,
    within: timedelta | None,
    jitter: timedelta | None,
    ends: datetime | None,
    paused: bool,
    priority: int,
    ttl: timedelta | None,
    tags: Mapping[str, str] | None,
    queue: str | None,
    key: str | None,
) -> Declaration:
    """Raises TypeError or ValueError for what cannot be declared."""
    if (cron is None) == (every is None):
        raise ValueError("give either cron, as '0 3 * * *', or every, as timedelta(minutes=5)")
    check_text("cron", cron)
    check_text("tz", tz, required=True)
    if every is not None and tz != "UTC":
        raise ValueError(f"tz is for cron: an interval is the same in each zone, also in {tz!r}")
    if ends is not None:
        check_time("ends", ends)
    if not isinstance(paused, bool):
        raise TypeError(f"paused must be True or False, not {paused!r}")
    if queue is not None:
        check_identifier("queue", queue)
    if key is not None:
        check_queue_key(queue, key)
    given_tags = check_tags(tags)
    if SCHEDULE_TAG in given_tags:
        raise ValueError(f"the tag {SCHEDULE_TAG!r} is given by the schedule; choose another name")
    return Declaration(
        workflow_type=workflow.name,
        version=workflow.version,
        input_data=workflow.encode_input(args),
        cron=None if cron is None else " ".join(cron.split()),
        tz=tz,
        every_seconds=None if every is None else whole_seconds("every", every, 1),
        overlap=overlap,
        missed=missed,
        within_seconds=None if within is None else whole_seconds("within", within, 1),
        jitter_seconds=0 if jitter is None else whole_seconds("jitter", jitter, 0),
        ends_at=None if ends is None else ends.astimezone(UTC),
        priority=priority,
        ttl_seconds=None if ttl is None else whole_seconds("ttl", ttl, 1),
        tags=msgspec.json.encode(given_tags, order="sorted").decode(),
        is_paused=paused,
        queue=queue,
        queue_key=key,
    )


def whole_seconds(what: str, duration: timedelta, minimum: int) -> int:
    """Raises TypeError or ValueError for a duration that a schedule cannot have."""
    if not isinstance(duration, timedelta):
        raise TypeError(f"{what} must be a timedelta, as timedelta(hours=1), not {duration!r}")
    seconds, rest = divmod(duration, timedelta(seconds=1))
    if rest:
        raise ValueError(f"{what} must be a number of whole seconds, not {duration}")
    if seconds < minimum:
        raise ValueError(f"{what} must be at least {minimum} s, not {duration}")
    return seconds


async def declare(access: Access, name: str, declared: Declaration) -> Schedule:
    """See `Client.schedule`; the schedule as it is then."""
    check_identifier("name", name)
    access.check_open()
    limit = access.store.max_payload_bytes
    check_size(declared.input_data, limit, f"the input of schedule {name!r}")
    text = msgspec.json.encode(declared).decode()
    fields = msgspec.structs.asdict(declared)
    is_paused = fields.pop("is_paused")

    def change(seen: Schedule | None, now: datetime) -> Schedule:
        if seen is None:
            becomes = Schedule(schedule_name=name, created_at=now, **fields)
        elif seen.declared == text:
            return seen
        else:
            becomes = msgspec.structs.replace(seen, **fields)
        becomes = msgspec.structs.replace(becomes, declared=text, updated_at=now)
        times = ScheduleTimes(becomes)
        if seen is None or any(getattr(seen, one) != getattr(becomes, one) for one in TIMING):
            becomes = _anew(becomes, times, now)
            if becomes.ended_at is not None:
                raise ValueError(f"schedule {name!r} has no time from now on, up to its end")
        if is_paused != (False if seen is None else _was_declared_paused(seen)):
            if is_paused and becomes.paused_at is None:
                becomes = _paused(becomes, now, "the program", "declared with paused=True")
            elif not is_paused and becomes.paused_at is not None:
                becomes = _resumed(becomes, times, now)
        return becomes

    return await _change(access, name, change)


def _was_declared_paused(seen: Schedule) -> bool:
    try:
        return msgspec.json.decode(seen.declared or "", type=Declaration).is_paused
    except msgspec.MsgspecError:
        return False


def _anew(schedule: Schedule, times: ScheduleTimes, now: datetime) -> Schedule:
    """With its next time from now on, unless it is paused."""
    next_at = next_time(schedule, times, now)
    return msgspec.structs.replace(
        schedule,
        next_fire_at=None if schedule.paused_at is not None else next_at,
        ended_at=now if next_at is None else None,
        trouble=None,
    )


def _paused(schedule: Schedule, now: datetime, by: str, reason: str | None) -> Schedule:
    return msgspec.structs.replace(
        schedule,
        next_fire_at=None,
        paused_at=now,
        paused_by=by,
        paused_reason=reason,
        updated_at=now,
    )


def _resumed(schedule: Schedule, times: ScheduleTimes, now: datetime) -> Schedule:
    awake = msgspec.structs.replace(
        schedule, paused_at=None, paused_by=None, paused_reason=None, updated_at=now
    )
    return _anew(awake, times, now)


async def _change(
    access: Access,
    name: str,
    change: Callable[[Schedule | None, datetime], Schedule],
    entry: Callable[[Schedule, datetime], ChangeEntry] | None = None,
) -> Schedule:
    """Change a schedule from what it is at that moment; the schedule as it is then.

    entry: who did that, for the audit log; a program that declares a schedule is in none.
    """
    while True:
        seen, now = await access.store.load_schedule(name), access.clock.now()
        becomes = change(seen, now)
        if becomes == seen:
            return becomes
        entries = [] if entry is None or seen is None else [entry(seen, now)]
        if await access.store.save_schedule(becomes, *entries, seen=seen):
            access.look_at_schedules()
            return becomes


async def load(access: Access, name: str) -> Schedule:
    """Raises ScheduleNotFoundError, which names the nearest."""
    check_identifier("name", name)
    access.check_open()
    found = await access.store.load_schedule(name)
    if found is None:
        raise await _not_found(access, name)
    return found


async def _not_found(access: Access, name: str) -> ScheduleNotFoundError:
    names = [one.schedule_name for one in await access.store.load_schedules()]
    hint = nearest(name, names) if names else "; there is none at all"
    return ScheduleNotFoundError(f"there is no schedule {name!r}{hint}")


async def pause(access: Access, name: str, reason: str | None, by: str | None) -> bool:
    """See `Client.pause_schedule`."""
    check_text("reason", reason)
    who = audit.this_user() if by is None else by
    check_identifier("by", who)
    await load(access, name)
    is_changed = False
    details: dict[str, object] = {} if reason is None else {"reason": reason}

    def change(seen: Schedule | None, now: datetime) -> Schedule:
        nonlocal is_changed
        if seen is None:
            raise ScheduleNotFoundError(f"schedule {name!r} was deleted meanwhile")
        is_changed = seen.paused_at is None
        return _paused(seen, now, who, reason) if is_changed else seen

    await _change(access, name, change, lambda _, now: _entry(name, "pause", who, now, details))
    return is_changed


async def resume(access: Access, name: str, by: str | None) -> bool:
    """See `Client.resume_schedule`."""
    await load(access, name)
    is_changed = False

    def entry(seen: Schedule, now: datetime) -> ChangeEntry:
        details = {} if seen.paused_at is None else details_of(seen)
        if seen.trouble is not None:
            details["trouble"] = seen.trouble
        return _entry(name, "resume", by, now, details)

    def change(seen: Schedule | None, now: datetime) -> Schedule:
        nonlocal is_changed
        if seen is None:
            raise ScheduleNotFoundError(f"schedule {name!r} was deleted meanwhile")
        is_changed = seen.paused_at is not None or seen.trouble is not None
        return _resumed(seen, ScheduleTimes(seen), now) if is_changed else seen

    await _change(access, name, change, entry)
    return is_changed


def _entry(
    name: str, act: str, by: str | None, now: datetime, details: dict[str, object]
) -> ChangeEntry:
    return audit.change(ChangeScope.SCHEDULE, name, act, by, now, details)


async def trigger(access: Access, name: str, by: str | None) -> str:
    """See `Client.trigger`; the id."""
    while True:
        seen = await load(access, name)
        now = time = access.clock.now()
        while await access.store.load_execution(execution_id_of(seen, time)) is not None:
            time += MICROSECOND
        new = execution_of(msgspec.structs.replace(seen, jitter_seconds=0), time, now)
        execution_id = new.execution.workflow_execution_id
        becomes = msgspec.structs.replace(
            seen, last_execution_id=execution_id, updated_at=max(now, seen.updated_at)
        )
        entries = (
            audit.entry(execution_id, "trigger", by, now, {"schedule": name}),
            _entry(name, "trigger", by, now, {"started": execution_id}),
        )
        if await access.store.save_schedule(becomes, *entries, seen=seen, start=[new]):
            access.look()
            return execution_id


async def backfill(
    access: Access, name: str, start: datetime, end: datetime, by: str | None
) -> list[str]:
    """See `Client.backfill`; the ids."""
    check_time("start", start)
    check_time("end", end)
    if end < start:
        raise ValueError(f"end must not be before start: {end} is before {start}")
    if end > access.clock.now():
        raise ValueError(f"end must not be in the future, where the schedule fires itself: {end}")
    schedule = await load(access, name)
    found = ScheduleTimes(schedule).following(start - MICROSECOND, end)
    times = list(islice(found, MOST_BACKFILLED + 1))
    if len(times) > MOST_BACKFILLED:
        raise ValueError(
            f"schedule {name!r} has more than {MOST_BACKFILLED} times from {start} to {end};"
            " nothing was started. Give a shorter span, and then the next"
        )
    started: list[str] = []
    for number in range(0, len(times), FIRED_AT_ONCE):
        started += await _start_missing(access, name, times[number : number + FIRED_AT_ONCE], by)
    return started


async def _start_missing(
    access: Access, name: str, times: list[datetime], by: str | None
) -> list[str]:
    while True:
        seen = await load(access, name)
        now = access.clock.now()
        by_id = {execution_id_of(seen, time): time for time in times}
        there = await access.store.load_statuses(by_id)
        start = {
            id_: execution_of(seen, time, now) for id_, time in by_id.items() if id_ not in there
        }
        details: dict[str, object] = {"schedule": name}
        entries = [audit.entry(id_, "backfill", by, now, details) for id_ in start]
        becomes = msgspec.structs.replace(seen, updated_at=max(now, seen.updated_at))
        of_schedule: list[ChangeEntry] = []
        if start:
            first, last = (by_id[one] for one in (min(start), max(start)))
            span: dict[str, object] = {"started": len(start), "from": first, "to": last}
            of_schedule.append(_entry(name, "backfill", by, now, span))
        if await access.store.save_schedule(
            becomes, *entries, *of_schedule, seen=seen, start=start.values()
        ):
            access.look()
            return list(start)


async def unschedule(access: Access, name: str, by: str | None) -> bool:
    """See `Client.unschedule`."""
    check_identifier("name", name)
    access.check_open()
    entry = _entry(name, "delete", by, access.clock.now(), {})
    return await access.store.delete_schedule(name, entry)


async def next_times(access: Access, name: str, count: int) -> list[datetime]:
    """See `Client.next_times`."""
    check_integer("count", count, minimum=1)
    schedule = await load(access, name)
    if schedule.ended_at is not None:
        return []
    times = ScheduleTimes(schedule)
    first = schedule.next_fire_at or next_time(schedule, times, access.clock.now())
    if first is None:
        return []
    rest = times.following(first, datetime.max.replace(tzinfo=UTC))
    return [first, *islice(rest, count - 1)]
