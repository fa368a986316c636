"""What pauses between attempts is told that it need not, whenever that is said."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec

from durable_workflow_sqlite import StepCheckpoint, StepStatus, SystemClock
from durable_workflow_sqlite.engine.clock import Scheduler
from durable_workflow_sqlite.engine.pauses import Pauses


async def test_a_pause_is_ended_before_it_begins_and_while_it_lasts() -> None:
    now = SystemClock().now()
    failed = StepCheckpoint(
        workflow_execution_id="one",
        step_index=0,
        step_name="pay",
        status=StepStatus.FAILED,
        started_at=now,
        due_at=now + timedelta(hours=1),
    )
    hastened = msgspec.structs.replace(failed, due_at=now)

    scheduler = Scheduler(SystemClock())
    async with asyncio.timeout(10):
        # It is recorded, and the task that waits for that has not had its turn yet.
        early = Pauses([])
        early.hasten([hastened])
        await early.after(failed, scheduler)
        late = Pauses([failed])
        pause = late.after(failed, scheduler)
        late.hasten([failed])
        assert not pause.done()
        late.hasten([hastened])
        await pause
    scheduler.close()
