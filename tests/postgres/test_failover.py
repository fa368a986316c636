"""The server dies, and its replica takes over: what was acknowledged is there, and work goes on."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

import postgres_server
from tests.faults.crew import run_until_done
from tests.faults.reliability import FULL

pytestmark = [pytest.mark.campaign, pytest.mark.faults]

ROUNDS = 10 if FULL else 1
COPIES = 2
LINES_OF_A_COPY = 190
ACTION_S = 0.02
"""So long an action takes: some are under way when the server dies."""
WAIT_S = 60


class Pair:
    """A primary, a replica without which it acknowledges nothing, and the way to one of them."""

    def __init__(self, opened: ExitStack) -> None:
        from tests.postgres.proxy import network_to

        self.primary, self.replica = postgres_server.new_folder(), postgres_server.new_folder()
        opened.callback(postgres_server.stop, self.primary)
        opened.callback(postgres_server.stop, self.replica)
        self.before = f"{postgres_server.start(self.primary)}postgres"
        self.after = f"{postgres_server.start_replica(self.replica, self.primary)}postgres"
        self.network, self.url = opened.enter_context(network_to(self.before))

    def fail_over(self) -> None:
        postgres_server.kill(self.primary)
        postgres_server.promote(self.replica)
        self.network.lead_to(self.after)


@pytest.fixture
def pair(url: str) -> Generator[Pair]:
    with ExitStack() as opened:
        yield Pair(opened)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_failover_to_a_synchronous_replica_loses_nothing(
    pair: Pair, tmp_path: Path, number: int
) -> None:
    from tests.postgres.crew import PostgresCrew, check

    crew = PostgresCrew(
        tmp_path,
        2,
        COPIES,
        action_s=ACTION_S,
        url=pair.url,
        seen_at=pair.before,
        may_lose_sessions=True,
    )
    part = random.Random(int(os.environ["DURABLE_SEED"]) + number).uniform(0.1, 0.8)
    try:
        for _ in range(crew.size):
            crew.hire()
        while crew.count_lines() < part * LINES_OF_A_COPY * COPIES:
            time.sleep(0.005)
        pair.fail_over()
        crew.seen_at = pair.after
        run_until_done(crew, lambda: None, WAIT_S)
    finally:
        crew.dismiss()
    check(crew)
    assert crew.killed == 0
