"""Kill -9 before and after writes to PostgreSQL, and again in the recovery that follows."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.harness import ENDED, KILLED, Scenario
from tests.crash.scenarios import SCENARIOS
from tests.crash.test_every_write import FULL, check, kills
from tests.processes import Harm

pytestmark = [pytest.mark.campaign, pytest.mark.crash]

PART = SCENARIOS if FULL else SCENARIOS[::2]


@pytest.mark.parametrize("scenario", PART, ids=lambda scenario: scenario.name)
def test_every_promise_holds_on_postgresql_wherever_the_process_is_killed(
    scenario: Scenario, url: str, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    from tests.over_postgres import template
    from tests.postgres.crash_world import PostgresWorld

    server, empty = template(url.removesuffix("postgres"))
    number = SCENARIOS.index(scenario)
    points = 0
    for first in kills() if FULL else [Harm(2 + number % 5, bool(number % 2))]:
        folder = tmp_path / str(first)
        folder.mkdir()
        with ExitStack() as opened:
            world = PostgresWorld(folder, scenario, server, empty, opened)
            if world.run_process(first) == ENDED:
                check(world, "never")
                break
            second = Harm(1 + (first.commit + number) % 6, not first.is_before)
            points += 1
            if world.run_process(second) == KILLED:
                points += 1
                assert world.run_process() == ENDED
            check(world, f"{first}, then {second}")
    assert points
    record_property("kill points", points)
