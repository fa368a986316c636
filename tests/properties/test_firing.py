"""What a schedule fires, whatever happens to the clock, the workers and the executions.

A schedule is looked at again and again. Between two looks, the clock goes on, stands still, jumps
or goes back; nobody looks; executions end or stay; a person pauses and resumes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_workflow_sqlite import Schedule
from durable_workflow_sqlite.engine import firing
from durable_workflow_sqlite.engine.firing import ON_TIME, fire
from durable_workflow_sqlite.engine.schedule_times import ScheduleTimes

BEGIN = datetime(2026, 10, 24, 12, tzinfo=UTC)  # the clocks of Berlin go back in the next night


@pytest.fixture(autouse=True, scope="module")
def small_limits() -> Iterator[None]:
    """They are met more often, and the times up to them take less long to find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(firing, "MOST_MISSED", 30)
        patch.setattr(firing, "FIRED_AT_ONCE", 7)
        yield


looks = st.lists(
    st.tuples(
        st.one_of(
            st.integers(0, 120),
            st.integers(0, 3 * 86_400),
            st.integers(-7200, -1),
            st.just(40 * 86_400),
        ),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)

schedules = st.builds(
    lambda how, **more: Schedule(
        schedule_name="s", workflow_type="w", created_at=BEGIN, next_fire_at=None, **how, **more
    ),
    how=st.sampled_from(
        [
            {"cron": "*/15 * * * *", "tz": "Europe/Berlin"},
            {"cron": "30 2 * * *", "tz": "Europe/Berlin"},
            {"cron": "0 3 * * MON", "tz": "America/New_York"},
            {"every_seconds": 7},
            {"every_seconds": 5400},
        ]
    ),
    overlap=st.sampled_from(["skip", "buffer_one", "cancel_other", "all"]),
    missed=st.sampled_from(["skip", "last", "all"]),
    within_seconds=st.sampled_from([None, 60, 3600]),
    ends_at=st.sampled_from([None, BEGIN + timedelta(days=1)]),
)


@settings(deadline=None, max_examples=60)
@given(schedule=schedules, looks=looks)
def test_each_time_is_fired_once_and_in_order(
    schedule: Schedule, looks: list[tuple[int, bool]]
) -> None:
    times, now, last_now = ScheduleTimes(schedule), BEGIN, BEGIN
    fired: list[datetime] = []
    for seconds, is_over in looks:
        has_ended = is_over
        now += timedelta(seconds=seconds)
        last_now = max(last_now, now)
        for _ in range(12):  # until there is nothing to do, as the loop of an engine does
            is_busy = bool(fired) and not has_ended
            seen = schedule
            found = fire(seen, times, now, is_busy=is_busy)
            schedule = found.becomes
            check(seen, schedule, found.times, now, is_busy=is_busy)
            fired += found.times
            if schedule == seen:
                break
            has_ended = has_ended and not found.times  # what has just begun is unfinished
        else:
            raise AssertionError(f"it goes on for ever: {schedule}")
    assert fired == sorted(set(fired))
    assert all(one in times.following(one - timedelta(seconds=1), one) for one in fired)
    assert schedule.last_fired_at == (fired[-1] if fired else None)
    if schedule.ended_at is None:
        # What is next follows all that was fired, and is not late.
        assert schedule.next_fire_at is not None
        assert schedule.next_fire_at > max([now, *fired])
        assert schedule.next_fire_at <= (times.after(last_now) or last_now + timedelta(days=999))


def check(
    seen: Schedule, becomes: Schedule, started: list[datetime], now: datetime, *, is_busy: bool
) -> None:
    """One look: how many it fires, how late, and beside what."""
    buffered = [] if seen.buffered_at is None else [seen.buffered_at]
    new = [one for one in started if one not in buffered]
    assert all(one <= now for one in new)  # what is buffered may be later, if the clock is set back
    if is_busy and seen.overlap != "all":
        assert started == []
    if seen.overlap != "all":
        assert len(started) <= 1
    limit = firing.MOST_MISSED if seen.missed == "all" else 1
    assert len(new) <= limit
    allowed = (
        timedelta.max if seen.within_seconds is None else timedelta(seconds=seen.within_seconds)
    )
    if seen.missed == "skip":
        allowed = min(allowed, ON_TIME)
    assert all(now - one <= allowed for one in new)
    if becomes.buffered_at is not None:
        assert seen.overlap in ("buffer_one", "cancel_other")
    unchanged: dict[str, Any] = {
        name: getattr(seen, name) for name in ("cron", "declared", "created_at", "paused_at")
    }
    assert msgspec.structs.replace(becomes, **unchanged) == becomes
