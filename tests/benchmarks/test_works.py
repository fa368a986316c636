"""The benchmarks run, and compare like with like; how fast is for `make bench` to say."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from benchmarks import floor, ours, pairs
from benchmarks.sizes import TINY

from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore, WorkflowDefinition

ROOT = Path(__file__).parents[2]

KEYS = {
    "ours.sequential": {"steps/s"},
    "ours.idempotent": {"steps/s"},
    "ours.at_once": {"steps/s"},
    "ours.at_once_full": {"steps/s"},
    "ours.starts": {"executions/s"},
    "ours.steps_by_hand": {"steps/s"},
    "ours.steps_by_map": {"steps/s"},
    "ours.children": {"children/s"},
    "ours.recovery": {"s"},
    "ours.opening": {"ms"},
    "ours.signal": {"p50 ms"},
    "ours.small_input": {"us/step", "log bytes/step"},
    "ours.big_input": {"us/step", "log bytes/step"},
    "ours.long_execution": {"times", "steps/s", "longest ms"},
    "ours.locked_out": {"longest ms", "lost"},
    "ours.memory": {"bytes each"},
    "ours.disk": {"bytes/step"},
    "ours.importing": {"ms", "distributions"},
    "floor.sequential": {"steps/s"},
    "floor.idempotent": {"steps/s"},
    "floor.at_once": {"steps/s"},
    "floor.starts": {"executions/s"},
}


class RecordingConnection(sqlite3.Connection):
    """Keeps every statement that is sent, in order."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sent: list[str] = []

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self.sent.append(sql)
        return super().execute(sql, *parameters)

    def executemany(self, sql: str, rows: Iterable[Any]) -> sqlite3.Cursor:
        sent = list(rows)
        self.sent += [sql] * len(sent)
        return super().executemany(sql, sent)


def recording(file: Path) -> RecordingConnection:
    return sqlite3.connect(
        file, isolation_level=None, check_same_thread=False, factory=RecordingConnection
    )


def transactions(sent: list[str]) -> list[list[str]]:
    """The statements of each transaction; what is sent outside of one only reads."""
    found: list[list[str]] = []
    is_open = False
    for sql in sent:
        if sql == "begin immediate":
            found.append([])
            is_open = True
        elif sql.startswith("commit"):
            is_open = False
        elif is_open:
            found[-1].append(sql)
    return found


async def run_ours(
    file: Path,
    executions: int,
    steps: int,
    definition: WorkflowDefinition[[int], int] = ours.steps,
) -> list[list[str]]:
    connection = recording(file)
    async with SqliteCheckpointStore(connection) as store, DurableEngine(store) as engine:
        await engine.run(definition, 1)  # the first one writes the definition, too
        connection.sent.clear()
        await asyncio.gather(*(engine.run(definition, steps) for _ in range(executions)))
        sent = list(connection.sent)
    connection.close()
    return transactions(sent)


def test_every_work_is_listed_here() -> None:
    works = {f"ours.{name}" for name in ours.WORKS} | {f"floor.{name}" for name in floor.WORKS}
    assert works == set(KEYS)


@pytest.mark.campaign
@pytest.mark.parametrize("work", KEYS)
def test_a_work_runs_and_gives_its_figures(work: str, tmp_path: Path) -> None:
    side, name = work.split(".")
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{side}", name, tmp_path / "work.db", "--tiny"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) == KEYS[work]
    assert figures.get("lost", 0) == 0


@pytest.mark.few(2)
@pytest.mark.parametrize("work", pairs.WORKS)
def test_two_works_are_compared(work: str, tmp_path: Path) -> None:
    figures = asyncio.run(pairs.run(work, tmp_path / "work.db", pairs.TINY))
    assert set(figures) == {"times", "us", "us without"}
    assert figures["times"] > 0


def test_the_floor_runs_the_transactions_of_one_execution(tmp_path: Path) -> None:
    sent_by_ours = asyncio.run(run_ours(tmp_path / "ours.db", executions=1, steps=3))
    connection = recording(tmp_path / "floor.db")
    floor.prepare(connection)
    connection.sent.clear()
    floor.run_one(connection, 3)
    sent_by_floor = transactions(connection.sent)
    connection.close()
    assert sent_by_floor == sent_by_ours
    assert len(sent_by_floor) == 1 + 2 * 3 + 1


def test_the_floor_runs_the_transactions_of_idempotent_steps(tmp_path: Path) -> None:
    sent_by_ours = asyncio.run(
        run_ours(tmp_path / "ours.db", executions=1, steps=3, definition=ours.idempotent_steps)
    )
    connection = recording(tmp_path / "floor.db")
    floor.prepare(connection)
    connection.sent.clear()
    floor.run_one(connection, 3, writes=1)
    sent_by_floor = transactions(connection.sent)
    connection.close()
    assert sent_by_floor == sent_by_ours
    assert len(sent_by_floor) == 1 + 3 + 1


def test_the_floor_runs_the_statements_of_many_executions_in_as_few_transactions(
    tmp_path: Path,
) -> None:
    sent_by_ours = asyncio.run(run_ours(tmp_path / "ours.db", executions=4, steps=3))
    connection = recording(tmp_path / "floor.db")
    floor.prepare(connection)
    connection.sent.clear()
    floor.run_many(connection, 4, 3)
    sent_by_floor = transactions(connection.sent)
    connection.close()
    assert Counter(chain(*sent_by_floor)) == Counter(chain(*sent_by_ours))
    assert len(sent_by_floor) <= len(sent_by_ours)


def test_the_works_that_may_run_on_a_file_with_history_leave_it_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    for work in ("sequential", "opening"):
        asyncio.run(ours.run(work, file, TINY))
    with closing(sqlite3.connect(file)) as connection, connection:
        for table in ("workflow_executions", "step_checkpoints", "workflow_claims"):
            assert connection.execute(f"select count(*) from {table}").fetchone() == (0,), table
    connection.close()
