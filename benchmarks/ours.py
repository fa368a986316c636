"""What this library does of each work, in a process of its own; prints one JSON object.

    python -m benchmarks.ours WORK FILE [--tiny]

A work opens FILE, or makes it, and leaves it as it was but for executions that it finished on a
file of its own. Those that run on a file with history delete what they added.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import json
import os
import signal as signals
import sqlite3
import subprocess
import sys
import time
import tracemalloc
import uuid
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from statistics import median

from packaging.requirements import Requirement

from benchmarks.sizes import TINY, WHOLE, Sizes
from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)
from durable_workflow_sqlite.store.connection import LOG_BYTES, Synchronous

Figures = dict[str, float]

STEPS_IN_HALF, STEPS_BEFORE_THE_END = 10, 5

_stops_halfway = False
_halfway = 0


async def nothing(number: int) -> int:
    return number


async def stops(number: int) -> int:
    """Never returns: the process is killed while this runs."""
    global _halfway
    _halfway += 1
    await asyncio.Event().wait()
    return number


@workflow
async def steps(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.step("step", nothing, number)
    return count


@workflow
async def idempotent_steps(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.step("step", nothing, number, idempotent=True)
    return count


@workflow
async def no_steps(ctx: WorkflowContext) -> None:
    pass


@workflow
async def by_hand(ctx: WorkflowContext, count: int) -> int:
    """What `mapped` does, without `ctx.map`: a hundred steps at a time, each in its branch."""
    numbers = iter(range(count))
    total = 0

    async def work() -> None:
        nonlocal total
        for number in numbers:
            branch = ctx.branch(f"step/{number}")
            got = await branch.step("step", nothing, number)
            total += got

    await asyncio.gather(*(work() for _ in range(100)))
    return total


@workflow
async def mapped(ctx: WorkflowContext, count: int) -> int:
    return sum(await ctx.map("step", nothing, range(count)))


@workflow
async def child(ctx: WorkflowContext, number: int) -> int:
    return number


@workflow
async def parent(ctx: WorkflowContext, count: int) -> int:
    return sum(await ctx.map("child", child, range(count)))


@workflow
async def half(ctx: WorkflowContext) -> int:
    """Ten steps; in the process that is to be killed it stops in the sixth."""
    for number in range(STEPS_IN_HALF):
        is_the_last = _stops_halfway and number == STEPS_BEFORE_THE_END
        await ctx.step("step", stops if is_the_last else nothing, number)
    return STEPS_IN_HALF


@workflow
async def waiting(ctx: WorkflowContext) -> float:
    return await ctx.wait_signal("go", type=float)


@workflow
async def latencies(ctx: WorkflowContext, count: int) -> list[float]:
    """How long each signal took from being sent to this running again."""
    taken: list[float] = []
    for _ in range(count):
        sent = await ctx.wait_signal("go", type=float)
        taken.append(time.perf_counter() - sent)
    return taken


# Steps and starts


async def sequential(file: Path, sizes: Sizes) -> Figures:
    """One execution, from its start to its end."""
    return await _one_after_another(file, sizes, steps)


async def idempotent(file: Path, sizes: Sizes) -> Figures:
    """The same, with steps of which only the outcome is recorded."""
    return await _one_after_another(file, sizes, idempotent_steps)


async def _one_after_another(
    file: Path, sizes: Sizes, definition: WorkflowDefinition[[int], int]
) -> Figures:
    ids = str(uuid.uuid4()), str(uuid.uuid4())
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            await engine.run(definition, sizes.warm_up, execution_id=ids[0])
            began = time.perf_counter()
            await engine.run(definition, sizes.steps, execution_id=ids[1])
            seconds = time.perf_counter() - began
        for execution_id in ids:
            await store.delete_execution(execution_id)
    return {"steps/s": sizes.steps / seconds}


async def at_once(file: Path, sizes: Sizes, synchronous: Synchronous = "normal") -> Figures:
    async with SqliteCheckpointStore.file(file, synchronous=synchronous) as store:
        async with DurableEngine(store) as engine:
            await engine.run(steps, sizes.warm_up)
            began = time.perf_counter()
            runs = (engine.run(steps, sizes.steps_each) for _ in range(sizes.at_once))
            await asyncio.gather(*runs)
            seconds = time.perf_counter() - began
    return {"steps/s": sizes.at_once * sizes.steps_each / seconds}


async def at_once_full(file: Path, sizes: Sizes) -> Figures:
    return await at_once(file, sizes, "full")


async def starts(file: Path, sizes: Sizes) -> Figures:
    """Executions without steps, one after another."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        for _ in range(sizes.warm_up):
            await engine.run(no_steps)
        began = time.perf_counter()
        for _ in range(sizes.starts):
            await engine.run(no_steps)
        seconds = time.perf_counter() - began
    return {"executions/s": sizes.starts / seconds}


async def steps_by_hand(file: Path, sizes: Sizes) -> Figures:
    return {"steps/s": await _rate(file, by_hand, sizes.mapped)}


async def steps_by_map(file: Path, sizes: Sizes) -> Figures:
    return {"steps/s": await _rate(file, mapped, sizes.mapped)}


async def children(file: Path, sizes: Sizes) -> Figures:
    """Children without steps, a hundred at a time, from the start of the parent to its end."""
    return {"children/s": await _rate(file, parent, sizes.children)}


async def _rate(file: Path, definition: WorkflowDefinition[[int], int], count: int) -> float:
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, [child]) as engine:
            await engine.run(definition, 1)
            began = time.perf_counter()
            if await engine.run(definition, count) != sum(range(count)):
                raise RuntimeError("not all of it was done")
            return count / (time.perf_counter() - began)


# Recovery


async def recovery(file: Path, sizes: Sizes) -> Figures:
    """Executions whose process was killed: from opening the file to the last one's end."""
    ids = [f"interrupted {number}" for number in range(sizes.interrupted)]
    _leave_interrupted(file, ids)
    began = time.perf_counter()
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store, [half]) as engine:
        await _results(engine, ids)
        seconds = time.perf_counter() - began
    return {"s": seconds}


async def opening(file: Path, sizes: Sizes) -> Figures:
    """Open a file, and finish ten executions whose process was killed."""
    ids = [f"interrupted {number}" for number in range(sizes.opened)]
    _leave_interrupted(file, ids)
    began = time.perf_counter()
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, [half]) as engine:
            await _results(engine, ids)
            seconds = time.perf_counter() - began
        for execution_id in ids:
            await store.delete_execution(execution_id)
    return {"ms": 1000 * seconds}


def _leave_interrupted(file: Path, ids: list[str]) -> None:
    died = subprocess.run(
        [sys.executable, "-m", "benchmarks.ours", "--interrupt", json.dumps(ids), "-", str(file)],
        check=False,
    )
    if died.returncode != -signals.SIGKILL:
        raise RuntimeError(f"the process to be killed ended by itself: {died.returncode}")


async def _interrupt(file: Path, ids: list[str]) -> None:
    """Run executions up to their sixth step, and die in it."""
    global _stops_halfway
    _stops_halfway = True
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        for execution_id in ids:
            await engine.start(half, execution_id=execution_id)
        while _halfway < len(ids):
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signals.SIGKILL)


async def _results(engine: DurableEngine, ids: list[str]) -> None:
    results = await asyncio.gather(*(engine.handle(one).result() for one in ids))
    if results != [STEPS_IN_HALF] * len(ids):
        raise RuntimeError("not every interrupted execution came to its end")


# Signals


async def signal(file: Path, sizes: Sizes) -> Figures:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(latencies, sizes.signals)
        for _ in range(sizes.signals):
            await asyncio.sleep(0.005)
            await handle.signal("go", time.perf_counter())
        return {"p50 ms": 1000 * median(await handle.result())}


# What a step's cost must not depend on


async def small_input(file: Path, sizes: Sizes) -> Figures:
    return await _steps_under_input(file, sizes, sizes.small_input)


async def big_input(file: Path, sizes: Sizes) -> Figures:
    return await _steps_under_input(file, sizes, sizes.big_input)


async def _steps_under_input(file: Path, sizes: Sizes, input_bytes: int) -> Figures:
    """Time and log of the steps alone: the input itself is written once, at the start."""
    log = Path(f"{file}-wal")

    @workflow
    async def watched(ctx: WorkflowContext, _: str) -> tuple[float, int]:
        for number in range(sizes.warm_up):
            await ctx.step("step", nothing, number)
        began, logged = time.perf_counter(), log.stat().st_size
        for number in range(sizes.input_steps):
            await ctx.step("step", nothing, number)
        return time.perf_counter() - began, log.stat().st_size - logged

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        seconds, logged = await engine.run(watched, "x" * input_bytes)
        if log.stat().st_size > LOG_BYTES:
            raise RuntimeError("the log may have begun anew, so its size tells nothing")
    return {
        "us/step": 1e6 * seconds / sizes.input_steps,
        "log bytes/step": logged / sizes.input_steps,
    }


async def long_execution(file: Path, sizes: Sizes) -> Figures:
    """The last steps of ten thousand against those from the tenth on, the median of either.

    Checkpoints come meanwhile: all steps, and the longest of them, have those in their time.
    """
    took: list[float] = []

    @workflow
    async def long(ctx: WorkflowContext) -> None:
        for number in range(sizes.long_execution):
            began = time.perf_counter()
            await ctx.step("step", nothing, number)
            took.append(time.perf_counter() - began)

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.run(steps, 10 * sizes.warm_up)
        await engine.run(long)
    return {
        "times": median(took[-sizes.window :]) / median(took[10 : 10 + sizes.window]),
        "steps/s": len(took) / sum(took),
        "longest ms": 1000 * max(took),
    }


# The event loop


async def locked_out(file: Path, sizes: Sizes) -> Figures:
    """The longest turn of the event loop while another process holds the write lock."""
    holder = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        " c.execute('begin immediate'); print(flush=True); time.sleep(float(sys.argv[2]));"
        " c.execute('rollback')"
    )
    longest = 0.0
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.run(steps, sizes.warm_up)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", holder, file, str(sizes.locked_s), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        runs = [asyncio.create_task(engine.run(steps, 5)) for _ in range(sizes.locked_out)]
        last = time.perf_counter()
        while process.returncode is None:
            await asyncio.sleep(0)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        await asyncio.gather(*runs)
    written = _count(file, "step_checkpoints", "COMPLETED")
    return {
        "longest ms": 1000 * longest,
        "lost": sizes.warm_up + 5 * sizes.locked_out - written,
    }


# Memory and disk


async def memory(file: Path, sizes: Sizes) -> Figures:
    """What Python holds for each execution that waits for a signal."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        for number in range(min(100, sizes.waiting)):
            await engine.start(waiting, execution_id=f"first {number}")
        await asyncio.sleep(0.1)
        gc.collect()
        tracemalloc.start()
        for number in range(sizes.waiting):
            await engine.start(waiting, execution_id=str(number))
        while _count(file, "workflow_executions", "SUSPENDED") < sizes.waiting:
            await asyncio.sleep(0.05)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return {"bytes each": kept / sizes.waiting}


async def disk(file: Path, sizes: Sizes) -> Figures:
    """What the file grows by for each step, after the log is moved into it."""
    for steps_each in (1, sizes.steps_on_disk):
        before = file.stat().st_size if file.exists() else 0
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            runs = (engine.run(steps, steps_each) for _ in range(sizes.at_once))
            await asyncio.gather(*runs)
        if Path(f"{file}-wal").exists():
            raise RuntimeError("the log is still there, so the file's size is not all")
    return {"bytes/step": (file.stat().st_size - before) / (sizes.at_once * sizes.steps_on_disk)}


# Installing and importing


async def importing(_: Path, sizes: Sizes) -> Figures:
    """How much longer an interpreter takes with the library, and what is installed for it."""

    # Compiled once, as pip leaves it, also where the environment forbids to write that down.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        return time.perf_counter() - began

    seconds("import durable_workflow_sqlite")
    pairs = [
        (seconds("pass"), seconds("import durable_workflow_sqlite")) for _ in range(sizes.imports)
    ]
    return {
        "ms": 1000 * median(with_it - bare for bare, with_it in pairs),
        "distributions": len(_installed_for("durable-workflow-sqlite")),
    }


def _installed_for(name: str) -> set[str]:
    """The distributions that pip installs for one of them, itself included."""
    found = {name}
    for line in importlib.metadata.requires(name) or ():
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            found |= _installed_for(needed.name)
    return found


def _count(file: Path, table: str, status: str) -> int:
    with closing(sqlite3.connect(file)) as connection:
        query = f"select count(*) from {table} where status = ?"
        (count,) = connection.execute(query, (status,)).fetchone()
        return int(count)


WORKS: dict[str, Callable[[Path, Sizes], Awaitable[Figures]]] = {
    work.__name__: work
    for work in (
        sequential,
        idempotent,
        at_once,
        at_once_full,
        starts,
        steps_by_hand,
        steps_by_map,
        children,
        recovery,
        opening,
        signal,
        small_input,
        big_input,
        long_execution,
        locked_out,
        memory,
        disk,
        importing,
    )
}


async def run(work: str, file: Path, sizes: Sizes) -> Figures:
    return await WORKS[work](file, sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description="Do one work, and print its figures.")
    parser.add_argument("work", choices=[*WORKS, "-"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--tiny", action="store_true", help="as little of it as runs")
    parser.add_argument("--interrupt", metavar="IDS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.interrupt is not None:
        asyncio.run(_interrupt(arguments.file, json.loads(arguments.interrupt)))
    else:
        sizes = TINY if arguments.tiny else WHOLE
        print(json.dumps(asyncio.run(run(arguments.work, arguments.file, sizes))))


if __name__ == "__main__":
    main()
