"""`ctx.step(of=...)`: a replay that asks a step something else stops, and gets no stale answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionConflictError,
    NonDeterminismError,
    SerializationError,
    SqliteCheckpointStore,
    StepTimeoutError,
    WorkflowCodeError,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.engine.checking import check_replay

Body = Callable[[WorkflowContext], Awaitable[Any]]

A_MOMENT = timedelta(milliseconds=5)

asked: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_was_asked() -> None:
    asked.clear()


async def model(prompt: str) -> str:
    asked.append(prompt)
    return f"answer to {prompt}"


def asks(prompt: str, **options: Any) -> Body:
    async def chat(ctx: WorkflowContext) -> str:
        answer = await ctx.step("model", model, prompt, **options)
        await ctx.wait_signal("go")
        return answer

    return chat


def first_life(file: Path, body: Body) -> None:
    """It ends while the workflow waits for its signal."""

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(workflow(name="chat")(body), execution_id="one")
            while not await store.load_open_waits("one", "go"):
                await asyncio.sleep(0.002)

    asyncio.run(main())


def second_life(file: Path, body: Body) -> Any:
    async def main() -> Any:
        definition = workflow(name="chat")(body)
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[definition]) as engine,
        ):
            await engine.send_signal("one", "go")
            return await engine.result_of("one")

    return asyncio.run(main())


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("hello", "hello"),
        ({"model": "m", "prompt": ["a", "b"]}, {"prompt": ["a", "b"], "model": "m"}),
        ({"a", "b", "c", "d"}, {"d", "c", "b", "a"}),
        (None, None),
    ],
)
def test_the_same_question_gets_the_recorded_answer(
    file: Path, before: object, now: object, idempotent: bool
) -> None:
    first_life(file, asks("hello", of=before, idempotent=idempotent))
    answer = second_life(file, asks("hello", of=now, idempotent=idempotent))
    assert answer == "answer to hello"
    assert asked == ["hello"]


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize(
    ("before", "now"),
    [("hello", "goodbye"), (1, 1.0), (1, True), (["a", "b"], ["b", "a"]), (None, ""), ("x", None)],
)
def test_another_question_stops_and_asks_nothing(
    file: Path, before: object, now: object, idempotent: bool
) -> None:
    first_life(file, asks("hello", of=before, idempotent=idempotent))
    with pytest.raises(NonDeterminismError, match="asked something else") as caught:
        second_life(file, asks("goodbye", of=now, idempotent=idempotent))
    assert caught.value.recorded_name == "model"
    assert asked == ["hello"]
    assert second_life(file, asks("hello", of=before)) == "answer to hello"


@pytest.mark.parametrize(
    ("before", "now"), [({}, {"of": "hello"}), ({"of": "hello"}, {}), ({}, {"of": None})]
)
def test_code_that_begins_or_ceases_to_say_it_fits(
    file: Path, before: dict[str, Any], now: dict[str, Any]
) -> None:
    first_life(file, asks("hello", **before))
    assert second_life(file, asks("hello", **now)) == "answer to hello"


def test_a_transaction_that_is_asked_something_else_stops(file: Path) -> None:
    def adds(word: str) -> Body:
        def add(connection: Any) -> str:
            asked.append(word)
            (value,) = connection.execute("select ?", (word,)).fetchone()
            return str(value)

        async def chat(ctx: WorkflowContext) -> str:
            value = await ctx.transaction("add", add, of=word)
            await ctx.wait_signal("go")
            return value

        return chat

    first_life(file, adds("hello"))
    with pytest.raises(NonDeterminismError, match="asked something else") as caught:
        second_life(file, adds("goodbye"))
    assert caught.value.recorded_name == "add"
    assert second_life(file, adds("hello")) == "hello"
    assert asked == ["hello"]


def test_a_step_that_was_cut_off_is_not_asked_something_else(file: Path) -> None:
    async def hang(prompt: str) -> str:
        asked.append(prompt)
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def cut_off(ctx: WorkflowContext) -> str:
        return await ctx.step("model", hang, "hello", of="hello")

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(workflow(name="chat")(cut_off), execution_id="one")
            while not asked:
                await asyncio.sleep(0.002)

    asyncio.run(main())
    with pytest.raises(NonDeterminismError, match="asked something else"):
        second_life(file, asks("goodbye", of="goodbye"))
    assert asked == ["hello"]
    assert second_life(file, asks("hello", of="hello")) == "answer to hello"


def test_a_record_that_says_more_of_its_step_has_the_same_hash(file: Path) -> None:
    """An attempt that timed out is marked, and the copy of a step in a fork says where it ran."""

    async def slow(prompt: str) -> str:
        asked.append(prompt)
        await asyncio.sleep(60)
        return prompt

    def chat(of: str) -> Body:
        async def body(ctx: WorkflowContext) -> str:
            with suppress(StepTimeoutError):
                await ctx.step("slow", slow, "x", of=of, idempotent=True, timeout=A_MOMENT)
            answer = await ctx.step("model", model, "hello", of=of)
            await ctx.wait_signal("go")
            return answer

        return body

    first_life(file, chat("hello"))

    async def fork(of: str) -> Any:
        definition = workflow(name="chat")(chat(of))
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[definition]) as engine,
        ):
            handle = await engine.fork("one", new_id=f"fork of {of}")
            await handle.signal("go")
            return await handle.result()

    assert asyncio.run(fork("hello")) == "answer to hello"
    with pytest.raises((NonDeterminismError, ExecutionConflictError), match="asked something else"):
        asyncio.run(fork("goodbye"))
    assert second_life(file, chat("hello")) == "answer to hello"
    assert asked == ["x", "hello"]


async def test_the_check_of_code_says_it(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            await engine.start(workflow(name="chat")(asks("hello", of="hello")), execution_id="one")
            while not await store.load_open_waits("one", "go"):
                await asyncio.sleep(0.002)
        taken = await store.take_execution("one")
    assert taken is not None
    records = taken.execution, taken.checkpoints
    check_replay(workflow(name="chat")(asks("hello", of="hello")), *records)
    with pytest.raises(NonDeterminismError, match="asked something else"):
        check_replay(workflow(name="chat")(asks("hello", of="goodbye")), *records)


async def test_what_is_no_json_is_refused_with_nothing_recorded() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(
            workflow(name="chat")(asks("hello", of=object())), execution_id="one"
        )
        with pytest.raises((WorkflowCodeError, SerializationError), match="`of` of step 'model'"):
            await handle.result()
        assert await store.load_checkpoints("one") == []
    assert asked == []


async def test_only_a_hash_is_stored() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.start(workflow(name="chat")(asks("x", of="a secret")), execution_id="one")
        while not await store.load_open_waits("one", "go"):
            await asyncio.sleep(0.002)
        step, _ = await store.load_checkpoints("one")
    assert step.input_data is not None
    assert "secret" not in step.input_data
