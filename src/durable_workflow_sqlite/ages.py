"""Ages as people write them: 90s, 15m, 6h, 30d, 2w."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def time_before(age: str, now: datetime) -> datetime:
    """The time that is so long ago. Raises ValueError for text that is not an age."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", age.strip().lower())
    if match is None or match[2] not in _SECONDS:
        raise ValueError(f"{age!r} is not an age; write a number and a unit: 90s, 15m, 6h, 30d, 2w")
    try:
        return now - timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise ValueError(f"{age} is too long ago; give a shorter age") from None
