"""The oracle sees each kind of broken promise: planted, one by one, where all were kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.crash.harness import ENDED, KILLED, Scenario, World
from tests.crash.scenarios import SCENARIOS
from tests.oracle import (
    DYING,
    PAUSED,
    RESUMING,
    TIMED_OUT,
    Note,
    ProcessRun,
    lost,
    violations,
    violations_among_workers,
)
from tests.processes import Harm

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
Worlds = Callable[[str, Path], World]
SAGA = BY_NAME["saga with a failing compensation"]


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """Worlds of two processes, by the name of their scenario: each is lived through once."""

    @cache
    def lived_through(name: str) -> World:
        return two_processes(
            tmp_path_factory.mktemp("processes") / "world", BY_NAME[name], Harm(6, False)
        )

    return lambda name, folder: lived_through(name).copy(folder)


def two_processes(folder: Path, scenario: Scenario, kill: Harm) -> World:
    folder.mkdir()
    world = World(folder, scenario)
    assert world.run_process(kill) == KILLED
    assert world.run_process() == ENDED
    assert violations(world.processes) == []
    return world


def change(world: World, *statements: str) -> list[ProcessRun]:
    """The processes as they were, but the end as the database says after some statements."""
    with closing(sqlite3.connect(world.file)) as dba, dba:
        for statement in statements:
            dba.execute(statement)
    return [*world.processes[:-1], replace(world.processes[-1], after=world.look())]


def note(world: World, *lines: str) -> list[ProcessRun]:
    """The processes as they were, but the last one did more."""
    last = world.processes[-1]
    return [*world.processes[:-1], replace(last, journal=(*last.journal, *lines))]


CHECKPOINT = "update step_checkpoints set {} where step_name = '{}'"
PLANTED: list[tuple[str, str, Callable[[World], list[ProcessRun]]]] = [
    ("ten steps", "ran again after it was COMPLETED", lambda w: note(w, "run step 0")),
    ("ten steps", "ran 2 times in 1 attempts", lambda w: note(w, "run step 9")),
    (
        "ten steps",
        "'done step 10' was acknowledged, and is not in the file",
        lambda w: note(w, "done step 10"),
    ),
    (
        "ten steps",
        "'ended FAILED' was acknowledged, and is not in the file",
        lambda w: note(w, "ended FAILED"),
    ),
    (
        "ten steps",
        "ran after it was acknowledged",
        lambda w: note(w, "done step 9", "run step 9"),
    ),
    ("ten steps", "without a record before it", lambda w: note(w, "run step 10")),
    (
        "ten steps",
        "is COMPLETED and never ran",
        lambda w: [replace(process, journal=()) for process in w.processes],
    ),
    (
        "ten steps",
        "are not numbered 1, 2, 3",
        lambda w: change(w, CHECKPOINT.format("attempt = 3", "step 9")),
    ),
    (
        "ten steps",
        "the record of step 0 changed",
        lambda w: change(w, CHECKPOINT.format("output_data = '1'", "step 0")),
    ),
    (
        "ten steps",
        "the record of step 0 is gone",
        lambda w: change(w, "delete from step_checkpoints where step_index = 0"),
    ),
    (
        "ten steps",
        "was step 0 and is another",
        lambda w: change(w, CHECKPOINT.format("step_name = 'another'", "step 0")),
    ),
    (
        "ten steps",
        "did not finish",
        lambda w: change(w, "update workflow_executions set status = 'RUNNING'"),
    ),
    (
        "ten steps",
        "with the output None",
        lambda w: change(w, "update workflow_executions set output_data = null"),
    ),
    (
        "ten steps",
        "with the error",
        lambda w: change(w, "update workflow_executions set error_type = 'a:b'"),
    ),
    (
        "ten steps",
        "is claimed",
        lambda w: change(
            w,
            "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
            " values ('one', 'w', 't')",
        ),
    ),
    (
        "ten steps",
        "engine's own trouble",
        lambda w: change(
            w,
            CHECKPOINT.format("error_type = 'durable_workflow_sqlite.errors:StoreError'", "step 9"),
        ),
    ),
    (
        "ten steps",
        "of a COMPLETED execution",
        lambda w: change(w, CHECKPOINT.format("attempt = 0, status = 'COMPENSATED'", "step 9")),
    ),
    (
        "ten steps",
        "number was given twice",
        lambda w: change(
            w,
            "drop index if exists idx_wf_checkpoint_event",
            CHECKPOINT.format("event = 1", "step 9"),
        ),
    ),
    (
        "ten steps",
        "for good, and no event",
        lambda w: change(w, CHECKPOINT.format("event = null", "step 9")),
    ),
    (
        "retries",
        "the record of hopeless changed after it was event",
        lambda w: [
            *w.processes,
            *change(w, CHECKPOINT.format("error_type = 'a:b'", "hopeless"))[-1:],
        ],
    ),
    (
        "plain asyncio",
        "is FAILED, and event 99",
        lambda w: change(w, CHECKPOINT.format("event = 99", "loser")),
    ),
    (
        "plain asyncio",
        "a timer is a SLEEP that is INTENT",
        lambda w: change(
            w, "update step_checkpoints set status = 'INTENT' where branch = '$timers'"
        ),
    ),
    (
        "plain asyncio",
        "loser ran again after it was cut off",
        lambda w: [*w.processes, *note(w, "run loser")[-1:]],
    ),
    (
        "sleeps",
        "woke before its deadline",
        lambda w: change(w, CHECKPOINT.format("completed_at = '2000'", "nap")),
    ),
    (
        "sleeps",
        "the deadline of nap moved",
        lambda w: change(w, CHECKPOINT.format("due_at = '2000-01-01T00:00:00.000000Z'", "nap")),
    ),
    (
        "sleeps",
        "timers are pending",
        lambda w: change(w, "update workflow_timers set status = 'PENDING'"),
    ),
    (
        "signals",
        "delivered",
        lambda w: change(w, "update workflow_signals set payload = '9' where payload = '1'"),
    ),
    (
        "signals",
        "signals are pending",
        lambda w: change(w, "update workflow_signals set status = 'PENDING'"),
    ),
    (
        "a value, and then: give up",
        "was given ['pay', 'pay'], and is FAILED",
        lambda w: change(w, CHECKPOINT.format("status = 'FAILED'", "pay") + " and attempt = 2"),
    ),
    (
        "a value, and then: give up",
        "was given ['pay', 'pay'], and returned 7",
        lambda w: change(w, CHECKPOINT.format("output_data = '7'", "pay") + " and attempt = 2"),
    ),
    (
        "timeouts",
        "timed out, and undoing has not tried it again",
        lambda w: change(
            w,
            "delete from step_checkpoints where step_name = 'hotel' and attempt > 1",
            "delete from step_checkpoints where step_name = 'hotel:compensate'",
            CHECKPOINT.format(
                f"status = 'FAILED', error_type = '{TIMED_OUT}', event = 99", "hotel"
            ),
        ),
    ),
    (
        "timeouts",
        "seat may have taken effect, and is neither undone nor in doubt",
        lambda w: change(
            w,
            CHECKPOINT.format(
                f"status = 'FAILED', error_type = '{TIMED_OUT}', acknowledged_at = 't'", "seat"
            ),
        ),
    ),
    (
        "streamed",
        "is of attempt 7, which never began",
        lambda w: change(
            w, "update workflow_progress_reports set attempt = 7 where step_name = 'left'"
        ),
    ),
    (SAGA.name, "undone in the order", lambda w: [replace(x, journal=()) for x in w.processes]),
    (
        SAGA.name,
        "was not undone",
        lambda w: change(w, "delete from step_checkpoints where step_name = 'car:compensate'"),
    ),
    (
        SAGA.name,
        "is still INTENT",
        lambda w: change(w, CHECKPOINT.format("status = 'INTENT'", "car:compensate")),
    ),
    (
        SAGA.name,
        "undid what was not COMPLETED",
        lambda w: change(w, CHECKPOINT.format("status = 'FAILED'", "car")),
    ),
]


@pytest.mark.few(12)
@pytest.mark.crash
@pytest.mark.parametrize(
    ("name", "words", "plant"), PLANTED, ids=[words for _, words, _ in PLANTED]
)
def test_a_planted_violation_is_seen(
    name: str,
    words: str,
    plant: Callable[[World], list[ProcessRun]],
    worlds: Worlds,
    tmp_path: Path,
) -> None:
    world = worlds(name, tmp_path / "world")
    found = violations(plant(world))
    assert any(words in text for text in found), found


@pytest.mark.crash
def test_work_after_the_compensation_began_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    for commit in range(10, 40):
        world = two_processes(folder.with_name(str(commit)), SAGA, Harm(commit, False))
        if any(
            s.status == "COMPENSATED" for s in world.processes[0].after.compensations().values()
        ):
            break
    assert world.processes[0].after.status == "COMPENSATING"
    assert any(
        "after the execution was COMPENSATING" in v for v in violations(note(world, "run pay"))
    )
    assert any("undone again" in v for v in violations(note(world, "undo car")))
    final = [
        *world.processes,
        replace(world.processes[-1], after=replace(world.processes[-1].after)),
    ]
    final[-1] = replace(final[-1], journal=(), after=replace(final[-1].after, status="CANCELLED"))
    assert any("a final status changed" in v for v in violations(final))


@pytest.mark.crash
def test_two_workers_in_one_step_at_once_are_seen(worlds: Worlds, tmp_path: Path) -> None:
    world = worlds("ten steps", tmp_path / "world")
    first, second = world.processes
    notes = [
        *(Note("worker 1", line) for line in first.journal),
        Note("worker 1", DYING),
        *(Note("worker 2", line) for line in second.journal),
    ]
    assert violations_among_workers(notes, second.after) == []
    at = notes.index(Note("worker 2", "over step 9"))
    intruder = [Note("worker 3", "run step 9"), Note("worker 3", "over step 9")]

    found = violations_among_workers([*notes[:at], *intruder, *notes[at:]], second.after)
    assert any("worker 2 and worker 3 were in step 9 at once" in text for text in found)

    after_exit = [*notes[:at], Note("worker 2", DYING), *intruder]
    found = violations_among_workers(after_exit, second.after)
    assert not any("at once" in text for text in found)
    assert any("ran 2 times in 1 attempts" in text for text in found), "committed twice"


@pytest.mark.crash
def test_what_a_power_cut_took_is_lost_and_breaks_no_promise_where_that_was_allowed(
    worlds: Worlds, tmp_path: Path
) -> None:
    world = worlds("ten steps", tmp_path / "world")
    first, second = world.processes
    more = replace(first, journal=(*first.journal, "run step 9", "over step 9", "done step 9"))
    assert lost(more) == ["done step 9"]
    assert any("is not in the file" in text for text in violations([more, second]))
    assert violations([replace(more, forgot=True), second]) == []


@pytest.mark.crash
def test_what_begins_while_it_is_paused_is_seen(worlds: Worlds, tmp_path: Path) -> None:
    first, second = worlds("ten steps", tmp_path / "world").processes
    at = second.journal.index("run step 9")
    kept = (*second.journal[:at], PAUSED, RESUMING, *second.journal[at:])
    assert violations([first, replace(second, journal=kept)]) == []
    broken = (*second.journal[:at], PAUSED, *second.journal[at:], RESUMING)
    assert violations([first, replace(second, journal=broken)]) == [
        "'run step 9' began while it was paused"
    ]
    paused = replace(first, journal=(*first.journal, PAUSED))
    assert violations([paused, second]), "a pause outlives its process"


@pytest.mark.crash
def test_what_a_fork_does_that_was_copied_is_seen(worlds: Worlds, tmp_path: Path) -> None:
    world = worlds("forked", tmp_path / "world")
    runs = world.forks["two"]
    assert violations(runs) == []

    def also(*lines: str) -> list[str]:
        last = replace(runs[-1], journal=(*runs[-1].journal, *lines))
        return violations([*runs[:-1], last])

    assert any("first ran again, and its result was copied" in one for one in also("run first"))
    assert any("undone in the order" in one for one in also("undo second"))
    of_it = [*world.processes[:-1]]
    last = world.processes[-1]
    of_it.append(replace(last, journal=(*last.journal, "undo second")))
    assert any("second of a COMPLETED execution was undone" in one for one in violations(of_it))
