"""Starting executions: ids, input, attaching, results, and letting go."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    EngineStoppedError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    ExecutionStatus,
    SerializationError,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowGuarantee,
    blocking,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, an_engine, until


@dataclasses.dataclass
class Order:
    number: str
    lines: list[tuple[str, int]]


@workflow
async def total(ctx: WorkflowContext, order: Order, factor: int = 1) -> int:
    assert isinstance(order, Order)
    return await ctx.step("sum", lambda: factor * sum(count for _, count in order.lines))


@workflow
async def greet(ctx: WorkflowContext, name: str) -> str:
    return await ctx.step("greet", lambda: f"Hello, {name}!")


@workflow
async def wait(ctx: WorkflowContext) -> str:
    return str(await ctx.wait_signal("go"))


ORDER = Order("A-1", [("pen", 2), ("ink", 3)])


async def test_run_works_on_a_fresh_file(file: Path) -> None:
    """The definition's row is written before the execution's, which refers to it."""

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        assert await engine.run(greet, "Kim") == "Hello, Kim!"


async def test_input_comes_as_the_types_of_the_parameters() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(total, ORDER, 10) == 50


async def test_starting_again_under_an_id_attaches_and_returns_the_same_result(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def count(ctx: WorkflowContext, order: Order) -> int:
        return await ctx.step("count", journal.note, order.number)

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[count]) as engine:
            both = await asyncio.gather(
                engine.run(count, ORDER, execution_id="one"),
                engine.run(count, ORDER, execution_id="one"),
            )
            assert both == [1, 1]
        async with DurableEngine(store, workflows=[count]) as engine:
            assert await engine.run(count, ORDER, execution_id="one") == 1
    assert journal.lines == ["A-1"]


async def test_an_id_of_another_workflow_or_input_is_a_conflict_and_changes_nothing() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(greet, "Kim", execution_id="one")
        before = await store.load_execution("one")
        with pytest.raises(ExecutionConflictError) as other_input:
            await engine.run(greet, "Jo", execution_id="one")
        assert other_input.value.workflow_execution_id == "one"
        with pytest.raises(ExecutionConflictError, match="'greet'"):
            await engine.run(wait, execution_id="one")
        assert await store.load_execution("one") == before


async def test_an_id_is_made_up_where_none_is_given() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handles = [await engine.start(greet, "Kim") for _ in range(200)]
        assert len({handle.execution_id for handle in handles}) == 200
        assert {await handle.result() for handle in handles} == {"Hello, Kim!"}


BAD_STARTS: list[tuple[str, Any, tuple[Any, ...], dict[str, Any], type[Exception]]] = [
    ("too few arguments", greet, (), {}, TypeError),
    ("too many arguments", greet, ("a", "b"), {}, TypeError),
    ("another type", greet, (3,), {}, SerializationError),
    ("no json", greet, (object(),), {}, SerializationError),
    ("empty id", greet, ("a",), {"execution_id": ""}, ValueError),
    ("padded id", greet, ("a",), {"execution_id": " x"}, ValueError),
    ("id no string", greet, ("a",), {"execution_id": 3}, TypeError),
    ("ttl no timedelta", greet, ("a",), {"ttl": 3}, TypeError),
    ("ttl zero", greet, ("a",), {"ttl": timedelta(0)}, ValueError),
    ("guarantee no guarantee", greet, ("a",), {"guarantee": "x"}, TypeError),
    ("no workflow", lambda ctx: None, (), {}, TypeError),
]


@pytest.mark.parametrize(
    ("definition", "args", "options", "error"),
    [case[1:] for case in BAD_STARTS],
    ids=[case[0] for case in BAD_STARTS],
)
async def test_bad_starts_are_refused_at_the_call_with_nothing_written(
    definition: Any, args: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(error):
            await engine.start(definition, *args, **options)
        assert await store.load_executions_by_status(ExecutionStatus) == []


def test_a_workflow_must_be_an_async_function_that_takes_a_context() -> None:
    with pytest.raises(TypeError, match="async"):
        workflow(lambda ctx: None)  # type: ignore[arg-type,return-value]

    async def nothing() -> None: ...

    with pytest.raises(TypeError, match="context"):
        workflow(nothing)  # type: ignore[arg-type]

    async def fine(ctx: WorkflowContext) -> None: ...

    for name in ("", " a", "a\x00", "a" * 257):
        with pytest.raises(ValueError, match="name"):
            workflow(name=name)(fine)
    with pytest.raises(TypeError, match="version"):
        workflow(version=True)(fine)
    with pytest.raises(ValueError, match="version"):
        workflow(version=0)(fine)


async def test_two_workflows_of_one_name_and_version_are_refused() -> None:
    @workflow(name="greet")
    async def other(ctx: WorkflowContext) -> None: ...

    async with SqliteCheckpointStore.in_memory() as store:
        with pytest.raises(ValueError, match="greet"):
            DurableEngine(store, workflows=[greet, other])


async def test_unknown_executions_are_errors() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        for call in (
            engine.handle("none").result(),
            engine.handle("none").status(),
            engine.cancel("none"),
            engine.send_signal("none", "go"),
            engine.unblock("none"),
        ):
            with pytest.raises(ExecutionNotFoundError) as caught:
                await call
            assert caught.value.workflow_execution_id == "none"


async def test_a_failure_is_raised_with_its_cause_and_stored_with_its_class() -> None:
    @workflow
    async def fail(ctx: WorkflowContext) -> None:
        raise ConnectionError("gone")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError) as live:
            await engine.run(fail, execution_id="one")
        assert isinstance(live.value.__cause__, ConnectionError)
        with pytest.raises(WorkflowFailedError) as stored:
            await engine.run(fail, execution_id="one")
        assert stored.value.error_type == "builtins:ConnectionError"
        assert stored.value.error_message == "gone"
        assert stored.value.workflow_execution_id == "one"


async def test_a_result_of_the_workflow_that_is_no_json_stops_it() -> None:
    @workflow(stops_on=())
    async def unfit(ctx: WorkflowContext) -> Any:
        return object()

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowCodeError) as caught:
            await engine.run(unfit)
        assert isinstance(caught.value.__cause__, SerializationError)


async def test_completion_stores_the_output_and_the_progress() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(greet, "Kim", execution_id="one")
        record = await loaded(store, "one")
        assert record.status is ExecutionStatus.COMPLETED
        assert record.output_data == '"Hello, Kim!"'
        assert record.input_data == '["Kim"]'
        assert record.current_step == 1
        assert record.guarantee is WorkflowGuarantee.BEST_EFFORT_BACKGROUND


def test_a_graceful_stop_leaves_everything_to_be_resumed(file: Path, journal: Journal) -> None:
    async def hang(what: str) -> None:
        if journal.note(what) == 1:
            await asyncio.sleep(3600)

    @workflow
    async def waiting(ctx: WorkflowContext) -> str:
        await ctx.step("done", journal.note, "done", compensate=lambda _: journal.note("undone"))
        return str(await ctx.wait_signal("go"))

    @workflow
    async def working(ctx: WorkflowContext) -> str:
        await ctx.step("hang", hang, "hang", compensate=lambda _: journal.note("undone"))
        return "worked"

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store) as engine:
                one = await engine.start(waiting, execution_id="waiting")
                two = await engine.start(working, execution_id="working")
                results = asyncio.gather(one.result(), two.result(), return_exceptions=True)
                await until(lambda: len(journal.lines) >= 2)
            assert [type(error) for error in await results] == [EngineStoppedError] * 2
            for execution_id in ("waiting", "working"):
                record = await loaded(store, execution_id)
                assert record.status in (ExecutionStatus.SUSPENDED, ExecutionStatus.RUNNING)

    async def second_process() -> None:
        async with an_engine(file, workflows=[waiting, working]) as (_, engine):
            await engine.send_signal("waiting", "go", "went")
            assert await engine.handle("waiting").result() == "went"
            assert await engine.handle("working").result() == "worked"

    asyncio.run(first_process())
    asyncio.run(second_process())
    assert sorted(journal.lines) == ["done", "hang", "hang"]


async def test_a_stop_waits_for_sync_actions_and_records_them(file: Path) -> None:
    import time

    runs: list[int] = []

    def slow() -> str:
        runs.append(1)
        time.sleep(0.3)
        return "slept"

    @workflow
    async def sync(ctx: WorkflowContext) -> str:
        return await ctx.step("slow", slow)

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            await engine.start(sync, execution_id="one")
            await until(lambda: runs)
        async with DurableEngine(store, workflows=[sync]) as engine:
            assert await engine.run(sync, execution_id="one") == "slept"
    assert runs == [1]


async def test_an_engine_says_when_it_is_not_open() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        engine = DurableEngine(store)
        with pytest.raises(RuntimeError, match="async with"):
            await engine.run(greet, "Kim")
        async with engine:
            pass
        with pytest.raises(EngineStoppedError):
            await engine.run(greet, "Kim")
        await engine.dispose()


def test_ending_the_event_loop_leaves_executions_to_be_resumed(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> SqliteCheckpointStore:
        store = SqliteCheckpointStore.file(file)
        engine = DurableEngine(store)
        await engine.open()
        await engine.start(wait, execution_id="one")
        await asyncio.sleep(0.05)
        return store

    with caplog.at_level(logging.ERROR):
        store = asyncio.run(main())

    async def next_process() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            record = await loaded(store, "one")
            assert record.status is ExecutionStatus.SUSPENDED

    asyncio.run(next_process())
    asyncio.run(store.close())


async def test_a_stop_that_is_cut_off_goes_on_and_a_second_call_waits_for_it(file: Path) -> None:
    def slow() -> int:
        time.sleep(0.5)
        return 1

    @workflow
    async def one_step(ctx: WorkflowContext) -> int:
        return await ctx.step("slow", slow)

    async with SqliteCheckpointStore.file(file) as store:
        engine = DurableEngine(store)
        await engine.open()
        await engine.start(one_step, execution_id="one")
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.dispose(), 0.05)
        await engine.dispose()
        (step,) = await store.load_checkpoints("one")
        assert step.status is StepStatus.COMPLETED
        async with DurableEngine(store, [one_step]) as again:
            assert await asyncio.wait_for(again.handle("one").result(), 5) == 1


async def test_an_action_may_stop_its_own_engine(file: Path) -> None:
    @workflow
    async def stops(ctx: WorkflowContext) -> str:
        return await ctx.step("stop", stop)

    async def stop() -> str:
        await engines.pop().dispose()
        return "stopped"

    engines: list[DurableEngine] = []

    async with SqliteCheckpointStore.file(file) as store:
        engine = DurableEngine(store)
        await engine.open()
        engines.append(engine)
        handle = await engine.start(stops, execution_id="one")
        with pytest.raises(EngineStoppedError):
            await asyncio.wait_for(handle.result(), 5)
        await asyncio.wait_for(engine.dispose(), 5)
        engines.append(DurableEngine(store))
        async with DurableEngine(store, [stops]) as again:
            assert await asyncio.wait_for(again.handle("one").result(), 5) == "stopped"


async def test_an_execution_whose_engine_is_stopped_as_it_starts_is_left_to_others(
    file: Path,
) -> None:
    async with SqliteCheckpointStore.file(file, synchronous="full") as store:
        engine = DurableEngine(store)
        await engine.open()
        starting = asyncio.create_task(engine.start(greet, "Ada", execution_id="one"))
        await asyncio.sleep(0)
        await engine.dispose()
        with pytest.raises(EngineStoppedError):
            await starting
        async with (
            SqliteCheckpointStore.file(file) as elsewhere,
            DurableEngine(elsewhere, [greet]) as other,
        ):
            await asyncio.wait_for(other.handle("one").result(), 5)


async def test_numbers_and_truths_that_python_takes_for_equal_are_other_input() -> None:
    @workflow
    async def anything(ctx: WorkflowContext, value: Any) -> None: ...

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(anything, {"a": 1, "b": [None]}, execution_id="one")
        await engine.run(anything, {"b": [None], "a": 1}, execution_id="one")
        for other in (True, 1.0):
            with pytest.raises(ExecutionConflictError):
                await engine.run(anything, {"a": other, "b": [None]}, execution_id="one")


def test_a_start_that_is_cancelled_at_any_moment_leaves_nothing_that_nobody_runs(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def noted(ctx: WorkflowContext, number: int) -> int:
        await ctx.step("note", journal.note, str(number))
        return number

    async def main() -> None:
        async with (
            SqliteCheckpointStore.file(file, synchronous="full") as store,
            DurableEngine(store, workflows=[noted]) as engine,
        ):
            for number in range(40):
                starting = asyncio.ensure_future(
                    engine.start(noted, number, execution_id=str(number))
                )
                for _ in range(number % 8):
                    await asyncio.sleep(0)
                starting.cancel()
                await asyncio.wait([starting])
                again = await engine.start(noted, number, execution_id=str(number))
                assert await asyncio.wait_for(again.result(), 5) == number

    asyncio.run(main())
    assert sorted(journal.lines, key=int) == [str(number) for number in range(40)]


async def test_what_is_no_store_and_what_is_no_workflow_is_refused_with_a_hint() -> None:
    for no_store in ("workflows.db", Path("workflows.db"), None):
        with pytest.raises(TypeError, match=r"such as open_store\(path\) gives"):
            DurableEngine(no_store)  # type: ignore[arg-type]

    async with SqliteCheckpointStore.in_memory() as store:
        with pytest.raises(TypeError, match=r"must be a list, as workflows=\[greet\]"):
            DurableEngine(store, workflows=greet)  # type: ignore[arg-type]
        async with DurableEngine(store) as engine:
            with pytest.raises(TypeError, match="the workflow was called; pass the workflow"):
                await engine.run(greet(None, "Kim"))  # type: ignore[arg-type]


def test_a_blocking_store_is_no_store_of_the_async_engine() -> None:
    with (
        blocking.SqliteCheckpointStore.in_memory() as store,
        pytest.raises(TypeError, match="with async methods"),
    ):
        DurableEngine(store)  # type: ignore[arg-type]
