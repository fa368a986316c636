"""Tables for people, and plain lines for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from durable_workflow_sqlite.cli.output import is_terminal, printable, write

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
        write("\t".join(map(plain, row)) + "\n")


def plain(cell: Cell) -> str:
    """A cell in a pipe: times in ISO-8601, and no tab, line end or control character."""
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return printable(cell.plain if isinstance(cell, Text) else str(cell))


def execution_id(text: str) -> Text:
    """In one line, to be copied, unless it is longer than a UUID."""
    return Text(printable(text), no_wrap=len(text) <= UUID_LENGTH)


def status(text: str) -> Text:
    return Text(printable(text), style=STATUS_STYLES.get(text, "bold red"), no_wrap=True)


def _shown(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    if isinstance(cell, datetime):
        return Text(cell.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ"))
    return Text("" if cell is None else printable(str(cell)))
