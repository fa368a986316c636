"""A file of the Dart package is carried forward, and nothing in it is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    SCHEMA_VERSION,
    ExecutionStatus,
    SignalStatus,
    SqliteCheckpointStore,
    StepStatus,
    TimerStatus,
    WorkflowSignal,
    validate_schema,
)
from durable_workflow_sqlite.store.connection import configure
from tests.dart_file import (
    EVENTS,
    HIGHEST_SIGNAL_ID,
    TABLES,
    TIMES,
    migrated,
    read_columns,
    read_rows,
    write_dart_file,
)
from tests.migrations.content import content, migrate_to

TIME_COLUMNS = {
    "created_at",
    "updated_at",
    "ttl_expires_at",
    "started_at",
    "completed_at",
    "fire_at",
}


@pytest.fixture
def dart_file(file: Path) -> Path:
    write_dart_file(file)
    return file


def read_by_name(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, by the names of its columns."""
    columns = read_columns(file)
    return {
        table: [dict(zip(columns[table], row, strict=True)) for row in rows]
        for table, rows in read_rows(file, columns).items()
    }


def as_loaded(row: dict[str, Any]) -> dict[str, Any]:
    """What a record of this row must hold: its values, with the times read."""
    return {
        column: TIMES[value] if column in TIME_COLUMNS else value for column, value in row.items()
    }


def fields(record: object, row: dict[str, Any]) -> dict[str, Any]:
    return {column: getattr(record, column) for column in row}


def test_it_holds_every_table_status_and_time_format(dart_file: Path) -> None:
    rows = read_by_name(dart_file)
    statuses = {
        table: {row["status"] for row in rows[table]} for table in TABLES if table != "workflows"
    }
    assert statuses == {
        "workflow_executions": set(ExecutionStatus),
        "step_checkpoints": set(StepStatus),
        "workflow_timers": set(TimerStatus),
        "workflow_signals": set(SignalStatus) - {SignalStatus.REFUSED},  # Dart has none
    }
    times = {
        column: {row.get(column) for table in TABLES for row in rows[table]}
        for column in TIME_COLUMNS
    }
    for column, values in times.items():
        assert values >= {time for time in TIMES if time is not None}, column


def test_it_migrates_and_keeps_every_row_and_column(dart_file: Path) -> None:
    columns = read_columns(dart_file)
    before = read_rows(dart_file, columns)
    assert migrate_to(dart_file, SCHEMA_VERSION) == list(range(2, SCHEMA_VERSION + 1))
    assert migrated(read_rows(dart_file, columns), columns) == migrated(before, columns)
    assert all(len(before[table]) >= 3 for table in TABLES)


def test_what_is_new_has_values_that_mean_what_was_before(dart_file: Path) -> None:
    migrate_to(dart_file, SCHEMA_VERSION)
    rows = read_by_name(dart_file)
    for checkpoint in rows["step_checkpoints"]:
        assert (checkpoint["branch"], checkpoint["kind"]) == ("", "STEP")
        assert (checkpoint["error_type"], checkpoint["due_at"]) == (None, None)
    for execution in rows["workflow_executions"]:
        assert (execution["error_type"], execution["recovery_count"]) == (None, 0)
        assert (execution["blocked_reason"], execution["trouble"]) == (None, None)
        assert (execution["last_event"], execution["started_at"]) == (None, None)
    assert {row["id"]: row["event"] for row in rows["step_checkpoints"]} == EVENTS


def test_opening_a_store_migrates_it_to_the_whole_schema(dart_file: Path) -> None:
    columns = read_columns(dart_file)
    before = read_rows(dart_file, columns)

    async def main() -> None:
        await SqliteCheckpointStore.file(dart_file).close()

    asyncio.run(main())
    assert migrated(read_rows(dart_file, columns), columns) == migrated(before, columns)
    with closing(sqlite3.connect(dart_file)) as connection:
        configure(connection)
        assert validate_schema(connection) == []


def test_a_store_loads_all_of_it(dart_file: Path) -> None:
    rows = read_by_name(dart_file)
    by_execution: dict[str, dict[str, list[dict[str, Any]]]] = {
        execution["workflow_execution_id"]: {
            table: [
                row
                for row in rows[table]
                if row["workflow_execution_id"] == execution["workflow_execution_id"]
            ]
            for table in ("step_checkpoints", "workflow_timers", "workflow_signals")
        }
        for execution in rows["workflow_executions"]
    }

    async def main() -> None:
        async with SqliteCheckpointStore.file(dart_file) as store:
            for row in rows["workflows"]:
                workflow = await store.load_workflow(row["workflow_id"])
                assert fields(workflow, row) == as_loaded(row)

            executions = await store.load_executions_by_status(ExecutionStatus)
            assert len(executions) == len(rows["workflow_executions"])
            times = [execution.created_at for execution in executions]
            assert times == sorted(times)

            for row in rows["workflow_executions"]:
                execution = await store.load_execution(row["workflow_execution_id"])
                expected = as_loaded(row) | {"current_step": row["current_step"] or 0}
                assert fields(execution, row) == expected
                assert execution in executions

            for id_, belongings in by_execution.items():
                checkpoints = await store.load_checkpoints(id_)
                expected = sorted(
                    belongings["step_checkpoints"],
                    key=lambda row: (row["step_index"], row["attempt"]),
                )
                assert len(checkpoints) == len(expected)
                for checkpoint, row in zip(checkpoints, expected, strict=True):
                    assert fields(checkpoint, row) == as_loaded(row)

                timers = {t.workflow_timer_id: t for t in await store.load_timers(id_)}
                assert len(timers) == len(belongings["workflow_timers"])
                for row in belongings["workflow_timers"]:
                    assert fields(timers[row["workflow_timer_id"]], row) == as_loaded(row)

                signals = await store.load_pending_signals(id_)
                pending = [r for r in belongings["workflow_signals"] if r["status"] == "PENDING"]
                assert [fields(s, r) for s, r in zip(signals, pending, strict=True)] == [
                    as_loaded(r) for r in pending
                ]

            timers_in_order = await store.load_pending_timers()
            assert [t.workflow_timer_id for t in timers_in_order] == ["t-pending-2", "t-pending"]

    asyncio.run(main())


def test_the_id_of_a_deleted_signal_is_never_given_out_again(dart_file: Path) -> None:
    highest_left = max(
        row["workflow_signal_id"] for row in read_by_name(dart_file)["workflow_signals"]
    )
    assert highest_left < HIGHEST_SIGNAL_ID

    async def main() -> None:
        async with SqliteCheckpointStore.file(dart_file) as store:
            new = await store.save_signal(
                WorkflowSignal(workflow_execution_id="e-suspended", signal_name="new")
            )
            assert new.workflow_signal_id == HIGHEST_SIGNAL_ID + 1

    asyncio.run(main())


def test_an_attempt_without_a_number_counts_as_the_first(dart_file: Path) -> None:
    with closing(sqlite3.connect(dart_file)) as connection:
        connection.execute("update step_checkpoints set attempt = null where id = 5")
        connection.commit()
    before = read_by_name(dart_file)["step_checkpoints"]
    migrate_to(dart_file, SCHEMA_VERSION)
    (row,) = [r for r in read_by_name(dart_file)["step_checkpoints"] if r["id"] == 5]
    (old,) = [r for r in before if r["id"] == 5]
    assert {column: row[column] for column in old} == old | {"attempt": 1}


def test_a_log_that_was_not_yet_moved_into_the_file_is_migrated_too(
    dart_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(dart_file)) as still_open:
        still_open.execute("insert into workflows (workflow_id, workflow_type) values ('x', 'x')")
        still_open.commit()
        # As a process that was killed leaves them.
        for suffix in ("", "-wal"):
            source = dart_file.with_name(dart_file.name + suffix)
            copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
    assert migrate_to(copy, SCHEMA_VERSION) == list(range(2, SCHEMA_VERSION + 1))
    migrate_to(dart_file, SCHEMA_VERSION)
    assert content(copy) == content(dart_file)
    assert "x" in [row["workflow_id"] for row in read_by_name(copy)["workflows"]]
