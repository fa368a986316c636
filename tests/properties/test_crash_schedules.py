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
from tests.properties.simulation import (
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
