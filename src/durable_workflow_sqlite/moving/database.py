"""What a move asks of a database. Each kind of store has a class that does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

TABLES: Final = (
    "workflows",
    "workflow_executions",
    "step_checkpoints",
    "workflow_timers",
    "workflow_signals",
    "workflow_patches",
    "workflow_stream_items",
    "workflow_progress_reports",
    "workflow_tags",
    "workflow_audit_log",
    "workflow_limits",
    "workflow_limit_uses",
    "workflow_pauses",
    "workflow_spreading",
    "workflow_schedules",
    "workflow_workers",
    "workflow_worker_workflows",
    "workflow_worker_queues",
)
"""What is moved, in an order in which a row comes after those that it refers to.

Claims, and the slots of limits that are held under them, are not moved: the move takes every
execution from its worker. `workflow_moves` is about the one database or the other.
"""

Row = tuple[str | int | float | None, ...]
"""A time is the text that SQLite keeps, and a flag is 0 or 1."""


class Move(NamedTuple):
    """One move, as one of its two databases knows it; `other` is the other one."""

    move_id: str
    other: str
    started_at: str
    is_finished: bool


class Moves(NamedTuple):
    """The moves that a database knows of."""

    out: Move | None = None
    into: Move | None = None


class MovableDatabase(Protocol):
    """A database that is moved, or that one is moved into. Its methods raise StoreError.

    name: for people, without a password.
    """

    name: str

    def moves(self) -> Moves:
        """The moves out of it, and into it."""
        ...

    def count_living_workers(self) -> int: ...

    def count_rows(self) -> dict[str, int]:
        """How many rows each of `TABLES` has."""
        ...

    def tables_of_others(self) -> list[str]:
        """The names of the tables beside ours, which are not moved: of users, of integrations."""
        ...

    def check(self) -> None:
        """Raise StoreCorruptError for rows that no other database takes."""
        ...

    def rows(self, table: str, skipped: int = 0) -> Iterator[Row]:
        """The rows of a table in the order of its key, without the first ones."""
        ...

    def fence(self, move_id: str, other: str, moved_by: str, now: datetime) -> None:
        """From now on, only `unfence` and `finish` write here.

        Every claim ends, as if its worker had been told to stop.
        """
        ...

    def unfence(self) -> None:
        """Give up an unfinished move out of here."""
        ...

    def have_it_alone(self) -> None:
        """Until this is closed, no other move goes into it. Raises StoreBusyError if one does."""
        ...

    def begin(self, move_id: str, other: str, moved_by: str, now: datetime) -> None:
        """Begin a move into here: drop indexes and triggers. Until `finish`, no store opens."""
        ...

    def write(self, table: str, rows: Sequence[Row]) -> None:
        """Add rows, in one transaction."""
        ...

    def finish(self, now: datetime) -> None:
        """Record the end of a move, out of here or into here; make again what was dropped."""
        ...

    def close(self) -> None: ...
