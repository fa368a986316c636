"""kill -9 of workers that share a file: at every write to the store, and at random ones."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.crew import Crew, run_until_done
from tests.faults.reliability import FULL
from tests.processes import Harm

SIZES = (
    pytest.param(2, marks=pytest.mark.campaign),
    4,
    pytest.param(8, marks=pytest.mark.campaign),
)
KILLS = 3500 if FULL else 30
"""For each size of the crew, at the least."""
SECONDS = 200 if FULL else 0
ROUND_LIMIT_S = 60


def check(crew: Crew, counts: Counter[str]) -> None:
    found = crew.violations()
    assert not found, "\n".join(found)
    counts["kills"] += crew.killed
    counts["workers"] += crew.born
    counts["executions taken to their end"] += len(crew.work)


@pytest.mark.campaign
@pytest.mark.faults
@pytest.mark.parametrize("size", SIZES)
def test_workers_that_are_killed_at_random_writes_break_no_promise(
    tmp_path: Path, size: int, counts: Counter[str]
) -> None:
    dice = random.Random(int(os.environ["DURABLE_SEED"]) + size)
    killed, began = 0, time.monotonic()
    while killed < KILLS or time.monotonic() - began < SECONDS:
        folder = tmp_path / "world"
        folder.mkdir()
        crew = Crew(folder, size)

        def next_harm() -> Harm | None:
            # Once in a while one lives on, so that those who come later find all done.
            return (
                Harm(dice.choice((1, 2, 3, 5, 8, 13, 21)), dice.random() < 0.5)
                if dice.random() < 0.97
                else None
            )

        run_until_done(crew, next_harm, ROUND_LIMIT_S)
        check(crew, counts)
        killed += crew.killed
        shutil.rmtree(folder)


@pytest.mark.campaign
@pytest.mark.faults
@pytest.mark.parametrize("size", SIZES)
def test_workers_that_are_killed_at_each_of_their_writes_break_no_promise(
    tmp_path: Path, size: int, counts: Counter[str]
) -> None:
    """The first worker dies before or after its n-th commit, for each n that it comes to."""
    for commit in itertools.count(1, 1 if FULL else 13):
        outlived = 0
        for is_before in (True, False):
            folder = tmp_path / "world"
            folder.mkdir()
            crew = Crew(folder, size)
            harms = iter([Harm(commit, is_before)])
            run_until_done(crew, lambda: next(harms, None), ROUND_LIMIT_S)  # noqa: B023
            check(crew, counts)
            counts["enumerated kills"] += crew.killed
            outlived += not crew.killed
            shutil.rmtree(folder)
        if outlived == 2 or (not FULL and commit > 30):
            break
