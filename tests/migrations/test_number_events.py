"""A file of version 9 with a history gets its events numbered, and keeps all else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.migrations.content import migrate_to

OLD, NEW = 9, 10

# id, execution, branch, index, attempt, kind, status, completed_at, due_at; then the event.
ROWS: list[tuple[int, str, str, int, int, str, str, str | None, str | None, int | None]] = [
    # A step that was retried; branches whose steps end in another order than they began;
    # a sleep, a signal, a wait that timed out, a step that failed for good, and what undid one.
    (1, "e", "", 0, 1, "STEP", "FAILED", "10:00:01.000000Z", "10:00:02.000000Z", None),
    (2, "e", "", 0, 2, "STEP", "COMPLETED", "10:00:03.000000Z", None, 1),
    (3, "e", "a", 0, 1, "STEP", "COMPLETED", "10:00:09.000000Z", None, 4),
    (4, "e", "b", 0, 1, "STEP", "COMPLETED", "10:00:05.000000Z", None, 2),
    (5, "e", "b", 1, 1, "SLEEP", "COMPLETED", "10:00:08.000000Z", "10:00:08.000000Z", 3),
    (6, "e", "", 1, 1, "SIGNAL", "COMPLETED", "10:00:10.000000Z", None, 5),
    (7, "e", "", 2, 1, "SIGNAL", "FAILED", "10:00:12.000000Z", "10:00:11.000000Z", 6),
    (8, "e", "", 3, 1, "STEP", "FAILED", "10:00:13.000000Z", "10:00:14.000000Z", None),
    (9, "e", "", 3, 2, "STEP", "FAILED", "10:00:15.000000Z", None, 7),
    (10, "e", "", 0, 0, "STEP", "COMPENSATED", "10:00:16.000000Z", None, None),
    (11, "e", "a", 0, 0, "STEP", "FAILED", "10:00:17.000000Z", None, None),
    # Each execution has its own numbers. What goes on has none.
    (12, "f", "", 0, 1, "STEP", "COMPLETED", "09:00:00.000000Z", None, 1),
    (13, "f", "", 1, 1, "STEP", "INTENT", None, None, None),
    (14, "f", "x", 0, 1, "SLEEP", "INTENT", None, "11:00:00.000000Z", None),
    # Its worker died in the first attempt, and the second one is to be tried again.
    (15, "f", "y", 0, 1, "STEP", "INTENT", None, None, None),
    (16, "f", "y", 0, 2, "STEP", "FAILED", "09:00:01.000000Z", "09:00:02.000000Z", None),
    # An outcome of an attempt that another one followed: only the last one was heard of.
    (17, "f", "z", 0, 1, "STEP", "FAILED", "09:00:02.000000Z", None, None),
    (18, "f", "z", 0, 2, "STEP", "COMPLETED", "09:00:03.000000Z", None, 2),
    # Each format of a time, and none; of two at the same time, the one that began first.
    (19, "g", "j", 0, 1, "STEP", "COMPLETED", "10:00:00.124", None, 8),
    (20, "g", "i", 0, 1, "STEP", "COMPLETED", "10:00:00.123457Z", None, 7),
    (21, "g", "h", 0, 1, "STEP", "COMPLETED", "10:00:00.123456Z", None, 6),
    (22, "g", "d", 0, 1, "STEP", "COMPLETED", "10:00:00.123Z", None, 3),
    (23, "g", "e", 0, 1, "STEP", "COMPLETED", "10:00:00.123", None, 4),
    (24, "g", "f", 0, 1, "STEP", "COMPLETED", "10:00:00.123000Z", None, 5),
    (25, "g", "c", 0, 1, "STEP", "COMPLETED", "10:00:00.122999Z", None, 2),
    (26, "g", "b", 0, 1, "STEP", "COMPLETED", "10:00:00Z", None, 1),
    (27, "g", "k", 0, 1, "STEP", "COMPLETED", "10:00:01", None, 9),
]


@pytest.fixture
def connection(file: Path) -> Iterator[sqlite3.Connection]:
    """A file of version 9 with these rows."""
    migrate_to(file, OLD)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("insert into workflows (workflow_id, workflow_type) values ('w', 'w')")
        for one, status in (("e", "FAILED"), ("f", "RUNNING"), ("g", "COMPLETED")):
            connection.execute(
                "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
                " values (?, 'w', ?)",
                (one, status),
            )
        for row in ROWS:
            *values, completed_at, due_at, _ = row
            connection.execute(
                "insert into step_checkpoints (id, workflow_execution_id, branch, step_index,"
                " attempt, kind, status, step_name, started_at, completed_at, due_at)"
                " values (?, ?, ?, ?, ?, ?, ?, 's', '2024-03-01T08:00:00.000000Z', ?, ?)",
                (*values, *(time and f"2024-03-01T{time}" for time in (completed_at, due_at))),
            )
        yield connection


def test_the_outcomes_are_numbered_in_the_order_in_which_they_came(
    file: Path, connection: sqlite3.Connection
) -> None:
    assert migrate_to(file, NEW) == [NEW]
    found = dict(connection.execute("select id, event from step_checkpoints"))
    assert found == {row[0]: row[-1] for row in ROWS}


def test_all_else_stays_as_it_was(file: Path, connection: sqlite3.Connection) -> None:
    def content() -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for table in ("workflows", "workflow_executions", "step_checkpoints"):
            cursor = connection.execute(f"select * from {table} order by 1")
            names = [name for name, *_ in cursor.description]
            rows += [dict(zip(names, row, strict=True)) for row in cursor]
        return rows

    before = content()
    migrate_to(file, NEW)
    after = content()
    for row in after:
        event = row.pop("event", None)
        assert event is None or "step_index" in row
        assert row.pop("last_event", None) is None
        if "step_index" not in row:
            assert row.pop("started_at", None) is None
    assert after == before


def test_an_outcome_without_a_time_counts_from_when_it_began(
    file: Path, connection: sqlite3.Connection
) -> None:
    connection.execute(
        "update step_checkpoints set completed_at = null, started_at = '2024-03-01T10:00:06.5Z'"
        " where id = 3"
    )
    migrate_to(file, NEW)
    events = connection.execute(
        "select id, event from step_checkpoints where id in (3, 4, 5) order by event"
    )
    assert events.fetchall() == [(4, 2), (3, 3), (5, 4)]


def test_the_timeline_tells_the_events(file: Path, connection: sqlite3.Connection) -> None:
    migrate_to(file, NEW)
    found = connection.execute("select checkpoint_id, event from workflow_timeline")
    assert dict(found) == {row[0]: row[-1] for row in ROWS}
