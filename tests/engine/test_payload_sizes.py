"""A value that is larger than the limit of the store is refused, with an error that says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    Client,
    DurableEngine,
    NewSignal,
    PayloadTooLargeError,
    RetryPolicy,
    SerializationError,
    SqliteCheckpointStore,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    blocking,
    open_store,
    workflow,
)
from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.stores import open_reader

T = TypeVar("T")

FIVE_TIMES = RetryPolicy.fixed(max_attempts=5, delay=timedelta(seconds=1))

LIMIT = 1000
FITS = "x" * (LIMIT - 4)
"""As the only argument, with quotes and brackets, it has as many bytes as the limit."""
TOO_LARGE = FITS + "x"


@workflow
async def echo(ctx: WorkflowContext, text: str) -> str:
    return text


@workflow
async def steps(ctx: WorkflowContext, size: int) -> str:
    async def make() -> str:
        calls.append(size)
        return "y" * size

    try:
        made: str = await ctx.step(
            "make", make, retry=RetryPolicy.fixed(max_attempts=5, delay=timedelta(seconds=1))
        )
    except PayloadTooLargeError as error:
        return f"refused: {error.size} of {error.limit}"
    return f"made {len(made)}"


calls: list[int] = []


@workflow
async def transacts(ctx: WorkflowContext, size: int) -> str:
    def put(connection: Any, text: str) -> str:
        connection.execute("create table if not exists mine (text)")
        connection.execute("insert into mine values (?)", (text,))
        return text

    try:
        put_in: str = await ctx.transaction("put", put, "t" * size)
    except PayloadTooLargeError as error:
        return f"refused: {error.size}"
    return f"put {len(put_in)}"


@workflow
async def returns(ctx: WorkflowContext, size: int) -> str:
    return "z" * size


@workflow
async def parent(ctx: WorkflowContext, size: int) -> str:
    refused: list[str] = []
    try:
        await ctx.child("kid", echo, "c" * size)
    except PayloadTooLargeError:
        refused.append("input")
    waits = await ctx.start_child("waits", waits_for_go)
    try:
        await waits.signal("go", "s" * size)
    except PayloadTooLargeError:
        refused.append("signal")
        await waits.signal("go", "small")
    await waits.result()
    try:
        ctx.continue_as_new(int("1" * size))
    except PayloadTooLargeError:
        refused.append("next run")
    return ", ".join(refused)


@workflow
async def waits_for_go(ctx: WorkflowContext) -> str:
    told: str = await ctx.wait_signal("go", type=str)
    return told


@workflow
async def fails(ctx: WorkflowContext) -> str:
    async def fail() -> str:
        raise OSError("no network")

    result: str = await ctx.step("fail", fail, retry=RetryPolicy.none())
    return result


ALL = [echo, steps, transacts, returns, parent, waits_for_go, fails]


def over(story: Callable[[DurableEngine, CheckpointStore], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with (
            SqliteCheckpointStore.in_memory(max_payload_bytes=LIMIT) as store,
            DurableEngine(store, workflows=ALL) as engine,
        ):
            return await story(engine, store)

    calls.clear()
    return asyncio.run(main())


def test_an_input_that_is_too_large_is_refused_at_the_call() -> None:
    async def story(engine: DurableEngine, store: CheckpointStore) -> None:
        assert await (await engine.start(echo, FITS)).result() == FITS
        for start in (
            lambda: engine.start(echo, TOO_LARGE, execution_id="e"),
            lambda: engine.enqueue(echo, TOO_LARGE, execution_id="e"),
            lambda: engine.enqueue_named("echo", [TOO_LARGE], execution_id="e"),
            lambda: engine.signal_or_start(
                echo, TOO_LARGE, execution_id="e", signal=NewSignal("go")
            ),
        ):
            with pytest.raises(PayloadTooLargeError, match="max_payload_bytes") as refused:
                await start()
            assert (refused.value.size, refused.value.limit) == (LIMIT + 1, LIMIT)
        assert await store.load_execution("e") is None
        with pytest.raises(PayloadTooLargeError, match="schedule 'nightly'"):
            await engine.schedule("nightly", echo, TOO_LARGE, every=timedelta(hours=1))
        assert await store.load_schedules() == []

    over(story)


def test_the_limit_counts_bytes_and_not_characters() -> None:
    async def story(engine: DurableEngine, store: CheckpointStore) -> None:
        most = (LIMIT - 4) // 2
        assert await (await engine.start(echo, "é" * most)).result() == "é" * most
        with pytest.raises(PayloadTooLargeError):
            await engine.start(echo, "é" * (most + 1))

    over(story)


def test_a_signal_that_is_too_large_is_refused_at_the_call() -> None:
    async def story(engine: DurableEngine, store: CheckpointStore) -> None:
        handle = await engine.start(waits_for_go, execution_id="e")
        with pytest.raises(PayloadTooLargeError, match="signal 'go'"):
            await handle.signal("go", TOO_LARGE + "xx")
        with pytest.raises(PayloadTooLargeError, match="signal 'go'"):
            await engine.start(waits_for_go, signals=[NewSignal("go", TOO_LARGE + "xx")])
        assert await store.load_signals("e") == []
        await handle.signal("go", FITS)
        assert await handle.result() == FITS

    over(story)


def test_a_step_whose_result_is_too_large_fails_at_once() -> None:
    async def story(engine: DurableEngine, store: CheckpointStore) -> None:
        assert await (await engine.start(steps, LIMIT - 2)).result() == f"made {LIMIT - 2}"
        handle = await engine.start(steps, LIMIT, execution_id="e")
        assert await handle.result() == f"refused: {LIMIT + 2} of {LIMIT}"
        (failed,) = await store.load_checkpoints("e")
        assert failed.error_type == "durable_workflow_sqlite.errors:PayloadTooLargeError"
        assert (failed.attempt, failed.due_at) == (1, None)

    over(story)
    assert calls == [LIMIT - 2, LIMIT]


def test_a_transaction_whose_result_is_too_large_changes_nothing() -> None:
    async def story(engine: DurableEngine, store: Any) -> list[Any]:
        assert await (await engine.start(transacts, 10)).result() == "put 10"
        assert await (await engine.start(transacts, LIMIT)).result() == f"refused: {LIMIT + 2}"

        def texts(connection: Any) -> list[Any]:
            found: list[Any] = connection.execute("select text from mine").fetchall()
            return found

        found: list[Any] = await store.write(texts)
        return found

    assert over(story) == [("t" * 10,)]


def test_a_workflow_whose_result_is_too_large_is_left_as_it_is() -> None:
    async def story(engine: DurableEngine, store: CheckpointStore) -> None:
        with pytest.raises(WorkflowCodeError, match="max_payload_bytes"):
            await (await engine.start(returns, LIMIT, execution_id="e")).result()
        found = await store.load_execution("e")
        assert found is not None
        assert not found.status.is_terminal

    over(story)


def test_a_body_is_refused_what_is_too_large_for_a_child_or_for_its_next_run() -> None:
    async def story(engine: DurableEngine, store: CheckpointStore) -> str:
        return await (await engine.start(parent, LIMIT)).result()

    assert over(story) == "input, signal, next run"


def test_a_value_that_a_person_gives_has_the_limit_too() -> None:
    async def story(engine: DurableEngine, store: CheckpointStore) -> None:
        handle = await engine.start(fails, execution_id="e")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        with pytest.raises(PayloadTooLargeError, match="the value"):
            await engine.resolve("e", "fail", TOO_LARGE + "xx")
        await engine.resolve("e", "fail", "by hand")
        assert await handle.result() == "by hand"

    over(story)


def test_what_an_earlier_limit_allowed_is_read_on(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"

    @workflow(name="long")
    async def long(ctx: WorkflowContext, text: str) -> int:
        async def make() -> str:
            return "y" * 5000

        made: str = await ctx.step("make", make)
        result: str = await ctx.child("kid", echo, text)
        await ctx.wait_signal("go")
        return len(made) + len(result)

    async def begin() -> None:
        async with (
            open_store(file) as store,
            DurableEngine(store, workflows=[long, echo]) as engine,
        ):
            await engine.start(long, "x" * 5000, execution_id="e")
            while not await store.load_open_waits("e", "go"):
                await asyncio.sleep(0.01)

    async def go_on() -> int:
        async with (
            open_store(file, max_payload_bytes=LIMIT) as store,
            DurableEngine(store, workflows=[long, echo]) as engine,
        ):
            await engine.send_signal("e", "go")
            return int(await engine.handle("e").result())

    asyncio.run(begin())
    assert asyncio.run(go_on()) == 10_000


def test_each_way_to_open_a_store_takes_a_limit(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    with blocking.open_store(file, max_payload_bytes=LIMIT) as store:
        client = blocking.Client(store)
        assert store.max_payload_bytes == LIMIT
        with pytest.raises(PayloadTooLargeError):
            client.enqueue(echo, TOO_LARGE)
    with blocking.SqliteCheckpointStore.in_memory(max_payload_bytes=7) as memory:
        assert memory.max_payload_bytes == 7
    with open_reader(file) as reader:
        assert reader.page(Selection()).rows == ()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_payload_bytes"):
            open_store(file, max_payload_bytes=wrong)
    for no_number in (1.5, "1", True, None):
        with pytest.raises(TypeError, match="max_payload_bytes"):
            open_store(file, max_payload_bytes=no_number)  # type: ignore[arg-type]


def test_the_limit_is_16_mib_by_default() -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store:
            client = Client(store)
            assert store.max_payload_bytes == 16 * 2**20
            await store.save(echo.record)
            with pytest.raises(SerializationError, match="16,777,217 bytes"):
                await client.enqueue(echo, "x" * (16 * 2**20 - 3))
            await client.enqueue(echo, "x" * (16 * 2**20 - 4))

    asyncio.run(main())
