"""The times of a schedule: of a cron expression in a time zone, or of a fixed interval.

`cronsim` finds the next time on a clock that never changes. The change to and from summer time is
done here, by the rules of Debian's cron:

- If minute and hour are both fixed (neither begins with a star), each time of a day is one time.
  A time that the clock leaves out counts as the moment of the change. Of a time that the clock
  shows twice, the first counts.
- In all other expressions, a time is each minute at which the clock shows a matching time. So what
  runs every n minutes keeps its interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.records import Schedule

A_SECOND: Final = timedelta(seconds=1)
A_DAY: Final = timedelta(days=1)
LAST_TIME: Final = datetime(9900, 1, 1, tzinfo=UTC)
"""No schedule goes on for longer: what looks ahead needs years to look at."""


class ScheduleTimes:
    """The times of one schedule, in UTC; they grow strictly.

    Raises ValueError for an expression, or for a zone, that does not exist, and for an expression
    that matches no time.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._ends_at = schedule.ends_at
        self._cron = schedule.cron
        self._begins_at = schedule.created_at.replace(microsecond=0)
        self._every: timedelta | None = None
        self._zone: tzinfo = UTC
        if schedule.cron is None:
            self._every = timedelta(seconds=schedule.every_seconds or 0)
        else:
            self._zone = zone(schedule.tz)
            self._is_fixed = check_cron(schedule.cron)

    def after(self, moment: datetime) -> datetime | None:
        """The first time after a moment; None if there is none."""
        moment = moment.astimezone(UTC)
        if moment >= LAST_TIME:
            return None
        if self._every is not None:
            found = self._next_of_interval(moment, self._every)
        elif self._is_fixed:
            found = self._next_fixed(moment)
        else:
            found = self._next_matching(moment)
        if found is None or (self._ends_at is not None and found > self._ends_at):
            return None
        return found

    def following(self, moment: datetime, until: datetime) -> Iterator[datetime]:
        """The times after a moment, up to a moment."""
        while (found := self.after(moment)) is not None and found <= until:
            yield found
            moment = found

    def last_of(self, since: datetime, until: datetime, most: int) -> list[datetime]:
        """The last times after a moment and up to another, the oldest first.

        It does not visit all of them, so it also takes milliseconds after years.
        """

        def first_after(moment: datetime, count: int) -> list[datetime]:
            return list(islice(self.following(moment, until), count))

        found = first_after(since, most + 1)
        if len(found) <= most:
            return found
        too_many, few = since, until
        while few - too_many > A_SECOND:
            middle = too_many + (few - too_many) / 2
            if len(first_after(middle, most + 1)) > most:
                too_many = middle
            else:
                few = middle
        return first_after(few, most)

    def _next_of_interval(self, moment: datetime, every: timedelta) -> datetime | None:
        passed = (moment - self._begins_at) // every
        return self._begins_at + max(passed + 1, 1) * every

    def _next_fixed(self, moment: datetime) -> datetime | None:
        for shown in self._shown_after(moment.astimezone(self._zone)):
            found = _first_moment_of(shown, self._zone)
            if found > moment:
                return found
        return None

    def _next_matching(self, moment: datetime) -> datetime | None:
        """From one change of the zone's offset to the next, until there is a match."""
        begin, after = moment, moment
        while True:
            offset = _offset(self._zone, begin)
            shown = next(self._shown_after(after + offset), None)
            if shown is None:
                return None
            found = shown.replace(tzinfo=UTC) - offset
            change = _first_change(self._zone, begin, found)
            if change is None:
                return found
            begin, after = change, change - A_SECOND  # the moment of the change may match

    def _shown_after(self, shown: datetime) -> Iterator[datetime]:
        """What a clock that never changes shows at the next times of the expression."""
        assert self._cron is not None
        return CronSim(self._cron, shown.replace(tzinfo=None))


def check_cron(cron: str) -> bool:
    """Whether minute and hour are fixed. Raises ValueError unless it matches a time.

    The five fields of Debian's cron: minute, hour, day of the month, month, day of the week.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(
            f"cron must have five fields (minute, hour, day of the month, month, day of the week):"
            f" {cron!r} has {len(fields)}. For seconds, give every=timedelta(seconds=...)"
        )
    try:
        found = next(CronSim(cron, datetime(2000, 1, 1)), None)  # noqa: DTZ001 - of no zone
    except CronSimError as error:
        what = str(error).removeprefix("Bad ")
        raise ValueError(
            f"cron {cron!r} is not valid: its {what} is out of range, or no month has such a day"
            if what == "day-of-month"
            else f"cron {cron!r} is not valid: its {what} is out of range, or misspelt"
        ) from None
    if found is None:
        raise ValueError(f"cron {cron!r} matches no time of the next 50 years")
    return not fields[0].startswith("*") and not fields[1].startswith("*")


def zone(name: str) -> tzinfo:
    """A time zone by its name in the IANA database. Raises ValueError for an unknown one."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # none of that name, no name at all, a folder
        known = available_timezones()
        hint = nearest(name, known) if known else "; this machine knows none: install tzdata"
        raise ValueError(
            f"tz must be a time zone, as 'Europe/Berlin', not {name!r}{hint}"
        ) from None


def _first_moment_of(shown: datetime, zone: tzinfo) -> datetime:
    """When a clock first shows a time; when it leaves it out, the moment of the change."""
    found = shown.replace(tzinfo=zone).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == shown:
        return found
    before = shown.replace(tzinfo=zone, fold=1).astimezone(UTC)
    change = _first_change(zone, before - A_SECOND, found)
    return found if change is None else change


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _first_change(zone: tzinfo, after: datetime, until: datetime) -> datetime | None:
    """The first moment after one, and up to another, at which the zone has a new offset."""
    if zone is UTC:
        return None
    offset = _offset(zone, after)
    low = after
    while low < until:  # no zone changes its offset twice in a day
        high = min(low + A_DAY, until)
        if _offset(zone, high) != offset:
            break
        low = high
    else:
        return None
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)  # as all zones do
    while high - low > A_SECOND:
        middle = low + ((high - low) // 2 // A_SECOND) * A_SECOND
        if _offset(zone, middle) == offset:
            low = middle
        else:
            high = middle
    return high
