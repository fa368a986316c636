"""How the command line says things: a line for people, and exactly that for a program."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec


class WrongUsageError(Exception):
    """The arguments make no sense together; the command ends with exit status 2."""


def is_terminal() -> bool:
    """Whether a person reads what is written."""
    return sys.stdout.isatty()


def can_ask() -> bool:
    """Whether a person can answer a question."""
    return is_terminal() and sys.stdin.isatty()


def write_ids(ids: Iterable[str]) -> None:
    """An id a line: on a terminal as it is shown, in a pipe as it is."""
    for one in ids:
        is_shown = is_terminal() or any(unicodedata.category(part) == "Cc" for part in one)
        write((printable(one) if is_shown else one) + "\n")


def write_json(value: object) -> None:
    """One line of JSON."""
    write(msgspec.json.encode(value).decode() + "\n")


def say(text: str) -> None:
    write(printable(text) + "\n")


def fail(problem: str) -> None:
    """One line on stderr."""
    sys.stderr.write(printable(" ".join(problem.split())) + "\n")


def printable(text: str) -> str:
    """A text that does nothing to a terminal: control characters stand as `\\x1b`, and so on."""
    if text.isprintable():
        return text
    return "".join(
        one if unicodedata.category(one) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} else _escaped(one)
        for one in text
    )


def ago(time: datetime | None, now: datetime) -> str:
    """How long ago, or how soon, as people say it."""
    if time is None:
        return ""
    return f"{span(now - time)} ago" if time <= now else f"in {span(time - now)}"


def span(length: timedelta) -> str:
    """A length of time in its largest unit, as in `3 h`."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"


def is_dumb() -> bool:
    return os.environ.get("TERM") in (None, "dumb")


def write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough. What is left goes nowhere when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
