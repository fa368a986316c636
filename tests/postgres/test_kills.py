"""Workers on PostgreSQL are killed, again and again: each execution ends, and no step is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from durable_workflow_sqlite import Client, ExecutionStatus

if TYPE_CHECKING:
    from durable_workflow_sqlite.postgres.store import PostgresStore

pytestmark = [pytest.mark.campaign, pytest.mark.crash]

EXECUTIONS = 30
KILLS = 6
AT_ONCE = 4
"""How many executions a worker runs at once, each of which may be cut off in a step."""


@pytest.fixture(params=["the server", "a pooler"])
def url_of_workers(request: pytest.FixtureRequest, url: str) -> Generator[str]:
    if request.param == "the server":
        yield url
        return
    from tests.postgres.pooler import running_pooler

    with running_pooler(url) as pooled:
        yield pooled


async def test_each_execution_ends_however_often_workers_are_killed(
    url_of_workers: str, schema: str, open_store: Callable[[], PostgresStore], tmp_path: Path
) -> None:
    from tests.postgres.worker import STEPS, journey

    made_up = random.Random(int(os.environ["DURABLE_SEED"]))
    journal = tmp_path / "journal"
    journal.touch()
    program = [sys.executable, "-m", "tests.postgres.worker", url_of_workers, schema, str(journal)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(program)

    def lines() -> list[str]:
        return journal.read_text().splitlines()

    async with open_store() as store:
        table = f"{schema}.own_rows"
        await store.write(
            lambda one: one.execute(f"create table {table} (execution text, number integer)")
        )
        client = Client(store)
        handles = [await client.enqueue(journey) for _ in range(EXECUTIONS)]
        ids = [one.execution_id for one in handles]
        workers = [start() for _ in range(2)]
        try:
            for _ in range(KILLS):
                enough = len(lines()) + made_up.randint(1, EXECUTIONS * STEPS // KILLS)
                while len(lines()) < min(enough, EXECUTIONS * STEPS):
                    await asyncio.sleep(0.02)
                victim = made_up.choice(workers)
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                workers[workers.index(victim)] = start()
            results = [await one.result() for one in handles]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        assert results == [STEPS] * EXECUTIONS
        done = await store.load_executions_by_status([ExecutionStatus.COMPLETED])
        assert sorted(one.workflow_execution_id for one in done) == sorted(ids)
        rows = await store.read(lambda one: one.execute(f"select * from {table}").fetchall())
        assert sorted(rows) == sorted((one, number) for one in ids for number in range(STEPS))
        runs = Counter(lines())
        assert runs.keys() == {f"{one} {number}" for one in ids for number in range(STEPS)}
        assert runs.total() - len(runs) <= KILLS * AT_ONCE
        assert max(runs.values()) <= 1 + KILLS
