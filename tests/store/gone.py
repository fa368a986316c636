"""A store whose file, log or index of the log is gone, for the tests of what that is noticed by."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import SqliteCheckpointStore, StoreGoneError
from durable_workflow_sqlite.store import group_commit
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_checkpoint, new_execution

FATES = pytest.mark.parametrize("fate", ["deleted", "moved", "replaced"])


def by_path(file: Path) -> SqliteCheckpointStore:
    return SqliteCheckpointStore.file(file)


def in_full(file: Path) -> SqliteCheckpointStore:
    return SqliteCheckpointStore.file(file, synchronous="full")


def over_a_connection(file: Path) -> SqliteCheckpointStore:
    return SqliteCheckpointStore(sqlite3.connect(file))


@asynccontextmanager
async def a_store(
    opened: Callable[[Path], SqliteCheckpointStore], file: Path
) -> AsyncGenerator[SqliteCheckpointStore]:
    """A store with one execution, e; its connection is closed with it."""
    store = opened(file)
    try:
        await store.save(WORKFLOW, new_execution("e"))
        yield store
    finally:
        await store.close()
        store._connection.close()


def befall(path: Path, fate: str) -> None:
    away = Path(f"{path}.away")
    if fate == "deleted":
        path.unlink()
    elif fate == "moved back":
        away.rename(path)
    else:
        path.rename(away)
    if fate == "replaced":
        path.touch()


async def hears_that_it_is_gone(store: SqliteCheckpointStore) -> str:
    """Whatever is asked of it hears that a file is gone; in these words."""
    await asyncio.sleep(4 * group_commit.LOOK_AT_FILES_EVERY_S)
    outcomes = await asyncio.gather(
        *(store.save_checkpoint(new_checkpoint("e", n)) for n in range(2)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StoreGoneError] * 2
    for _ in range(5):  # also where a write has nobody to share a transaction with
        with pytest.raises(StoreGoneError):
            await store.save_checkpoint(new_checkpoint("e", 0))
    with pytest.raises(StoreGoneError):
        await store.load_execution("e")
    assert store.change_counter() != store.change_counter()  # whoever looks meets the error
    return str(outcomes[0])


def saved_in(file: Path) -> list[int]:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        found = connection.execute("select step_index from step_checkpoints order by step_index")
        return [index for (index,) in found]
