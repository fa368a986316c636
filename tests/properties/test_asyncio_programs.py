"""Workflows of plain asyncio that are made up: each of its processes takes the way of its records.

A failure prints the number of its schedule and the smallest one that shows it; DURABLE_SEED runs
the same ones again, DURABLE_PROGRAMS more of them.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from durable_workflow_sqlite.engine import endings, execution
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.saga import Saga
from durable_workflow_sqlite.engine.waits import Waits
from tests.conftest import SEED
from tests.properties.asyncio_programs import Do, Nap, Pipeline, Race, Row, Sleep, Timeout
from tests.properties.asyncio_world import (
    Mistake,
    Schedule,
    Trial,
    broken_promises,
    every_crash_of,
    schedule_of,
    smallest,
)
from tests.worlds import Crash, Event

# A program that dies is closed where it stands, in the middle of a `finally` perhaps: Python speaks
# of coroutines that nobody awaited and that ignored their end.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PARTS = 8
PROGRAMS = int(os.environ.get("DURABLE_PROGRAMS", "80"))
A_FEW = 200
A_FEW_PARTS = 4
AT_EVERY_WRITE = 1
SLOW = 2
TO_FIND_A_PLANT = 150
BUSY_THREADS = 60
BUSY_S = 0.0005


@pytest.fixture(autouse=True)
def _garbage_is_collected_here() -> Iterator[None]:
    """Else Python may speak of it in the middle of another test, which fails of that."""
    yield
    gc.collect()


def run_schedules(first: int, number: int, trial: Trial | None = None) -> int:
    """Let that many made-up programs keep every promise; return how many there were."""
    seed = int(os.environ[SEED])
    for one in range(first, first + number):
        schedule = schedule_of(seed, one)
        found = broken_promises(schedule, trial)
        if found:
            least = smallest(schedule, lambda less: bool(broken_promises(less, trial)))
            words = "\n".join(broken_promises(least, trial) or found)
            pytest.fail(f"schedule {one} of seed {seed}, at its smallest:\n{least}\n{words}")
    return number


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS))
def test_programs_of_plain_asyncio_take_the_way_of_their_records(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    number = PROGRAMS // PARTS
    record_property("programs", run_schedules(A_FEW + part * number, number))


@pytest.mark.parametrize("part", range(A_FEW_PARTS))
def test_a_few_programs_of_plain_asyncio_take_the_way_of_their_records(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    number = A_FEW // A_FEW_PARTS
    record_property("programs", run_schedules(part * number, number))


@pytest.mark.parametrize("number", range(1, 7))
def test_an_outcome_that_is_recorded_and_not_told_stays_when_the_step_is_given_up(
    number: int,
) -> None:
    """At the second 1 the time is up, and the step that it cancels has failed for good."""
    fails = Do(is_async=True, failures=99, attempts=2, delay=1)
    program = Pipeline((Timeout((fails,), seconds=1), Do(is_async=True, seconds=2), Nap()), size=1)
    events = (Event(second=1, what="blue"),)
    schedule = Schedule(program, events, crashes=(Crash("after", 0, number=number),))
    assert not broken_promises(schedule)


def test_what_an_earlier_run_has_got_counts_though_a_mistake_ends_the_last_one_sooner() -> None:
    """It expires while no worker lives, and the next one has code that does not even begin."""
    schedule = Schedule(
        Row((Nap(seconds=1), Do(is_async=True))),
        events=(),
        crashes=(Crash("after", 90, seconds_down=10),),
        mistakes=(Mistake(IndexError, 65), Mistake(NameError, 35)),
        ttl=5,
    )
    assert not broken_promises(schedule)


def test_a_step_that_has_not_begun_when_a_mistake_ends_the_function_does_not_begin() -> None:
    race = Race((Do(is_async=True), Do(is_async=True)), branches=True, losers="left", timeout=2)
    schedule = Schedule(
        Row((Sleep(seconds=1), race)),
        events=(),
        crashes=(Crash("disposed", 50),),
        mistakes=(Mistake(NotImplementedError, 27), Mistake(NotImplementedError, 100)),
        chance=12757,
    )
    assert not broken_promises(schedule)


def run_with_every_crash(first: int, number: int) -> None:
    seed = int(os.environ[SEED])
    for one in range(first, first + number):
        for schedule in every_crash_of(schedule_of(seed, one)):
            found = broken_promises(schedule)
            assert not found, f"schedule {one} of seed {seed}, dying {schedule.crashes}: {found}"


def test_a_few_programs_go_on_after_a_crash_at_every_write_and_every_event() -> None:
    run_with_every_crash(0, AT_EVERY_WRITE)


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS // 4))
def test_programs_go_on_after_a_crash_at_every_write_and_every_event(part: int) -> None:
    number = max(PROGRAMS // PARTS // 20, 1)
    run_with_every_crash(A_FEW + part * number, number)


class Slow(Trial):
    slow_turns_s = (0.001, 0.05)


class Busy(Trial):
    slow_turns_s = (0.0, 0.002)
    is_real = True


def test_a_few_programs_take_the_same_way_when_each_turn_is_slow(
    record_property: Callable[[str, object], None],
) -> None:
    record_property("programs", run_schedules(0, SLOW, Slow()))


@contextmanager
def busy_threads() -> Iterator[None]:
    is_over = threading.Event()

    def work() -> None:
        number = 0
        while not is_over.wait(BUSY_S):
            for _ in range(1000):
                number += 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(BUSY_THREADS)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)


@pytest.mark.campaign
@pytest.mark.parametrize("trial", [Slow(), Busy()], ids=["slow turns", "busy threads"])
def test_programs_take_the_same_way_on_a_machine_that_is_busy(
    trial: Trial, record_property: Callable[[str, object], None]
) -> None:
    with busy_threads():
        record_property("programs", run_schedules(0, SLOW + max(PROGRAMS // 100, 1), trial))


# Faults that are planted


def _tells_events_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    make = RecordedHistory.__init__

    def swapped(self: RecordedHistory, *args: Any) -> None:
        make(self, *args)
        self.events[:2] = reversed(self.events[:2])

    monkeypatch.setattr(RecordedHistory, "__init__", swapped)


def _begins_before_it_has_heard_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = execution.Execution._replay

    async def hasty(self: execution.Execution) -> None:
        del self.history.events[-1:]
        await replay(self)

    monkeypatch.setattr(execution.Execution, "_replay", hasty)


def _takes_signals_for_waits_that_were_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Waits, "give_up", lambda _self, _call: [])


def _undoes_another_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Saga, "_value_of", lambda _self, _call, _completed: "another")


def _takes_a_mistake_for_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "mistake_in", lambda _error, _classes, _outcomes: None)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("plant", "words", "met_by"),
    [
        (_tells_events_in_another_order, "took another way", 4),
        (_begins_before_it_has_heard_of_all, "ran again after it was COMPLETED", 21),
        (_takes_signals_for_waits_that_were_given_up, "the program never received it", 20),
        (_undoes_another_value, "was undone", 9),
        (_takes_a_mistake_for_a_failure, "a mistake has ended it", 0),
    ],
)
def test_a_fault_that_is_planted_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    words: str,
    met_by: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The schedule that is known to meet it is tried first: the others are for other generators."""
    plant(monkeypatch)
    found = (
        text
        for number in (met_by, *range(TO_FIND_A_PLANT))
        for text in broken_promises(schedule_of(1, number))
    )
    assert any(words in text for text in found)
