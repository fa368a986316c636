"""Ctrl-C, the end of a script, a fork: nothing hangs, nothing is lost, nothing is failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from durable_workflow_sqlite import ExecutionStatus, open_reader
from durable_workflow_sqlite.blocking import open_store
from tests.blocking.programs import finish

ROOT = Path(__file__).parents[2]


def begin(name: str, file: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.blocking.programs", name, file, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], within_s: float = 45) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"it hangs: {out} {err}") from None
    return process.returncode, out, err


def left_by_workers(file: Path) -> list[str]:
    """The lock files of workers, or the locks that their sessions hold."""
    if isinstance(file, Path):
        return [path.name for path in file.parent.iterdir() if "-worker-" in path.name]
    with open_reader(file) as reader:
        return [""] * reader.count_living_workers()


def nothing_failed(file: Path) -> None:
    with open_store(file) as store:
        for status in (
            ExecutionStatus.FAILED,
            ExecutionStatus.CANCELLED,
            ExecutionStatus.COMPENSATING,
        ):
            assert store.load_executions_by_status([status]) == []


@pytest.mark.few(1)
@pytest.mark.parametrize("waiting_in", ["run", "result", "observe"])
def test_ctrl_c_ends_a_wait_and_leaves_the_execution_to_be_resumed(
    waiting_in: str, file: Path
) -> None:
    process = begin(waiting_in, file)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    status, _, err = end(process)
    assert status == -signal.SIGINT
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    # The worker has released everything: nothing but the database is left.
    assert left_by_workers(file) == []
    nothing_failed(file)
    assert finish(str(file)) == {"one": "A-1 1 kim"}


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("how", "interrupts"), [("call", 2), ("call_in_asyncio", 2), ("end_in_call", 1)]
)
def test_ctrl_c_while_it_waits_for_a_thread_ends_the_program_and_says_what_is_left(
    how: str, interrupts: int, file: Path
) -> None:
    process = begin(how, file)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    assert process.stderr is not None
    if interrupts == 2:
        process.send_signal(signal.SIGINT)
    said = process.stderr.readline()
    assert said.startswith("stopping, and waiting for step 'call' (index 0) of execution 'one'.")
    process.send_signal(signal.SIGINT)
    status, _, err = end(process)
    assert "ends without step 'call' (index 0) of execution 'one': in doubt" in err
    assert status == (-signal.SIGINT if interrupts == 2 else 0)
    nothing_failed(file)
    with open_store(file) as store:
        (checkpoint,) = store.load_checkpoints("one")
        assert checkpoint.status == "INTENT"


@pytest.mark.few(1)
def test_after_ctrl_c_one_can_go_on(file: Path) -> None:
    process = begin("go_on", file)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert end(process) == (0, "A-1 1 kim\n", "")


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "synchronous", ["normal", pytest.param("full", marks=pytest.mark.campaign)]
)
@pytest.mark.parametrize(
    "how",
    [
        "end_in_wait",
        "end_in_steps",
        "end_in_async_action",
        "end_in_sync_action",
        "end_in_long_sync_action",
    ],
)
def test_a_script_that_closes_nothing_ends_and_loses_nothing(
    how: str, synchronous: str, file: Path
) -> None:
    status, _, err = end(begin(how, file, synchronous))
    if how == "end_in_long_sync_action":
        assert err.startswith("stopping, and waiting for step 'pause'"), err
        err = ""
    assert (status, err) == (0, "")
    assert left_by_workers(file) == []
    nothing_failed(file)
    with open_store(file) as store:
        unfinished = store.load_executions_by_status(
            [ExecutionStatus.RUNNING, ExecutionStatus.SUSPENDED, ExecutionStatus.PENDING]
        )
        assert len(unfinished) == (20 if how == "end_in_steps" else 1)
        if how in ("end_in_sync_action", "end_in_long_sync_action"):
            # It could not be interrupted; it was waited for, and recorded.
            (checkpoint,) = store.load_checkpoints("one")
            assert checkpoint.status == "COMPLETED"


@pytest.mark.campaign
def test_a_thread_that_cannot_be_had_any_more_is_no_failure_of_a_step(file: Path) -> None:
    status, _, err = end(begin("end_beside_a_loop", file))
    assert (status, err) == (0, "")
    nothing_failed(file)


@pytest.mark.campaign
def test_a_script_that_fails_shows_its_error_and_ends(file: Path) -> None:
    status, _, err = end(begin("end_by_error", file))
    assert status == 1
    assert err.splitlines()[-1] == "ValueError: the script is wrong"
    assert finish(str(file)) == {"one": "A-1 1 kim"}


@pytest.mark.campaign
def test_a_thread_that_waits_as_the_script_ends_is_told_so(file: Path) -> None:
    status, out, err = end(begin("end_with_a_thread_in_a_call", file))
    assert (status, out, err) == (0, "EngineStoppedError\n", "")


def test_an_action_that_will_not_stop_does_not_keep_the_interpreter_from_ending(
    file: Path,
) -> None:
    status, _, err = end(begin("end_in_stubborn_action", file))
    assert status == 0
    assert "unfinished executions will be resumed later" in err
    nothing_failed(file)


@pytest.mark.campaign
def test_a_workflow_that_exits_is_left_as_it_is_and_the_script_is_told(file: Path) -> None:
    status, out, err = end(begin("exit_in_workflow", file))
    assert (status, out) == (0, "WorkflowCodeError: SystemExit(3)\n")
    assert "raised SystemExit: 3 at line" in err.splitlines()[-1]
    nothing_failed(file)


@pytest.mark.campaign
def test_a_fork_is_told_to_open_its_own(file: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.blocking.programs", "fork", file],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"},
    )
    status, out, err = end(process)
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert [line for line in lines if line.startswith("child: ")] == [
        f"child: this store was opened by process {process.pid}, and this is process"
        f" {line.split('process ')[2].split(':')[0]}: a fork of it cannot use its thread, nor its"
        " connection. Open the store and the engine after the fork, in each process that uses them"
        for line in lines[:2]
    ]
    assert lines[2:] == ["child ended with 0", "parent: A-1 1 kim"]
