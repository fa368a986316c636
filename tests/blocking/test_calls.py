"""The blocking API gives what the async API gives, to any thread."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import durable_workflow_sqlite as async_api
from durable_workflow_sqlite import (
    CheckpointStore,
    EngineStoppedError,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    ExecutionStatus,
    NonDeterministicCallError,
    Queue,
    Workflow,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite import blocking as blocking_api
from durable_workflow_sqlite.blocking import (
    DurableEngine,
    ExecutionHandle,
    SqliteCheckpointStore,
    StatementStore,
    open_store,
)

SOON = timedelta(seconds=10)


@workflow
async def approval(ctx: WorkflowContext, order_id: str) -> str:
    by = await ctx.wait_signal("approved", type=str)
    return f"{order_id} approved by {by}"


@workflow
async def double(ctx: WorkflowContext, number: int) -> int:
    return await ctx.step("double", lambda: 2 * number)


@workflow
async def failing(ctx: WorkflowContext) -> None:
    raise ValueError("on purpose")


@pytest.fixture
def store(file: Path) -> Iterator[StatementStore]:
    with open_store(file) as store:
        yield store


@pytest.fixture
def engine(store: StatementStore) -> Iterator[DurableEngine]:
    with DurableEngine(store, workflows=[approval, double, failing]) as engine:
        yield engine


@pytest.mark.parametrize(
    ("behind", "facade"),
    [
        (async_api.DurableEngine, DurableEngine),
        (async_api.ExecutionHandle, ExecutionHandle),
        (CheckpointStore, blocking_api.CheckpointStore),
        (async_api.SqliteCheckpointStore, SqliteCheckpointStore),
    ],
)
def test_every_public_name_has_its_namesake(behind: type, facade: type) -> None:
    names = {name for name in vars(behind) if not name.startswith("_")}
    names.discard("change_counter")  # a question of the engine's own, asked on its loop
    names.discard("joined")  # of the client, which gives it the connection of its caller
    assert {name for name in names if not hasattr(facade, name)} == set()
    for name in names | {"__init__"}:
        there, here = getattr(behind, name), getattr(facade, name)
        if callable(there) and (name, facade) not in [
            ("result", ExecutionHandle),  # has a timeout here
            ("__init__", ExecutionHandle),
            ("__init__", blocking_api.CheckpointStore),
        ]:
            assert list(inspect.signature(here).parameters) == list(
                inspect.signature(there).parameters
            ), name
            assert not inspect.iscoroutinefunction(here), name


def test_a_result_is_waited_for(engine: DurableEngine) -> None:
    assert engine.run(double, 21) == 42
    with pytest.raises(WorkflowFailedError, match="on purpose") as caught:
        engine.run(failing, execution_id="failing")
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_handle_signals_and_observes(engine: DurableEngine) -> None:
    handle = engine.start(approval, "A-1", execution_id="one")
    assert repr(handle) == "<execution 'one'>"
    states: list[ExecutionStatus] = []
    for state in engine.observe("one"):
        states.append(state.status)
        if state.status is ExecutionStatus.SUSPENDED:
            handle.signal("approved", "kim")
    assert states[-3:] == [
        ExecutionStatus.SUSPENDED,
        ExecutionStatus.RUNNING,
        ExecutionStatus.COMPLETED,
    ]
    assert handle.result() == engine.handle("one").result() == "A-1 approved by kim"
    assert handle.status() is ExecutionStatus.COMPLETED
    assert engine.load("one").output_data == '"A-1 approved by kim"'


def test_an_observation_may_be_left_before_its_end(engine: DurableEngine) -> None:
    engine.start(approval, "A-1", execution_id="one")
    for _ in range(3):
        for state in engine.observe("one"):
            assert state.workflow_execution_id == "one"
            break
    assert engine.cancel("one")


def test_an_execution_is_cancelled(engine: DurableEngine) -> None:
    handle = engine.start(approval, "A-1")
    assert handle.cancel()
    with pytest.raises(WorkflowCancelledError):
        handle.result(SOON)
    for act in (handle.cancel, lambda: handle.signal("approved", "kim")):
        with pytest.raises(ExecutionFinishedError):
            act()


def test_an_execution_begins_with_signals_or_by_one(engine: DurableEngine) -> None:
    kim = async_api.NewSignal("approved", "kim", key="mail-88")
    assert engine.run(approval, "A-1", signals=[kim]) == engine.run(approval, "A-1", signals=[kim])
    handle, result = engine.signal_or_start(approval, "A-2", execution_id="two", signal=kim)
    assert result is async_api.SignalResult.STARTED
    assert isinstance(handle, ExecutionHandle)
    assert "kim" in str(handle.result(SOON))
    assert handle.signal("approved", "kim", key="mail-88") is async_api.SignalResult.DUPLICATE
    assert not engine.send_signal("two", "approved", "kim", key="mail-88")


def test_an_execution_is_enqueued_for_whoever_has_room(engine: DurableEngine) -> None:
    handle = engine.enqueue(double, 4, delay=timedelta(seconds=0.02), priority=2)
    assert handle.result(SOON) == 8


def test_a_failed_execution_is_tried_again(engine: DurableEngine) -> None:
    outcomes = iter([ValueError("on purpose"), None])

    def fail_once() -> str:
        if (error := next(outcomes)) is not None:
            raise error
        return "done"

    @workflow
    async def once_more(ctx: WorkflowContext) -> str:
        return await ctx.step("fail once", fail_once)

    with pytest.raises(WorkflowFailedError):
        engine.run(once_more, execution_id="one")
    engine.retry("one")
    assert engine.handle("one").result(SOON) == "done"


def test_errors_are_those_of_the_async_api(engine: DurableEngine) -> None:
    with pytest.raises(ExecutionNotFoundError):
        engine.handle("nobody").status()
    with pytest.raises(ExecutionNotFoundError):
        list(engine.observe("nobody"))
    with pytest.raises(TypeError, match="does not take these arguments"):
        engine.run(double)  # type: ignore[call-arg]
    engine.run(double, 1, execution_id="one")
    with pytest.raises(ExecutionConflictError):
        engine.run(double, 2, execution_id="one")
    async_store = async_api.SqliteCheckpointStore.in_memory()
    with pytest.raises(TypeError, match=r"durable_workflow_sqlite\.blocking"):
        DurableEngine(async_store)  # type: ignore[arg-type]
    asyncio.run(async_store.close())


def test_a_wait_for_a_result_may_time_out_and_be_repeated(engine: DurableEngine) -> None:
    handle = engine.start(approval, "A-1", execution_id="one")
    with pytest.raises(TimeoutError, match=r"'one' has not ended after 0:00:00\.05"):
        handle.result(timedelta(seconds=0.05))
    assert handle.status() in (ExecutionStatus.RUNNING, ExecutionStatus.SUSPENDED)
    handle.signal("approved", "kim")
    assert handle.result(SOON) == "A-1 approved by kim"


def test_many_threads_call_at_once(engine: DurableEngine) -> None:
    with ThreadPoolExecutor(20) as threads:
        assert list(threads.map(lambda n: engine.run(double, n), range(200))) == [
            2 * n for n in range(200)
        ]
        # The same execution, started by all of them, runs once.
        same = threads.map(lambda _: engine.run(double, 7, execution_id="one"), range(20))
        assert set(same) == {14}


def test_what_waits_does_not_hold_up_other_threads(engine: DurableEngine) -> None:
    handle = engine.start(approval, "A-1")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(handle.result)
        assert engine.run(double, 2) == 4
        handle.signal("approved", "kim")
        assert waiting.result(10) == "A-1 approved by kim"


def test_a_sync_action_may_start_executions(engine: DurableEngine) -> None:
    @workflow
    async def outer(ctx: WorkflowContext) -> int:
        return await ctx.step("inner", engine.run, double, 4)

    assert engine.run(outer) == 8


def test_a_store_is_used_without_an_engine(store: StatementStore) -> None:
    store.save_workflow(Workflow(workflow_id="order@1", workflow_type="order"))
    found = store.load_workflow("order@1")
    assert found is not None and found.workflow_type == "order"
    assert store.load_executions_by_status([ExecutionStatus.FAILED]) == []


def test_a_connection_of_ones_own_is_used_and_left_open(tmp_path: Path) -> None:
    bound = sqlite3.connect(tmp_path / "bound.db")
    with pytest.raises(ValueError, match="check_same_thread=False"):
        SqliteCheckpointStore(bound)
    bound.close()
    connection = sqlite3.connect(tmp_path / "mine.db", check_same_thread=False)
    with SqliteCheckpointStore(connection) as store, DurableEngine(store) as engine:
        assert engine.run(double, 3) == 6
    assert connection.execute("select count(*) from workflow_executions").fetchone() == (1,)
    connection.close()


def test_any_async_store_can_be_used() -> None:
    behind: CheckpointStore = async_api.SqliteCheckpointStore.in_memory()
    with blocking_api.CheckpointStore(behind) as store, DurableEngine(store) as engine:
        assert store.worker_id == behind.worker_id
        assert engine.run(double, 5) == 10


def test_an_event_loop_is_not_blocked_by_mistake(engine: DurableEngine) -> None:
    async def calling() -> None:
        with pytest.raises(RuntimeError, match=r"Use the async API.*import DurableEngine"):
            engine.run(double, 1)
        with pytest.raises(RuntimeError, match="async API"):
            engine.dispose()
        # Elsewhere than in the loop's thread it may be waited for.
        assert await asyncio.to_thread(engine.run, double, 1) == 2

    asyncio.run(calling())

    @workflow
    async def calling_itself(ctx: WorkflowContext) -> int:
        return engine.run(double, 1)

    with pytest.raises(NonDeterministicCallError, match="in a step"):
        engine.run(calling_itself)


def test_who_waits_as_the_store_is_closed_is_told_so(tmp_path: Path) -> None:
    store = SqliteCheckpointStore.file(tmp_path / "workflows.db")
    engine = DurableEngine(store, workflows=[approval])
    engine.open()
    handle = engine.start(approval, "A-1", execution_id="one")
    elsewhere = SqliteCheckpointStore.file(tmp_path / "workflows.db")
    onlooker = DurableEngine(elsewhere)
    onlooker.open()

    with ThreadPoolExecutor(3) as threads:
        waiting = [
            threads.submit(handle.result),
            threads.submit(onlooker.handle("one").result),
            threads.submit(lambda: list(onlooker.observe("one"))),
        ]
        time.sleep(0.1)
        elsewhere.close()
        store.close()
        for one in waiting:
            with pytest.raises(EngineStoppedError):
                one.result(10)
    store.close()
    engine.dispose()
    for call in (handle.status, lambda: store.load_execution("one"), engine.recover):
        with pytest.raises(EngineStoppedError, match="closed"):
            call()
    with (
        SqliteCheckpointStore.file(tmp_path / "workflows.db") as again,
        DurableEngine(again, workflows=[approval]) as later,
    ):
        later.send_signal("one", "approved", "kim")
        assert later.handle("one").result(SOON) == "A-1 approved by kim"


def test_calls_made_while_the_store_is_closed_return_or_raise(tmp_path: Path) -> None:
    for round_ in range(10):
        store = SqliteCheckpointStore.file(tmp_path / "workflows.db")
        engine = DurableEngine(store)
        engine.open()
        calls = 0

        def call_on(engine: DurableEngine = engine) -> None:
            nonlocal calls
            while True:
                try:
                    engine.run(double, 1)
                except EngineStoppedError:
                    return
                calls += 1

        with ThreadPoolExecutor(4) as threads:
            ended = [threads.submit(call_on) for _ in range(4)]
            time.sleep(0.02 * round_ / 3)
            store.close()
            for one in ended:
                one.result(10)
    with SqliteCheckpointStore.file(tmp_path / "workflows.db") as store:
        assert store.load_executions_by_status([ExecutionStatus.FAILED]) == []


def test_closing_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with (
        SqliteCheckpointStore.file(tmp_path / "workflows.db", synchronous="full") as store,
        DurableEngine(store) as engine,
    ):
        engine.run(double, 1)
    left = [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)


def test_an_error_on_closing_is_raised_to_who_closes() -> None:
    class Failing(async_api.SqliteCheckpointStore):
        async def close(self) -> None:
            await super().close()
            raise OSError("the disk is gone")

    store = blocking_api.CheckpointStore(Failing.in_memory())
    with pytest.raises(OSError, match="the disk is gone"):
        store.close()


def test_context_variables_that_the_engine_was_given_reach_a_workflow_and_no_others() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    @workflow
    async def asking(ctx: WorkflowContext) -> list[str]:
        return [who.get(), await ctx.step("ask", who.get)]

    given = contextvars.copy_context()
    given.run(who.set, "sam")
    for context, found in ((None, ["nobody"] * 2), (given, ["sam"] * 2)):
        with (
            blocking_api.SqliteCheckpointStore.in_memory() as store,
            DurableEngine(store, context=context) as engine,
        ):
            who.set("kim")
            assert engine.run(asking) == found


def test_a_notebook_may_block_the_loop_of_its_own(tmp_path: Path) -> None:
    """A cell runs in the loop of its notebook, in the main thread."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.blocking.notebook"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-1] == "42"


def test_types_are_those_of_the_workflow(engine: DurableEngine) -> None:
    handle: ExecutionHandle[int] = engine.start(double, 1)
    value: int = handle.result()
    plain: Any = engine.result_of(handle.execution_id)
    assert value == plain == 2


def test_an_action_that_meets_its_engine_closing_has_not_failed(tmp_path: Path) -> None:
    store = SqliteCheckpointStore.file(tmp_path / "workflows.db")
    engine = DurableEngine(store)
    engine.open()
    called = threading.Event()

    def ask_again_and_again() -> None:
        while True:
            engine.unblock("one")
            called.set()

    @workflow
    async def asking(ctx: WorkflowContext) -> None:
        await ctx.step("ask", ask_again_and_again, compensate=print)

    engine.start(asking, execution_id="one")
    assert called.wait(5)
    engine.dispose()
    store.close()
    with SqliteCheckpointStore.file(tmp_path / "workflows.db") as again:
        record = again.load_execution("one")
        assert record is not None and record.status is ExecutionStatus.RUNNING
        assert [one.status for one in again.load_checkpoints("one")] == ["INTENT"]


def test_pausing_without_await() -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> str:
        return await ctx.step("only", lambda: "done")

    with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, workflows=[order]) as engine,
    ):
        assert engine.pause_all(reason="we move", by="kim")
        assert [one.paused_by for one in engine.pauses()] == ["kim"]
        handle = engine.enqueue(order, execution_id="one")
        assert engine.pause("one")
        assert engine.resume_all()
        engine.declare(Queue("mail"))
        assert engine.pause_queue("mail", by="kim")
        assert engine.resume_queue("mail")
        assert engine.pause_workflow("order")
        assert engine.load("one").status is ExecutionStatus.PENDING
        assert engine.resume_workflow("order")
        assert engine.resume("one")
        assert handle.result() == "done"
