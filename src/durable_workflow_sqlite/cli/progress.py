"""A bar that says how far a command has got."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from durable_workflow_sqlite.cli import output, tables


class Advance:
    """Moves the bar: `(done)` or `(done, total)`."""

    def __init__(self, progress: Progress, what: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)

    def doing(self, what: str, done: int, total: int) -> None:
        """Moves the bar, and says what is done now."""
        self._progress.update(self._task, description=what, completed=done, total=total)

    def __call__(self, done: int, total: int | None = None) -> None:
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress(what: str, total: int | None) -> Generator[Advance]:
    """A bar on a terminal, on stderr; nothing in a pipe."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=tables.error_console(),
        transient=True,
        disable=not output.is_terminal(),
    ) as bar:
        yield Advance(bar, what, total)
