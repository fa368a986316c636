"""What a check-up finds, and what alarms: the same on the command line and on every page."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

TOGETHER: Final = 3
"""So many executions that fail with the same error, within an hour, are a cause to look for."""

RECENTLY: Final = timedelta(hours=1)

LATE: Final = timedelta(minutes=1)
"""Work that has waited for so long has no worker that runs it, or none with room."""

SHOWN: Final = 5

COUNTED: Final = 10_000
"""So many late deadlines are counted; more are said to be so many."""


class Level(StrEnum):
    """OK and NOTE need nobody; WARNING needs somebody soon, ERROR now."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    @property
    def needs_somebody(self) -> bool:
        return self in (Level.WARNING, Level.ERROR)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, in one word, and what was found; `hint` says what to do.

    details: in full, what the message only names.
    """

    level: Level
    check: str
    message: str
    hint: str | None = None
    details: tuple[str, ...] = ()


class Kind(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Money or data are at stake."""

    WARNING = "warning"
    """Something does not go on, or may not."""

    INFO = "info"
    """It is good to know."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """So many things that are alike. count: where it is `COUNTED`, at least so many.

    name: as the checks of `doctor`: not-undone, trouble, disk, blocked, undoing, cut-off, in-doubt,
    timers, workers (none lives, and these wait for one), unknown (no living worker runs their
    workflow), stopped (workers); and queue (waits for a worker for longer than `LATE`), failed (in
    the last hour).
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
