"""What a check-up finds: `Finding`, and how its parts are said."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

LATE: Final = timedelta(minutes=1)
"""Work that has waited for so long has no worker that runs it, or none with room."""

SHOWN: Final = 5


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


def many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def at(time: datetime | None) -> str:
    return "?" if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"
