"""Made-up trees of executions, to which anything happens: every promise holds.

DURABLE_TREES says how many are lived through in the campaign.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from durable_workflow_sqlite import Limit, Queue
from durable_workflow_sqlite.engine.queue_slot import QueueSlot
from durable_workflow_sqlite.store.pauses import Pauses
from tests.properties import tree_world
from tests.properties.tree_world import Life, TreeWorld, life_of, lived_through
from tests.worlds import KillableConnection, World

FEW = 12
TREES = int(os.environ.get("DURABLE_TREES", "60"))
PARTS = 4


def broken(numbers: range, kind: Callable[[Life], TreeWorld] = TreeWorld) -> list[str]:
    seed = int(os.environ["DURABLE_SEED"])
    return [
        f"tree {number} of seed {seed}: {text}"
        for number in numbers
        for text in lived_through(life_of(seed, number), kind)[1]
    ]


def test_a_few_trees_hold_whatever_happens() -> None:
    assert broken(range(FEW)) == []


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS))
def test_trees_hold_whatever_happens(part: int) -> None:
    size = TREES // PARTS
    assert broken(range(FEW + part * size, FEW + (part + 1) * size)) == []


def hold_the_slot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(QueueSlot, "leave_until", lambda *_: None)


def hand_nothing_down(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> bool:
        return False

    patch.setattr(Pauses, "spread_pauses", nothing)


def exceed_limits(patch: pytest.MonkeyPatch) -> None:
    five = (Queue("one", concurrency=5), Limit("api", concurrency=5))
    patch.setattr(tree_world, "LIMITS", five)


def without(trigger: str) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        new_memory = World.new_memory

        def changed(world: World) -> KillableConnection:
            connection: KillableConnection = new_memory(world)
            connection.execute(f"drop trigger {trigger}")
            return connection

        patch.setattr(World, "new_memory", changed)

    return plant


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (hold_the_slot, "sleeps for ever"),
        (without("trg_wf_exec_ends"), "a parent is not told"),
        *(
            pytest.param(*one, marks=pytest.mark.campaign)
            for one in (
                (hand_nothing_down, "it began while it was paused"),
                (exceed_limits, "a limit of 1 is exceeded"),
                (without("trg_wf_exec_ends_children"), "a child was not asked to cancel"),
                (without("trg_wf_exec_spreads_pause"), "it began while it was paused"),
                (without("trg_wf_exec_starts_paused"), "it began while it was paused"),
            )
        ),
    ],
)
def test_a_fault_that_is_planted_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert any(
        words in text for number in range(100) for text in lived_through(life_of(1, number))[1]
    )
