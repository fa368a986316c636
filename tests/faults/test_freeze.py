"""SIGSTOP of workers for longer than any timeout, while others work; then SIGCONT, or SIGKILL."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from durable_workflow_sqlite.store import connection
from tests.faults.crew import Crew, Worker, needs_linux
from tests.faults.reliability import FULL
from tests.processes import Harm

ROUNDS = 40 if FULL else 3
TIMEOUT_MS = connection.BUSY_TIMEOUT_MS if FULL else 300
FREEZE_S = TIMEOUT_MS / 1000 + (1.5 if FULL else 0.4)
"""Also longer than the engine takes to look for dead workers, in the full run many times."""
ROUND_LIMIT_S = 100


def new_crew(folder: Path, size: int = 3) -> Crew:
    folder.mkdir()
    return Crew(
        folder,
        size,
        copies=3,
        action_s=0.01,
        busy_timeout_ms=TIMEOUT_MS,
        may_be_busy=True,
    )


def wait_until_frozen(crew: Crew, worker: Worker) -> bool:
    """False if the worker has finished before it came to the write at which it was to freeze."""
    give_up_at = time.monotonic() + ROUND_LIMIT_S
    while time.monotonic() < give_up_at:
        if worker not in crew.workers:
            return False
        if crew.is_frozen(worker):
            return True
        crew.wait_for_exit(0.002)
    raise AssertionError(f"{worker.name} neither froze nor finished")


def steps_of_others(crew: Crew, worker: Worker) -> int:
    return sum(
        note.worker != worker.name and note.line.startswith("run ")
        for execution_id in crew.work
        for note in crew.journal(execution_id, "").notes
    )


def thaw_and_finish(crew: Crew, worker: Worker, is_killed: bool) -> None:
    if is_killed:
        crew.kill(worker)
        crew.hire()  # takes over, and clears away after it, also where all others have left
    os.kill(worker.child.pid, signal.SIGCONT)
    give_up_at = time.monotonic() + ROUND_LIMIT_S
    while crew.workers:
        left = give_up_at - time.monotonic()
        assert left > 0, f"not done after {ROUND_LIMIT_S} s"
        crew.wait_for_exit(left)


@pytest.mark.faults
@needs_linux
@pytest.mark.parametrize(
    "is_before",
    [
        pytest.param(True, id="in a transaction", marks=pytest.mark.campaign),
        pytest.param(False, id="between two"),
    ],
)
def test_a_worker_that_freezes_at_a_write_keeps_its_work_and_the_others_go_on(
    tmp_path: Path, is_before: bool, counts: Counter[str]
) -> None:
    dice = random.Random(int(os.environ["DURABLE_SEED"]))
    meanwhile = 0
    for number in range(ROUNDS):
        crew = new_crew(tmp_path / "world")
        try:
            frozen = crew.hire(Harm(dice.randint(2, 15), is_before, signal.SIGSTOP))
            for _ in range(crew.size - 1):
                crew.hire()
            if not wait_until_frozen(crew, frozen):
                counts["workers that had finished before"] += 1
            else:
                before = steps_of_others(crew, frozen)
                time.sleep(FREEZE_S)
                meanwhile += steps_of_others(crew, frozen) - before
                counts["freezes"] += 1
                thaw_and_finish(crew, frozen, is_killed=number % 4 == 3)
            while crew.workers:
                crew.wait_for_exit(ROUND_LIMIT_S)
        finally:
            crew.dismiss()
        found = crew.violations()
        assert not found, "\n".join(found)
        shutil.rmtree(crew.folder)
    counts["steps that others ran meanwhile"] += meanwhile
    # One that is frozen in a transaction has the lock, and nobody writes; nor may they fail.
    assert is_before or meanwhile > 0


@pytest.mark.faults
@pytest.mark.campaign
@needs_linux
def test_a_worker_that_is_frozen_at_any_moment_keeps_its_work(
    tmp_path: Path, counts: Counter[str]
) -> None:
    dice = random.Random(int(os.environ["DURABLE_SEED"]))
    for number in range(ROUNDS):
        crew = new_crew(tmp_path / "world")
        try:
            frozen, *_ = [crew.hire() for _ in range(crew.size)]
            time.sleep(dice.uniform(0.02, 0.25))
            os.kill(frozen.child.pid, signal.SIGSTOP)
            time.sleep(FREEZE_S)
            counts["freezes"] += 1
            thaw_and_finish(crew, frozen, is_killed=number % 4 == 3)
        finally:
            crew.dismiss()
        found = crew.violations()
        assert not found, "\n".join(found)
        shutil.rmtree(crew.folder)
