"""What a process does with the database file by itself drops nobody's locks, and loses nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from durable_workflow_sqlite import SqliteCheckpointStore, StoreGoneError
from durable_workflow_sqlite.store.connection import Synchronous
from durable_workflow_sqlite.store.lock_guard import IS_POSSIBLE
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_checkpoint, new_execution
from tests.databases import new_database
from tests.processes import a_process, until
from tests.store.gone import saved_in

pytestmark = pytest.mark.skipif(not IS_POSSIBLE, reason="there are no such locks here")

Say = Callable[[str], None]


def digest(file: Path) -> None:
    hashlib.sha256(file.read_bytes()).hexdigest()


def copy(file: Path) -> None:
    shutil.copy(file, file.parent.parent)


def copy_all(file: Path) -> None:
    for path in list(file.parent.iterdir()):
        shutil.copy(path, file.parent.parent)


def read_with_another_sqlite(file: Path) -> None:
    with closing(apsw.Connection(str(file))) as connection:
        assert connection.execute("select count(*) from workflow_executions").fetchone() == (1,)


def write_with_another_sqlite(file: Path) -> None:
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute("create table if not exists notes (words)")
        connection.execute("insert into notes values ('a')")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A workflow database in a folder of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    return new_database(folder / "workflows.db")


HARMS = (digest, copy, copy_all, read_with_another_sqlite, write_with_another_sqlite)


def use_and_close(file: Path, statement: str = "select 1 from workflows") -> None:
    """Another process opens the database, and takes itself for the last one if it may.

    Not a fork: that would have what SQLite knows of the locks of this process.
    """
    script = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute(sys.argv[2]).fetchall()\n"
        "connection.close()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(file), statement], check=True)


def log_of(file: Path) -> Path:
    return Path(f"{file}-wal")


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "synchronous", ["normal", pytest.param("full", marks=pytest.mark.campaign)]
)
@pytest.mark.parametrize("harm", HARMS)
def test_a_worker_that_opens_and_closes_its_own_database_loses_nothing(
    file: Path, harm: Callable[[Path], None], synchronous: Synchronous
) -> None:
    """Other processes come and go, and the worker is killed: what it was told is in the file."""

    def work(say: Say) -> None:
        async def main() -> None:
            store = SqliteCheckpointStore.file(file, synchronous=synchronous)
            await store.save(WORKFLOW, new_execution("e"))
            for turn in range(3):
                harm(file)
                say("harmed")
                await until((file.parent / f"used {turn}").exists)
                for n in range(20):
                    await store.save_checkpoint(new_checkpoint("e", 20 * turn + n))
            say("saved")
            await asyncio.sleep(60)

        asyncio.run(main())

    with a_process(work) as worker:
        for turn in range(3):
            assert worker.hear() == "harmed"
            use_and_close(file)
            use_and_close(file, "pragma user_version")
            (file.parent / f"used {turn}").touch()
        assert worker.hear() == "saved"
    assert saved_in(file) == list(range(60))


async def test_without_the_guard_the_log_is_deleted_beside_its_worker(
    file: Path,
) -> None:
    """What the guard is for; the store notices, as where there is no guard."""

    async with SqliteCheckpointStore.file(file) as store:
        await store.save(WORKFLOW, new_execution("e"))
        store._guard.release()
        digest(file)
        use_and_close(file)
        assert not log_of(file).exists()
        with pytest.raises(StoreGoneError, match="the write-ahead log, was moved or deleted"):
            await store.save_checkpoint(new_checkpoint("e", 0))


async def test_one_of_two_stores_that_closes_leaves_the_guard_to_the_other(file: Path) -> None:
    one, other = SqliteCheckpointStore.file(file), SqliteCheckpointStore.file(file)
    await one.save(WORKFLOW, new_execution("e"))
    await one.close()
    digest(file)
    use_and_close(file)
    await other.save_checkpoint(new_checkpoint("e", 0))
    await other.close()
    assert saved_in(file) == [0]


def test_a_store_that_closes_drops_no_locks_of_its_process(file: Path) -> None:
    """To close what the guard has open would drop those of the program's own connection."""

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, new_execution("e"))

    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("select 1 from workflows").fetchall()
        asyncio.run(main())
        use_and_close(file)
        assert log_of(file).exists(), "it has lost its lock"
    asyncio.run(main())
    assert not log_of(file).exists()


def test_the_last_process_that_closes_leaves_the_database_alone_as_ever(file: Path) -> None:
    def work(say: Say) -> None:
        async def main() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                await store.save(WORKFLOW, new_execution("e"))
                say("saved")
                await until(lambda: (file.parent / "close").exists())
            say("closed")

        asyncio.run(main())

    with a_process(work) as one, a_process(work) as other:
        assert one.hear() == other.hear() == "saved"
        (file.parent / "close").touch()
        assert one.hear() == other.hear() == "closed"
        (file.parent / "close").unlink()
        use_and_close(file)
        assert list(file.parent.iterdir()) == [file]


async def test_stores_of_many_files_keep_none_of_them_open(tmp_path: Path) -> None:
    for number in range(20):
        file = new_database(tmp_path / f"{number}.db")
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW)
    opened = [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()]
    assert [path for path in opened if path.startswith(str(tmp_path))] == []


def test_a_child_that_outlives_its_parent_keeps_none_of_its_locks(file: Path) -> None:
    def work(say: Say) -> None:
        async def main() -> None:
            store = SqliteCheckpointStore.file(file)
            await store.save(WORKFLOW, new_execution("e"))
            child = os.fork()
            if child == 0:
                os.close(writing)
                say("lives")
                os.read(reading, 1)  # until the test is over
                os._exit(0)
            await asyncio.sleep(60)

        asyncio.run(main())

    reading, writing = os.pipe()
    try:
        with a_process(work) as worker:
            assert worker.hear() == "lives"
            worker.kill()
            use_and_close(file)
            assert not log_of(file).exists()
    finally:
        os.close(writing)
        os.close(reading)


def test_a_store_that_closes_leaves_alone_a_log_that_others_have_begun(file: Path) -> None:
    """Both files were deleted, another process has committed since, and is gone."""

    def work(say: Say) -> None:
        async def main() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                await store.save(WORKFLOW, new_execution("e"))
                await store.save_checkpoint(new_checkpoint("e", 0))
                say("saved")
                await until(lambda: (file.parent / "look").exists())
                with pytest.raises(StoreGoneError, match="only in the log, which is gone"):
                    await store.save_checkpoint(new_checkpoint("e", 1))
            say("closed")

        asyncio.run(main())

    with a_process(work) as worker:
        assert worker.hear() == "saved"
        for suffix in ("-wal", "-shm"):
            Path(f"{file}{suffix}").unlink()
        use_and_close(file, "create table notes (words)")
        (file.parent / "look").touch()
        assert worker.hear() == "closed"
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select count(*) from notes").fetchone() == (0,)
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
