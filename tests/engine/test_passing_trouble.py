"""What the store refuses for a while is done later, and keeps nothing else from being done."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    Record,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepStatus,
    StoreBusyError,
    StoreError,
    StoreFullError,
    WorkflowClaim,
    WorkflowContext,
    WorkflowGuarantee,
    workflow,
)
from durable_workflow_sqlite.engine import execution, left_alone


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

    async def load_checkpoints(self, workflow_execution_id: str) -> list[StepCheckpoint]:
        if self.refuses_to_read:
            self.refuses_to_read = False
            raise StoreBusyError("locked by a test")
        return await super().load_checkpoints(workflow_execution_id)


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


def test_an_execution_whose_records_could_not_be_read_is_taken_on_later(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_alone, "TRY_AGAIN_AFTER_S", 0.01)

    @workflow
    async def stopped(ctx: WorkflowContext) -> str:
        return await ctx.step("end", lambda: "done")

    async def lives() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store) as engine:
                await engine.start(stopped, execution_id="one")
        async with RefusingOnce.file(file) as store:
            assert isinstance(store, RefusingOnce)
            store.refuses_to_read = True
            async with DurableEngine(store, workflows=[stopped]) as engine:
                assert not store.refuses_to_read
                async with asyncio.timeout(5):
                    assert await engine.handle("one").result() == "done"

    asyncio.run(lives())


class RefusingOutcomes(SqliteCheckpointStore):
    """Refuses a few of the records that say what a step did."""

    refuses = 0
    error: type[StoreError] = StoreBusyError
    refuses_status = StepStatus.COMPLETED

    async def save(self, *records: Record, claim: WorkflowClaim | None = None) -> None:
        first = records[0] if records else None
        if isinstance(first, StepCheckpoint) and first.status is self.refuses_status:
            self.refuses -= 1
            if self.refuses >= 0:
                raise self.error("refused by a test")
        await super().save(*records, claim=claim)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "SAVE_AGAIN_AFTER_S", 0.01)
    monkeypatch.setattr(left_alone, "TRY_AGAIN_AFTER_S", 0.01)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("error", [StoreBusyError, StoreFullError])
def test_what_a_step_did_is_kept_until_the_store_takes_it(
    file: Path, error: type[StoreError], caplog: pytest.LogCaptureFixture
) -> None:
    charged: list[int] = []

    @workflow
    async def charging(ctx: WorkflowContext) -> int:
        return await ctx.step("charge", charge)

    async def charge() -> int:
        charged.append(1)
        return len(charged)

    async def life() -> None:
        async with RefusingOutcomes.file(file) as store:
            assert isinstance(store, RefusingOutcomes)
            store.refuses, store.error = 3, error
            async with DurableEngine(store) as engine:
                handle = await engine.start(charging, execution_id="one")
                with pytest.raises(error):  # nobody waits in the dark
                    await handle.result()
                assert await handle.status() is ExecutionStatus.RUNNING
                async with asyncio.timeout(5):
                    while True:
                        try:
                            assert await handle.result() == 1
                            break
                        except error:
                            pass
                (step,) = await store.load_checkpoints("one")
                assert (step.status, step.attempt) == (StepStatus.COMPLETED, 1)

    caplog.set_level("INFO")
    asyncio.run(life())
    assert charged == [1]
    assert "cannot record what a step of execution 'one' did; will go on trying" in caplog.text
    assert "can record what a step of execution 'one' did again" in caplog.text
    assert "in doubt" not in caplog.text


@pytest.mark.usefixtures("soon")
def test_a_failed_attempt_and_a_compensation_are_kept_likewise(file: Path) -> None:
    lines: list[str] = []

    @workflow
    async def failing(ctx: WorkflowContext) -> None:
        await ctx.step("book", act, "book", compensate=lambda _: lines.append("undo"))
        await ctx.step("fail", fail)

    async def act(line: str) -> None:
        lines.append(line)

    async def fail() -> None:
        lines.append("fail")
        raise ValueError("no")

    async def life(refused: StepStatus) -> None:
        lines.clear()
        async with RefusingOutcomes.file(file) as store:
            assert isinstance(store, RefusingOutcomes)
            store.refuses, store.refuses_status = 2, refused
            async with DurableEngine(store) as engine:
                await engine.start(failing, execution_id=refused)
                async with asyncio.timeout(5):
                    async for state in engine.observe(refused):
                        last = state
        assert last.status is ExecutionStatus.FAILED
        assert lines == ["book", "fail", "undo"]

    for status in (StepStatus.FAILED, StepStatus.COMPENSATED):
        asyncio.run(life(status))


@pytest.mark.usefixtures("soon")
def test_what_a_step_did_is_recorded_and_undone_though_it_is_cancelled_meanwhile(
    file: Path,
) -> None:
    lines: list[str] = []

    @workflow
    async def charging(ctx: WorkflowContext) -> None:
        await ctx.step("charge", charge, compensate=lambda one: lines.append(f"undo {one}"))

    async def charge() -> str:
        lines.append("charge")
        return "card"

    async def life() -> None:
        async with RefusingOutcomes.file(file) as store:
            assert isinstance(store, RefusingOutcomes)
            store.refuses = 10**9
            async with DurableEngine(store) as engine:
                handle = await engine.start(charging, execution_id="one")
                with pytest.raises(StoreBusyError):
                    await handle.result()
                assert await handle.cancel()
                await asyncio.sleep(0.05)
                assert lines == ["charge"]
                assert await handle.status() is ExecutionStatus.RUNNING
                store.refuses = 0
                async with asyncio.timeout(5):
                    async for state in engine.observe("one"):
                        last = state
            assert last.status is ExecutionStatus.CANCELLED
            attempts = {one.attempt: one.status for one in await store.load_checkpoints("one")}
            assert attempts == {0: StepStatus.COMPENSATED, 1: StepStatus.COMPLETED}

    asyncio.run(life())
    assert lines == ["charge", "undo card"]


@pytest.mark.usefixtures("soon")
def test_an_engine_that_stops_does_not_wait_for_a_store_that_refuses(file: Path) -> None:
    acted: list[int] = []

    @workflow
    async def acting(ctx: WorkflowContext) -> str:
        return await ctx.step("act", act)

    async def act() -> str:
        acted.append(1)
        return "done"

    async def lives() -> None:
        async with RefusingOutcomes.file(file) as store:
            assert isinstance(store, RefusingOutcomes)
            store.refuses = 10**9
            async with DurableEngine(store) as engine:
                handle = await engine.start(acting, execution_id="one")
                with pytest.raises(StoreBusyError):
                    await handle.result()
                async with asyncio.timeout(5):
                    await engine.dispose()
            store.refuses = 0
            async with DurableEngine(store, workflows=[acting]) as engine, asyncio.timeout(5):
                assert await engine.handle("one").result() == "done"

    asyncio.run(lives())
    assert len(acted) == 2  # as after a crash


@pytest.mark.usefixtures("soon")
def test_an_engine_that_stops_while_a_thread_is_at_work_does_not_wait_for_the_store(
    file: Path,
) -> None:
    is_at_work = threading.Event()

    @workflow
    async def acting(ctx: WorkflowContext) -> None:
        await ctx.step("act", act)

    def act() -> None:
        is_at_work.set()
        time.sleep(0.1)

    async def life() -> None:
        async with RefusingOutcomes.file(file) as store:
            assert isinstance(store, RefusingOutcomes)
            store.refuses = 10**9
            async with DurableEngine(store) as engine:
                await engine.start(acting, execution_id="one")
                await asyncio.to_thread(is_at_work.wait)
                async with asyncio.timeout(5):
                    await engine.dispose()
            (step,) = await store.load_checkpoints("one")
            assert step.status is StepStatus.INTENT

    asyncio.run(life())


@pytest.mark.usefixtures("soon")
def test_what_another_branch_is_refused_does_not_lose_what_a_step_did(file: Path) -> None:
    lines: list[str] = []

    @workflow
    async def branching(ctx: WorkflowContext) -> None:
        await asyncio.gather(one(ctx.branch("one")), other(ctx.branch("other")))

    async def one(ctx: WorkflowContext) -> None:
        await ctx.step("charge", act, "charge")

    async def other(ctx: WorkflowContext) -> None:
        await ctx.step("look", act, "look")
        await ctx.step("ship", act, "ship")

    async def act(line: str) -> None:
        lines.append(line)
        await asyncio.sleep(0.02 if line == "look" else 0)

    class RefusingLater(SqliteCheckpointStore):
        """Refuses everything from the first outcome on, for a while."""

        until: float | None = None

        async def save(self, *records: Record, claim: WorkflowClaim | None = None) -> None:
            first = records[0]
            if isinstance(first, StepCheckpoint):
                if self.until is None and first.status is StepStatus.COMPLETED:
                    self.until = time.monotonic() + 0.3
                if self.until is not None and time.monotonic() < self.until:
                    raise StoreBusyError("refused by a test")
            await super().save(*records, claim=claim)

    async def life() -> None:
        async with RefusingLater.file(file) as store, DurableEngine(store) as engine:
            await engine.start(branching, execution_id="one")
            async with asyncio.timeout(5):
                async for state in engine.observe("one"):
                    last = state
        assert last.status is ExecutionStatus.COMPLETED

    asyncio.run(life())
    assert sorted(lines) == ["charge", "look", "ship"]
