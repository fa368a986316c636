"""The suite that every store must pass, over each way to open ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_workflow_sqlite import AesGcmCodec, CheckpointStore, SqliteCheckpointStore
from durable_workflow_sqlite.testing import CheckpointStoreContract, MaintenanceContract
from tests.databases import new_database
from tests.dict_store import Dicts, DictStore

CODEC = AesGcmCodec([("of-tests", b"k" * 32)])


def made(path: Path) -> Path:
    return path if path.exists() else new_database(path)


class TestAFile(CheckpointStoreContract, MaintenanceContract):
    async def open_store(self, path: Path) -> SqliteCheckpointStore:
        return SqliteCheckpointStore.file(made(path))


@pytest.mark.campaign
class TestAFileThatIsSafeFromPowerCuts(CheckpointStoreContract, MaintenanceContract):
    async def open_store(self, path: Path) -> SqliteCheckpointStore:
        return SqliteCheckpointStore.file(made(path), synchronous="full")


@pytest.mark.campaign
class TestAGivenConnection(CheckpointStoreContract, MaintenanceContract):
    _given: list[sqlite3.Connection]

    @pytest.fixture(autouse=True)
    def _close_what_was_given(self) -> Iterator[None]:
        self._given = []
        yield
        for connection in self._given:
            connection.close()

    async def open_store(self, path: Path) -> SqliteCheckpointStore:
        self._given.append(sqlite3.connect(made(path)))
        return SqliteCheckpointStore(self._given[-1])


class TestMemory(CheckpointStoreContract, MaintenanceContract):
    can_be_shared = False

    async def open_store(self, path: Path) -> SqliteCheckpointStore:
        return SqliteCheckpointStore.in_memory()


@pytest.mark.campaign
class TestAFileWithACodec(CheckpointStoreContract, MaintenanceContract):
    """Every value is encrypted on the way into the file, and decrypted on the way out."""

    async def open_store(self, path: Path) -> SqliteCheckpointStore:
        return SqliteCheckpointStore.file(made(path), codec=CODEC)


class TestDicts(CheckpointStoreContract):
    """A store that is not ours, and that cannot delete."""

    async def open_store(self, path: Path) -> CheckpointStore:
        return DictStore(self._dicts.setdefault(path, Dicts()))

    @pytest.fixture(autouse=True)
    def _nothing_kept(self) -> None:
        self._dicts: dict[Path, Dicts] = {}
