"""kill -9 of workers that share a schema of PostgreSQL: the oracle judges what they leave."""

from __future__ import annotations

import os
import random
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.crew import run_until_done
from tests.faults.reliability import FULL
from tests.processes import Harm

if TYPE_CHECKING:
    from tests.postgres.crew import PostgresCrew

pytestmark = [pytest.mark.campaign, pytest.mark.crash]

KILLS = 500 if FULL else 10
"""Of each test, at the least."""
KILLS_OF_A_CREW = 8
ROUND_LIMIT_S = 60


@pytest.fixture
def dice() -> random.Random:
    return random.Random(int(os.environ["DURABLE_SEED"]))


@pytest.fixture(params=["the server", "a pooler"])
def url_of_workers(request: pytest.FixtureRequest, url: str) -> Generator[str]:
    if request.param == "the server":
        yield url
        return
    from tests.postgres.pooler import running_pooler

    with running_pooler(url) as pooled:
        yield pooled


@pytest.mark.parametrize("size", [2, 4])
def test_workers_that_are_killed_at_their_writes_break_no_promise(
    url: str, schema: str, tmp_path: Path, dice: random.Random, size: int
) -> None:
    from tests.postgres.crew import a_new_crew, check

    def next_harm() -> Harm | None:
        if dice.random() < 0.03:
            return None
        return Harm(dice.choice((1, 2, 3, 5, 8, 13, 21)), dice.random() < 0.5)

    killed = 0
    while killed < KILLS:
        with a_new_crew(tmp_path, size, url=url, schema=schema) as crew:
            run_until_done(crew, next_harm, ROUND_LIMIT_S)
            check(crew)
            killed += crew.killed


def test_workers_that_are_killed_at_any_moment_break_no_promise(
    url: str, url_of_workers: str, schema: str, tmp_path: Path, dice: random.Random
) -> None:
    from tests.postgres.crew import a_new_crew, check

    killed = 0
    while killed < KILLS:
        with a_new_crew(tmp_path, 3, url=url_of_workers, schema=schema, seen_at=url) as crew:
            kill_at_random_times(crew, dice)
            check(crew)
            killed += crew.killed


def kill_at_random_times(crew: PostgresCrew, dice: random.Random) -> None:
    """As `run_until_done`, with kills from outside: so many, and then no more."""
    kills = KILLS_OF_A_CREW
    while crew.ended < crew.size:
        while len(crew.workers) + crew.ended < crew.size:
            crew.hire()
        seconds = dice.uniform(0.05, 0.5) if kills else ROUND_LIMIT_S
        if crew.wait_for_exit(seconds) is None:
            assert kills, f"not done after {seconds} s"
            kills -= 1
            crew.kill(dice.choice(crew.workers))


def test_what_is_changed_by_hand_is_found(url: str, schema: str, tmp_path: Path) -> None:
    """So the oracle sees what the schema holds."""
    from tests.postgres.crew import a_new_crew, check

    with a_new_crew(tmp_path, 1, url=url, schema=schema) as crew:
        run_until_done(crew, lambda: None, ROUND_LIMIT_S)
        check(crew)
        for statement, words in PLANTS.items():
            with crew.look() as shell:
                shell.execute(statement)
            assert any(words in one for one in crew.violations()), words


PLANTS = {
    "delete from step_checkpoints where step_name = 'step 3'": "was acknowledged, and is not",
    "update workflow_executions set status = 'RUNNING', output_data = null"
    " where workflow_execution_id = 'retries 0'": "the execution did not finish",
    "update workflow_signals set payload = '7' where payload = '1'": "consumed",
    "delete from own_rows where name = 'own first'": "transactions have written",
}
