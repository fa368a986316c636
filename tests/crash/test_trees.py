"""Kill -9 before and after every write of a tree of executions, and again in its recovery."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.made_up_trees import made_up_violations, tree_of
from tests.crash.test_every_write import FULL, kills, second_kills
from tests.crash.trees import TREES, Tree, World
from tests.processes import Harm

MADE_UP = 200 if FULL else 5
"""Made-up trees in each part."""


def check(world: World, crashes: str) -> None:
    found = world.violations()
    report = f"{world.journal.lines}"
    assert not found, f"killed {crashes}:\n" + "\n".join(found) + f"\n{report}"


def killed_at(tree: Tree, folder: Path, *harms: Harm) -> bool:
    """Kill a process at each of these; False if one of them came to its end before."""
    world = World(folder, tree)
    were_killed = [world.run_process(one) for one in harms]
    if were_killed[-1]:
        assert not world.run_process()
    check(world, ", then ".join(map(str, harms)))
    return all(were_killed)


@pytest.mark.crash
@pytest.mark.campaign
@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_a_tree_holds_wherever_its_process_is_killed(
    tree: Tree, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    points = 0
    for first in kills():
        if not FULL and (first.commit + TREES.index(tree)) % 17:
            continue
        if not killed_at(tree, tmp_path / f"{first}", first):
            break
        points += 1
        for second in second_kills(first) if FULL else ():
            if not killed_at(tree, tmp_path / f"{first}, {second}", first, second):
                break
            points += 1
    assert first.commit > 5, "it was over before it could be killed"
    record_property("kill points", points)


@pytest.mark.few(2)
@pytest.mark.crash
@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_a_tree_holds_at_a_few_kills(
    tree: Tree, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    number = TREES.index(tree)
    harms = Harm(3 + number % 4, bool(number % 2)), Harm(1 + number % 3, not number % 2)
    assert killed_at(tree, tmp_path / "world", *harms)
    record_property("kill points", 2)


def check_made_up(number: int, folder: Path) -> int:
    """Let a made-up tree be killed at random, until a process ends; how often it was."""
    seed = int(os.environ["DURABLE_SEED"])
    world = World(folder, tree_of(seed, number))
    chance = random.Random(f"kills {seed} {number}")
    kills = 0
    while world.run_process(Harm(chance.randint(1, 25), chance.random() < 0.5)):
        kills += 1
    found = list(made_up_violations(world.file))
    assert not found, f"tree {number} of seed {seed}: {world.tree.name}\n" + "\n".join(found)
    return kills


@pytest.mark.crash
def test_a_few_made_up_trees_hold(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    kills = sum(check_made_up(number, tmp_path / str(number)) for number in range(3))
    record_property("kill points", kills)


@pytest.mark.crash
@pytest.mark.campaign
@pytest.mark.parametrize("part", range(4))
def test_made_up_trees_hold(
    part: int, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    first = 3 + part * MADE_UP
    numbers = range(first, first + MADE_UP)
    kills = sum(check_made_up(number, tmp_path / str(number)) for number in numbers)
    record_property("kill points", kills)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (
            "delete from workflow_signals where signal_name glob '$child:*middle*'",
            "told so by []",
        ),
        (
            "update workflow_executions set parent_execution_id = 'x' "
            "where on_parent_end = 'cancel'",
            "has no parent",
        ),
        (
            "update workflow_executions set status = 'RUNNING'"
            " where workflow_execution_id = 'root'",
            "not over",
        ),
        (
            "delete from workflow_executions where workflow_execution_id = 'root/middle-1'",
            "is recorded, and not there",
        ),
    ],
)
def test_the_judge_of_trees_sees_what_is_wrong(statement: str, text: str, tmp_path: Path) -> None:
    world = World(tmp_path / "world", TREES[0])
    assert not world.run_process()
    assert world.violations() == []
    with closing(sqlite3.connect(world.file, isolation_level=None)) as connection:
        connection.execute(statement)
    assert any(text in one for one in world.violations())
