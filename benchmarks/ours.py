"""What this library does of each work, in a process of its own; prints one JSON object.

python benchmarks/ours.py WORK FILE
"""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

STEPS = 1_000
AT_ONCE, STEPS_EACH = 100, 50
STARTS = 1_000
INTERRUPTED = 1_000
SIGNALS = 200
WAITING = 10_000


async def nothing(number: int) -> int:
    return number


@workflow
async def steps(ctx: WorkflowContext, count: int, _: str = "") -> int:
    for number in range(count):
        await ctx.step("step", nothing, number)
    return count


@workflow
async def no_steps(ctx: WorkflowContext) -> None:
    pass


@workflow
async def half(ctx: WorkflowContext, may_finish: bool) -> int:
    """Ten steps; in its first life it stops after five of them."""
    for number in range(10):
        if number == 5 and not RECOVERING:
            await asyncio.Event().wait()
        await ctx.step("step", nothing, number)
    return 10


RECOVERING = False


@workflow
async def waiting(ctx: WorkflowContext) -> float:
    return await ctx.wait_signal("go", type=float)


@workflow
async def latencies(ctx: WorkflowContext) -> list[float]:
    """How long each signal took from being sent to this running again."""
    taken: list[float] = []
    for _ in range(SIGNALS):
        sent = await ctx.wait_signal("go", type=float)
        taken.append(time.perf_counter() - sent)
    return taken


async def sequential(file: Path, synchronous: Any = "normal") -> dict[str, float]:
    async with SqliteCheckpointStore.file(file, synchronous=synchronous) as store:
        async with DurableEngine(store) as engine:
            await engine.run(steps, 50)
            began = time.perf_counter()
            await engine.run(steps, STEPS)
            return {"per second": STEPS / (time.perf_counter() - began)}


async def at_once(file: Path, synchronous: Any = "normal") -> dict[str, float]:
    async with SqliteCheckpointStore.file(file, synchronous=synchronous) as store:
        async with DurableEngine(store) as engine:
            await engine.run(steps, 50)
            began = time.perf_counter()
            await asyncio.gather(*(engine.run(steps, STEPS_EACH) for _ in range(AT_ONCE)))
            return {"per second": AT_ONCE * STEPS_EACH / (time.perf_counter() - began)}


async def at_once_full(file: Path) -> dict[str, float]:
    return await at_once(file, "full")


async def starts(file: Path) -> dict[str, float]:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.run(no_steps)
        began = time.perf_counter()
        for _ in range(STARTS):
            await engine.run(no_steps)
        return {"per second": STARTS / (time.perf_counter() - began)}


async def recovery(file: Path) -> dict[str, float]:
    global RECOVERING
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            for number in range(INTERRUPTED):
                await engine.start(half, True, execution_id=str(number))
            while await _count(file, "step_checkpoints", "COMPLETED") < 5 * INTERRUPTED:
                await asyncio.sleep(0.01)
        RECOVERING = True
        began = time.perf_counter()
        async with DurableEngine(store, [half], max_concurrent=INTERRUPTED) as engine:
            results = [engine.handle(str(number)).result() for number in range(INTERRUPTED)]
            await asyncio.gather(*results)
            return {"seconds": time.perf_counter() - began}


async def signal(file: Path) -> dict[str, float]:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(latencies)
        for _ in range(SIGNALS):
            await asyncio.sleep(0.005)
            await handle.signal("go", time.perf_counter())
        return {"p50 ms": 1000 * median(await handle.result())}


async def opening(file: Path) -> dict[str, float]:
    """Open a file, and finish ten executions that were interrupted."""
    global RECOVERING
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        for number in range(10):
            await engine.start(half, True, execution_id=f"interrupted {number}")
        await asyncio.sleep(0.1)
    RECOVERING = True
    began = time.perf_counter()
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, [half]) as engine:
            for number in range(10):
                await engine.handle(f"interrupted {number}").result()
            seconds = time.perf_counter() - began
        for number in range(10):
            await store.delete_execution(f"interrupted {number}")
    return {"ms": 1000 * seconds}


async def big_input(file: Path) -> dict[str, float]:
    """Time and log of a step under an input of 1 MB, each divided by those under 1 KB."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.run(steps, 50)
        costs: dict[int, tuple[float, int]] = {}
        for size in (1_000, 1_000_000):
            written = _log_bytes(file)
            began = time.perf_counter()
            await engine.run(steps, STEPS, "x" * size)
            seconds = time.perf_counter() - began
            # The input itself is written once, whatever the steps cost.
            costs[size] = seconds, _log_bytes(file) - written - size
        return {
            "times the time": costs[1_000_000][0] / costs[1_000][0],
            "times the log": costs[1_000_000][1] / costs[1_000][1],
        }


async def long_execution(file: Path) -> dict[str, float]:
    """Time of the last steps of ten thousand, divided by that of the first."""
    took: list[float] = []

    @workflow
    async def ten_thousand(ctx: WorkflowContext) -> None:
        for number in range(10_000):
            began = time.perf_counter()
            await ctx.step("step", nothing, number)
            took.append(time.perf_counter() - began)

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.run(steps, 500)
        await engine.run(ten_thousand)
    return {"times": median(took[-1000:]) / median(took[:1000])}


async def locked_out(file: Path) -> dict[str, float]:
    """The longest turn of the event loop while another process holds the write lock for 3 s."""
    holder = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        " c.execute('begin immediate'); print(flush=True); time.sleep(3); c.execute('rollback')"
    )
    longest = 0.0
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.run(steps, 50)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", holder, str(file), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        handles = [await _soon(engine.start(steps, 5)) for _ in range(20)]
        last = time.perf_counter()
        while process.returncode is None:
            await asyncio.sleep(0)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        for handle in handles:
            await (await handle).result()
    finished = await _count(file, "workflow_executions", "COMPLETED")
    return {"longest ms": 1000 * longest, "lost": 21 - finished}


async def memory(file: Path) -> dict[str, float]:
    """Bytes for each of ten thousand executions that wait for a signal."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        for number in range(100):
            await engine.start(waiting, execution_id=f"first {number}")
        await asyncio.sleep(0.1)
        gc.collect()
        tracemalloc.start()
        for number in range(WAITING):
            await engine.start(waiting, execution_id=str(number))
        while await _count(file, "workflow_executions", "SUSPENDED") < WAITING:
            await asyncio.sleep(0.05)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return {"bytes": kept / WAITING}


async def disk(file: Path) -> dict[str, float]:
    """Bytes of the file for each step, indexes included."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await asyncio.gather(*(engine.run(steps, 1) for _ in range(AT_ONCE)))
    before = file.stat().st_size
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await asyncio.gather(*(engine.run(steps, 200) for _ in range(AT_ONCE)))
    return {"bytes": (file.stat().st_size - before) / (200 * AT_ONCE)}


async def importing(_: Path) -> dict[str, float]:
    """How much longer an interpreter takes to start with the library than without."""

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    pairs = [(seconds("pass"), seconds("import durable_workflow_sqlite")) for _ in range(7)]
    return {"ms": 1000 * median(with_it - bare for bare, with_it in pairs)}


async def _soon(starting: Awaitable[Any]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(starting)


async def _count(file: Path, table: str, status: str) -> int:
    connection = sqlite3.connect(file)
    try:
        query = f"select count(*) from {table} where status = ?"
        (count,) = connection.execute(query, (status,)).fetchone()
        return int(count)
    finally:
        connection.close()


def _log_bytes(file: Path) -> int:
    """Bytes ever written to the log, as the operating system counts them for this process."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    return Path(f"{file}-wal").stat().st_size


WORKS: dict[str, Callable[[Path], Awaitable[dict[str, float]]]] = {
    work.__name__: work
    for work in (
        sequential,
        at_once,
        at_once_full,
        starts,
        recovery,
        signal,
        opening,
        big_input,
        long_execution,
        locked_out,
        memory,
        disk,
        importing,
    )
}

if __name__ == "__main__":
    threading.stack_size()
    print(json.dumps(asyncio.run(WORKS[sys.argv[1]](Path(sys.argv[2])))))
