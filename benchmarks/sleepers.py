"""`make bench-sleepers`: a million executions asleep in one file, and one worker that wakes them.

    python -m benchmarks.sleepers [--sleepers N] [--seconds N] [--rate N] [--started N] [--no-page]

A worker is a process of its own. Its memory is what the system says that it has in memory (RSS).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from benchmarks.report import machine, number, table, write_section
from benchmarks.rounds import ROOT, fresh_folder
from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowGuarantee,
    workflow,
)

FEW: Final = 1_000
SLEEPERS: Final = 1_000_000
SECONDS: Final = 60
RATE: Final = 100
STARTED: Final = 100_000
RESIDENT: Final = 100
"""How many of those that are started may stay in memory."""

LEAD_S: Final = 3.0
"""From the worker's beginning to the first that is due."""

PATIENCE_S: Final = 30.0
LATE_MS: Final = 50.0
OPENING_MS: Final = 100.0
GROWTH: Final = 1.1

HOW: Final = ("ctx.sleep_until", "asyncio.sleep")
FAR: Final = datetime(2099, 12, 31, 0, 0, 0, 1, UTC)
TABLES: Final = ("workflow_executions", "step_checkpoints", "workflow_timers")

_late: list[float] = []


@workflow
async def naps(ctx: WorkflowContext, how: str, due: datetime) -> float:
    """Asleep until a time; how many seconds after it the step that follows began."""
    await ctx.step("begin", nothing)
    if how == "asyncio.sleep":
        await asyncio.sleep((due - ctx.now()).total_seconds())
    else:
        await ctx.sleep_until("nap", due)
    return await ctx.step("wake", wake, due)


async def nothing() -> None:
    pass


async def wake(due: datetime) -> float:
    late = (datetime.now(UTC) - due).total_seconds()
    _late.append(late)
    return late


# The file: the library writes one of each kind, and SQL copies their rows


async def fall_asleep(file: Path) -> None:
    """One execution of each kind, as the library leaves it when it is parked."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        for how in HOW:
            handle = await engine.start(naps, how, FAR, execution_id=how)
            while await handle.status() is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0.01)


def build(file: Path, sleepers: int) -> None:
    """Make a file with that many executions that sleep until a time that is years away."""
    asyncio.run(fall_asleep(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = off").fetchall()
        connection.execute("pragma synchronous = off")
        connection.execute("pragma cache_size = -1000000")
        begin = datetime(2090, 1, 1, tzinfo=UTC)
        add(connection, "asleep", sleepers, begin, timedelta(seconds=30))
        connection.execute("pragma synchronous = full")
        connection.execute("pragma journal_mode = wal").fetchall()
    with file.open("rb+") as written:
        os.fsync(written.fileno())  # or the system does it while the clock runs


def add(
    connection: sqlite3.Connection, prefix: str, count: int, first: datetime, apart: timedelta
) -> None:
    """Copy the executions of `fall_asleep`, each with an id and a time of its own."""
    connection.execute("begin")
    connection.execute(
        "create temp table sleeper (n integer primary key, id text, how text, due text)"
    )
    connection.execute(
        """
        with recursive numbers (n, micros) as (
            select 0, :first
            union all
            select n + 1, micros + :apart from numbers where n + 1 < :count
        )
        insert into temp.sleeper (n, id, how, due)
        select
            n,
            printf('%s-%08x-%012x', :prefix, n * 2654435761 & 0xffffffff, n),
            iif(n % 2, :one, :other),
            strftime('%Y-%m-%dT%H:%M:%S', micros / 1000000, 'unixepoch')
            || printf('.%06dZ', micros % 1000000)
        from numbers
        """,
        {
            "first": round(first.timestamp() * 1e6),
            "apart": apart // timedelta(microseconds=1),
            "count": count,
            "prefix": prefix,
            "one": HOW[0],
            "other": HOW[1],
        },
    )
    connection.execute(
        "create temp table template as select workflow_execution_id as id, fire_at"
        " from workflow_timers where workflow_execution_id in (?, ?)",
        HOW,
    )
    for name in TABLES:
        _copy(connection, name)
    connection.execute("drop table temp.sleeper")
    connection.execute("drop table temp.template")
    connection.execute("commit")


def _copy(connection: sqlite3.Connection, name: str) -> None:
    columns = [
        column
        for _, column, *_ in connection.execute(f"pragma table_info({name})")
        if column != "id"  # the rowid
    ]
    far = f"{FAR:%Y-%m-%dT%H:%M:%S.%f}Z"
    values = [
        f"replace(replace(replace(row.{column}, '{far}', sleeper.due),"
        " template.fire_at, sleeper.due), sleeper.how, iif("
        f"'{column}' = 'input_data', sleeper.how, sleeper.id))"
        for column in columns
    ]
    connection.execute(
        f"create temp table row as select * from {name} where workflow_execution_id in (?, ?)", HOW
    )
    connection.execute(
        f"insert into {name} ({', '.join(columns)}) select {', '.join(values)}"
        " from temp.sleeper as sleeper"
        " cross join temp.template as template on template.id = sleeper.how"
        " cross join temp.row as row on row.workflow_execution_id = sleeper.how"
        " order by sleeper.n"
    )
    connection.execute("drop table temp.row")


# The worker


def rss() -> int:
    """The bytes that this process has in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def wake_them(file: Path, expected: int) -> dict[str, Any]:
    """A worker, until that many have woken; how long it took to open, its memory, how late."""
    began = time.perf_counter()
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store, [naps]):
        opening = time.perf_counter() - began
        memory = [rss()]
        heard, at = 0, time.monotonic()
        while len(_late) < expected and time.monotonic() - at < PATIENCE_S:
            await asyncio.sleep(0.5)
            memory.append(rss())
            if len(_late) > heard:
                heard, at = len(_late), time.monotonic()
    return {"opening s": opening, "memory": memory, "late": _late}


async def only_sleep(file: Path, expected: int) -> dict[str, Any]:
    """An event loop that sleeps until the same times, and does nothing: what the machine allows."""
    with closing(sqlite3.connect(file)) as connection:
        times = connection.execute(
            "select fire_at from workflow_timers where status = 'PENDING' order by fire_at limit ?",
            (expected,),
        ).fetchall()
    late: list[float] = []
    for (text,) in times:
        due = datetime.fromisoformat(text)
        while (left := (due - datetime.now(UTC)).total_seconds()) > 0:
            await asyncio.sleep(left)
        late.append(-left)
    return {"late": late}


async def start_them(file: Path, count: int) -> dict[str, Any]:
    """A worker that starts so many, and keeps few in memory; its memory meanwhile."""
    memory: list[int] = []
    began = time.perf_counter()
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, max_resident=RESIDENT) as engine,
    ):
        # One that stays in memory, and wakes before all others.
        stays = WorkflowGuarantee.FOREGROUND_ONLY
        soon = datetime.now(UTC) + timedelta(days=1)
        await engine.start(naps, HOW[0], soon, guarantee=stays)
        for one in range(count):
            await engine.start(naps, HOW[one % 2], FAR + one * timedelta(seconds=1))
            if one % (count // 20 or 1) == 0:
                memory.append(rss())
        seconds = time.perf_counter() - began
    return {"memory": memory, "executions/s": count / seconds}


def in_processes(works: Sequence[str], file: Path, count: int) -> list[dict[str, Any]]:
    """What each of some works gave, all of them at once."""
    command = [sys.executable, "-m", "benchmarks.sleepers"]
    started = [
        subprocess.Popen(
            [*command, "--work", work, str(file), str(count)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for work in works
    ]
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{works} do not work here")
    return [json.loads(one.splitlines()[-1]) for one in said]


def measure_waking(file: Path, sleepers: int, seconds: float, rate: float) -> dict[str, Any]:
    build(file, sleepers)
    due = round(seconds * rate)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        first = datetime.now(UTC) + timedelta(seconds=LEAD_S)
        add(connection, "due", due, first, timedelta(seconds=1) / rate)
    figures, bare = in_processes(["wake", "sleep"], file, due)
    if len(figures["late"]) != due:
        raise SystemExit(f"{len(figures['late'])} of {due} woke")
    return {**figures, "bare": bare["late"]}


def measure_starting(file: Path, count: int) -> dict[str, Any]:
    (figures,) = in_processes(["start"], file, count)
    return figures


# What is said of it


def measure(sleepers: int, seconds: float, rate: float, started: int) -> str:
    rows: list[tuple[str, str, str, str]] = []

    def add_row(work: str, target: str, measured: str, is_met: bool) -> None:
        rows.append((work, target, measured, "met" if is_met else "**not met**"))
        print(work, measured, flush=True)

    def run(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        with fresh_folder() as folder:
            return work(folder / "sleepers.db", *arguments)

    few = run(measure_waking, FEW, seconds, rate)
    many = run(measure_waking, sleepers, seconds, rate)
    at_work = f"{sleepers:,} executions asleep, {number(rate)} of them due in each second"
    late = sorted(1000 * one for one in many["late"])
    add_row(
        f"{at_work}, for {number(seconds)} s: the step after the sleep begins",
        f"each within {number(LATE_MS)} ms of its time",
        f"{number(median(late))} ms late in the middle, {number(quantiles(late, n=100)[98])} ms"
        f" 99 of 100, {number(late[-1])} ms the last of {len(late):,} (an event loop beside it that"
        f" only sleeps: {number(1000 * max(many['bare']))} ms)",
        late[-1] <= LATE_MS,
    )
    opening = 1000 * many["opening s"]
    add_row(
        "the same: opening the file and the engine",
        f"at most {number(OPENING_MS)} ms",
        f"{number(opening)} ms ({number(1000 * few['opening s'])} ms with {FEW:,} asleep)",
        opening <= OPENING_MS,
    )
    most, with_few = max(many["memory"]), max(few["memory"])
    add_row(
        "the same: the worker's memory",
        f"at most {number(GROWTH)} times that with {FEW:,} asleep",
        f"{_mb(many['memory'][0])} MB when it was open, {_mb(most)} MB at the most"
        f" ({_mb(with_few)} MB with {FEW:,} asleep)",
        most <= GROWTH * with_few,
    )
    start = run(measure_starting, started)
    memory = start["memory"]
    tenth = max(memory[: max(len(memory) // 10, 1) + 1])
    add_row(
        f"starting {started:,} executions that fall asleep, `max_resident` {RESIDENT}",
        f"the worker's memory at most {number(GROWTH)} times that after the first tenth",
        f"{_mb(tenth)} MB after a tenth, {_mb(max(memory))} MB at the most;"
        f" {number(start['executions/s'])} executions/s",
        max(memory) <= GROWTH * tenth,
    )
    return table(("work", "target", "measured", ""), rows)


def _mb(size: float) -> str:
    return number(size / 1e6)


WORKS: Final = {"wake": wake_them, "sleep": only_sleep, "start": start_them}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a worker whose executions sleep.")
    parser.add_argument("--sleepers", type=int, default=SLEEPERS, help="how many sleep for long")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long some wake up")
    parser.add_argument("--rate", type=float, default=RATE, help="how many in a second")
    parser.add_argument("--started", type=int, default=STARTED, help="how many are started")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    parser.add_argument("--work", nargs=3, metavar=("WORK", "FILE", "N"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work, file, count = arguments.work
        print(json.dumps(asyncio.run(WORKS[work](Path(file), int(count)))))
        return
    about = machine()
    began = time.monotonic()
    sizes = arguments.sleepers, arguments.seconds, arguments.rate, arguments.started
    text = f"{about}\n\n{measure(*sizes)}"
    print(text)
    if not arguments.no_page:
        write_section("bench-sleepers", text)
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
