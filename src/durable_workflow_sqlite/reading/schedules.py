"""What is read of schedules, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from durable_workflow_sqlite.reading.findings import LATE, Finding, Level, at
from durable_workflow_sqlite.reading.worker_findings import START
from durable_workflow_sqlite.reading.workers import Workers


class ScheduleState(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule; see the view `workflow_schedule_overview`, and `Schedule` for its fields."""

    schedule_name: str
    state: str
    workflow_type: str
    version: int
    cron: str | None
    tz: str
    every_seconds: int | None
    overlap: str
    missed: str
    next_fire_at: datetime | None
    last_fired_at: datetime | None
    last_execution_id: str | None
    last_status: str | None
    unfinished_executions: int
    last_skipped_at: datetime | None
    buffered_at: datetime | None
    ends_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    trouble: str | None

    @property
    def is_held_up(self) -> bool:
        """Whether its last time was left out, since its last execution is not over."""
        return (
            self.unfinished_executions > 0
            and self.last_skipped_at is not None
            and (self.last_fired_at is None or self.last_skipped_at > self.last_fired_at)
        )

    @property
    def when(self) -> str:
        """Its times, as people write them."""
        if self.cron is None:
            return f"every {_span(self.every_seconds or 0)}"
        return self.cron if self.tz == "UTC" else f"{self.cron} {self.tz}"


def _span(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def schedule_findings(
    schedules: Sequence[ScheduleState], workers: Workers, now: datetime
) -> Iterator[Finding]:
    """Whether each schedule fires, and whether there is a worker for what it starts."""
    served = {one for worker in workers.living for one in worker.serves}
    known = {(one.workflow_type, one.version) for one in served}
    for one in schedules:
        name = one.schedule_name
        if one.state == "TROUBLE":
            yield Finding(
                level=Level.WARNING,
                check="schedule",
                message=f"schedule {name!r} fires no more: {one.trouble}",
                hint="correct its row of workflow_schedules; then"
                f" `durable-workflow schedule resume FILE {name}`",
            )
        if one.state != "ACTIVE":
            continue
        if one.next_fire_at is not None and one.next_fire_at + LATE < now:
            late = f"schedule {name!r} should have fired at {at(one.next_fire_at)}"
            yield Finding(
                level=Level.WARNING,
                check="schedule",
                message=late if workers.living else f"{late}, and no worker lives",
                hint=f"restart the workers; see their log: {START}"
                if workers.living
                else f"start a worker, of any workflow: {START}",
            )
        if one.last_fired_at is not None and one.last_fired_at > now + LATE:
            quoted = name.replace("'", "''")
            yield Finding(
                level=Level.WARNING,
                check="schedule",
                message=f"schedule {name!r} has fired for {at(one.last_fired_at)}, which is still"
                f" to come: a clock was ahead. It fires next at {at(one.next_fire_at)}",
                hint="once all clocks are right, let a worker compute its next time again: `update"
                " workflow_schedules set last_fired_at = null, next_fire_at = null where"
                f" schedule_name = '{quoted}'`",
            )
        if workers.living and (one.workflow_type, one.version) not in known:
            yield Finding(
                level=Level.WARNING,
                check="schedule",
                message=f"schedule {name!r} starts {one.workflow_type} v{one.version}, which no"
                " living worker knows",
                hint=f"start a worker whose code has it: {START}",
            )
