"""`Client`: it acts on executions, runs nothing, and costs nothing to create."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    Cancellation,
    CheckpointStore,
    Client,
    DurableEngine,
    ExecutionFinishedError,
    ExecutionStatus,
    NonDeterministicCallError,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from tests.processes import Journal, die, run_until_killed, until_over


@workflow
async def approval(ctx: WorkflowContext, order_id: str) -> str:
    by = await ctx.wait_signal("approved", type=str)
    return f"{order_id} approved by {by}"


@workflow
async def failing(ctx: WorkflowContext) -> None:
    await ctx.step("pay", lambda: 1 / 0)


@workflow
async def mistaken(ctx: WorkflowContext) -> None:
    raise NameError("no such name")


@workflow
async def deadly(ctx: WorkflowContext, path: str) -> int:
    journal = Journal(Path(path))

    def act() -> int:
        if journal.note("act") == 1:
            die()
        return 1

    return await ctx.step("act", act)


async def test_it_acts_on_what_a_worker_elsewhere_runs(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as workers,
        asyncio.timeout(20),
    ):
        client = Client(store)
        first = await client.enqueue(approval, "A-1", execution_id="one")
        assert await first.status() is ExecutionStatus.PENDING
        async with DurableEngine(workers, workflows=[approval, failing, mistaken]):
            await first.signal("approved", "kim")
            assert await first.result() == "A-1 approved by kim"
            assert await client.result_of("one", str) == "A-1 approved by kim"
            states = [state.status async for state in client.observe("one")]
            assert states == [ExecutionStatus.COMPLETED]
            with pytest.raises(WorkflowFailedError):
                await (await client.enqueue(failing)).result()
            with pytest.raises(WorkflowCodeError):
                await (await client.enqueue(mistaken)).result()
            third = await client.enqueue_named("approval", ["A-3"])
            assert await third.cancel()
            with pytest.raises(WorkflowCancelledError):
                await third.result()
            with pytest.raises(ExecutionFinishedError):
                await third.cancel()
        assert not client._working().executions


async def test_it_waits_again_after_nobody_waited(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as workers,
        asyncio.timeout(20),
    ):
        client = Client(store)
        before = asyncio.all_tasks()
        async with DurableEngine(workers, workflows=[approval]):
            for number in ("1", "2"):
                handle = await client.enqueue(approval, number)
                waiting = asyncio.create_task(handle.result())
                await asyncio.sleep(0.05)
                await handle.signal("approved", "kim")
                assert await waiting == f"{number} approved by kim"
        async with asyncio.timeout(30):
            while asyncio.all_tasks() != before:  # nothing of it is left behind
                await asyncio.sleep(0.005)


def test_creating_one_reads_nothing_and_recovers_nothing(file: Path, tmp_path: Path) -> None:
    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.run(deadly, str(tmp_path / "journal"), execution_id="one")

    run_until_killed(first_process)

    async def main() -> None:
        connection = sqlite3.connect(file, check_same_thread=False)
        with closing(connection):
            async with SqliteCheckpointStore(connection) as store, asyncio.timeout(20):
                statements: list[str] = []
                connection.set_trace_callback(statements.append)
                client = Client(store)
                assert statements == []
                dead = await client.load("one")
                await client.send_signal("one", "hello")
                assert (dead.status, dead.recovery_count) == (ExecutionStatus.RUNNING, 0)
                # It is still the dead worker's: only who works takes that over.
                assert await store.claim_execution("one") is None
                await client.resolve("one", "act", 42)
                async with DurableEngine(store, workflows=[deadly]) as engine:
                    assert await until_over(engine, "one") == [ExecutionStatus.COMPLETED]
                    assert await client.result_of("one") == 42

    asyncio.run(main())


async def test_one_cancel_and_one_signal_are_read_and_told_once(file: Path) -> None:
    connection = sqlite3.connect(file, check_same_thread=False)
    with closing(connection):
        async with (
            SqliteCheckpointStore(connection) as store,
            DurableEngine(store, workflows=[approval]) as engine,
            asyncio.timeout(20),
        ):
            for act in ("cancel", "signal"):
                handle = await engine.start(approval, "A-1", execution_id=act)
                while await handle.status() is not ExecutionStatus.SUSPENDED:
                    await asyncio.sleep(0.005)
                statements: list[str] = []
                connection.set_trace_callback(statements.append)
                if act == "cancel":
                    assert await handle.cancel() is Cancellation.ASKED
                    with pytest.raises(WorkflowCancelledError):
                        await handle.result()
                else:
                    await handle.signal("approved", "kim")
                    assert await handle.result() == "A-1 approved by kim"
                await asyncio.sleep(0.1)  # it hears of its own signal, and does nothing then
                connection.set_trace_callback(None)
                name = "$cancel" if act == "cancel" else "approved"
                reads = [
                    one
                    for one in statements
                    if one.startswith("select") and f"'{name}'" in one.replace('"', "'")
                ]
                assert len(reads) <= 1 + (act == "signal"), reads


def test_it_is_refused_where_it_cannot_work(file: Path) -> None:
    with pytest.raises(TypeError, match="must be a CheckpointStore"):
        Client("workflows.db")  # type: ignore[arg-type]
    clients: list[Client] = []

    @workflow
    async def acts_itself(ctx: WorkflowContext) -> None:
        await clients[0].send_signal("one", "hello")

    async def main(store: CheckpointStore) -> None:
        clients.append(Client(store))
        await clients[0].enqueue(approval, "A-1", execution_id="one")
        async with DurableEngine(store) as engine:
            with pytest.raises(NonDeterministicCallError):
                await engine.run(acts_itself)

    async def another_loop() -> None:
        with pytest.raises(RuntimeError, match="this client"):
            await clients[0].load("one")

    async def both() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await main(store)
            await asyncio.to_thread(asyncio.run, another_loop())

    asyncio.run(both())
