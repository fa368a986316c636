"""The engine over PostgreSQL: the tests of tests/engine that need no file, once more."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from durable_workflow_sqlite import SqliteCheckpointStore
from tests import postgres_server
from tests.dict_store import DictStore
from tests.engine.test_over_dicts import MODULES

pytestmark = pytest.mark.campaign

IN_TIME = {"test_many_sleeps_end_in_order_of_their_deadlines"}
"""It counts on 50 starts within two seconds, which a busy machine does not make over a socket."""

OWN = set(dir(SqliteCheckpointStore)) - set(dir(DictStore))
"""Methods that are no part of a role."""


def _tests_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test) and name not in IN_TIME:
            yield f"{name}__{module.__name__.rpartition('.')[2]}", test


@pytest.fixture(autouse=True)
def postgres_in_place_of_sqlite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = postgres_server.url()
    from durable_workflow_sqlite.postgres.store import PostgresStore

    numbers = itertools.count()

    def open_store() -> PostgresStore:
        schema = postgres_server.schema_of(tmp_path / str(next(numbers)))
        return PostgresStore(url, schema=schema)

    monkeypatch.setattr(SqliteCheckpointStore, "in_memory", staticmethod(open_store))


for _name in MODULES:
    globals().update(
        (name, test)
        for name, test in _tests_of(importlib.import_module(f"tests.engine.test_{_name}"))
        if "SqliteCheckpointStore.in_memory()" in (source := inspect.getsource(test))
        if not any(f"store.{own}(" in source for own in OWN)
    )
