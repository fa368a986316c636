"""Crashes in the sandbox, over a store of dicts."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from durable_workflow_sqlite import ExecutionStatus, StoreError, WorkflowExecution
from durable_workflow_sqlite.testing import simulated_process
from tests.dict_store import Dicts, DictStore
from tests.testing.test_crashes import *  # noqa: F403


class Memory(Dicts):
    """What a process has committed; as the connection of a process."""

    is_dead = in_transaction = False

    def __init__(self, before: Memory | None) -> None:
        super().__init__()
        if before is not None:
            self.tables = before.tables

    def commit(self, *committed: object) -> None:
        if self.is_dead:
            raise StoreError("the process is dead")
        super().commit(*committed)

    def close(self) -> None:
        """Its records are the next process's."""


class Store(DictStore):
    async def load_executions_by_status(
        self, statuses: Iterable[ExecutionStatus]
    ) -> list[WorkflowExecution]:
        return [one for one in self.dicts.tables.executions.values() if one.status in set(statuses)]


@pytest.fixture(autouse=True)
def _dicts_in_place_of_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_process, "_open", Memory)
    monkeypatch.setattr(simulated_process, "SqliteCheckpointStore", Store)
