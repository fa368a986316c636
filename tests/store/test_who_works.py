"""Who works, who began what, and what waits for whom: as the file says it, and who lives."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    RetryPolicy,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowCancelledError,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.cli.workers import _doing
from durable_workflow_sqlite.reading.findings import LATE, Finding, Level
from durable_workflow_sqlite.reading.workers import Workers
from durable_workflow_sqlite.records import TERMINAL_STATUSES
from durable_workflow_sqlite.stores import open_reader
from durable_workflow_sqlite.testing.contract_base import (
    WORKFLOW,
    created,
    new_checkpoint,
    new_execution,
)
from tests.processes import a_process, an_engine
from tests.store.test_restored import copy

Say = Callable[[str], None]


@workflow
async def order(ctx: WorkflowContext, how: str) -> str:
    async def pack() -> str:
        if how == "hang":
            await asyncio.Event().wait()
        if how == "flaky" and not tries:
            tries.append(how)
            raise ConnectionError(how)
        return how

    tries: list[str] = []
    again = RetryPolicy.fixed(max_attempts=2, delay=timedelta(days=1))
    await ctx.step("pack", pack, retry=again)
    await ctx.wait_signal("go")
    return how


@workflow(name="order", version=2)
async def new_order(ctx: WorkflowContext, how: str) -> str:
    return await order.function(ctx, how)


@pytest.fixture
def shell(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


def staff(file: Path, limit: int = 10) -> Workers:
    with open_reader(file) as reader:
        return reader.workers(limit=limit)


def findings(file: Path, now: datetime | None = None) -> dict[str, Finding]:
    with open_reader(file) as reader:
        return {one.check: one for one in reader.check_up(now or datetime.now(UTC), quick=True)}


async def until(file: Path, is_so: Callable[[Workers], object]) -> Workers:
    async with asyncio.timeout(30):
        while not is_so(found := staff(file)):
            await asyncio.sleep(0.005)
    return found


async def test_a_worker_is_seen_with_what_it_runs_and_does(file: Path) -> None:
    async with an_engine(file, workflows=[order], max_concurrent=7) as (_, engine):
        for how in ("hang", "wait", "flaky"):
            await engine.start(order, how, execution_id=how)
        found = await until(
            file, lambda it: it.workers and it.workers[0].slots and it.queues[0].waiting == 1
        )
        # What waits for its next attempt runs, and takes no slot.
        found = await until(file, lambda it: it.workers[0].slots_in_use == 1)
        (worker,) = found.workers
        assert worker.is_alive
        assert (worker.host, worker.process_id) == (socket.gethostname(), os.getpid())
        assert worker.program
        assert (worker.slots, worker.executions) == (7, 3)
        assert [(one.workflow_type, one.version) for one in worker.serves] == [("order", 1)]
        assert [(one.execution_id, one.step_name) for one in worker.doing] == [("hang", "pack")]
        assert staff(file, limit=0).workers[0].doing == ()
        (queue,) = found.queues
        assert (queue.unfinished, queue.running, queue.waiting, queue.due) == (3, 2, 1, 0)
        assert queue.living_workers == 1
        await engine.start(new_order, "wait")  # a workflow that it did not know
        await until(file, lambda it: len(it.workers[0].serves) == 2)
        await until(file, lambda it: len(it.queues) == 2)
        assert all(one.living_workers for one in staff(file).queues)
    assert staff(file).workers == ()


async def test_a_parent_that_is_to_be_undone_waits_for_its_children(file: Path) -> None:
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    async def act() -> None:
        has_begun.set()
        await may_end.wait()

    @workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.step("act", act)

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.start_child("child", child)
        await ctx.wait_signal("go")

    settings = {"cancel_grace": timedelta(hours=1)}
    async with an_engine(file, workflows=[parent, child], **settings) as (_, engine):
        handle = await engine.start(parent, execution_id="p")
        await has_begun.wait()
        await handle.cancel()
        found = await until(file, lambda it: it.workers[0].slots_in_use == 2)
        doing = {one.execution_id: one for one in found.workers[0].doing}
        assert doing["p"].waits_for_children
        assert doing["p"].step_name is None
        assert doing["p/child-0"].step_name == "act"
        assert not doing["p/child-0"].waits_for_children
        said = _doing(found.workers[0], datetime.now(UTC), 10)
        assert "p: waits for its children" in said
        assert "p/child-0: act" in said
        may_end.set()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()


async def test_who_only_signals_and_enqueues_writes_no_row(
    file: Path, shell: sqlite3.Connection
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.enqueue(order, "wait", execution_id="one")
        await engine.send_signal("one", "go")
        assert await engine.cancel("one")
        assert shell.execute("select count(*) from workflow_workers").fetchone() == (0,)
        assert staff(file).workers == ()


async def test_each_attempt_says_who_began_it(file: Path, shell: sqlite3.Connection) -> None:
    """Two workers of one process are two; who writes without a claim changes nothing of that."""
    async with SqliteCheckpointStore.file(file) as one, SqliteCheckpointStore.file(file) as other:
        for index, store in enumerate((one, other)):
            claim = await (
                store.claim_execution("e")
                if index
                else store.create_execution(WORKFLOW, new_execution("e"))
            )
            assert claim is not None
            for status in (StepStatus.INTENT, StepStatus.COMPLETED):
                await store.save(new_checkpoint("e", index, status=status), claim=claim)
            for attempt in range(2):  # a compensation, tried by one and then by the other
                await store.save(
                    new_checkpoint(
                        "e", 0, attempt=0, status=StepStatus.INTENT, input_data=f"{attempt}"
                    ),
                    claim=claim,
                )
            await store.release_claims([claim])
        await one.save(new_checkpoint("e", 1, status=StepStatus.COMPLETED, output_data="7"))
        await one.save(new_checkpoint("e", 2, status=StepStatus.COMPLETED))
    rows = shell.execute(
        "select step_index, attempt, worker_number, worker from workflow_timeline"
        " order by step_index, attempt"
    ).fetchall()
    here = f"{socket.gethostname()}:{os.getpid()}"
    assert rows == [(0, 0, 2, here), (0, 1, 1, here), (1, 1, 2, here), (2, 1, None, None)]
    with open_reader(file) as reader:
        details = reader.execution("e")
    assert details is not None
    assert [step.worker_number for step in details.steps] == [1, 2, None]
    assert [step.worker for step in details.compensations] == [here]
    shell.execute("delete from workflow_workers where worker_number = 2")
    assert shell.execute(
        "select worker from workflow_timeline where step_index = 1"
    ).fetchone() == ("worker 2",)


async def test_a_worker_in_memory_has_a_number_too() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store, [order]) as engine:
        await engine.start(order, "wait", execution_id="one")
        async with asyncio.timeout(30):
            while not await store.load_open_waits("one", "go"):
                await asyncio.sleep(0)
        found = store._connection.execute(  # pyright: ignore[reportPrivateUsage]
            "select distinct worker_number from step_checkpoints"
        )
        assert found.fetchall() == [(1,)]


@pytest.mark.parametrize("has_claim", [False, True])
def test_a_worker_that_was_killed_is_seen_while_it_has_claims_and_then_forgotten(
    file: Path, shell: sqlite3.Connection, has_claim: bool
) -> None:
    def body(say: Say) -> None:
        async def work() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                await store.join([("order", 1)], 3)
                if has_claim:
                    await store.create_execution(WORKFLOW, new_execution("e"))
                say("joined")
                await asyncio.sleep(3600)

        asyncio.run(work())

    with a_process(body) as process:
        assert process.hear() == "joined"
        (worker,) = staff(file).workers
        assert (worker.is_alive, worker.process_id, worker.slots) == (True, process.pid, 3)
        process.kill()
    found = staff(file)
    assert [(one.is_alive, one.executions) for one in found.workers] == [(False, 1)] * has_claim
    assert findings(file)["workers"].level is (Level.WARNING if has_claim else Level.NOTE)

    async def prune(before: datetime) -> int:
        async with SqliteCheckpointStore.file(file) as store:
            await store.delete_completed_before(before, TERMINAL_STATUSES)
        (rows,) = shell.execute("select count(*) from workflow_workers").fetchone()
        return int(rows)

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert asyncio.run(prune(tomorrow)) == 1  # only now it was found dead
    assert asyncio.run(prune(datetime.now(UTC) - timedelta(days=1))) == 1  # not so long ago
    assert asyncio.run(prune(tomorrow)) == int(has_claim)
    assert shell.execute("select count(*) from workflow_worker_workflows").fetchone() == (
        int(has_claim),
    )


async def test_a_worker_that_lives_is_not_forgotten(file: Path, shell: sqlite3.Connection) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    async with SqliteCheckpointStore.file(file) as store:
        await store.join([("order", 1)], 3)
        for _ in range(2):
            await store.delete_completed_before(tomorrow, TERMINAL_STATUSES)
        assert shell.execute("select seen_dead_at from workflow_workers").fetchall() == [(None,)]


async def test_a_backup_without_the_row_of_a_worker_gets_it_with_the_next_claim(
    file: Path, tmp_path: Path, shell: sqlite3.Connection
) -> None:
    backup = copy(file, tmp_path / "backup.db")
    async with SqliteCheckpointStore.file(backup) as another:
        await another.join([("order", 1)], 3)  # it has the first number there
    async with SqliteCheckpointStore.file(file) as store:
        await store.join([("order", 1), ("order", 2)], 3)
        copy(backup, file)
        claim = await created(store, new_execution("e"))
        await store.save(new_checkpoint("e", 0, status=StepStatus.INTENT), claim=claim)
        (worker,) = staff(file).workers
        assert (worker.worker_id, worker.number, worker.slots) == (store.worker_id, 2, 3)
        assert {one.version for one in worker.serves} == {1, 2}
        assert shell.execute("select worker_number from step_checkpoints").fetchall() == [(2,)]


async def test_nobody_lives_or_nobody_knows_the_version_is_a_warning_with_its_command(
    file: Path,
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.enqueue(new_order, "wait")
        await engine.enqueue(new_order, "wait", delay=timedelta(days=1))
        finding = findings(file)["workers"]
        assert finding.level is Level.WARNING
        assert finding.message.startswith("no worker lives: 1 execution due, the first since 2")
        assert "durable-workflow worker FILE --app" in str(finding.hint)
        async with SqliteCheckpointStore.file(file) as of_old, DurableEngine(of_old, [order]):
            await until(file, lambda it: it.workers and it.workers[0].serves)
            found = findings(file)
            assert found["workers"].level is Level.NOTE
            finding = found["unknown"]
            assert finding.level is Level.WARNING
            assert finding.message.startswith("no living worker knows order v2: 2 executions, the")
            assert finding.message.endswith("; 1 worker lives, and knows order v1")
            assert "durable-workflow worker FILE --app" in str(finding.hint)
        async with SqliteCheckpointStore.file(file) as of_new, DurableEngine(of_new, [new_order]):
            await until(file, lambda it: it.workers and it.workers[0].serves)
            assert "unknown" not in findings(file)


async def test_an_engine_without_workflows_works_on_what_it_starts(file: Path) -> None:
    async with an_engine(file, max_concurrent=7) as (_, engine):
        await engine.start(order, "hang")
        found = await until(file, lambda it: it.workers[0].slots and it.workers[0].doing)
        assert (found.workers[0].slots, len(found.workers[0].serves)) == (7, 1)


async def test_a_queue_is_a_warning_where_all_slots_are_in_use_for_long(file: Path) -> None:
    later = datetime.now(UTC) + 2 * LATE
    async with an_engine(file, workflows=[order], max_concurrent=1) as (_, engine):
        for _ in range(3):
            await engine.enqueue(order, "hang")
        await until(file, lambda it: it.queues and it.queues[0].due == 2 and it.workers[0].doing)
        assert "queue" not in findings(file)
        finding = findings(file, later)["queue"]
        assert finding.level is Level.WARNING
        assert finding.message.startswith("2 executions of order v1 due, the first since 2")
        assert finding.message.endswith(": all 1 slots of 1 worker in use")
        assert "--max-concurrent" in str(finding.hint)
        async with SqliteCheckpointStore.file(file) as another:
            await another.join([("order", 1)], 3)
            assert "queue" not in findings(file, later)  # it has room


def test_the_queue_counts_each_execution_once(file: Path, shell: sqlite3.Connection) -> None:
    shell.execute("insert into workflows (workflow_id, workflow_type) values ('order@1', 'order')")
    past, future = "2020-01-01T00:00:00.000000Z", "9999-01-01T00:00:00.000000Z"
    for one, status, available_at, blocked_reason, trouble, priority in (
        ("due", "PENDING", past, None, None, 0),
        ("due, first", "SUSPENDED", "2019-01-01T00:00:00.000000Z", None, None, 5),
        ("delayed", "PENDING", future, None, None, 0),
        ("asleep", "SUSPENDED", future, None, None, 5),
        ("wait", "SUSPENDED", None, None, None, 0),
        ("blocked", "RUNNING", None, "why", None, 0),
        ("in trouble", "RUNNING", past, None, "why", 0),
        ("in trouble, and blocked", "RUNNING", None, "why", "why", 0),
        ("running", "RUNNING", None, None, None, 0),
        ("undoing", "COMPENSATING", None, None, None, 0),
        ("over", "COMPLETED", None, None, "once", 0),
    ):
        shell.execute(
            "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
            " available_at, blocked_reason, trouble, priority)"
            " values (?, 'order@1', ?, ?, ?, ?, ?)",
            (one, status, available_at, blocked_reason, trouble, priority),
        )
    for one in ("running", "undoing"):
        shell.execute(
            "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
            " values (?, 'w', ?)",
            (one, past),
        )
    (row,) = shell.execute(
        "select workflow_type, unfinished, due, due_since, running, waiting, in_trouble, blocked"
        " from workflow_queue"
    ).fetchall()
    assert row == ("order", 10, 2, "2019-01-01T00:00:00.000000Z", 2, 3, 1, 2)
    (queue,) = staff(file).queues
    assert (queue.unfinished, queue.due, queue.running, queue.waiting) == (10, 2, 2, 3)
    with open_reader(file) as reader:
        assert reader.workers(reader.counts()).queues == (queue,)


def test_running_time_is_apart_from_queue_time(file: Path, shell: sqlite3.Connection) -> None:
    shell.execute("insert into workflows (workflow_id, workflow_type) values ('order@1', 'order')")
    at = "2030-01-01T00:{:02}:00.000000Z".format
    for one, status, started_at in (
        ("over", "COMPLETED", at(2)),
        ("by an older version", "COMPLETED", None),
        ("waits", "PENDING", None),
    ):
        shell.execute(
            "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
            " created_at, started_at, status_since) values (?, 'order@1', ?, ?, ?, ?)",
            (one, status, at(0) if status != "PENDING" else "2020" + at(0)[4:], started_at, at(7)),
        )
    with open_reader(file) as reader:
        found = {one: reader.execution(one) for one in ("over", "by an older version", "waits")}
    times = {
        one: (details.queued_seconds, details.running_seconds)
        for one, details in found.items()
        if details is not None
    }
    assert times["over"] == (120.0, 300.0)
    assert times["by an older version"] == (None, None)
    queued, running = times["waits"]
    assert running is None
    assert queued is not None
    assert queued > 86_400
