"""Named queues: a slot is held while code runs, over all workers, and by nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Cancellation,
    Client,
    DuplicateExecutionError,
    DurableEngine,
    ExecutionConflictError,
    ExecutionStatus,
    Limit,
    LimitNotFoundError,
    Queue,
    QueueNotFoundError,
    Rate,
    RetryPolicy,
    SqliteCheckpointStore,
    StepCheckpoint,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowExpiredError,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.worker import AppError, find_queues, find_workflows
from tests.processes import until, until_over

SOON = timedelta(milliseconds=30)

running: Counter[str] = Counter()
most: Counter[str] = Counter()


@asynccontextmanager
async def at_work(name: str) -> AsyncIterator[None]:
    running[name] += 1
    most[name] = max(most[name], running[name])
    try:
        yield
    finally:
        running[name] -= 1


@pytest.fixture(autouse=True)
def _nothing_has_run() -> None:
    running.clear()
    most.clear()


async def work(name: str) -> None:
    async with at_work(name), at_work("all"):
        await asyncio.sleep(0.01)


@workflow
async def works(ctx: WorkflowContext, name: str) -> None:
    await ctx.step("work", work, name)
    await ctx.step("work more", work, name)


@workflow
async def asks(ctx: WorkflowContext, name: str) -> str:
    await ctx.step("work", work, name)
    answer = await ctx.wait_signal("answer", type=str)
    await ctx.step("work more", work, name)
    return answer


@workflow
async def sleeps(ctx: WorkflowContext, name: str) -> None:
    for number in range(3):
        await ctx.step(f"work {number}", work, name)
        await ctx.sleep(f"rest {number}", SOON)


ALL = (works, asks, sleeps)


async def test_no_more_run_at_once_than_the_queue_allows_over_all_workers(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other,
        DurableEngine(store, ALL) as engine,
        DurableEngine(other, ALL),
    ):
        await engine.declare(Queue("a", concurrency=3), Queue("b", per_key=1))
        handles = [
            await engine.enqueue(works, queue, queue=queue, key=f"{number % 2}")
            for number in range(12)
            for queue in ("a", "b")
        ]
        async with asyncio.timeout(60):
            for handle in handles:
                await handle.result()
    assert 1 < most["a"] <= 3
    assert most["b"] <= 2


@pytest.mark.parametrize("park_after", [timedelta(0), timedelta(seconds=60)])
async def test_what_waits_holds_no_slot_and_takes_one_to_go_on(park_after: timedelta) -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, ALL, park_after=park_after) as engine,
    ):
        await engine.declare(Queue("mail", concurrency=1))
        waiting = [await engine.enqueue(asks, "mail", queue="mail") for _ in range(5)]
        sleeping = [await engine.enqueue(sleeps, "mail", queue="mail") for _ in range(5)]
        async with asyncio.timeout(60):
            for handle in waiting:
                await until_suspended(engine, handle.execution_id)
            for handle in waiting:
                await handle.signal("answer", "yes")
            assert [await handle.result() for handle in waiting] == ["yes"] * 5
            for handle in sleeping:
                await handle.result()
    assert most["mail"] == 1


async def until_suspended(engine: DurableEngine, execution_id: str) -> None:
    while (await engine.load(execution_id)).status is not ExecutionStatus.SUSPENDED:
        await asyncio.sleep(0.005)


@workflow
async def blocks(ctx: WorkflowContext) -> None:
    await ctx.step("block", until, lambda: running["released"])


async def test_what_goes_on_waits_in_its_full_queue(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, [*ALL, blocks], park_after=None) as engine,
    ):
        await engine.declare(Queue("mail", concurrency=1))
        asked = await engine.enqueue(asks, "mail", queue="mail")
        cancelled = await engine.enqueue(asks, "mail", queue="mail")
        expired = await engine.enqueue(asks, "mail", queue="mail", ttl=timedelta(seconds=2))
        for handle in (asked, cancelled, expired):
            await until_suspended(engine, handle.execution_id)
        blocking = await engine.enqueue(blocks, queue="mail")
        while await blocking.status() is not ExecutionStatus.RUNNING:
            await asyncio.sleep(0.005)
        await asked.signal("answer", "go on")
        assert await cancelled.cancel()
        await asyncio.sleep(2.1)
        for handle in (asked, cancelled, expired):
            assert not (await engine.load(handle.execution_id)).status.is_terminal
            assert handle.execution_id not in engine._executions
        running["released"] = 1
        async with asyncio.timeout(60):
            assert await asked.result() == "go on"
            with pytest.raises(WorkflowCancelledError):
                await cancelled.result()
            with pytest.raises(WorkflowExpiredError):
                await expired.result()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select count(*) from workflow_claims").fetchone() == (0,)


def every(seconds: float) -> RetryPolicy:
    return RetryPolicy.fixed(max_attempts=None, delay=timedelta(seconds=seconds))


async def refuse(name: str) -> None:
    async with at_work(name), at_work("all"):
        running[f"refused {name}"] += 1
        await asyncio.sleep(0.005)
        if not running["mended"]:
            raise ConnectionError(name)


@workflow
async def is_stuck(ctx: WorkflowContext, name: str, seconds: float) -> None:
    await ctx.step("refuse", refuse, name, retry=every(seconds))


@workflow
async def is_stuck_undoing(ctx: WorkflowContext, name: str, seconds: float) -> None:
    async def undo(_: None) -> None:
        await refuse(name)

    await ctx.step("work", work, name, compensate=undo, compensate_retry=every(seconds))
    raise RuntimeError(name)


STUCK = (is_stuck, is_stuck_undoing, works)


@pytest.mark.parametrize("stuck", [is_stuck, is_stuck_undoing])
async def test_a_stuck_execution_does_not_block_its_queue(file: Path, stuck: Any) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other,
        DurableEngine(store, STUCK) as engine,
        DurableEngine(other, STUCK),
    ):
        await engine.declare(Queue("mail", concurrency=1, rate=Rate(100, timedelta(hours=1))))
        tries = await engine.enqueue(stuck, "mail", 0.3, queue="mail")
        await until(lambda: running["refused mail"])
        async with asyncio.timeout(60):
            for _ in range(20):
                await (await engine.enqueue(works, "mail", queue="mail")).result()
            await until(lambda: running["refused mail"] > 2)  # it is tried all the same
            running["mended"] = 1
            with suppress(WorkflowFailedError):
                await tries.result()
        assert most["mail"] == 1
    with closing(sqlite3.connect(file)) as connection:
        # A back-off is a wait: what goes on after it does not count for the rate again.
        used = connection.execute("select count(*) from workflow_limit_uses").fetchone()
        assert used == (21,)
        assert connection.execute("select count(*) from workflow_claims").fetchone() == (0,)


@workflow
async def is_stuck_and_asks(ctx: WorkflowContext) -> str:
    async def ask() -> str:
        beside = ctx.branch("b")
        answer = await beside.wait_signal("answer", type=str)
        await beside.step("work", work, "mail")
        return answer

    asking = asyncio.create_task(ask())
    await ctx.step("refuse", refuse, "mail", retry=every(3600))
    return await asking


async def test_a_back_off_goes_on_while_its_execution_waits_in_its_full_queue(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, [is_stuck_and_asks, blocks]) as engine,
    ):
        await engine.declare(Queue("mail", concurrency=1))
        stuck = await engine.enqueue(is_stuck_and_asks, queue="mail")
        await until(lambda: running["refused mail"])
        blocking = await engine.enqueue(blocks, queue="mail")
        async with asyncio.timeout(30):
            while await blocking.status() is not ExecutionStatus.RUNNING:
                await asyncio.sleep(0.005)
            (failed,) = await _attempts(store, stuck.execution_id)
            await stuck.signal("answer", "yes")
            await until(lambda: stuck.execution_id not in engine._executions)
            assert most["mail"] == 1
            running["released"] = 1
            while (await engine.load(stuck.execution_id)).current_step < 2:
                await asyncio.sleep(0.005)
            assert await _attempts(store, stuck.execution_id) == [failed]
            running["mended"] = 1
            await engine.retry(stuck.execution_id)
            assert await stuck.result() == "yes"
        assert running["refused mail"] == 2


async def _attempts(store: SqliteCheckpointStore, execution_id: str) -> list[StepCheckpoint]:
    steps = await store.load_checkpoints(execution_id)
    return [one for one in steps if one.step_name == "refuse"]


async def test_a_short_back_off_keeps_its_slot() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, STUCK) as engine,
    ):
        await engine.declare(Queue("mail", concurrency=1))
        tries = await engine.enqueue(is_stuck, "mail", 0.05, queue="mail")
        later = await engine.enqueue(works, "mail", queue="mail")
        await until(lambda: running["refused mail"] > 4)
        assert await later.status() is ExecutionStatus.PENDING
        running["mended"] = 1
        await tries.result()
        await later.result()


async def test_a_change_of_the_limits_counts_for_every_worker_at_once(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, [blocks]) as engine,
    ):
        await engine.declare(Queue("mail", concurrency=1))
        ids = [(await engine.enqueue(blocks, queue="mail")).execution_id for _ in range(3)]
        await until(lambda: len(engine._executions) == 1)
        await asyncio.sleep(0.05)
        assert len(engine._executions) == 1
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("update workflow_limits set concurrency = 2 where name = 'mail'")
        async with asyncio.timeout(5):  # a loaded machine takes its time
            await until(lambda: len(engine._executions) == 2)
        running["released"] = 1
        await until_over(engine, *ids)


async def test_a_full_queue_keeps_nothing_else_waiting(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, [blocks, works], max_concurrent=5) as engine,
    ):
        await engine.declare(Queue("stuck", concurrency=1), Queue("mail", concurrency=1))
        stuck = [await engine.enqueue(blocks, queue="stuck", priority=9) for _ in range(200)]
        async with asyncio.timeout(30):
            await (await engine.enqueue(works, "mail", queue="mail")).result()
            await (await engine.enqueue(works, "none")).result()
        statuses = Counter([await handle.status() for handle in stuck])
        assert statuses == {ExecutionStatus.RUNNING: 1, ExecutionStatus.PENDING: 199}
        running["released"] = 1


async def test_an_engine_serves_the_queues_that_it_names(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other,
        DurableEngine(store, [works], queues=["gpu"]) as gpu,
    ):
        await gpu.declare(Queue("gpu"), Queue("mail"))
        on_gpu = await gpu.enqueue(works, "gpu", queue="gpu")
        mail = await gpu.enqueue(works, "mail", queue="mail", execution_id="mail")
        none = await gpu.enqueue(works, "none")
        await on_gpu.result()
        # Also not if it is asked for it by its id.
        assert (await gpu.start(works, "mail", execution_id="mail")).execution_id == "mail"
        await gpu.run(works, "here")
        assert await mail.status() is await none.status() is ExecutionStatus.PENDING
        async with DurableEngine(other, [works]):
            await mail.result()
            await none.result()


async def test_a_rerun_is_in_the_same_queue() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [works]) as engine,
    ):
        await engine.declare(Queue("mail"))
        first = await engine.enqueue(works, "mail", queue="mail", key="kim", priority=3)
        await first.result()
        again = await engine.load((await engine.rerun(first.execution_id)).execution_id)
        assert (again.queue, again.queue_key, again.priority) == ("mail", "kim", 3)


async def test_bad_arguments_are_refused_at_the_call() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        client = Client(store)
        await client.declare(Queue("mails"))
        with pytest.raises(QueueNotFoundError, match=r"did you mean 'mails'\?"):
            await client.enqueue(works, "a", queue="mail")
        with pytest.raises(ValueError, match="without a queue"):
            await client.enqueue(works, "a", key="kim")
        with pytest.raises(TypeError, match="queue"):
            await client.enqueue(works, "a", queue=7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="key"):
            await client.enqueue(works, "a", queue="mails", key="")
        assert await store.load_executions_by_status(list(ExecutionStatus)) == []
    with pytest.raises(ValueError, match="concurrency of queue 'a' must be at least 1"):
        Queue("a", concurrency=0)
    with pytest.raises(TypeError, match="per_key"):
        Queue("a", per_key="2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the name of a queue"):
        Queue(" a")
    with pytest.raises(TypeError, match="list of names"):
        DurableEngine(store, queues="gpu")
    with pytest.raises(ValueError, match="must name a queue"):
        DurableEngine(store, queues=[])


@workflow
async def calls(ctx: WorkflowContext, name: str, count: int) -> None:
    for number in range(count):
        await ctx.step(f"call {number}", work, name, limit="api", limit_key=name)


async def test_no_more_steps_run_at_once_than_the_limit_allows_over_all_workers(
    file: Path,
) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other,
        DurableEngine(store, [calls]) as engine,
        DurableEngine(other, [calls]) as beside,
    ):
        await engine.declare(Limit("api", concurrency=3, per_key=2))
        handles = [
            await (engine, beside)[number % 2].start(calls, f"{number % 3}", 4)
            for number in range(12)
        ]
        async with asyncio.timeout(60):
            for handle in handles:
                await handle.result()
        assert 1 < most["all"] <= 3
        assert max(most[f"{key}"] for key in range(3)) <= 2
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select * from workflow_step_slots").fetchall() == []


@workflow
async def tries(ctx: WorkflowContext) -> None:
    async def fail_first() -> None:
        running["tries"] += 1
        if running["tries"] == 1:
            raise ConnectionError("not yet")

    retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(seconds=60))
    await ctx.step("try", fail_first, retry=retry, limit="api")


async def test_a_back_off_holds_no_slot_of_a_limit() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [tries, calls]) as engine,
    ):
        await engine.declare(Limit("api", concurrency=1))
        waiting = await engine.start(tries)
        await until(lambda: running["tries"] == 1)
        async with asyncio.timeout(30):
            await engine.run(calls, "a", 2)
            await engine.retry(waiting.execution_id)
            await waiting.result()
        assert (await store.load_limit_room("api", None)).is_free


@workflow
async def stamps(ctx: WorkflowContext, count: int) -> list[float]:
    async def stamp() -> float:
        return asyncio.get_running_loop().time()

    return [await ctx.step(f"stamp {number}", stamp, limit="slow") for number in range(count)]


async def test_a_rate_of_steps_holds_over_a_restart(file: Path) -> None:
    period = timedelta(seconds=0.4)
    times: list[float] = []
    for _ in range(2):
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, [stamps]) as engine,
        ):
            await engine.declare(Limit("slow", rate=Rate(5, period)))
            async with asyncio.timeout(30):
                times += await engine.run(stamps, 8)
    with closing(sqlite3.connect(file)) as connection:
        begun = [
            datetime.fromisoformat(text)
            for (text,) in connection.execute("select started_at from step_checkpoints order by id")
        ]
    assert len(begun) == len(times) == 16
    for first, sixth in zip(begun, begun[5:], strict=False):
        assert sixth - first >= 0.98 * period


async def test_a_step_under_a_limit_that_is_not_declared_waits_for_a_person() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [calls]) as engine,
    ):
        with pytest.raises(LimitNotFoundError, match="no limit 'api'"):
            await engine.run(calls, "a", 1, execution_id="one")
        assert not (await engine.load("one")).status.is_terminal


@workflow
async def misuses(ctx: WorkflowContext, limit: Any, key: Any) -> None:
    await ctx.step("a", work, "a", limit=limit, limit_key=key)


@pytest.mark.parametrize(("limit", "key"), [(None, "a"), ("", None), (7, None), ("a", "")])
async def test_a_limit_that_is_not_valid_is_refused_at_the_call(limit: object, key: object) -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [misuses]) as engine,
    ):
        with pytest.raises(WorkflowCodeError, match="limit"):
            await engine.run(misuses, limit, key)


async def test_who_is_cancelled_while_it_waits_for_a_slot_keeps_nobody_waiting() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [calls, holds]) as engine,
    ):
        await engine.declare(Limit("api", concurrency=1))
        held = await engine.start(holds)
        await until(lambda: running["held"])
        waiting = [await engine.start(calls, "a", 1) for _ in range(3)]
        await asyncio.sleep(0.05)
        await waiting[0].cancel()
        await waiting[1].cancel()
        for handle in waiting[:2]:
            with pytest.raises(WorkflowCancelledError):
                await handle.result()
        running["released"] = 1
        async with asyncio.timeout(30):
            await held.result()
            await waiting[2].result()
            await engine.run(calls, "a", 1)


@workflow
async def holds(ctx: WorkflowContext) -> None:
    async def hold() -> None:
        running["held"] = 1
        await until(lambda: running["released"])

    await ctx.step("hold", hold, limit="api")


async def test_one_of_many_with_the_same_dedup_id_runs(file: Path) -> None:
    async with AsyncExitStack() as opened:
        clients = [
            Client(await opened.enter_async_context(SqliteCheckpointStore.file(file)))
            for _ in range(8)
        ]
        await clients[0].declare(Queue("mail"))
        enqueue = [
            client.enqueue(works, "a", queue="mail", dedup_id="mail-88", on_duplicate="existing")
            for client in clients * 3
        ]
        handles = await asyncio.gather(*enqueue)
        (one,) = {handle.execution_id for handle in handles}
        with pytest.raises(DuplicateExecutionError) as refused:
            await clients[1].enqueue(works, "b", queue="mail", dedup_id="mail-88")
        assert refused.value.workflow_execution_id == one
        with pytest.raises(ExecutionConflictError, match="works"):
            await clients[1].enqueue(
                sleeps, "b", queue="mail", dedup_id="mail-88", on_duplicate="existing"
            )


async def test_what_is_debounced_runs_once_with_the_last_arguments() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [echoes]) as engine,
    ):
        handles = [
            await engine.enqueue(echoes, number, dedup_id="doc", debounce=SOON * 10)
            for number in range(5)
        ]
        assert len({handle.execution_id for handle in handles}) == 1
        async with asyncio.timeout(30):
            assert await handles[0].result() == 4
            later = await engine.enqueue(echoes, 9, dedup_id="doc", debounce=SOON)
            assert await later.result() == 9
        for wrong in (
            {"debounce": SOON},
            {"debounce": SOON, "dedup_id": "a", "delay": SOON},
            {"debounce": -SOON, "dedup_id": "a"},
            {"dedup_id": "a", "on_duplicate": "replace"},
            {"dedup_id": ""},
        ):
            with pytest.raises(ValueError, match=r"debounce|on_duplicate|dedup_id"):
                await engine.enqueue(echoes, 1, **wrong)  # type: ignore[arg-type]


@workflow
async def echoes(ctx: WorkflowContext, number: int) -> int:
    return number


mail_queue = Queue("mail", concurrency=2)


def test_a_worker_declares_the_queues_of_its_module() -> None:
    assert find_workflows(f"{__name__}:ALL") == [*ALL]
    assert find_queues(f"{__name__}:ALL") == [mail_queue]
    with pytest.raises(AppError):
        find_workflows(f"{__name__}:mail_queue")


@workflow
async def branches_out(ctx: WorkflowContext, depth: int, fails: bool) -> int:
    await ctx.step("work", work, "mail")
    if depth == 0:
        if fails:
            await ctx.step("refuse", refuse, "mail")
        return 1
    if fails:
        await ctx.start_child("beside", asks, "mail")
    found = await ctx.map("below", branches_out_further, [depth - 1] * 2)
    return sum(found) + await ctx.child("one more", branches_out, depth - 1, fails)


@workflow
async def branches_out_further(ctx: WorkflowContext, depth: int) -> int:
    return await ctx.child("below", branches_out, depth, False)


TREE = (branches_out, branches_out_further, asks)


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "queue",
    [
        Queue("mail", concurrency=1),
        Queue("mail", per_key=1),
        Queue("mail", per_worker=1),
        Queue("mail", concurrency=2, rate=Rate(20, timedelta(seconds=0.2))),
    ],
    ids=["concurrency", "per_key", "per_worker", "rate"],
)
@pytest.mark.parametrize("park_after", [timedelta(0), timedelta(seconds=60)])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_limit_also_binds_what_a_limited_execution_starts(
    file: Path, queue: Queue, park_after: timedelta, fails: bool
) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, TREE, park_after=park_after) as engine,
    ):
        await engine.declare(queue)
        tree = await engine.enqueue(branches_out, 2, fails, queue="mail", key="kim", priority=3)
        async with asyncio.timeout(90):
            if fails:
                with pytest.raises(WorkflowFailedError):
                    await tree.result()
            else:
                assert await tree.result() == 9
        assert 0 < most["mail"] <= (queue.concurrency or 1)
        found = await store.load_executions_by_status(ExecutionStatus)
        assert len(found) > 9
        assert {(one.queue, one.queue_key, one.priority) for one in found} == {("mail", "kim", 3)}
        assert all(one.status.is_terminal for one in found)


@workflow
async def places(ctx: WorkflowContext, where: str) -> None:
    options: dict[str, Any] = {
        "as the parent": {},
        "with a key": {"key": "lee"},
        "without a key": {"key": None},
        "in none": {"queue": None},
        "in another": {"queue": "other"},
        "in another, with a key": {"queue": "other", "key": "lee"},
    }[where]
    await ctx.child("child", works, "a", **options)
    options.pop("key", None)
    await ctx.map("children", works, ["a"], queue_key=lambda item: f"of {item}", **options)


@pytest.mark.parametrize(
    ("where", "queue", "key"),
    [
        ("as the parent", "mail", "kim"),
        ("with a key", "mail", "lee"),
        ("without a key", "mail", None),
        ("in another", "other", None),
        ("in another, with a key", "other", "lee"),
    ],
)
async def test_a_child_is_in_the_queue_of_its_parent_unless_it_says_another(
    where: str, queue: str | None, key: str | None
) -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [places, works]) as engine,
    ):
        await engine.declare(Queue("mail"), Queue("other"))
        await (
            await engine.enqueue(places, where, execution_id="p", queue="mail", key="kim")
        ).result()
        child = await engine.load("p/child-0")
        assert (child.queue, child.queue_key) == (queue, key)
        mapped = await engine.load("p/children.0:children-0")
        assert (mapped.queue, mapped.queue_key) == (queue, "of a")


@workflow
async def starts_outside(ctx: WorkflowContext) -> None:
    await ctx.child("child", works, "a", queue=None)
    await ctx.map("children", works, ["a"], queue=None)


async def test_a_child_may_be_in_no_queue() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [starts_outside, places, works]) as engine,
    ):
        await engine.declare(Queue("mail"))
        handle = await engine.enqueue(starts_outside, execution_id="p", queue="mail", key="kim")
        await handle.result()
        for one in ("p/child-0", "p/children.0:children-0"):
            child = await engine.load(one)
            assert (child.queue, child.queue_key) == (None, None)
        # A key is of a queue, and this parent is in none.
        with pytest.raises(WorkflowCodeError, match="key 'lee' is given without a queue"):
            await engine.run(places, "with a key")


@workflow
async def begins_again(ctx: WorkflowContext, left: int) -> int:
    await ctx.step("work", work, "mail")
    return left if left == 0 else ctx.continue_as_new(left - 1)


async def test_what_continues_as_new_stays_in_its_queue() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [begins_again]) as engine,
    ):
        await engine.declare(Queue("mail", concurrency=1))
        handles = [await engine.enqueue(begins_again, 3, queue="mail", key="kim") for _ in range(3)]
        for handle in handles:
            assert await handle.result() == 0
            record = await engine.load(handle.execution_id)
            assert (record.queue, record.queue_key, record.run_number) == ("mail", "kim", 4)
        assert most["mail"] == 1


async def test_a_child_that_was_started_in_no_queue_stays_there(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, [one_child, asks], park_after=timedelta(0)) as engine,
    ):
        await engine.declare(Queue("mail", concurrency=1))
        parent = await engine.enqueue(one_child, execution_id="p", queue="mail", key="kim")
        await until_suspended(engine, "p")
        await until_suspended(engine, "p/child-0")
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            # As an earlier version has written it.
            connection.execute("pragma busy_timeout = 5000")
            connection.execute(
                "update workflow_executions set queue = null, queue_key = null"
                " where workflow_execution_id = 'p/child-0'"
            )
        await engine.send_signal("p/child-0", "answer", "yes")
        async with asyncio.timeout(30):
            assert await parent.result() == "yes"
        assert (await engine.load("p/child-0")).queue is None


@workflow
async def one_child(ctx: WorkflowContext) -> str:
    return await ctx.child("child", asks, "mail")


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_parent_and_its_children_in_a_queue_of_one_slot_are_undone(
    file: Path, crashes: bool
) -> None:
    """What waits for its children to end before it undoes holds no slot that they need."""
    undone: list[str] = []

    @workflow
    async def child(ctx: WorkflowContext, name: str) -> None:
        await ctx.step("do", lambda: name, compensate=undone.append)
        await ctx.wait_signal("never")

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.step("do", lambda: "parent", compensate=undone.append)
        for name in ("one", "other"):
            await ctx.start_child(name, child, name, queue="alone")
        await ctx.wait_signal("never")

    workflows = [parent, child]
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=workflows) as engine:
            await engine.declare(Queue("alone", concurrency=1))
            handle = await engine.enqueue(parent, execution_id="p", queue="alone")
            find = "select count(*) from workflow_executions where status = 'SUSPENDED'"
            await until(lambda: store._connection.execute(find).fetchone() == (3,))
            if not crashes:
                assert await handle.cancel() is Cancellation.ASKED
                with pytest.raises(WorkflowCancelledError):
                    await handle.result()
        if crashes:
            # As a worker leaves it that dies before it has given up the slot.
            store._connection.execute(
                "update workflow_executions set status = 'COMPENSATING', error_type = ?,"
                " error_message = 'cancelled' where workflow_execution_id = 'p'",
                ("durable_workflow_sqlite.errors:WorkflowCancelledError",),
            )
            await store.put_into_queue(["p"])
            async with DurableEngine(store, workflows=workflows) as engine:
                with pytest.raises(WorkflowCancelledError):
                    await engine.result_of("p")
        assert sorted(undone[:2]) == ["one", "other"]
        assert undone[2] == "parent"
