"""An execution that its worker leaves as it is says why, until a worker has it again."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    DurableEngineObserver,
    ExecutionStatus,
    NonDeterminismError,
    SerializationError,
    SqliteCheckpointStore,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    TakenExecution,
    Workflow,
    WorkflowContext,
    WorkflowExecution,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import an_engine, until


@workflow(name="order")
async def order(ctx: WorkflowContext) -> str:
    await ctx.step("charge", lambda: 1)
    return str(await ctx.wait_signal("approved"))


@workflow(name="order")
async def changed_order(ctx: WorkflowContext) -> str:
    await ctx.step("check", lambda: 1)
    return str(await ctx.wait_signal("approved"))


async def begin(file: Path, status: ExecutionStatus = ExecutionStatus.SUSPENDED) -> None:
    """An order that waits, in nobody's hands."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.start(order, execution_id="one")
        while (await engine.load("one")).status is not status:
            await asyncio.sleep(0.001)


async def trouble_of(file: Path, execution_id: str = "one") -> str | None:
    async with SqliteCheckpointStore.file(file) as store:
        found = await loaded(store, execution_id)
        return found.trouble


async def test_code_that_does_not_fit_is_named_until_code_that_fits_has_it(file: Path) -> None:
    await begin(file)
    async with an_engine(file, workflows=[changed_order]) as (_, engine):
        await engine.send_signal("one", "approved", "kim")
        with pytest.raises(NonDeterminismError):
            await engine.handle("one").result()
        # A client elsewhere hears of it, too; it may ask again.
        async with SqliteCheckpointStore.file(file) as other, DurableEngine(other) as client:
            with pytest.raises(NonDeterminismError):
                await client.handle("one").result()
            await until(lambda: _is_in_nobodys_hands(client))
            left = await client.load("one")
            assert left.status is ExecutionStatus.RUNNING
            assert left.trouble is not None
            assert left.trouble.startswith("NonDeterminismError: ")
            assert "'charge'" in left.trouble
            assert "'check'" in left.trouble
            async with (
                SqliteCheckpointStore.file(file) as third,
                DurableEngine(third, workflows=[order]) as fitting,
            ):
                assert await fitting.handle("one").result() == "kim"
            assert await client.handle("one").result() == "kim"
    assert await trouble_of(file) is None


async def test_a_worker_that_has_it_again_has_no_trouble_with_it_yet(file: Path) -> None:
    await begin(file)
    async with SqliteCheckpointStore.file(file) as store:
        (claim,) = await store.claim_available([("order", 1)], 1, now=None) or [
            await store.claim_execution("one")
        ]
        assert claim is not None
        await store.release_claims([claim], trouble="does not fit")
    async with an_engine(file, workflows=[order]) as (_, engine):
        await until(lambda: _is_suspended(engine))
        assert (await engine.load("one")).trouble is None


def test_another_reason_has_another_time(file: Path) -> None:
    """The same reason keeps its time, also where another process meets it."""

    def since() -> str:
        with closing(sqlite3.connect(file)) as connection:
            query = "select trouble_since from workflow_in_trouble"
            ((found,),) = connection.execute(query)
        return str(found)

    async def leave(trouble: str, second: int) -> str:
        async with SqliteCheckpointStore.file(file) as store:
            now = datetime(2999, 1, 1, 0, 0, second, tzinfo=UTC)
            claim = await store.claim_execution("one", now)
            assert claim is not None
            await store.release_claims([claim], now, trouble=trouble)
        return since()

    async def main() -> None:
        await begin(file)
        first = await leave("ValueError: first", 1)
        assert first == "2999-01-01T00:00:01.000000Z"
        assert await leave("ValueError: first", 2) == first
        assert await leave("ValueError: second", 3) == "2999-01-01T00:00:03.000000Z"
        assert await leave("ValueError: second", 4) == "2999-01-01T00:00:03.000000Z"

    asyncio.run(main())


async def _is_in_nobodys_hands(engine: DurableEngine) -> bool:
    return (await engine.load("one")).available_at is not None


async def _is_suspended(engine: DurableEngine) -> bool:
    return (await engine.load("one")).status is ExecutionStatus.SUSPENDED


async def test_the_reason_is_written_though_the_program_ends_at_once(file: Path) -> None:
    await begin(file)
    async with SqliteCheckpointStore.file(file) as store:
        with pytest.raises(NonDeterminismError):
            async with DurableEngine(store) as engine:
                await engine.run(changed_order, execution_id="one")
        left = await loaded(store, "one")
        assert left.trouble is not None
        assert left.recovery_count == 0
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select count(*) from workflow_claims").fetchone() == (0,)


async def test_what_is_no_exception_is_named(file: Path) -> None:
    @workflow
    async def leaves(ctx: WorkflowContext) -> None:
        await ctx.step("charge", lambda: 1)
        raise _Stop

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(leaves)
        await until(lambda: _trouble(engine, handle.execution_id))
        assert "_Stop" in str(await _trouble(engine, handle.execution_id))
        assert (await handle.status()) is ExecutionStatus.RUNNING


class _Stop(BaseException):
    pass


async def _trouble(engine: DurableEngine, execution_id: str) -> str | None:
    return (await engine.load(execution_id)).trouble


async def test_a_row_that_cannot_be_read_says_which_column(file: Path) -> None:
    await begin(file)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("update step_checkpoints set completed_at = 'noon'")
        connection.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name)"
            " values ('one', 'approved')"
        )
    async with an_engine(file, workflows=[order]) as (_, engine):
        await until(lambda: _trouble(engine, "one"))
        trouble = await _trouble(engine, "one")
        assert trouble is not None
        assert trouble.startswith(StoreCorruptError.__name__)
        assert "completed_at 'noon'" in trouble


async def test_input_that_does_not_fit_any_more_is_named(file: Path) -> None:
    @workflow(name="typed")
    async def typed(ctx: WorkflowContext, number: int) -> None:
        await ctx.wait_signal("go")

    async with SqliteCheckpointStore.file(file) as store:
        await store.save(
            Workflow(workflow_id="typed@1", workflow_type="typed"),
            WorkflowExecution(
                workflow_execution_id="one", workflow_id="typed@1", input_data='["many"]'
            ),
        )
        async with DurableEngine(store, workflows=[typed]) as engine:
            with pytest.raises(SerializationError):
                await engine.handle("one").result()
            await until(lambda: _trouble(engine, "one"))
            assert "SerializationError" in str(await _trouble(engine, "one"))


async def test_the_formatter_has_the_say_of_what_is_stored(file: Path) -> None:
    await begin(file)
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(
            store, workflows=[changed_order], error_formatter=lambda error: "redacted"
        ) as engine,
    ):
        await engine.send_signal("one", "approved")
        await until(lambda: _trouble(engine, "one"))
        assert await _trouble(engine, "one") == "NonDeterminismError: redacted"


class RefusingToRead(SqliteCheckpointStore):
    """Cannot read an execution's history, for a while."""

    error: StoreError | None = None

    async def take_execution(self, workflow_execution_id: str) -> TakenExecution | None:
        if self.error is not None:
            raise self.error
        return await super().take_execution(workflow_execution_id)


async def test_what_passes_by_itself_is_no_trouble_to_tell(file: Path) -> None:
    await begin(file)
    async with RefusingToRead.file(file) as store:
        store.error = StoreBusyError("locked by a test")
        async with DurableEngine(store, workflows=[order]) as engine:
            await engine.send_signal("one", "approved", "kim")
            await asyncio.sleep(0.1)
            assert await _trouble(engine, "one") is None
            store.error = None
            assert await engine.handle("one").result() == "kim"


async def test_a_graceful_stop_is_no_trouble(file: Path) -> None:
    @workflow
    async def slow(ctx: WorkflowContext) -> None:
        await ctx.step("wait", asyncio.sleep, 60)

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.start(slow, execution_id="one", ttl=timedelta(hours=1))
        await asyncio.sleep(0.05)
    assert await trouble_of(file) is None


def test_an_engine_that_is_disposed_of_in_that_very_moment_says_why_it_left_it() -> None:
    """Whichever turn of the event loop it is in which the engine is told to stop."""

    @workflow
    async def broken(_: WorkflowContext) -> None:
        raise KeyError("total")

    class Seen(DurableEngineObserver):
        errors = 0

        def on_error(self, error: BaseException, execution_id: str | None) -> None:
            self.errors += 1

    async def main(turns: int) -> int:
        seen = Seen()
        async with SqliteCheckpointStore.in_memory() as store:
            async with DurableEngine(store, observers=[seen]) as engine:
                await engine.start(broken, execution_id="one")
                for _ in range(turns):
                    await asyncio.sleep(0)
            left = await loaded(store, "one")
            assert (left.trouble is not None) is (seen.errors == 1), turns
            return seen.errors

    assert {asyncio.run(main(turns)) for turns in range(6)} >= {1}
