"""Workflows and trees that are made up, on workers that die anywhere, over PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import postgres_server
from tests.over_postgres import template
from tests.properties.programs import ALWAYS, Do, Wait
from tests.properties.simulation import Schedule, World, broken_promises
from tests.properties.test_crash_schedules import SCHEDULES, run_schedules
from tests.properties.test_trees import TREES, broken, hold_the_slot
from tests.properties.tree_world import Life, TreeWorld, life_of, lived_through
from tests.worlds import Crash, Event

if TYPE_CHECKING:
    from tests.properties.postgres_world import Server

pytestmark = pytest.mark.campaign

NUMBER = 100


@pytest.fixture
def server(url: str) -> Generator[Server]:
    from tests.properties.postgres_world import Server

    of_tests, empty = template(url.removesuffix("postgres"))
    name = f"schedules_{uuid.uuid4().hex}"
    with (
        postgres_server.new_database(of_tests, name, like=empty) as own,
        closing(Server(own)) as one,
    ):
        yield one


def test_generated_workflows_keep_every_promise_over_postgresql(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    from tests.properties.postgres_world import PostgresWorld

    kind: Callable[[Schedule], World] = partial(PostgresWorld, server)
    record_property("schedules", run_schedules(SCHEDULES // 8, NUMBER, kind))


@pytest.mark.parametrize("part", range(2))
def test_trees_hold_whatever_happens_over_postgresql(server: Server, part: int) -> None:
    from tests.properties.postgres_world import PostgresTreeWorld

    size = TREES // 12
    assert broken(range(part * size, (part + 1) * size), partial(PostgresTreeWorld, server)) == []


def test_a_slot_that_is_held_is_found_over_postgresql(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.properties.postgres_world import PostgresTreeWorld

    hold_the_slot(monkeypatch)
    kind: Callable[[Life], TreeWorld] = partial(PostgresTreeWorld, server)
    lives = (lived_through(life_of(1, number), kind)[1] for number in range(5, 20))
    assert any("sleeps for ever" in text for found in lives for text in found)


@pytest.mark.parametrize("is_lossy", [True, False])
def test_a_lost_commit_is_found_over_postgresql(server: Server, is_lossy: bool) -> None:
    """Also that nothing is found without it."""
    from tests.properties.postgres_world import KillableSession, PostgresWorld

    class Lossy(KillableSession):
        """Does not commit the first signal."""

        has_lost = not is_lossy

        def execute(self, statement: str, given: tuple[Any, ...] = ()) -> Any:
            if statement == "commit" and not Lossy.has_lost and self._has_signals():
                Lossy.has_lost = True
                statement = "rollback"
            return super().execute(statement, given)

        def _has_signals(self) -> bool:
            sent = "select 1 from durable_workflow.workflow_signals where signal_name not like '$%'"
            return super().execute(sent).fetchone() is not None

    found = broken_promises(SIGNALLED, partial(PostgresWorld, server, session=Lossy))
    assert any("was acknowledged, and is gone" in one for one in found) == is_lossy
    assert bool(found) == is_lossy


SIGNALLED = Schedule(
    program=(Do(is_undone=True), Do(is_own=True), Wait("red", None), Do(failures=ALWAYS)),
    events=(Event(2, "red"),),
    crashes=(Crash("after", 30), Crash("before", 50)),
)
