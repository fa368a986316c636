"""An agent of pydantic-ai beside the same with DBOS: both do the same work, and it is compared."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from argparse import Namespace
from contextlib import closing
from math import nan
from pathlib import Path

import pytest
from benchmarks import agent_turns, run_agents
from benchmarks.peers.turns import TURNS
from benchmarks.rounds import ROOT, Figure, Results

WORKS = [work.partition(".") for group in run_agents.GROUPS for work in group]
RECOVERY = [work.partition(".") for work in run_agents.RECOVERY]
OURS = [name for side, _, name in WORKS if side == "agents"]
THEIRS = [name for side, _, name in WORKS if side == "dbos"]

ROWS = (TURNS * 2 + 1) / TURNS
"""A request and a tool of each turn, and the last request."""


@pytest.mark.few(1)
@pytest.mark.parametrize("work", OURS)
def test_an_agent_records_each_request_and_each_tool(work: str, tmp_path: Path) -> None:
    runs = 1 if work.startswith("one") else 2
    options = Namespace(work=work, file=tmp_path / "work.db", runs=runs)
    figures = asyncio.run(agent_turns.run(options))
    assert figures["ms/turn"] > 0
    recorded = not work.endswith("_none")
    assert figures["rows/turn"] == (ROWS if recorded else 0)
    assert (figures["bytes/turn"] > 1500) == recorded


def run(command: list[str | Path], work: str, file: Path, *, runs: int) -> dict[str, float]:
    done = subprocess.run(
        [*command, work, file, "--runs", str(runs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


@pytest.fixture
def with_dbos() -> list[str | Path]:
    python = run_agents.python_of(run_agents.VENV)
    if not python.exists():
        pytest.skip("DBOS is not installed: make bench-agents does it")
    return [python, run_agents.SCRIPT]


@pytest.mark.parametrize("work", THEIRS)
def test_the_agent_with_dbos_records_as_many(
    work: str, tmp_path: Path, with_dbos: list[str | Path]
) -> None:
    assert run(with_dbos, work, tmp_path / "work.db", runs=2)["rows/turn"] == ROWS


def rows_of(file: Path, table: str) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute(f"select count(*) from {table}").fetchone()[0])


@pytest.mark.campaign
def test_agents_that_were_killed_in_their_middle_are_finished(tmp_path: Path) -> None:
    file = tmp_path / "work.db"
    ours: list[str | Path] = [sys.executable, "-m", "benchmarks.agent_turns"]
    assert run(ours, "recovery_normal", file, runs=1)["s"] > 0
    again = rows_of(file, "step_checkpoints where attempt = 2 and step_name glob 'call_tool:*'")
    assert again == 5, "one tool of each of the five agents was cut off"
    assert rows_of(file, "step_checkpoints where status = 'COMPLETED'") == 5 * ROWS * TURNS


def test_agents_with_dbos_that_were_killed_are_finished(
    tmp_path: Path, with_dbos: list[str | Path]
) -> None:
    file = tmp_path / "work.db"
    assert run(with_dbos, "recovery_normal", file, runs=1)["s"] > 0
    assert rows_of(file, "operation_outputs") == 5 * ROWS * TURNS


def results_of(times: dict[str, list[float]]) -> Results:
    return {
        Figure(f"{side}.{name}", key): times[side] if side == "dbos" else times[name[-4:]]
        for side, _, name in WORKS + RECOVERY
        for key in ("ms/turn", "bytes/turn", "s")
    }


def test_ratios_are_taken_round_by_round_without_those_that_failed() -> None:
    times = {"none": [1.0, 2, 3], "rmal": [2.0, 4, 4], "full": [2.0, 4, 4], "dbos": [4.0, nan, 6]}
    rows = run_agents.times_table(results_of(times)).splitlines()[2:]
    assert len(rows) == len(run_agents.KINDS) * len(run_agents.PAIRS)
    for row in rows:
        _, _, _, alone, ours, theirs, ratio, _ = (part.strip() for part in row.split("|"))
        assert (alone, ours, theirs) == ("2 (1 to 3)", "4 (2 to 4)", "5 (4 to 6)")
        assert ratio == "1.75 (1.5 to 2)"
    for row in run_agents.recovery_table(results_of(times), 100).splitlines()[2:]:
        assert row.endswith("| 4 (2 to 4) | 5 (4 to 6) | 1.75 (1.5 to 2) |")
    (row, *_) = run_agents.bytes_table(results_of(times)).splitlines()[2:]
    assert row == "| one after another | 4 | 5 | 1.75 (1.5 to 2) |"


def test_an_agent_with_dbos_that_always_fails_is_told() -> None:
    times = {"none": [1.0], "rmal": [2.0], "full": [2.0], "dbos": [nan]}
    results = results_of(times)
    for made in (
        run_agents.times_table(results),
        run_agents.bytes_table(results),
        run_agents.recovery_table(results, 100),
    ):
        for row in made.splitlines()[2:]:
            assert "failed" in row
