"""Scripts that use the blocking API as scripts do, each to be run in a process of its own.

python -m tests.blocking.programs NAME FILE [SYNCHRONOUS]
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import durable_workflow_sqlite as async_api
from durable_workflow_sqlite import (
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.blocking import DurableEngine, loop_thread, open_store


def ready() -> None:
    """Tell the test that now is the time."""
    print("ready", flush=True)


@workflow
async def approval(ctx: WorkflowContext, order_id: str) -> str:
    first = await ctx.step("first", lambda: 1)
    by = await ctx.wait_signal("approved", type=str)
    return f"{order_id} {first} {by}"


@workflow
async def counting(ctx: WorkflowContext) -> int:
    """Many steps in threads, so that any moment is in the middle of one."""
    total = 0
    for _ in range(100_000):
        total += await ctx.step("one", lambda: 1)
    return total


async def hang() -> int:
    ready()
    await asyncio.sleep(3600)
    return 1


def pause(seconds: float) -> int:
    ready()
    time.sleep(seconds)
    return 1


async def hold_on() -> int:
    """An action that will not be cancelled."""
    ready()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)
    return 1


@workflow
async def hanging(ctx: WorkflowContext) -> int:
    return await ctx.step("hang", hang)


@workflow
async def pausing(ctx: WorkflowContext, seconds: float = 0.5) -> int:
    return await ctx.step("pause", pause, seconds)


@workflow
async def holding_on(ctx: WorkflowContext) -> int:
    return await ctx.step("hold on", hold_on)


@workflow
async def exiting(ctx: WorkflowContext) -> None:
    await ctx.step("exit", lambda: 1)
    sys.exit(3)


has_begun = threading.Event()


def never_answer() -> int:
    ready()
    has_begun.set()
    threading.Event().wait()
    return 1


@workflow
async def calling(ctx: WorkflowContext) -> int:
    return await ctx.step("call", never_answer)


ALL = [approval, counting, hanging, pausing, holding_on, exiting, calling]


class Program:
    def __init__(self, file: str, synchronous: Any = "normal") -> None:
        self.file = file
        self.store = open_store(file, synchronous=synchronous)
        self.engine = DurableEngine(self.store, workflows=ALL)

    def run(self) -> None:
        """Wait for a result that does not come."""
        with self.store, self.engine as engine:
            threading.Timer(0.3, ready).start()
            engine.run(approval, "A-1", execution_id="one")

    def result(self) -> None:
        with self.store, self.engine as engine:
            handle = engine.start(approval, "A-1", execution_id="one")
            threading.Timer(0.3, ready).start()
            handle.result(timedelta(hours=1))

    def observe(self) -> None:
        with self.store, self.engine as engine:
            engine.start(approval, "A-1", execution_id="one")
            threading.Timer(0.3, ready).start()
            for _ in engine.observe("one"):
                pass

    def go_on(self) -> None:
        """An interrupted wait, as at a prompt: everything still works after it."""
        with self.store, self.engine as engine:
            threading.Timer(0.3, ready).start()
            try:
                engine.run(approval, "A-1", execution_id="one")
            except KeyboardInterrupt:
                engine.send_signal("one", "approved", "kim")
                print(engine.run(approval, "A-1", execution_id="one"))

    def end_in_wait(self) -> None:
        """End without closing anything."""
        self.engine.open()
        self.engine.start(approval, "A-1", execution_id="one")

    def end_in_steps(self) -> None:
        self.engine.open()
        for number in range(20):
            self.engine.start(counting, execution_id=f"{number}")
        time.sleep(0.2)

    def end_in_async_action(self) -> None:
        self.engine.open()
        self.engine.start(hanging, execution_id="one")
        time.sleep(0.3)

    def end_in_sync_action(self) -> None:
        self.engine.open()
        self.engine.start(pausing, execution_id="one")
        time.sleep(0.3)

    def end_in_stubborn_action(self) -> None:
        loop_thread.EXIT_MAY_TAKE_S = 0.5  # type: ignore[misc]
        self.engine.open()
        self.engine.start(holding_on, execution_id="one")
        time.sleep(0.3)

    def end_in_long_sync_action(self) -> None:
        loop_thread.EXIT_MAY_TAKE_S = 1.0  # type: ignore[misc]
        self.engine.open()
        self.engine.start(pausing, 3.0, execution_id="one")
        time.sleep(0.3)

    def call(self) -> None:
        """Wait for what never answers, in a thread."""
        with self.store, self.engine as engine:
            engine.run(calling, execution_id="one")

    def end_in_call(self) -> None:
        self.engine.open()
        self.engine.start(calling, execution_id="one")
        has_begun.wait()

    def call_in_asyncio(self) -> None:
        behind = async_api.open_store(self.file)

        async def work() -> None:
            async with behind, async_api.DurableEngine(behind, ALL) as engine:
                await engine.run(calling, execution_id="one")

        asyncio.run(work())

    def end_by_error(self) -> None:
        self.engine.open()
        self.engine.start(approval, "A-1", execution_id="one")
        raise ValueError("the script is wrong")

    def end_with_a_thread_in_a_call(self) -> None:
        """A daemon thread waits for a result as the main thread ends."""
        self.engine.open()
        handle = self.engine.start(approval, "A-1", execution_id="one")

        def wait() -> None:
            try:
                handle.result()
            except Exception as error:
                print(type(error).__name__, flush=True)

        threading.Thread(target=wait).start()
        time.sleep(0.1)

    def end_beside_a_loop(self) -> None:
        """The async API in a daemon thread of one's own, which nobody closes."""
        behind = async_api.open_store(self.file)

        async def work() -> None:
            async with async_api.DurableEngine(behind, ALL) as engine:
                for number in range(20):
                    await engine.start(counting, execution_id=f"{number}")
                await asyncio.sleep(3600)

        threading.Thread(target=asyncio.run, args=(work(),), daemon=True).start()
        # Executors take no more work as soon as the main thread ends, and this goes on.
        threading.Thread(target=time.sleep, args=(1,)).start()
        time.sleep(0.3)

    def exit_in_workflow(self) -> None:
        with self.store, self.engine as engine:
            try:
                engine.run(exiting, execution_id="one")
            except WorkflowCodeError as error:
                print(f"WorkflowCodeError: {error.__cause__!r}")

    def fork(self) -> None:
        """A child that tries to use what it has been left, and one that just ends."""
        with self.store, self.engine as engine:
            handle = engine.start(approval, "A-1", execution_id="one")
            child = os.fork()
            if child == 0:
                for call in (handle.status, lambda: self.store.load_execution("one")):
                    try:
                        call()
                    except RuntimeError as error:
                        print(f"child: {error}", flush=True)
                # On the way out, `with` closes engine and store.
                return
            _, status = os.waitpid(child, 0)
            print(f"child ended with {status}", flush=True)
            engine.send_signal("one", "approved", "kim")
            print(f"parent: {handle.result()}", flush=True)


def finish(file: str) -> dict[str, str]:
    """What comes of the executions in a later process, by their ids."""
    ended: dict[str, str] = {}
    with open_store(file) as store, DurableEngine(store, workflows=ALL) as engine:
        try:
            engine.send_signal("one", "approved", "kim")
            ended["one"] = engine.handle("one").result(timedelta(seconds=20))
        except WorkflowFailedError as error:
            ended["one"] = str(error)
    return ended


if __name__ == "__main__":
    _, name, *arguments = sys.argv
    getattr(Program(*arguments), name)()
