"""`durable-workflow move`, as a person uses it: also beside workers, and killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import durable_workflow_sqlite
import postgres_server
from durable_workflow_sqlite import Client, DurableEngine, StoreMovedError, open_store
from durable_workflow_sqlite.stores import name_of
from tests import postgres_server as server_of_tests
from tests.commands import COMMAND, run_command
from tests.moving import orders

ROOT = Path(durable_workflow_sqlite.__file__).parents[2]
WALKS = 20


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "journal"
    path.touch()
    monkeypatch.setenv(orders.JOURNAL, str(path))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Generator[str]:
    server = server_of_tests.url().removesuffix("postgres")
    with ExitStack() as made:
        yield made.enter_context(
            postgres_server.new_database(server, server_of_tests.schema_of(tmp_path))
        )


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return run_command(*words, env=os.environ)


async def queued(path: Path) -> str:
    async with open_store(path) as store:
        for number in range(WALKS):
            await Client(store).enqueue(orders.walk, number, execution_id=f"walk {number}")
    return str(path)


def worker(database: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.moving.worker", database],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def kill_until_it_ends(source: str, target: str) -> int:
    """How often the move was killed, each time later, before it came to its end."""
    after = 0.05
    kills = 0
    while True:
        mover = subprocess.Popen([*COMMAND, "move", source, target, "--yes"], text=True)
        try:
            assert mover.wait(timeout=after) == 0
            return kills
        except subprocess.TimeoutExpired:
            mover.send_signal(signal.SIGKILL)
            mover.wait()
            kills += 1
            after *= 1.4


@pytest.mark.campaign
async def test_workers_of_the_file_stop_and_those_of_the_server_end_its_work(
    place: str, tmp_path: Path, journal: Path
) -> None:
    source = await queued(tmp_path / "source.db")
    old = [worker(source) for _ in range(2)]
    while len(journal.read_text().splitlines()) < WALKS:
        await asyncio.sleep(0.02)
    shown = run("move", source, place, "--dry-run")
    assert "2 live workers" in shown.stderr, shown.stderr
    assert "nothing was done" in shown.stderr

    moved = run("move", source, place, "--yes")
    assert moved.returncode == 0, moved.stderr
    for one in old:
        _, said = one.communicate(timeout=30)
        assert one.returncode == 1
        assert "StoreMovedError" in said

    async with open_store(place) as store:
        async with DurableEngine(store, orders.WORKFLOWS) as engine:
            for number in range(WALKS):
                assert await engine.result_of(f"walk {number}") == number
    calls = Counter(journal.read_text().splitlines())
    assert len(calls) == WALKS * orders.STEPS
    # A step may run again that was in doubt: at most one of each execution that was running.
    assert sum(calls.values()) <= WALKS * orders.STEPS + WALKS

    again = run("move", source, place)
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing is left to do" in again.stdout
    refused = run("signal", source, "walk 1", "x", "1")
    assert refused.returncode == 1
    assert "was moved to" in refused.stderr
    found = run("doctor", source)
    assert found.returncode == 3
    assert f"was moved to {name_of(place)}" in found.stdout
    assert run("show", source, "walk 1").returncode == 0  # it can still be read


@pytest.mark.campaign
async def test_a_move_that_is_killed_again_and_again_ends(place: str, tmp_path: Path) -> None:
    source = await queued(tmp_path / "source.db")
    kills = await asyncio.to_thread(kill_until_it_ends, source, place)
    assert kills >= 3
    with pytest.raises(StoreMovedError):
        open_store(source)
    async with open_store(place) as store:
        async with DurableEngine(store, orders.WORKFLOWS) as engine:
            for number in range(WALKS):
                assert await engine.result_of(f"walk {number}") == number


@pytest.mark.campaign
async def test_it_asks_first_and_can_be_given_up(tmp_path: Path) -> None:
    source = await queued(tmp_path / "source.db")
    target = tmp_path / "target.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("create table notes (words text)")
    unasked = run("move", source, target)
    assert unasked.returncode == 1
    assert "add --yes" in unasked.stderr
    assert "these tables are not of this library, and stay: notes\n" in unasked.stderr
    assert not target.exists()
    nothing = run("move", source, target, "--give-up")
    assert (nothing.returncode, "is not being moved" in nothing.stderr) == (1, True)
    both = run("move", source, target, "--give-up", "--dry-run")
    assert both.returncode == 2
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("pragma user_version = 5")
        older = run("move", source, target, "--dry-run")
        assert (older.returncode, "migrate" in older.stderr) == (1, True)
        assert connection.execute("pragma user_version").fetchone() == (5,)
    missing = run("move", tmp_path / "missing.db", target, "--yes")
    assert (missing.returncode, "there is no file" in missing.stderr) == (1, True)
