"""The schedules, for people."""

from __future__ import annotations

from durable_workflow_sqlite.reading.schedules import ScheduleState
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows import readable_time


def read_schedules(file: Readable) -> list[ScheduleState]:
    """All schedules, by name; also those whose rows no engine can read."""
    with file.reading() as connection:
        return [
            ScheduleState(
                schedule_name=row.schedule_name,
                state=row.state,
                workflow_type=row.workflow_type,
                version=row.version,
                cron=row.cron,
                tz=row.tz,
                every_seconds=row.every_seconds,
                overlap=row.overlap,
                missed=row.missed,
                next_fire_at=readable_time(row.next_fire_at),
                last_fired_at=readable_time(row.last_fired_at),
                last_execution_id=row.last_execution_id,
                last_status=row.last_status,
                unfinished_executions=row.unfinished_executions,
                last_skipped_at=readable_time(row.last_skipped_at),
                buffered_at=readable_time(row.buffered_at),
                ends_at=readable_time(row.ends_at),
                paused_at=readable_time(row.paused_at),
                paused_by=row.paused_by,
                paused_reason=row.paused_reason,
                trouble=row.trouble,
            )
            for row in file.queries.load_schedule_states(connection)
        ]
