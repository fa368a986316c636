"""Sync functions run in threads: so many at once, and none that hangs holds up the others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine import threads
from tests.processes import Journal, an_engine, die, run_until_killed, until

ROOT = Path(__file__).parents[2]
SHORT = timedelta(milliseconds=50)


class Service:
    """What is called; until `answer`, it never returns."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.calls = 0

    def call(self) -> str:
        self.calls += 1
        assert self.answer.wait(60)
        return "answered"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.answer.set()


async def test_calls_that_hang_hold_up_no_other_step_and_no_compensation(service: Service) -> None:
    undone: list[str] = []

    @workflow
    async def books(ctx: WorkflowContext) -> None:
        await ctx.step("reserve", lambda: "seat", compensate=undone.append)
        await ctx.step("call", service.call, timeout=SHORT)

    @workflow
    async def other(ctx: WorkflowContext) -> str:
        return await ctx.step("quick", lambda: "quick", timeout=timedelta(seconds=20))

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, max_concurrent=2) as engine,
        asyncio.timeout(30),
    ):
        handles = [await engine.start(books) for _ in range(6)]
        for handle in handles:
            with pytest.raises(WorkflowFailedError, match="took longer than"):
                await handle.result()
        assert await engine.run(other) == "quick"
        assert service.calls == 6
    assert undone == ["seat"] * 6


async def test_to_wait_for_a_thread_is_no_part_of_a_timeout(service: Service) -> None:
    @workflow
    async def two_calls(ctx: WorkflowContext) -> list[str]:
        return await asyncio.gather(
            ctx.step("has the thread", service.call),
            ctx.step("charge", lambda: "charged", timeout=SHORT),
        )

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, max_concurrent=1) as engine,
    ):
        handle = await engine.start(two_calls)
        await until(lambda: service.calls == 1)
        await asyncio.sleep(4 * SHORT.total_seconds())
        # It has not begun, so there is nothing of it to be in doubt about.
        assert [one.step_name for one in await store.load_checkpoints(handle.execution_id)] == [
            "has the thread"
        ]
        service.answer.set()
        assert await handle.result() == ["answered", "charged"]


def test_what_waited_for_a_thread_when_the_worker_died_is_not_in_doubt(
    file: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    has_begun = threading.Event()

    def dies() -> None:
        journal.note("dies")
        if journal.lines.count("dies") == 1:
            has_begun.set()
            threading.Event().wait()

    @workflow
    async def body(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            ctx.step("dies", dies), ctx.step("waits", lambda: journal.note("waits"))
        )

    async def first_process() -> None:
        async with an_engine(file, max_concurrent=1) as (_, engine):
            await engine.start(body, execution_id="one")
            await until(has_begun.is_set)
            die()

    async def second_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.run(body, execution_id="one")
            steps = await store.load_checkpoints("one")
            assert {one.step_name: one.attempt for one in steps} == {"dies": 2, "waits": 1}

    run_until_killed(first_process)
    asyncio.run(second_process())
    assert sorted(journal.lines) == ["dies", "dies", "waits"]
    in_doubt = [one for one in caplog.messages if "may have taken effect" in one]
    assert len(in_doubt) == 1 and "'dies'" in in_doubt[0]


async def test_what_waits_for_a_thread_when_the_engine_is_disposed_of_never_begins(
    service: Service,
) -> None:
    ran: list[str] = []

    @workflow
    async def body(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            ctx.step("has the thread", service.call), ctx.step("waits", ran.append, "waits")
        )

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, max_concurrent=1) as engine:
            await engine.start(body, execution_id="one")
            await until(lambda: service.calls == 1)
            disposing = asyncio.create_task(engine.dispose(timedelta(hours=1)))
            await asyncio.sleep(0)
            service.answer.set()
            await disposing
        (step,) = await store.load_checkpoints("one")
        assert (step.step_name, step.status) == ("has the thread", StepStatus.COMPLETED)
        assert not ran
        async with DurableEngine(store, max_concurrent=1) as engine:
            await engine.run(body, execution_id="one")
    assert ran == ["waits"]


async def test_no_step_keeps_a_compensation_from_a_thread(service: Service) -> None:
    @workflow
    async def has_the_thread(ctx: WorkflowContext) -> str:
        return await ctx.step("call", service.call)

    @workflow
    async def fails(ctx: WorkflowContext) -> None:
        await ctx.step("pay", asyncio.sleep, 0, compensate=undone.append)
        raise RuntimeError("no stock")

    undone: list[object] = []

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, max_concurrent=1) as engine,
    ):
        handle = await engine.start(has_the_thread)
        await until(lambda: service.calls == 1)
        with pytest.raises(WorkflowFailedError, match="no stock"):
            await asyncio.wait_for(engine.run(fails), 30)
        assert undone == [None]
        assert not (await handle.status()).is_terminal
        service.answer.set()
        assert await handle.result() == "answered"


@workflow
async def healthy(ctx: WorkflowContext) -> str:
    return await ctx.step("one", asyncio.sleep, 0, "fine")


async def test_executions_that_wait_for_a_thread_lend_their_slots_to_as_many_others(
    file: Path, service: Service
) -> None:
    """Two started here have both threads. What is taken on beside them waits for one."""
    slots = 2

    @workflow
    async def calls(ctx: WorkflowContext) -> str:
        return await ctx.step("call", service.call)

    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, [calls, healthy], max_concurrent=slots) as engine,
        asyncio.timeout(60),
    ):
        for _ in range(slots):
            await engine.start(calls)
        await until(lambda: service.calls == slots)
        first = [await engine.enqueue(calls) for _ in range(slots)]
        await until(lambda: len(engine._executions) == 2 * slots)
        assert await (await engine.enqueue(healthy)).result() == "fine"
        later = [await engine.enqueue(calls) for _ in range(20)]
        # Some have the threads, as many have lent their slots, and as many wait with theirs.
        await until(lambda: len(engine._executions) == 3 * slots)
        await asyncio.sleep(0.2)
        assert len(engine._executions) == 3 * slots
        service.answer.set()
        for handle in (*first, *later):
            assert await handle.result() == "answered"


async def test_so_many_may_hang_and_then_they_count(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "HUNG_AT_MOST", 3)
    monkeypatch.setattr(threads, "TELL_OF_HUNG", 2)

    @workflow
    async def calls(ctx: WorkflowContext) -> None:
        await ctx.step("call", service.call, timeout=SHORT)

    @workflow
    async def quick(ctx: WorkflowContext) -> str:
        return await ctx.step("quick", lambda: "quick")

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, max_concurrent=1) as engine,
    ):
        for number in range(4):
            with pytest.raises(WorkflowFailedError):
                await engine.run(calls, execution_id=f"call {number}")
        handle = await engine.start(quick)
        await asyncio.sleep(0.1)
        assert await handle.status() is ExecutionStatus.RUNNING
        service.answer.set()
        assert await handle.result() == "quick"
    told = [one for one in caplog.messages if "still run in their threads" in one]
    assert [one.split()[0] for one in told] == ["2", "4"]
    assert "step 'call' (index 0) of execution 'call 0' (for " in told[0]
    assert "Steps now wait" not in told[0]
    assert "Steps now wait" in told[1]


async def test_the_log_says_what_has_the_threads_if_none_comes_free(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "TELL_OF_WAITING_AFTER_S", 0.05)

    @workflow
    async def calls(ctx: WorkflowContext) -> str:
        return await ctx.step("call", service.call)

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, max_concurrent=1) as engine,
    ):
        handles = [await engine.start(calls, execution_id=f"{n}") for n in range(3)]
        await until(lambda: "no thread has come free" in caplog.text)
        service.answer.set()
        for handle in handles:
            await handle.result()
    (told,) = [one for one in caplog.messages if "no thread has come free" in one]
    assert "2 functions wait for one, and 1 run: step 'call' (index 0) of execution '0'" in told


def test_a_machine_that_has_no_thread_to_give_fails_no_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "TRY_AGAIN_AFTER_S", 0.01)
    start, refusals = threading.Thread.start, 0

    def refuse(thread: threading.Thread) -> None:
        nonlocal refusals
        if thread.name.startswith("durable-workflow-action") and refusals < 5:
            refusals += 1
            raise RuntimeError("can't start new thread")
        start(thread)

    @workflow
    async def quick(ctx: WorkflowContext) -> str:
        return await ctx.step("quick", lambda: "quick")

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            monkeypatch.setattr(threading.Thread, "start", refuse)
            assert await asyncio.wait_for(engine.run(quick), 30) == "quick"

    asyncio.run(main())
    assert refusals == 5
    assert caplog.text.count("cannot start a thread; will go on trying") == 1


async def test_threads_are_used_again_and_end_with_the_engine() -> None:
    threads: list[threading.Thread] = []

    def act() -> None:
        threads.append(threading.current_thread())

    @workflow
    async def steps(ctx: WorkflowContext) -> None:
        for number in range(20):
            await ctx.step(f"step {number}", act)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(steps)
        assert len(set(threads)) == 1
    await until(lambda: not threads[0].is_alive())


HANGS = """
import asyncio, threading
from datetime import timedelta
from durable_workflow_sqlite import *

@workflow
async def calls(ctx):
    await ctx.step("call", threading.Event().wait, timeout=timedelta(seconds=0.05))

async def main():
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        try:
            await engine.run(calls)
        except WorkflowFailedError:
            print("failed")

asyncio.run(main())
"""


@pytest.mark.campaign
def test_a_call_that_hangs_does_not_keep_the_program_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HANGS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "failed\n")
    timed_out, failed = done.stderr.splitlines()
    assert timed_out.endswith("timed out at attempt 1 and may have taken effect")
    assert "ended FAILED" in failed
