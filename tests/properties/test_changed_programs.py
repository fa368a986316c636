"""Made-up workflows whose code changes where a worker dies: a check says what becomes of them.

A program runs until its worker dies at some commit. Then its code is another one: an operation is
added, gone, or changed. `foresee` says whether the execution would go on; then it does, or not.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from durable_workflow_sqlite.engine.foreseeing import Verdict, foresee
from durable_workflow_sqlite.reading.histories import ExecutionHistory
from durable_workflow_sqlite.store.histories import histories
from durable_workflow_sqlite.store.sql import load_queries
from tests.conftest import SEED
from tests.oracle import FINAL
from tests.processes import Harm
from tests.properties.programs import Branches, Patch, Program, definition, programs
from tests.properties.simulation import Schedule, World
from tests.worlds import EXECUTION

CHANGES = int(os.environ.get("DURABLE_CHANGES", "60"))
PARTS = 4
A_FEW = 40

unhurried = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Change:
    """how: "add", "delete", "replace", "patch" or "swap". at: which operation. within: whether it
    is one of a branch, if the operation has branches. other: what comes there."""

    how: str
    at: int
    within: bool
    other: Program

    def of(self, program: Program) -> Program:
        at = self.at % len(program)
        one = program[at]
        if self.within and isinstance(one, Branches):
            first, *others = one.programs
            changed = (Branches((self.of(first), *others)),)
        elif self.within and isinstance(one, Patch):
            changed = (Patch(one.since, one.old, self.of(one.new)),)
        elif self.how == "delete":
            changed = ()
        elif self.how == "replace":
            changed = self.other[:1]
        elif self.how == "swap" and at + 1 < len(program):
            return (*program[:at], program[at + 1], one, *program[at + 2 :])
        elif self.how == "patch":
            changed = (Patch(0, (one,), (*self.other[:1], one)),)
        else:
            changed = (*self.other[:1], one)
        return (*program[:at], *changed, *program[at + 1 :]) or self.other


class Deployed(World):
    """Ends where its execution has ended, or was left as it is."""

    def _ends_early(self) -> bool:
        (trouble,) = self.connection.execute(
            "select count(*) from workflow_executions where trouble is not null"
        ).fetchone()
        return bool(trouble)


def foreseen(world: World) -> tuple[Verdict, Exception | None]:
    (history,) = histories(world.connection, load_queries(), [EXECUTION])
    assert isinstance(history, ExecutionHistory)
    return foresee(world.definition, history.execution, history.checkpoints, history.patches)


def deploy(program: Program, change: Change, percent: int, *, before: bool) -> str | None:
    """The verdict of a change, which was right; None if there was nothing to go on with."""
    undisturbed = World(Schedule(program))
    undisturbed.run_process()
    world = Deployed(Schedule(program))
    commit = 1 + undisturbed.connection.commits * percent // 100
    if world.run_process(Harm(commit, before)) or world.status() in (*FINAL, None):
        return None
    world.definition = definition(change.of(program), world)
    verdict, error = foreseen(world)
    why = str(error)
    world.problems.clear()
    has_ended = world.run_process()
    says = (verdict, why, world.status(), world.problems)
    if verdict is Verdict.GOES_ON and error is not None and not has_ended:
        assert world.status() == "COMPENSATING", says  # it had to be undone
        return "cannot be undone"
    assert has_ended is (verdict is Verdict.GOES_ON), says
    return verdict.value


_changes = st.builds(
    Change,
    st.sampled_from(["add", "delete", "replace", "patch", "patch", "swap"]),
    st.integers(0, 5),
    st.booleans(),
    programs,
)


def run_changes(number_of_them: int, part: int) -> Counter[str | None]:
    """Let that many made-up changes do what was foreseen; count the verdicts."""
    found: Counter[str | None] = Counter()

    @seed(int(os.environ[SEED]) + part)
    @settings(unhurried, max_examples=number_of_them)
    @given(programs, _changes, st.integers(0, 99), st.booleans())
    def does_what_was_foreseen(
        program: Program, change: Change, percent: int, before: bool
    ) -> None:
        found[deploy(program, change, percent, before=before)] += 1

    does_what_was_foreseen()
    return found


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS))
def test_made_up_changes_do_what_was_foreseen(
    part: int, record_property: pytest.RecordProperty
) -> None:
    number = CHANGES // PARTS
    found = run_changes(number, part)
    assert min(found["goes on"], found["stops"]) >= number // 20
    record_property("verdicts", dict(found))


@pytest.mark.campaign
def test_a_few_made_up_changes_do_what_was_foreseen() -> None:
    found = run_changes(A_FEW, PARTS)
    assert found["goes on"] + found["stops"] > A_FEW // 2
