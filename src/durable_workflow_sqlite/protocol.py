"""What is asked of a store, by roles. `durable_workflow_sqlite.testing` holds the suite that every
store must pass; it says more exactly than types can what each method means."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from durable_workflow_sqlite.records import (
    AbandonedExecution,
    ArrivedSignal,
    AuditEntry,
    ExecutionStatus,
    NewExecution,
    Record,
    StepCheckpoint,
    TakenExecution,
    UnqueuedExecution,
    Workflow,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowSignal,
)


class Records(Protocol):
    """What executions are made of, kept atomically and durably.

    Every write has been committed when its `await` returns, and has changed nothing when it
    raises. A write under a claim raises `ClaimLostError` when the claim is no longer held.
    """

    async def create_execution(
        self,
        workflow: Workflow,
        execution: WorkflowExecution,
        tags: Mapping[str, str] | None = None,
    ) -> WorkflowClaim | None:
        """Start an execution and claim it, in one transaction; make sure its workflow is there.

        tags: names and values to find it by; they do not change any more.
        None, and nothing written, if the id is taken. Raises ValueError for one that is final,
        blocked or in trouble.
        """
        ...

    async def enqueue_execution(
        self,
        workflow: Workflow,
        execution: WorkflowExecution,
        tags: Mapping[str, str] | None = None,
        *records: Record,
    ) -> bool:
        """As `create_execution`, for any worker to claim from `execution.available_at` on.

        It saves records beside, in one transaction. False, and nothing written, if the id is
        taken.
        """
        ...

    async def take_execution(self, workflow_execution_id: str) -> TakenExecution | None:
        """All that an execution is resumed from, for the worker that has claimed it.

        None if there is none of that id. Raises StoreCorruptError if some of it cannot be read.
        """
        ...

    async def save(
        self,
        *records: Record,
        claim: WorkflowClaim | None = None,
        start: Collection[NewExecution] = (),
        send: Collection[WorkflowSignal] = (),
    ) -> None:
        """Save any mix of records in one transaction, all or nothing, updating those known.

        start, send: other executions to start, as `enqueue_execution` does, and signals for others,
        in the same transaction, after the records. A claim does not cover these, but nothing is
        written if it is lost. Raises ExecutionConflictError for an id that is taken, and ValueError
        for the name of a signal as `send_signal` does. A signal for an execution that is unknown or
        final is left out.

        An execution whose stored status is final is not changed: `ExecutionConflictError`,
        unless what is saved equals what is stored. One that becomes final loses its claim; its
        pending timers are CANCELLED then, and its pending signals EXPIRED. Under a claim, what an
        execution was started with (workflow, input, time to live, guarantee, priority, creation)
        stays as it is, and so do `started_at` and `available_at`.
        """
        ...

    async def begin_step(
        self, intent: StepCheckpoint, *beside: Record, claim: WorkflowClaim
    ) -> None:
        """Save that an attempt of a step, or of its compensation, is about to begin.

        As `save(intent, *beside, claim=claim)`, which it is unless a store has a faster way. It is
        asked for before every attempt.
        """
        await self.save(intent, *beside, claim=claim)

    async def finish_step(
        self, outcome: StepCheckpoint, *beside: Record, claim: WorkflowClaim
    ) -> None:
        """Save the outcome of a step, or of its compensation, that `begin_step` has saved.

        As `begin_step`. What the attempt began with has not changed: its name, kind, input, start,
        idempotency key and compensation.
        """
        await self.save(outcome, *beside, claim=claim)

    async def send_signal(self, signal: WorkflowSignal, *records: Record) -> WorkflowSignal:
        """Keep a signal for an execution that can still receive it; return it with its id.

        It saves records beside, in one transaction. Raises ValueError for a name that begins
        with $, unless it is $cancel; to cancel, there is `request_cancel`.

        One that nobody has may be claimed then, if the signal may be for it: see `release_claims`.
        Raises ExecutionNotFoundError or, for a finished execution, ExecutionConflictError.
        """
        ...

    async def request_cancel(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> WorkflowSignal | None:
        """Ask an execution to cancel, by a signal that is returned.

        It saves records beside, in one transaction. None, and nothing written, if it is final or
        COMPENSATING, or if somebody has asked already. Raises ExecutionNotFoundError.
        """
        ...

    async def load_execution(self, workflow_execution_id: str) -> WorkflowExecution | None:
        """The execution of that id; None if there is none.

        Raises StoreCorruptError if it cannot be read.
        """
        ...

    async def load_workflow(self, workflow_id: str) -> Workflow | None:
        """The definition of that id; None if there is none."""
        ...

    async def load_checkpoints(self, workflow_execution_id: str) -> list[StepCheckpoint]:
        """In step order: by branch, index and attempt.

        Raises StoreCorruptError if one of them cannot be read: a history with a hole would
        make steps run twice.
        """
        ...

    async def load_pending_signals(
        self, workflow_execution_id: str, signal_name: str | None = None
    ) -> list[WorkflowSignal]:
        """In order of arrival; of one name, or of all."""
        ...

    async def load_next_signals(
        self, workflow_execution_id: str, signal_names: Collection[str]
    ) -> list[WorkflowSignal]:
        """The first pending signal of each of these names that has one, in order of arrival.

        Cheap, however many are pending.
        """
        ...

    async def load_open_waits(
        self, workflow_execution_id: str, signal_name: str
    ) -> list[StepCheckpoint]:
        """The SIGNAL checkpoints of a name at INTENT, in step order. Cheap, as `send_signal`."""
        ...


class Queue(Protocol):
    """Which worker has which execution, and what waits for one.

    An execution is claimed by one worker, or in the queue from its `available_at` on, or neither:
    blocked, waiting for a signal alone, FOREGROUND_ONLY, or final.
    """

    async def claim_execution(
        self, workflow_execution_id: str, now: datetime | None = None
    ) -> WorkflowClaim | None:
        """Claim an unfinished execution that no worker has; its status becomes RUNNING.

        None if a worker has it (this one included), or if it is blocked, unknown or final. The
        status COMPENSATING does not change. The claim clears its `trouble`. The first claim sets
        its `started_at`.
        """
        ...

    async def claim_available(
        self,
        workflows: Collection[tuple[str, int]],
        limit: int,
        *,
        passed_over: Collection[str] = (),
        suspect_at: int | None = None,
        takes_suspect: bool = True,
        now: datetime | None = None,
    ) -> list[WorkflowClaim]:
        """Claim what may be claimed of some workflows: the highest priority first, then the oldest.

        workflows: their types and versions.
        At most `limit`, and fewer where other live workers could claim their share. Executions
        whose ids are in `passed_over` are left where they are. Of those whose `recovery_count` is
        `suspect_at` or more, at most one is claimed, and none unless `takes_suspect`. Each is
        changed as `claim_execution` does.
        """
        ...

    async def load_next_available_at(
        self, workflows: Collection[tuple[str, int]]
    ) -> datetime | None:
        """When the next execution of some workflows may be claimed, past or future; None if none.

        Cheap, however many there are.
        """
        ...

    async def release_claims(
        self,
        claims: Iterable[WorkflowClaim],
        now: datetime | None = None,
        *,
        trouble: str | None = None,
    ) -> None:
        """Release claims; claims that are lost already are ignored.

        Each execution may be claimed again from `now` on. A SUSPENDED one for which no signal may
        be pending is different: it may be claimed from the earliest of three times on: its pending
        timers, the `due_at` of its sleeps and waits at INTENT, and the end of its time to live. If
        it has neither a pending timer nor such a sleep or wait, it may be claimed from `now` on. A
        signal may be for it if it waits for that name (there is a SIGNAL checkpoint at INTENT), or
        if the name begins with $. `trouble` is stored in its record: why this worker leaves it as
        it is.

        If this raises StoreError, the claims are still held; the next
        `release_claims_of_the_dead` of this store releases them, and stores their trouble.
        """
        ...

    async def release_created(
        self, execution: WorkflowExecution, now: datetime | None = None
    ) -> None:
        """Release what a `create_execution` of this record claimed, if it did.

        For a caller that was cancelled meanwhile and did not hear of the claim.
        """
        ...

    async def put_into_queue(
        self, workflow_execution_ids: Iterable[str], now: datetime | None = None
    ) -> None:
        """Make executions available, as if they were released now, if no worker has them yet."""
        ...

    async def load_unqueued_executions(self) -> list[UnqueuedExecution]:
        """The unfinished executions that nobody has and that only a recovery finds."""
        ...

    async def load_unregistered(
        self, workflows: Collection[tuple[str, int]], limit: int
    ) -> list[str]:
        """The unfinished executions of all workflows but these, the oldest first.

        No more than `limit`, and at no more cost than that takes.
        """
        ...

    async def load_blocked(self) -> list[str]:
        """The unfinished executions that are blocked, the oldest first."""
        ...


class Changes(Protocol):
    """What others have written since, noticed at hardly any cost."""

    def change_counter(self) -> int:
        """A number that changes when there may be something new.

        It changes when another worker has written. It also changes when a signal or a new
        execution for the queue came through this store, which several engines may use. It is fast.
        """
        ...

    async def load_last_signal_id(self) -> int:
        """The id of the signal that came last; 0 where none did."""
        ...

    async def load_signals_after(self, signal_id: int) -> list[ArrivedSignal]:
        """What came after the signal of that id, in order of arrival."""
        ...

    async def load_statuses(
        self, workflow_execution_ids: Iterable[str]
    ) -> dict[str, ExecutionStatus]:
        """The statuses of executions; unknown executions are left out."""
        ...

    async def load_stopped(self, workflow_execution_ids: Iterable[str]) -> set[str]:
        """Which of some executions are blocked or in trouble."""
        ...


class Membership(Protocol):
    """Which workers there are, and which of them live.

    A store that is one worker's has one `worker_id`; another worker's claims are respected for as
    long as that worker lives.
    """

    @property
    def worker_id(self) -> str:
        """The id of this store; no other store on the same records ever has the same."""
        ...

    async def join(
        self,
        workflows: Collection[tuple[str, int]],
        max_concurrent: int,
        now: datetime | None = None,
    ) -> None:
        """Say, for people, that this store is a worker's: what it runs, and how much at once.

        workflows: types and versions; those that were told before stay. From then on, or from its
        first claim, the worker is seen as one that lives, until the store is closed.
        """
        ...

    async def load_served(self) -> set[tuple[str, int]]:
        """The workflows, by type and version, that living workers have said in `join`."""
        ...

    async def mark_as_stopping(self, claims: Iterable[WorkflowClaim]) -> None:
        """This worker was told to stop: if it dies with these claims, it did not die of them."""
        ...

    async def release_claims_of_the_dead(
        self,
        max_recoveries: int,
        now: datetime | None = None,
        *,
        suspect_at: int | None = None,
    ) -> list[AbandonedExecution]:
        """Release all claims of dead workers, as `release_claims` does.

        Claims that this store could not release before are released, too; they are not in the
        returned list. The `recovery_count` of each execution that its worker may have died of is
        increased; if it was `max_recoveries` already, the execution is blocked, too. A worker may
        have died of every execution that it had, except

        - one that is SUSPENDED;
        - one that only waits for the next attempt of a step or compensation, if this wait began
          since it was claimed;
        - all of them, if the worker was told to stop: see `mark_as_stopping`;
        - where there are some whose `recovery_count` is `suspect_at` or more, all others.
        """
        ...


class Mending(Protocol):
    """What people do to executions, and what is known of that."""

    async def unblock_execution(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> bool:
        """Put a blocked execution into the queue, and reset its `recovery_count`.

        It saves records beside, in one transaction. False, and nothing written, if it is not
        blocked.
        """
        ...

    async def hasten_attempts(
        self,
        workflow_execution_id: str,
        *records: Record,
        only: StepCheckpoint | None = None,
        now: datetime | None = None,
    ) -> int:
        """Let steps and compensations that wait for their next attempt be tried at once.

        only: the one whose attempt this was, also if its time has come; None for all.

        Their `due_at` becomes `now`, also if a worker has the execution. If none has it, it may be
        claimed from `now` on. It saves records beside, in one transaction. Returns how many there
        are; 0, and nothing written, if none is due later.
        """
        ...

    async def reopen_execution(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> None:
        """Make a FAILED execution PENDING, and save records beside, in one transaction.

        Its error is forgotten, and its time to live and `last_event` with it. Its EXPIRED signals
        are PENDING again, except those whose names begin with $. A FAILED or CANCELLED
        one with a compensation that has FAILED becomes COMPENSATING instead; it keeps its error
        and `last_event`.

        Raises ExecutionNotFoundError, or ExecutionConflictError for one that did not fail or that
        is undone to the end; nothing is written then.
        """
        ...

    async def mend_execution(
        self,
        seen: TakenExecution,
        becomes: WorkflowExecution,
        *records: Record,
        forget: Collection[StepCheckpoint] = (),
        now: datetime | None = None,
    ) -> bool:
        """Change an execution that no living worker has; save records beside, in one transaction.

        seen: what `take_execution` gave. becomes: its record from now on. What it was started with
        (except its time to live) and `started_at` stay as they are. It is neither blocked nor in
        trouble any more; it has no output, and its `recovery_count` is 0. Checkpoints in `forget`
        are deleted.

        One that becomes final is left as `save` leaves it. Any other may be claimed from `now` on,
        as after `release_claims`; if it was final, its EXPIRED signals are PENDING again, except
        those whose names begin with $.

        False, and nothing written, if it is no longer as it was seen. Raises
        ExecutionConflictError if a worker that lives has it; a dead one's claim is deleted.
        """
        ...

    async def acknowledge(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> int:
        """A person has dealt with what a final execution has left; return how many checkpoints.

        Compensations that FAILED become COMPENSATED. Steps that were cut off or timed out
        leave the view `workflow_in_doubt`. It saves records beside, in one transaction, if there
        was anything.
        """
        ...

    async def load_signals(self, workflow_execution_id: str) -> list[WorkflowSignal]:
        """All signals of one execution, whatever became of them, in order of arrival."""
        ...

    async def load_workflows(self) -> list[Workflow]:
        """Every definition, by type and version. Rows that cannot be read are left out."""
        ...

    async def load_tags(self, workflow_execution_id: str) -> dict[str, str]:
        """The tags that an execution was started with."""
        ...

    async def load_audit_log(self, workflow_execution_id: str) -> list[AuditEntry]:
        """What people did to an execution, in order."""
        ...


class Maintenance(Protocol):
    """Deleting what is old. No engine asks for it: people do, and the command line."""

    async def delete_execution(self, workflow_execution_id: str) -> bool:
        """Delete an execution and all that belongs to it; False if there was none."""
        ...

    async def delete_completed_before(
        self,
        before: datetime,
        statuses: Collection[ExecutionStatus] = (ExecutionStatus.COMPLETED,),
        *,
        batch_size: int = 500,
    ) -> int:
        """Delete finished executions begun and last changed before a time; return how many.

        It does so in batches, each a transaction of its own, so that no writer waits for long.
        Workers that were found dead before that time are forgotten, once nothing is to be taken
        over from them.
        """
        ...

    async def delete_old_timers(self, before: datetime, *, batch_size: int = 500) -> int:
        """Delete timers that fired or were cancelled and were due before a time."""
        ...

    async def delete_old_signals(self, before: datetime, *, batch_size: int = 500) -> int:
        """Delete signals that were delivered, expired or refused, and came before a time."""
        ...


class CheckpointStore(Records, Queue, Changes, Membership, Mending, Protocol):
    """What `DurableEngine` and `Client` ask of a store, by roles.

    It knows nothing of what a workflow means. What goes wrong in the database is a `StoreError`; a
    value that it could never hold, such as one that is too long or data that is not valid JSON, a
    `SerializationError`.
    """

    async def close(self) -> None:
        """Finish all pending calls, and close the store. Closing twice has no effect."""
        ...
