"""What a step did is kept where the store refuses to record it, and the step does not run again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    Record,
    RetryPolicy,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepStatus,
    StoreBusyError,
    StoreError,
    StoreFullError,
    WorkflowClaim,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.engine import releasing, run, waits
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import until, until_over
from tests.stores import SavesAll

pytestmark = pytest.mark.usefixtures("soon")

ALWAYS = 10**9


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run, waits):
        monkeypatch.setattr(module, "SAVE_AGAIN_AFTER_S", 0.01)
    monkeypatch.setattr(releasing, "TRY_AGAIN_AFTER_S", 0.01)


class RefusingOutcomes(SavesAll):
    """Refuses a few of the records that say what a step did."""

    refuses = 0
    error: type[StoreError] = StoreBusyError
    refuses_status = StepStatus.COMPLETED

    async def save(self, *records: Record, claim: WorkflowClaim | None = None, **more: Any) -> None:
        first = records[0] if records else None
        if isinstance(first, StepCheckpoint) and first.status is self.refuses_status:
            self.refuses -= 1
            if self.refuses >= 0:
                raise self.error("refused by a test")
        await super().save(*records, claim=claim, **more)


@asynccontextmanager
async def refusing(file: Path, times: int) -> AsyncGenerator[RefusingOutcomes]:
    async with RefusingOutcomes.file(file) as store:
        assert isinstance(store, RefusingOutcomes)
        store.refuses = times
        yield store


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

    async def main() -> None:
        async with refusing(file, 3) as store:
            store.error = error
            async with DurableEngine(store) as engine:
                handle = await engine.start(charging, execution_id="one")
                with pytest.raises(error):  # nobody waits in the dark
                    await handle.result()
                assert await handle.status() is ExecutionStatus.RUNNING
                assert await until_over(engine, "one") == [ExecutionStatus.COMPLETED]
                assert await handle.result() == 1
                (step,) = await store.load_checkpoints("one")
                assert (step.status, step.attempt) == (StepStatus.COMPLETED, 1)

    caplog.set_level("INFO")
    asyncio.run(main())
    assert charged == [1]
    assert "cannot record what a step of execution 'one' did; will go on trying" in caplog.text
    assert "can record what a step of execution 'one' did again" in caplog.text
    assert "in doubt" not in caplog.text


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

    async def main(refused: StepStatus) -> None:
        lines.clear()
        async with refusing(file, 2) as store, DurableEngine(store) as engine:
            store.refuses_status = refused
            await engine.start(failing, execution_id=refused)
            assert await until_over(engine, refused) == [ExecutionStatus.FAILED]
        assert lines == ["book", "fail", "undo"]

    for status in (StepStatus.FAILED, StepStatus.COMPENSATED):
        asyncio.run(main(status))


async def test_what_a_step_did_is_recorded_and_undone_though_it_is_cancelled_meanwhile(
    file: Path,
) -> None:
    lines: list[str] = []

    @workflow
    async def charging(ctx: WorkflowContext) -> None:
        await ctx.step("charge", charge, compensate=lambda one: lines.append(f"undo {one}"))

    async def charge() -> str:
        lines.append("charge")
        return "card"

    async with refusing(file, ALWAYS) as store:
        async with DurableEngine(store) as engine:
            handle = await engine.start(charging, execution_id="one")
            with pytest.raises(StoreBusyError):
                await handle.result()
            assert await handle.cancel()
            await asyncio.sleep(0.05)
            assert lines == ["charge"]
            assert await handle.status() is ExecutionStatus.COMPENSATING
            store.refuses = 0
            assert await until_over(engine, "one") == [ExecutionStatus.CANCELLED]
        attempts = {one.attempt: one.status for one in await store.load_checkpoints("one")}
        assert attempts == {0: StepStatus.COMPENSATED, 1: StepStatus.COMPLETED}
    assert lines == ["charge", "undo card"]


async def test_an_engine_that_stops_does_not_wait_for_a_store_that_refuses(file: Path) -> None:
    acted: list[int] = []

    @workflow
    async def acting(ctx: WorkflowContext) -> str:
        return await ctx.step("act", act)

    async def act() -> str:
        acted.append(1)
        return "done"

    async with refusing(file, ALWAYS) as store:
        async with DurableEngine(store) as engine:
            handle = await engine.start(acting, execution_id="one")
            with pytest.raises(StoreBusyError):
                await handle.result()
            async with asyncio.timeout(30):
                await engine.dispose()
        store.refuses = 0
        async with DurableEngine(store, workflows=[acting]) as engine, asyncio.timeout(30):
            assert await engine.handle("one").result() == "done"
    assert len(acted) == 2  # as after a crash


async def test_an_engine_that_stops_while_a_thread_is_at_work_does_not_wait_for_the_store(
    file: Path,
) -> None:
    is_at_work = threading.Event()

    @workflow
    async def acting(ctx: WorkflowContext) -> None:
        await ctx.step("act", act)

    def act() -> None:
        is_at_work.set()
        time.sleep(0.1)

    async with refusing(file, ALWAYS) as store:
        async with DurableEngine(store) as engine:
            await engine.start(acting, execution_id="one")
            await asyncio.to_thread(is_at_work.wait)
            async with asyncio.timeout(30):
                await engine.dispose()
        (step,) = await store.load_checkpoints("one")
        assert step.status is StepStatus.INTENT


async def test_what_another_branch_is_refused_does_not_lose_what_a_step_did(file: Path) -> None:
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

    class RefusingLater(SavesAll):
        """Refuses everything from the first outcome on, for a while."""

        until: float | None = None

        async def save(
            self, *records: Record, claim: WorkflowClaim | None = None, **more: Any
        ) -> None:
            first = records[0]
            if isinstance(first, StepCheckpoint):
                if self.until is None and first.status is StepStatus.COMPLETED:
                    self.until = time.monotonic() + 0.3
                if self.until is not None and time.monotonic() < self.until:
                    raise StoreBusyError("refused by a test")
            await super().save(*records, claim=claim, **more)

    async with RefusingLater.file(file) as store, DurableEngine(store) as engine:
        await engine.start(branching, execution_id="one")
        assert await until_over(engine, "one") == [ExecutionStatus.COMPLETED]
    assert sorted(lines) == ["charge", "look", "ship"]


@pytest.mark.parametrize("times", [1, ALWAYS], ids=["once", "until it dies"])
@pytest.mark.parametrize("after_s", [0, 0.05], ids=["at once", "when others are written"])
def test_a_number_that_was_refused_is_not_taken_for_a_row_that_was_deleted(
    file: Path, after_s: float, times: int
) -> None:
    """One step waits for a thread, another is refused, a third comes between; then all restarts."""
    lines: list[str] = []
    is_shipping = threading.Event()
    may_end = threading.Event()

    @workflow
    async def branching(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            *(ctx.branch(name).step(name, hold, name) for name in ("held", "waiting")),
            ctx.branch("charge").step("charge", act, "charge"),
            look_and_ship(ctx.branch("other")),
        )

    async def look_and_ship(ctx: WorkflowContext) -> None:
        await ctx.step("look", act, "look")
        await ctx.step("ship", ship)

    def hold(name: str) -> None:
        lines.append(name)
        may_end.wait(2)

    async def act(line: str) -> None:
        lines.append(line)

    async def ship() -> None:
        is_shipping.set()
        await asyncio.sleep(0)

    class RefusingCharge(SavesAll):
        """Refuses what the step charge did, so many times."""

        refuses = 0

        async def save(
            self, *records: Record, claim: WorkflowClaim | None = None, **more: Any
        ) -> None:
            one = records[0]
            if (
                self.refuses
                and isinstance(one, StepCheckpoint)
                and (one.step_name, one.status) == ("charge", StepStatus.COMPLETED)
            ):
                self.refuses -= 1
                await asyncio.sleep(after_s)
                raise StoreBusyError("refused by a test")
            await super().save(*records, claim=claim, **more)

    async def die_or_end(dies: bool) -> None:
        async with RefusingCharge.file(file) as store:
            assert isinstance(store, RefusingCharge)
            store.refuses = times if dies else 0
            async with DurableEngine(store, max_concurrent=1, workflows=[branching]) as engine:
                await engine.start(branching, execution_id="one")
                if dies:
                    await until(is_shipping.is_set)
                    may_end.set()
                else:
                    assert await until_over(engine, "one") == [ExecutionStatus.COMPLETED]

    asyncio.run(die_or_end(True))
    asyncio.run(die_or_end(False))
    assert sorted(set(lines)) == ["charge", "held", "look", "waiting"]


# An engine that stops


@pytest.mark.parametrize("undoing", [False, True], ids=["step", "compensation"])
def test_an_engine_that_stops_does_not_wait_for_the_next_attempt_of_a_thread(
    file: Path, undoing: bool
) -> None:
    is_at_work = threading.Event()
    runs: list[int] = []
    patient = RetryPolicy.exponential(max_attempts=3, initial_delay=timedelta(seconds=10))

    @workflow
    async def failing(ctx: WorkflowContext) -> None:
        if undoing:
            await ctx.step("act", int, compensate=lambda _: fail_slowly(), compensate_retry=patient)
            raise ValueError("undo it")
        await ctx.step("act", fail_slowly, retry=patient)

    def fail_slowly() -> None:
        runs.append(1)
        is_at_work.set()
        time.sleep(0.1)
        raise ValueError("no")

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(failing, execution_id="one")
            await asyncio.to_thread(is_at_work.wait)
            async with asyncio.timeout(30):
                await engine.dispose()
            record = await loaded(store, "one")
            assert not record.status.is_terminal

    asyncio.run(main())
    assert runs == [1]
