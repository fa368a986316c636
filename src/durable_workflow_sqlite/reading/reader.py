"""`Reader`: the questions of people about a store. The command line and the dashboard use it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.reading.acts import NamedAct
from durable_workflow_sqlite.reading.encodings import EncodedValues
from durable_workflow_sqlite.reading.executions import (
    ExecutionCount,
    ExecutionDetails,
    ExecutionSummary,
    Page,
)
from durable_workflow_sqlite.reading.findings import Alarm, Finding
from durable_workflow_sqlite.reading.histories import ExecutionHistory, UnreadableHistory
from durable_workflow_sqlite.reading.overview import Hour, Overview, Problem, Prunable, QueueWait
from durable_workflow_sqlite.reading.pauses import Paused
from durable_workflow_sqlite.reading.queues import HeldSlot, NamedQueue, Queues
from durable_workflow_sqlite.reading.schedules import ScheduleState
from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.reading.streams import StreamPart
from durable_workflow_sqlite.reading.workers import Workers


class Reader(Protocol):
    """A store that is open only for reading, by one thread. Use `open_reader` in `with`.

    It changes nothing. It works with or without running workers, and also reads rows that no engine
    can read. Each method reads the store at one moment, and raises StoreError if that fails.
    """

    @property
    def name(self) -> str:
        """What was opened, as a command takes it: the path of a file, or a URL without password."""
        ...

    def changes(self) -> int:
        """A number that changes whenever another connection commits; reading it costs nothing."""
        ...

    def counts(self) -> list[ExecutionCount]:
        """How many executions there are, by workflow type, version and status."""
        ...

    def overview(self, now: datetime, *, limit: int = 10) -> Overview:
        """The problems and the work in progress: at most `limit` of each kind, and the counts."""
        ...

    def paused(self, *, limit: int = 10) -> Paused:
        """What a person has paused; of executions that are paused themselves, at most `limit`."""
        ...

    def page(
        self, selection: Selection | None = None, after: str | None = None, limit: int = 50
    ) -> Page:
        """A page of the executions of a selection, or of all, the newest first.

        after: `next` of the previous page. Raises ValueError for any other text.
        """
        ...

    def execution_ids(self, selection: Selection) -> Iterator[list[str]]:
        """The ids of all executions of a selection, the newest first, in several lists.

        Each list is read separately. Executions that are created in the meantime are left out.
        """
        ...

    def summaries(self, execution_ids: Sequence[str]) -> tuple[ExecutionSummary, ...]:
        """The state of some executions, in the order of the ids; unknown ids are left out."""
        ...

    def in_doubt_among(self, rows: Sequence[ExecutionSummary]) -> set[str]:
        """The ids of those that have a step in doubt: it began, and no living worker runs it."""
        ...

    def execution(self, execution_id: str) -> ExecutionDetails | None:
        """All that is stored about one execution; None if no execution has this id."""
        ...

    def histories(self, execution_ids: Sequence[str]) -> list[ExecutionHistory | UnreadableHistory]:
        """What a replay of some executions needs, by their ids; unknown ids are left out."""
        ...

    def stream(
        self, execution_id: str, *, after: int | None = None, limit: int = 200
    ) -> StreamPart | None:
        """The next items of all streams of an execution behind a number; None if there is no such
        execution.

        after: the `last` of another part; None for the newest items. limit: how many at most.
        """
        ...

    def workflow_types(self) -> list[str]:
        """The types of the known workflows."""
        ...

    def workers(
        self, counts: Sequence[ExecutionCount] | None = None, *, limit: int = 10
    ) -> Workers:
        """The workers and their queues; of each worker, at most `limit` running steps.

        counts: the result of `counts`, if the caller has it; counting takes time.
        """
        ...

    def schedules(self) -> list[ScheduleState]:
        """All schedules, by name."""
        ...

    def queues(self, now: datetime) -> Queues:
        """The named queues and the limits for steps by name, and what waits in each queue."""
        ...

    def named_queues(self) -> list[NamedQueue]:
        """The named queues, with their limits and what is in them, by name."""
        ...

    def held_slots(self, kind: str, name: str, *, limit: int = 10) -> list[HeldSlot]:
        """Who holds the slots of a queue (kind QUEUE) or of a limit for steps (STEP).

        The longest first, and at most `limit` of them.
        """
        ...

    def acts(
        self, scopes: Sequence[str] | None = None, name: str | None = None, *, limit: int = 50
    ) -> list[NamedAct]:
        """What people did last, the newest first.

        scopes: only what was done to these, of SCHEDULE, WORKFLOW, QUEUE, STEP and ALL; None: to
            anything, also to executions. name: only what was done to that one of these.
        """
        ...

    def questions(
        self, *, to: str | None = None, execution_id: str | None = None, limit: int = 100
    ) -> list[Question]:
        """The questions to people that are open: the longest waiting first; at most `limit`.

        to, execution_id: as for `Client.questions`.
        """
        ...

    def count_living_workers(self) -> int:
        """How many workers have the store open."""
        ...

    def problems(
        self, failed_since: datetime | None = None, *, limit: int | None = None
    ) -> list[Problem]:
        """Failures and trouble in groups, the newest first.

        failed_since: leave out earlier failures. Trouble has no such limit.
        """
        ...

    def throughput(self, now: datetime, *, hours: int = 24) -> list[Hour]:
        """How many executions began and ended in the last hours, the oldest first."""
        ...

    def queue_waits(self) -> list[QueueWait]:
        """The due executions that wait for a worker, by workflow, the longest wait first."""
        ...

    def alarms(self, now: datetime, counts: Sequence[ExecutionCount] | None = None) -> list[Alarm]:
        """Counts of the problems that need a person, errors first.

        counts: as for `workers`.
        """
        ...

    def encodings(self) -> list[EncodedValues]:
        """How many values each key has encoded, and how many are plain."""
        ...

    def check_up(self, now: datetime, *, quick: bool = False) -> Iterator[Finding]:
        """The result of each check of the store. quick: leave out slow checks."""
        ...

    def disk(self) -> Finding:
        """Whether the disk has enough room."""
        ...

    def prunable(self, before: datetime, statuses: Collection[str]) -> list[Prunable]:
        """Counts of the finished executions that a deletion would delete now."""
        ...

    def back_up(self, copy: Path, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the store at one moment to a new file, while workers continue.

        on_progress: called with the pages done and the pages in all. Raises FileExistsError or
            StoreError.
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
