"""Retention and the write-ahead log: neither holds up the writers, a kill leaves nothing torn."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    ExecutionStatus,
    SignalStatus,
    SqliteCheckpointStore,
    TimerStatus,
)
from durable_workflow_sqlite.testing.contract_base import (
    NOON,
    WORKFLOW,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
)
from tests.lives import a_process


async def fill(file: Path, executions: int) -> None:
    """Finished executions, each with two checkpoints, a timer and a signal."""
    async with SqliteCheckpointStore.file(file) as store:
        await store.save(WORKFLOW)
        for start in range(0, executions, 1000):
            await asyncio.gather(
                *(
                    store.save(
                        new_execution(one, status=ExecutionStatus.COMPLETED, updated_at=NOON),
                        new_checkpoint(one, 0),
                        new_checkpoint(one, 1),
                        new_timer(one, f"timer {one}", NOON, status=TimerStatus.FIRED),
                        new_signal(one, "go", status=SignalStatus.DELIVERED),
                    )
                    for one in map(str, range(start, min(start + 1000, executions)))
                )
            )


def test_a_writer_waits_for_no_more_than_a_batch(file: Path) -> None:
    """10,000 executions are deleted while another process writes all the time."""
    asyncio.run(fill(file, 10_000))

    def write_all_the_time(say: Callable[[str], None]) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            while True:
                began = time.monotonic()
                connection.execute("begin immediate")
                connection.execute("update workflows set version = version + 1")
                connection.execute("commit")
                say(f"{began} {time.monotonic()}")
                time.sleep(0.002)

    async def story() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            with a_process(write_all_the_time) as writer:
                writer.hear()
                began = time.monotonic()
                deleted = await store.delete_completed_before(NOON + timedelta(days=1))
                ended = time.monotonic()
                waits: list[float] = []
                asked = began
                while asked < ended:
                    asked, written = map(float, writer.hear().split())
                    if began <= asked < ended:
                        waits.append(written - asked)
            assert deleted == 10_000
            print(f"took {ended - began:.3f} s; {len(waits)} writes, longest {max(waits):.3f} s")
            assert len(waits) > 5
            assert max(waits) < 0.5
            assert await store.load_executions_by_status(ExecutionStatus) == []

    asyncio.run(story())


def executions_in(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("select count(*) from workflow_executions").fetchone()
    return int(count)


def test_a_kill_in_the_middle_of_retention_tears_nothing(file: Path) -> None:
    asyncio.run(fill(file, 6_000))

    def delete(say: Callable[[str], None]) -> None:
        async def story() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                say("begun")
                await store.delete_completed_before(NOON + timedelta(days=1), batch_size=50)
                say("done")

        asyncio.run(story())

    left = [6_000]
    for _ in range(3):
        with a_process(delete) as worker, closing(sqlite3.connect(file)) as watcher:
            assert worker.hear() == "begun"
            # Killed when a batch has come and others are to come, however slow it is.
            while executions_in(watcher) == left[-1]:
                time.sleep(0.001)
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("pragma foreign_key_check").fetchall() == []
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
            counts = [
                connection.execute(f"select count(*) from {table}").fetchone()[0]
                for table in (
                    "workflow_executions",
                    "step_checkpoints",
                    "workflow_timers",
                    "workflow_signals",
                )
            ]
        executions = counts[0]
        assert counts == [executions, 2 * executions, executions, executions]
        assert executions % 50 == 0
        left.append(executions)
    assert left == sorted(set(left), reverse=True)
    assert left[-1] > 0, "none was killed in the middle"

    async def finish() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            assert await store.delete_completed_before(NOON + timedelta(days=1)) == left[-1]

    asyncio.run(finish())


def test_only_what_is_finished_and_has_not_changed_since_is_deleted(file: Path) -> None:
    asyncio.run(fill(file, 5))

    async def story() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            later = NOON + timedelta(days=1)
            await store.save(
                new_execution("runs", status=ExecutionStatus.RUNNING, updated_at=NOON),
                new_execution("new", status=ExecutionStatus.FAILED, updated_at=later),
                new_execution("failed", status=ExecutionStatus.FAILED, updated_at=NOON),
            )
            named = ["runs", "new", "failed", "nobody", "2", "2"]
            assert sorted(await store.delete_finished(named, later)) == ["2", "failed"]
            assert await store.delete_finished(named, later) == []
            assert await store.delete_finished([], later) == []
            kept = await store.load_executions_by_status(ExecutionStatus)
            assert {one.workflow_execution_id for one in kept} == {*"0134", "runs", "new"}
            for wrong in ("2", [""], [2]):
                with pytest.raises((TypeError, ValueError)):
                    await store.delete_finished(wrong, later)  # type: ignore[arg-type]
            with pytest.raises(ValueError):
                await store.delete_finished(["2"], later.replace(tzinfo=None))

    asyncio.run(story())
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("pragma foreign_key_check").fetchall() == []
