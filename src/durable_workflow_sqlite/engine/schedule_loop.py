"""Fires schedules: the background task of an open engine.

It sleeps until the earliest time of all schedules. Where there is none, it costs nothing. Any
worker fires any schedule, whether or not it runs the workflow. The row of a schedule is saved only
if it is still as it was read, so of several workers one fires a time.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

import msgspec

from durable_workflow_sqlite.engine import cancelling
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.alarm import DeadlineAlarm
from durable_workflow_sqlite.engine.clock import Scheduler
from durable_workflow_sqlite.engine.firing import execution_of, fire
from durable_workflow_sqlite.engine.loop_backoff import LoopBackoff
from durable_workflow_sqlite.engine.schedule_times import ScheduleTimes
from durable_workflow_sqlite.errors import ExecutionFinishedError, QueueNotFoundError
from durable_workflow_sqlite.records import NewExecution, Schedule

TRY_AGAIN_AFTER_S = 1.0

_log = logging.getLogger("durable_workflow_sqlite.engine")


class ScheduleLoop:
    """access: of the engine that this is the task of."""

    def __init__(self, access: Access, scheduler: Scheduler) -> None:
        self._access = access
        self._something_to_do = asyncio.Event()
        self._alarm = DeadlineAlarm(scheduler, self._something_to_do.set)
        self._task: asyncio.Task[None] | None = None
        self._asked: set[str] = set()
        """The executions that were asked to cancel, so that the next time can begin."""
        self._cancelling: set[asyncio.Task[None]] = set()
        self._seen: int | None = None
        self._waits_for_an_end = False

    def begin(self) -> None:
        """Fire what is due from now on."""
        self._task = asyncio.create_task(self._run(), name="durable-workflow-schedules")

    async def close(self) -> None:
        """Fire nothing more."""
        tasks = [*self._cancelling, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._alarm.set(None)

    def look(self) -> None:
        """A schedule may have changed."""
        self._something_to_do.set()

    def look_if_changed(self, change_counter: int) -> None:
        """Look if somebody has written since the last time that this was called."""
        if change_counter != self._seen:
            self._seen = change_counter
            self.look()

    def on_end(self) -> None:
        """An execution has ended here: a schedule may wait for that."""
        if self._waits_for_an_end:
            self.look()

    async def _run(self) -> None:
        backoff = LoopBackoff("fire schedules")
        while True:
            self._something_to_do.clear()
            try:
                self._alarm.set(await self._fire_all())
                backoff.succeeded()
                await self._something_to_do.wait()
            except Exception as error:  # noqa: BLE001 - whatever the store raises
                await asyncio.sleep(backoff.failed(error, TRY_AGAIN_AFTER_S))

    async def _fire_all(self) -> datetime | None:
        """Fire until nothing is due; when to look again."""
        while True:
            now = self._access.clock.now()
            found = await self._access.store.load_due_schedules(now)
            self._waits_for_an_end = bool(found.buffered)
            if not found.buffered:
                self._asked.clear()
            is_changed = False
            due = {one.schedule_name: one for one in (*found.due, *found.buffered)}
            for seen in due.values():
                is_changed |= await self._fire(seen, now)
            if not is_changed:
                return found.next_fire_at

    async def _fire(self, seen: Schedule, now: datetime) -> bool:
        """Do what there is to do about one schedule; False if that is nothing."""
        store, name = self._access.store, seen.schedule_name
        unfinished: list[str] = []
        if seen.overlap != "all" or seen.buffered_at is not None:
            unfinished = await store.load_unfinished_of_schedule(name)
        start: list[NewExecution] = []
        try:
            firing = fire(seen, ScheduleTimes(seen), now, is_busy=bool(unfinished))
            start = [execution_of(seen, time, now) for time in firing.times]
            becomes = firing.becomes
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            await self._stop(seen, error, now)
            return True
        if becomes == seen:
            self._ask_to_cancel(seen, unfinished)
            return False
        try:
            is_saved = await store.save_schedule(becomes, seen=seen, start=start)
        except QueueNotFoundError as error:
            await self._stop(seen, error, now)
            return True
        if is_saved and start:
            for new in start:
                _log.info("schedule %r: %s", name, new.execution.workflow_execution_id)
            self._access.look()
        return True

    async def _stop(self, seen: Schedule, error: Exception, now: datetime) -> None:
        """It cannot fire until somebody acts; the others go on."""
        becomes = msgspec.structs.replace(seen, trouble=str(error), updated_at=now)
        await self._access.store.save_schedule(becomes, seen=seen)
        _log.error("schedule %r fires no more until somebody acts: %s", seen.schedule_name, error)

    def _ask_to_cancel(self, seen: Schedule, unfinished: list[str]) -> None:
        """Once by each worker: it is asked again if this one dies before it has asked."""
        if seen.overlap != "cancel_other" or seen.buffered_at is None:
            return
        for execution_id in unfinished:
            if execution_id not in self._asked:
                self._asked.add(execution_id)
                work = self._cancel(execution_id, f"schedule {seen.schedule_name}")
                task = asyncio.create_task(work)
                self._cancelling.add(task)
                task.add_done_callback(self._cancelling.discard)

    async def _cancel(self, execution_id: str, by: str) -> None:
        try:
            await cancelling.cancel(self._access, execution_id, by)
        except ExecutionFinishedError:
            pass  # it has ended by itself meanwhile
        except Exception:  # noqa: BLE001 - whatever the store raises
            _log.warning("could not cancel execution %r", execution_id, exc_info=True)
            self._asked.discard(execution_id)
        self.look()
