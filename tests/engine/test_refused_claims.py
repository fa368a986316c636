"""A claim that is refused for a while loses nothing: neither those before it nor those after."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    StoreBusyError,
    WorkflowClaim,
    WorkflowContext,
    WorkflowGuarantee,
    workflow,
)


class RefusingOnce(SqliteCheckpointStore):
    """Refuses one of its claims, as it would where the file is locked for too long."""

    refuses_at = 0

    async def claim_execution(
        self, workflow_execution_id: str, now: datetime | None = None
    ) -> WorkflowClaim | None:
        self.refuses_at -= 1
        if self.refuses_at == 0:
            raise StoreBusyError("locked by a test")
        return await super().claim_execution(workflow_execution_id, now)


@workflow
async def waiter(ctx: WorkflowContext) -> str:
    return str(await ctx.wait_signal("go"))


@pytest.mark.parametrize("refuses_at", [1, 2, 3])
def test_executions_of_the_foreground_are_all_taken_on(file: Path, refuses_at: int) -> None:
    names = ["0", "1", "2"]

    async def lives() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for name in names:
                await engine.start(
                    waiter, execution_id=name, guarantee=WorkflowGuarantee.FOREGROUND_ONLY
                )
        async with RefusingOnce.file(file) as store:
            assert isinstance(store, RefusingOnce)
            engine = DurableEngine(store, workflows=[waiter])
            store.refuses_at = refuses_at
            try:
                await engine.open()
            except StoreBusyError:
                assert refuses_at == 1
                engine = DurableEngine(store, workflows=[waiter])
                await engine.open()
            for name in names:
                await engine.send_signal(name, "go", name)
            async with asyncio.timeout(5):
                assert [await engine.handle(name).result() for name in names] == names
            await engine.dispose()
            assert await store.release_claims_of_the_dead(0) == []

    asyncio.run(lives())
