"""Forks of workflows that are made up, before any of their steps: each goes on to its end.

The sandbox replays each execution from its records whenever it waits and when it ends. So a fork
whose copied records its workflow does not ask for is noticed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from durable_workflow_sqlite import (
    ExecutionConflictError,
    ExecutionFinishedError,
    NewSignal,
    StepCheckpoint,
    StepKind,
    step_info,
)
from durable_workflow_sqlite.records import who_ran
from durable_workflow_sqlite.testing import AsyncSandbox
from tests.conftest import SEED
from tests.properties.programs import SIGNALS, Program, definition, programs

A_FEW = 15
MANY = 80
FORKS = 5
"""Of each workflow, so many forks, and a fork of each of these."""

TURNS = 60
"""So often some signals come, and time passes: by then every execution is over."""

REASONS = ("undone", "had ended before", "failed it", "cut off")
"""Why some places are none to fork at."""


class Notes:
    """What the actions did, and for which execution."""

    life = 0

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def note(self, line: str) -> int:
        self.lines.append((step_info().execution_id, line))
        return sum(line == other for _, other in self.lines)

    def of(self, execution_id: str, kind: str) -> set[str]:
        return {
            line.partition(" ")[2]
            for one, line in self.lines
            if one == execution_id and line.startswith(f"{kind} ")
        }


def check_forks(number: int, part: int) -> int:
    """Let so many workflows have forks that keep every promise; how many forks there were."""
    forked = 0

    @seed(int(os.environ[SEED]) + part)
    @settings(
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        max_examples=number,
    )
    @given(programs, st.integers(0, 20), st.randoms(use_true_random=False))
    def keeps_every_promise(program: Program, seconds: int, chance: Any) -> None:
        nonlocal forked
        forked += asyncio.run(_forks_of(program, seconds, chance))

    keeps_every_promise()
    return forked


async def _forks_of(program: Program, seconds: int, chance: Any) -> int:
    notes = Notes()
    body = definition(program, notes)
    async with AsyncSandbox([body]) as sandbox:
        await sandbox.start(
            body, execution_id="s", signals=[NewSignal(one, 0) for one in SIGNALS[:1]]
        )
        await sandbox.advance(timedelta(seconds=seconds))
        forks = [("s", "s")]
        forked = await _fork(sandbox, forks, "s", None, notes)  # wherever it is by now
        await _end(sandbox, "s")
        for source in ["s", *(one for _, one in forks[1:])]:
            if source != "s":
                await _end(sandbox, source)
            places = await _places(sandbox, source)
            for place in chance.sample(places, min(FORKS if source == "s" else 1, len(places))):
                forked += await _fork(sandbox, forks, source, place, notes)
        for _, one in forks:
            await _end(sandbox, one)
        for source, one in forks[1:]:
            await _check(sandbox, source, one, notes)
        return forked


async def _places(sandbox: AsyncSandbox, execution_id: str) -> list[tuple[str, str, int]]:
    found = await sandbox.store.load_checkpoints(execution_id)
    return list(
        dict.fromkeys(
            (one.branch, one.step_name, one.step_index)
            for one in found
            if one.attempt > 0 and not one.branch.startswith("$")
        )
    )


async def _fork(
    sandbox: AsyncSandbox,
    forks: list[tuple[str, str]],
    source: str,
    place: tuple[str, str, int] | None,
    notes: Notes,
) -> int:
    name = f"fork {len(forks)}"
    try:
        await sandbox.ask(lambda engine: engine.fork(source, before=place, new_id=name))
    except ExecutionConflictError as refused:
        assert any(one in str(refused) for one in REASONS), str(refused)
        return 0
    forks.append((source, name))
    return 1


async def _end(sandbox: AsyncSandbox, execution_id: str) -> None:
    for number in range(TURNS):
        if (await sandbox.status(execution_id)).is_terminal:
            return
        for signal in SIGNALS:
            with suppress(ExecutionFinishedError):
                await sandbox.signal(execution_id, signal, number)
        await sandbox.advance(timedelta(seconds=30))
    raise AssertionError(f"{execution_id} has not ended: {await sandbox.history(execution_id)}")


async def _check(sandbox: AsyncSandbox, source: str, execution_id: str, notes: Notes) -> None:
    found = await sandbox.store.load_checkpoints(execution_id)
    copied = {one.step_name for one in found if who_ran(one.input_data) is not None}
    assert not copied & notes.of(execution_id, "run"), "what was copied has run again"
    assert not copied & notes.of(execution_id, "undo"), "a fork undid what was copied"
    assert notes.of(execution_id, "undo") <= notes.of(execution_id, "run")
    theirs = {_key(one): one for one in await sandbox.store.load_checkpoints(source)}
    for one in found:
        if one.kind is StepKind.STEP and who_ran(one.input_data) is not None:
            assert theirs[_key(one)].output_data == one.output_data
            assert one.compensate_ref is None


def _key(one: StepCheckpoint) -> tuple[str, int, int]:
    return one.branch, one.step_index, one.attempt


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(2))
def test_generated_workflows_are_forked_anywhere(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("schedules", check_forks(MANY // 2, part))


def test_a_few_generated_workflows_are_forked_anywhere(
    record_property: Callable[[str, object], None],
) -> None:
    forked = check_forks(A_FEW, 2)
    record_property("schedules", forked)
    assert forked > A_FEW
