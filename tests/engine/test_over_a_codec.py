"""The engine over a store that encrypts: the tests of this folder that need no file, once more."""

from __future__ import annotations

from functools import partial

import pytest

from durable_workflow_sqlite import AesGcmCodec, SqliteCheckpointStore
from tests.engine.over_another_store import those_in_memory

pytestmark = pytest.mark.campaign


@pytest.fixture(autouse=True)
def _everything_is_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = AesGcmCodec([("of-tests", b"k" * 32)])
    in_memory = partial(SqliteCheckpointStore.in_memory, codec=codec)
    monkeypatch.setattr(SqliteCheckpointStore, "in_memory", staticmethod(in_memory))


globals().update(those_in_memory())
