"""How the command line says things: tables for people, plain lines for programs."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

Cell = str | int | datetime | Text | None

UUID_LENGTH = 36

STATUS_STYLES = {
    "PENDING": "cyan",
    "RUNNING": "bold blue",
    "SUSPENDED": "yellow",
    "COMPLETED": "green",
    "FAILED": "bold red",
    "COMPENSATING": "magenta",
    "CANCELLED": "dim",
    "INTENT": "bold blue",
    "COMPENSATED": "magenta",
    "DELIVERED": "green",
    "EXPIRED": "dim",
    "REFUSED": "bold red",
    "FIRED": "green",
}


class WrongUsageError(Exception):
    """The arguments make no sense together; the command ends with exit status 2."""


def is_terminal() -> bool:
    """Whether a person reads what is written."""
    return sys.stdout.isatty()


def can_ask() -> bool:
    """Whether a person can answer a question."""
    return is_terminal() and sys.stdin.isatty()


def console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def error_console() -> Console:
    return Console(highlight=False, stderr=True)


def write_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str = "none"
) -> None:
    """A table on a terminal. In a pipe, the rows alone: a line each, tabs between the cells."""
    if not is_terminal():
        write_lines(rows)
        return
    console().print(make_table(title, columns, rows, empty=empty))


def make_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str = "none"
) -> Group | Text:
    """A table with a title. Where no column has a name, the first one names the rows."""
    cells = [list(row) for row in rows]
    if not cells:
        return Text(f"{title}: {empty}")
    has_head = any(columns)
    table = Table(box=None, pad_edge=False, show_header=has_head)
    shown = [list(map(_shown, row)) for row in cells]
    for number, column in enumerate(columns):
        table.add_column(
            Text(printable(column), "dim"),  # it may be the file's
            overflow="fold",
            # What must stay in one line is given its room; the others share the rest.
            no_wrap=any(row[number].no_wrap for row in shown) if has_head else number == 0,
        )
    for row in shown:
        table.add_row(*row)
    return Group(Text(title, "bold"), table)


def write_lines(rows: Iterable[Sequence[Cell]]) -> None:
    """A line for each row, with tabs between the cells; an empty cell for what is not there."""
    for row in rows:
        _write("\t".join(map(plain, row)) + "\n")


def write_ids(ids: Iterable[str]) -> None:
    """An id a line: on a terminal as it is shown, in a pipe as it is."""
    for one in ids:
        is_shown = is_terminal() or any(unicodedata.category(part) == "Cc" for part in one)
        _write((printable(one) if is_shown else one) + "\n")


def write_json(value: object) -> None:
    """One line of JSON."""
    _write(msgspec.json.encode(value).decode() + "\n")


def say(text: str) -> None:
    _write(printable(text) + "\n")


def fail(problem: str) -> None:
    """One line on stderr."""
    sys.stderr.write(printable(" ".join(problem.split())) + "\n")


def plain(cell: Cell) -> str:
    """A cell in a pipe: times in ISO-8601, and no tab, line end or control character."""
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return printable(cell.plain if isinstance(cell, Text) else str(cell))


def printable(text: str) -> str:
    """A text that does nothing to a terminal: control characters stand as `\\x1b`, and so on."""
    if text.isprintable():
        return text
    return "".join(
        one if unicodedata.category(one) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} else _escaped(one)
        for one in text
    )


def execution_id(text: str) -> Text:
    """In one line, to be copied, unless it is longer than a UUID."""
    return Text(printable(text), no_wrap=len(text) <= UUID_LENGTH)


def status(text: str) -> Text:
    return Text(printable(text), style=STATUS_STYLES.get(text, "bold red"), no_wrap=True)


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


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough. What is left goes nowhere when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def _shown(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    if isinstance(cell, datetime):
        return Text(cell.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ"))
    return Text("" if cell is None else printable(str(cell)))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
