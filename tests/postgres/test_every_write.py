"""Kill -9 before and after writes to PostgreSQL, and again in the recovery that follows."""

from __future__ import annotations

import os
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.harness import ENDED, KILLED, Scenario
from tests.crash.scenarios import SCENARIOS
from tests.crash.test_every_write import FULL, check, kills
from tests.processes import Harm

pytestmark = [pytest.mark.campaign, pytest.mark.crash]

SEED = int(os.environ["DURABLE_SEED"])
PART = SCENARIOS if FULL else SCENARIOS[SEED % 5 :: 5]
LATEST = 12
"""The commit at which the first process dies at the latest, where not at each of them."""


@pytest.mark.parametrize("scenario", PART, ids=lambda scenario: scenario.name)
def test_every_promise_holds_on_postgresql_wherever_the_process_is_killed(
    scenario: Scenario, url: str, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    from tests.over_postgres import template
    from tests.postgres.crash_world import PostgresWorld

    server, empty = template(url.removesuffix("postgres"))
    dice = random.Random(f"{SEED} {scenario.name}")
    points = 0
    for first in kills() if FULL else [Harm(dice.randint(1, LATEST), dice.random() < 0.5)]:
        folder = tmp_path / str(first)
        folder.mkdir()
        with ExitStack() as opened:
            world = PostgresWorld(folder, scenario, server, empty, opened)
            if world.run_process(first) == ENDED:
                check(world, "never")
                break
            second = Harm(dice.randint(1, LATEST), dice.random() < 0.5)
            points += 1
            if world.run_process(second) == KILLED:
                points += 1
                assert world.run_process() == ENDED
            check(world, f"{first}, then {second}")
    record_property("kill points", points)
