"""kill -9 of workers that share queues and limits: at no instant does more run than is allowed."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ExecutionStatus,
    Limit,
    Queue,
    Rate,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)
from tests.faults.reliability import FULL
from tests.processes import Child

WORKERS = 4
EXECUTIONS = 20_000 if FULL else 160
RATE = Rate(50, timedelta(seconds=1))
AT_ONCE = {"three": 3, "ten": 10, "api": 4}
FAILS = 0.05
IN_A_WHILE = RetryPolicy.fixed(max_attempts=None, delay=timedelta(seconds=0.15))
"""Long enough that a back-off holds no slot of a queue."""
KILL_AFTER_S = (0.05, 0.6)
ROUND_LIMIT_S = 3600 if FULL else 90


class Log:
    """When what began and ended, of all workers; in the order of the clock that they share."""

    def __init__(self, path: Path, worker: int) -> None:
        """worker: its number. The system gives the id of a dead process to another one."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._worker = worker

    def note(self, what: str, kind: str) -> None:
        os.write(self._file, f"{time.monotonic_ns()} {self._worker} {kind} {what}\n".encode())

    @asynccontextmanager
    async def running(self, *limits: str) -> AsyncIterator[None]:
        for one in limits:
            self.note(one, "begins")
        try:
            yield
        finally:
            for one in limits:
                self.note(one, "ends")


def works(log: Log) -> list[WorkflowDefinition[..., Any]]:
    async def act(limits: list[str], seconds: float) -> None:
        async with log.running(*limits):
            await asyncio.sleep(seconds)
            if random.random() < FAILS:
                raise ConnectionError("in a while")

    @workflow
    async def limited(ctx: WorkflowContext, queue: str, seconds: float) -> None:
        await ctx.step("first", act, [queue], seconds, retry=IN_A_WHILE)
        await ctx.sleep("wait", timedelta(seconds=seconds))
        await ctx.step("call", act, [queue, "api"], seconds, limit="api", retry=IN_A_WHILE)

    @workflow
    async def starts(ctx: WorkflowContext) -> None:
        await ctx.step("start", act, [], 0.0, retry=IN_A_WHILE)

    return [limited, starts]


def be_born(folder: Path, worker: int) -> Callable[[Callable[[str], None]], None]:
    async def work() -> None:
        workflows = works(Log(folder / "log", worker))
        async with (
            SqliteCheckpointStore.file(folder / "workflows.db") as store,
            DurableEngine(store, workflows, park_after=timedelta(seconds=0.02)),
        ):
            while not _is_done(folder / "workflows.db"):
                await asyncio.sleep(0.05)

    return lambda _: asyncio.run(work())


def _is_done(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as connection:
        left = connection.execute(
            "select exists (select 1 from workflow_executions where status in"
            " ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING'))"
        )
        return not left.fetchone()[0]


async def _enqueue(folder: Path, dice: random.Random) -> None:
    limited, starts = works(Log(folder / "log", 0))
    async with SqliteCheckpointStore.file(folder / "workflows.db") as store:
        client = Client(store)
        await client.declare(
            Queue("three", concurrency=3),
            Queue("ten", concurrency=10),
            Queue("rate", rate=RATE),
            Limit("api", concurrency=AT_ONCE["api"]),
        )
        for number in range(EXECUTIONS):
            if number % 4 == 3:
                await client.enqueue(starts, queue="rate")
            else:
                queue = "three" if number % 4 == 0 else "ten"
                await client.enqueue(limited, queue, dice.uniform(0, 0.02), queue=queue)


@pytest.mark.campaign
@pytest.mark.faults
def test_limits_hold_while_workers_are_killed(tmp_path: Path, counts: Counter[str]) -> None:
    dice = random.Random(int(os.environ["DURABLE_SEED"]))
    assert Child(lambda _: asyncio.run(_enqueue(tmp_path, dice))).is_killed_in_the_end() is False
    crew: list[tuple[int, Child]] = []
    numbers = itertools.count(1)
    died_at: dict[int, int] = {}
    began = time.monotonic()
    try:
        while not _is_done(tmp_path / "workflows.db"):
            assert time.monotonic() - began < ROUND_LIMIT_S, "it does not come to an end"
            born = [next(numbers) for _ in range(WORKERS - len(crew))]
            crew += [(number, Child(be_born(tmp_path, number))) for number in born]
            time.sleep(dice.uniform(*KILL_AFTER_S))
            number, victim = crew.pop(dice.randrange(len(crew)))
            died_at[number] = time.monotonic_ns()
            with suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
            victim.is_killed_in_the_end()
    finally:
        for _, child in crew:
            child.kill()
    counts["kills beside limits"] += len(died_at)
    counts["executions under limits"] += EXECUTIONS
    most = Counter(dict(_most(tmp_path / "log", died_at)))
    for limit, at_once in AT_ONCE.items():
        assert 1 < most[limit] <= at_once, most
    with closing(sqlite3.connect(tmp_path / "workflows.db")) as connection:
        statuses = connection.execute(
            "select status, count(*) from workflow_executions group by status"
        ).fetchall()
        assert statuses == [(ExecutionStatus.COMPLETED.value, EXECUTIONS)]
        starts = [
            datetime.fromisoformat(text).astimezone(UTC)
            for (text,) in connection.execute(
                "select started_at from workflow_executions where queue = 'rate'"
                " order by started_at"
            )
        ]
        for table in ("workflow_claims", "workflow_step_slots"):
            left = connection.execute(
                f"select count(*) from {table} as left_over where exists (select 1 from"
                " workflow_claims where workflow_claims.fencing_token = left_over.fencing_token)"
            )
            assert left.fetchone() == (0,)
    for first, later in zip(starts, starts[RATE.number :], strict=False):
        assert later - first >= 0.98 * RATE.period


def _most(path: Path, died_at: dict[int, int]) -> Iterator[tuple[str, int]]:
    """Of each limit, the most that ran at one instant. What was cut off ran until its kill."""
    events: list[tuple[int, int, str]] = []
    open_ones: Counter[tuple[int, str]] = Counter()
    for line in path.read_text().splitlines():
        at, worker, kind, limit = line.split()
        change = 1 if kind == "begins" else -1
        open_ones[int(worker), limit] += change
        events.append((int(at), change, limit))
    for (worker, limit), number in open_ones.items():
        assert number == 0 or worker in died_at, "it did not end, and nobody killed it"
        if number:
            events += [(died_at[worker], -1, limit)] * number
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for _, change, limit in sorted(events):
        running[limit] += change
        most[limit] = max(most[limit], running[limit])
    yield from most.items()
