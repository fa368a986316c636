"""A worker with nothing to do does nothing."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    StepNotAwaitedError,
    WorkflowClaim,
    WorkflowContext,
    WorkflowGuarantee,
    workflow,
)
from durable_workflow_sqlite.engine import changes
from durable_workflow_sqlite.testing import ManualClock


class CountingStore(SqliteCheckpointStore):
    looked = 0

    async def claim_available(self, *args: Any, **named: Any) -> list[WorkflowClaim]:
        self.looked += 1
        return await super().claim_available(*args, **named)


@workflow
async def nothing(ctx: WorkflowContext) -> None:
    pass


async def test_a_worker_that_waits_for_a_delay_to_end_does_not_look_for_work_meanwhile() -> None:
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


@workflow
async def forgets(ctx: WorkflowContext) -> None:
    ctx.step("forgotten", print)  # type: ignore[unused-coroutine]


@pytest.mark.parametrize("guarantee", list(WorkflowGuarantee))
async def test_a_worker_that_leaves_an_execution_alone_does_not_look_at_it_all_the_time(
    guarantee: WorkflowGuarantee,
) -> None:
    store = CountingStore.in_memory()
    assert isinstance(store, CountingStore)
    async with store, DurableEngine(store) as engine:
        handle = await engine.start(forgets, guarantee=guarantee)
        with pytest.raises(StepNotAwaitedError):
            await handle.result()
        await asyncio.sleep(0.1)
        store.looked = 0
        await asyncio.sleep(0.4)
        assert store.looked <= 4


class ClockThatMoves(SqliteCheckpointStore):
    """Its clock moves while it looks for work, when that is asked for."""

    clock = ManualClock()
    moves_to: datetime | None = None

    async def claim_available(self, *args: Any, **named: Any) -> list[WorkflowClaim]:
        claims = await super().claim_available(*args, **named)
        if self.moves_to is not None:
            to, self.moves_to = self.moves_to, None
            self.clock.set(to)
        return claims


async def test_what_comes_due_while_a_worker_looks_for_work_is_taken_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "LOOK_AROUND_S", 3600)  # it looks for work then, too

    store = ClockThatMoves.in_memory()
    assert isinstance(store, ClockThatMoves)
    async with store, DurableEngine(store, [nothing], clock=store.clock) as engine:
        handle = await engine.enqueue(nothing, delay=timedelta(minutes=1))
        await asyncio.sleep(0.1)
        store.moves_to = store.clock.now() + timedelta(minutes=1)
        engine._open_engine.dispatcher.look()
        await asyncio.wait_for(handle.result(), 5)
