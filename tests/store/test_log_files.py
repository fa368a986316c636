"""The log and its index: noticed when they are gone, so that no commit is lost in silence."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_workflow_sqlite import SqliteCheckpointStore, StoreGoneError
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_checkpoint, new_execution
from tests.processes import a_process
from tests.store.gone import (
    FATES,
    a_store,
    befall,
    by_path,
    hears_that_it_is_gone,
    in_full,
    over_a_connection,
    saved_in,
)

Say = Callable[[str], None]


EVERY_WAY = pytest.mark.parametrize("opened", [by_path, in_full, over_a_connection])


def beside(file: Path, suffix: str) -> Path:
    return Path(f"{file}{suffix}")


@EVERY_WAY
@FATES
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_a_log_that_is_gone_takes_no_writes(
    file: Path, opened: Callable[[Path], SqliteCheckpointStore], suffix: str, fate: str
) -> None:
    async with a_store(opened, file) as store:
        for n in range(5):
            await store.save_checkpoint(new_checkpoint("e", 10 + n))
        befall(beside(file, suffix), fate)
        said = await hears_that_it_is_gone(store)
        assert f"{file}{suffix}" in said
        assert ("replaced by another file" if fate == "replaced" else "moved or deleted") in said
        assert "End every process that has the database open" in said
        if suffix == "-wal":
            assert "The commits to it before are saved in the database" in said
        if fate == "moved":
            befall(beside(file, suffix), "moved back")
            await store.save_checkpoint(new_checkpoint("e", 2))
            found = await store.load_checkpoints("e")
            assert [one.step_index for one in found] == [2, *range(10, 15)]
    if fate == "deleted":
        assert saved_in(file) == list(range(10, 15))


@EVERY_WAY
def test_what_is_committed_as_the_log_is_deleted_is_refused_or_saved(
    file: Path, opened: Callable[[Path], SqliteCheckpointStore]
) -> None:
    """It is deleted at any time: here, when one of many commits in a row has begun."""

    async def main() -> list[int]:
        async with a_store(opened, file) as store:
            for n in range(20):
                await store.save_checkpoint(new_checkpoint("e", n))
            begun = 0

            def delete(statement: str) -> None:
                nonlocal begun
                begun += statement.startswith("commit")
                if begun == 7:
                    beside(file, "-wal").unlink(missing_ok=True)

            store._connection.set_trace_callback(delete)
            told: list[int] = []
            try:
                for n in range(20, 5000):
                    await store.save_checkpoint(new_checkpoint("e", n))
                    told.append(n)
            except StoreGoneError as error:
                assert "are saved in the database" in str(error)
            store._connection.set_trace_callback(None)
            # As a process finds it that opens it now, whatever becomes of this one.
            copy = file.with_suffix(".copy")
            shutil.copy(file, copy)
            found = saved_in(copy)
            assert found[: 20 + len(told)] == list(range(20 + len(told)))
            return told

    told = asyncio.run(main())
    assert 6 <= len(told) < 4000


def test_what_was_committed_before_is_saved_also_if_the_workers_are_killed(file: Path) -> None:
    def work(first: int) -> Callable[[Say], None]:
        async def main(say: Say) -> None:
            store = SqliteCheckpointStore.file(file)
            for n in range(first, first + 100):
                await store.save_checkpoint(new_checkpoint("e", n))
            say("saved")
            while True:
                try:
                    await store.load_execution("e")
                except StoreGoneError:
                    say("gone")
                    await asyncio.sleep(60)
                await asyncio.sleep(0.001)

        return lambda say: asyncio.run(main(say))

    async def prepare() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, new_execution("e"))

    asyncio.run(prepare())
    with a_process(work(0)) as one, a_process(work(100)) as other:
        assert one.hear() == other.hear() == "saved"
        beside(file, "-wal").unlink()
        beside(file, "-shm").unlink()
        assert one.hear() == other.hear() == "gone"
    assert saved_in(file) == list(range(200))


async def test_a_log_that_somebody_else_has_begun_is_not_written_over(file: Path) -> None:
    """Theirs and ours do not fit: one of them is lost, and that is said."""

    async with SqliteCheckpointStore.file(file) as store:
        await store.save(WORKFLOW, new_execution("e"))
        befall(beside(file, "-wal"), "moved")
        beside(file, "-wal").write_bytes(beside(file, "-wal.away").read_bytes())
        with pytest.raises(StoreGoneError, match="only in the log, which is gone"):
            await store.save_checkpoint(new_checkpoint("e", 0))


COME_AND_GO = """
import sqlite3, sys
from contextlib import closing
from pathlib import Path
from durable_workflow_sqlite.store.backup import vacuum
from durable_workflow_sqlite.store.checkpointer import checkpoint

file = Path(sys.argv[1])
for mode in ("wal", "delete", "truncate"):
    with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as connection:
        connection.execute("create table if not exists notes (words)")
        connection.execute("insert into notes values ('a')")
        try:
            connection.execute(f"pragma journal_mode = {mode}")
        except sqlite3.OperationalError as error:
            assert mode != "wal", error
        else:
            assert mode == "wal"
checkpoint(str(file), (0.0, 0.1), keep_bytes=0)
vacuum(file, 5)
"""


@pytest.mark.campaign
async def test_what_sqlite_does_with_its_log_is_no_trouble(file: Path) -> None:
    """Others open and close the file, empty the log, rewrite the file, and ask for another mode.

    Not in a fork: that would have what SQLite knows of the locks of this process.
    """

    def come_and_go() -> None:
        subprocess.run([sys.executable, "-c", COME_AND_GO, str(file)], check=True)

    async with SqliteCheckpointStore.file(file) as store:
        await store.save(WORKFLOW, new_execution("e"))
        for turn in range(2):
            come_and_go()
            for n in range(20):
                await store.save_checkpoint(new_checkpoint("e", 20 * turn + n))
            async with SqliteCheckpointStore.file(file) as another:
                assert len(await another.load_checkpoints("e")) == 20 * (turn + 1)
    assert saved_in(file) == list(range(40))
