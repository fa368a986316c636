"""Which worker has which execution, and which workers live."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.records import ExecutionStatus, WorkflowClaim
from durable_workflow_sqlite.store.group_commit import GroupCommit
from durable_workflow_sqlite.store.queries import LoadClaimRow, Queries
from durable_workflow_sqlite.store.rows import json_array, time_to_text
from durable_workflow_sqlite.store.worker_lock import STOPPING, WorkerLock, name_of


class Claims:
    """The claims of one worker. What reads or writes them is called from within a transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        queries: Queries,
        commit: GroupCommit,
        lock: WorkerLock,
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._lock = lock

    @property
    def worker_id(self) -> str:
        return self._lock.worker_id

    def be_alive(self) -> None:
        # In a fork, the lock would be taken in the name of its parent.
        self._commit.check_usable()
        try:
            self._lock.acquire()
        except OSError as error:
            raise StoreError(
                f"cannot create this worker's lock file beside the database: {error}"
            ) from error

    def is_alive(self, worker_id: str) -> bool:
        try:
            return self._lock.is_alive(worker_id)
        except OSError as error:
            raise StoreError(f"cannot tell whether another worker lives: {error}") from error

    def count_workers(self) -> int:
        try:
            return self._lock.count_alive()
        except OSError as error:
            raise StoreError(f"cannot tell which workers live: {error}") from error

    def insert(
        self, workflow_execution_id: str, status_before: ExecutionStatus, now: datetime
    ) -> WorkflowClaim | None:
        token = self._queries.insert_claim(
            self._connection,
            workflow_execution_id=workflow_execution_id,
            worker_id=self.worker_id,
            claimed_at=time_to_text(now),
        )
        if token is None:
            return None
        return WorkflowClaim(
            workflow_execution_id=workflow_execution_id,
            worker_id=self.worker_id,
            fencing_token=token,
            status_before=status_before,
        )

    def holds(self, claim: WorkflowClaim) -> bool:
        held = self.load(claim.workflow_execution_id)
        return held is not None and held.fencing_token == claim.fencing_token

    def is_mine(self, worker_id: str) -> bool:
        """Whether the worker of a claim is this one."""
        return name_of(worker_id) == self.worker_id

    def mark_as_stopping(self, fencing_tokens: list[int]) -> None:
        """Write into claims of this worker that it was told to stop."""
        self._queries.mark_claims(
            self._connection,
            fencing_tokens=json_array(fencing_tokens),
            worker_id=self.worker_id + STOPPING,
        )

    def load(self, workflow_execution_id: str) -> LoadClaimRow | None:
        return self._queries.load_claim(
            self._connection, workflow_execution_id=workflow_execution_id
        )

    def delete(self, workflow_execution_id: str, fencing_token: int) -> int:
        return self._queries.delete_claim(
            self._connection,
            workflow_execution_id=workflow_execution_id,
            fencing_token=fencing_token,
        )
