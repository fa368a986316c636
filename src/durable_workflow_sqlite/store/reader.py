"""`StatementReader`: a `Reader` by queries; each question is answered by a module below."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.reading.acts import NamedAct
from durable_workflow_sqlite.reading.encodings import EncodedValues
from durable_workflow_sqlite.reading.executions import (
    ExecutionCount,
    ExecutionDetails,
    ExecutionSummary,
    Page,
)
from durable_workflow_sqlite.reading.findings import Alarm
from durable_workflow_sqlite.reading.histories import ExecutionHistory, UnreadableHistory
from durable_workflow_sqlite.reading.overview import Hour, Overview, Problem, Prunable, QueueWait
from durable_workflow_sqlite.reading.pauses import Paused
from durable_workflow_sqlite.reading.queues import HeldSlot, NamedQueue, Queues
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.schedules import ScheduleState
from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.reading.streams import StreamPart
from durable_workflow_sqlite.reading.workers import Workers
from durable_workflow_sqlite.records import check_identifier, check_integer, check_time
from durable_workflow_sqlite.store import alarms, details, overview, problems, throughput
from durable_workflow_sqlite.store.cursor import Cursor
from durable_workflow_sqlite.store.encodings_checkup import encodings
from durable_workflow_sqlite.store.histories import histories
from durable_workflow_sqlite.store.picking import AT_ONCE, pick, place_of
from durable_workflow_sqlite.store.questions import (
    check_wanted,
    load_questions,
    question_from,
)
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.reading_acts import latest_acts
from durable_workflow_sqlite.store.reading_queues import held_slots, named_queues, read_queues
from durable_workflow_sqlite.store.reading_schedules import read_schedules
from durable_workflow_sqlite.store.reading_streams import stream
from durable_workflow_sqlite.store.reading_workers import read_workers
from durable_workflow_sqlite.store.rows import json_array, readable_time, time_to_text


class StatementReader(Readable, Reader):
    """What a reader answers in any database. A subclass opens it, and is the `Readable`."""

    def encodings(self) -> list[EncodedValues]:
        return encodings(self)

    def counts(self) -> list[ExecutionCount]:
        with self.reading() as connection:
            return [
                ExecutionCount(
                    workflow_type=row.workflow_type,
                    version=row.version,
                    status=row.status,
                    count=row.total,
                )
                for row in self.queries.count_executions(connection)
            ]

    def overview(self, now: datetime, *, limit: int = 10) -> Overview:
        return overview.overview(self, now, limit=limit)

    def page(
        self, selection: Selection | None = None, after: str | None = None, limit: int = 50
    ) -> Page:
        check_integer("limit", limit, minimum=1)
        selection = Selection() if selection is None else selection
        place = Cursor.first(selection)
        if after is not None:
            place = min(place, Cursor.from_text(after))
        with self.reading() as connection:
            picked = pick(self.queries, connection, selection, place, limit + 1)
            page = picked[:limit]
            return Page(
                rows=overview.summaries(
                    self, connection, [row.workflow_execution_id for row in page]
                ),
                next=place_of(page[-1]).to_text() if len(picked) > limit else None,
            )

    def execution_ids(self, selection: Selection) -> Iterator[list[str]]:
        place = Cursor.first(selection)
        while True:
            with self.reading() as connection:
                picked = pick(self.queries, connection, selection, place, AT_ONCE)
            if picked:
                yield [row.workflow_execution_id for row in picked]
            if len(picked) < AT_ONCE:
                return
            place = place_of(picked[-1])

    def paused(self, *, limit: int = 10) -> Paused:
        return overview.paused(self, limit=limit)

    def summaries(self, execution_ids: Sequence[str]) -> tuple[ExecutionSummary, ...]:
        with self.reading() as connection:
            return overview.summaries(self, connection, execution_ids)

    def in_doubt_among(self, rows: Sequence[ExecutionSummary]) -> set[str]:
        return alarms.in_doubt_among(self, rows)

    def execution(self, execution_id: str) -> ExecutionDetails | None:
        return details.execution(self, execution_id)

    def histories(self, execution_ids: Sequence[str]) -> list[ExecutionHistory | UnreadableHistory]:
        with self.reading() as connection:
            return histories(connection, self.queries, execution_ids)

    def stream(
        self, execution_id: str, *, after: int | None = None, limit: int = 200
    ) -> StreamPart | None:
        check_identifier("execution_id", execution_id)
        if after is not None:
            check_integer("after", after)
        check_integer("limit", limit, minimum=1)
        return stream(self, execution_id, after, limit)

    def workflow_types(self) -> list[str]:
        with self.reading() as connection:
            found = self.queries.load_workflows(connection)
        return list(dict.fromkeys(row.workflow_type for row in found))

    def workers(
        self, counts: Sequence[ExecutionCount] | None = None, *, limit: int = 10
    ) -> Workers:
        return read_workers(self, counts, limit=limit)

    def schedules(self) -> list[ScheduleState]:
        return read_schedules(self)

    def queues(self, now: datetime) -> Queues:
        check_time("now", now)
        return read_queues(self, now)

    def named_queues(self) -> list[NamedQueue]:
        return named_queues(self)

    def held_slots(self, kind: str, name: str, *, limit: int = 10) -> list[HeldSlot]:
        return held_slots(self, kind, name, limit=limit)

    def acts(
        self, scopes: Sequence[str] | None = None, name: str | None = None, *, limit: int = 50
    ) -> list[NamedAct]:
        return latest_acts(self, scopes, name, limit=limit)

    def questions(
        self, *, to: str | None = None, execution_id: str | None = None, limit: int = 100
    ) -> list[Question]:
        check_wanted(to, execution_id, limit)
        with self.reading() as connection:
            found = load_questions(connection, self.queries, to, execution_id, limit)
        return list(map(question_from, found))

    def count_living_workers(self) -> int:
        return len(self.all_living())

    def problems(
        self, failed_since: datetime | None = None, *, limit: int | None = None
    ) -> list[Problem]:
        return problems.problems(self, failed_since, limit=limit)

    def throughput(self, now: datetime, *, hours: int = 24) -> list[Hour]:
        return throughput.throughput(self, now, hours=hours)

    def queue_waits(self) -> list[QueueWait]:
        return throughput.queue_waits(self)

    def alarms(self, now: datetime, counts: Sequence[ExecutionCount] | None = None) -> list[Alarm]:
        return alarms.alarms(self, now, counts)

    def prunable(self, before: datetime, statuses: Collection[str]) -> list[Prunable]:
        check_time("before", before)
        with self.reading() as connection:
            return [
                Prunable(
                    workflow_type=row.workflow_type,
                    version=row.version,
                    status=row.status,
                    count=row.total,
                    oldest=readable_time(row.oldest),
                )
                for row in self.queries.count_prunable(
                    connection,
                    statuses=json_array(sorted(map(str, statuses))),
                    before=time_to_text(before),
                )
            ]
