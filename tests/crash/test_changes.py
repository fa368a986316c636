"""Kill -9 before and after each write of what people change: limits, pauses, schedules.

Each act is one change and its entry in the audit log. A killed process has written both, or
neither: the file is as it is after so many acts as the log has entries.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    Limit,
    Queue,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from tests.crash.test_every_write import kills
from tests.databases import new_database
from tests.processes import Harm, open_harmed, run_process

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

Act = Callable[[DurableEngine], Awaitable[object]]

ACTS: list[tuple[str, Act]] = [
    ("set", lambda e: e.change_limits(Queue("mail", concurrency=2, per_key=1), by="kim")),
    ("set", lambda e: e.change_limits(Queue("mail", concurrency=3), by="kim")),
    ("set", lambda e: e.change_limits(Limit("api", concurrency=4), by="kim")),
    ("set", lambda e: e.change_limits(Queue("new", concurrency=1), add=True, by="kim")),
    ("pause", lambda e: e.pause_queue("mail", by="kim", reason="the provider is down")),
    ("pause", lambda e: e.pause_workflow("report", by="kim")),
    ("pause", lambda e: e.pause_all(by="kim")),
    ("pause", lambda e: e.pause_schedule("s", by="kim")),
    ("resume", lambda e: e.resume_schedule("s", by="kim")),
    ("trigger", lambda e: e.trigger("s", by="kim")),
    ("backfill", lambda e: e.backfill("s", NOON - 3 * HOUR, NOON, by="kim")),
    ("resume", lambda e: e.resume_all(by="kim")),
    ("resume", lambda e: e.resume_queue("mail", by="kim")),
    ("delete", lambda e: e.unschedule("s", by="kim")),
    ("resume", lambda e: e.resume_workflow("report", by="kim")),
]

STATE = {
    "limits": "select kind, name, concurrency, per_key from workflow_limits order by kind, name",
    "pauses": "select scope, name, paused_by, paused_reason from workflow_pauses order by 1, 2",
    "schedules": "select schedule_name, paused_by, last_execution_id from workflow_schedules",
    "executions": "select workflow_execution_id from workflow_executions order by 1",
    "told": "select workflow_execution_id, act, actor from workflow_audit_log"
    " where workflow_execution_id is not null order by 1, 2",
}
"""What these acts change; the log of executions is what they have started."""

LOG = (
    "select act, actor from workflow_audit_log where workflow_execution_id is null"
    " order by workflow_audit_id"
)


@workflow
async def report(ctx: WorkflowContext) -> None:
    raise AssertionError("nobody works")


def state(file: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(file)) as connection:
        return {name: connection.execute(text).fetchall() for name, text in STATE.items()}


def log(file: Path) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(LOG).fetchall()


async def begin(file: Path) -> None:
    """What there is before the first act."""
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, clock=ManualClock(NOON)) as engine:
            await engine.declare(Queue("mail"), Limit("api", concurrency=1))
            await engine.schedule("s", report, cron="30 * * * *")
            await engine.enqueue(report, execution_id="one")


async def act_on(file: Path, harm: Harm | None, states: list[object] | None = None) -> None:
    """All acts that are not in the log yet; states: where to add what there is after each."""
    store = open_harmed(file, harm)
    async with store, DurableEngine(store, clock=ManualClock(NOON)) as engine:
        for _, act in ACTS[len(log(file)) :]:
            await act(engine)
            if states is not None:
                states.append(state(file))


@pytest.fixture
def states(tmp_path: Path) -> list[object]:
    """What there is after no act, after one, and so on."""
    file = new_database(tmp_path / "whole.db")
    asyncio.run(begin(file))
    found: list[object] = [state(file)]
    asyncio.run(act_on(file, None, found))
    assert len(found) == len(ACTS) + 1
    assert all(before != after for before, after in pairwise(found))
    return found


@pytest.mark.crash
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.campaign)])
def test_a_killed_change_is_whole_with_its_entry_or_is_not_there(
    every: int, tmp_path: Path, states: list[object], record_property: pytest.RecordProperty
) -> None:
    points = 0
    for harm in kills():
        if harm.commit % every:
            continue
        file = new_database(tmp_path / f"{harm}.db")
        asyncio.run(begin(file))
        was_killed = run_process(partial(act_on, file, harm))
        entries = log(file)
        assert entries == [(act, "kim") for act, _ in ACTS[: len(entries)]], harm
        assert state(file) == states[len(entries)], harm
        if not was_killed:
            break
        points += 1
        assert not run_process(partial(act_on, file, None))
        assert log(file) == [(act, "kim") for act, _ in ACTS], harm
        assert state(file) == states[-1], harm
    assert points >= 2 * (len(ACTS) // every)
    record_property("kill points", points)
