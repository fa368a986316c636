"""What docs/tutorial.md tells a newcomer is what happens."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


@pytest.fixture
def coffee(tmp_path: Path) -> Path:
    """The program of the first chapter, as it is saved there."""
    (first, *_) = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    script = tmp_path / "coffee.py"
    script.write_text(first)
    assert first.count("asyncio.sleep(1)") == first.count("asyncio.sleep(4)") == 1
    take_less_time(script, "asyncio.sleep(1)")
    return script


def take_less_time(script: Path, sleep: str) -> None:
    script.write_text(script.read_text().replace(sleep, "asyncio.sleep(0.1)"))


def steps_in(script: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(script.parent / "coffee.db")) as connection:
        return connection.execute("select step_name, status from step_checkpoints").fetchall()


def brew(script: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, script, name],
        cwd=script.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_workflow_is_killed_in_the_middle_and_finishes(coffee: Path) -> None:
    first = brew(coffee, "noon")
    assert first.stdout is not None
    assert first.stdout.readline() == "ground 18 g\n"
    while ("boil", "INTENT") not in steps_in(coffee):
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    take_less_time(coffee, "asyncio.sleep(4)")

    said, logged = brew(coffee, "noon").communicate(timeout=30)
    assert said.splitlines() == [
        "boiled to 94 degrees",
        "poured",
        "coffee of 18 g of powder at 94 degrees",
    ]
    assert logged.strip() in TUTORIAL.read_text()
    with closing(sqlite3.connect(coffee.parent / "coffee.db")) as connection:
        rows = connection.execute(
            "select step_name, attempt, status, output_data from step_checkpoints"
            " where workflow_execution_id = 'noon'"
        ).fetchall()
    table = "\n".join("|".join("" if one is None else str(one) for one in row) for row in rows)
    shown = re.sub(r"^ +", "", TUTORIAL.read_text(), flags=re.MULTILINE)
    assert table in shown

    again, _ = brew(coffee, "noon").communicate(timeout=30)
    assert again == "coffee of 18 g of powder at 94 degrees\n"


@pytest.mark.campaign
def test_a_worker_of_the_tutorial_runs_what_is_enqueued(coffee: Path) -> None:
    take_less_time(coffee, "asyncio.sleep(4)")
    worker = subprocess.Popen(
        [sys.executable, "-m", "durable_workflow_sqlite", "worker", "coffee.db", "--app", "coffee"],
        cwd=coffee.parent,
        stderr=subprocess.DEVNULL,
    )
    try:
        client = (
            "import asyncio\n"
            "from coffee import coffee\n"
            "from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore\n"
            "async def main():\n"
            "    async with SqliteCheckpointStore.file('coffee.db') as store:\n"
            "        async with DurableEngine(store) as engine:\n"
            "            print(await (await engine.enqueue(coffee, 20)).result())\n"
            "asyncio.run(main())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", client],
            cwd=coffee.parent,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert done.stdout == "coffee of 20 g of powder at 94 degrees\n"
    finally:
        worker.terminate()
        assert worker.wait(30) == 0
