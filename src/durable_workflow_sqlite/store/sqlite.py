"""`SqliteCheckpointStore`: the records of `records`, by the statements of `sql/queries`."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from durable_workflow_sqlite.errors import (
    ClaimLostError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    StoreError,
)
from durable_workflow_sqlite.records import (
    TERMINAL_STATUSES,
    ExecutionStatus,
    Record,
    StepCheckpoint,
    StepKind,
    StepStatus,
    UnclaimedExecution,
    Workflow,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowSignal,
    WorkflowTimer,
    check_identifier,
    check_integer,
    check_time,
    utc_now,
)
from durable_workflow_sqlite.store import rows
from durable_workflow_sqlite.store.checkpointer import Checkpointer
from durable_workflow_sqlite.store.connection import (
    Synchronous,
    configure,
    database_path,
    is_bound_to_thread,
    open_connection,
    wait_for_locks,
)
from durable_workflow_sqlite.store.group_commit import GroupCommit
from durable_workflow_sqlite.store.migrations import load_migrations, migrate, pending
from durable_workflow_sqlite.store.rows import optional_time_to_text, readable, time_to_text
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.store.worker_lock import WorkerLock


class SqliteCheckpointStore:
    """A `CheckpointStore` in one SQLite file, or in memory.

    Takes an open connection, sets its PRAGMAs, migrates its database and uses it until `close()`,
    which does not close it. `file` and `in_memory` open a connection of their own. A store is
    used from one event loop; many stores, in many processes, may share a file. Open a connection
    for a store with `check_same_thread=False`: else "full" waits for the disk on the event loop.

    synchronous: "normal" may lose the last commits to a power cut, "full" loses none and waits
    for the disk at every commit; neither loses anything when the process is killed.

    Raises StoreError: SchemaTooNewError, MigrationError, StoreBusyError, StoreCorruptError.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        synchronous: Synchronous = "normal",
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise ValueError(f'synchronous must be "normal" or "full", not {synchronous!r}')
        try:
            if connection.in_transaction:
                raise StoreError("the connection is in a transaction; commit or roll it back first")
        except sqlite3.Error as error:
            raise StoreError(f"cannot use the connection: {error}") from error
        self._connection = connection
        self._owns_connection = False
        self._restore = (
            connection.isolation_level,
            connection.row_factory,
            connection.text_factory,
        )
        connection.isolation_level = None
        connection.row_factory = None
        connection.text_factory = str
        try:
            wait_for_locks(connection)
            pending(connection, load_migrations())  # somebody else's file is not even made WAL
            configure(connection, synchronous)
            migrate(connection)
        except BaseException:
            self._give_back()
            raise
        self._queries = load_queries()
        self._savers: dict[type, Callable[[Any, WorkflowClaim | None], int]] = {
            StepCheckpoint: self._upsert_checkpoint,
            WorkflowExecution: self._upsert_execution,
            WorkflowTimer: self._upsert_timer,
            WorkflowSignal: self._upsert_signal,
            Workflow: self._upsert_workflow,
        }
        path = database_path(connection)
        self._checkpointer = None if path is None else Checkpointer(path)
        self._lock = WorkerLock(path)
        self._commit = GroupCommit(
            connection,
            path=path,
            waits_for_disk=path is not None and synchronous == "full",
            bound_to_thread=is_bound_to_thread(connection),
            checkpointer=self._checkpointer,
        )

    @classmethod
    def file(
        cls, path: str | os.PathLike[str], *, synchronous: Synchronous = "normal"
    ) -> SqliteCheckpointStore:
        """Open a file, or create it; its folder must exist."""
        if os.fspath(path) in ("", ":memory:"):
            raise ValueError("a store in memory is made by SqliteCheckpointStore.in_memory()")
        return cls._opened(open_connection(Path(path)), synchronous)

    @classmethod
    def in_memory(cls) -> SqliteCheckpointStore:
        """A store that ends with the process, for tests."""
        return cls._opened(open_connection(":memory:"), "normal")

    @classmethod
    def _opened(cls, connection: sqlite3.Connection, synchronous: Synchronous) -> Self:
        try:
            store = cls(connection, synchronous=synchronous)
        except BaseException:
            connection.close()
            raise
        store._owns_connection = True
        return store

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Commit what was asked for, and let go of the file. Closing twice is harmless."""
        if self._commit.is_closed:
            return
        await self._commit.close()
        if self._checkpointer is not None:
            self._checkpointer.close()
        self._lock.release()
        if self._owns_connection:
            self._connection.close()
        else:
            self._give_back()

    def _give_back(self) -> None:
        connection = self._connection
        connection.isolation_level, connection.row_factory, connection.text_factory = self._restore

    @property
    def worker_id(self) -> str:
        return self._lock.worker_id

    # Any records at once

    async def save(self, *records: Record, claim: WorkflowClaim | None = None) -> None:
        final: list[str] = []
        for record in records:
            if type(record) not in self._savers:
                raise TypeError(f"save() takes records, not {record!r}")
            if claim is not None:
                _check_covers(claim, record)
            if isinstance(record, WorkflowExecution) and record.status in TERMINAL_STATUSES:
                final.append(record.workflow_execution_id)
        if records:
            await self._commit.write(lambda: self._save_all(records, claim, final))

    def _save_all(
        self, records: Iterable[Record], claim: WorkflowClaim | None, final: list[str]
    ) -> None:
        for record in records:
            if not self._savers[type(record)](record, claim) and claim is not None:
                raise _claim_lost(claim)
        # Last, since the records beside a final one are written under the claim, too.
        for execution_id in final:
            self._let_rest(execution_id)

    def _let_rest(self, workflow_execution_id: str) -> None:
        """Nobody works on a final execution, nothing is due for it, and no signal awaited."""
        for settle in (
            self._queries.delete_claim_of,
            self._queries.cancel_pending_timers,
            self._queries.expire_pending_signals,
        ):
            settle(self._connection, workflow_execution_id=workflow_execution_id)

    # Workflows

    async def save_workflow(self, workflow: Workflow) -> None:
        await self.save(workflow)

    async def load_workflow(self, workflow_id: str) -> Workflow | None:
        check_identifier("workflow_id", workflow_id)
        row = await self._commit.read(
            lambda: self._queries.load_workflow(self._connection, workflow_id=workflow_id)
        )
        return None if row is None else rows.workflow_from(row)

    def _upsert_workflow(self, workflow: Workflow, claim: WorkflowClaim | None) -> int:
        if claim is not None and not self._holds(claim):
            return 0
        return self._queries.upsert_workflow(
            self._connection,
            workflow_id=workflow.workflow_id,
            workflow_type=workflow.workflow_type,
            version=workflow.version,
            created_at=time_to_text(workflow.created_at),
        )

    # Executions

    async def save_execution(self, execution: WorkflowExecution) -> None:
        await self.save(execution)

    async def load_execution(self, workflow_execution_id: str) -> WorkflowExecution | None:
        check_identifier("workflow_execution_id", workflow_execution_id)
        return await self._commit.read(lambda: self._load_execution(workflow_execution_id))

    def _load_execution(self, workflow_execution_id: str) -> WorkflowExecution | None:
        row = self._queries.load_execution(
            self._connection, workflow_execution_id=workflow_execution_id
        )
        return None if row is None else rows.execution_from(row)

    async def load_executions_by_status(
        self, statuses: Iterable[ExecutionStatus]
    ) -> list[WorkflowExecution]:
        wanted = _json_array({ExecutionStatus(status).value for status in statuses})
        found = await self._commit.read(
            lambda: self._queries.load_executions_by_status(self._connection, statuses=wanted)
        )
        executions = readable(found, rows.execution_from)
        # Text sorts as time does only where all of it has one format.
        executions.sort(key=lambda execution: execution.created_at)
        return executions

    def _upsert_execution(self, execution: WorkflowExecution, claim: WorkflowClaim | None) -> int:
        changed = self._queries.upsert_execution(
            self._connection,
            workflow_execution_id=execution.workflow_execution_id,
            workflow_id=execution.workflow_id,
            status=execution.status.value,
            current_step=execution.current_step,
            input_data=execution.input_data,
            output_data=execution.output_data,
            error_type=execution.error_type,
            error_message=execution.error_message,
            ttl_expires_at=optional_time_to_text(execution.ttl_expires_at),
            guarantee=execution.guarantee.value,
            recovery_count=execution.recovery_count,
            blocked_reason=execution.blocked_reason,
            created_at=time_to_text(execution.created_at),
            updated_at=time_to_text(execution.updated_at),
            fencing_token=None if claim is None else claim.fencing_token,
        )
        if (
            not changed
            and claim is None
            and self._load_execution(execution.workflow_execution_id) != execution
        ):
            raise _final(execution.workflow_execution_id, "it was not changed")
        return changed

    async def create_execution(
        self, workflow: Workflow, execution: WorkflowExecution
    ) -> WorkflowClaim | None:
        if execution.workflow_id != workflow.workflow_id:
            raise ValueError(
                f"execution {execution.workflow_execution_id!r} is of workflow"
                f" {execution.workflow_id!r}, not {workflow.workflow_id!r}"
            )
        if execution.status in TERMINAL_STATUSES:
            raise ValueError(f"execution {execution.workflow_execution_id!r} is final already")
        self._be_alive()
        return await self._commit.write(lambda: self._create(workflow, execution))

    def _create(self, workflow: Workflow, execution: WorkflowExecution) -> WorkflowClaim | None:
        taken = self._queries.load_execution(
            self._connection, workflow_execution_id=execution.workflow_execution_id
        )
        if taken is not None:
            return None
        self._queries.insert_workflow_if_absent(
            self._connection,
            workflow_id=workflow.workflow_id,
            workflow_type=workflow.workflow_type,
            version=workflow.version,
            created_at=time_to_text(workflow.created_at),
        )
        self._queries.insert_execution_if_absent(
            self._connection,
            workflow_execution_id=execution.workflow_execution_id,
            workflow_id=execution.workflow_id,
            status=execution.status.value,
            current_step=execution.current_step,
            input_data=execution.input_data,
            output_data=execution.output_data,
            error_type=execution.error_type,
            error_message=execution.error_message,
            ttl_expires_at=optional_time_to_text(execution.ttl_expires_at),
            guarantee=execution.guarantee.value,
            recovery_count=execution.recovery_count,
            blocked_reason=execution.blocked_reason,
            created_at=time_to_text(execution.created_at),
            updated_at=time_to_text(execution.updated_at),
        )
        return self._insert_claim(execution.workflow_execution_id)

    # Claims

    async def claim_execution(self, workflow_execution_id: str) -> WorkflowClaim | None:
        check_identifier("workflow_execution_id", workflow_execution_id)
        self._be_alive()
        return await self._commit.write(lambda: self._claim(workflow_execution_id))

    def _claim(self, workflow_execution_id: str) -> WorkflowClaim | None:
        held = self._queries.load_claim(
            self._connection, workflow_execution_id=workflow_execution_id
        )
        if held is not None:
            if self._is_alive(held.worker_id):
                return None
            self._queries.delete_claim(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                fencing_token=held.fencing_token,
            )
        return self._insert_claim(workflow_execution_id, taken_over=held is not None)

    def _insert_claim(
        self, workflow_execution_id: str, *, taken_over: bool = False
    ) -> WorkflowClaim | None:
        token = self._queries.insert_claim(
            self._connection,
            workflow_execution_id=workflow_execution_id,
            worker_id=self.worker_id,
            claimed_at=time_to_text(utc_now()),
        )
        if token is None:
            return None
        return WorkflowClaim(
            workflow_execution_id=workflow_execution_id,
            worker_id=self.worker_id,
            fencing_token=token,
            taken_over=taken_over,
        )

    async def release_claims(self, claims: Iterable[WorkflowClaim]) -> None:
        to_release = list(claims)

        def release() -> None:
            for claim in to_release:
                self._queries.delete_claim(
                    self._connection,
                    workflow_execution_id=claim.workflow_execution_id,
                    fencing_token=claim.fencing_token,
                )

        if to_release:
            await self._commit.write(release)

    async def load_unclaimed_executions(self) -> list[UnclaimedExecution]:
        found = await self._commit.read(
            lambda: self._queries.load_unfinished_executions(self._connection)
        )
        workers = {row.worker_id for row in found if row.worker_id is not None}
        alive = {worker for worker in workers if self._is_alive(worker)}
        return readable((row for row in found if row.worker_id not in alive), rows.unclaimed_from)

    def _holds(self, claim: WorkflowClaim) -> bool:
        held = self._queries.load_claim(
            self._connection, workflow_execution_id=claim.workflow_execution_id
        )
        return held is not None and held.fencing_token == claim.fencing_token

    def _is_alive(self, worker_id: str) -> bool:
        try:
            return self._lock.is_alive(worker_id)
        except OSError as error:
            raise StoreError(f"cannot tell whether another worker lives: {error}") from error

    def _be_alive(self) -> None:
        try:
            self._lock.acquire()
        except OSError as error:
            raise StoreError(
                f"cannot create this worker's lock file beside the database: {error}"
            ) from error

    # Checkpoints

    async def save_checkpoint(self, checkpoint: StepCheckpoint) -> None:
        await self.save(checkpoint)

    async def save_checkpoints(self, checkpoints: Iterable[StepCheckpoint]) -> None:
        await self.save(*checkpoints)

    async def load_checkpoints(self, workflow_execution_id: str) -> list[StepCheckpoint]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        found = await self._commit.read(
            lambda: self._queries.load_checkpoints(
                self._connection, workflow_execution_id=workflow_execution_id
            )
        )
        return [rows.checkpoint_from(row) for row in found]

    def _upsert_checkpoint(self, checkpoint: StepCheckpoint, claim: WorkflowClaim | None) -> int:
        token = None if claim is None else claim.fencing_token
        if _is_plain_intent(checkpoint):
            if self._insert_intent(checkpoint, token):
                return 1
        elif _is_plain_outcome(checkpoint) and self._update_outcome(checkpoint, token):
            return 1
        return self._queries.upsert_checkpoint(
            self._connection,
            workflow_execution_id=checkpoint.workflow_execution_id,
            branch=checkpoint.branch,
            step_index=checkpoint.step_index,
            attempt=checkpoint.attempt,
            step_name=checkpoint.step_name,
            kind=checkpoint.kind.value,
            status=checkpoint.status.value,
            input_data=checkpoint.input_data,
            output_data=checkpoint.output_data,
            error_type=checkpoint.error_type,
            error_message=checkpoint.error_message,
            idempotency_key=checkpoint.idempotency_key,
            compensate_ref=checkpoint.compensate_ref,
            started_at=optional_time_to_text(checkpoint.started_at),
            completed_at=optional_time_to_text(checkpoint.completed_at),
            due_at=optional_time_to_text(checkpoint.due_at),
            fencing_token=token,
        )

    def _insert_intent(self, intent: StepCheckpoint, token: int | None) -> int:
        return self._queries.insert_intent(
            self._connection,
            workflow_execution_id=intent.workflow_execution_id,
            branch=intent.branch,
            step_index=intent.step_index,
            attempt=intent.attempt,
            step_name=intent.step_name,
            kind=intent.kind._value_,
            status=intent.status._value_,
            started_at=optional_time_to_text(intent.started_at),
            fencing_token=token,
        )

    def _update_outcome(self, outcome: StepCheckpoint, token: int | None) -> int:
        return self._queries.update_outcome(
            self._connection,
            status=outcome.status._value_,
            output_data=outcome.output_data,
            completed_at=optional_time_to_text(outcome.completed_at),
            workflow_execution_id=outcome.workflow_execution_id,
            branch=outcome.branch,
            step_index=outcome.step_index,
            attempt=outcome.attempt,
            step_name=outcome.step_name,
            started_at=optional_time_to_text(outcome.started_at),
            fencing_token=token,
        )

    # Timers

    async def save_timer(self, timer: WorkflowTimer) -> None:
        await self.save(timer)

    async def load_pending_timers(self) -> list[WorkflowTimer]:
        found = await self._commit.read(lambda: self._queries.load_pending_timers(self._connection))
        return _by_deadline(readable(found, rows.timer_from))

    async def load_timers(self, workflow_execution_id: str) -> list[WorkflowTimer]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        found = await self._commit.read(
            lambda: self._queries.load_timers(
                self._connection, workflow_execution_id=workflow_execution_id
            )
        )
        return _by_deadline([rows.timer_from(row) for row in found])

    def _upsert_timer(self, timer: WorkflowTimer, claim: WorkflowClaim | None) -> int:
        return self._queries.upsert_timer(
            self._connection,
            workflow_timer_id=timer.workflow_timer_id,
            workflow_execution_id=timer.workflow_execution_id,
            step_name=timer.step_name,
            fire_at=time_to_text(timer.fire_at),
            status=timer.status.value,
            created_at=time_to_text(timer.created_at),
            fencing_token=None if claim is None else claim.fencing_token,
        )

    # Signals

    async def save_signal(self, signal: WorkflowSignal) -> WorkflowSignal:
        if signal.workflow_signal_id is not None:
            await self.save(signal)
            return signal
        signal_id = await self._commit.write(lambda: self._insert_signal(signal))
        return msgspec.structs.replace(signal, workflow_signal_id=signal_id)

    async def send_signal(self, signal: WorkflowSignal) -> WorkflowSignal:
        signal_id = await self._commit.write(lambda: self._send_signal(signal))
        return msgspec.structs.replace(signal, workflow_signal_id=signal_id)

    def _send_signal(self, signal: WorkflowSignal) -> int:
        execution_id = signal.workflow_execution_id
        signal_id = self._queries.send_signal(
            self._connection,
            workflow_execution_id=execution_id,
            signal_name=signal.signal_name,
            payload=signal.payload,
            created_at=time_to_text(signal.created_at),
        )
        if signal_id is None:
            if self._load_execution(execution_id) is None:
                raise ExecutionNotFoundError(
                    f"no execution has the id {execution_id!r}; the signal"
                    f" {signal.signal_name!r} was not sent",
                    workflow_execution_id=execution_id,
                )
            raise _final(execution_id, f"the signal {signal.signal_name!r} was not sent")
        return signal_id

    async def load_pending_signals(
        self, workflow_execution_id: str, signal_name: str | None = None
    ) -> list[WorkflowSignal]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        found = await self._commit.read(
            lambda: self._queries.load_pending_signals(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                signal_name=signal_name,
            )
        )
        return [rows.signal_from(row) for row in found]

    async def load_signalled_execution_ids(self) -> set[str]:
        found = await self._commit.read(
            lambda: self._queries.load_signalled_execution_ids(self._connection)
        )
        return {row.workflow_execution_id for row in found}

    def has_news(self) -> bool:
        return self._commit.has_news()

    def _insert_signal(self, signal: WorkflowSignal) -> int:
        signal_id = self._queries.insert_signal(
            self._connection,
            workflow_execution_id=signal.workflow_execution_id,
            signal_name=signal.signal_name,
            payload=signal.payload,
            status=signal.status.value,
            created_at=time_to_text(signal.created_at),
        )
        assert signal_id is not None  # an insert of values returns its row
        return signal_id

    def _upsert_signal(self, signal: WorkflowSignal, claim: WorkflowClaim | None) -> int:
        if signal.workflow_signal_id is None:
            if claim is not None and not self._holds(claim):
                return 0
            return self._insert_signal(signal)
        return self._queries.upsert_signal(
            self._connection,
            workflow_signal_id=signal.workflow_signal_id,
            workflow_execution_id=signal.workflow_execution_id,
            signal_name=signal.signal_name,
            payload=signal.payload,
            status=signal.status.value,
            created_at=time_to_text(signal.created_at),
            fencing_token=None if claim is None else claim.fencing_token,
        )

    # Retention

    async def delete_execution(self, workflow_execution_id: str) -> bool:
        check_identifier("workflow_execution_id", workflow_execution_id)
        deleted = await self._commit.write(lambda: self._delete([workflow_execution_id]))
        return deleted > 0

    async def delete_completed_before(
        self,
        before: datetime,
        statuses: Collection[ExecutionStatus] = (ExecutionStatus.COMPLETED,),
        *,
        batch_size: int = 500,
    ) -> int:
        wanted = {ExecutionStatus(status) for status in statuses}
        if not wanted <= TERMINAL_STATUSES:
            unfinished = ", ".join(sorted(wanted - TERMINAL_STATUSES))
            raise ValueError(f"only finished executions can be deleted, not those {unfinished}")
        statuses_json = _json_array({status.value for status in wanted})
        before_text = _limit(before)

        def delete_batch() -> int:
            return self._delete(
                [
                    row.workflow_execution_id
                    for row in self._queries.load_ids_to_prune(
                        self._connection,
                        statuses=statuses_json,
                        before=before_text,
                        batch_size=batch_size,
                    )
                ]
            )

        return await self._in_batches(delete_batch, batch_size)

    async def delete_old_timers(self, before: datetime, *, batch_size: int = 500) -> int:
        before_text = _limit(before)
        return await self._in_batches(
            lambda: self._queries.delete_old_timers(
                self._connection, before=before_text, batch_size=batch_size
            ),
            batch_size,
        )

    async def delete_old_signals(self, before: datetime, *, batch_size: int = 500) -> int:
        before_text = _limit(before)
        return await self._in_batches(
            lambda: self._queries.delete_old_signals(
                self._connection, before=before_text, batch_size=batch_size
            ),
            batch_size,
        )

    async def _in_batches(self, delete_batch: Callable[[], int], batch_size: int) -> int:
        check_integer("batch_size", batch_size, minimum=1)
        total = 0
        began = time.monotonic()
        while deleted := await self._commit.write(delete_batch):
            total += deleted
            # Others who want the lock look for it now and then: it is free half of the time.
            await asyncio.sleep(time.monotonic() - began)
            began = time.monotonic()
        return total

    def _delete(self, execution_ids: list[str]) -> int:
        ids = _json_array(execution_ids)
        for delete in (
            self._queries.delete_claims,
            self._queries.delete_signals,
            self._queries.delete_timers,
            self._queries.delete_checkpoints,
        ):
            delete(self._connection, workflow_execution_ids=ids)
        return self._queries.delete_executions(self._connection, workflow_execution_ids=ids)


def _is_plain_intent(checkpoint: StepCheckpoint) -> bool:
    return (
        checkpoint.status is StepStatus.INTENT
        and checkpoint.output_data is None
        and checkpoint.completed_at is None
        and _is_plain(checkpoint)
    )


def _is_plain_outcome(checkpoint: StepCheckpoint) -> bool:
    return (
        checkpoint.status is StepStatus.COMPLETED
        and checkpoint.kind is StepKind.STEP
        and checkpoint.started_at is not None
        and _is_plain(checkpoint)
    )


def _is_plain(checkpoint: StepCheckpoint) -> bool:
    """Whether it has nothing but what nearly every step has."""
    return (
        checkpoint.input_data is None
        and checkpoint.error_type is None
        and checkpoint.error_message is None
        and checkpoint.idempotency_key is None
        and checkpoint.compensate_ref is None
        and checkpoint.due_at is None
    )


def _json_array(values: Iterable[str]) -> str:
    return msgspec.json.encode(list(values)).decode()


def _limit(before: datetime) -> str:
    check_time("before", before)
    return time_to_text(before)


def _by_deadline(timers: list[WorkflowTimer]) -> list[WorkflowTimer]:
    timers.sort(key=lambda timer: timer.fire_at)
    return timers


def _check_covers(claim: WorkflowClaim, record: Record) -> None:
    if not isinstance(record, Workflow) and (
        record.workflow_execution_id != claim.workflow_execution_id
    ):
        raise ValueError(
            f"a claim on {claim.workflow_execution_id!r} does not cover a record of"
            f" {record.workflow_execution_id!r}"
        )


def _claim_lost(claim: WorkflowClaim) -> ClaimLostError:
    return ClaimLostError(
        f"the claim on execution {claim.workflow_execution_id!r} is lost: another worker took it"
        " over, or it is finished; nothing was written",
        workflow_execution_id=claim.workflow_execution_id,
    )


def _final(workflow_execution_id: str, consequence: str) -> ExecutionConflictError:
    return ExecutionConflictError(
        f"execution {workflow_execution_id!r} is finished; {consequence}",
        workflow_execution_id=workflow_execution_id,
    )
