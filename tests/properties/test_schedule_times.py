"""The times of schedules, against an oracle that looks at every minute; over changes of the clock.

The oracle knows nothing of cronsim. It reads the fields of the expression by itself, and asks what
a clock in the zone shows.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from durable_workflow_sqlite import Schedule
from durable_workflow_sqlite.engine.schedule_times import ScheduleTimes, check_cron, zone

MINUTE = timedelta(minutes=1)
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))

# Changes of one hour by day and by night, of half an hour, and at midnight.
ZONES = ("Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "UTC")


def times_of(cron: str, tz: str = "UTC", ends_at: datetime | None = None) -> ScheduleTimes:
    return ScheduleTimes(
        Schedule(schedule_name="s", workflow_type="w", cron=cron, tz=tz, ends_at=ends_at)
    )


def members(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        if span == "*":
            first, last = low, high
        elif "-" in span:
            first, last = map(int, span.split("-"))
        else:
            first, last = int(span), high if step else int(span)
        found.update(range(first, last + 1, int(step or 1)))
    return found


class Oracle:
    """The times of an expression after a moment, by looking at every minute."""

    def __init__(self, cron: str, tz: str) -> None:
        fields = cron.split()
        self.sets = [members(one, *span) for one, span in zip(fields, RANGES, strict=True)]
        self.is_fixed = fields[0][0] != "*" and fields[1][0] != "*"
        self.both_days = fields[2][0] == "*" or fields[4][0] == "*"
        self.zone = ZoneInfo(tz)

    def matches(self, shown: datetime) -> bool:
        minutes, hours, days, months, weekdays = self.sets
        day, weekday = shown.day in days, {shown.isoweekday(), shown.isoweekday() % 7} & weekdays
        on_day = day and weekday if self.both_days else day or weekday
        return bool(
            shown.minute in minutes and shown.hour in hours and shown.month in months and on_day
        )

    def between(self, since: datetime, until: datetime) -> list[datetime]:
        found: list[datetime] = []
        before = since - 30 * 60 * MINUTE  # what is left out may lie before
        fired: set[datetime] = set()
        moment = before
        while moment <= until:
            shown = moment.astimezone(self.zone).replace(tzinfo=None)
            shown_before = (moment - MINUTE).astimezone(self.zone).replace(tzinfo=None)
            if not self.is_fixed:
                is_time = self.matches(shown)
            else:
                left_out = []
                skipped = shown_before + MINUTE
                while skipped < shown:
                    left_out.append(skipped)
                    skipped += MINUTE
                is_time = (self.matches(shown) and shown not in fired) or any(
                    map(self.matches, left_out)
                )
                fired.add(shown)
            if is_time and moment > since:
                found.append(moment)
            moment += MINUTE
        return found


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.sampled_from((2, 5, 7, 15, 20)).map(lambda n: f"*/{n}"),
        st.lists(number, min_size=1, max_size=3).map(lambda ns: ",".join(map(str, ns))),
        st.tuples(number, number).map(lambda ab: f"{min(ab)}-{max(ab)}"),
    )


def crons() -> st.SearchStrategy[str]:
    night = st.one_of(fields(0, 23), fields(0, 3))
    day = st.sampled_from(("*", "*", "*", "1-31", "24-31", "*/2"))
    weekday = st.sampled_from(("*", "*", "0,5,6,7", "1-5"))
    return st.tuples(fields(0, 59), night, day, st.just("*"), weekday).map(" ".join)


@functools.cache
def changes_of(tz: str) -> list[datetime]:
    """When a zone changes its clocks in 2026; some time where it does not."""
    zone, half_an_hour = ZoneInfo(tz), timedelta(minutes=30)
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + n * half_an_hour for n in range(366 * 24 * 2)]
    offsets = [moment.astimezone(zone).utcoffset() for moment in moments]
    found = [
        moment
        for moment, before, after in zip(moments[1:], offsets, offsets[1:], strict=False)
        if before != after
    ]
    return found or [datetime(2026, 3, 1, tzinfo=UTC)]


def test_the_zones_change_their_clocks() -> None:
    assert {tz: len(changes_of(tz)) for tz in ZONES} == {
        **dict.fromkeys(ZONES, 2),
        "UTC": 1,
    }


@pytest.mark.campaign
@settings(deadline=None)
@given(
    cron=crons(),
    tz=st.sampled_from(ZONES),
    change=st.integers(0, 1),
    before_s=st.integers(-6 * 3600, 6 * 3600),
)
@example(cron="*/15 1 * * *", tz="Africa/Cairo", change=0, before_s=3600)
@example(cron="*/15 3 * * *", tz="Australia/Lord_Howe", change=1, before_s=7200)
@example(cron="30 2 * * *", tz="Europe/Berlin", change=0, before_s=7200)
@example(cron="30 2 * * *", tz="Europe/Berlin", change=1, before_s=-600)
@example(cron="15,45 2,3 * * *", tz="Europe/Berlin", change=0, before_s=7200)
def test_every_time_and_no_other(cron: str, tz: str, change: int, before_s: int) -> None:
    changes = changes_of(tz)
    at = changes[change % len(changes)]
    since = at - timedelta(seconds=before_s)
    until = since + timedelta(hours=30)
    found = list(times_of(cron, tz).following(since, until))
    expected = Oracle(cron, tz).between(since.replace(second=0) - MINUTE, until)
    assert found == [one for one in expected if one > since]
    assert found == sorted(set(found))


@pytest.mark.campaign
@settings(deadline=None)
@given(cron=crons(), tz=st.sampled_from(ZONES), days=st.integers(1, 4), most=st.integers(1, 30))
def test_the_last_times_are_those_at_the_end(cron: str, tz: str, days: int, most: int) -> None:
    since = changes_of(tz)[0] - timedelta(hours=20)
    until = since + timedelta(days=days)
    times = times_of(cron, tz)
    assert times.last_of(since, until, most) == list(times.following(since, until))[-most:]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def firsts(cron: str, tz: str, after: str, count: int) -> list[str]:
    times = times_of(cron, tz)
    found = list(islice(times.following(utc(after), utc("2100-01-01")), count))
    return [f"{one.astimezone(ZoneInfo(tz)):%m-%d %H:%M%z}" for one in found]


def test_a_fixed_time_that_the_clock_leaves_out_is_fired_once_at_the_change() -> None:
    assert firsts("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", 3) == [
        "03-29 03:00+0200",
        "03-30 02:30+0200",
        "03-31 02:30+0200",
    ]


def test_a_fixed_time_that_the_clock_shows_twice_is_fired_once() -> None:
    assert firsts("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", 2) == [
        "10-25 02:30+0200",
        "10-26 02:30+0100",
    ]


def test_what_runs_every_30_minutes_keeps_its_interval() -> None:
    assert firsts("*/30 * * * *", "Europe/Berlin", "2026-03-29 00:29", 3) == [
        "03-29 01:30+0100",
        "03-29 03:00+0200",
        "03-29 03:30+0200",
    ]
    assert firsts("*/30 * * * *", "Europe/Berlin", "2026-10-25 00:00", 4) == [
        "10-25 02:30+0200",
        "10-25 02:00+0100",
        "10-25 02:30+0100",
        "10-25 03:00+0100",
    ]


def test_an_interval_of_seconds_counts_from_its_beginning() -> None:
    begun = utc("2026-03-28 12:00")
    times = ScheduleTimes(
        Schedule(schedule_name="s", workflow_type="w", every_seconds=3600, created_at=begun)
    )
    assert times.after(begun - timedelta(days=9)) == begun + timedelta(hours=1)
    found = list(times.following(begun + timedelta(minutes=90), begun + timedelta(days=2)))
    assert found == [begun + timedelta(hours=n) for n in range(2, 49)]


def test_it_ends() -> None:
    times = times_of("0 3 * * *", ends_at=utc("2026-01-03 03:00"))
    assert times.after(utc("2026-01-02 03:00")) == utc("2026-01-03 03:00")
    assert times.after(utc("2026-01-03 03:00")) is None
    assert times_of("* * * * *").after(datetime.max.replace(tzinfo=UTC)) is None


def test_the_last_time_of_many_years_is_found_at_once() -> None:
    times = times_of("* * * 1 *", "Europe/Berlin")
    found = times.last_of(utc("1990-01-01"), utc("2026-12-24"), 1)
    assert found == [utc("2026-01-31 22:59")]


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("0 0 30 2 *", "no month has such a day"),
        ("0 0 31 4,6 *", "no month has such a day"),
        ("60 * * * *", "minute"),
        ("0 3 * *", "has 4"),
        ("@daily", "has 1"),
        ("0 0 3 * * *", "every=timedelta"),
        ("", "has 0"),
        ("a b c d e", "minute"),
    ],
)
def test_what_is_no_expression_is_refused(cron: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_cron(cron)


@pytest.mark.parametrize("name", ["Europe/Berln", "", "../etc/passwd", "Europe", "/etc/localtime"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tz must be a time zone"):
        zone(name)


def test_a_zone_that_is_misspelt_is_named() -> None:
    with pytest.raises(ValueError, match="Europe/Berlin"):
        zone("Europe/Berln")
