"""Workflows that are made up, on workers that die anywhere: every promise holds, whatever happens.

A failure prints the smallest schedule that shows it; DURABLE_SEED runs the same ones again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from durable_workflow_sqlite.engine.history import History, Place
from durable_workflow_sqlite.engine.saga import Saga
from tests.conftest import SEED
from tests.properties.programs import ALWAYS, Branches, Do, Sleep, Wait
from tests.properties.simulation import (
    Crash,
    Event,
    MortalConnection,
    Schedule,
    broken_promises,
    schedules,
)

PARTS = 8
SCHEDULES = int(os.environ.get("DURABLE_SCHEDULES", "2400"))

unhurried = settings(
    max_examples=SCHEDULES // PARTS,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("part", range(PARTS))
def test_generated_workflows_keep_every_promise(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    lived_through = 0

    @seed(int(os.environ[SEED]) + part)
    @unhurried
    @given(schedules)
    def keeps_every_promise(schedule: Schedule) -> None:
        nonlocal lived_through
        lived_through += 1
        assert broken_promises(schedule) == []

    try:
        keeps_every_promise()
    finally:
        record_property("schedules", lived_through)


def _loses_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    execute = MortalConnection.execute

    def lossy(self: MortalConnection, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "commit" and self.total_changes > 20 and not hasattr(self, "has_lost"):
            self.has_lost = True
            return execute(self, "rollback")
        return execute(self, sql, *parameters)

    monkeypatch.setattr(MortalConnection, "execute", lossy)


def _forgets_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    take = History.take

    def forgetful(self: History, place: Place) -> None:
        take(self, place)

    monkeypatch.setattr(History, "take", forgetful)


def _forgets_what_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    expect = Saga.expect

    def forgetful(self: Saga, history: History) -> None:
        expect(self, history)
        self._settled.clear()

    monkeypatch.setattr(Saga, "expect", forgetful)


def _undoes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable_workflow_sqlite.engine.saga._completed_at", lambda one: 0)


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (_loses_commits, "was acknowledged, and is gone"),
        (_forgets_steps, "ran again after it was COMPLETED"),
        (_forgets_what_is_undone, "was undone again after that was COMPENSATED"),
        (_undoes_in_order, "undone in the order"),
    ],
)
def test_a_fault_that_is_planted_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    @settings(unhurried, max_examples=2000, derandomize=True, phases=[Phase.generate])
    @given(schedules)
    def keeps_every_promise(schedule: Schedule) -> None:
        assert not any(words in text for text in broken_promises(schedule))

    with pytest.raises(AssertionError):
        keeps_every_promise()


def test_an_error_that_was_caught_after_an_older_one_was_recorded_is_raised_again() -> None:
    # The older one was heard of only after a crash, when the branch beside it had gone on: what
    # that branch did then must be undone, too. Found by the test above.
    undone = Do(failures=0, attempts=1, delay=0, is_undone=True)
    fails = Do(failures=ALWAYS, attempts=1, delay=0, is_undone=True)
    caught = Do(failures=ALWAYS, attempts=1, delay=3, is_caught=True, is_undone=True)
    waits = (Wait("blue", None), Do(failures=0, attempts=1, delay=5, is_undone=True))
    inner = Branches((waits, (fails,), (undone, caught, undone)))
    program = (
        Branches(((Branches(((Sleep(1), Wait("red", 20)),)),),)),
        Branches(((inner,),)),
        Do(failures=ALWAYS, attempts=1, delay=0),
    )
    for percent in range(30, 100, 10):
        schedule = Schedule(
            program=program,
            events=(Event(9, "blue"), Event(16, "blue")),
            crashes=(Crash(percent, True, 30), Crash(percent, True, 30)),
        )
        assert broken_promises(schedule) == []
