"""Values as people read them: times, sizes, and texts that may have been made to deceive."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

SHOWN_CHARACTERS: Final = 2_000
"""How much of a payload a page shows among other things."""

SHOWN_ALONE: Final = 200_000
"""How much of a payload is shown on a page of its own."""

_MAX_DEPTH: Final = 40
"""JSON that is nested deeper is shown as it is: indenting it could take a page of blanks a line."""

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


class Payload(NamedTuple):
    """A stored text, ready to be shown."""

    text: str
    size: int
    """In characters, all of it."""

    is_cut: bool


def payload(stored: str, shown: int = SHOWN_CHARACTERS) -> Payload:
    """What to show of a stored text: indented if it is JSON and all of it is shown."""
    is_cut = len(stored) > shown
    text = stored if is_cut else _indented(stored) or stored
    # A line is cut, too: a browser takes seconds to lay out one of a million characters.
    return Payload(visible(text[: 2 * shown], keep_lines=True), len(stored), is_cut)


def visible(text: str, *, keep_lines: bool = False) -> str:
    """A text in which nothing hides: what has no shape, or turns others around, as its escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one == " " or (keep_lines and one in "\n\t") else _escape(one)
        for one in text
    )


def duration(length: timedelta) -> str:
    """Two units at most: 350 ms, 4.2 s, 3 min 20 s, 2 h 5 min, 6 d 23 h."""
    seconds = length.total_seconds()
    sign = "-" if seconds < 0 else ""
    seconds = abs(seconds)
    if seconds < 0.0995:
        return f"{sign}{seconds * 1000:.1f} ms".replace(".0 ", " ")
    if seconds < 0.9995:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{sign}{seconds:.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    parts: list[str] = []
    for unit, length_of_unit in _UNITS:
        count, whole = divmod(whole, length_of_unit)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return sign + " ".join(parts)


def ago(time: datetime, now: datetime) -> str:
    """A time as seen from now: "3 min ago", "in 2 h"; one unit."""
    seconds = (now - time).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    for unit, length in _UNITS:
        if abs(seconds) >= length:
            count = int(abs(seconds) // length)
            return f"{count} {unit} ago" if seconds > 0 else f"in {count} {unit}"
    return "just now"


def exactly(time: datetime) -> str:
    """A time to the millisecond, in UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d} UTC"


def shortly(time: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{time.day} {time:%b %Y, %H:%M} UTC"


def size(characters: int) -> str:
    if characters < 1000:
        return f"{characters} characters"
    if characters < 1_000_000:
        return f"{characters / 1000:.1f} kB"
    return f"{characters / 1_000_000:.1f} MB"


def _indented(text: str) -> str | None:
    """JSON, indented, with its numbers and escapes as they are; None if it is none, or too deep."""
    if _depth(text) > _MAX_DEPTH:
        return None
    try:
        return msgspec.json.format(text, indent=2)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None


def _depth(text: str) -> int:
    """How deep JSON is nested at most; brackets in strings count, too."""
    depth = deepest = 0
    for one in text:
        if one in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif one in "]}":
            depth -= 1
    return deepest


def _escape(one: str) -> str:
    """As JSON and Python write it; a blank of its own kind stays a blank."""
    if unicodedata.category(one) == "Zs":
        return " "
    code = ord(one)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
