"""The engine over PostgreSQL: the tests of tests/engine that need no file, once more."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import SqliteCheckpointStore
from tests import postgres_server
from tests.engine.over_another_store import those_in_memory

pytestmark = pytest.mark.campaign

IN_TIME = {"test_many_sleeps_end_in_order_of_their_deadlines"}
"""It counts on 50 starts within two seconds, which a busy machine does not make over a socket."""


@pytest.fixture(autouse=True)
def postgres_in_place_of_sqlite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = postgres_server.url()
    from durable_workflow_sqlite.postgres.store import PostgresStore

    numbers = itertools.count()

    def open_store(**options: Any) -> PostgresStore:
        schema = postgres_server.schema_of(tmp_path / str(next(numbers)))
        return PostgresStore(url, schema=schema, **options)

    monkeypatch.setattr(SqliteCheckpointStore, "in_memory", staticmethod(open_store))


globals().update(those_in_memory(left_out=IN_TIME))
