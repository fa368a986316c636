"""The view workflow_in_doubt: steps of which nobody knows whether they took effect."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    ExecutionStatus,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepKind,
    StepStatus,
)
from durable_workflow_sqlite.records import TIMED_OUT
from durable_workflow_sqlite.stores import open_reader
from durable_workflow_sqlite.testing.contract_base import (
    NOON,
    WORKFLOW,
    new_checkpoint,
    new_execution,
)


def cut_off(execution_id: str, **fields: Any) -> StepCheckpoint:
    """A step that its workflow cancelled while it ran."""
    values: dict[str, Any] = {
        "status": StepStatus.FAILED,
        "name": "charge",
        "error_type": "asyncio.exceptions:CancelledError",
        "started_at": NOON,
        "completed_at": NOON,
    }
    return new_checkpoint(execution_id, 0, **(values | fields))


def timed_out(execution_id: str, **fields: Any) -> StepCheckpoint:
    """A step that took longer than its timeout: its workflow has heard of that."""
    values: dict[str, Any] = {"event": 1, "error_type": TIMED_OUT}
    return cut_off(execution_id, **(values | fields))


Make = Callable[..., StepCheckpoint]
EACH = pytest.mark.parametrize("make", [cut_off, timed_out])


def in_doubt(file: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(
            "select workflow_execution_id, status, step_name, attempt, step_status"
            " from workflow_in_doubt order by checkpoint_id"
        ).fetchall()


def save(file: Path, *checkpoints: StepCheckpoint, **fields: Any) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, new_execution("e", **fields), *checkpoints)

    asyncio.run(main())


def test_a_step_that_runs_is_told_from_one_that_was_cut_off(file: Path) -> None:
    running = new_checkpoint("e", 1, name="ship", started_at=NOON)
    save(file, cut_off("e"), running, status=ExecutionStatus.RUNNING)
    assert in_doubt(file) == [
        ("e", "RUNNING", "charge", 1, "FAILED"),
        ("e", "RUNNING", "ship", 1, "INTENT"),
    ]


@EACH
@pytest.mark.parametrize("status", ExecutionStatus)
def test_a_step_that_was_cut_off_stays_whatever_becomes_of_its_execution(
    file: Path, status: ExecutionStatus, make: Make
) -> None:
    save(file, make("e", attempt=2), status=status)
    assert in_doubt(file) == [("e", status, "charge", 2, "FAILED")]


@EACH
def test_it_is_in_doubt_until_it_is_undone(file: Path, make: Make) -> None:
    for status in (StepStatus.INTENT, StepStatus.FAILED):
        undoing = new_checkpoint("e", 0, name="charge:compensate", attempt=0, status=status)
        save(file, make("e"), undoing)
        assert in_doubt(file) == [("e", "PENDING", "charge", 1, "FAILED")]
    undone = new_checkpoint(
        "e", 0, name="charge:compensate", attempt=0, status=StepStatus.COMPENSATED
    )
    save(file, undone)
    assert in_doubt(file) == []


@pytest.mark.parametrize(
    "other",
    [
        {"event": 1},
        {"due_at": NOON},
        {"error_type": "builtins:TimeoutError"},
        {"started_at": None},
        {"attempt": 0},
        {"kind": StepKind.SLEEP},
        {"kind": StepKind.SIGNAL},
        {"status": StepStatus.COMPLETED},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_was_not_cut_off_is_not_in_doubt(file: Path, other: dict[str, Any]) -> None:
    save(file, cut_off("e", **other))
    assert in_doubt(file) == []


@pytest.mark.parametrize(
    "other",
    [
        {"due_at": NOON},
        {"error_type": "builtins:TimeoutError"},
        {"attempt": 0},
        {"status": StepStatus.COMPLETED},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_did_not_time_out_for_good_is_not_in_doubt(file: Path, other: dict[str, Any]) -> None:
    save(file, timed_out("e", **other))
    assert in_doubt(file) == []


@pytest.mark.parametrize(("make", "names"), [(cut_off, []), (timed_out, ["charge"])])
def test_status_leaves_out_what_a_completed_execution_has_cancelled(
    file: Path, make: Make, names: list[str]
) -> None:
    save(file, make("e"), status=ExecutionStatus.COMPLETED)
    with open_reader(file) as reader:
        overview = reader.overview(NOON)
    assert [one.step_name for one in overview.cut_off] == names
    assert overview.cut_off_total == len(names)


@EACH
def test_an_attempt_that_another_one_followed_is_not_in_doubt(file: Path, make: Make) -> None:
    save(file, make("e"), cut_off("e", attempt=2, event=2, error_type="builtins:ValueError"))
    assert in_doubt(file) == []


def test_a_worker_is_asked_for_only_where_a_step_would_run_again(file: Path) -> None:
    running = new_checkpoint("e", 1, name="ship", started_at=NOON)
    save(file, cut_off("e"), running, status=ExecutionStatus.RUNNING)
    with open_reader(file) as reader:
        for limit in (1, 10):
            overview = reader.overview(NOON, limit=limit)
            assert [one.step_name for one in overview.in_doubt] == ["ship"]
            assert overview.in_doubt_total == 1
