"""Opening a store: PRAGMAs, connections that are given, and files that cannot be opened."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest

from durable_workflow_sqlite import (
    SqliteCheckpointStore,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    validate_schema,
)
from durable_workflow_sqlite.store import connection as opening
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_checkpoint, new_execution
from tests.other_user import become_another_user
from tests.processes import a_process


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a workflow database may be."""
    return tmp_path / "workflows.db"


def pragmas(connection: sqlite3.Connection) -> dict[str, object]:
    names = (
        "busy_timeout",
        "journal_mode",
        "foreign_keys",
        "synchronous",
        "cache_size",
        "temp_store",
        "wal_autocheckpoint",
        "journal_size_limit",
        "mmap_size",
    )
    found: dict[str, object] = {}
    for name in names:
        row = connection.execute(f"pragma {name}").fetchone()
        found[name] = None if row is None else row[0]
    return found


@pytest.mark.parametrize(("synchronous", "code"), [("normal", 1), ("full", 2)])
def test_a_store_sets_its_pragmas(
    file: Path, synchronous: Literal["normal", "full"], code: int
) -> None:
    with closing(sqlite3.connect(file)) as connection:
        SqliteCheckpointStore(connection, synchronous=synchronous)
        assert pragmas(connection) == {
            "busy_timeout": 5000,
            "journal_mode": "wal",
            "foreign_keys": 1,
            "synchronous": code,
            "cache_size": -8000,
            "temp_store": 2,
            "wal_autocheckpoint": 0,
            "journal_size_limit": 32_000_000,
            "mmap_size": 0,
        }
        assert validate_schema(connection) == []


def test_the_busy_timeout_is_set_before_everything_that_needs_a_lock(file: Path) -> None:
    statements: list[str] = []
    with closing(sqlite3.connect(file, timeout=0)) as connection:
        connection.set_trace_callback(statements.append)
        SqliteCheckpointStore(connection)
    asked = [statement for statement in statements if statement != "pragma database_list"]
    assert asked[:2] == ["pragma busy_timeout = 5000", "pragma busy_timeout"]


def test_a_pragma_that_does_not_hold_is_an_error(file: Path) -> None:
    class Stubborn(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            return super().execute(sql.replace("foreign_keys = on", "foreign_keys = off"))

    with (
        closing(sqlite3.connect(file, factory=Stubborn)) as connection,
        pytest.raises(StoreError, match="foreign_keys is 0"),
    ):
        SqliteCheckpointStore(connection)


@pytest.mark.parametrize("synchronous", ["off", "NORMAL", "", None, 1])
def test_another_synchronous_is_refused(file: Path, synchronous: Any) -> None:
    with pytest.raises(ValueError, match="synchronous"):
        SqliteCheckpointStore.file(file, synchronous=synchronous)
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(ValueError):
        SqliteCheckpointStore(connection, synchronous=synchronous)


def test_a_given_connection_is_given_back_as_it_was(file: Path) -> None:
    async def use(connection: sqlite3.Connection) -> None:
        async with SqliteCheckpointStore(connection) as store:
            await store.save(WORKFLOW, new_execution("e"))
            assert await store.load_execution("e") is not None

    with closing(sqlite3.connect(file, isolation_level="EXCLUSIVE")) as connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = bytes
        asyncio.run(use(connection))
        assert connection.isolation_level == "EXCLUSIVE"
        assert connection.row_factory is sqlite3.Row
        assert connection.text_factory is bytes
        assert pragmas(connection)["busy_timeout"] == 5000
        row = connection.execute("select workflow_execution_id from workflow_executions").fetchone()
        assert row["workflow_execution_id"] == b"e"
        asyncio.run(use(connection))


def test_a_given_connection_that_cannot_be_used_is_given_back_too(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table somebody_elses (id integer)")
        connection.row_factory = sqlite3.Row
        with pytest.raises(StoreError, match="another application"):
            SqliteCheckpointStore(connection)
        assert connection.isolation_level == ""
        assert connection.row_factory is sqlite3.Row


def test_a_connection_in_a_transaction_is_refused(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table t (a)")
        connection.execute("insert into t values (1)")
        with pytest.raises(StoreError, match="transaction"):
            SqliteCheckpointStore(connection)
        assert connection.in_transaction
        connection.rollback()
        assert connection.execute("select count(*) from t").fetchone() == (0,)


def test_a_closed_connection_is_refused(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.close()
    with pytest.raises(StoreError, match="closed"):
        SqliteCheckpointStore(connection)


async def test_a_store_in_memory_keeps_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async with SqliteCheckpointStore.in_memory() as store:
        assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
    async with SqliteCheckpointStore.in_memory() as store:
        assert await store.load_execution("e") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_a_path_that_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="in_memory"):
        SqliteCheckpointStore.file(path)


async def test_a_closed_store_leaves_one_file(file: Path) -> None:
    for _ in range(2):
        async with SqliteCheckpointStore.file(file) as store:
            await store.create_execution(WORKFLOW, new_execution(store.worker_id))
            assert len(list(file.parent.iterdir())) > 1
        assert list(file.parent.iterdir()) == [file]


def test_a_file_whose_folder_is_missing_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder exists") as raised:
        SqliteCheckpointStore.file(tmp_path / "missing" / "workflows.db")
    assert str(tmp_path / "missing") in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        SqliteCheckpointStore.file(tmp_path)


def test_a_file_that_is_no_database_is_a_store_error(file: Path) -> None:
    file.write_text("orders, and no database\n" * 100)
    with pytest.raises(StoreCorruptError, match="not a SQLite database"):
        SqliteCheckpointStore.file(file)
    assert file.read_text() == "orders, and no database\n" * 100


def test_a_damaged_file_is_a_store_error(file: Path) -> None:
    async def fill() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, new_execution("e"))
            await store.save(
                *(new_checkpoint("e", n, output_data=f'"{"x" * 900}"') for n in range(200))
            )

    async def read() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.load_checkpoints("e")

    asyncio.run(fill())
    whole = file.read_bytes()
    file.write_bytes(whole[:40960] + b"\xa5" * (len(whole) - 40960))
    with pytest.raises(StoreCorruptError, match="damaged"):
        asyncio.run(read())


def test_a_locked_file_is_a_busy_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 100)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(StoreBusyError, match="someone else holds its lock"):
            SqliteCheckpointStore.file(file)
        other.execute("rollback")
    asyncio.run(SqliteCheckpointStore.file(file).close())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("what", ["a file", "a folder", "a file that was just made"])
def test_what_may_not_be_written_is_a_store_error(what: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "workflows.db"
        if what == "a file that was just made":
            file.touch()
        else:
            asyncio.run(SqliteCheckpointStore.file(file).close())
        folder.chmod(0o777 if what == "a file" else 0o755)
        file.chmod(0o666 if what == "a folder" else 0o444)

        def open_it(say: Callable[[str], None]) -> None:
            become_another_user()

            async def main() -> None:
                async with SqliteCheckpointStore.file(file) as store:
                    await store.create_execution(WORKFLOW, new_execution("e"))

            try:
                asyncio.run(main())
            except StoreError as error:
                say(f"{type(error).__name__}: {error}")
            except BaseException as error:
                say(f"bare {error!r}")
            else:
                say("it was written")

        with a_process(open_it) as other_user:
            heard = other_user.hear()
        assert heard.startswith(("StoreError: ", "StoreReadOnlyError: ")), heard
        assert name in heard


async def test_a_path_that_looks_like_a_uri_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async with SqliteCheckpointStore.file("file:orders.db?mode=memory"):
        pass
    assert (tmp_path / "file:orders.db?mode=memory").exists()


def test_a_path_in_place_of_a_connection_is_refused_with_a_hint() -> None:
    with pytest.raises(TypeError, match=r"use SqliteCheckpointStore\.file\(path\)"):
        SqliteCheckpointStore("workflows.db")  # type: ignore[arg-type]
