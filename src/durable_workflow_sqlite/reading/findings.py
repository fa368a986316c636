"""Findings and alarms: the same for the command line and the dashboard."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

TOGETHER: Final = 3
"""So many executions that fail with the same error, within an hour, are a cause to look for."""

RECENTLY: Final = timedelta(hours=1)

LATE: Final = timedelta(minutes=1)
"""Work that is due for longer than this has no worker, or no worker with a free slot."""

FORGOTTEN: Final = timedelta(days=1)
"""After this time, a person should look again at what is paused and holds executions."""

SHOWN: Final = 5

COUNTED: Final = 10_000
"""The highest count of an alarm; a larger number is given as this one."""


class Level(StrEnum):
    """OK and NOTE need no action. A person must act on a WARNING soon, and on an ERROR now."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    @property
    def needs_somebody(self) -> bool:
        return self in (Level.WARNING, Level.ERROR)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check.

    check: the name of the check, in one word.
    hint: what to do. Every finding has one, except those of level OK.
    details: the full texts of what the message only names.
    """

    level: Level
    check: str
    message: str
    hint: str | None = None
    details: tuple[str, ...] = ()


class Kind(StrEnum):
    """How bad an alarm is."""

    ERROR = "error"
    """Money or data are at stake."""

    WARNING = "warning"
    """Something does not continue, or may not."""

    INFO = "info"
    """It is good to know."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A number of equal problems. count: if it is `COUNTED`, there may be more.

    name: the same as the check of `doctor`: not-undone, trouble, disk, blocked, undoing, cut-off,
    in-doubt, timers, stopped, workers (none lives, and these wait), unknown (no living worker has
    their workflow registered), schedule. Also queues (what `queue_findings` finds), queue (waits
    for a worker for longer than `LATE`, and not for a slot), and failed (in the last hour). And
    unresolved: steps in doubt that wait for the answer of a person.
    examples: the ids of some of these executions.
    """

    kind: Kind
    name: str
    count: int
    examples: tuple[str, ...] = ()


def many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def at(time: datetime | None) -> str:
    return "?" if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"
