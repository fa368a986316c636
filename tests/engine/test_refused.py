"""What a workflow function cannot have is refused at the call, in words that name it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_process
import anyio.to_thread
import httpx
import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    NonDeterministicCallError,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowStuckError,
    workflow,
)
from durable_workflow_sqlite.engine.body_loop import BodyLoop
from tests.processes import Journal


class Outside:
    """What a workflow function may get hold of."""

    def __init__(self, engine: DurableEngine) -> None:
        self.engine = engine
        self.loop = asyncio.get_running_loop()
        self.future = self.loop.create_future()
        self.lock = asyncio.Lock()
        self.socket = socket.socket()

    async def __aenter__(self) -> Outside:
        self.socket.setblocking(False)
        await self.lock.acquire()
        self.waits = asyncio.create_task(self.lock.acquire())  # binds the lock to this event loop
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.waits.cancel()
        self.socket.close()


Call = Callable[[Outside], Awaitable[Any]]


def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@workflow
async def other(ctx: WorkflowContext) -> None:
    pass


# Threads and executors


async def to_thread(outside: Outside) -> None:
    await asyncio.to_thread(int)


async def run_in_executor(outside: Outside) -> None:
    await loop().run_in_executor(None, int)


async def wrap_future(outside: Outside) -> None:
    await asyncio.wrap_future(concurrent.futures.Future[int]())


async def call_soon_threadsafe(outside: Outside) -> None:
    loop().call_soon_threadsafe(int)


async def threadsafe_here(outside: Outside) -> None:
    asyncio.run_coroutine_threadsafe(forever(), loop())


async def threadsafe_there(outside: Outside) -> None:
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), outside.loop))


async def thread_of_anyio(outside: Outside) -> None:
    await anyio.to_thread.run_sync(int)


async def thread_of_anyio_in_a_group(outside: Outside) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, int)


async def file_of_anyio(outside: Outside) -> None:
    await anyio.open_file(os.devnull)


# Event loops


async def forever() -> None:
    await asyncio.Event().wait()


def run_and_close(run: Callable[[Any], object]) -> None:
    coroutine = forever()
    try:
        run(coroutine)
    finally:
        coroutine.close()


async def run(outside: Outside) -> None:
    run_and_close(asyncio.run)


async def runner(outside: Outside) -> None:
    run_and_close(asyncio.Runner().run)


async def runner_with(outside: Outside) -> None:
    with asyncio.Runner() as one:
        run_and_close(one.run)


async def run_until_complete_here(outside: Outside) -> None:
    run_and_close(loop().run_until_complete)


async def run_until_complete_there(outside: Outside) -> None:
    new = asyncio.new_event_loop()
    try:
        run_and_close(new.run_until_complete)
    finally:
        new.close()


async def run_of_anyio(outside: Outside) -> None:
    anyio.run(forever)


async def stop(outside: Outside) -> None:
    loop().stop()


async def a_future_of_outside(outside: Outside) -> None:
    await outside.future


async def a_future_of_outside_in_a_group(outside: Outside) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(a_future_of_outside(outside))


async def a_task_of_outside(outside: Outside) -> None:
    await outside.loop.create_task(asyncio.sleep(0))


async def a_lock_of_outside(outside: Outside) -> None:
    await outside.lock.acquire()


async def wait_for_outside(outside: Outside) -> None:
    await asyncio.wait_for(outside.future, 1)


async def wait_outside(outside: Outside) -> None:
    await asyncio.wait([asyncio.create_task(forever()), outside.future])


async def gather_outside(outside: Outside) -> None:
    await asyncio.gather(outside.future, outside.future)


# The machine


async def open_connection(outside: Outside) -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def open_connection_raised_from(outside: Outside) -> None:
    try:
        await asyncio.open_connection("127.0.0.1", 9)
    except Exception as error:
        raise ConnectionError("as a library says it") from error


async def start_server(outside: Outside) -> None:
    await asyncio.start_server(print, "127.0.0.1", 0)


async def getaddrinfo(outside: Outside) -> None:
    await loop().getaddrinfo("localhost", 9)


async def create_datagram_endpoint(outside: Outside) -> None:
    await loop().create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))


async def sock_recv(outside: Outside) -> None:
    await loop().sock_recv(outside.socket, 1)


async def add_reader(outside: Outside) -> None:
    loop().add_reader(outside.socket, print)


async def subprocess_exec(outside: Outside) -> None:
    await asyncio.create_subprocess_exec("true")


async def subprocess_shell(outside: Outside) -> None:
    await asyncio.create_subprocess_shell("true")


async def add_signal_handler(outside: Outside) -> None:
    loop().add_signal_handler(signal.SIGTERM, print)


async def process_of_anyio(outside: Outside) -> None:
    await anyio.run_process(["true"])


async def worker_process_of_anyio(outside: Outside) -> None:
    await anyio.to_process.run_sync(int)


async def connect_by_anyio(outside: Outside) -> None:
    await anyio.connect_tcp("127.0.0.1", 9)


async def signals_by_anyio(outside: Outside) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM):
        pass


async def httpx_by_name(outside: Outside) -> None:
    async with httpx.AsyncClient(verify=False) as client:
        await client.get("http://localhost:9/")


async def httpx_by_address(outside: Outside) -> None:
    async with httpx.AsyncClient(verify=False) as client:
        await client.get("http://127.0.0.1:9/")


# The engine


async def start_an_execution(outside: Outside) -> None:
    await outside.engine.start(other)


async def wait_for_a_result(outside: Outside) -> None:
    await outside.engine.handle("other").result()


CALLS: dict[Call, str] = {
    to_thread: "asyncio.to_thread",
    run_in_executor: "loop.run_in_executor",
    wrap_future: "asyncio.wrap_future",
    call_soon_threadsafe: "loop.call_soon_threadsafe",
    threadsafe_here: "asyncio.run_coroutine_threadsafe",
    threadsafe_there: "asyncio.wrap_future",
    thread_of_anyio: "anyio.to_thread.run_sync",
    thread_of_anyio_in_a_group: "anyio.to_thread.run_sync",
    file_of_anyio: "anyio.to_thread.run_sync",
    run: "`asyncio.run`",
    runner: "asyncio.Runner",
    runner_with: "loop.run_until_complete",
    run_until_complete_here: "loop.run_until_complete",
    run_until_complete_there: "loop.run_until_complete",
    run_of_anyio: "anyio.run",
    stop: "loop.stop",
    a_future_of_outside: "another event loop (Task",
    a_future_of_outside_in_a_group: "another event loop (Task",
    a_task_of_outside: "another event loop (Task",
    a_lock_of_outside: "another event loop (<asyncio.locks.Lock",
    wait_for_outside: "another event loop (",
    wait_outside: "asyncio.wait",
    gather_outside: "another event loop (Task",
    open_connection: "asyncio.open_connection",
    open_connection_raised_from: "asyncio.open_connection",
    start_server: "asyncio.start_server",
    getaddrinfo: "loop.getaddrinfo",
    create_datagram_endpoint: "loop.create_datagram_endpoint",
    sock_recv: "loop.sock_recv",
    add_reader: "loop.add_reader",
    subprocess_exec: "asyncio.create_subprocess_exec",
    subprocess_shell: "asyncio.create_subprocess_shell",
    add_signal_handler: "loop.add_signal_handler",
    process_of_anyio: "asyncio.create_subprocess_exec",
    worker_process_of_anyio: "asyncio.create_subprocess_exec",
    connect_by_anyio: "asyncio.open_connection",
    signals_by_anyio: "loop.add_signal_handler",
    httpx_by_name: "loop.getaddrinfo",
    httpx_by_address: "asyncio.open_connection",
    start_an_execution: "an engine or a handle",
    wait_for_a_result: "an engine or a handle",
}
IN_THE_PROGRAM = "Do it in the program, outside of the workflow"
AND_A_SIGNAL = f"{IN_THE_PROGRAM}, and send it a signal"
ADVICE: dict[Call, str] = {
    stop: IN_THE_PROGRAM,
    call_soon_threadsafe: AND_A_SIGNAL,
    threadsafe_here: AND_A_SIGNAL,
    add_reader: AND_A_SIGNAL,
    add_signal_handler: AND_A_SIGNAL,
    signals_by_anyio: AND_A_SIGNAL,
}
ON_WINDOWS_NOTHING = {add_signal_handler, signals_by_anyio}


@pytest.mark.few(14)
@pytest.mark.filterwarnings("ignore:coroutine 'forever' was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:coroutine '.*shutdown.*' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_it_is_refused_by_its_name_and_the_execution_is_left_as_it_is(call: Call) -> None:
    if sys.platform == "win32" and call in ON_WINDOWS_NOTHING:
        pytest.skip("Windows has no such signals")
    undone: list[int] = []
    around: list[Outside] = []

    @workflow
    async def calls(ctx: WorkflowContext) -> None:
        await ctx.step("before", lambda: 1, compensate=undone.append)
        await call(around[0])

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            async with Outside(engine) as outside:
                around.append(outside)
                threads = set(threading.enumerate())
                with pytest.raises(NonDeterministicCallError) as caught:
                    await asyncio.wait_for(engine.run(calls, execution_id="one"), 30)
                new = set(threading.enumerate()) - threads
            assert not [one for one in new if "AnyIO" in one.name]
            record = await engine.load("one")
            assert record.status is ExecutionStatus.RUNNING
        advice = ADVICE.get(call, "Do it in a step")
        for part in ("a workflow function cannot use", CALLS[call], advice):
            assert part in str(caught.value)
        assert caught.value.call

    asyncio.run(main())
    gc.collect()  # what a loop that could not run leaves to be awaited is warned of in here
    assert undone == []


def test_every_method_of_an_event_loop_is_there_or_refused() -> None:
    """Those of another version of Python, too: else they raise NotImplementedError."""
    methods = [one for one in dir(asyncio.AbstractEventLoop) if not one.startswith("_")]
    assert len(methods) > 40
    for one in methods:
        inherited = getattr(asyncio.AbstractEventLoop, one)
        assert getattr(BodyLoop, one) is not inherited, f"loop.{one}"


@pytest.mark.parametrize(
    "call",
    [to_thread, thread_of_anyio, a_future_of_outside, run],
    ids=lambda call: call.__name__,
)
def test_it_goes_on_with_code_that_does_it_in_a_step(
    call: Call, file: Path, journal: Journal
) -> None:
    async def main(is_right: bool) -> str:
        @workflow(name="calls")
        async def calls(ctx: WorkflowContext) -> str:
            await ctx.step("before", journal.note, "before")
            if not is_right:
                await call(outside)
            return await ctx.step("after", lambda: "after")

        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            async with Outside(engine) as outside, asyncio.timeout(30):
                return await engine.run(calls, execution_id="one")

    with pytest.raises(NonDeterministicCallError):
        asyncio.run(main(False))
    assert asyncio.run(main(True)) == "after"
    assert journal.lines == ["before"]


def test_a_function_may_catch_it_and_go_on_and_the_log_warns_of_it_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def careful(ctx: WorkflowContext) -> list[str]:
        found: list[str] = []
        for call in (to_thread, to_thread, getaddrinfo):
            try:
                await call(None)  # type: ignore[arg-type]
            except NonDeterministicCallError as error:
                found.append(str(error.call))
            await ctx.step("go on", int)
        return [*found, str(await ctx.wait_signal("end"))]

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(careful, execution_id="one")
            while await handle.status() is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0.01)

    async def second_process() -> list[str]:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, [careful]) as engine:
                await engine.handle("one").signal("end", "now")
                found: list[str] = await engine.handle("one").result()
                return found

    def warnings() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]

    asyncio.run(first_process())
    expected = [
        f"workflow 'careful' of execution 'one' called loop.{call}, which is refused"
        for call in ("run_in_executor", "getaddrinfo")
    ]
    assert [one.partition(" in a workflow function")[0] for one in warnings()] == expected
    caplog.clear()
    calls = ["loop.run_in_executor", "loop.run_in_executor", "loop.getaddrinfo"]
    assert asyncio.run(second_process()) == [*calls, "now"]
    assert warnings() == []  # a replay tells nothing anew


async def test_the_log_warns_of_an_engine_that_a_function_tried_and_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @workflow
    async def careless(ctx: WorkflowContext) -> None:
        with suppress(NonDeterministicCallError):
            await engines[0].start(other)

    engines: list[DurableEngine] = []

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        engines.append(engine)
        await engine.run(careless, execution_id="one")
    (said,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert "'careless' of execution 'one' called the engine, which is refused" in said


async def test_what_ends_a_function_is_not_warned_of_beside_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @workflow
    async def ends(ctx: WorkflowContext) -> None:
        await asyncio.to_thread(int)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(NonDeterministicCallError):
            await engine.run(ends, execution_id="one")
    assert [one.levelname for one in caplog.records] == ["ERROR"]


async def of_another_loop() -> None:
    elsewhere = asyncio.new_event_loop()
    try:
        await elsewhere.create_future()
    finally:
        elsewhere.close()


async def runs_within() -> None:
    run_and_close(asyncio.run)


async def refuses() -> None:
    raise NonDeterministicCallError("of a workflow that this action waited for", call="a thread")


async def raises_from_it() -> None:
    try:
        await refuses()
    except NonDeterministicCallError as error:
        raise ValueError("it failed") from error


@pytest.mark.parametrize(
    "action",
    [of_another_loop, runs_within, refuses, raises_from_it],
    ids=lambda action: action.__name__,
)
@pytest.mark.parametrize("in_a_group", [False, True], ids=["alone", "in a group"])
async def test_a_step_that_fails_with_such_an_error_fails_its_workflow(
    action: Callable[[], Awaitable[None]], in_a_group: bool
) -> None:
    @workflow
    async def fails(ctx: WorkflowContext) -> None:
        if not in_a_group:
            await ctx.step("act", action)
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("act", action))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError):
            await asyncio.wait_for(engine.run(fails, execution_id="one"), 30)


@pytest.mark.parametrize(
    "waits",
    [
        lambda: asyncio.Event().wait(),
        lambda: asyncio.Queue().get(),
        lambda: asyncio.Semaphore(0).acquire(),  # as if others held it
        lambda: Thread().answer(),
    ],
    ids=["event", "queue", "semaphore", "thread"],
)
async def test_a_workflow_that_waits_for_what_nothing_can_bring_is_told_so(
    waits: Callable[[], Awaitable[Any]],
) -> None:
    @workflow
    async def stuck(ctx: WorkflowContext) -> None:
        await ctx.step("before", int)
        await waits()

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        async with asyncio.timeout(30):
            with pytest.raises(
                WorkflowStuckError,
                match=r"a lock that another execution holds, or a thread\..*in a step",
            ):
                await engine.run(stuck, execution_id="one")
        assert not (await engine.load("one")).status.is_terminal


class Thread:
    """Answers from a thread of its own, as a driver of a database may do."""

    def __init__(self) -> None:
        self._future = loop().create_future()
        self._thread = threading.Thread(target=self._run)

    async def answer(self) -> Any:
        self._thread.start()
        self._thread.join()
        return await self._future

    def _run(self) -> None:
        with suppress(NonDeterministicCallError):  # nobody is there to be told
            self._future.get_loop().call_soon_threadsafe(self._future.set_result, 1)


async def test_an_executor_that_runs_in_place_is_not_refused() -> None:
    class InPlace(concurrent.futures.Executor):
        runs_in_place = True

    def fails() -> int:
        raise LookupError("no such thing")

    @workflow
    async def calls(ctx: WorkflowContext) -> list[Any]:
        loop = asyncio.get_running_loop()
        thread = await loop.run_in_executor(InPlace(), threading.get_ident)
        try:
            await loop.run_in_executor(InPlace(), fails)
        except LookupError as error:
            return [thread == threading.get_ident(), str(error)]

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(calls) == [True, "no such thing"]
