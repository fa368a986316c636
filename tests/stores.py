"""Stores to watch, for tests."""

from __future__ import annotations

from durable_workflow_sqlite import CheckpointStore, SqliteCheckpointStore


class SavesAll(SqliteCheckpointStore):
    """Whatever is written under a claim goes through `save`, which a test may override."""

    begin_step = CheckpointStore.begin_step
    finish_step = CheckpointStore.finish_step
