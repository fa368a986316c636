"""Retention and the write-ahead log: neither holds up the writers, a kill leaves nothing torn."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from durable_workflow_sqlite import (
    ExecutionStatus,
    SignalStatus,
    SqliteCheckpointStore,
    TimerStatus,
)
from durable_workflow_sqlite.store import retention
from durable_workflow_sqlite.testing.contract_base import (
    NOON,
    WORKFLOW,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
)
from tests.processes import Harm, open_harmed, run_until_killed
from tests.worlds import in_virtual_time


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


def executions_in(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("select count(*) from workflow_executions").fetchone()
    return int(count)


def test_a_writer_waits_for_no_more_than_a_batch(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two batches others can write; they have as much time for it as a batch takes."""
    asyncio.run(fill(file, 1_000))
    looks = itertools.count()
    a_second_a_look = SimpleNamespace(monotonic=lambda: next(looks))
    monkeypatch.setattr(retention, "time", a_second_a_look)
    left: list[int] = []

    async def main() -> None:
        time = asyncio.get_running_loop().time
        with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as other:

            def write(_: int) -> None:
                other.execute("begin immediate")
                other.execute("update workflows set version = version + 1")
                left.append(executions_in(other))
                other.execute("commit")

            async with SqliteCheckpointStore.file(file) as store:
                began = time()
                await store.delete_completed_before(
                    NOON + timedelta(days=1), batch_size=50, on_deleted=write
                )
                assert time() - began >= len(left)
                assert await store.load_executions_by_status(ExecutionStatus) == []

    in_virtual_time(main)
    assert left == list(range(950, -1, -50))


@pytest.mark.parametrize("harm", [Harm(3, True), Harm(2, False)], ids=str)
def test_a_kill_in_the_middle_of_retention_tears_nothing(file: Path, harm: Harm) -> None:
    asyncio.run(fill(file, 500))

    async def delete() -> None:
        async with open_harmed(file, harm) as store:
            await store.delete_completed_before(NOON + timedelta(days=1), batch_size=50)

    run_until_killed(delete)
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
    assert counts == [400, 800, 400, 400]

    async def finish() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            assert await store.delete_completed_before(NOON + timedelta(days=1)) == 400

    asyncio.run(finish())


def test_only_what_is_finished_and_has_not_changed_since_is_deleted(file: Path) -> None:
    asyncio.run(fill(file, 5))

    async def main() -> None:
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

    asyncio.run(main())
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("pragma foreign_key_check").fetchall() == []
