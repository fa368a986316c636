"""`durable-workflow dashboard FILE`, as a shell runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.commands import run_command

COMMAND = (sys.executable, "-m", "durable_workflow_sqlite", "dashboard")


@pytest.mark.campaign
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_when_it_is_told_to(file: Path, end: int) -> None:
    with subprocess.Popen(
        [*COMMAND, str(file), "--port", "0", "--read-only"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert said is not None
        with urllib.request.urlopen(f"{said[0]}executions") as page:
            assert b"waiting" in page.read()
        process.send_signal(end)
        process.wait(10)
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--host", "0.0.0.0"], "without a token"),
        (["--token", "short"], "at least 16 characters"),
        (["--host", "192.0.2.1", "--token", "x" * 20], "192.0.2.1|Cannot assign"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_status_1(
    arguments: list[str], why: str, file: Path
) -> None:
    done = run_command("dashboard", file, *arguments, env=os.environ)
    assert done.returncode == 1
    assert re.search(why, done.stderr)
    assert done.stderr.count("\n") == 1


@pytest.mark.campaign
def test_without_the_extra_it_says_what_to_install(file: Path) -> None:
    program = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from durable_workflow_sqlite import dashboard\n"
        "try: dashboard.app(sys.argv[1])\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    assert "pip install 'durable-workflow-sqlite[dashboard]'" in done.stdout
