"""A worker with nothing to do does nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowClaim,
    WorkflowContext,
    workflow,
)


class CountingStore(SqliteCheckpointStore):
    looked = 0

    async def claim_available(self, *args: Any, **named: Any) -> list[WorkflowClaim]:
        self.looked += 1
        return await super().claim_available(*args, **named)


@workflow
async def nothing(ctx: WorkflowContext) -> None:
    pass


def test_a_worker_that_waits_for_a_delay_to_end_does_not_look_for_work_meanwhile() -> None:
    async def story() -> None:
        store = CountingStore.in_memory()
        assert isinstance(store, CountingStore)
        async with store, DurableEngine(store, workflows=[nothing]) as engine:
            await engine.enqueue(nothing, delay=timedelta(hours=1))
            await asyncio.sleep(0.05)
            await (await engine.enqueue(nothing)).result()  # it is woken once
            await asyncio.sleep(0.05)
            store.looked = 0
            await asyncio.sleep(0.2)
            assert store.looked <= 2

    asyncio.run(story())
