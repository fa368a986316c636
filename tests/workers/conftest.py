from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Journal

ROOT = Path(__file__).parents[2]


class Workers:
    """Worker processes on one file, started as an operator starts them."""

    def __init__(self, file: Path, journal: Path) -> None:
        self._file = file
        self._environment = {
            **os.environ,
            "DURABLE_JOURNAL": str(journal),
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
            "PYTHONWARNINGS": "error",
        }
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, app: str = "tests.workers.app", *options: str) -> subprocess.Popen[str]:
        """A worker that is ready to run."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "durable_workflow_sqlite", "worker", str(self._file)),
                *("--app", app, *options),
            ],
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        assert process.stderr is not None
        while said := process.stderr.readline():
            if " runs " in said:
                return process
        raise AssertionError("the worker ended before it was ready")

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


@pytest.fixture
def workers(file: Path, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(file, tmp_path / "journal")
    yield workers
    workers.end()


def wait_for(journal: Journal, line: str, seconds: float = 10) -> None:
    give_up_at = time.monotonic() + seconds
    while line not in journal.lines:
        assert time.monotonic() < give_up_at, f"never came: {line}; there is {journal.lines}"
        time.sleep(0.005)
