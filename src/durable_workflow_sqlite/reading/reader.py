"""`Reader`: what people ask of a store. The command line and the dashboard read with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from durable_workflow_sqlite.reading.executions import (
    ExecutionCount,
    ExecutionDetails,
    ExecutionSummary,
    Page,
)
from durable_workflow_sqlite.reading.findings import Alarm, Finding
from durable_workflow_sqlite.reading.overview import Hour, Overview, Problem, Prunable, QueueWait
from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.reading.workers import Workers


class Reader(Protocol):
    """A store opened to be read, by one thread: `open_reader` opens one. Use it in `with`.

    It changes nothing, works beside running workers or without any, and reads rows that no engine
    can read, too. Each method reads the store as it is at one moment, and raises StoreError if that
    fails.
    """

    @property
    def path(self) -> Path:
        """The file that was opened."""
        ...

    def changes(self) -> int:
        """A number that is another one whenever somebody else has committed; it costs nothing."""
        ...

    def counts(self) -> list[ExecutionCount]:
        """How many executions there are, by workflow type, version and status."""
        ...

    def overview(self, now: datetime, *, limit: int = 10) -> Overview:
        """What to look at first; at most `limit` of each kind, and how many there are."""
        ...

    def page(
        self, selection: Selection | None = None, after: str | None = None, limit: int = 50
    ) -> Page:
        """A page of the executions of a selection, or of all, the newest first.

        after: the `next` of the page before. Raises ValueError for any other text.
        """
        ...

    def execution_ids(self, selection: Selection) -> Iterator[list[str]]:
        """The ids of all executions of a selection, the newest first, some at a time.

        Those that are created meanwhile are left out; each list is of a moment of its own.
        """
        ...

    def summaries(self, execution_ids: Sequence[str]) -> tuple[ExecutionSummary, ...]:
        """Where some executions are, in that order; those that are not there are left out."""
        ...

    def in_doubt_among(self, rows: Sequence[ExecutionSummary]) -> set[str]:
        """The ids of those that are in a step, and that no living worker has."""
        ...

    def execution(self, execution_id: str) -> ExecutionDetails | None:
        """Everything of one execution; None if no execution has this id."""
        ...

    def workflow_types(self) -> list[str]:
        """The types of the workflows that are known."""
        ...

    def workers(
        self, counts: Sequence[ExecutionCount] | None = None, *, limit: int = 10
    ) -> Workers:
        """Who works, and what there is to do; at most `limit` of what each worker does now.

        counts: what `counts` gave, if the caller has it: to count is what takes time.
        """
        ...

    def count_living_workers(self) -> int:
        """How many workers have the store open."""
        ...

    def problems(
        self, failed_since: datetime | None = None, *, limit: int | None = None
    ) -> list[Problem]:
        """Failures and trouble in groups; those that happened last come first.

        failed_since: leave out what failed before that; what is in trouble, is so now.
        """
        ...

    def throughput(self, now: datetime, *, hours: int = 24) -> list[Hour]:
        """How many executions began and ended in the last hours, the oldest first."""
        ...

    def queue_waits(self) -> list[QueueWait]:
        """What is due and waits for a worker, by workflow, the longest wait first."""
        ...

    def alarms(self, now: datetime, counts: Sequence[ExecutionCount] | None = None) -> list[Alarm]:
        """What somebody should look at, each as one number, errors first.

        counts: as for `workers`.
        """
        ...

    def check_up(self, now: datetime, *, quick: bool = False) -> Iterator[Finding]:
        """What is wrong, one thing after the other. quick: leave out what takes long."""
        ...

    def disk(self) -> Finding:
        """Whether there is room for what workers record."""
        ...

    def prunable(self, before: datetime, statuses: Collection[str]) -> list[Prunable]:
        """What a deletion of the finished executions of these statuses would delete now."""
        ...

    def back_up(self, copy: Path, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the store as it is at one moment to a new file; workers go on meanwhile.

        on_progress: told how much is done, and of how much. Raises FileExistsError, StoreError.
        """
        ...

    def close(self) -> None:
        """Close the store. Closing twice has no effect."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
