"""`step_stream` and `client.follow`: who follows gets each item, also over kills."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    AesGcmCodec,
    ClaimLostError,
    Client,
    DurableEngine,
    End,
    ExecutionNotFoundError,
    ExecutionStatus,
    Item,
    PayloadTooLargeError,
    Reset,
    RetryPolicy,
    SerializationError,
    SqliteCheckpointStore,
    StepStatus,
    StepStream,
    WorkflowContext,
    WorkflowFailedError,
    blocking,
    open_store,
    step_stream,
    workflow,
)
from tests.databases import new_database
from tests.processes import a_process, an_engine, die, run_until_killed, until

A_MOMENT = timedelta(milliseconds=1)
COMPLETED = End(status=ExecutionStatus.COMPLETED)
FAILED = End(status=ExecutionStatus.FAILED)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return new_database(tmp_path / "workflows.db")


def short(one: Item | Reset | End) -> Any:
    """What came, in few words: a value, `("again", attempt)`, or the status."""
    match one:
        case Item():
            return one.value
        case Reset():
            return "again", one.attempt
        case End():
            return one.status


async def heard(items: AsyncIterator[Item | Reset | End]) -> list[Any]:
    async with asyncio.timeout(60):
        return [short(one) async for one in items]


def a_step(action: Callable[[], Any], **options: Any) -> Any:
    @workflow(name="talk")
    async def talk(ctx: WorkflowContext) -> None:
        await ctx.step("say", action, **options)

    return talk


async def outcome_of(
    action: Callable[[], Any], max_payload_bytes: int | None = None, **options: Any
) -> list[Any]:
    """What a follower hears of one step."""
    more: dict[str, Any] = {}
    if max_payload_bytes is not None:
        more["max_payload_bytes"] = max_payload_bytes
    async with SqliteCheckpointStore.in_memory(**more) as store, DurableEngine(store) as engine:
        await engine.start(a_step(action, **options), execution_id="e")
        return await heard(engine.follow("e"))


# What comes


async def test_a_follower_gets_all_items_in_order_and_the_end() -> None:
    async def say() -> None:
        stream = step_stream()
        assert step_stream() is stream
        for number in range(5):
            stream.put({"n": number})
        await stream.write("written")
        stream.put([None, 1.5])

    expected = [*({"n": n} for n in range(5)), "written", [None, 1.5], "COMPLETED"]
    assert await outcome_of(say) == expected


async def test_items_come_while_the_action_runs() -> None:
    goes_on = asyncio.Event()

    async def say() -> None:
        step_stream().put("first")
        await goes_on.wait()
        step_stream().put("second")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.start(a_step(say), execution_id="e")
        items = engine.follow("e")
        first = await anext(items)
        assert isinstance(first, Item)
        assert (first.value, first.step, first.branch, first.step_index, first.attempt) == (
            "first",
            "say",
            "",
            0,
            1,
        )
        goes_on.set()
        assert await heard(items) == ["second", "COMPLETED"]


async def test_what_is_written_is_committed_when_that_returns() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:

        async def say() -> None:
            for number in range(3):
                await step_stream().write(number)
                assert len(await store.load_stream_items("e")) == number + 1

        assert await engine.run(a_step(say), execution_id="e") is None


async def test_a_sync_action_puts_from_its_thread() -> None:
    def say() -> None:
        stream = step_stream()
        for number in range(1000):
            stream.put(number)

    assert await outcome_of(say) == [*range(1000), "COMPLETED"]


async def test_a_hundred_streams_at_once_do_not_mix() -> None:
    async def say(which: int) -> None:
        stream = step_stream()
        for number in range(20):
            stream.put([which, number])
            await asyncio.sleep(0)

    @workflow
    async def chorus(ctx: WorkflowContext) -> None:
        await asyncio.gather(*(ctx.step(f"say {n}", say, n) for n in range(100)))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.start(chorus, execution_id="e")
        every, one = await asyncio.gather(
            heard(engine.follow("e")), heard(engine.follow("e", step="say 7"))
        )
        assert one[:-1] == [[7, number] for number in range(20)]
        for which in range(100):
            assert [item for item in every[:-1] if item[0] == which] == [
                [which, number] for number in range(20)
            ]


# Another attempt


async def test_an_attempt_that_failed_leaves_its_items_and_the_next_begins_anew() -> None:
    tries: list[int] = []

    async def say() -> None:
        tries.append(1)
        step_stream().put(f"a{len(tries)}")
        if len(tries) < 3:
            raise ConnectionError

    retry = RetryPolicy.fixed(max_attempts=3, delay=A_MOMENT)
    expected = ["a1", ("again", 2), "a2", ("again", 3), "a3", "COMPLETED"]
    assert await outcome_of(say, retry=retry) == expected


async def test_a_thread_that_came_too_late_puts_nothing_into_the_next_attempt() -> None:
    may_go_on, has_put = threading.Event(), threading.Event()
    tries: list[int] = []

    def say() -> None:
        stream = step_stream()
        tries.append(1)
        stream.put(len(tries))
        if len(tries) == 1:
            may_go_on.wait(30)
            stream.put("late")
            has_put.set()
        else:
            may_go_on.set()
            has_put.wait(30)

    retry = RetryPolicy.fixed(max_attempts=2, delay=A_MOMENT)
    expected = [1, ("again", 2), 2, "COMPLETED"]
    assert (
        await outcome_of(say, retry=retry, timeout=timedelta(seconds=1), idempotent=True)
        == expected
    )


@pytest.mark.parametrize("is_idempotent", [False, True])
def test_after_a_kill_the_items_of_the_next_attempt_come_behind_a_reset(
    file: Path, is_idempotent: bool
) -> None:
    async def say() -> None:
        for number in range(3):
            await step_stream().write(number)
        die()

    async def say_again() -> None:
        for number in range(5):
            step_stream().put(10 + number)

    async def first() -> None:
        async with an_engine(file) as (_, engine):
            await engine.run(a_step(say, idempotent=is_idempotent), execution_id="e")

    run_until_killed(first)

    async def second() -> None:
        async with open_store(file) as store:
            items = Client(store).follow("e")
            before = [await anext(items) for _ in range(3)]
            cursors = [one.cursor for one in before if isinstance(one, Item)]
            assert [short(one) for one in before] == [0, 1, 2]
            again = a_step(say_again, idempotent=is_idempotent)
            async with an_engine(file, workflows=[again]) as (_, engine):
                await engine.recover()
                attempt = 1 if is_idempotent else 2
                rest = [("again", attempt), 10, 11, 12, 13, 14, "COMPLETED"]
                assert await heard(items) == rest
                # Who begins late gets all; who goes on is told of the new attempt, too.
                assert await heard(engine.follow("e")) == [0, 1, 2, *rest]
                assert await heard(engine.follow("e", after=cursors[2])) == rest
                assert await heard(engine.follow("e", after=cursors[0])) == [1, 2, *rest]

    asyncio.run(second())


def test_a_worker_that_lost_its_claim_writes_nothing_more(file: Path) -> None:
    async def main() -> None:
        raised: list[BaseException] = []

        async def say() -> None:
            stream = step_stream()
            await stream.write("mine")
            with closing(sqlite3.connect(file)) as other, other:
                other.execute("delete from workflow_claims")
            try:
                await stream.write("not mine")
            except BaseException as error:
                raised.append(error)
                raise

        async with an_engine(file) as (store, engine):
            handle = await engine.start(a_step(say), execution_id="e")
            with pytest.raises(ClaimLostError):
                await handle.result()
            await until(lambda: raised)
            assert isinstance(raised[0], ClaimLostError | asyncio.CancelledError)
            assert [one.item for one in await store.load_stream_items("e")] == ['"mine"']

    asyncio.run(main())


def test_a_follower_in_another_process_hears_it(file: Path) -> None:
    def body(say: Callable[[str], None]) -> None:
        async def talk() -> None:
            for number in range(50):
                step_stream().put(number)
                await asyncio.sleep(0.001)

        async def main() -> None:
            async with an_engine(file) as (_, engine):
                handle = await engine.start(a_step(talk), execution_id="e")
                say("started")
                await handle.result()

        asyncio.run(main())

    with a_process(body) as child:
        assert child.hear() == "started"

        async def main() -> None:
            async with open_store(file) as store:
                assert await heard(Client(store).follow("e")) == [*range(50), "COMPLETED"]

        asyncio.run(main())


# When they are deleted


async def test_a_retry_from_the_step_forgets_its_items() -> None:
    tries: list[int] = []

    async def say() -> None:
        tries.append(1)
        step_stream().put(len(tries))
        if len(tries) == 1:
            raise ConnectionError

    async def greet() -> None:
        step_stream().put("hello")

    @workflow
    async def talk(ctx: WorkflowContext) -> None:
        await ctx.step("greet", greet)
        await ctx.step("say", say)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(talk, execution_id="e")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        first = [one async for one in engine.follow("e")]
        assert [short(one) for one in first] == ["hello", 1, "FAILED"]
        assert isinstance(first[1], Item)
        await engine.retry("e", from_step="say")
        assert await heard(engine.follow("e", after=first[1].cursor)) == [
            ("again", 1),
            2,
            "COMPLETED",
        ]
        assert await heard(engine.follow("e")) == ["hello", 2, "COMPLETED"]


async def test_an_execution_that_begins_anew_begins_its_streams_anew() -> None:
    async def say(run: int) -> None:
        await step_stream().write(run)

    @workflow
    async def talk(ctx: WorkflowContext, run: int) -> None:
        await ctx.step("say", say, run)
        await ctx.wait_signal(f"go {run}")
        if run == 1:
            return ctx.continue_as_new(2)
        return None

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.start(talk, 1, execution_id="e")
        items = engine.follow("e")
        first = await anext(items)
        assert isinstance(first, Item)
        await engine.send_signal("e", "go 1")
        assert short(await anext(items)) == ("again", 1)
        assert short(await anext(items)) == 2
        await engine.send_signal("e", "go 2")
        assert await heard(items) == ["COMPLETED"]
        assert await heard(engine.follow("e", after=first.cursor)) == [
            ("again", 1),
            2,
            "COMPLETED",
        ]


async def test_streams_are_deleted_with_their_execution() -> None:
    async def say() -> None:
        step_stream().put(1)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(a_step(say), execution_id="e")
        items = engine.follow("e")
        assert short(await anext(items)) == 1
        assert await store.delete_execution("e")
        assert await store.load_stream_items("e") == []
        with pytest.raises(ExecutionNotFoundError):
            await heard(engine.follow("e"))


# One step of several


async def test_who_follows_one_step_hears_the_end_of_that_step() -> None:
    async def say(what: str) -> None:
        step_stream().put(what)

    @workflow
    async def talk(ctx: WorkflowContext) -> None:
        await ctx.step("one", say, "a")
        await ctx.branch("left").step("two", say, "b")
        await ctx.wait_signal("go")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(talk, execution_id="e")
        assert await heard(engine.follow("e", step="one")) == ["a", StepStatus.COMPLETED]
        assert await heard(engine.follow("e", step=("left", "two"))) == ["b", "COMPLETED"]
        assert await heard(engine.follow("e", step=("", "one", 0))) == ["a", "COMPLETED"]
        await engine.send_signal("e", "go")
        await handle.result()
        assert await heard(engine.follow("e", step=("", "one", 9))) == ["COMPLETED"]


# What is refused


async def test_an_item_that_cannot_be_stored_is_refused_at_once() -> None:
    async def say() -> None:
        stream = step_stream()
        with pytest.raises(PayloadTooLargeError, match="item of the stream of step 'say'"):
            stream.put("x" * 2000)
        with pytest.raises(SerializationError, match="JSON"):
            stream.put(object())
        with pytest.raises(SerializationError, match="JSON"):
            await stream.write({"a": object()})
        stream.put("fits")

    assert await outcome_of(say, max_payload_bytes=1000) == ["fits", "COMPLETED"]


async def test_there_is_a_stream_in_an_action_alone() -> None:
    with pytest.raises(RuntimeError, match="outside of an action"):
        step_stream()
    kept: list[StepStream] = []

    async def say() -> None:
        kept.append(step_stream())

    async def unsay(_: None) -> None:
        with pytest.raises(RuntimeError, match="compensation"):
            step_stream()
        kept.append(kept[0])

    async def fail() -> None:
        raise ConnectionError

    @workflow
    async def talk(ctx: WorkflowContext) -> None:
        await ctx.step("say", say, compensate=unsay)
        with pytest.raises(RuntimeError, match="outside of an action"):
            step_stream()
        await ctx.step("fail", fail)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError):
            await engine.run(talk)
    assert len(kept) == 2
    with pytest.raises(RuntimeError, match="after the action had returned"):
        kept[0].put(1)


async def test_what_cannot_be_followed_is_refused() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        client = Client(store)
        for arguments, kind in (
            ({"step": 7}, TypeError),
            ({"step": ""}, ValueError),
            ({"after": "7"}, ValueError),
            ({"after": 7}, TypeError),
        ):
            with pytest.raises(kind):
                await heard(client.follow("e", **arguments))  # type: ignore[arg-type]
        with pytest.raises(ExecutionNotFoundError):
            await heard(client.follow("e"))


# Elsewhere


def test_items_are_encoded_by_the_codec_of_the_store(file: Path) -> None:
    async def say() -> None:
        step_stream().put("a secret")

    async def main() -> None:
        codec = AesGcmCodec([("first", b"k" * 32)])
        async with open_store(file, codec=codec) as store, DurableEngine(store) as engine:
            await engine.run(a_step(say), execution_id="e")
            assert await heard(engine.follow("e")) == ["a secret", "COMPLETED"]

    asyncio.run(main())
    with closing(sqlite3.connect(file)) as connection:
        ((item,),) = connection.execute("select item from workflow_stream_items")
    assert "secret" not in item


def test_the_client_without_await_follows_too(file: Path) -> None:
    def say() -> None:
        for number in range(3):
            step_stream().put(number)
            time.sleep(0.001)

    with (
        blocking.SqliteCheckpointStore.file(file) as store,
        blocking.DurableEngine(store) as engine,
    ):
        engine.start(a_step(say), execution_id="e")
        assert [short(one) for one in engine.follow("e")] == [0, 1, 2, "COMPLETED"]
        with pytest.raises(ExecutionNotFoundError):
            list(engine.follow("unknown"))
