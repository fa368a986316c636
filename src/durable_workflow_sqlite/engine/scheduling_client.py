"""`SchedulingClient`: what a client does about schedules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVarTuple

from durable_workflow_sqlite.engine import scheduling
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.startable import Startable
from durable_workflow_sqlite.engine.workflow import check_workflow
from durable_workflow_sqlite.records import Missed, Overlap, Schedule

Ts = TypeVarTuple("Ts")


class SchedulingClient:
    """Declares schedules, and does what people ask for."""

    def _working(self) -> Access:
        raise NotImplementedError

    async def schedule(
        self,
        name: str,
        workflow: Startable[*Ts, Any],
        *args: *Ts,
        cron: str | None = None,
        tz: str = "UTC",
        every: timedelta | None = None,
        overlap: Overlap = "skip",
        missed: Missed = "last",
        within: timedelta | None = None,
        jitter: timedelta | None = None,
        ends: datetime | None = None,
        paused: bool = False,
        priority: int = 0,
        ttl: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        queue: str | None = None,
        key: str | None = None,
    ) -> Schedule:
        """Declare a schedule: from now on, workers start an execution at each of its times.

        Call this each time that the program starts. The same declaration changes nothing, so what
        a person has changed or paused stays so. Another declaration of the same name changes the
        schedule. Its next time is then computed from now, if `cron`, `tz`, `every` or `ends` is
        another.

        name: at most 200 characters. The executions have the ids NAME@TIME, as
            `nightly@2026-01-31T02:00:00Z`, and the tag `schedule`.
        workflow, args: what is started. Any worker that runs the workflow claims it.
        cron: minute, hour, day of the month, month, day of the week, by the rules of Debian's
            cron. Fixed times are those without a star in minute and hour. A fixed time that the
            change to summer time leaves out is fired at the change. A fixed time that occurs twice
            is fired once. Everything else keeps its interval.
        tz: the time zone of `cron`, by its name in the IANA database.
        every: instead of `cron`: a number of whole seconds, counted from the first declaration.
        overlap: what to do at a time when an execution of this schedule is unfinished. "skip":
            start nothing. "buffer_one": start one more when it has ended. "cancel_other": cancel
            it, and start the new one when it has ended. "all": start the new one at once.
        missed: which times to fire that passed while no worker ran, for instance because the
            machine slept. "skip": none that is more than a minute late. "last": the last one.
            "all": each, but at most the last 1000.
        within: a time that passed longer ago than this is not fired. By default, it is.
        jitter: each execution begins later than its time, by a span of 0 up to this one. It is
            always the same for the same time.
        ends: after this time the schedule fires no more; it needs a time zone.
        paused: whether it is paused from the start, until a person resumes it.
        priority, ttl, tags, queue, key: of each execution, as for `enqueue`.

        Returns the schedule as it is stored now. Raises ValueError for an expression that is not
        valid or matches no time, for an unknown time zone, and for a time without a zone;
        QueueNotFoundError, TypeError and SerializationError as `enqueue` does. Nothing is written
        then.
        """
        access = self._working()
        declared = scheduling.declaration(
            check_workflow(workflow),
            args,
            cron=cron,
            tz=tz,
            every=every,
            overlap=overlap,
            missed=missed,
            within=within,
            jitter=jitter,
            ends=ends,
            paused=paused,
            priority=priority,
            ttl=ttl,
            tags=tags,
            queue=queue,
            key=key,
        )
        return await scheduling.declare(access, name, declared)

    async def unschedule(self, name: str, *, by: str | None = None) -> bool:
        """Delete a schedule; False if there is none. Its executions stay as they are.

        A program that still declares the schedule creates it again when it starts.

        by: as for `pause_schedule`.
        """
        return await scheduling.unschedule(self._working(), name, by)

    async def load_schedule(self, name: str) -> Schedule:
        """A schedule as it is stored. Raises ScheduleNotFoundError."""
        return await scheduling.load(self._working(), name)

    async def load_schedules(self) -> list[Schedule]:
        """All schedules, by name. Rows that cannot be read are left out."""
        access = self._working()
        access.check_open()
        return await access.store.load_schedules()

    async def pause_schedule(
        self, name: str, *, reason: str | None = None, by: str | None = None
    ) -> bool:
        """Pause a schedule: it fires nothing until it is resumed; False if it was paused.

        What it has started goes on. The times that pass meanwhile are never fired, whatever
        `missed` says.

        reason: for those who see the schedule. by: who asks; by default the user that this process
            runs as.

        Raises ScheduleNotFoundError.
        """
        return await scheduling.pause(self._working(), name, reason, by)

    async def resume_schedule(self, name: str, *, by: str | None = None) -> bool:
        """Resume a paused schedule, from now on; False if it was not paused.

        It also tries again what is in trouble. by: as for `pause_schedule`, for the audit log.

        Raises ScheduleNotFoundError; ValueError if its row has an expression or a zone that is not
        valid; QueueNotFoundError if its queue is gone.
        """
        return await scheduling.resume(self._working(), name, by)

    async def _trigger(self, name: str, by: str | None) -> str:
        return await scheduling.trigger(self._working(), name, by)

    async def backfill(
        self, name: str, start: datetime, end: datetime, *, by: str | None = None
    ) -> list[str]:
        """Enqueue an execution for each time of a schedule in a span of the past.

        start, end: the first and the last moment of the span; both need a time zone. Times that
            already have an execution are left out, so you can repeat this until it has worked. All
            executions may run at once, whatever `overlap` says.
        by: as for `pause_schedule`, for the audit log.

        Returns the ids of the new executions. Raises ScheduleNotFoundError; ValueError for a time
        without a zone, an end in the future, or more than 1000 times. Nothing is written then.
        """
        return await scheduling.backfill(self._working(), name, start, end, by)

    async def next_times(self, name: str, count: int = 5) -> list[datetime]:
        """The next times of a schedule, in UTC; fewer than `count` if it ends before that.

        If it is paused: the times that it would fire. Raises ScheduleNotFoundError.
        """
        return await scheduling.next_times(self._working(), name, count)
