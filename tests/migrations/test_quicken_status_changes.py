"""The triggers of version 32 do what those of version 31 did, for every change of a status."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest

from durable_workflow_sqlite import ExecutionStatus
from tests.migrations.content import migrate_to

OLD, NEW = 31, 32
NOON = "2026-01-01T12:00:00.000000Z"
STATUSES = [status.value for status in ExecutionStatus]
PAUSES = list(product((None, NOON), (None, "above")))
"""What `paused_at` and `paused_with` are."""

Written = dict[str, list[tuple[object, ...]]]


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[sqlite3.Connection]]:
    """A family in a file of each version: above, its child `one`, and the children of this."""
    paths = [tmp_path / "old.db", tmp_path / "new.db"]
    for path, version in zip(paths, (OLD, NEW), strict=True):
        migrate_to(path, version)
    with (
        closing(sqlite3.connect(paths[0], isolation_level=None)) as old,
        closing(sqlite3.connect(paths[1], isolation_level=None)) as new,
    ):
        for connection in (old, new):
            connection.execute("insert into workflows (workflow_id, workflow_type) values (1, 'o')")
        yield [old, new]


def begin(
    connection: sqlite3.Connection, status: str, pause: tuple[str | None, str | None], kin: str
) -> None:
    """kin: of `one`, whether it has a parent and children, and what it does at its parent's end."""
    connection.execute("begin")
    rows: list[tuple[object, ...]] = [
        ("above", "RUNNING", None, None, NOON, None),
        ("one", status, *(("above", kin) if kin else (None, None)), *pause),
    ]
    if kin:
        rows += [("held", "RUNNING", "one", "cancel", None, None)]
        rows += [("free", "RUNNING", "one", "detach", None, None)]
    connection.executemany(
        "insert into workflow_executions (workflow_execution_id, status, parent_execution_id,"
        " on_parent_end, paused_at, paused_with, workflow_id, guarantee, created_at, updated_at)"
        f" values (?, ?, ?, ?, ?, ?, 1, 'BEST_EFFORT_BACKGROUND', '{NOON}', '{NOON}')",
        rows,
    )
    # What it was stored with, whatever its parent is: a trigger holds new ones with their parent.
    connection.execute(
        "update workflow_executions set paused_at = ?, paused_with = ?"
        " where workflow_execution_id = 'one'",
        pause,
    )
    connection.execute("delete from workflow_spreading")


def written(connection: sqlite3.Connection) -> Written:
    found = {
        what: connection.execute(f"select {columns} from {what} order by 1, 2").fetchall()
        for what, columns in (
            ("workflow_executions", "workflow_execution_id, status, paused_at, paused_with"),
            ("workflow_signals", "workflow_execution_id, signal_name, payload, status"),
            ("workflow_spreading", "workflow_execution_id, 1"),
        )
    }
    connection.execute("rollback")
    return found


@pytest.mark.parametrize("kin", ["", "cancel", "detach"])
def test_a_change_of_the_status_alone_writes_the_same(
    files: list[sqlite3.Connection], kin: str
) -> None:
    written_more = 0
    for before, after, pause in product(STATUSES, STATUSES, PAUSES):
        results: list[Written] = []
        for connection in files:
            begin(connection, before, pause, kin)
            connection.execute(
                "update workflow_executions set status = ? where workflow_execution_id = 'one'",
                (after,),
            )
            results.append(written(connection))
        assert results[1] == results[0], (before, after, pause)
        written_more += bool(results[0]["workflow_spreading"] or results[0]["workflow_signals"])
    assert bool(written_more) is bool(kin)


def test_a_change_of_the_pause_writes_the_same_whatever_the_status(
    files: list[sqlite3.Connection],
) -> None:
    for status, before, after in product(STATUSES, PAUSES, PAUSES):
        results: list[Written] = []
        for connection in files:
            begin(connection, status, before, "cancel")
            connection.execute(
                "update workflow_executions set paused_at = ?, paused_with = ?"
                " where workflow_execution_id = 'one'",
                after,
            )
            results.append(written(connection))
        assert results[1] == results[0], (status, before, after)


@pytest.mark.campaign
def test_a_change_of_both_tells_the_children_at_least_as_often(
    files: list[sqlite3.Connection],
) -> None:
    """Who is told twice finds nothing to change."""
    for old, new, before, after in product(STATUSES, STATUSES, PAUSES, PAUSES):
        results: list[Written] = []
        for connection in files:
            begin(connection, old, before, "cancel")
            connection.execute(
                "update workflow_executions set status = ?, paused_at = ?, paused_with = ?"
                " where workflow_execution_id = 'one'",
                (new, *after),
            )
            results.append(written(connection))
        told = [set(one.pop("workflow_spreading")) for one in results]
        assert told[1] >= told[0], (old, new, before, after)
        assert results[1] == results[0], (old, new, before, after)
