"""The tests of this folder that need no file, to run once more over another store."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from typing import Any, Final

import pytest

from durable_workflow_sqlite import SqliteCheckpointStore
from tests.dict_store import DictStore
from tests.sources import source_of

MODULES: Final = (
    "ask",
    "cancelled_by_itself",
    "client",
    "compensations_that_fail",
    "forks",
    "mending",
    "never_begun",
    "observers",
    "order",
    "parking",
    "progress",
    "queues",
    "replay",
    "retries",
    "sagas",
    "signal_or_start",
    "signals",
    "sleeps",
    "starting",
    "steps",
    "streams",
    "wait_any",
)
IN_MEMORY: Final = "SqliteCheckpointStore.in_memory()"
OWN: Final = set(dir(SqliteCheckpointStore)) - set(dir(DictStore))
"""Methods that are no part of a role."""

_Fixture: Final = type(pytest.fixture(lambda: None))


def those_in_memory(left_out: Collection[str] = ()) -> dict[str, Any]:
    """These tests, and the fixtures that begin each of them anew, by names that are unique."""
    found: dict[str, Any] = {}
    for module in MODULES:
        for name, value in vars(importlib.import_module(f"tests.engine.test_{module}")).items():
            is_test = name.startswith("test_") and name not in left_out and callable(value)
            if (is_test and _needs_no_file(value)) or isinstance(value, _Fixture):
                found[f"{name}__{module}"] = value
    return found


def _needs_no_file(test: Any) -> bool:
    source = source_of(test)
    return IN_MEMORY in source and not any(f"store.{own}(" in source for own in OWN)
