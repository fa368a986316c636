"""What the store refuses for a while is done later, and keeps nothing else from being done."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    StoreBusyError,
    TakenExecution,
    WorkflowClaim,
    WorkflowContext,
    WorkflowGuarantee,
    workflow,
)
from durable_workflow_sqlite.engine import releasing


class RefusingOnce(SqliteCheckpointStore):
    """Refuses something once, as it would where the file is locked for too long."""

    refuses_at = 0
    refuses_to_read = False

    async def claim_execution(
        self, workflow_execution_id: str, now: datetime | None = None
    ) -> WorkflowClaim | None:
        self.refuses_at -= 1
        if self.refuses_at == 0:
            raise StoreBusyError("locked by a test")
        return await super().claim_execution(workflow_execution_id, now)

    async def take_execution(self, workflow_execution_id: str) -> TakenExecution | None:
        if self.refuses_to_read:
            self.refuses_to_read = False
            raise StoreBusyError("locked by a test")
        return await super().take_execution(workflow_execution_id)


@workflow
async def waiter(ctx: WorkflowContext) -> str:
    return str(await ctx.wait_signal("go"))


@pytest.mark.parametrize("refuses_at", [1, 2, 3])
async def test_executions_of_the_foreground_are_all_taken_on(file: Path, refuses_at: int) -> None:
    names = ["0", "1", "2"]

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
        async with asyncio.timeout(30):
            assert [await engine.handle(name).result() for name in names] == names
        await engine.dispose()
        assert await store.release_claims_of_the_dead(0) == []


async def test_an_execution_whose_records_could_not_be_read_is_taken_on_later(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "TRY_AGAIN_AFTER_S", 0.01)

    @workflow
    async def stopped(ctx: WorkflowContext) -> str:
        return await ctx.step("end", lambda: "done")

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            await engine.start(stopped, execution_id="one")
    async with RefusingOnce.file(file) as store:
        assert isinstance(store, RefusingOnce)
        store.refuses_to_read = True
        async with DurableEngine(store, workflows=[stopped]) as engine:
            assert not store.refuses_to_read
            async with asyncio.timeout(30):
                assert await engine.handle("one").result() == "done"
