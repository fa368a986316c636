"""What `check_code` says of a change is what becomes of the executions when it is deployed.

A file with executions of twelve workflows at all stages; thirty changes of the code; each of them
is checked, then deployed to a copy, and everything runs until nothing goes on any more.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionFinishedError,
    ExecutionStatus,
    SqliteCheckpointStore,
)
from durable_workflow_sqlite.code_check import CodeCheck, check_code
from durable_workflow_sqlite.testing import ManualClock
from tests.changes.shop import HARMFUL, HARMLESS, SIGNALS, World, input_of, workflows
from tests.databases import new_database

CHANGES = (*HARMLESS, *HARMFUL)
BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
STAGES = 8
OF_EACH = int(os.environ.get("DURABLE_EXECUTIONS", "200")) // 12
A_FEW = 2 * STAGES
UNFINISHED = [one for one in ExecutionStatus if not one.is_terminal]


async def begin(file: Path, of_each: int) -> None:
    """The old world: every execution comes to its stage, and the process ends there."""
    World.is_old = True
    old = workflows()
    clock = ManualClock(BEGINNING)
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, old, clock=clock, max_concurrent=10**6) as engine,
    ):
        for definition in old:
            if definition.name == "invoice":
                continue
            for number in range(of_each):
                one = f"{definition.name} {number}"
                stage = number % STAGES
                await engine.enqueue(definition, input_of(definition.name, stage), execution_id=one)
                if stage > 2:
                    await engine.send_signal(one, "approved")
                if stage > 4:
                    await engine.send_signal(one, "go", "yes")
        await until_quiet(store)
        for hours in (1, 1):  # some rest for ever, others only for a time
            clock.set(clock.now() + timedelta(hours=hours))
            await until_quiet(store)
        for number in range(7, of_each, 20):
            for definition in old:
                if definition.name != "invoice":
                    with suppress(ExecutionFinishedError):
                        await engine.cancel(f"{definition.name} {number}")
        await until_quiet(store)
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        for definition in old:  # not begun at all
            if definition.name != "invoice":
                await engine.enqueue(
                    definition, input_of(definition.name, 9), execution_id=f"{definition.name} new"
                )


async def until_quiet(store: SqliteCheckpointStore) -> None:
    seen: object = None
    quiet = 0
    while quiet < 4:
        await asyncio.sleep(0.02)
        found = await store.load_executions_by_status(list(ExecutionStatus))
        now = World.calls, [(one.status, one.current_step, one.updated_at) for one in found]
        quiet = quiet + 1 if now == seen else 0
        seen = now


async def deploy(file: Path, change: str) -> Counter[str]:
    """How many executions of each workflow do not come to their end with the changed code."""
    World.is_old = False
    clock = ManualClock(BEGINNING + timedelta(days=1))
    new = workflows(change)
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, new, clock=clock, max_concurrent=10**6) as engine:
            before: list[object] = []
            while True:
                left = await store.load_executions_by_status(UNFINISHED)
                for one in left:
                    if one.trouble is None and one.status is ExecutionStatus.SUSPENDED:
                        for name in SIGNALS:
                            if await store.load_open_waits(one.workflow_execution_id, name):
                                await engine.send_signal(one.workflow_execution_id, name, "yes")
                await until_quiet(store)
                clock.set(clock.now() + timedelta(days=1))
                await until_quiet(store)
                state: list[object] = [
                    (one.workflow_execution_id, one.status, one.updated_at) for one in left
                ]
                if state == before:
                    break
                before = state
        left = await store.load_executions_by_status(UNFINISHED)
    return Counter(one.workflow_id.partition("@")[0] for one in left)


def stopped(check: CodeCheck) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in check.problems:
        found[one.workflow_type or "?"] += one.count
    return found


@pytest.fixture(scope="module")
def a_few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = new_database(tmp_path_factory.mktemp("old") / "workflows.db")
    asyncio.run(begin(file, A_FEW))
    return file


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = new_database(tmp_path_factory.mktemp("old") / "workflows.db")
    asyncio.run(begin(file, OF_EACH))
    return file


def compare(file: Path, folder: Path, change: str) -> int:
    """Check a change, deploy it, and compare; how many executions were checked."""
    copy = Path(shutil.copy(file, folder / "copy.db"))
    check = check_code(copy, workflows(change))
    is_harmless = change in HARMLESS or not change
    assert check.is_ok is is_harmless, check.problems
    assert asyncio.run(deploy(copy, change)) == stopped(check)
    return check.checked


def test_there_are_executions_at_all_stages(a_few: Path) -> None:
    async def statuses() -> Counter[str]:
        async with SqliteCheckpointStore.file(a_few) as store:
            found = await store.load_executions_by_status(list(ExecutionStatus))
        return Counter(one.status.value for one in found)

    found = asyncio.run(statuses())
    assert set(found) == {one.value for one in ExecutionStatus}, found
    assert (len(HARMLESS), len(HARMFUL)) == (13, 17)


@pytest.mark.few(1)
@pytest.mark.parametrize("change", ["", *list(CHANGES)[::5]])  # the campaign has all of them
def test_a_change_does_what_the_check_said(a_few: Path, tmp_path: Path, change: str) -> None:
    assert compare(a_few, tmp_path, change) > 50


@pytest.mark.campaign
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_does_what_the_check_said_to_thousands(
    many: Path,
    tmp_path: Path,
    change: str,
    record_property: pytest.RecordProperty,
) -> None:
    record_property("executions", compare(many, tmp_path, change))
