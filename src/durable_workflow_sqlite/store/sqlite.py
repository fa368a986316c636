"""`SqliteCheckpointStore`: the records of `records`, by the statements of `sql/queries`."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from durable_workflow_sqlite.errors import (
    ClaimLostError,
    DurableWorkflowError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    StoreError,
)
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import (
    TERMINAL_STATUSES,
    AbandonedExecution,
    ExecutionStatus,
    Record,
    StepCheckpoint,
    StepKind,
    StepStatus,
    UnqueuedExecution,
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
from durable_workflow_sqlite.store import queries as q
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

_log = logging.getLogger("durable_workflow_sqlite.store")


class SqliteCheckpointStore(CheckpointStore):
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
        except AttributeError:
            raise TypeError(
                f"connection must be an open sqlite3.Connection, not {connection!r}; a file is"
                " opened by SqliteCheckpointStore.file(path)"
            ) from None
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
        self._said: set[str] = set()
        self._known_workflows: set[str] = set()
        """Definitions that are in the file for sure, so that a start need not look for them."""
        self._savers: dict[type, Callable[[Any, WorkflowClaim | None], int]] = {
            StepCheckpoint: self._upsert_checkpoint,
            WorkflowExecution: self._save_execution,
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
        if self._commit.is_inherited:
            await self._commit.close()
            return
        await self._commit.close()
        self._lock.release()
        if not self._owns_connection:
            self._give_back()
        if self._checkpointer is not None:
            await self._checkpointer.close(self._connection if self._owns_connection else None)
        elif self._owns_connection:
            self._connection.close()

    def _give_back(self) -> None:
        connection = self._connection
        connection.isolation_level, connection.row_factory, connection.text_factory = self._restore

    @property
    def worker_id(self) -> str:
        return self._lock.worker_id

    # Any records at once

    async def save(self, *records: Record, claim: WorkflowClaim | None = None) -> None:
        if (
            claim is not None
            and len(records) == 1
            and type(checkpoint := records[0]) is StepCheckpoint
        ):
            # What is saved most has nothing beside it that would have to be undone.
            if checkpoint.workflow_execution_id != claim.workflow_execution_id:
                _check_covers(claim, checkpoint)
            if not await self._commit.write(lambda: self._upsert_checkpoint(checkpoint, claim)):
                raise _claim_lost(claim)
            return
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

    def _save_execution(self, execution: WorkflowExecution, claim: WorkflowClaim | None) -> int:
        if claim is None:
            return self._upsert_execution(execution)
        return self._queries.update_execution(
            self._connection,
            workflow_execution_id=execution.workflow_execution_id,
            status=execution.status._value_,
            current_step=execution.current_step,
            output_data=execution.output_data,
            error_type=execution.error_type,
            error_message=execution.error_message,
            recovery_count=execution.recovery_count,
            blocked_reason=execution.blocked_reason,
            updated_at=time_to_text(execution.updated_at),
            fencing_token=claim.fencing_token,
        )

    def _upsert_execution(self, execution: WorkflowExecution) -> int:
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
            priority=execution.priority,
            recovery_count=execution.recovery_count,
            blocked_reason=execution.blocked_reason,
            available_at=optional_time_to_text(execution.available_at),
            created_at=time_to_text(execution.created_at),
            updated_at=time_to_text(execution.updated_at),
            fencing_token=None,
        )
        if not changed and self._load_execution(execution.workflow_execution_id) != execution:
            raise _final(execution.workflow_execution_id, "it was not changed")
        return changed

    # The queue, and claims

    async def create_execution(
        self, workflow: Workflow, execution: WorkflowExecution
    ) -> WorkflowClaim | None:
        _check_can_start(workflow, execution)
        self._be_alive()

        def create() -> WorkflowClaim | None:
            if not self._insert(workflow, execution):
                return None
            return self._insert_claim(
                execution.workflow_execution_id, execution.status, execution.created_at
            )

        claim = await self._commit.write(create)
        if claim is not None:
            self._known_workflows.add(workflow.workflow_id)
        return claim

    async def enqueue_execution(self, workflow: Workflow, execution: WorkflowExecution) -> bool:
        _check_can_start(workflow, execution)

        def enqueue() -> bool:
            self._commit.make_news()
            return self._insert(workflow, execution)

        return await self._commit.write(enqueue)

    def _insert(self, workflow: Workflow, execution: WorkflowExecution) -> bool:
        if workflow.workflow_id in self._known_workflows:
            try:
                return self._insert_execution(execution)
            except sqlite3.IntegrityError:
                self._known_workflows.discard(workflow.workflow_id)  # somebody deleted it
        taken = self._load_statuses([execution.workflow_execution_id])
        if taken:
            return False
        self._queries.insert_workflow_if_absent(
            self._connection,
            workflow_id=workflow.workflow_id,
            workflow_type=workflow.workflow_type,
            version=workflow.version,
            created_at=time_to_text(workflow.created_at),
        )
        return self._insert_execution(execution)

    def _insert_execution(self, execution: WorkflowExecution) -> bool:
        return bool(
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
                priority=execution.priority,
                recovery_count=execution.recovery_count,
                blocked_reason=execution.blocked_reason,
                available_at=optional_time_to_text(execution.available_at),
                created_at=time_to_text(execution.created_at),
                updated_at=time_to_text(execution.updated_at),
            )
        )

    async def claim_execution(
        self, workflow_execution_id: str, now: datetime | None = None
    ) -> WorkflowClaim | None:
        check_identifier("workflow_execution_id", workflow_execution_id)
        self._be_alive()
        at = now or utc_now()
        return await self._commit.write(lambda: self._claim(workflow_execution_id, at))

    def _claim(self, workflow_execution_id: str, now: datetime) -> WorkflowClaim | None:
        statuses = self._load_statuses([workflow_execution_id])
        status = statuses.get(workflow_execution_id)
        if status is None:
            return None
        claim = self._insert_claim(workflow_execution_id, status, now)
        if claim is not None:
            self._queries.take_from_queue(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                updated_at=time_to_text(now),
            )
        return claim

    def _insert_claim(
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

    async def claim_available(
        self,
        workflows: Collection[tuple[str, int]],
        limit: int,
        *,
        passed_over: Collection[str] = (),
        now: datetime | None = None,
    ) -> list[WorkflowClaim]:
        check_integer("limit", limit, minimum=1)
        at = now or utc_now()
        # A look first: where there is nothing to claim, nobody is kept from the lock.
        heads = await self._commit.read(lambda: self._due_heads(workflows, at))
        if not heads:
            return []
        self._be_alive()
        workers = self._count_workers()

        def claim() -> list[WorkflowClaim]:
            found: list[str] = []
            for heads_of_one_priority in self._due_heads(workflows, at):
                found += self._load_available(
                    heads_of_one_priority, at, limit * workers - len(found), passed_over
                )
                if len(found) >= limit * workers:
                    break
            share = min(limit, -(-len(found) // workers))
            claims = [self._claim(execution_id, at) for execution_id in found[:share]]
            return [claim for claim in claims if claim is not None]

        return await self._commit.write(claim)

    def _due_heads(
        self, workflows: Collection[tuple[str, int]], now: datetime
    ) -> list[list[q.LoadQueueHeadsRow]]:
        """The queues in which something may be claimed now: those of each priority together."""
        until = time_to_text(now)
        due: dict[int, list[q.LoadQueueHeadsRow]] = {}
        for head in self._queries.load_queue_heads(self._connection):
            if (head.workflow_type, head.version) not in workflows:
                continue
            if type(head.priority) is not int or type(head.available_at) is not str:
                self._say_once(
                    f"the queue of workflow {head.workflow_id!r} with the priority"
                    f" {head.priority!r} and the time {head.available_at!r} cannot be read"
                )
            elif head.available_at <= until:
                due.setdefault(head.priority, []).append(head)
        return [due[priority] for priority in sorted(due, reverse=True)]

    def _load_available(
        self,
        heads: list[q.LoadQueueHeadsRow],
        now: datetime,
        limit: int,
        passed_over: Collection[str],
    ) -> list[str]:
        found: list[q.LoadAvailableRow] = []
        for head in heads:
            found += self._queries.load_available(
                self._connection,
                workflow_id=head.workflow_id,
                priority=head.priority,
                now=time_to_text(now),
                passed_over=_json_array(passed_over),
                batch_size=limit,
            )
        found.sort(key=lambda row: row.available_at)
        return [row.workflow_execution_id for row in found[:limit]]

    async def load_next_available_at(
        self, workflows: Collection[tuple[str, int]]
    ) -> datetime | None:
        heads = await self._commit.read(lambda: self._queries.load_queue_heads(self._connection))
        times: list[datetime] = []
        for head in heads:
            if (head.workflow_type, head.version) in workflows:
                try:
                    times.append(rows.text_to_time("available_at", head.available_at))
                except ValueError as error:
                    self._say_once(f"an execution of workflow {head.workflow_id!r}: {error}")
        return min(times, default=None)

    def _say_once(self, problem: str) -> None:
        if problem not in self._said:
            self._said.add(problem)
            _log.error("%s; it is left out", problem)

    async def release_claims(
        self, claims: Iterable[WorkflowClaim], now: datetime | None = None
    ) -> None:
        to_release = list(claims)
        at = now or utc_now()

        def release() -> None:
            for claim in to_release:
                if self._delete_claim(claim.workflow_execution_id, claim.fencing_token):
                    self._put_into_queue(claim.workflow_execution_id, at)

        if to_release:
            await self._commit.write(release)

    async def put_back(self, execution: WorkflowExecution, now: datetime | None = None) -> None:
        execution_id = execution.workflow_execution_id
        at = now or utc_now()

        def release() -> None:
            held = self._queries.load_claim(self._connection, workflow_execution_id=execution_id)
            if held is None or held.worker_id != self.worker_id:
                return
            found = self._load_execution(execution_id)
            # Created at the same microsecond, it is this record and not another of its id.
            if found is not None and found.created_at == execution.created_at:
                self._delete_claim(execution_id, held.fencing_token)
                self._put_into_queue(execution_id, at)

        await self._commit.write(release)

    async def release_claims_of_the_dead(
        self, max_recoveries: int, now: datetime | None = None
    ) -> list[AbandonedExecution]:
        check_integer("max_recoveries", max_recoveries)
        at = now or utc_now()
        workers = await self._commit.read(
            lambda: self._queries.load_claiming_workers(self._connection)
        )
        dead = [row.worker_id for row in workers if not self._is_alive(row.worker_id)]

        def release() -> list[AbandonedExecution]:
            return [
                self._abandon(row, max_recoveries, at)
                for worker_id in dead
                for row in self._queries.load_claims_of(self._connection, worker_id=worker_id)
            ]

        return await self._commit.write(release) if dead else []

    def _abandon(
        self, row: q.LoadClaimsOfRow, max_recoveries: int, now: datetime
    ) -> AbandonedExecution:
        execution_id = row.workflow_execution_id
        self._delete_claim(execution_id, row.fencing_token)
        reason = self._queries.count_recovery(
            self._connection, workflow_execution_id=execution_id, max_recoveries=max_recoveries
        )
        self._put_into_queue(execution_id, now)
        return AbandonedExecution(workflow_execution_id=execution_id, blocked_reason=reason)

    def _delete_claim(self, workflow_execution_id: str, fencing_token: int) -> int:
        return self._queries.delete_claim(
            self._connection,
            workflow_execution_id=workflow_execution_id,
            fencing_token=fencing_token,
        )

    async def put_into_queue(
        self, workflow_execution_ids: Iterable[str], now: datetime | None = None
    ) -> None:
        ids = list(workflow_execution_ids)
        at = now or utc_now()

        def put() -> None:
            for execution_id in ids:
                held = self._queries.load_claim(
                    self._connection, workflow_execution_id=execution_id
                )
                if held is None:
                    self._put_into_queue(execution_id, at)

        if ids:
            await self._commit.write(put)

    def _put_into_queue(self, workflow_execution_id: str, now: datetime) -> None:
        self._queries.put_into_queue(
            self._connection, workflow_execution_id=workflow_execution_id, now=time_to_text(now)
        )

    async def load_unqueued_executions(self) -> list[UnqueuedExecution]:
        found = await self._commit.read(lambda: self._queries.load_unqueued(self._connection))
        return readable(found, rows.unqueued_from)

    async def load_unregistered(self, workflows: Collection[tuple[str, int]]) -> list[str]:
        def load() -> list[str]:
            known: list[str] = []
            unknown: list[str] = []
            for row in self._queries.load_workflows(self._connection):
                is_known = (row.workflow_type, row.version) in workflows
                (known if is_known else unknown).append(row.workflow_id)
            if not unknown:
                return []
            found = self._queries.load_unregistered(
                self._connection, workflow_ids=_json_array(known)
            )
            return [row.workflow_execution_id for row in found]

        return await self._commit.read(load)

    async def load_blocked(self) -> list[str]:
        found = await self._commit.read(lambda: self._queries.load_blocked(self._connection))
        return [row.workflow_execution_id for row in found]

    async def unblock_execution(
        self, workflow_execution_id: str, now: datetime | None = None
    ) -> bool:
        check_identifier("workflow_execution_id", workflow_execution_id)
        at = now or utc_now()

        def unblock() -> bool:
            changed = self._queries.unblock_execution(
                self._connection, workflow_execution_id=workflow_execution_id
            )
            if changed:
                self._put_into_queue(workflow_execution_id, at)
            return bool(changed)

        return await self._commit.write(unblock)

    async def reopen_execution(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> None:
        check_identifier("workflow_execution_id", workflow_execution_id)
        at = now or utc_now()

        def reopen() -> None:
            changed = self._queries.reopen_execution(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                updated_at=time_to_text(at),
            )
            if not changed:
                raise self._cannot_be_reopened(workflow_execution_id)
            self._save_all(records, None, [])
            self._put_into_queue(workflow_execution_id, at)

        await self._commit.write(reopen)

    def _cannot_be_reopened(self, workflow_execution_id: str) -> DurableWorkflowError:
        found = self._load_execution(workflow_execution_id)
        if found is None:
            return ExecutionNotFoundError(
                f"no execution has the id {workflow_execution_id!r}",
                workflow_execution_id=workflow_execution_id,
            )
        if found.status is ExecutionStatus.FAILED:
            why = "was compensated: what its steps did is undone; start it anew under another id"
        else:
            why = f"is {found.status}: only one that FAILED can be run again"
        return ExecutionConflictError(
            f"execution {workflow_execution_id!r} {why}",
            workflow_execution_id=workflow_execution_id,
        )

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

    def _count_workers(self) -> int:
        try:
            return self._lock.count_alive()
        except OSError as error:
            raise StoreError(f"cannot tell which workers live: {error}") from error

    def _be_alive(self) -> None:
        if self._commit.is_closed:
            raise StoreError("the store is closed")
        try:
            self._lock.acquire()
        except OSError as error:
            raise StoreError(
                f"cannot create this worker's lock file beside the database: {error}"
            ) from error

    # News

    def news(self) -> int:
        return self._commit.news()

    async def load_signals_after(self, signal_id: int | None) -> tuple[list[str], int]:
        def load() -> tuple[list[str], int]:
            if signal_id is None:
                last = self._queries.load_last_signal_id(self._connection)
                return [], last or 0
            found = self._queries.load_signals_after(self._connection, workflow_signal_id=signal_id)
            ids = dict.fromkeys(row.workflow_execution_id for row in found)
            return list(ids), found[-1].workflow_signal_id if found else signal_id

        return await self._commit.read(load)

    async def load_statuses(
        self, workflow_execution_ids: Iterable[str]
    ) -> dict[str, ExecutionStatus]:
        ids = list(workflow_execution_ids)
        return await self._commit.read(lambda: self._load_statuses(ids))

    def _load_statuses(self, ids: list[str]) -> dict[str, ExecutionStatus]:
        found = self._queries.load_statuses(
            self._connection, workflow_execution_ids=_json_array(ids)
        )
        statuses: dict[str, ExecutionStatus] = {}
        for row in found:
            try:
                statuses[row.workflow_execution_id] = ExecutionStatus(row.status)
            except ValueError:
                _log.error(
                    "execution %r has the unknown status %r; it is left out",
                    row.workflow_execution_id,
                    row.status,
                )
        return statuses

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
        self._commit.make_news()
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
        self._commit.make_news()
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
        on_deleted: Callable[[int], object] | None = None,
    ) -> int:
        wanted = {ExecutionStatus(status) for status in statuses}
        if not wanted <= TERMINAL_STATUSES:
            unfinished = ", ".join(sorted(wanted - TERMINAL_STATUSES))
            raise ValueError(f"only finished executions can be deleted, not those {unfinished}")
        before_text = _limit(before)
        workflows = await self._commit.read(lambda: self._queries.load_workflows(self._connection))
        total = 0
        for workflow in workflows:
            for status in sorted(wanted):
                pair = (workflow.workflow_id, status)
                say = None if on_deleted is None else partial(_add_to, total, on_deleted)
                total += await self._prune(*pair, before_text, batch_size, say)
        return total

    async def _prune(
        self,
        workflow_id: str,
        status: ExecutionStatus,
        before: str,
        batch_size: int,
        on_deleted: Callable[[int], object] | None,
    ) -> int:
        def delete_batch(created_from: str) -> tuple[int, str]:
            found = self._queries.load_ids_to_prune(
                self._connection,
                workflow_id=workflow_id,
                status=status.value,
                created_from=created_from,
                before=before,
                batch_size=batch_size,
            )
            if not found:
                return 0, created_from
            return self._delete([row.workflow_execution_id for row in found]), found[-1].created_at

        return await self._in_batches(delete_batch, batch_size, on_deleted)

    async def delete_old_timers(self, before: datetime, *, batch_size: int = 500) -> int:
        before_text = _limit(before)

        def delete_batch(_: str) -> tuple[int, str]:
            deleted = self._queries.delete_old_timers(
                self._connection, before=before_text, batch_size=batch_size
            )
            return deleted, ""

        return await self._in_batches(delete_batch, batch_size)

    async def delete_old_signals(self, before: datetime, *, batch_size: int = 500) -> int:
        before_text = _limit(before)

        def delete_batch(_: str) -> tuple[int, str]:
            deleted = self._queries.delete_old_signals(
                self._connection, before=before_text, batch_size=batch_size
            )
            return deleted, ""

        return await self._in_batches(delete_batch, batch_size)

    async def _in_batches(
        self,
        delete_batch: Callable[[str], tuple[int, str]],
        batch_size: int,
        on_deleted: Callable[[int], object] | None = None,
    ) -> int:
        """Delete batch after batch; each is given the place at which the one before ended."""
        check_integer("batch_size", batch_size, minimum=1)
        total = 0
        place = ""
        while True:
            began = time.monotonic()
            deleted, place = await self._commit.write(partial(delete_batch, place))
            if not deleted:
                return total
            total += deleted
            if on_deleted is not None:
                on_deleted(total)
            # Others who want the lock look for it now and then: it is free half of the time.
            await asyncio.sleep(time.monotonic() - began)

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


def _add_to(before: int, on_deleted: Callable[[int], object], deleted: int) -> None:
    on_deleted(before + deleted)


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


def _check_can_start(workflow: Workflow, execution: WorkflowExecution) -> None:
    if execution.workflow_id != workflow.workflow_id:
        raise ValueError(
            f"execution {execution.workflow_execution_id!r} is of workflow"
            f" {execution.workflow_id!r}, not {workflow.workflow_id!r}"
        )
    if execution.status in TERMINAL_STATUSES or execution.blocked_reason is not None:
        state = "blocked" if execution.blocked_reason is not None else "final already"
        raise ValueError(f"execution {execution.workflow_execution_id!r} is {state}")


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
