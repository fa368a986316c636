"""The engine over a store of dicts: the tests of this folder that need no file, once more."""

from __future__ import annotations

import pytest

from durable_workflow_sqlite import SqliteCheckpointStore
from tests.dict_store import DictStore
from tests.engine.over_another_store import those_in_memory


@pytest.fixture(autouse=True)
def _dicts_in_place_of_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_store(**options: object) -> DictStore:
        return DictStore()

    monkeypatch.setattr(SqliteCheckpointStore, "in_memory", staticmethod(open_store))


globals().update(those_in_memory())
