"""The write-ahead log: short under any load, gone at the end, and checkpointed by nobody else."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from durable_workflow_sqlite import SqliteCheckpointStore, StoreError
from durable_workflow_sqlite.store import checkpointer
from durable_workflow_sqlite.store.checkpointer import checkpoint
from durable_workflow_sqlite.store.log_header import salt_of
from durable_workflow_sqlite.store.sqlite_checkup import has_reset_bug
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_checkpoint, new_execution
from tests.processes import a_process

LIMIT = 64_000_000


Say = Callable[[str], None]


# How long it gets


@pytest.mark.campaign
@pytest.mark.parametrize("at_once", [1, 50])
@pytest.mark.parametrize("readers", [0, 3])
def test_the_log_stays_short(file: Path, at_once: int, readers: int) -> None:
    async def main() -> int:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, new_execution("e"))
            with reading(file, readers):
                return await write(file, store, "e", 24_000, at_once)

    largest = asyncio.run(main())
    print(f"largest log {largest / 1e6:.1f} MB, file {size_of(file) / 1e6:.1f} MB")
    assert size_of(file) > 70_000_000
    assert 0 < largest < LIMIT
    assert names_beside(file) == []


@pytest.mark.campaign
def test_the_log_stays_short_while_two_processes_write_and_others_read(file: Path) -> None:
    async def prepare() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, new_execution("0"), new_execution("1"))

    def writer(execution_id: str) -> Callable[[Say], None]:
        async def main() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                await write(file, store, execution_id, 15_000, at_once=20)

        def body(say: Say) -> None:
            asyncio.run(main())
            say("done")

        return body

    def reader(say: Say) -> None:
        with reading(file, 2):
            say("reads")
            time.sleep(600)

    asyncio.run(prepare())
    largest, anew, salt = 0, 0, None
    with a_process(reader) as one, a_process(reader) as other:
        assert one.hear() == other.hear() == "reads"
        with a_process(writer("0")) as first, a_process(writer("1")) as second:
            are_done = threading.Event()

            heard: list[str] = []

            def listen() -> None:
                try:
                    heard.extend((first.hear(), second.hear()))
                finally:
                    are_done.set()

            listening = threading.Thread(target=listen)
            listening.start()
            while not are_done.wait(0.002):
                largest = max(largest, size_of(log_of(file)))
                if (now := salt_of(str(log_of(file)))) != salt:
                    anew, salt = anew + 1, now
            listening.join()
            assert heard == ["done", "done"]
        print(f"largest log {largest / 1e6:.1f} MB, begun anew {anew} times")
        assert anew > 3
        assert 30_000_000 < largest < LIMIT
        # The last store has closed; the readers go on.
        assert size_of(log_of(file)) < 1_000_000


@pytest.mark.campaign
async def test_a_reader_that_stays_holds_writers_up_a_few_times_and_not_all_the_time(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        await store.save(WORKFLOW, new_execution("e"))
        with closing(sqlite3.connect(file, isolation_level=None)) as reader:
            reader.execute("begin")
            reader.execute("select count(*) from workflow_executions").fetchone()
            held_up = 0
            for number in range(26_000):
                began = time.monotonic()
                await save(store, "e", number)
                held_up += time.monotonic() - began > 0.15
            grown = size_of(log_of(file))
            assert grown > LIMIT
            assert held_up < 20
            assert "a connection has kept a read transaction open for long" in caplog.text
        # It has ended: the log becomes short again.
        for number in range(26_000, 60_000):
            await save(store, "e", number)
            if number % 100 == 0 and size_of(log_of(file)) < grown / 2:
                return
        raise AssertionError(f"the log is still {size_of(log_of(file))} bytes long")


def test_commits_go_on_while_a_slow_disk_takes_the_log_and_wait_before_it_is_too_long(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked, may_go_on = threading.Event(), threading.Event()

    def slow_fsync(_: int) -> None:
        is_asked.set()
        assert may_go_on.wait(60)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, new_execution("e"))
            number = 0
            while not is_asked.is_set():
                await save(store, "e", number := number + 1)
            asked_at = size_of(log_of(file))
            began = time.monotonic()
            for _ in range(100):
                await save(store, "e", number := number + 1)
            assert time.monotonic() - began < 5
            assert size_of(log_of(file)) > asked_at
            while size_of(log_of(file)) <= checkpointer.LOG_BYTES:
                await save(store, "e", number := number + 1)
            for _ in range(100):
                await save(store, "e", number := number + 1)
            assert checkpointer.LOG_BYTES < size_of(log_of(file)) < LIMIT
            may_go_on.set()
            salt = salt_of(str(log_of(file)))
            give_up_at = time.monotonic() + 20
            while salt_of(str(log_of(file))) == salt:
                assert time.monotonic() < give_up_at, "the log has not begun anew"
                await save(store, "e", number := number + 1)

    monkeypatch.setattr(checkpointer.os, "fsync", slow_fsync)
    try:
        asyncio.run(main())
    finally:
        may_go_on.set()


def test_an_error_of_the_disk_is_told_and_copies_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing_fsync(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, new_execution("e"))
            monkeypatch.setattr(checkpointer.os, "fsync", failing_fsync)
            salt, number = salt_of(str(log_of(file))), 0
            while "could not checkpoint" not in caplog.text:
                await save(store, "e", number := number + 1)
            assert salt_of(str(log_of(file))) == salt
            monkeypatch.undo()
            while salt_of(str(log_of(file))) == salt:
                await save(store, "e", number := number + 1)

    async def within(seconds: float) -> None:
        await asyncio.wait_for(main(), seconds)

    asyncio.run(within(60))


# What is left at the end


async def test_the_last_store_that_closes_leaves_the_database_alone(file: Path) -> None:
    one = SqliteCheckpointStore.file(file)
    other = SqliteCheckpointStore.file(file)
    for store in (one, other):
        await store.save(WORKFLOW)
    await one.close()
    assert log_of(file).name in names_beside(file)
    await other.close()
    assert names_beside(file) == []


def test_a_store_that_closes_beside_another_connection_empties_the_log(file: Path) -> None:
    async def main(other: sqlite3.Connection) -> None:
        async with SqliteCheckpointStore.file(file) as store:
            other.execute("select count(*) from workflows").fetchone()
            await store.save(WORKFLOW, new_execution("e"))
            await write(file, store, "e", 500)
            assert size_of(log_of(file)) > 1_000_000

    with closing(sqlite3.connect(file)) as other:
        asyncio.run(main(other))
        assert size_of(log_of(file)) < 10_000
        assert other.execute("select count(*) from step_checkpoints").fetchone() == (500,)
        assert other.execute("pragma integrity_check").fetchone() == ("ok",)


async def test_a_store_that_wrote_nothing_leaves_the_log_as_it_is(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as worker:
        await worker.save(WORKFLOW, new_execution("e"))
        await write(file, worker, "e", 50)
        before = log_of(file).read_bytes()
        async with SqliteCheckpointStore.file(file) as store:
            assert await store.load_execution("e") is not None
        assert log_of(file).read_bytes() == before


def test_a_checkpoint_makes_no_database_where_one_was_deleted(file: Path) -> None:
    file.unlink()
    with pytest.raises(StoreError, match="cannot open the database"):
        checkpoint(str(file))
    assert not file.exists()


# The WAL-reset bug


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform != "linux", reason="looks at locks as Linux shows them")
def test_no_checkpoint_runs_while_another_connection_can_commit(file: Path) -> None:
    """Seen from outside, by the locks that SQLite takes on the index of the log."""
    make_notes(file)

    def checkpointing(say: Say) -> None:
        say("begins")
        while True:
            with suppress(sqlite3.OperationalError):  # the writer kept the lock for too long
                checkpoint(str(file), (0.0, 0.005))

    def careless(say: Say) -> None:
        with closing(connected(file)) as connection:
            say("begins")
            while True:
                connection.execute("pragma wal_checkpoint(passive)").fetchall()

    with a_process(writing_notes(file)) as writer:
        assert writer.hear() == "begins"
        for body, may_commit in ((checkpointing, False), (careless, True)):
            with a_process(body) as checkpoints:
                assert checkpoints.hear() == "begins"
                seen, unguarded = observed(file, checkpoints.pid, until_unguarded=may_commit)
            print(f"{body.__name__}: seen {seen} times, unguarded {unguarded} times")
            assert seen > 20
            assert (unguarded > 0) is may_commit


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform != "linux", reason="looks at locks as Linux shows them")
def test_a_store_checkpoints_only_under_the_write_lock(file: Path) -> None:
    def work(say: Say) -> None:
        async def main() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                await store.save(WORKFLOW, new_execution("e"))
                say("begins")
                await write(file, store, "e", 10**6, at_once=50)

        asyncio.run(main())

    with a_process(work) as worker:
        assert worker.hear() == "begins"
        seen, unguarded = observed(file, worker.pid)
    assert seen > 20
    assert unguarded == 0


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_the_versions_with_the_bug(version: tuple[int, int, int], expected: bool) -> None:
    assert has_reset_bug(version) is expected


@pytest.mark.campaign
# What they need


async def write(
    file: Path, store: SqliteCheckpointStore, execution_id: str, count: int, at_once: int = 1
) -> int:
    """Save so many checkpoints of 3 KB; gives how long the log was at most."""
    largest = 0
    for turn in range(count // at_once):
        numbers = range(turn * at_once, (turn + 1) * at_once)
        await asyncio.gather(*(save(store, execution_id, number) for number in numbers))
        largest = max(largest, size_of(log_of(file)))
    return largest


async def save(store: SqliteCheckpointStore, execution_id: str, number: int) -> None:
    await store.save_checkpoint(new_checkpoint(execution_id, number, output_data=f'"{"x" * 3000}"'))


def connected(file: Path, *, checkpoints: bool = False) -> sqlite3.Connection:
    """A connection that is not the library's, without automatic checkpoints or with them."""
    connection = sqlite3.connect(file, isolation_level=None, timeout=20)
    connection.execute("pragma journal_mode = wal").fetchall()
    if not checkpoints:
        connection.execute("pragma wal_autocheckpoint = 0")
    connection.execute("select count(*) from sqlite_schema").fetchone()  # it is in the file now
    return connection


def make_notes(file: Path) -> None:
    with closing(connected(file)) as connection:
        add_notes(connection)


def add_notes(connection: sqlite3.Connection) -> None:
    connection.execute("create table if not exists notes (words)")
    connection.execute("insert into notes values (0)")


def begin_the_log_anew(connection: sqlite3.Connection) -> None:
    """Checkpoint beside the commits of others, as automatic checkpoints do, and write."""
    connection.execute("insert into notes values (1)")
    connection.execute("pragma wal_checkpoint(passive)").fetchall()
    connection.execute("insert into notes values (2)")


def writing_notes(file: Path) -> Callable[[Say], None]:
    def body(say: Say) -> None:
        say("begins")
        with closing(connected(file)) as connection:
            while True:
                for _ in range(20):
                    connection.execute("update notes set words = words + 1")
                time.sleep(0.001)  # else nobody else would come by the lock

    return body


@contextmanager
def reading(file: Path, readers: int) -> Iterator[None]:
    """Readers that come and go, one of them there at any time."""
    is_over = threading.Event()

    def read(number: int) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            while not is_over.is_set():
                connection.execute("begin")
                connection.execute("select count(*) from workflow_executions").fetchone()
                is_over.wait(0.03 + 0.01 * number)
                connection.execute("commit")

    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


WRITE, CHECKPOINT = 120, 121
"""Which byte of the index SQLite locks to write, and to checkpoint (sqlite.org/walformat.html)."""


def observed(file: Path, process: int, *, until_unguarded: bool = False) -> tuple[int, int]:
    """How often a process was seen to checkpoint, and how often somebody could commit then.

    For three seconds, and on a busy machine until there is something to tell.
    """
    seen = unguarded = 0
    index = os.open(f"{file}-shm", os.O_RDWR)
    try:
        began_at = time.monotonic()
        while (began := time.monotonic()) < began_at + 60:
            if began >= began_at + 3 and seen > 20 and (unguarded or not until_unguarded):
                break
            if holder(index, CHECKPOINT) != process:
                continue
            writer = holder(index, WRITE)
            # One and the same checkpoint: two of them are further apart than that.
            if holder(index, CHECKPOINT) == process and time.monotonic() - began < 0.0001:
                seen += 1
                unguarded += writer != process
    finally:
        os.close(index)
    return seen, unguarded


def holder(file: int, byte: int) -> int:
    """Which process holds a lock on a byte of a file; 0 for none."""
    lock = struct.Struct("hhqqi4x")  # Linux' struct flock on 64 bits
    asked = lock.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind, _, _, _, process = lock.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else int(process)


def log_of(file: Path) -> Path:
    return Path(f"{file}-wal")


def names_beside(file: Path) -> list[str]:
    """What else there is in the folder of a database."""
    return sorted(path.name for path in file.parent.iterdir() if path != file)


def size_of(path: Path) -> int:
    return path.stat().st_size
