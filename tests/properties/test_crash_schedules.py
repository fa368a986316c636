"""Workflows that are made up, on workers that die anywhere: every promise holds, whatever happens.

A failure prints the smallest schedule that shows it; DURABLE_SEED runs the same ones again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from durable_workflow_sqlite import StepCheckpoint
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.saga import Saga
from tests.conftest import SEED
from tests.properties.dict_world import DictWorld
from tests.properties.programs import ALWAYS, Branches, Do, Patch, Sleep, Wait
from tests.properties.simulation import Schedule, World, broken_promises, schedules
from tests.worlds import Crash, Event, KillableConnection

PARTS = 8
SCHEDULES = int(os.environ.get("DURABLE_SCHEDULES", "80"))
LONG = "DURABLE_SCHEDULES" in os.environ
A_FEW = 15
TO_FIND_A_PLANT = 2000

unhurried = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def run_schedules(
    schedules_of_it: int, number: int, kind: Callable[[Schedule], World] = World
) -> int:
    """Let that many made-up schedules keep every promise; return how many there were."""
    lived_through = 0

    @seed(int(os.environ[SEED]) + number)
    @settings(unhurried, max_examples=schedules_of_it)
    @given(schedules)
    def keeps_every_promise(schedule: Schedule) -> None:
        nonlocal lived_through
        lived_through += 1
        assert broken_promises(schedule, kind) == []

    keeps_every_promise()
    return lived_through


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS))
def test_generated_workflows_keep_every_promise(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("schedules", run_schedules(SCHEDULES // PARTS, part))


def test_a_few_generated_workflows_keep_every_promise(
    record_property: Callable[[str, object], None],
) -> None:
    record_property("schedules", run_schedules(A_FEW, PARTS))


def test_a_few_generated_workflows_keep_every_promise_over_a_store_of_dicts(
    record_property: Callable[[str, object], None],
) -> None:
    record_property("schedules", run_schedules(A_FEW, PARTS + 1, DictWorld))


def _loses_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    # By what is written, and not by how much was written before: which writes share a commit
    # differs between machines, and so did the commit that a count would come to.
    execute = KillableConnection.execute

    def signals(self: KillableConnection) -> int:
        sql = "select count(*) from workflow_signals where signal_name not like '$%'"
        (count,) = execute(self, sql).fetchone()
        return int(count)

    def lossy(self: KillableConnection, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.startswith("commit") and not hasattr(self, "has_lost") and signals(self):
            self.has_lost = True
            sql = "rollback"
        return execute(self, sql, *parameters)

    monkeypatch.setattr(KillableConnection, "execute", lossy)


def _forgets_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    remember = RecordedHistory.__init__

    def forgetful(
        self: RecordedHistory, checkpoints: Iterable[StepCheckpoint] = (), *more: Any
    ) -> None:
        remember(self, (), *more)

    monkeypatch.setattr(RecordedHistory, "__init__", forgetful)


def _forgets_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    remember = RecordedHistory.__init__

    def forgetful(
        self: RecordedHistory,
        checkpoints: Iterable[StepCheckpoint] = (),
        timers: Any = (),
        _: object = (),
    ) -> None:
        remember(self, checkpoints, timers)

    monkeypatch.setattr(RecordedHistory, "__init__", forgetful)


def _takes_every_new_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordedHistory, "goes_on_after", lambda self, event: False)


def _forgets_what_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Saga._load

    async def forgetful(self: Saga) -> RecordedHistory:
        history = await load(self)
        for _, step in history.steps():
            step.compensation = None
        return history

    monkeypatch.setattr(Saga, "_load", forgetful)


def _undoes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable_workflow_sqlite.engine.saga.completed_at", lambda one: 0)


def _forgets_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(*_: object) -> dict[Any, Any]:
        return {}

    for module in ("step_waits", "execution"):
        monkeypatch.setattr(f"durable_workflow_sqlite.engine.{module}.given", forgetful)


def _ignores_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Execution, "pause", lambda self, why: None)


PLANTS = [
    (_loses_commits, "was acknowledged, and is gone"),
    (_forgets_steps, "ran again after it was COMPLETED"),
    (_forgets_what_is_undone, "was undone again after that was COMPENSATED"),
    (_undoes_in_order, "undone in the order"),
    (_forgets_what_is_given, "was given"),
    (_forgets_patches, "it never came to an end"),
    (_takes_every_new_way, "it never came to an end"),
    (_ignores_pauses, "is paused, and stays in memory"),
]
PLANTED = ("plant", "words")
UNDONE = Do(is_undone=True)
EVERY_PLANT_IS_MET_BY = [
    Schedule(
        program=(
            UNDONE,
            Do(failures=ALWAYS, attempts=2, delay=5, is_caught=True),
            Wait("red", None),
            UNDONE,
            Do(failures=ALWAYS),
        ),
        events=(Event(2, "give"),),
        crashes=(Crash(at, percent),),
    )
    for percent in range(0, 100, 10)
    for at in ("before", "after")
]
EVERY_PLANT_IS_MET_BY += [
    Schedule(
        program=(Do(), Patch(since, (Do(), Wait("red", None)), (Do(), Do())), Do()),
        crashes=(Crash("after", percent),),
    )
    for since in (0, 1)
    for percent in range(30, 100, 20)
]
EVERY_PLANT_IS_MET_BY.append(
    Schedule(
        program=(UNDONE, Sleep(9)),
        events=(Event(2, "pause"), Event(5, "resume")),
        crashes=(Crash("after", 99),),
    )
)
"""A signal that must be sent, a value that is given to a step, two steps that must be undone, and a
crash at any time of it; a patch that came with that crash, or before it; and a pause.
"""


def found_where_every_plant_is_met() -> Iterator[str]:
    newest_first = reversed(EVERY_PLANT_IS_MET_BY)
    return (text for schedule in newest_first for text in broken_promises(schedule))


@pytest.mark.campaign
def test_nothing_is_found_where_no_fault_is_planted() -> None:
    assert list(found_where_every_plant_is_met()) == []


@pytest.mark.few(1)
@pytest.mark.parametrize(PLANTED, PLANTS)
def test_a_fault_that_is_planted_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert any(words in text for text in found_where_every_plant_is_met())


@pytest.mark.campaign
@pytest.mark.parametrize(PLANTED, PLANTS if LONG else PLANTS[::2])
def test_a_fault_that_is_planted_is_met_by_generated_workflows(
    plant: Callable[[pytest.MonkeyPatch], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    @settings(unhurried, max_examples=TO_FIND_A_PLANT, derandomize=True, phases=[Phase.generate])
    @given(schedules)
    def keeps_every_promise(schedule: Schedule) -> None:
        assert not any(words in text for text in broken_promises(schedule)), words

    with pytest.raises(AssertionError, match=words):
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
            crashes=(Crash("before", percent, 30), Crash("before", percent, 30)),
        )
        assert broken_promises(schedule) == []


@pytest.mark.few(1)
@pytest.mark.parametrize("every_s", [10, pytest.param(3, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("what", ["pause", "pause all", "pause workflow"])
def test_a_pause_at_any_time_and_a_crash_keep_every_promise(what: str, every_s: int) -> None:
    program = (
        UNDONE,
        Do(failures=1, attempts=2, delay=5),
        Wait("red", 20),
        Branches(((UNDONE, Sleep(3)), (Do(failures=ALWAYS, attempts=2, delay=2, is_caught=True),))),
        Do(failures=ALWAYS),
    )
    for second in range(0, 30, every_s):
        for percent in (20, 60, 90):
            schedule = Schedule(
                program=program,
                events=(Event(second, what), Event(second + 4, "resume"), Event(15, "red")),
                crashes=(Crash("after", percent),),
            )
            assert broken_promises(schedule) == []
