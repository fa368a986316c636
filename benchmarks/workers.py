"""`make bench-workers`: several processes on one file, and what must be reached.

python -m benchmarks.workers [--no-page]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks import worker_app
from benchmarks.report import machine, number, table, write_section
from benchmarks.rounds import ROOT, fresh_folder
from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore, WorkflowContext, workflow

INTERRUPTED, ROUNDS = 500, 20
MESSAGES = 200
DEATHS = 10
EXECUTIONS, STEPS_EACH = 200, 50


@contextmanager
def workers(file: Path, count: int, *options: str) -> Generator[list[subprocess.Popen[bytes]]]:
    """Worker processes that are ready to run."""
    command = [sys.executable, "-m", "durable_workflow_sqlite", "worker", str(file)]
    started = [
        subprocess.Popen(
            [*command, "--app", "benchmarks.worker_app", *options],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stderr is not None
            while (said := process.stderr.readline()) and b" runs " not in said:
                pass
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


def interrupt(file: Path) -> None:
    """Leave executions behind that a process had in its hands when it was killed."""
    child = os.fork()
    if child == 0:
        asyncio.run(_start_and_die(file))
    os.waitpid(child, 0)


async def _start_and_die(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        for number in range(INTERRUPTED):
            await engine.start(worker_app.slow, execution_id=str(number))
        os.kill(os.getpid(), signal.SIGKILL)


async def shares(file: Path) -> tuple[float, int]:
    """The smaller of two workers' shares of what was interrupted; steps committed twice."""
    interrupt(file)
    with workers(file, 2) as pair:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            ran = Counter([await engine.handle(str(n)).result() for n in range(INTERRUPTED)])
    with closing(sqlite3.connect(file)) as connection:
        (twice,) = connection.execute(
            "select count(*) from (select 1 from step_checkpoints where status = 'COMPLETED'"
            " group by workflow_execution_id, branch, step_index having count(*) > 1)"
        ).fetchone()
    return min(ran[one.pid] for one in pair) / INTERRUPTED, int(twice)


async def signals(file: Path) -> list[float]:
    with workers(file, 1):
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.enqueue(worker_app.echo, MESSAGES)
            for _ in range(MESSAGES):
                await asyncio.sleep(0.03)
                await handle.signal("go", time.time())
            return await handle.result()


async def results(file: Path) -> list[float]:
    taken: list[float] = []
    with workers(file, 1):
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for _ in range(MESSAGES):
                await asyncio.sleep(0.03)
                began = time.perf_counter()
                await (await engine.enqueue(worker_app.who)).result()
                taken.append(time.perf_counter() - began)
    return taken


async def takeover(file: Path) -> float:
    """From the death of a worker to its step running in another."""
    with workers(file, 1) as (first,):
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.enqueue(worker_app.long)
            await _attempts(store, handle.execution_id, 1)
            with workers(file, 1):
                first.kill()
                began = time.perf_counter()
                await _attempts(store, handle.execution_id, 2)
                return time.perf_counter() - began


async def _attempts(store: SqliteCheckpointStore, execution_id: str, count: int) -> None:
    while len(await store.load_checkpoints(execution_id)) < count:
        await asyncio.sleep(0.002)


async def throughput(file: Path, count: int) -> float:
    """Steps a second of so many workers, from the first step's beginning to the last one's end."""

    @workflow(name="steps")
    async def steps(ctx: WorkflowContext, count: int) -> int:
        raise NotImplementedError  # it runs in the workers

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handles = [await engine.enqueue(steps, STEPS_EACH) for _ in range(EXECUTIONS)]
        with workers(file, count):
            await asyncio.gather(*(handle.result() for handle in handles))
    with closing(sqlite3.connect(file)) as connection:
        (seconds,) = connection.execute(
            "select (julianday(max(completed_at)) - julianday(min(started_at))) * 86400"
            " from step_checkpoints"
        ).fetchone()
    return EXECUTIONS * STEPS_EACH / float(seconds)


def measure() -> str:
    rows: list[tuple[str, str, str, str]] = []

    def add(work: str, target: str, measured: str, is_met: bool) -> None:
        rows.append((work, target, measured, "met" if is_met else "**not met**"))
        print(work, measured, flush=True)

    def run(work: Any, *arguments: Any) -> Any:
        with fresh_folder() as folder:
            return asyncio.run(work(folder / "workers.db", *arguments))

    parts = [run(shares) for _ in range(ROUNDS)]
    least, twice = min(share for share, _ in parts), sum(twice for _, twice in parts)
    add(
        f"two processes starting at once, {INTERRUPTED} interrupted executions, {ROUNDS} rounds",
        "every step committed once; shared at least 30:70",
        f"{twice} committed twice; the smaller share {number(100 * least)} % at the least,"
        f" {number(100 * median(share for share, _ in parts))} % in the middle",
        not twice and least >= 0.3,
    )
    deaths = [run(takeover) for _ in range(DEATHS)]
    add(
        f"kill -9 of one of two workers, {DEATHS} times",
        "its execution runs on in the other within 1 s",
        f"{number(median(deaths))} s in the middle, {number(max(deaths))} s at the most",
        max(deaths) <= 1,
    )
    sent = [1000 * one for one in run(signals)]
    p50, p99 = median(sent), quantiles(sent, n=100)[98]
    add(
        "signal from another process to the workflow running on",
        "p50 at most 15 ms, p99 at most 60 ms",
        f"p50 {number(p50)} ms, p99 {number(p99)} ms",
        p50 <= 15 and p99 <= 60,
    )
    p50 = median(1000 * one for one in run(results))
    add(
        "enqueued in one process, run in another, the result awaited in the first",
        "p50 at most 30 ms",
        f"p50 {number(p50)} ms",
        p50 <= 30,
    )
    ratios: list[float] = []
    rates: list[tuple[float, float]] = []
    for _ in range(5):
        one, four = run(throughput, 1), run(throughput, 4)
        rates.append((one, four))
        ratios.append(four / one)
    add(
        "four worker processes on two cores, steps that do nothing",
        "steps/s not below 0.7 of one process",
        f"{number(median(ratios))} ({number(min(ratios))} to {number(max(ratios))}):"
        f" {number(median(four for _, four in rates))} against"
        f" {number(median(one for one, _ in rates))} steps/s",
        median(ratios) >= 0.7,
    )
    return table(("work", "target", "measured", ""), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure several processes on one file.")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    arguments = parser.parse_args()
    about = machine()
    began = time.monotonic()
    text = f"{about}\n\n{measure()}"
    print(text)
    if not arguments.no_page:
        write_section("bench-workers", text)
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
