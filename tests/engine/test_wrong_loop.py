"""An engine, a handle and a store work where they were opened; elsewhere is an error at once."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import threading
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    ChangeScope,
    DurableEngine,
    ExecutionHandle,
    ExecutionStatus,
    Limit,
    NewSignal,
    Pause,
    PauseScope,
    Queue,
    Schedule,
    SqliteCheckpointStore,
    StepStatus,
    StoreError,
    WorkflowContext,
    WorkflowSignal,
    blocking,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import (
    MINUTE,
    NOON,
    WORKFLOW,
    created,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
)

LIMIT_S = 30

Use = Callable[[], Awaitable[object]]


@workflow
async def job(ctx: WorkflowContext) -> int:
    return await ctx.step("x", lambda: 1)


@workflow
async def waits(ctx: WorkflowContext) -> int:
    return await ctx.wait_signal("go", type=int)


async def first(states: AsyncIterator[object]) -> object:
    return await anext(states)


def uses_of_engine(engine: DurableEngine) -> dict[str, Use]:
    return {
        "run": lambda: engine.run(job),
        "start": lambda: engine.start(job),
        "enqueue": lambda: engine.enqueue(job),
        "load": lambda: engine.load("waits"),
        "progress": lambda: engine.progress("waits"),
        "send_signal": lambda: engine.send_signal("waits", "go", 1),
        "signal_or_start": lambda: engine.signal_or_start(
            waits, execution_id="waits", signal=NewSignal("stay")
        ),
        "questions": lambda: engine.questions(),
        "answer": lambda: engine.answer("waits", "approve", 1),
        "cancel": lambda: engine.cancel("waits"),
        "observe": lambda: first(engine.observe("waits")),
        "follow": lambda: first(engine.follow("over")),
        "result_of": lambda: engine.result_of("waits"),
        "unblock": lambda: engine.unblock("waits"),
        "retry": lambda: engine.retry("waits"),
        "acknowledge": lambda: engine.acknowledge("waits"),
        "declare": lambda: engine.declare(Queue("mail")),
        "limits": engine.limits,
        "change_limits": lambda: engine.change_limits(Queue("mail"), add=True),
        "enqueue_named": lambda: engine.enqueue_named("job"),
        "resolve": lambda: engine.resolve("waits", "go"),
        "rerun": lambda: engine.rerun("waits"),
        "fork": lambda: engine.fork("waits"),
        "schedule": lambda: engine.schedule("s", job, every=timedelta(hours=1)),
        "load_schedule": lambda: engine.load_schedule("s"),
        "load_schedules": lambda: engine.load_schedules(),
        "pause_schedule": lambda: engine.pause_schedule("s"),
        "resume_schedule": lambda: engine.resume_schedule("s"),
        "trigger": lambda: engine.trigger("s"),
        "backfill": lambda: engine.backfill("s", NOON, NOON),
        "next_times": lambda: engine.next_times("s"),
        "unschedule": lambda: engine.unschedule("s"),
        "pause": lambda: engine.pause("waits"),
        "resume": lambda: engine.resume("waits"),
        "pause_workflow": lambda: engine.pause_workflow("waits"),
        "resume_workflow": lambda: engine.resume_workflow("waits"),
        "pause_queue": lambda: engine.pause_queue("mail"),
        "resume_queue": lambda: engine.resume_queue("mail"),
        "pause_all": lambda: engine.pause_all(),
        "resume_all": lambda: engine.resume_all(),
        "pauses": lambda: engine.pauses(),
        "recover": lambda: engine.recover(),
        "dispose": lambda: engine.dispose(),
    }


def uses_of_handle(handle: ExecutionHandle[Any]) -> dict[str, Use]:
    return {
        "result": lambda: handle.result(),
        "status": lambda: handle.status(),
        "cancel": lambda: handle.cancel(),
        "signal": lambda: handle.signal("go", 1),
    }


def uses_of_store(store: SqliteCheckpointStore) -> dict[str, Use]:
    debounced = new_execution("debounced", available_at=NOON, dedup_id="one", debounced=True)
    execution, queued = new_execution("new"), new_execution("queued", available_at=NOON)
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    schedule = Schedule(schedule_name="s", workflow_type="order", every_seconds=60)

    async def release(name: str) -> None:
        claim = await created(store, new_execution(name))
        await store.mark_as_stopping([claim])
        await store.release_claims([claim])

    async def slot() -> None:
        await store.take_slot(await created(store, new_execution("slot")), "mail", None)

    async def leave_slot() -> None:
        await store.leave_slot(await created(store, new_execution("left")))

    async def step(write: Callable[..., Awaitable[None]], status: StepStatus) -> None:
        claim = await store.create_execution(WORKFLOW, new_execution(f"step {status}"))
        await write(new_checkpoint(f"step {status}", 0, status=status), claim=claim)

    async def begin_again() -> None:
        claim = await store.create_execution(WORKFLOW, new_execution("anew"))
        await store.continue_as_new(new_execution("anew", run_number=2), claim=claim)

    async def mend() -> None:
        seen = await store.take_execution("waits")
        assert seen is not None
        await store.mend_execution(seen, seen.execution)

    async def transact() -> None:
        claim = await store.create_execution(WORKFLOW, new_execution("own"))
        done = new_checkpoint("own", 0)
        assert claim is not None
        await store.transact(lambda _: [done], lambda _: [], claim=claim, timeout=MINUTE)

    return {
        "save": lambda: store.save(execution),
        "transact": transact,
        "write": lambda: store.write(lambda _: None),
        "read": lambda: store.read(lambda _: None),
        "begin_step": lambda: step(store.begin_step, StepStatus.INTENT),
        "finish_step": lambda: step(store.finish_step, StepStatus.COMPLETED),
        "continue_as_new": begin_again,
        "save_workflow": lambda: store.save_workflow(WORKFLOW),
        "load_workflow": lambda: store.load_workflow("order:1"),
        "save_execution": lambda: store.save_execution(execution),
        "load_workflows": lambda: store.load_workflows(),
        "load_execution": lambda: store.load_execution("waits"),
        "load_executions_by_status": lambda: store.load_executions_by_status(ExecutionStatus),
        "save_checkpoint": lambda: store.save_checkpoint(new_checkpoint("waits", 9)),
        "save_checkpoints": lambda: store.save_checkpoints([new_checkpoint("waits", 9)]),
        "load_checkpoints": lambda: store.load_checkpoints("waits"),
        "take_execution": lambda: store.take_execution("waits"),
        "save_timer": lambda: store.save_timer(new_timer("waits", "t", NOON)),
        "load_pending_timers": lambda: store.load_pending_timers(),
        "load_timers": lambda: store.load_timers("waits"),
        "save_signal": lambda: store.save_signal(new_signal("waits", "stay")),
        "send_signal": lambda: store.send_signal(new_signal("waits", "stay")),
        "load_pending_signals": lambda: store.load_pending_signals("waits"),
        "load_stream_items": lambda: store.load_stream_items("waits"),
        "load_stream_heads": lambda: store.load_stream_heads("waits", 1),
        "load_progress": lambda: store.load_progress("waits"),
        "load_stream_ends": lambda: store.load_stream_ends("waits", "say"),
        "load_signals": lambda: store.load_signals("waits"),
        "load_keyed_signal": lambda: store.load_keyed_signal("waits", "mail"),
        "load_next_signals": lambda: store.load_next_signals("waits", ["go"]),
        "load_last_signal_id": store.load_last_signal_id,
        "load_signals_after": lambda: store.load_signals_after(0),
        "answer_question": lambda: store.answer_question(
            WorkflowSignal(workflow_execution_id="waits", signal_name="$answer:go@1.0")
        ),
        "load_questions": lambda: store.load_questions(),
        "request_cancel": lambda: store.request_cancel("waits"),
        "load_statuses": lambda: store.load_statuses(["waits"]),
        "load_stopped": lambda: store.load_stopped(["waits"]),
        "create_execution": lambda: store.create_execution(WORKFLOW, execution),
        "enqueue_execution": lambda: store.enqueue_execution(WORKFLOW, queued),
        "claim_execution": lambda: store.claim_execution("waits"),
        "join": lambda: store.join([("order", 1)], 9),
        "load_served": lambda: store.load_served(),
        "hasten_attempts": lambda: store.hasten_attempts("waits"),
        "take_slot": slot,
        "leave_slot": leave_slot,
        "declare_limits": lambda: store.declare_limits([Queue("mail")]),
        "save_limit": lambda: store.save_limit(Limit("api")),
        "load_limit_room": lambda: store.load_limit_room("api", None),
        "debounce_execution": lambda: store.debounce_execution(WORKFLOW, debounced),
        "load_limits": lambda: store.load_limits(),
        "claim_available": lambda: store.claim_available([("order", 1)], 9),
        "load_next_available_at": lambda: store.load_next_available_at([("order", 1)]),
        "mark_as_stopping": lambda: release("stopping"),
        "release_claims": lambda: release("released"),
        "release_created": lambda: store.release_created(execution),
        "release_claims_of_the_dead": lambda: store.release_claims_of_the_dead(9),
        "put_into_queue": lambda: store.put_into_queue(["waits"]),
        "load_unqueued_executions": lambda: store.load_unqueued_executions(),
        "load_unregistered": lambda: store.load_unregistered([("order", 1)], 9),
        "load_blocked": lambda: store.load_blocked(),
        "unblock_execution": lambda: store.unblock_execution("waits"),
        "pause_execution": lambda: store.pause_execution("waits", by="kim"),
        "resume_execution": lambda: store.resume_execution("waits"),
        "spread_pauses": lambda: store.spread_pauses(),
        "begin_pause": lambda: store.begin_pause(
            Pause(scope=PauseScope.ALL, paused_at=NOON, paused_by="kim")
        ),
        "end_pause": lambda: store.end_pause(PauseScope.ALL),
        "load_pauses": lambda: store.load_pauses(),
        "mend_execution": mend,
        "acknowledge": lambda: store.acknowledge("waits"),
        "load_tags": lambda: store.load_tags("waits"),
        "load_audit_log": lambda: store.load_audit_log("waits"),
        "load_changes": lambda: store.load_changes(ChangeScope.ALL),
        "load_open_waits": lambda: store.load_open_waits("waits", "go"),
        "save_schedule": lambda: store.save_schedule(schedule, seen=None),
        "load_schedule": lambda: store.load_schedule("s"),
        "load_schedules": lambda: store.load_schedules(),
        "load_due_schedules": lambda: store.load_due_schedules(NOON),
        "load_unfinished_of_schedule": lambda: store.load_unfinished_of_schedule("s"),
        "delete_schedule": lambda: store.delete_schedule("s"),
        "recode": store.recode,
        "delete_finished": lambda: store.delete_finished(["queued"], long_ago),
        "delete_execution": lambda: store.delete_execution("queued"),
        "delete_completed_before": lambda: store.delete_completed_before(long_ago),
        "delete_old_timers": lambda: store.delete_old_timers(long_ago),
        "delete_old_signals": lambda: store.delete_old_signals(long_ago),
        "close": lambda: store.close(),
    }


class Opened:
    """An engine, with a store of its own and a handle: all that can be used."""

    def __init__(self, file: Path) -> None:
        self.store = SqliteCheckpointStore.file(file)
        self.engine = DurableEngine(self.store, workflows=[job, waits])

    async def open(self) -> None:
        await self.engine.open()
        self.handle = await self.engine.start(waits, execution_id="waits")

    async def close(self) -> None:
        await self.engine.dispose()
        await self.store.close()

    def uses(self, *, with_store: bool = True) -> dict[str, Use]:
        of_store = uses_of_store(self.store) if with_store else {}
        return {
            f"{kind}.{name}": use
            for kind, uses in (
                ("engine", uses_of_engine(self.engine)),
                ("handle", uses_of_handle(self.handle)),
                ("store", of_store),
            )
            for name, use in uses.items()
        }


async def test_every_coroutine_is_used_below() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        engine = DurableEngine(store)
        for kind, uses in (
            (DurableEngine, uses_of_engine(engine)),
            (ExecutionHandle, uses_of_handle(engine.handle("one"))),
            (SqliteCheckpointStore, uses_of_store(store)),
        ):
            coroutines = {
                name
                for name, one in inspect.getmembers(kind)
                if not name.startswith("_")
                and (inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one))
            }
            assert coroutines - {"open"} == uses.keys()


@pytest.fixture
def elsewhere(file: Path) -> Iterator[Opened]:
    """What was opened in an event loop that runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def main() -> Opened:
        opened = Opened(file)
        await opened.open()
        return opened

    opened = asyncio.run_coroutine_threadsafe(main(), loop).result(LIMIT_S)
    try:
        yield opened
        # It still works, where it belongs.
        assert asyncio.run_coroutine_threadsafe(opened.engine.run(job), loop).result(LIMIT_S) == 1
    finally:
        asyncio.run_coroutine_threadsafe(opened.close(), loop).result(LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def answers(uses: dict[str, Use]) -> dict[str, str]:
    """What each says, as an error or a value; it must not take long."""
    said: dict[str, str] = {}
    for name, use in uses.items():
        async with asyncio.timeout(LIMIT_S):
            try:
                said[name] = f"works: {await use()!r}"
            except TimeoutError:
                raise AssertionError(f"{name} does not answer") from None
            except Exception as error:
                said[name] = f"{type(error).__name__}: {error}"
    return said


def test_in_another_running_loop(elsewhere: Opened) -> None:
    said = asyncio.run(answers(elsewhere.uses()))
    for name, text in said.items():
        assert text.startswith("RuntimeError"), (name, text)
        assert "another event loop" in text
        assert "run_coroutine_threadsafe" in text


def without_a_loop(use: Use) -> str:
    """What a coroutine says that something else than asyncio runs."""
    steps = use().__await__()
    with pytest.raises(RuntimeError) as caught:
        next(steps)
    return str(caught.value)


def test_without_asyncio(elsewhere: Opened) -> None:
    said: dict[str, str] = {}

    def ask() -> None:
        for name, use in elsewhere.uses().items():
            said[name] = without_a_loop(use)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(LIMIT_S)
    assert said.keys() == elsewhere.uses().keys()
    for name, text in said.items():
        assert "no asyncio event loop runs here" in text, name
        assert "durable_workflow_sqlite.blocking" in text


def test_an_engine_is_not_opened_without_asyncio(file: Path) -> None:
    store = SqliteCheckpointStore.file(file)
    engine = DurableEngine(store)
    assert "an engine works with asyncio" in without_a_loop(engine.open)

    async def main() -> None:
        async with store, engine:
            assert await engine.run(job) == 1

    asyncio.run(main())  # nothing has happened to it


def test_under_trio(elsewhere: Opened) -> None:
    trio = pytest.importorskip("trio")

    async def main() -> None:
        for name, use in elsewhere.uses().items():
            with trio.fail_after(LIMIT_S), pytest.raises(RuntimeError) as caught:
                await use()
            assert "no asyncio event loop runs here" in str(caught.value), name

    trio.run(main)


def test_an_engine_after_its_loop_has_closed(file: Path) -> None:
    """It had tasks, which have ended with the loop."""
    opened = Opened(file)
    asyncio.run(opened.open())
    said = asyncio.run(answers(opened.uses(with_store=False)))
    for name, text in said.items():
        assert text.startswith("RuntimeError"), (name, text)
        assert "event loop that is closed" in text
        assert "open a store and an engine in the loop" in text
    asyncio.run(opened.store.close())

    async def next_process() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[waits]) as engine:
                await engine.send_signal("waits", "go", 5)
                assert await engine.handle("waits").result() == 5

    asyncio.run(next_process())


def test_a_store_alone_is_used_in_one_loop_after_the_other(file: Path) -> None:
    store = SqliteCheckpointStore.file(file)
    asyncio.run(store.save(WORKFLOW, new_execution("waits")))
    for name, text in asyncio.run(answers(uses_of_store(store))).items():
        if name == "mend_execution":
            assert text.startswith("ExecutionConflictError"), text  # it is claimed
        else:
            assert text.startswith("works"), (name, text)


def test_an_engine_that_was_disposed_of_may_be_disposed_of_anywhere(file: Path) -> None:
    opened = Opened(file)

    async def main() -> None:
        await opened.open()
        await opened.close()

    asyncio.run(main())
    asyncio.run(opened.close())
    store = SqliteCheckpointStore.in_memory()
    asyncio.run(DurableEngine(store).dispose())  # it was never open
    asyncio.run(store.close())


@contextmanager
def forking() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
        yield


def exits_with_0(child: Callable[[], object]) -> None:
    with forking():
        pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert ended(pid) == 0


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def is_refused_in_a_fork(opened: Opened) -> None:
    said = asyncio.run(answers(opened.uses()))
    assert said.pop("store.close").startswith("works")  # it forgets it, and is done
    for name, text in said.items():
        assert text.startswith("StoreError"), (name, text)
        assert "fork" in text
        assert "open" in text.lower()


async def test_in_a_fork(file: Path) -> None:
    opened = Opened(file)
    await opened.open()
    exits_with_0(lambda: in_thread(lambda: is_refused_in_a_fork(opened)))
    with forking():
        process = multiprocessing.get_context("fork").Process(
            target=in_thread, args=(lambda: is_refused_in_a_fork(opened),)
        )
        process.start()
    process.join(LIMIT_S)
    assert process.exitcode == 0
    assert await opened.engine.run(job) == 1
    await opened.handle.signal("go", 5)
    assert await opened.handle.result() == 5
    await opened.close()


def in_thread(ask: Callable[[], object]) -> None:
    """Where no event loop runs: the fork was made by one."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            ask()
        except BaseException as error:
            traceback.print_exc()
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert not failed


async def test_a_coroutine_that_goes_on_in_a_fork(file: Path) -> None:
    """The child has its parent's coroutine, and none of its event loop."""

    opened = Opened(file)
    await opened.open()
    with forking():
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for name, use in opened.uses().items():
                if name != "store.close":
                    with pytest.raises((RuntimeError, StoreError), match=r"asyncio|fork"):
                        await use()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert ended(pid) == 0
    await opened.close()


def test_a_fork_does_not_take_the_lock_of_its_parent(file: Path) -> None:
    """Else its parent would wait for it, and be taken to live for as long as the child does."""

    async def claim(store: SqliteCheckpointStore) -> None:
        with pytest.raises(StoreError, match="fork"):
            await store.create_execution(WORKFLOW, new_execution("e"))

    store = SqliteCheckpointStore.file(file)
    exits_with_0(lambda: asyncio.run(claim(store)))
    assert not list(file.parent.glob("*-worker-*"))
    asyncio.run(store.close())


def test_the_blocking_api_in_a_fork_of_its_process(file: Path) -> None:
    with (
        blocking.SqliteCheckpointStore.file(file) as store,
        blocking.DurableEngine(store, workflows=[waits]) as engine,
    ):
        handle = engine.start(waits, execution_id="waits")

        def child() -> None:
            for use in (
                lambda: engine.run(waits),
                lambda: engine.recover(),
                lambda: next(engine.observe("waits")),
                lambda: handle.result(),
                lambda: handle.signal("go", 1),
                lambda: store.load_execution("waits"),
            ):
                with pytest.raises(RuntimeError, match="after the fork"):
                    use()
            engine.dispose()
            store.close()

        exits_with_0(child)
        handle.signal("go", 5)
        assert handle.result() == 5
