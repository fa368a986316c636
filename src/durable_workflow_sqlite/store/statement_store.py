"""`StatementStore`: the records of `records`, by the statements of `sql/queries`.

It saves and loads records, and starts executions. What else a store does has a room each: the queue
(`queue.py`), signals, and retention. How a database is opened, and how its transactions come about,
is the business of `sqlite.py` and of the store on PostgreSQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar, TypeVarTuple, Unpack

import msgspec

from durable_workflow_sqlite import limits
from durable_workflow_sqlite.errors import ClaimLostError, ExecutionConflictError
from durable_workflow_sqlite.protocol import CheckpointStore, Maintenance
from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    TRANSACTION_TIMEOUT,
    AbandonedExecution,
    ArrivedSignal,
    AuditEntry,
    ChangeEntry,
    ChangeScope,
    DueSchedules,
    ExecutionStatus,
    LimitRoom,
    NewExecution,
    Pause,
    PauseScope,
    Progress,
    Record,
    Schedule,
    StepCheckpoint,
    StepSlot,
    StepStatus,
    StreamEnd,
    StreamItem,
    StreamItems,
    TakenExecution,
    TimerStatus,
    UnqueuedExecution,
    Workflow,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowPatch,
    WorkflowSignal,
    WorkflowTimer,
    check_covered,
    check_identifier,
    check_integer,
    check_named_scope,
    check_records,
    check_sent,
    check_transaction,
    utc_now,
)
from durable_workflow_sqlite.store import rows
from durable_workflow_sqlite.store.claims import Claims
from durable_workflow_sqlite.store.encoding import Encoding, encoding_statements
from durable_workflow_sqlite.store.executions import (
    finished,
    load_execution,
    load_statuses,
    load_stopped,
)
from durable_workflow_sqlite.store.mending import Mending
from durable_workflow_sqlite.store.moves import check_not_moved
from durable_workflow_sqlite.store.pauses import Pauses
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.queue import Queue
from durable_workflow_sqlite.store.queues import Queues
from durable_workflow_sqlite.store.recoding import Recoded, Recoding
from durable_workflow_sqlite.store.retention import Retention
from durable_workflow_sqlite.store.rows import (
    json_array,
    optional_time_to_text,
    readable,
    time_to_text,
)
from durable_workflow_sqlite.store.schedules import Schedules
from durable_workflow_sqlite.store.signals import Signals
from durable_workflow_sqlite.store.transactions import (
    AsStatement,
    Liveness,
    Shortcut,
    Transaction,
    Transactions,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_FAILED: Final = StepStatus.FAILED
_RUNNING: Final = ExecutionStatus.RUNNING
_SUSPENDED: Final = ExecutionStatus.SUSPENDED

CHECKPOINTS_AT_ONCE: Final = 5_000
"""How many rows of steps are read at once."""

_PLACE: Final = ("workflow_execution_id", "branch", "step_index", "attempt", "fencing_token")


class StatementStore(CheckpointStore, Maintenance):
    """A `CheckpointStore` in a database: all of it but opening and closing that.

    connection: what `queries` are called with. as_statement: makes a query a `Shortcut`.
    """

    def __init__(
        self,
        connection: object,
        queries: Queries,
        commit: Transactions,
        liveness: Liveness,
        as_statement: AsStatement,
        max_payload_bytes: int,
        encoding: Encoding | None,
    ) -> None:
        self._encoding = encoding
        if encoding is not None:
            as_statement = encoding_statements(as_statement, encoding)
        self.max_payload_bytes = max_payload_bytes
        self._database = connection
        self._queries = queries
        self._transactions = commit
        self._liveness = liveness
        self._begin_step = as_statement(
            self._queries.begin_step,
            *_PLACE,
            "step_name",
            "kind",
            "started_at",
            "worker_number",
        )
        self._record_step = as_statement(
            self._queries.record_step,
            *_PLACE,
            "step_name",
            "kind",
            "status",
            "output_data",
            "started_at",
            "completed_at",
            "event",
            "worker_number",
        )
        self._complete_step = as_statement(
            self._queries.complete_step, *_PLACE, "status", "output_data", "completed_at", "event"
        )
        self._known_workflows: set[str] = set()
        """Definitions that are in the file for sure, so that a start need not look for them."""
        access = (connection, self._queries, self._transactions)
        self._claims = Claims(*access, liveness)
        self._membership = self._claims.membership
        self._queues = Queues(*access, self._claims, as_statement)
        self._queue = Queue(*access, self._claims, self._queues)
        self._pauses = Pauses(*access, self._claims, put_into_queue=self._queue.put_now)
        self._signals = Signals(*access, self._claims, self._pauses)
        self._retention = Retention(*access)
        self._schedules = Schedules(*access, self._insert, self._queues.check_declared)
        self._mending = Mending(
            *access,
            self._claims,
            take=self._take_execution,
            let_rest=self._let_rest,
            put_into_queue=self._queue.put_now,
        )
        self._savers: dict[type, Callable[[Any, WorkflowClaim | None], int]] = {
            StepCheckpoint: self._upsert_checkpoint,
            WorkflowExecution: self._save_execution,
            WorkflowTimer: self._upsert_timer,
            WorkflowPatch: self._insert_patch,
            StreamItems: self._insert_stream_items,
            Progress: self._upsert_progress,
            WorkflowSignal: self._signals.upsert,
            Workflow: self._upsert_workflow,
            AuditEntry: self._insert_audit_entry,
            ChangeEntry: self._insert_change_entry,
            StepSlot: self._queues.save_slot,
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def worker_id(self) -> str:
        return self._liveness.worker_id

    # Any records at once

    async def save(
        self,
        *records: Record,
        claim: WorkflowClaim | None = None,
        start: Collection[NewExecution] = (),
        send: Collection[WorkflowSignal] = (),
    ) -> None:
        final = check_records(records, claim)
        for signal in send:
            check_sent(signal)
        if not (records or start or send):
            return

        def save() -> None:
            self._save_all(records, claim, final)
            self._start_and_send(start, send)

        def noted(_: object) -> None:
            if claim is not None:
                self._claims.saved(claim, records)
            self._claims.released(final)

        await self._transactions.write(save, noted=noted)

    async def begin_step(
        self, intent: StepCheckpoint, *beside: Record, claim: WorkflowClaim
    ) -> None:
        if not _is_plain(intent):
            # Not a wider statement for all: to bind a null takes longer than all of this.
            await self.save(intent, *beside, claim=claim)
            return
        check_covered(claim, intent.workflow_execution_id)
        statement, in_order = self._begin_step
        values = (
            intent.workflow_execution_id,
            intent.branch,
            intent.step_index,
            intent.attempt,
            claim.fencing_token,
            intent.step_name,
            intent.kind._value_,
            None if intent.started_at is None else time_to_text(intent.started_at),
            self._membership.number,
        )
        shortcut = statement, in_order(values)
        if beside:
            save = self._save_with_slot if _is_a_slot(beside) else self._save_beside
            await save(intent, beside, claim, shortcut)
            return
        await self._transactions.write(
            lambda: self._save_step(intent, claim, shortcut),
            shortcut,
            lambda _: self._claims.saved(claim, (intent,)),
        )

    async def finish_step(
        self,
        outcome: StepCheckpoint,
        *beside: Record,
        claim: WorkflowClaim,
        has_begun: bool = True,
    ) -> None:
        if outcome.status is _FAILED or not (has_begun or _is_plain(outcome)):
            await self.save(outcome, *beside, claim=claim)
            return
        check_covered(claim, outcome.workflow_execution_id)
        completed_at = None if outcome.completed_at is None else time_to_text(outcome.completed_at)
        place = (
            outcome.workflow_execution_id,
            outcome.branch,
            outcome.step_index,
            outcome.attempt,
            claim.fencing_token,
        )
        if has_begun:
            statement, in_order = self._complete_step
            values = in_order(
                (*place, outcome.status._value_, outcome.output_data, completed_at, outcome.event)
            )
        else:
            statement, in_order = self._record_step
            values = in_order(
                (
                    *place,
                    outcome.step_name,
                    outcome.kind._value_,
                    outcome.status._value_,
                    outcome.output_data,
                    None if outcome.started_at is None else time_to_text(outcome.started_at),
                    completed_at,
                    outcome.event,
                    self._membership.number,
                )
            )
        shortcut = statement, values
        if beside:
            save = self._save_with_slot if _is_a_slot(beside) else self._save_beside
            await save(outcome, beside, claim, shortcut)
            return
        await self._transactions.write(
            lambda: self._save_step(outcome, claim, shortcut),
            shortcut,
            lambda _: self._claims.saved(claim, (outcome,)),
        )

    async def continue_as_new(
        self, execution: WorkflowExecution, *records: Record, claim: WorkflowClaim
    ) -> None:
        check_covered(claim, execution.workflow_execution_id)
        check_records(records, claim)
        execution_id, at = execution.workflow_execution_id, time_to_text(execution.updated_at)
        queries, connection, ids = self._queries, self._database, json_array([execution_id])

        def begin_again() -> None:
            self._save_all(records, claim, [])
            # Before the rest: a trigger takes it for a deletion by hand, and blocks it.
            queries.delete_checkpoints(connection, workflow_execution_ids=ids)
            queries.delete_timers(connection, workflow_execution_ids=ids)
            queries.delete_patches(connection, workflow_execution_ids=ids)
            queries.delete_stream_items(connection, workflow_execution_ids=ids)
            queries.delete_progress(connection, workflow_execution_ids=ids)
            if not queries.begin_again(
                connection,
                workflow_execution_id=execution_id,
                input_data=execution.input_data,
                run_number=execution.run_number,
                updated_at=at,
                fencing_token=claim.fencing_token,
            ):
                raise self._lost(claim)
            queries.expire_ends_of_children(connection, workflow_execution_id=execution_id)
            if queries.cancel_children(connection, parent_execution_id=execution_id, created_at=at):
                self._transactions.count_change()

        await self._transactions.write(
            begin_again, noted=lambda _: self._claims.began_again(execution)
        )

    async def transact(
        self,
        function: Callable[[Any], Sequence[Record]],
        failed: Callable[[BaseException], Sequence[Record]],
        *,
        claim: WorkflowClaim,
        timeout: timedelta,
        unless_signal: str | None = None,
        passed_over: Collection[int] = (),
    ) -> bool:
        saved: tuple[Record, ...] = ()

        def may_begin() -> bool:
            if not self._claims.holds(claim):
                raise self._lost(claim)
            return unless_signal is None or not self._signals.are_pending(
                claim, unless_signal, passed_over
            )

        def save(records: Sequence[Record]) -> None:
            nonlocal saved
            saved = tuple(records)
            self._save_all(saved, claim, check_records(saved, claim))

        def save_failed(error: BaseException) -> None:
            save(failed(error))

        seconds = timeout.total_seconds()
        transaction = Transaction(
            may_begin,
            function,
            save,
            save_failed,
            seconds,
            lambda: self._claims.saved(claim, saved),
        )
        return await self._transactions.transact(transaction)

    # Tables of the user's own

    async def write(
        self,
        function: Callable[[Any, Unpack[Ts]], T],
        *args: *Ts,
        timeout: timedelta = TRANSACTION_TIMEOUT,
    ) -> T:
        """Call a function with the connection of the store, in one transaction; return its result.

        function: not async; it runs in a thread. On SQLite it gets the `sqlite3.Connection` that
            the store writes with, and on PostgreSQL a `psycopg.Connection`. It may make and use
            tables of its own, and read those of the library. It may not commit, roll back, close,
            change settings, attach files, or write to the tables of the library.
        timeout: for how long it may run. Nobody else can write to the file meanwhile.

        When the `await` returns, all of it is committed. When it raises, nothing is. Raises what
        the function raises; TransactionTimeoutError, TransactionMisuseError and StoreError.
        """
        check_transaction("write", function, timeout)
        results: list[T] = []

        def call(connection: Any) -> T:
            return function(connection, *args)

        seconds = timeout.total_seconds()
        transaction = Transaction(_always, call, results.append, None, seconds)
        await self._transactions.transact(transaction)
        return results[-1]

    async def read(
        self,
        function: Callable[[Any, Unpack[Ts]], T],
        *args: *Ts,
        timeout: timedelta = TRANSACTION_TIMEOUT,
    ) -> T:
        """As `write`, for a function that only reads. It sees one state of the database.

        It has a connection and a thread of its own, so writers do not wait for it.
        """
        check_transaction("read", function, timeout)
        return await self._transactions.look(
            lambda connection: function(connection, *args), timeout.total_seconds()
        )

    def _save_step(self, step: StepCheckpoint, claim: WorkflowClaim, shortcut: Shortcut) -> None:
        if not self._transactions.execute(shortcut):
            self._save_all((step,), claim, [])

    async def _save_beside(
        self,
        step: StepCheckpoint,
        beside: tuple[Record, ...],
        claim: WorkflowClaim,
        shortcut: Shortcut,
    ) -> None:
        final = check_records(beside, claim)

        def save() -> None:
            self._save_step(step, claim, shortcut)
            self._save_all(beside, claim, final)

        def noted(_: object) -> None:
            self._claims.saved(claim, (step, *beside))
            self._claims.released(final)

        await self._transactions.write(save, noted=noted)

    async def _save_with_slot(
        self,
        step: StepCheckpoint,
        beside: tuple[Record, ...],
        claim: WorkflowClaim,
        shortcut: Shortcut,
    ) -> None:
        """As `_save_beside`, of what each step under a limit writes: nothing but its slot."""
        (slot,) = beside
        assert type(slot) is StepSlot
        check_covered(claim, slot.workflow_execution_id)
        execute, queues = self._transactions.execute, self._queues
        of_slot = queues.slot_statement(slot, claim)

        def save() -> None:
            if not execute(shortcut):
                self._save_all((step,), claim, [])
            if slot.is_held:
                queues.hold_limit(slot.limit)
            if not execute(of_slot) and not queues.look_closer(slot, claim):
                raise self._lost(claim)

        await self._transactions.write(
            save, noted=lambda _: self._claims.saved(claim, (step, *beside))
        )

    def _save_all(
        self, records: Iterable[Record], claim: WorkflowClaim | None, final: list[str]
    ) -> None:
        if claim is not None and not records and not self._claims.holds(claim):
            raise self._lost(claim)
        for record in records:
            if not self._savers[type(record)](record, claim) and claim is not None:
                raise self._lost(claim)
        # Last, since the records beside a final one are written under the claim, too.
        for execution_id in final:
            self._let_rest(execution_id)

    def _lost(self, claim: WorkflowClaim) -> ClaimLostError:
        self._claims.released([claim.workflow_execution_id])
        return _claim_lost(claim)

    def _start_and_send(
        self, start: Collection[NewExecution], send: Collection[WorkflowSignal]
    ) -> None:
        for new in start:
            self._transactions.count_change()
            if not self._insert(new):
                raise ExecutionConflictError(
                    f"the execution id {new.execution.workflow_execution_id!r} is taken; nothing"
                    " was written",
                    workflow_execution_id=new.execution.workflow_execution_id,
                )
        for signal in send:
            self._signals.send_if_it_can(signal)

    def _let_rest(self, workflow_execution_id: str) -> None:
        """Nobody works on a final execution, nothing is due for it, and no signal awaited."""
        queries, connection = self._queries, self._database
        queries.delete_claim_of(connection, workflow_execution_id=workflow_execution_id)
        pending = queries.load_pending(connection, workflow_execution_id=workflow_execution_id)
        if pending is not None and pending.has_timers:
            queries.cancel_pending_timers(connection, workflow_execution_id=workflow_execution_id)
        if pending is not None and pending.has_signals:
            queries.expire_pending_signals(connection, workflow_execution_id=workflow_execution_id)
        if pending is not None and pending.is_paused:
            queries.end_pauses(connection, workflow_execution_id=workflow_execution_id)

    # Workflows

    async def save_workflow(self, workflow: Workflow) -> None:
        """As `save`, of one workflow."""
        await self.save(workflow)

    async def load_workflow(self, workflow_id: str) -> Workflow | None:
        check_identifier("workflow_id", workflow_id)
        row = await self._transactions.read(
            lambda: self._queries.load_workflow(self._database, workflow_id=workflow_id)
        )
        return None if row is None else rows.workflow_from(row)

    async def load_workflows(self) -> list[Workflow]:
        found = await self._transactions.read(lambda: self._queries.load_workflows(self._database))
        return readable(found, rows.workflow_from)

    def _upsert_workflow(self, workflow: Workflow, claim: WorkflowClaim | None) -> int:
        if claim is not None and not self._claims.holds(claim):
            return 0
        return self._queries.upsert_workflow(
            self._database,
            workflow_id=workflow.workflow_id,
            workflow_type=workflow.workflow_type,
            version=workflow.version,
            created_at=time_to_text(workflow.created_at),
        )

    # Executions

    async def save_execution(self, execution: WorkflowExecution) -> None:
        """As `save`, of one execution."""
        await self.save(execution)

    async def load_execution(self, workflow_execution_id: str) -> WorkflowExecution | None:
        check_identifier("workflow_execution_id", workflow_execution_id)
        return await self._transactions.read(lambda: self._load_execution(workflow_execution_id))

    def _load_execution(self, workflow_execution_id: str) -> WorkflowExecution | None:
        return load_execution(self._database, self._queries, workflow_execution_id)

    async def take_execution(self, workflow_execution_id: str) -> TakenExecution | None:
        check_identifier("workflow_execution_id", workflow_execution_id)
        return await self._transactions.read(lambda: self._take_execution(workflow_execution_id))

    def _take_execution(self, execution_id: str) -> TakenExecution | None:
        queries, connection = self._queries, self._database
        row = queries.take_execution(
            connection, workflow_execution_id=execution_id, cancel_signal=CANCEL_SIGNAL
        )
        if row is None:
            return None
        execution = rows.execution_from(row)
        timers: list[WorkflowTimer] = []
        if row.has_timers:
            found = queries.load_timers(connection, workflow_execution_id=execution_id)
            timers = [rows.timer_from(one) for one in found]
        return TakenExecution(
            execution=execution,
            checkpoints=self._load_checkpoints(execution_id),
            pending_timers=_by_deadline(
                [timer for timer in timers if timer.status is TimerStatus.PENDING]
            ),
            is_to_cancel=bool(row.is_to_cancel),
            patches=self._load_patches(execution_id) if row.has_patches else [],
        )

    def _load_checkpoints(self, execution_id: str) -> list[StepCheckpoint]:
        """Not all rows at once: of 100,000 steps, they would take more memory than the records."""
        loaded: list[StepCheckpoint] = []
        place: tuple[str, int, int] = ("", -1, 0)
        while True:
            found = self._queries.load_checkpoints_after(
                self._database,
                workflow_execution_id=execution_id,
                branch=place[0],
                step_index=place[1],
                attempt=place[2],
                row_limit=CHECKPOINTS_AT_ONCE,
            )
            loaded += map(rows.checkpoint_from, found)
            if len(found) < CHECKPOINTS_AT_ONCE:
                return loaded
            last = loaded[-1]
            place = (last.branch, last.step_index, last.attempt)

    async def load_executions_by_status(
        self, statuses: Iterable[ExecutionStatus]
    ) -> list[WorkflowExecution]:
        """In creation order. A row that cannot be read is logged by its id and left out."""
        wanted = json_array({ExecutionStatus(status).value for status in statuses})
        found = await self._transactions.read(
            lambda: self._queries.load_executions_by_status(self._database, statuses=wanted)
        )
        executions = readable(found, rows.execution_from)
        # Text sorts as time does only where all of it has one format.
        executions.sort(key=lambda execution: execution.created_at)
        return executions

    def _save_execution(self, execution: WorkflowExecution, claim: WorkflowClaim | None) -> int:
        before = self._transactions.total_changes()
        if claim is None:
            changed = self._upsert_execution(execution)
        else:
            changed = self._update_execution(execution, claim)
        if self._transactions.total_changes() - before > changed:
            self._transactions.count_change()  # triggers sent signals to parent or children
        return changed

    def _update_execution(self, execution: WorkflowExecution, claim: WorkflowClaim) -> int:
        if execution.queue is not None and execution.status is _SUSPENDED:
            self._queues.give_up(claim)
        if self._is_progress(execution) and self._queries.note_progress(
            self._database,
            workflow_execution_id=execution.workflow_execution_id,
            current_step=execution.current_step,
            recovery_count=execution.recovery_count,
            updated_at=time_to_text(execution.updated_at),
            fencing_token=claim.fencing_token,
        ):
            return 1
        return self._queries.update_execution(
            self._database,
            workflow_execution_id=execution.workflow_execution_id,
            status=execution.status._value_,
            current_step=execution.current_step,
            output_data=execution.output_data,
            error_type=execution.error_type,
            error_message=execution.error_message,
            recovery_count=execution.recovery_count,
            blocked_reason=execution.blocked_reason,
            last_event=execution.last_event,
            updated_at=time_to_text(execution.updated_at),
            fencing_token=claim.fencing_token,
        )

    def _is_progress(self, execution: WorkflowExecution) -> bool:
        """Whether only progress seems to be saved; the statement itself checks that it is."""
        return (
            execution.status is _RUNNING
            and execution.output_data is None
            and execution.error_type is None
            and execution.error_message is None
            and execution.blocked_reason is None
            and execution.last_event is None
            and self._claims.has_saved_steps(execution.workflow_execution_id)
        )

    def _upsert_execution(self, execution: WorkflowExecution) -> int:
        changed = self._queries.upsert_execution(
            self._database,
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
            queue=execution.queue,
            queue_key=execution.queue_key,
            dedup_id=execution.dedup_id,
            debounced=execution.debounced,
            recovery_count=execution.recovery_count,
            blocked_reason=execution.blocked_reason,
            trouble=execution.trouble,
            available_at=optional_time_to_text(execution.available_at),
            last_event=execution.last_event,
            started_at=optional_time_to_text(execution.started_at),
            parent_execution_id=execution.parent_execution_id,
            root_execution_id=execution.root_execution_id,
            on_parent_end=execution.on_parent_end,
            run_number=execution.run_number,
            forked_from=execution.forked_from,
            forked_before=execution.forked_before,
            replay_origin=execution.replay_origin,
            created_at=time_to_text(execution.created_at),
            updated_at=time_to_text(execution.updated_at),
            paused_at=optional_time_to_text(execution.paused_at),
            paused_by=execution.paused_by,
            paused_reason=execution.paused_reason,
            paused_with=execution.paused_with,
            fencing_token=None,
        )
        if not changed:
            found = self._load_execution(execution.workflow_execution_id)
            if found is not None and found != execution:
                raise finished(found, "it was not changed")
        return changed

    # Starting an execution

    async def create_execution(
        self,
        workflow: Workflow,
        execution: WorkflowExecution,
        tags: Mapping[str, str] | None = None,
        *records: Record,
    ) -> WorkflowClaim | None:
        new = NewExecution(workflow=workflow, execution=execution, tags=tags)
        if execution.queue is not None:
            raise ValueError(
                f"execution {execution.workflow_execution_id!r} is in queue {execution.queue!r}:"
                " it can be enqueued, and not begin at once"
            )
        serves = [(workflow.workflow_type, workflow.version)]
        self._claims.be_alive()

        def create() -> WorkflowClaim | None:
            if not self._insert(new):
                return None
            claim = self._claims.insert(
                execution.workflow_execution_id, execution.status, execution.created_at, serves
            )
            self._save_all(records, None, [])
            if claim is None:
                self._hold(execution)
            return claim

        def noted(claim: WorkflowClaim | None) -> None:
            if claim is not None:
                self._known_workflows.add(workflow.workflow_id)
                self._claims.took([claim], serves)

        return await self._transactions.write(create, noted=noted)

    def _hold(self, execution: WorkflowExecution) -> None:
        """It is new, so nothing but a pause keeps it from being claimed: it waits in the queue."""
        execution_id = execution.workflow_execution_id
        self._queries.hold_new_execution(self._database, workflow_execution_id=execution_id)
        self._queue.put_now([execution_id], execution.created_at)
        self._transactions.count_change()

    async def enqueue_execution(
        self,
        workflow: Workflow,
        execution: WorkflowExecution,
        tags: Mapping[str, str] | None = None,
        *records: Record,
    ) -> bool:
        new = NewExecution(workflow=workflow, execution=execution, tags=tags)

        def enqueue() -> bool:
            self._transactions.count_change()
            if not self._insert(new):
                return False
            self._save_all(records, None, [])
            return True

        return await self._transactions.write(enqueue)

    def _insert(self, new: NewExecution) -> bool:
        if new.execution.queue is not None or new.execution.dedup_id is not None:
            self._queues.check_new(new.execution)
        if not self._insert_with_workflow(new.workflow, new.execution):
            return False
        if new.tags:
            self._queries.insert_tags(
                self._database,
                workflow_execution_id=new.execution.workflow_execution_id,
                tags=msgspec.json.encode(new.tags).decode(),
            )
        return True

    def _insert_with_workflow(self, workflow: Workflow, execution: WorkflowExecution) -> bool:
        if workflow.workflow_id in self._known_workflows:
            try:
                return self._insert_execution(execution)
            except sqlite3.IntegrityError:
                self._known_workflows.discard(workflow.workflow_id)  # somebody deleted it
        taken = load_statuses(self._database, self._queries, [execution.workflow_execution_id])
        if taken:
            return False
        self._queries.insert_workflow_if_absent(
            self._database,
            workflow_id=workflow.workflow_id,
            workflow_type=workflow.workflow_type,
            version=workflow.version,
            created_at=time_to_text(workflow.created_at),
        )
        return self._insert_execution(execution)

    def _insert_execution(self, execution: WorkflowExecution) -> bool:
        return bool(
            self._queries.insert_execution_if_absent(
                self._database,
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
                queue=execution.queue,
                queue_key=execution.queue_key,
                dedup_id=execution.dedup_id,
                debounced=execution.debounced,
                recovery_count=execution.recovery_count,
                blocked_reason=execution.blocked_reason,
                available_at=optional_time_to_text(execution.available_at),
                last_event=execution.last_event,
                started_at=optional_time_to_text(execution.started_at),
                parent_execution_id=execution.parent_execution_id,
                root_execution_id=execution.root_execution_id,
                on_parent_end=execution.on_parent_end,
                run_number=execution.run_number,
                forked_from=execution.forked_from,
                forked_before=execution.forked_before,
                replay_origin=execution.replay_origin,
                created_at=time_to_text(execution.created_at),
                updated_at=time_to_text(execution.updated_at),
            )
        )

    # Checkpoints

    async def save_checkpoint(self, checkpoint: StepCheckpoint) -> None:
        """As `save`, of one checkpoint."""
        await self.save(checkpoint)

    async def save_checkpoints(self, checkpoints: Iterable[StepCheckpoint]) -> None:
        """As `save`, of any number of checkpoints."""
        await self.save(*checkpoints)

    async def load_checkpoints(self, workflow_execution_id: str) -> list[StepCheckpoint]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        return await self._transactions.read(lambda: self._load_checkpoints(workflow_execution_id))

    def _upsert_checkpoint(self, checkpoint: StepCheckpoint, claim: WorkflowClaim | None) -> int:
        token = None if claim is None else claim.fencing_token
        return self._queries.upsert_checkpoint(
            self._database,
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
            event=checkpoint.event,
            worker_number=None if token is None else self._membership.number,
            fencing_token=token,
        )

    # Timers

    async def save_timer(self, timer: WorkflowTimer) -> None:
        """As `save`, of one timer."""
        await self.save(timer)

    async def load_pending_timers(self) -> list[WorkflowTimer]:
        """By `fire_at`. A row that cannot be read is logged by its id and left out."""
        found = await self._transactions.read(
            lambda: self._queries.load_pending_timers(self._database)
        )
        return _by_deadline(readable(found, rows.timer_from))

    async def load_timers(self, workflow_execution_id: str) -> list[WorkflowTimer]:
        """All timers of one execution, by `fire_at`."""
        check_identifier("workflow_execution_id", workflow_execution_id)
        found = await self._transactions.read(
            lambda: self._queries.load_timers(
                self._database, workflow_execution_id=workflow_execution_id
            )
        )
        return _by_deadline([rows.timer_from(row) for row in found])

    def _upsert_timer(self, timer: WorkflowTimer, claim: WorkflowClaim | None) -> int:
        return self._queries.upsert_timer(
            self._database,
            workflow_timer_id=timer.workflow_timer_id,
            workflow_execution_id=timer.workflow_execution_id,
            step_name=timer.step_name,
            fire_at=time_to_text(timer.fire_at),
            status=timer.status.value,
            created_at=time_to_text(timer.created_at),
            fencing_token=None if claim is None else claim.fencing_token,
        )

    # Patches

    def _load_patches(self, execution_id: str) -> list[WorkflowPatch]:
        found = self._queries.load_patches(self._database, workflow_execution_id=execution_id)
        return [rows.patch_from(row) for row in found]

    def _insert_patch(self, patch: WorkflowPatch, claim: WorkflowClaim | None) -> int:
        return self._queries.insert_patch(
            self._database,
            workflow_execution_id=patch.workflow_execution_id,
            branch=patch.branch,
            patch_name=patch.patch_name,
            event=patch.event,
            passed_at=time_to_text(patch.passed_at),
            fencing_token=None if claim is None else claim.fencing_token,
        )

    # Streams

    def _insert_stream_items(self, of: StreamItems, claim: WorkflowClaim | None) -> int:
        return self._queries.insert_stream_items(
            self._database,
            workflow_execution_id=of.workflow_execution_id,
            branch=of.branch,
            step_index=of.step_index,
            step_name=of.step_name,
            attempt=of.attempt,
            run_number=of.run_number,
            written_under=of.written_under,
            items=json_array(of.items),
            created_at=time_to_text(of.created_at),
            fencing_token=None if claim is None else claim.fencing_token,
        )

    async def load_stream_items(
        self, workflow_execution_id: str, after: int = 0, limit: int = 500
    ) -> list[StreamItem]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        check_integer("after", after)
        check_integer("limit", limit, minimum=1)
        found = await self._transactions.read(
            lambda: self._queries.load_stream_items(
                self._database,
                workflow_execution_id=workflow_execution_id,
                workflow_stream_item_id=after,
                row_limit=limit,
            )
        )
        return [rows.stream_item_from(row) for row in found]

    async def load_stream_heads(self, workflow_execution_id: str, up_to: int) -> list[StreamItem]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        check_integer("up_to", up_to)
        found = await self._transactions.read(
            lambda: self._queries.load_stream_heads(
                self._database,
                workflow_execution_id=workflow_execution_id,
                workflow_stream_item_id=up_to,
            )
        )
        return [rows.stream_item_from(row) for row in found]

    async def load_stream_ends(self, workflow_execution_id: str, step_name: str) -> list[StreamEnd]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        check_identifier("step_name", step_name)
        found = await self._transactions.read(
            lambda: self._queries.load_stream_ends(
                self._database, workflow_execution_id=workflow_execution_id, step_name=step_name
            )
        )
        return [rows.stream_end_from(row) for row in found]

    # Progress

    def _upsert_progress(self, report: Progress, claim: WorkflowClaim | None) -> int:
        return self._queries.upsert_progress(
            self._database,
            workflow_execution_id=report.workflow_execution_id,
            branch=report.branch,
            step_index=report.step_index,
            step_name=report.step_name,
            attempt=report.attempt,
            done=float(report.done),
            total=None if report.total is None else float(report.total),
            note=report.note,
            reported_at=time_to_text(report.reported_at),
            fencing_token=None if claim is None else claim.fencing_token,
        )

    async def load_progress(self, workflow_execution_id: str) -> list[Progress]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        found = await self._transactions.read(
            lambda: self._queries.load_progress(
                self._database, workflow_execution_id=workflow_execution_id
            )
        )
        return [rows.progress_from(row) for row in found]

    # Signals

    async def save_signal(self, signal: WorkflowSignal) -> WorkflowSignal:
        """Save a signal and return it with its id."""
        if signal.workflow_signal_id is None:
            return await self._signals.save_new(signal)
        await self.save(signal)
        return signal

    async def send_signal(self, signal: WorkflowSignal, *records: Record) -> WorkflowSignal | None:
        return await self._signals.send(signal, lambda: self._save_all(records, None, []))

    async def answer_question(
        self, signal: WorkflowSignal, *records: Record
    ) -> WorkflowSignal | None:
        return await self._signals.answer(signal, lambda: self._save_all(records, None, []))

    async def load_questions(
        self, to: str | None = None, workflow_execution_id: str | None = None, *, limit: int = 100
    ) -> list[Question]:
        return await self._signals.load_questions(to, workflow_execution_id, limit)

    async def request_cancel(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> WorkflowSignal | None:
        return await self._signals.request_cancel(
            workflow_execution_id, lambda: self._save_all(records, None, []), now
        )

    async def load_keyed_signal(
        self, workflow_execution_id: str, signal_key: str
    ) -> WorkflowSignal | None:
        return await self._signals.load_keyed(workflow_execution_id, signal_key)

    async def load_pending_signals(
        self, workflow_execution_id: str, signal_name: str | None = None
    ) -> list[WorkflowSignal]:
        return await self._signals.load_pending(workflow_execution_id, signal_name)

    async def load_signals(self, workflow_execution_id: str) -> list[WorkflowSignal]:
        return await self._signals.load_all(workflow_execution_id)

    async def load_next_signals(
        self, workflow_execution_id: str, signal_names: Collection[str]
    ) -> list[WorkflowSignal]:
        return await self._signals.load_next(workflow_execution_id, signal_names)

    async def load_open_waits(
        self, workflow_execution_id: str, signal_name: str
    ) -> list[StepCheckpoint]:
        return await self._signals.load_open_waits(workflow_execution_id, signal_name)

    # News

    def change_counter(self) -> int:
        return self._transactions.change_counter()

    async def load_last_signal_id(self) -> int:
        return await self._signals.load_last_id()

    async def load_signals_after(self, signal_id: int) -> list[ArrivedSignal]:
        return await self._signals.load_after(signal_id)

    async def load_statuses(
        self, workflow_execution_ids: Iterable[str]
    ) -> dict[str, ExecutionStatus]:
        ids = list(workflow_execution_ids)

        def load() -> dict[str, ExecutionStatus]:
            check_not_moved(self._database, self._queries, "the database")  # they would wait
            return load_statuses(self._database, self._queries, ids)

        return await self._transactions.read(load)

    async def load_stopped(self, workflow_execution_ids: Iterable[str]) -> set[str]:
        ids = list(workflow_execution_ids)
        return await self._transactions.read(
            lambda: load_stopped(self._database, self._queries, ids)
        )

    # What people did

    def _insert_audit_entry(self, entry: AuditEntry, _: WorkflowClaim | None) -> int:
        return self._queries.insert_audit_entry(
            self._database,
            workflow_execution_id=entry.workflow_execution_id,
            act=entry.act,
            actor=entry.actor,
            details=entry.details,
            created_at=time_to_text(entry.created_at),
        )

    def _insert_change_entry(self, entry: ChangeEntry, _: WorkflowClaim | None) -> int:
        return self._queries.insert_change_entry(
            self._database,
            scope=entry.scope.value,
            name=entry.name,
            act=entry.act,
            actor=entry.actor,
            details=entry.details,
            created_at=time_to_text(entry.created_at),
        )

    async def load_changes(self, scope: ChangeScope, name: str = "") -> list[ChangeEntry]:
        check_named_scope(scope, name)
        found = await self._transactions.read(
            lambda: self._queries.load_changes(self._database, scope=scope.value, name=name)
        )
        return readable(found, lambda row: rows.change_entry_from(row, scope, name))

    async def load_audit_log(self, workflow_execution_id: str) -> list[AuditEntry]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        found = await self._transactions.read(
            lambda: self._queries.load_audit_log(
                self._database, workflow_execution_id=workflow_execution_id
            )
        )
        return readable(found, lambda row: rows.audit_entry_from(row, workflow_execution_id))

    async def load_tags(self, workflow_execution_id: str) -> dict[str, str]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        ids = json_array([workflow_execution_id])
        found = await self._transactions.read(
            lambda: self._queries.load_tags(self._database, workflow_execution_ids=ids)
        )
        return {row.name: row.value for row in found}

    async def acknowledge(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> int:
        check_identifier("workflow_execution_id", workflow_execution_id)
        at = time_to_text(now or utc_now())

        def acknowledge() -> int:
            changed = self._queries.acknowledge_not_undone(
                self._database, workflow_execution_id=workflow_execution_id
            ) + self._queries.acknowledge_cut_off(
                self._database,
                workflow_execution_id=workflow_execution_id,
                acknowledged_at=at,
            )
            if changed:
                self._save_all(records, None, [])
            return changed

        return await self._transactions.write(acknowledge)

    # The queue, and claims

    async def join(
        self,
        workflows: Collection[tuple[str, int]],
        max_concurrent: int,
        now: datetime | None = None,
        *,
        queues: Collection[str] | None = None,
    ) -> None:
        check_integer("max_concurrent", max_concurrent, minimum=1)
        self._transactions.check_usable()
        if self._membership.knows(workflows, max_concurrent, queues):
            return
        served = list(workflows)
        for workflow_type, version in served:
            check_identifier("a workflow's type", workflow_type)
            check_integer("a workflow's version", version, minimum=1)
        named = None if queues is None else list(queues)
        for queue in named or ():
            check_identifier("the name of a queue", queue)
        at = now or utc_now()
        self._claims.be_alive()
        tell = self._membership.tell
        await self._transactions.write(lambda: tell(served, max_concurrent, named, now=at))
        self._membership.told(served, max_concurrent, named)

    async def load_served(self) -> set[tuple[str, int]]:
        return await self._membership.load_served()

    async def claim_execution(
        self, workflow_execution_id: str, now: datetime | None = None
    ) -> WorkflowClaim | None:
        return await self._queue.claim_execution(workflow_execution_id, now)

    async def claim_available(
        self,
        workflows: Collection[tuple[str, int]],
        limit: int,
        *,
        queues: Collection[str] | None = None,
        passed_over: Collection[str] = (),
        suspect_at: int | None = None,
        takes_suspect: bool = True,
        now: datetime | None = None,
    ) -> list[WorkflowClaim]:
        return await self._queue.claim_available(
            workflows,
            limit,
            queues=queues,
            passed_over=passed_over,
            suspect_at=suspect_at,
            takes_suspect=takes_suspect,
            now=now,
        )

    async def load_next_available_at(
        self,
        workflows: Collection[tuple[str, int]],
        queues: Collection[str] | None = None,
        now: datetime | None = None,
    ) -> datetime | None:
        return await self._queue.load_next_available_at(workflows, queues, now)

    async def leave_slot(self, claim: WorkflowClaim) -> None:
        await self._queues.leave_slot(claim)

    async def take_slot(self, claim: WorkflowClaim, queue: str, key: str | None) -> bool:
        return await self._queues.take_slot(claim, queue, key)

    async def declare_limits(
        self, definitions: Iterable[limits.Definition], now: datetime | None = None
    ) -> None:
        await self._queues.declare(definitions, now)

    async def save_limit(
        self, definition: limits.Definition, *records: Record, now: datetime | None = None
    ) -> None:
        await self._queues.save(definition, lambda: self._save_all(records, None, []), now)

    async def load_limits(self) -> list[limits.Definition]:
        return await self._queues.load()

    async def load_limit_room(
        self, limit: str, key: str | None, now: datetime | None = None
    ) -> LimitRoom:
        return await self._queues.load_limit_room(limit, key, now or utc_now())

    async def debounce_execution(
        self,
        workflow: Workflow,
        execution: WorkflowExecution,
        tags: Mapping[str, str] | None = None,
        *records: Record,
    ) -> str:
        new = NewExecution(workflow=workflow, execution=execution, tags=tags)
        if execution.dedup_id is None or not execution.debounced:
            raise ValueError(f"execution {execution.workflow_execution_id!r} is not debounced")

        def debounce() -> str:
            self._transactions.count_change()
            postponed = self._queues.postpone(execution)
            if postponed is not None:
                return postponed
            if not self._insert(new):
                one = execution.workflow_execution_id
                raise ExecutionConflictError(
                    f"the execution id {one!r} is taken; nothing was written",
                    workflow_execution_id=one,
                )
            self._save_all(records, None, [])
            return execution.workflow_execution_id

        return await self._transactions.write(debounce)

    async def release_claims(
        self,
        claims: Iterable[WorkflowClaim],
        now: datetime | None = None,
        *,
        trouble: str | None = None,
    ) -> None:
        await self._queue.release_claims(claims, now, trouble)

    async def release_created(
        self, execution: WorkflowExecution, now: datetime | None = None
    ) -> None:
        await self._queue.release_created(execution, now)

    async def mark_as_stopping(self, claims: Iterable[WorkflowClaim]) -> None:
        await self._queue.mark_as_stopping(claims)

    async def release_claims_of_the_dead(
        self,
        max_recoveries: int,
        now: datetime | None = None,
        *,
        suspect_at: int | None = None,
    ) -> list[AbandonedExecution]:
        return await self._queue.release_claims_of_the_dead(max_recoveries, now, suspect_at)

    async def put_into_queue(
        self, workflow_execution_ids: Iterable[str], now: datetime | None = None
    ) -> None:
        await self._queue.put_into_queue(workflow_execution_ids, now)

    async def load_unqueued_executions(self) -> list[UnqueuedExecution]:
        return await self._queue.load_unqueued_executions()

    async def load_unregistered(
        self, workflows: Collection[tuple[str, int]], limit: int
    ) -> list[str]:
        return await self._queue.load_unregistered(workflows, limit)

    async def load_blocked(self) -> list[str]:
        return await self._queue.load_blocked()

    async def unblock_execution(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> bool:
        return await self._queue.unblock_execution(
            workflow_execution_id, lambda: self._save_all(records, None, []), now
        )

    async def hasten_attempts(
        self,
        workflow_execution_id: str,
        *records: Record,
        only: StepCheckpoint | None = None,
        now: datetime | None = None,
    ) -> int:
        return await self._queue.hasten_attempts(
            workflow_execution_id, lambda: self._save_all(records, None, []), only, now
        )

    async def pause_execution(
        self,
        workflow_execution_id: str,
        *records: Record,
        by: str,
        reason: str | None = None,
        now: datetime | None = None,
    ) -> bool:
        return await self._pauses.pause_execution(
            workflow_execution_id, lambda: self._save_all(records, None, []), by, reason, now
        )

    async def resume_execution(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> bool:
        return await self._pauses.resume_execution(
            workflow_execution_id, lambda: self._save_all(records, None, []), now
        )

    async def spread_pauses(self, now: datetime | None = None) -> bool:
        return await self._pauses.spread_pauses(now)

    async def begin_pause(self, pause: Pause, *records: Record) -> bool:
        return await self._pauses.begin_pause(pause, lambda: self._save_all(records, None, []))

    async def end_pause(self, scope: PauseScope, name: str = "", *records: Record) -> bool:
        return await self._pauses.end_pause(scope, name, lambda: self._save_all(records, None, []))

    async def load_pauses(self) -> list[Pause]:
        return await self._pauses.load_pauses()

    async def mend_execution(
        self,
        seen: TakenExecution,
        becomes: WorkflowExecution,
        *records: Record,
        forget: Collection[StepCheckpoint] = (),
        now: datetime | None = None,
    ) -> bool:
        return await self._mending.mend_execution(
            seen, becomes, lambda: self._save_all(records, None, []), forget, now
        )

    # Schedules

    async def save_schedule(
        self,
        schedule: Schedule,
        *records: Record,
        seen: Schedule | None,
        start: Collection[NewExecution] = (),
    ) -> bool:
        return await self._schedules.save_schedule(
            schedule, lambda: self._save_all(records, None, []), seen, start
        )

    async def delete_schedule(self, schedule_name: str, *records: Record) -> bool:
        return await self._schedules.delete_schedule(
            schedule_name, lambda: self._save_all(records, None, [])
        )

    async def load_schedule(self, schedule_name: str) -> Schedule | None:
        return await self._schedules.load_schedule(schedule_name)

    async def load_schedules(self) -> list[Schedule]:
        return await self._schedules.load_schedules()

    async def load_due_schedules(self, now: datetime) -> DueSchedules:
        return await self._schedules.load_due_schedules(now)

    async def load_unfinished_of_schedule(self, schedule_name: str) -> list[str]:
        return await self._schedules.load_unfinished_of_schedule(schedule_name)

    # Retention

    async def delete_execution(self, workflow_execution_id: str) -> bool:
        return await self._retention.delete_execution(workflow_execution_id)

    async def delete_completed_before(
        self,
        before: datetime,
        statuses: Collection[ExecutionStatus] = (ExecutionStatus.COMPLETED,),
        *,
        batch_size: int = 500,
        on_deleted: Callable[[int], object] | None = None,
    ) -> int:
        deleted = await self._retention.delete_completed_before(
            before, statuses, batch_size=batch_size, on_deleted=on_deleted
        )
        await self._membership.forget_the_dead(before, batch_size)
        await self._retention.delete_old_changes(before, batch_size)
        return deleted

    async def delete_finished(
        self, workflow_execution_ids: Collection[str], before: datetime
    ) -> list[str]:
        """Delete those of some executions that are finished, and last changed before a time.

        One transaction. Returns the ids of what was deleted.
        """
        return await self._retention.delete_finished(workflow_execution_ids, before)

    async def recode(
        self, *, to_plain: bool = False, on_progress: Callable[[int], object] | None = None
    ) -> Recoded:
        """Encode all that is not encoded with the newest key of the codec, also what is plain.

        In small transactions, while workers run: a row that a worker changes meanwhile stays as the
        worker writes it. It goes on where it was interrupted if it is called again.

        to_plain: decode all instead.
        on_progress: called with how many rows were looked at.

        Without a codec, nothing changes, and what is encoded is counted as left.
        """
        encoding = self._encoding or Encoding(None)
        recoding = Recoding(self._database, self._queries, self._transactions, encoding)
        return await recoding.run(to_plain=to_plain, on_progress=on_progress)

    async def delete_old_timers(self, before: datetime, *, batch_size: int = 500) -> int:
        return await self._retention.delete_old_timers(before, batch_size)

    async def delete_old_signals(self, before: datetime, *, batch_size: int = 500) -> int:
        return await self._retention.delete_old_signals(before, batch_size)


def _always() -> bool:
    return True


def _is_a_slot(records: tuple[Record, ...]) -> bool:
    return len(records) == 1 and type(records[0]) is StepSlot


def _by_deadline(timers: list[WorkflowTimer]) -> list[WorkflowTimer]:
    timers.sort(key=lambda timer: timer.fire_at)
    return timers


def _claim_lost(claim: WorkflowClaim) -> ClaimLostError:
    return ClaimLostError(
        f"the claim on execution {claim.workflow_execution_id!r} is lost: another worker took it"
        " over, or it is finished; nothing was written",
        workflow_execution_id=claim.workflow_execution_id,
    )


def _is_plain(step: StepCheckpoint) -> bool:
    """Whether the shortest statements can save all of a step."""
    return step.input_data is None and step.idempotency_key is None and step.compensate_ref is None
