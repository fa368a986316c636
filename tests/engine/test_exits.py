"""Code that calls `sys.exit()` fails where it stands: the program and the neighbours go on."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    DurableEngineObserver,
    ExecutionStatus,
    RetryPolicy,
    SerializationError,
    SqliteCheckpointStore,
    StepFailedError,
    StepStatus,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)

undone: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_is_undone() -> None:
    undone.clear()


def leaves(*_: object) -> None:
    sys.exit("bad arguments")


async def leaves_on_the_loop(*_: object) -> None:
    sys.exit("bad arguments")


def gives_a_coroutine(*_: object) -> Any:
    return leaves_on_the_loop()


async def closes(*_: object) -> None:
    raise GeneratorExit


def closes_in_a_thread(*_: object) -> None:
    raise GeneratorExit


def interrupts_in_a_thread(*_: object) -> None:
    raise KeyboardInterrupt


async def leaves_in_a_group(*_: object) -> None:
    raise BaseExceptionGroup("two", [ValueError("one"), SystemExit(2)])


class Panic(BaseException):
    """As a library that is written in Rust raises it."""


async def panics(*_: object) -> None:
    raise Panic("at the disco")


def panics_in_a_thread(*_: object) -> None:
    raise Panic("at the disco")


async def panics_in_a_group(*_: object) -> None:
    raise BaseExceptionGroup("at the disco", [Panic("one"), ValueError("two")])


@workflow
async def other(ctx: WorkflowContext) -> str:
    return await ctx.step("one", asyncio.sleep, 0.05, "fine")


@pytest.mark.parametrize("timeout", [None, timedelta(seconds=20)])
@pytest.mark.parametrize(
    ("action", "words"),
    [
        (leaves, "SystemExit('bad arguments')"),
        (leaves_on_the_loop, "SystemExit('bad arguments')"),
        (gives_a_coroutine, "SystemExit('bad arguments')"),
        (closes, "GeneratorExit()"),
        (closes_in_a_thread, "GeneratorExit()"),
        (interrupts_in_a_thread, "KeyboardInterrupt()"),
        (leaves_in_a_group, "BaseExceptionGroup('two'"),
    ],
)
async def test_a_step_that_exits_has_failed(
    action: Callable[[], Any], words: str, timeout: timedelta | None
) -> None:
    caught: list[str] = []

    @workflow
    async def exits(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: "first", compensate=undone.append)
        retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=1))
        try:
            await ctx.step("leave", action, retry=retry, timeout=timeout)
        except Exception as error:
            caught.append(str(error))
            raise

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(other)
        with pytest.raises(WorkflowFailedError) as failed:
            await asyncio.wait_for(engine.run(exits, execution_id="one"), 30)
        assert words in str(failed.value)
        steps = [s for s in await store.load_checkpoints("one") if s.step_name == "leave"]
        assert [(s.status, s.attempt) for s in steps] == [
            (StepStatus.FAILED, 1),
            (StepStatus.FAILED, 2),
        ]
        assert await handle.result() == "fine"
    assert len(caught) == 1 and words in caught[0]
    assert undone == ["first"]


PANICS = {
    panics: f"{__name__}:Panic",
    panics_in_a_thread: f"{__name__}:Panic",
    panics_in_a_group: "builtins:BaseExceptionGroup",
}


@pytest.mark.parametrize("timeout", [None, timedelta(seconds=20)])
@pytest.mark.parametrize(("action", "kind"), PANICS.items())
def test_an_error_that_is_no_exception_is_an_outcome(
    action: Callable[[], Any], kind: str, timeout: timedelta | None, file: Path
) -> None:
    """Live and on a replay the function is told of the same; its siblings go on."""
    told: list[str] = []

    @workflow
    async def pays(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: "first", compensate=undone.append)
        retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=1))
        sibling = asyncio.create_task(ctx.step("sibling", asyncio.sleep, 0.1, "sibling"))
        try:
            await ctx.step("charge", action, retry=retry, timeout=timeout)
        except StepFailedError as error:
            told.append(str(error))
            assert error.error_type == kind
            assert await sibling == "sibling"
            await ctx.wait_signal("go on")
            raise

    async def first() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, [pays]) as engine:
                await engine.start(pays, execution_id="one")
                async with asyncio.timeout(30):
                    while (await engine.load("one")).status is not ExecutionStatus.SUSPENDED:
                        await asyncio.sleep(0.01)
            steps = [s for s in await store.load_checkpoints("one") if s.step_name == "charge"]
            assert [(s.status, s.attempt, s.error_type) for s in steps] == [
                (StepStatus.FAILED, 1, kind),
                (StepStatus.FAILED, 2, kind),
            ]

    async def second() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, [pays]) as engine,
        ):
            handle = engine.handle("one")
            await handle.signal("go on")
            with pytest.raises(WorkflowFailedError) as failed:
                await asyncio.wait_for(handle.result(), 30)
            assert failed.value.error_type == kind
            assert "at the disco" in str(failed.value)

    asyncio.run(first())
    asyncio.run(second())
    assert len(told) == 2 and told[0] == told[1]
    assert undone == ["first"]


@pytest.mark.parametrize("error", [StopIteration("five"), GeneratorExit("five")])
def test_what_python_raises_to_end_something_is_told_alike_by_sync_and_async_actions(
    error: BaseException,
) -> None:
    def in_a_thread() -> None:
        raise error

    async def on_the_loop() -> None:
        raise error

    @workflow
    async def exits(ctx: WorkflowContext) -> list[str]:
        told: list[str] = []
        for action in (in_a_thread, on_the_loop):
            try:
                await ctx.step("leave", action)
            except RuntimeError as failure:
                told.append(str(failure))
        return told

    async def main() -> list[str]:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            return await asyncio.wait_for(engine.run(exits), 30)

    assert asyncio.run(main()) == [
        f"the function of step 'leave' (index {index}) raised {error!r}" for index in range(2)
    ]


@pytest.mark.parametrize("undo", [leaves, leaves_on_the_loop, closes_in_a_thread, closes, *PANICS])
async def test_a_compensation_that_exits_is_tried_again(undo: Callable[[object], Any]) -> None:
    tries: list[object] = []

    def undo_at_last(value: object) -> Any:
        tries.append(value)
        return undo(value) if len(tries) == 1 else None

    @workflow
    async def exits(ctx: WorkflowContext) -> None:
        quick = RetryPolicy.fixed(max_attempts=None, delay=timedelta(milliseconds=1))
        await ctx.step("pay", lambda: "paid", compensate=undo_at_last, compensate_retry=quick)
        raise RuntimeError("no stock")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError, match="no stock"):
            await asyncio.wait_for(engine.run(exits, execution_id="one"), 30)
        assert await engine.run(other) == "fine"
    assert tries == ["paid", "paid"]


@pytest.mark.parametrize("which", ["serialize", "deserialize"])
async def test_a_serializer_that_exits_is_one_that_fails(which: str) -> None:
    @workflow
    async def exits(ctx: WorkflowContext) -> None:
        options: dict[str, Any] = {"serialize": str, "deserialize": str, which: leaves}
        await ctx.step("pay", lambda: "paid", compensate=undone.append, **options)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError) as caught:
            await asyncio.wait_for(engine.run(exits), 30)
        assert isinstance(caught.value.__cause__, SerializationError)
        assert await engine.run(other) == "fine"
    assert undone == ["paid"]


async def test_an_observer_or_a_formatter_that_exits_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Leaves(DurableEngineObserver):
        def on_step_start(self, *_: object, **__: object) -> None:
            sys.exit("observer")

    @workflow
    async def fails(ctx: WorkflowContext) -> None:
        with contextlib.suppress(ValueError):
            await ctx.step("fail", int, "no number")

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[Leaves()], error_formatter=leaves) as engine,  # type: ignore[arg-type]
    ):
        await asyncio.wait_for(engine.run(fails), 30)
    assert "failed in on_step_start" in caplog.text
    assert "the error formatter failed" in caplog.text


def test_a_ctrl_c_in_an_action_on_the_loop_ends_the_program_and_fails_nothing() -> None:
    """Python raises a second Ctrl-C wherever the program's thread is."""

    async def interrupted() -> None:
        raise KeyboardInterrupt

    @workflow
    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: "first", compensate=undone.append)
        await ctx.step("act", interrupted)

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            await engine.run(body)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert not undone
