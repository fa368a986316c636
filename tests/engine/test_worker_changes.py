"""What others write reaches a worker, also where SQLite fails as the worker reads more of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    RetryPolicy,
    SqliteCheckpointStore,
    StepCheckpoint,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowSignal,
    workflow,
)
from durable_workflow_sqlite.engine import changes
from tests.processes import Journal

HOURLY = RetryPolicy.fixed(max_attempts=None, delay=timedelta(hours=1))


class Interrupted(SqliteCheckpointStore):
    """SQLite interrupts the next reads of what follows a signal."""

    refuses = 0
    refused = 0

    async def load_pending_signals(
        self, workflow_execution_id: str, signal_name: str | None = None
    ) -> list[WorkflowSignal]:
        with_trouble = self._with_trouble()
        try:
            return await super().load_pending_signals(workflow_execution_id, signal_name)
        finally:
            if with_trouble:
                self._connection.set_progress_handler(None, 1)

    async def load_checkpoints(self, workflow_execution_id: str) -> list[StepCheckpoint]:
        with_trouble = self._with_trouble()
        try:
            return await super().load_checkpoints(workflow_execution_id)
        finally:
            if with_trouble:
                self._connection.set_progress_handler(None, 1)

    def _with_trouble(self) -> bool:
        if self.refused >= self.refuses:
            return False
        self.refused += 1
        self._connection.set_progress_handler(lambda: 1, 1)
        return True


async def resolve(client: Client, one: str) -> None:
    await client.resolve(one, "pay", 5)


ACTS: dict[str, Callable[[Client, str], Awaitable[object]]] = {
    "cancel": lambda client, one: client.cancel(one),
    "retry": lambda client, one: client.retry(one),
    "resolve": resolve,
}


@pytest.mark.parametrize("act", ACTS)
async def test_what_a_worker_could_not_be_told_of_is_told_at_the_next_look(
    act: str, file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "TRY_AGAIN_AFTER_S", 0.02)

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        def pay() -> int:
            if journal.note("pay") <= 2:
                raise ConnectionError("down")
            return 5

        return await ctx.step("pay", pay, retry=HOURLY)

    async with (
        Interrupted.file(file) as store,
        SqliteCheckpointStore.file(file) as others,
        DurableEngine(store, workflows=[order]) as engine,
        asyncio.timeout(30),
    ):
        assert isinstance(store, Interrupted)
        client = Client(others)
        handles = [await engine.start(order, execution_id=one) for one in ("one", "two")]
        for handle in handles:
            while not any(one.due_at for one in await others.load_checkpoints(handle.execution_id)):
                await asyncio.sleep(0.005)
        store.refuses = 3
        for handle in handles:
            await ACTS[act](client, handle.execution_id)
        for handle in handles:
            if act == "cancel":
                with pytest.raises(WorkflowCancelledError):
                    await handle.result()
            else:
                assert await handle.result() == 5
        assert store.refused == 3
