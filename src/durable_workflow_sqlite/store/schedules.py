"""The schedules: saved if they are as they were read, together with what they start."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from durable_workflow_sqlite.records import (
    SCHEDULE_TIMES,
    DueSchedules,
    NewExecution,
    Schedule,
    check_identifier,
)
from durable_workflow_sqlite.store import rows
from durable_workflow_sqlite.store.queries import Queries, WorkflowScheduleRow
from durable_workflow_sqlite.store.rows import (
    optional_time_to_text,
    readable,
    readable_time,
    time_to_text,
)
from durable_workflow_sqlite.store.transactions import Transactions


class Schedules:
    """insert: start an execution; whether its id was free. check_queue: whether it is declared."""

    def __init__(
        self,
        connection: object,
        queries: Queries,
        commit: Transactions,
        insert: Callable[[NewExecution], bool],
        check_queue: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._insert = insert
        self._check_queue = check_queue

    async def save_schedule(
        self,
        schedule: Schedule,
        save_beside: Callable[[], None],
        seen: Schedule | None,
        start: Collection[NewExecution],
    ) -> bool:
        name = schedule.schedule_name
        if seen is not None and seen.schedule_name != name:
            raise ValueError(f"{name!r} is not {seen.schedule_name!r}")

        def save() -> bool:
            self._commit.hold("SCHEDULE", name)
            if self._load(name) != seen:
                return False
            if schedule.queue is not None and schedule.trouble is None:
                self._check_queue(schedule.queue)
            self._commit.count_change()
            for new in start:
                if self._insert(new):
                    self._queries.name_schedule_of(
                        self._connection,
                        workflow_execution_id=new.execution.workflow_execution_id,
                        schedule_name=name,
                    )
            self._upsert(schedule)
            save_beside()
            return True

        return await self._commit.write(save)

    def _load_row(self, name: str) -> WorkflowScheduleRow | None:
        return self._queries.load_schedule(self._connection, schedule_name=name)

    def _load(self, name: str) -> Schedule | None:
        row = self._load_row(name)
        return None if row is None else rows.schedule_from(row)

    def _upsert(self, schedule: Schedule) -> None:
        times = {name: optional_time_to_text(getattr(schedule, name)) for name in SCHEDULE_TIMES}
        self._queries.upsert_schedule(
            self._connection,
            schedule_name=schedule.schedule_name,
            workflow_type=schedule.workflow_type,
            version=schedule.version,
            input_data=schedule.input_data,
            cron=schedule.cron,
            tz=schedule.tz,
            every_seconds=schedule.every_seconds,
            overlap=schedule.overlap,
            missed=schedule.missed,
            within_seconds=schedule.within_seconds,
            jitter_seconds=schedule.jitter_seconds,
            ends_at=times["ends_at"],
            priority=schedule.priority,
            ttl_seconds=schedule.ttl_seconds,
            tags=schedule.tags,
            queue=schedule.queue,
            queue_key=schedule.queue_key,
            next_fire_at=times["next_fire_at"],
            last_fired_at=times["last_fired_at"],
            last_execution_id=schedule.last_execution_id,
            last_skipped_at=times["last_skipped_at"],
            buffered_at=times["buffered_at"],
            paused_at=times["paused_at"],
            paused_by=schedule.paused_by,
            paused_reason=schedule.paused_reason,
            ended_at=times["ended_at"],
            trouble=schedule.trouble,
            declared=schedule.declared,
            created_at=time_to_text(schedule.created_at),
            updated_at=time_to_text(schedule.updated_at),
        )

    async def delete_schedule(self, schedule_name: str, save: Callable[[], None]) -> bool:
        """`save` is called in the same transaction, if there was one."""
        check_identifier("schedule_name", schedule_name)

        def delete() -> bool:
            self._commit.hold("SCHEDULE", schedule_name)
            self._commit.count_change()
            if not self._queries.delete_schedule(self._connection, schedule_name=schedule_name):
                return False
            save()
            return True

        return await self._commit.write(delete)

    async def load_schedule(self, schedule_name: str) -> Schedule | None:
        check_identifier("schedule_name", schedule_name)
        return await self._commit.read(lambda: self._load(schedule_name))

    async def load_schedules(self) -> list[Schedule]:
        found = await self._commit.read(lambda: self._queries.load_schedules(self._connection))
        return readable(found, rows.schedule_from)

    async def load_due_schedules(self, now: datetime) -> DueSchedules:
        until = time_to_text(now)

        def load() -> DueSchedules:
            due = self._queries.load_due_schedules(self._connection, now=until)
            buffered = [
                row
                for one in self._queries.load_buffered_schedules(self._connection)
                if (row := self._load_row(one.schedule_name)) is not None
            ]
            next_at = self._queries.load_next_fire_at(self._connection, now=until)
            return DueSchedules(
                due=readable(due, rows.schedule_from),
                buffered=readable(buffered, rows.schedule_from),
                next_fire_at=readable_time(next_at),
            )

        return await self._commit.read(load)

    async def load_unfinished_of_schedule(self, schedule_name: str) -> list[str]:
        check_identifier("schedule_name", schedule_name)
        found = await self._commit.read(
            lambda: self._queries.load_unfinished_of_schedule(
                self._connection, schedule_name=schedule_name
            )
        )
        return [row.workflow_execution_id for row in found]
