"""The engine over a store of dicts: the tests of this folder that need no file, once more."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from durable_workflow_sqlite import SqliteCheckpointStore
from tests.dict_store import DictStore

MODULES = (
    "cancelled_by_itself",
    "client",
    "compensations_that_fail",
    "mending",
    "never_begun",
    "observers",
    "order",
    "parking",
    "queues",
    "replay",
    "retries",
    "sagas",
    "signal_or_start",
    "signals",
    "sleeps",
    "starting",
    "steps",
    "wait_any",
)
OWN = set(dir(SqliteCheckpointStore)) - set(dir(DictStore))
"""Methods that are no part of a role."""


def _tests_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test):
            yield f"{name}__{module.__name__.rpartition('.')[2]}", test


@pytest.fixture(autouse=True)
def _dicts_in_place_of_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteCheckpointStore, "in_memory", staticmethod(DictStore))


for _name in MODULES:
    globals().update(
        (name, test)
        for name, test in _tests_of(importlib.import_module(f"tests.engine.test_{_name}"))
        if "SqliteCheckpointStore.in_memory()" in (source := inspect.getsource(test))
        if not any(f"store.{own}(" in source for own in OWN)
    )
