"""A mistake in the code of a workflow function is no failure of the work: mended code goes on."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    CODE_ERRORS,
    Cancellation,
    Client,
    DurableEngine,
    ExecutionStatus,
    RetryPolicy,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import an_engine, until

Body = Callable[[WorkflowContext], Awaitable[Any]]

ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


async def charge() -> dict[str, int]:
    ran.append("charge")
    return {"cents": 42}


def refund(_: object) -> None:
    ran.append("refund")


def order_that(ends: Body, **options: Any) -> WorkflowDefinition[..., Any]:
    """An order that is paid, and then ends in some way."""

    @workflow(name="order", **options)
    async def order(ctx: WorkflowContext) -> Any:
        await ctx.step("charge", charge, compensate=refund)
        return await ends(ctx)

    return order


async def live(
    file: Path, definition: WorkflowDefinition[..., Any]
) -> tuple[Any, ExecutionStatus, str | None]:
    """What it gives or raises in one process, its status, and its trouble."""
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[definition]) as engine:
            handle = await engine.start(definition, execution_id="one")
            end: Any = None
            try:
                end = await handle.result()
            except Exception as error:
                end = error
        record = await loaded(store, "one")
        return end, record.status, record.trouble


async def by_name(ctx: WorkflowContext) -> None:
    misspelled  # type: ignore[name-defined]  # noqa: B018, F821


async def by_attribute(ctx: WorkflowContext) -> None:
    ctx.stepp()  # type: ignore[attr-defined]


async def by_type(ctx: WorkflowContext) -> None:
    len(3)  # type: ignore[arg-type]


async def by_key(ctx: WorkflowContext) -> int:
    return {"cents": 42}["cent"]


async def by_import(ctx: WorkflowContext) -> None:
    from durable_workflow_sqlite import nothing_of_that_name  # type: ignore[attr-defined] # noqa: F401


async def by_assertion(ctx: WorkflowContext) -> None:
    raise AssertionError("cannot be")


async def by_what_is_to_be_written(ctx: WorkflowContext) -> None:
    raise NotImplementedError


async def by_recursion(ctx: WorkflowContext) -> None:
    gc.disable()  # a finalizer that it ran at the very end of the stack would fail, too
    try:
        await without_end()
    finally:
        gc.enable()


async def without_end() -> None:
    await without_end()


async def by_a_result_that_is_no_json(ctx: WorkflowContext) -> object:
    return object()


async def by_no_function(ctx: WorkflowContext) -> None:
    await ctx.step("ship", "not a function")  # type: ignore[call-overload]


async def by_no_name(ctx: WorkflowContext) -> None:
    await ctx.step("", charge)


async def by_a_sleep_backwards(ctx: WorkflowContext) -> None:
    await ctx.sleep("night", timedelta(days=-1))


async def in_a_group(ctx: WorkflowContext) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.sleep("night", timedelta(days=1)))
        group.create_task(by_key(ctx))


async def after_a_step_failed(ctx: WorkflowContext) -> None:
    try:
        await ctx.step("ship", fails, ValueError)
    except ValueError as error:
        raise KeyError("typo") from error


def fails(error: type[Exception]) -> None:
    raise error("the parcel is lost")


MISTAKES = [
    by_name,
    by_attribute,
    by_type,
    by_key,
    by_import,
    by_assertion,
    by_what_is_to_be_written,
    by_recursion,
    by_a_result_that_is_no_json,
    by_no_function,
    by_no_name,
    by_a_sleep_backwards,
    in_a_group,
    after_a_step_failed,
]


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_stops_the_execution_and_mended_code_goes_on(
    file: Path, mistake: Body
) -> None:
    async def mended(ctx: WorkflowContext) -> str:
        if mistake is in_a_group:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await ctx.sleep("night", timedelta(days=1))
        if mistake is after_a_step_failed:
            with contextlib.suppress(ValueError):
                await ctx.step("ship", fails, ValueError)
        return "shipped"

    end, status, trouble = await live(file, order_that(mistake))
    assert isinstance(end, WorkflowCodeError), repr(end)
    assert end.__cause__ is not None
    assert end.error_type == f"{type(end.__cause__).__module__}:{type(end.__cause__).__name__}"
    assert not status.is_terminal
    assert trouble is not None
    assert trouble.startswith("WorkflowCodeError: ")
    assert "the execution was left as it is" in trouble
    end, status, trouble = await live(file, order_that(mended))
    assert (end, status, trouble) == ("shipped", ExecutionStatus.COMPLETED, None)
    assert ran == ["charge"]


def test_it_says_what_was_raised_and_where(file: Path) -> None:
    end, _, _ = asyncio.run(live(file, order_that(by_key)))
    text = str(end)
    assert "raised KeyError: 'cent'" in text
    assert f"of {__file__}, in by_key" in text
    assert "stops_on" in text


@pytest.mark.parametrize("error", [*CODE_ERRORS[:7], KeyError, ValueError])
def test_what_a_step_fails_with_is_an_outcome(file: Path, error: type[Exception]) -> None:
    async def ships(ctx: WorkflowContext) -> None:
        await ctx.step("ship", fails, error)

    end, status, _ = asyncio.run(live(file, order_that(ships)))
    assert isinstance(end, WorkflowFailedError)
    assert status is ExecutionStatus.FAILED
    assert ran == ["charge", "refund"]


async def without_traceback(error: Exception) -> None:
    raise error.with_traceback(None)


async def later(error: Exception) -> None:
    error.__traceback__ = None
    kept.append(error)


async def by_a_future(error: Exception) -> None:
    error.__traceback__ = None
    future = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    await future


async def as_a_copy(error: Exception) -> None:
    raise copy.copy(error)


kept: list[Exception] = []


@pytest.mark.parametrize("again", [without_traceback, later, by_a_future, as_a_copy])
def test_it_is_an_outcome_however_the_function_raises_it_again(
    file: Path, again: Callable[[Exception], Awaitable[None]]
) -> None:
    kept.clear()

    async def ships(ctx: WorkflowContext) -> None:
        try:
            await ctx.step("ship", fails, KeyError)
        except KeyError as error:
            await again(error)
        await ctx.step("log", lambda: None)
        raise kept.pop()

    end, status, _ = asyncio.run(live(file, order_that(ships)))
    assert isinstance(end, WorkflowFailedError)
    assert status is ExecutionStatus.FAILED
    assert ran == ["charge", "refund"]


def test_an_error_of_its_own_is_none_though_it_handles_that_of_a_step(file: Path) -> None:
    async def ships(ctx: WorkflowContext) -> None:
        try:
            await ctx.step("ship", fails, KeyError)
        except KeyError:
            await by_key(ctx)

    end, status, _ = asyncio.run(live(file, order_that(ships)))
    assert isinstance(end, WorkflowCodeError)
    assert not status.is_terminal
    assert ran == ["charge"]


async def test_it_is_an_outcome_in_the_next_process_too(file: Path) -> None:
    async def ships(ctx: WorkflowContext) -> None:
        try:
            await ctx.step("ship", fails, KeyError)
        except KeyError:
            await ctx.wait_signal("decided")
            raise

    definition = order_that(ships)
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.start(definition, execution_id="one")
        async with asyncio.timeout(30):
            while (await engine.load("one")).status is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0.01)
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[definition]) as engine:
            await engine.send_signal("one", "decided")
            with pytest.raises(WorkflowFailedError, match="the parcel is lost"):
                await engine.handle("one").result()
    assert ran == ["charge", "refund"]


async def test_a_workflow_says_which_classes_stop_it(file: Path) -> None:
    class Bug(Exception):
        pass

    async def raises_bug(ctx: WorkflowContext) -> None:
        raise Bug

    end, status, _ = await live(file, order_that(raises_bug, stops_on=(*CODE_ERRORS, Bug)))
    assert isinstance(end, WorkflowCodeError)
    assert not status.is_terminal
    end, status, _ = await live(file, order_that(raises_bug))
    assert isinstance(end, WorkflowFailedError)
    assert status is ExecutionStatus.FAILED
    assert ran == ["charge", "refund"]


def test_every_error_fails_a_workflow_that_stops_on_none(file: Path) -> None:
    end, status, _ = asyncio.run(live(file, order_that(by_key, stops_on=())))
    assert isinstance(end, WorkflowFailedError)
    assert isinstance(end.__cause__, KeyError)
    assert status is ExecutionStatus.FAILED
    assert ran == ["charge", "refund"]


async def test_one_that_was_stopped_can_be_cancelled_and_is_undone(file: Path) -> None:
    definition = order_that(by_key)
    await live(file, definition)
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[definition]) as engine:
            await engine.cancel("one")
            async with asyncio.timeout(30):
                while not (await engine.load("one")).status.is_terminal:
                    await asyncio.sleep(0.01)
        record = await loaded(store, "one")
        assert record.status is ExecutionStatus.CANCELLED
    assert ran == ["charge", "refund"]


@pytest.mark.parametrize("stops_on", [[int], ["KeyError"], [KeyError()], [KeyboardInterrupt]])
def test_only_classes_of_exceptions_are_taken(stops_on: list[Any]) -> None:
    with pytest.raises(TypeError, match="must hold classes of exceptions"):
        order_that(by_key, stops_on=stops_on)


# What runs beside the mistake


@pytest.mark.parametrize("is_in_a_group", [False, True])
@pytest.mark.parametrize("is_sync", [False, True])
def test_what_runs_beside_a_mistake_comes_to_its_end_and_does_not_run_again(
    file: Path, is_sync: bool, is_in_a_group: bool
) -> None:
    go_on = threading.Event()

    async def slow() -> str:
        ran.append("slow")
        await until(go_on.is_set)
        return "slow"

    def slow_in_a_thread() -> str:
        ran.append("slow")
        assert go_on.wait(30)
        return "slow"

    async def fail_once() -> str:
        ran.append("call")
        if ran.count("call") == 1:
            raise ConnectionError("503")
        return "call"

    async def both_have_begun() -> None:
        await until(lambda: {"slow", "call"} <= set(ran))

    is_mended = False

    @workflow
    async def order(ctx: WorkflowContext) -> list[str]:
        async def fails_beside() -> str:
            await ctx.step("look", both_have_begun)
            if not is_mended:
                raise KeyError("sku")
            return "mended"

        retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=1500))
        steps = (
            ctx.step("slow", slow_in_a_thread if is_sync else slow),
            ctx.step("call", fail_once, retry=retry),
            fails_beside(),
        )
        if not is_in_a_group:
            return await asyncio.gather(*steps)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
        return [task.result() for task in tasks]

    async def main() -> None:
        nonlocal is_mended
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store) as engine, asyncio.timeout(30):
                running = asyncio.create_task(engine.run(order, execution_id="one"))
                await until(lambda: has_failed_once(store))
                await asyncio.sleep(0.2)
                assert not running.done()
                go_on.set()
                with pytest.raises(WorkflowCodeError, match="KeyError"):
                    await running
            steps = {one.step_name: one for one in await store.load_checkpoints("one")}
            assert steps["slow"].status is StepStatus.COMPLETED
            is_mended = True
            async with DurableEngine(store) as engine, asyncio.timeout(30):
                result = await engine.run(order, execution_id="one")
                assert result == ["slow", "call", "mended"]

    async def has_failed_once(store: SqliteCheckpointStore) -> bool:
        return any(one.due_at is not None for one in await store.load_checkpoints("one"))

    asyncio.run(main())
    assert sorted(ran) == ["call", "call", "slow"]


async def test_what_runs_beside_a_mistake_has_no_longer_than_cancel_grace(file: Path) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ctx.step("never ends", asyncio.sleep, 3600))
            await ctx.step("charge", charge)
            raise KeyError("sku")

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, cancel_grace=timedelta(0)) as engine:
            async with asyncio.timeout(30):
                with pytest.raises(WorkflowCodeError, match="KeyError"):
                    await engine.run(order, execution_id="one")
            steps = {one.step_name: one.status for one in await store.load_checkpoints("one")}
            assert steps["never ends"] is StepStatus.INTENT


# What is no Exception


@pytest.mark.parametrize("raised", [SystemExit(3), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("is_in_a_task", [False, True])
async def test_a_function_that_exits_stops_its_execution_and_nothing_else(
    file: Path, raised: BaseException, is_in_a_task: bool
) -> None:
    async def exits(ctx: WorkflowContext) -> None:
        raise raised

    async def exits_in_a_task(ctx: WorkflowContext) -> None:
        await asyncio.gather(exits(ctx), ctx.step("beside", charge))

    @workflow
    async def other(ctx: WorkflowContext) -> str:
        await ctx.sleep("a while", timedelta(milliseconds=50))
        return "fine"

    async def mended(ctx: WorkflowContext) -> str:
        if is_in_a_task:
            await asyncio.gather(asyncio.sleep(0), ctx.step("beside", charge))
        return "shipped"

    definition = order_that(exits_in_a_task if is_in_a_task else exits)
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(other)
        with pytest.raises(WorkflowCodeError) as caught:
            await engine.run(definition, execution_id="one")
        assert caught.value.__cause__ is raised
        assert await handle.result() == "fine"
    end, status, _ = await live(file, order_that(mended))
    assert (end, status) == ("shipped", ExecutionStatus.COMPLETED)
    assert "refund" not in ran


@pytest.mark.parametrize("by_another", [False, True])
async def test_a_cancel_is_not_lost_while_what_runs_beside_a_mistake_comes_to_its_end(
    file: Path, by_another: bool
) -> None:
    goes_on, undone, came_to_it = asyncio.Event(), list[str](), list[int]()

    async def slow() -> str:
        await goes_on.wait()
        return "slow"

    @workflow
    async def body(ctx: WorkflowContext) -> None:
        beside = asyncio.ensure_future(ctx.step("slow", slow, compensate=undone.append))
        await ctx.step("quick", list)
        came_to_it.append(1)
        raise TypeError(beside)

    async with an_engine(file, workflows=[body]) as (store, engine):
        handle = await engine.start(body, execution_id="one")
        await until(lambda: came_to_it)
        async with SqliteCheckpointStore.file(file) as other, asyncio.timeout(10):
            asked = await (Client(other) if by_another else engine).cancel("one")
        assert asked is Cancellation.ASKED
        await asyncio.sleep(0.2)  # until the engine has got it
        goes_on.set()
        await until(lambda: _is_cancelled(store))
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
    assert undone == ["slow"]


async def _is_cancelled(store: SqliteCheckpointStore) -> bool:
    return (await loaded(store, "one")).status is ExecutionStatus.CANCELLED
