"""Kill -9 before and after every write to the store, and again in the recovery that follows.

`make crash-test` does all of it, `make campaigns` a part of each scenario, and `make test` a little
of some.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.harness import ENDED, KILLED, Scenario, World
from tests.crash.scenarios import SCENARIOS
from tests.oracle import violations
from tests.processes import Harm

FULL = bool(os.environ.get("DURABLE_CRASH_FULL"))
A_PART = 23
"""In the short form, one of so many commits is harmed, the first of them the third to the sixth."""
EARLY = 3


def kills() -> Iterator[Harm]:
    """Every crash there is, in order; whoever asks stops when a process outlasts it."""
    for commit in itertools.count(1):
        yield Harm(commit, True)
        yield Harm(commit, False)


def second_kills(first: Harm) -> Iterator[Harm]:
    """In the full campaign every crash of the recovery, else one after every fourth commit."""
    if FULL:
        yield from kills()
    elif first.commit % 4 == 1:
        yield Harm(first.commit * 7 % 5 + 1, not first.is_before)


def check(world: World, crashes: str) -> None:
    found = violations(world.processes)
    status = world.processes[-1].after.status
    if status not in world.scenario.ends:
        found.append(f"it ended {status}")
    for name, runs in world.forks.items():
        found += [f"fork {name}: {text}" for text in violations(runs)]
        ended = runs[-1].after.status
        if ended != world.scenario.forks[name]:
            found.append(f"fork {name} ended {ended}")
    locks = sorted(path.name for path in world.folder.glob("*-worker-*"))
    if locks:
        found.append(f"lock files are left: {locks}")
    report = "\n".join(
        f"process {number}: {process.journal}" for number, process in enumerate(world.processes, 1)
    )
    assert not found, f"killed {crashes}:\n" + "\n".join(found) + f"\n{report}"


@pytest.mark.crash
@pytest.mark.campaign
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_promise_holds_wherever_the_process_is_killed(
    scenario: Scenario, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    points = 0
    for first in kills():
        if not FULL and (first.commit - EARLY - SCENARIOS.index(scenario) % 4) % A_PART:
            continue
        folder = tmp_path / str(first)
        folder.mkdir()
        world = World(folder, scenario)
        if world.run_process(first) == ENDED:
            check(world, "never")
            break
        for second in second_kills(first):
            other = world.copy(tmp_path / f"{first}, {second}")
            outlived = other.run_process(second) == ENDED
            if not outlived:
                points += 1
                assert other.run_process() == ENDED
            check(other, f"{first}, then {second}")
            if outlived:
                break
        points += 1
        assert world.run_process() == ENDED
        check(world, str(first))
    assert points > 0, "it was over before it could be killed"
    record_property("kill points", points)


@pytest.mark.few(8)
@pytest.mark.crash
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_promise_holds_at_a_few_kills(
    scenario: Scenario, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    # Of each scenario others, so that they add up to all kinds of moments.
    number = SCENARIOS.index(scenario)
    first, second = Harm(2 + number % 4, bool(number % 2)), Harm(1 + number % 3, not number % 2)
    folder = tmp_path / "world"
    folder.mkdir()
    world = World(folder, scenario)
    assert world.run_process(first) == KILLED
    points = 1
    if world.run_process(second) == KILLED:
        points += 1
        assert world.run_process() == ENDED
    check(world, f"{first}, then {second}")
    record_property("kill points", points)


@pytest.mark.crash
@pytest.mark.campaign
def test_ten_steps_run_once_where_they_were_recorded_and_twice_at_most(tmp_path: Path) -> None:
    scenario = SCENARIOS[0]
    for first in kills():
        folder = tmp_path / str(first)
        folder.mkdir()
        world = World(folder, scenario)
        if world.run_process(first) == ENDED:
            break
        done = {s.step_name for s in world.look().steps if s.status == "COMPLETED"}
        assert world.run_process() == ENDED
        runs = [line[4:] for line in world.journal.lines if line.startswith("run ")]
        for number in range(10):
            name = f"step {number}"
            assert runs.count(name) == 1 if name in done else 1 <= runs.count(name) <= 2
        assert world.look().status == "COMPLETED"
    assert first.commit > 20
