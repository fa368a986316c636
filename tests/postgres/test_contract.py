"""The store on PostgreSQL passes the suite for every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_workflow_sqlite import AesGcmCodec, CheckpointStore
from durable_workflow_sqlite.testing import CheckpointStoreContract, MaintenanceContract
from tests import postgres_server

pytestmark = pytest.mark.campaign


@pytest.fixture(autouse=True)
def tells_by_notify_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres_server.url()
    from durable_workflow_sqlite.postgres import presence

    monkeypatch.setattr(presence, "LOOK_EVERY_S", 60)


class TestPostgres(CheckpointStoreContract, MaintenanceContract):
    async def open_store(self, path: Path) -> CheckpointStore:
        from durable_workflow_sqlite.postgres.store import PostgresStore

        return PostgresStore(postgres_server.url(), schema=postgres_server.schema_of(path))


class TestPostgresWithACodec(CheckpointStoreContract, MaintenanceContract):
    async def open_store(self, path: Path) -> CheckpointStore:
        from durable_workflow_sqlite.postgres.store import PostgresStore

        codec = AesGcmCodec([("of-tests", b"k" * 32)])
        schema = postgres_server.schema_of(path)
        return PostgresStore(postgres_server.url(), schema=schema, codec=codec)
