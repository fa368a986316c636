"""Which worker has which execution, and which workers live.

A worker remembers what it holds, and what it saved last under each claim. SQLite's backup API can
restore a database while the worker lives. The restored database may hold the same claim, but not
what was saved under it since: a fencing token does not tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

import msgspec

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    Record,
    StepCheckpoint,
    WorkflowClaim,
    WorkflowExecution,
)
from durable_workflow_sqlite.store.membership import Membership
from durable_workflow_sqlite.store.queries import LoadClaimRow, Queries
from durable_workflow_sqlite.store.rows import json_array, time_to_text
from durable_workflow_sqlite.store.transactions import Liveness, Transactions


class Claims:
    """The claims of one worker. What reads or writes them is called from within a transaction."""

    def __init__(
        self,
        connection: object,
        queries: Queries,
        commit: Transactions,
        lock: Liveness,
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._lock = lock
        self.membership = Membership(connection, queries, commit, lock.worker_id, self.is_alive)
        self._held: dict[str, WorkflowClaim | None] = {}
        """By execution; None for one that is being released."""
        self._saved: dict[str, tuple[Record, ...]] = {}
        """By execution: the records that were saved last under its claim, and the last steps."""

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
        self,
        workflow_execution_id: str,
        status_before: ExecutionStatus,
        now: datetime,
        serves: Collection[tuple[str, int]] = (),
    ) -> WorkflowClaim | None:
        """serves: what this worker runs, as far as it may not have said so."""
        token = self._queries.insert_claim(
            self._connection,
            workflow_execution_id=workflow_execution_id,
            worker_id=self.worker_id,
            claimed_at=time_to_text(now),
        )
        if token is None:
            return None
        self.membership.tell(serves, now=now)
        return WorkflowClaim(
            workflow_execution_id=workflow_execution_id,
            worker_id=self.worker_id,
            fencing_token=token,
            status_before=status_before,
        )

    # What is held, as far as it was committed

    def took(
        self, claims: Collection[WorkflowClaim], serves: Collection[tuple[str, int]] = ()
    ) -> None:
        for claim in claims:
            self._held[claim.workflow_execution_id] = claim
            self._saved.pop(claim.workflow_execution_id, None)
        if claims:
            self.membership.told(serves)

    def saved(self, claim: WorkflowClaim, records: tuple[Record, ...]) -> None:
        execution_id = claim.workflow_execution_id
        if not records:
            return
        if type(records[0]) is not StepCheckpoint:
            # An execution that only waits looks the same in an older file; its steps do not.
            records = (*records, *self._last_steps(execution_id, records))
        self._saved[execution_id] = records

    def _last_steps(
        self, execution_id: str, records: tuple[Record, ...]
    ) -> Iterable[StepCheckpoint]:
        if any(isinstance(one, StepCheckpoint) for one in records):
            return ()
        before = self._saved.get(execution_id, ())
        return [one for one in before if isinstance(one, StepCheckpoint)]

    def began_again(self, execution: WorkflowExecution) -> None:
        """A new run has begun: the steps of the one before are deleted."""
        first = msgspec.structs.replace(
            execution, status=ExecutionStatus.RUNNING, last_event=None
        )  # as the statement writes it
        self._saved[execution.workflow_execution_id] = (first,)

    def has_saved_steps(self, workflow_execution_id: str) -> bool:
        """Whether a step was saved last under its claim: then the execution is surely RUNNING."""
        records = self._saved.get(workflow_execution_id, ())
        return bool(records) and type(records[0]) is StepCheckpoint

    def releases(self, workflow_execution_id: str) -> None:
        """It will be released; no caller may hear when."""
        self._held[workflow_execution_id] = None

    def released(self, workflow_execution_ids: Iterable[str]) -> None:
        for execution_id in workflow_execution_ids:
            self._held.pop(execution_id, None)
            self._saved.pop(execution_id, None)

    def has(self, workflow_execution_id: str) -> bool:
        """Whether this worker has an execution."""
        return workflow_execution_id in self._held

    def are_intact(self) -> bool:
        """Whether the file has what is held, and nothing else of this worker."""
        found = self._queries.load_claims_of(self._connection, worker_id=self.worker_id)
        tokens = {row.workflow_execution_id: row.fencing_token for row in found}
        return tokens.keys() <= self._held.keys() and all(
            tokens.get(execution_id) == claim.fencing_token
            and self._has(execution_id, self._saved.get(execution_id, ()))
            for execution_id, claim in list(self._held.items())  # another thread may ask
            if claim is not None and claim.worker_id == self.worker_id
        )

    def _has(self, execution_id: str, records: tuple[Record, ...]) -> bool:
        """Whether the file has records that were saved together; compared as they are there."""
        steps: dict[tuple[object, ...], StepCheckpoint] = {}
        for record in records:
            if isinstance(record, WorkflowExecution):
                execution = self._queries.load_execution(
                    self._connection, workflow_execution_id=execution_id
                )
                saved = (record.status.value, record.last_event, record.run_number)
                if execution is None or saved != (
                    execution.status,
                    execution.last_event,
                    execution.run_number,
                ):
                    return False
            elif isinstance(record, StepCheckpoint):
                steps[record.branch, record.step_index, record.attempt] = record
        if not steps:
            return True
        rows = self._queries.load_checkpoints(self._connection, workflow_execution_id=execution_id)
        found: dict[tuple[object, ...], tuple[str, int | None]] = {
            (row.branch, row.step_index, row.attempt): (row.status, row.event) for row in rows
        }
        return all(found.get(key) == (one.status.value, one.event) for key, one in steps.items())

    # What is in the file

    def holds(self, claim: WorkflowClaim) -> bool:
        held = self.load(claim.workflow_execution_id)
        return held is not None and held.fencing_token == claim.fencing_token

    def mark_as_stopping(self, fencing_tokens: list[int]) -> None:
        """Write into claims of this worker that it was told to stop."""
        self._queries.mark_claims(self._connection, fencing_tokens=json_array(fencing_tokens))

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
