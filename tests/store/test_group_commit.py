"""Writes of one turn share a transaction; one that fails fails alone; the loop never waits."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    SerializationError,
    SqliteCheckpointStore,
    StoreBusyError,
    StoreError,
    StoreFullError,
)
from durable_workflow_sqlite.store import connection as opening
from durable_workflow_sqlite.store import group_commit
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_checkpoint, new_execution
from tests.store.gone import (
    FATES,
    a_store,
    by_path,
    hears_that_it_is_gone,
    in_full,
    over_a_connection,
)


class Recording(sqlite3.Connection):
    """Keeps the statements that it is given."""

    statements: list[str]

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self.__dict__.setdefault("statements", []).append(sql)
        return super().execute(sql, *parameters)


def over_a_connection_for_all_threads(file: Path) -> SqliteCheckpointStore:
    return SqliteCheckpointStore(sqlite3.connect(file, check_same_thread=False))


EVERY_WAY = pytest.mark.parametrize(
    "opened", [by_path, in_full, over_a_connection, over_a_connection_for_all_threads]
)


@pytest.fixture
def other(file: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection to the file."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


async def saved(store: SqliteCheckpointStore) -> list[int]:
    return [checkpoint.step_index for checkpoint in await store.load_checkpoints("e")]


def test_writes_of_one_turn_share_one_transaction(file: Path) -> None:
    async def main(connection: Recording) -> None:
        async with SqliteCheckpointStore(connection) as store:
            await store.save(WORKFLOW, new_execution("e"))
            connection.statements.clear()
            await asyncio.gather(
                *(store.save_checkpoint(new_checkpoint("e", n)) for n in range(50))
            )
            assert connection.statements.count("begin immediate") == 1
            assert sum(one.startswith("commit") for one in connection.statements) == 1
            assert await saved(store) == list(range(50))

            connection.statements.clear()
            for n in range(50):
                await store.save_checkpoint(new_checkpoint("e", n))
            assert connection.statements.count("begin immediate") == 50

    with closing(sqlite3.connect(file, factory=Recording)) as connection:
        asyncio.run(main(connection))


@EVERY_WAY
async def test_a_write_that_fails_among_others_fails_alone(
    file: Path, opened: Callable[[Path], SqliteCheckpointStore]
) -> None:
    async with a_store(opened, file) as store:
        for bad in (0, 7, 19):
            outcomes = await asyncio.gather(
                *(
                    store.save(
                        new_checkpoint("e", 100 * bad + n),
                        new_checkpoint("unknown" if n == bad else "e", 100 * bad + n, attempt=2),
                    )
                    for n in range(20)
                ),
                return_exceptions=True,
            )
            assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [bad]
            assert isinstance(outcomes[bad], StoreError)
        assert len(await saved(store)) == 3 * 2 * 19


async def test_the_others_wait_for_the_lock_when_it_is_taken_just_after_the_first_try(
    file: Path, other: sqlite3.Connection
) -> None:
    """Between the failing transaction and the second one, somebody else may take the lock."""

    class Unlucky(sqlite3.Connection):
        armed = False

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            cursor = super().execute(sql, *parameters)
            if sql.startswith("rollback") and self.armed:
                self.armed = False
                other.execute("begin immediate")
                asyncio.get_running_loop().call_later(0.3, other.execute, "rollback")
            return cursor

    connection = sqlite3.connect(file, factory=Unlucky, check_same_thread=False)
    async with a_store(lambda _: SqliteCheckpointStore(connection), file) as store:
        connection.armed = True
        outcomes = await asyncio.gather(
            *(
                store.save_checkpoint(new_checkpoint("unknown" if n == 1 else "e", n))
                for n in range(3)
            ),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, type(None)]
        assert await saved(store) == [0, 2]


@EVERY_WAY
async def test_a_lock_that_another_connection_holds_does_not_block_the_loop(
    file: Path, other: sqlite3.Connection, opened: Callable[[Path], SqliteCheckpointStore]
) -> None:
    """Else nothing here would end that transaction, and the writes would fail."""

    async with a_store(opened, file) as store:
        other.execute("begin immediate")
        writes = [
            asyncio.create_task(store.save_checkpoint(new_checkpoint("e", n))) for n in range(3)
        ]
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not any(write.done() for write in writes)
        other.execute("rollback")
        await asyncio.gather(*writes)
        assert await saved(store) == [0, 1, 2]
        await store.save_checkpoint(new_checkpoint("e", 3))


@EVERY_WAY
async def test_a_lock_that_is_held_too_long_is_a_busy_error_and_harms_nothing_else(
    file: Path,
    other: sqlite3.Connection,
    opened: Callable[[Path], SqliteCheckpointStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_store(opened, file) as store:
        monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_MS", 200)
        store._connection.execute("pragma busy_timeout = 200")  # of one that waits in a thread
        await store.save_checkpoint(new_checkpoint("e", 0))
        other.execute("begin immediate")
        outcomes = await asyncio.gather(
            *(store.save_checkpoint(new_checkpoint("e", n)) for n in (1, 2)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [StoreBusyError] * 2
        assert str(file) in str(outcomes[0])
        assert await saved(store) == [0]  # reading needs no lock
        other.execute("rollback")
        await store.save_checkpoint(new_checkpoint("e", 3))
        assert await saved(store) == [0, 3]


async def test_writes_wait_in_line_for_the_lock_and_reads_go_on(
    file: Path, other: sqlite3.Connection
) -> None:
    async with a_store(by_path, file) as store:
        other.execute("begin immediate")
        writes: list[asyncio.Task[None]] = []
        for number in range(2):
            writes.append(asyncio.create_task(store.save_checkpoint(new_checkpoint("e", number))))
            await asyncio.sleep(0.05)
        assert await asyncio.wait_for(saved(store), 1) == []
        assert not any(task.done() for task in writes)
        other.execute("rollback")
        await asyncio.gather(*writes)
        assert await saved(store) == [0, 1]


async def test_a_caller_that_is_cancelled_does_not_disturb_the_others(
    file: Path, other: sqlite3.Connection
) -> None:
    async with a_store(by_path, file) as store:
        other.execute("begin immediate")
        writes = [
            asyncio.create_task(store.save_checkpoint(new_checkpoint("e", n))) for n in range(3)
        ]
        await asyncio.sleep(0.05)
        writes[1].cancel()
        await asyncio.sleep(0.05)
        other.execute("rollback")
        await asyncio.gather(writes[0], writes[2])
        assert {0, 2} <= set(await saved(store))


def test_a_full_database_is_a_store_error_until_there_is_room(file: Path) -> None:
    async def main(connection: sqlite3.Connection) -> None:
        async with SqliteCheckpointStore(connection) as store:
            await store.save(WORKFLOW, new_execution("e"))
            (pages,) = connection.execute("pragma page_count").fetchone()
            connection.execute(f"pragma max_page_count = {pages + 2}")
            await store.save_checkpoint(new_checkpoint("e", 0))
            outcomes = await asyncio.gather(
                *(
                    store.save_checkpoint(new_checkpoint("e", n, output_data=f'"{"x" * 20_000}"'))
                    for n in range(1, 5)
                ),
                return_exceptions=True,
            )
            for outcome in outcomes:
                assert isinstance(outcome, StoreFullError)
                assert "the disk is full" in str(outcome)
            assert await saved(store) == [0]
            connection.execute("pragma max_page_count = 100000")
            await store.save_checkpoint(new_checkpoint("e", 5, output_data=f'"{"x" * 20_000}"'))
            assert await saved(store) == [0, 5]

    with closing(sqlite3.connect(file)) as connection:
        asyncio.run(main(connection))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("opened", [by_path, in_full])
async def test_a_full_disk_is_a_store_error_until_there_is_room(
    small_disk: Path, opened: Callable[[Path], SqliteCheckpointStore]
) -> None:
    file, ballast = small_disk / "workflows.db", small_disk / "ballast"
    async with a_store(opened, file) as store:
        await store.save_checkpoint(new_checkpoint("e", 0))
        with ballast.open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(b"x" * 4096)
        for _ in range(3):
            outcomes = await asyncio.gather(
                *(
                    store.save_checkpoint(new_checkpoint("e", n, output_data=f'"{"x" * 50_000}"'))
                    for n in range(1, 4)
                ),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [StoreFullError] * 3
            assert "disk" in str(outcomes[0])
        assert await saved(store) == [0]
        ballast.unlink()
        await store.save_checkpoint(new_checkpoint("e", 4, output_data=f'"{"x" * 50_000}"'))
        assert await saved(store) == [0, 4]
    async with SqliteCheckpointStore.file(file) as store:
        assert await saved(store) == [0, 4]


def befall(file: Path, fate: str) -> None:
    old = file.with_suffix(".old")
    if fate == "deleted":
        for one in file.parent.iterdir():
            one.unlink()
    elif fate == "moved back":
        old.rename(file)
    else:
        file.rename(old)
    if fate == "replaced":
        file.touch()


@EVERY_WAY
@FATES
async def test_a_file_that_is_gone_takes_no_writes(
    file: Path, opened: Callable[[Path], SqliteCheckpointStore], fate: str
) -> None:
    async with a_store(opened, file) as store:
        for n in range(5):
            await store.save_checkpoint(new_checkpoint("e", 10 + n))
        befall(file, fate)
        said = await hears_that_it_is_gone(store)
        assert "replaced" in said or "moved or deleted" in said
        if fate == "moved":
            befall(file, "moved back")
            await store.save_checkpoint(new_checkpoint("e", 2))
            assert await saved(store) == [2, *range(10, 15)]


def test_a_rollback_that_fails_does_not_hide_the_error(file: Path) -> None:
    class Broken(sqlite3.Connection):
        refusals = 0

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql.startswith("rollback") and self.refusals:
                self.refusals -= 1
                raise sqlite3.OperationalError("cannot roll back")
            return super().execute(sql, *parameters)

    async def main(connection: Broken) -> None:
        async with SqliteCheckpointStore(connection) as store:
            await store.save(WORKFLOW, new_execution("e"))
            connection.refusals = 1
            with pytest.raises(StoreError, match="FOREIGN KEY"):
                await store.save(new_checkpoint("e", 0), new_checkpoint("unknown", 0))
            await store.save_checkpoint(new_checkpoint("e", 1))
            assert await saved(store) == [1]

    with closing(sqlite3.connect(file, factory=Broken)) as connection:
        asyncio.run(main(connection))


@pytest.mark.parametrize("at_once", [False, True])
def test_what_could_not_be_committed_is_read_by_nobody_and_never_comes_true(
    file: Path, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction stays open where the rollback fails as well."""

    class Broken(sqlite3.Connection):
        refuses: tuple[str, ...] = ()

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql.startswith(self.refuses):
                raise sqlite3.OperationalError(f"cannot {sql}")
            return super().execute(sql, *parameters)

    async def main(connection: Broken) -> None:
        async with SqliteCheckpointStore(connection) as store:
            await store.save(WORKFLOW, new_execution("e"))
            for number in range(group_commit.ALONE_AFTER + 1):
                await store.save_checkpoint(new_checkpoint("e", number))
            before = await saved(store)
            connection.refuses = ("commit", "rollback")
            with pytest.raises(StoreError, match="cannot commit"):
                await store.save_checkpoint(new_checkpoint("e", 90))
            assert connection.in_transaction
            with pytest.raises(StoreError, match="cannot rollback"):
                await saved(store)
            connection.refuses = ()
            assert await saved(store) == before
            connection.refuses = ("commit", "rollback")
            with pytest.raises(StoreError, match="cannot commit"):
                await store.save_checkpoint(new_checkpoint("e", 91))
            connection.refuses = ()
        # To set that, when the store gives it back, commits in Python 3.11.
        assert not connection.in_transaction
        async with SqliteCheckpointStore(connection) as store:
            assert await saved(store) == before

    monkeypatch.setattr(group_commit, "AT_ONCE_S", 3600.0 if at_once else 0.0)
    with closing(sqlite3.connect(file, isolation_level=None, factory=Broken)) as connection:
        asyncio.run(main(connection))


@EVERY_WAY
async def test_a_lack_of_memory_is_a_store_error_and_nobody_waits_for_ever(
    file: Path, opened: Callable[[Path], SqliteCheckpointStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """sqlite3 raises MemoryError for SQLITE_NOMEM, wherever that comes from."""

    class Forgetful:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection
            self.at = ""

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if self.at and sql.startswith(self.at):
                raise MemoryError
            return self._connection.execute(sql, *parameters)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    async with a_store(opened, file) as store:
        forgetful = Forgetful(store._connection)
        monkeypatch.setattr(store._commit, "_connection", forgetful)
        for n in range(5):
            await store.save_checkpoint(new_checkpoint("e", n))
        for forgetful.at in ("begin", "commit"):
            outcomes = await asyncio.wait_for(
                asyncio.gather(
                    *(store.save_checkpoint(new_checkpoint("e", n)) for n in (7, 8)),
                    return_exceptions=True,
                ),
                10,
            )
            assert [type(outcome) for outcome in outcomes] == [StoreError] * 2
            assert "not enough memory" in str(outcomes[0])
        forgetful.at = ""
        await store.save_checkpoint(new_checkpoint("e", 9))
        assert await saved(store) == [0, 1, 2, 3, 4, 9]


async def test_where_no_thread_can_be_started_a_write_fails_and_the_next_one_works(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with a_store(in_full, file) as store:
        store._commit._stop_thread()
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(StoreError, match="start new thread"):
                await asyncio.wait_for(store.save_checkpoint(new_checkpoint("e", 0)), 30)
        await store.save_checkpoint(new_checkpoint("e", 1))
        assert await saved(store) == [1]


def test_two_event_loops_cannot_use_one_store_at_once(file: Path) -> None:
    store = SqliteCheckpointStore.file(file)
    in_use, done = threading.Event(), threading.Event()

    async def first() -> None:
        await store.save(WORKFLOW, new_execution("e"))
        in_use.set()
        await asyncio.to_thread(done.wait)
        await store.save_checkpoint(new_checkpoint("e", 0))
        await store.close()

    async def second() -> None:
        with pytest.raises(RuntimeError, match="event loop"):
            await store.load_execution("e")
        with pytest.raises(RuntimeError, match="event loop"):
            await store.save_checkpoint(new_checkpoint("e", 1))

    thread = threading.Thread(target=lambda: asyncio.run(first()))
    thread.start()
    assert in_use.wait(10)
    try:
        asyncio.run(second())
    finally:
        done.set()
        thread.join()

    async def read() -> None:
        async with SqliteCheckpointStore.file(file) as again:
            assert await saved(again) == [0]

    asyncio.run(read())


@EVERY_WAY
def test_one_event_loop_after_another_can_use_one_store(
    file: Path, opened: Callable[[Path], SqliteCheckpointStore]
) -> None:
    store = opened(file)

    async def write(index: int) -> None:
        await store.save(WORKFLOW, new_execution("e"), new_checkpoint("e", index))

    for index in range(3):
        asyncio.run(write(index))
    assert asyncio.run(saved(store)) == [0, 1, 2]
    asyncio.run(store.close())
    store._connection.close()


def test_a_store_can_be_closed_after_its_loop_went_away_in_the_middle_of_a_write(
    file: Path, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 400)
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_MS", 400)
    store = SqliteCheckpointStore.file(file)

    async def leave() -> None:
        await store.save(WORKFLOW, new_execution("e"))
        other.execute("begin immediate")
        writes = [asyncio.create_task(store.save_checkpoint(new_checkpoint("e", 0)))]
        await asyncio.sleep(0.05)
        writes.append(asyncio.create_task(store.save_checkpoint(new_checkpoint("e", 1))))
        await asyncio.sleep(0.05)

    asyncio.run(leave())

    async def close() -> None:
        async with asyncio.timeout(30):
            await store.close()

    asyncio.run(close())
    other.execute("rollback")


def test_a_transaction_that_the_caller_has_open_is_refused_and_not_changed(file: Path) -> None:
    async def main(connection: sqlite3.Connection) -> None:
        async with SqliteCheckpointStore(connection) as store:
            await store.save(WORKFLOW, new_execution("e"))
            connection.execute("create table mine (x)")
            connection.execute("begin")
            connection.execute("insert into mine values (1)")
            with pytest.raises(StoreError, match="did not begin"):
                await store.save_checkpoint(new_checkpoint("e", 0))
            connection.execute("commit")
            assert connection.execute("select x from mine").fetchall() == [(1,)]
            await store.save_checkpoint(new_checkpoint("e", 0))
            assert await saved(store) == [0]

    with closing(sqlite3.connect(file)) as connection:
        asyncio.run(main(connection))


@pytest.mark.parametrize("alone", [True, False])
def test_a_value_that_is_too_long_is_a_serialization_error_of_its_own(
    file: Path, alone: bool
) -> None:
    async def main(connection: sqlite3.Connection) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
        async with SqliteCheckpointStore(connection) as store:
            await store.save(WORKFLOW, new_execution("e"))
            for n in range(10 if alone else 0):
                await store.save_checkpoint(new_checkpoint("e", n))
            too_long = new_checkpoint("e", 50, output_data='"' + "x" * 200_000 + '"')
            writes = [store.save_checkpoint(too_long)]
            if not alone:
                writes.append(store.save_checkpoint(new_checkpoint("e", 51)))
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert isinstance(outcomes[0], SerializationError)
            assert outcomes[1:] == ([] if alone else [None])

    with closing(sqlite3.connect(file)) as connection:
        asyncio.run(main(connection))


async def test_reads_and_news_have_their_turn_while_functions_follow_each_other(
    file: Path,
) -> None:
    """Each function is in a thread, and the next one waits already when it has ended."""
    is_over = False

    async def stream(store: SqliteCheckpointStore) -> None:
        while not is_over:
            await store.write(lambda _: time.sleep(0.001))

    async with SqliteCheckpointStore.file(file) as store:
        streams = [asyncio.create_task(stream(store)) for _ in range(3)]
        try:
            async with asyncio.timeout(60):
                for _ in range(20):
                    assert await store.load_execution("e") is None
                before = store.change_counter()
                async with SqliteCheckpointStore.file(file) as other:
                    await other.save(WORKFLOW)
                while store.change_counter() == before:
                    await asyncio.sleep(0.001)
        finally:
            is_over = True
            await asyncio.gather(*streams)
