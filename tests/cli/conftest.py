from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import durable_workflow_sqlite
from durable_workflow_sqlite import open_reader
from tests.commands import begin_command, exit_code, run_command
from tests.over_postgres import is_on, parametrize, placed

__all__ = ["is_on", "placed"]

ROOT = Path(durable_workflow_sqlite.__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


QUICK = frozenset(
    {
        "test_a_signal_lets_a_stuck_order_go_on",
        "test_cancel_is_heard_by_the_worker_that_comes_next",
        "test_commands_act_on_several_types_and_queues",
        "test_list_goes_page_by_page_from_the_newest_to_the_oldest",
        "test_show_has_the_whole_history",
        "test_status_says_what_there_is_and_what_to_look_at_first",
    }
)
"""A look, a page, a change and a worker over PostgreSQL; all others are in the campaigns."""

LEFT_OUT = frozenset(
    {
        # They are about a file.
        "test_a_url_names_a_file",
        "test_doctor_names_who_holds_the_write_lock",
        # By hand they do what only SQLite can.
        "test_fresh_failures_with_the_same_error_are_a_warning_with_two_commands",
        "test_trouble_with_the_file_ends_it_and_says_how_far_it_came",
        # The server of the tests does not wait for the disk, and doctor warns of that.
        "test_an_end_that_is_not_awaited_is_nothing_strange",
        "test_doctor_finds_nothing_beside_a_worker_that_took_it_over",
        "test_doctor_finds_what_a_killed_worker_left",
        "test_doctor_says_only_what_needs_somebody",
        "test_looking_changes_nothing_beside_a_worker",
    }
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, QUICK, LEFT_OUT)


def run(
    *arguments: str | Path, before: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as in a pipe; `before` is called in its process, before it begins."""
    return run_command(*arguments, env=ENVIRONMENT, before=before)


def piped(text: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command with a short text on its stdin, which is a pipe."""

    def pipe_in() -> None:
        reading, writing = os.pipe()
        os.write(writing, text.encode())
        os.close(writing)
        os.dup2(reading, 0)

    return run_command(*arguments, env=ENVIRONMENT, before=pipe_in)


def lines(*arguments: str | Path) -> list[list[str]]:
    """The lines that a command writes, in cells; it must succeed."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t") for line in done.stdout.splitlines()]


def refusal(*arguments: str | Path) -> str:
    """The one line that a command which cannot do its work says."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def on_terminal(*arguments: str | Path, answer: str = "", columns: int = 160) -> tuple[int, str]:
    """Run a command on a terminal; its exit code, and what is seen, uncoloured."""
    words = [*map(str, arguments)]
    environment = ENVIRONMENT | {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    main, side = pty.openpty()
    process = begin_command(words, (side, side, side), env=environment)
    os.close(side)
    if answer:
        os.write(main, answer.encode())
    seen = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # Linux' way to say that the other side is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(main)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    return exit_code(process), text.replace("\r\n", "\n")


@contextmanager
def a_worker(file: Path, code: str = "order") -> Iterator[int]:
    """A process that works on a file; its number."""
    words = ["worker", str(file), "--app", f"tests.cli.orders:{code}", "--grace", "0"]
    with Path(os.devnull).open("r+b") as null:
        process = begin_command(words, [null.fileno()] * 3, env=ENVIRONMENT, cwd=ROOT)
    try:
        wait_until(lambda: count_living(file))
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        exit_code(process)


def wait_until(condition: object, seconds: float = 30) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < give_up_at, "it did not come to pass"
        time.sleep(0.05)


def count_living(file: Path) -> int:
    with open_reader(file) as reader:
        return reader.count_living_workers()


def status_of(file: Path, execution_id: str) -> str:
    """Without a command, which takes long for who asks again and again."""
    with open_reader(file) as reader:
        (found,) = reader.summaries([execution_id])
    return found.status


@pytest.fixture(scope="session")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process that was killed left behind, with all that it had of each kind."""
    folder = tmp_path_factory.mktemp("orders")
    died = subprocess.run(
        [sys.executable, "-m", "tests.cli.orders", folder / "orders.db"],
        env=ENVIRONMENT,
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    return folder


@pytest.fixture
def file(left_behind: Path, tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    return placed(Path(shutil.copytree(left_behind, tmp_path / "orders")) / "orders.db")
