"""A file that is locked, full, gone or read-only under way: what those hear who ask, and after.

Executions stop without being failed, what was acknowledged is kept, and the engine goes on by
itself once the cause is gone, or stops with words that say what to do.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreGoneError,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)
from durable_workflow_sqlite.store import group_commit
from tests.databases import new_database
from tests.faults.disks import a_disk_in_a_file, a_disk_in_memory, fill, make_read_only
from tests.oracle import ProcessRun, look, violations
from tests.processes import an_engine

ID = "one"
STEPS = 8
SYNCHRONOUS = pytest.mark.parametrize("synchronous", ["normal", "full"])


WHEN = pytest.mark.parametrize("in_a_step", [False, True], ids=["between steps", "in a step"])


class Story:
    """A workflow of many steps; something happens in the fourth one, or after it."""

    def __init__(
        self, happens: Callable[[], object], size: int = 40_000, *, in_a_step: bool = False
    ) -> None:
        self.lines: list[str] = []
        self._happens = happens
        self._size = size
        self._in_a_step = in_a_step
        self._has_happened = False
        self.workflow = self._workflow()

    def _workflow(self) -> WorkflowDefinition[[], int]:
        @workflow(name="many steps")
        async def many_steps(ctx: WorkflowContext) -> int:
            for number in range(STEPS):
                name = f"step {number}"
                await ctx.step(name, self._act, name)
                self.lines.append(f"done {name}")
                if name == "step 3" and not self._in_a_step:
                    self._happen()
            return STEPS

        return many_steps

    async def _act(self, name: str) -> str:
        self.lines.append(f"run {name}")
        await asyncio.sleep(0.001)
        if name == "step 3" and self._in_a_step:
            self._happen()
        return "x" * self._size

    def _happen(self) -> None:
        if not self._has_happened:
            self._has_happened = True
            self._happens()

    def check_each_step_ran_once(self) -> None:
        assert [line for line in self.lines if line.startswith("run")] == [
            f"run step {number}" for number in range(STEPS)
        ]


async def eventually(result: Callable[[], Awaitable[int]]) -> int:
    """Ask until the store lets it be told."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await result()
            except StoreError:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def opened(
    file: Path, synchronous: Literal["normal", "full"], story: Story
) -> AsyncIterator[DurableEngine]:
    async with an_engine(file, synchronous=synchronous, workflows=[story.workflow]) as (_, engine):
        yield engine


async def go_on(file: Path, synchronous: Literal["normal", "full"], story: Story) -> None:
    async with opened(file, synchronous, story) as engine:
        assert await engine.run(story.workflow, execution_id=ID) == STEPS


def check_promises(file: Path, lines: list[str]) -> None:
    assert violations([ProcessRun(tuple(lines), look(file, ID))]) == []


@pytest.mark.faults
@SYNCHRONOUS
@WHEN
async def test_a_lock_that_is_held_for_too_long_is_waited_out(
    tmp_path: Path,
    synchronous: Literal["normal", "full"],
    in_a_step: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = new_database(tmp_path / "workflows.db")
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_MS", 150)

    async with SqliteCheckpointStore.file(file, synchronous=synchronous) as store:
        if synchronous == "full":
            store._connection.execute("pragma busy_timeout = 150")
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            story = Story(lambda: other.execute("begin immediate"), in_a_step=in_a_step)
            async with DurableEngine(store, workflows=[story.workflow]) as engine:
                handle = await engine.start(story.workflow, execution_id=ID)
                with pytest.raises(StoreBusyError, match="lock"):
                    await handle.result()
                assert (await engine.load(ID)).status is ExecutionStatus.RUNNING
                other.execute("rollback")
                assert await eventually(handle.result) == STEPS
            check_promises(file, story.lines)
            story.check_each_step_ran_once()


@pytest.mark.faults
@SYNCHRONOUS
@WHEN
def test_a_disk_that_is_full_is_waited_out(
    tmp_path: Path, synchronous: Literal["normal", "full"], in_a_step: bool
) -> None:
    async def main(disk: Path) -> None:
        file, ballast = disk / "workflows.db", disk / "ballast"
        story = Story(lambda: fill(ballast), in_a_step=in_a_step)
        async with opened(file, synchronous, story) as engine:
            handle = await engine.start(story.workflow, execution_id=ID)
            with pytest.raises(StoreFullError, match="make room"):
                await handle.result()
            assert (await engine.load(ID)).status is ExecutionStatus.RUNNING
            ballast.unlink()
            assert await eventually(handle.result) == STEPS
        check_promises(file, story.lines)
        if in_a_step:
            story.check_each_step_ran_once()

    with a_disk_in_memory(tmp_path / "disk", "6m") as disk:
        asyncio.run(main(disk))


@pytest.mark.faults
@SYNCHRONOUS
def test_a_disk_that_becomes_read_only_loses_nothing(
    tmp_path: Path, synchronous: Literal["normal", "full"]
) -> None:
    folder, image = tmp_path / "disk", tmp_path / "image"

    async def until_it_is_read_only(disk: Path) -> Story:
        file = disk / "workflows.db"
        story = Story(lambda: make_read_only(disk), size=10)
        async with opened(file, synchronous, story) as engine:
            handle = await engine.start(story.workflow, execution_id=ID)
            with pytest.raises(StoreError, match="may be written"):
                await handle.result()
            assert (await engine.load(ID)).status is ExecutionStatus.RUNNING
        return story

    with a_disk_in_a_file(folder, image, 16) as disk:
        story = asyncio.run(until_it_is_read_only(disk))
        copy = tmp_path / "workflows.db"
        for name in ("workflows.db", "workflows.db-wal"):
            if (disk / name).exists():
                (tmp_path / name).write_bytes((disk / name).read_bytes())

    asyncio.run(go_on(copy, synchronous, story))
    check_promises(copy, story.lines)


@pytest.mark.faults
@SYNCHRONOUS
@pytest.mark.parametrize("fate", ["deleted", "moved", "replaced"])
def test_a_file_that_is_gone_stops_the_engine_with_words_that_say_what_to_do(
    tmp_path: Path,
    synchronous: Literal["normal", "full"],
    fate: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file, away = new_database(tmp_path / "workflows.db"), tmp_path / "away.db"
    other = b"another file altogether"

    def happen() -> None:
        file.unlink() if fate == "deleted" else file.rename(away)
        if fate == "replaced":
            file.write_bytes(other)

    async def main() -> None:
        story = Story(happen)
        async with opened(file, synchronous, story) as engine:
            handle = await engine.start(story.workflow, execution_id=ID)
            for _ in range(2):  # also who asks later
                with pytest.raises(StoreGoneError, match="open what is there now"):
                    await handle.result()
            with pytest.raises(StoreGoneError):
                await engine.start(story.workflow, execution_id="another")
            caplog.clear()
            await asyncio.sleep(0.3)
            said = [r for r in caplog.records if r.levelno >= logging.WARNING]
            assert len(said) < 5, "it goes on and on about it"
        if fate == "replaced":
            assert file.read_bytes() == other
        if fate == "moved":
            away.rename(file)
            async with an_engine(file, workflows=[story.workflow]) as (_, engine):
                assert await engine.run(story.workflow, execution_id=ID) == STEPS
            check_promises(file, story.lines)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert fate != "deleted" or not file.exists()


@pytest.mark.faults
@SYNCHRONOUS
@WHEN
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_log_that_is_deleted_stops_the_engine_and_a_new_one_goes_on(
    tmp_path: Path, synchronous: Literal["normal", "full"], in_a_step: bool, suffix: str
) -> None:
    file = new_database(tmp_path / "workflows.db")
    story = Story(Path(f"{file}{suffix}").unlink, in_a_step=in_a_step)

    async def main() -> None:
        async with opened(file, synchronous, story) as engine:
            handle = await engine.start(story.workflow, execution_id=ID)
            for _ in range(2):  # also who asks later
                with pytest.raises(StoreGoneError, match="then start them again"):
                    await handle.result()

    asyncio.run(main())
    first = ProcessRun(tuple(story.lines), look(file, ID))
    story.lines.clear()
    asyncio.run(go_on(file, synchronous, story))
    assert violations([first, ProcessRun(tuple(story.lines), look(file, ID))]) == []


@pytest.mark.faults
@SYNCHRONOUS
@WHEN
def test_a_backup_that_is_restored_beside_its_worker_stops_the_engine_and_a_new_one_goes_on(
    tmp_path: Path, synchronous: Literal["normal", "full"], in_a_step: bool
) -> None:
    file, backup = new_database(tmp_path / "workflows.db"), tmp_path / "backup.db"

    def copy(source: Path, target: Path) -> None:
        with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
            one.backup(other)

    class Restored(Story):
        async def _act(self, name: str) -> str:
            if name == "step 1" and not backup.exists():
                copy(file, backup)
            return await super()._act(name)

    story = Restored(lambda: copy(backup, file), size=10, in_a_step=in_a_step)

    async def main() -> None:
        async with opened(file, synchronous, story) as engine:
            handle = await engine.start(story.workflow, execution_id=ID)
            with pytest.raises(StoreGoneError, match="was restored while it was open"):
                await handle.result()

    asyncio.run(main())
    # As after a crash at the time of the backup: what came later runs again.
    before = ProcessRun(("run step 0", "done step 0", "run step 1"), look(file, ID))
    story.lines.clear()
    asyncio.run(go_on(file, synchronous, story))
    assert violations([before, ProcessRun(tuple(story.lines), look(file, ID))]) == []
    assert "run step 0" not in story.lines
    assert "run step 1" in story.lines


@pytest.mark.faults
async def test_who_waits_for_a_result_from_elsewhere_hears_that_the_file_is_gone(
    tmp_path: Path,
) -> None:
    file = new_database(tmp_path / "workflows.db")

    @workflow(name="sleeper")
    async def sleeper(ctx: WorkflowContext) -> None:
        await ctx.sleep("long", timedelta(days=1))

    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as clients_store,
        DurableEngine(store, workflows=[sleeper]) as engine,
        DurableEngine(clients_store) as client,
    ):
        await engine.start(sleeper, execution_id=ID)
        waiting = asyncio.create_task(client.handle(ID).result())
        await asyncio.sleep(0.1)
        file.unlink()
        with pytest.raises(StoreGoneError):
            await asyncio.wait_for(waiting, 10)
