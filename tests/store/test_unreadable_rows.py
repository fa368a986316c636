"""A row that cannot be read is an error for that row alone."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import ExecutionStatus, SqliteCheckpointStore, StoreCorruptError
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.store.sqlite_reader import SqliteReader
from durable_workflow_sqlite.store.unreadable import unreadable_rows
from durable_workflow_sqlite.testing.contract_base import (
    NOON,
    WORKFLOW,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
)

Main = Callable[[SqliteCheckpointStore], Awaitable[None]]


def with_rows_changed(file: Path, main: Main, *statements: str) -> None:
    """Two executions with all that belongs to them, changed by hand behind all checks."""

    async def fill() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW)
            for one in ("bad", "good"):
                await store.save(
                    new_execution(one),
                    new_checkpoint(one, 0),
                    new_timer(one, f"{one} timer", NOON),
                    new_signal(one, "go"),
                )

    async def use() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await main(store)

    asyncio.run(fill())
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma ignore_check_constraints = on")
        for statement in statements:
            assert connection.execute(statement).rowcount == 1
        connection.commit()
    asyncio.run(use())


@pytest.mark.parametrize(
    "change",
    [
        "status = 'PAUSED'",
        "created_at = 'yesterday'",
        "updated_at = ''",
        "ttl_expires_at = '2024-13-01T00:00:00Z'",
        "guarantee = 'PERHAPS'",
        "current_step = -1",
    ],
)
def test_an_execution_that_cannot_be_read_is_named(file: Path, change: str) -> None:
    async def main(store: SqliteCheckpointStore) -> None:
        with pytest.raises(StoreCorruptError, match="'bad'") as raised:
            await store.load_execution("bad")
        assert raised.value.workflow_execution_id == "bad"
        assert await store.load_execution("good") is not None

    with_rows_changed(
        file,
        main,
        f"update workflow_executions set {change} where workflow_execution_id = 'bad'",
    )


def test_a_scan_by_status_leaves_it_out_and_says_so(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(store: SqliteCheckpointStore) -> None:
        found = await store.load_executions_by_status([ExecutionStatus.PENDING])
        assert [one.workflow_execution_id for one in found] == ["good"]
        assert is_logged(caplog, "'bad'", "created_at 'yesterday'")

    with_rows_changed(
        file,
        main,
        "update workflow_executions set created_at = 'yesterday'"
        " where workflow_execution_id = 'bad'",
    )


def test_a_recovery_leaves_it_out_and_says_so(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(store: SqliteCheckpointStore) -> None:
        found = await store.load_unqueued_executions()
        assert [one.workflow_execution_id for one in found] == ["good"]
        assert is_logged(caplog, "'bad'", "fire_at 'noon'")

    with_rows_changed(
        file,
        main,
        "update workflow_timers set fire_at = 'noon' where workflow_execution_id = 'bad'",
    )


def test_a_queue_whose_first_time_cannot_be_read_says_so_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(store: SqliteCheckpointStore) -> None:
        for _ in range(3):
            assert await store.load_next_available_at([("order", 1)]) is None
        assert len([one for one in caplog.messages if "available_at 'zero'" in one]) == 1

    with_rows_changed(
        file,
        main,
        "update workflow_executions set available_at = 'zero' where workflow_execution_id = 'bad'",
    )


def test_a_scan_for_timers_leaves_it_out_and_says_so(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(store: SqliteCheckpointStore) -> None:
        found = await store.load_pending_timers()
        assert [one.workflow_timer_id for one in found] == ["good timer"]
        assert is_logged(caplog, "'bad timer'", "fire_at 'noon'")
        with pytest.raises(StoreCorruptError, match="'bad timer'"):
            await store.load_timers("bad")
        assert len(await store.load_timers("good")) == 1

    with_rows_changed(
        file,
        main,
        "update workflow_timers set fire_at = 'noon' where workflow_execution_id = 'bad'",
    )


@pytest.mark.parametrize(
    ("load", "edit", "named"),
    [
        ("load_checkpoints", "step_checkpoints set status = 'DONE'", "checkpoint 1 .*'bad'.*DONE"),
        ("load_pending_signals", "workflow_signals set created_at = 7", "signal 1 .*created_at"),
    ],
)
def test_what_cannot_be_read_whole_is_not_given(
    file: Path, load: str, edit: str, named: str
) -> None:
    async def main(store: SqliteCheckpointStore) -> None:
        with pytest.raises(StoreCorruptError, match=named):
            await getattr(store, load)("bad")
        assert len(await getattr(store, load)("good")) == 1

    with_rows_changed(file, main, f"update {edit} where workflow_execution_id = 'bad'")


def test_a_workflow_that_cannot_be_read_is_named(file: Path) -> None:
    async def main(store: SqliteCheckpointStore) -> None:
        with pytest.raises(StoreCorruptError, match=r"'order:1'.*version"):
            await store.load_workflow("order:1")

    with_rows_changed(file, main, "update workflows set version = 0")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("workflow_executions set status = 'PAUSED'", "execution 'bad' cannot be read: 'PAUSED'"),
        ("workflow_executions set available_at = 'soon'", "available_at 'soon' is not an ISO-8601"),
        ("workflow_executions set available_at = '2030-02-30T00:00:00Z'", "2030-02-30"),
        ("workflow_executions set ttl_expires_at = 'now'", "ttl_expires_at 'now'"),
        ("workflow_executions set started_at = 'soon'", "started_at 'soon'"),
        ("workflow_executions set input_data = '{'", "execution 'bad': input_data is not JSON"),
        ("step_checkpoints set started_at = '12:00'", "started_at '12:00'"),
        ("step_checkpoints set output_data = 'kim'", "output_data is not JSON"),
        ("step_checkpoints set status = 'DONE'", "cannot be read: 'DONE'"),
        ("workflow_timers set fire_at = 'tomorrow'", "timer 'bad timer' of execution 'bad'"),
        ("workflow_signals set created_at = ''", "created_at ''"),
        (
            "workflow_signals set payload = 'kim'",
            "signal 1 to execution 'bad': payload is not JSON",
        ),
    ],
)
def test_what_cannot_be_read_is_found_row_by_row(file: Path, change: str, says: str) -> None:
    async def nothing(_: SqliteCheckpointStore) -> None:
        pass

    with_rows_changed(file, nothing, f"update {change} where workflow_execution_id = 'bad'")
    with SqliteReader.open(file) as reader:
        with reader.reading() as connection:
            (problem,) = unreadable_rows(load_queries(), connection)
        assert says in problem
        assert "'bad'" in problem
        details = reader.execution("bad")
        assert details is not None
        assert len(details.problems) == 1


def test_what_is_written_otherwise_and_can_be_read_is_no_problem(file: Path) -> None:
    async def nothing(_: SqliteCheckpointStore) -> None:
        pass

    with_rows_changed(
        file,
        nothing,
        "update workflow_executions set available_at = '2030-01-01 12:00:00+02:00',"
        " created_at = '2020-01-01' where workflow_execution_id = 'bad'",
        "update workflow_timers set fire_at = '2030-01-01T12:00:00'"
        " where workflow_execution_id = 'bad'",
        "update workflow_signals set payload = ' null ' where workflow_execution_id = 'bad'",
    )
    with SqliteReader.open(file) as reader, reader.reading() as connection:
        assert list(unreadable_rows(reader.queries, connection)) == []


def test_an_execution_that_cannot_be_read_can_be_deleted(file: Path) -> None:
    async def main(store: SqliteCheckpointStore) -> None:
        assert await store.delete_execution("bad")
        assert await store.load_execution("bad") is None
        assert len(await store.load_executions_by_status(ExecutionStatus)) == 1

    with_rows_changed(
        file,
        main,
        "update workflow_executions set status = 'PAUSED' where workflow_execution_id = 'bad'",
    )


@pytest.mark.parametrize("column", ["input_data", "error_message", "workflow_id"])
def test_text_that_is_no_utf_8_makes_its_own_row_unreadable_and_no_other(
    file: Path, column: str
) -> None:
    async def main(store: SqliteCheckpointStore) -> None:
        with pytest.raises(StoreCorruptError, match="'bad'"):
            await store.load_execution("bad")
        found = await store.load_executions_by_status(ExecutionStatus)
        assert [one.workflow_execution_id for one in found] == ["good"]
        assert await store.load_execution("good") == found[0]

    with_rows_changed(
        file,
        main,
        f"update workflow_executions set {column} = cast(x'61ff62' as text)"
        " where workflow_execution_id = 'bad'",
    )


def is_logged(caplog: pytest.LogCaptureFixture, *words: str) -> bool:
    return any(
        record.levelno == logging.ERROR
        and record.name.startswith("durable_workflow_sqlite")
        and all(word in record.getMessage() for word in words)
        for record in caplog.records
    )
