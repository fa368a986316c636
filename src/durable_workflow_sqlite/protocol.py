"""What the engine asks of a store. `durable_workflow_sqlite.testing` holds the suite that every
store must pass; it says more exactly than types can what each method means."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Protocol

from durable_workflow_sqlite.records import (
    ExecutionStatus,
    Record,
    StepCheckpoint,
    UnclaimedExecution,
    Workflow,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowSignal,
    WorkflowTimer,
)


class CheckpointStore(Protocol):
    """Keeps records, atomically and durably, and knows nothing of what a workflow means.

    Every write has been committed when its `await` returns, and has changed nothing when it
    raises. A write under a claim raises `ClaimLostError` when the claim is no longer held. A
    store that is one worker's has one `worker_id`; another worker's claims are respected for as
    long as that worker lives. What goes wrong in the database is a `StoreError`.
    """

    @property
    def worker_id(self) -> str:
        """Tells this store from every other one that works on the same records, for ever."""
        ...

    async def save(self, *records: Record, claim: WorkflowClaim | None = None) -> None:
        """Save any mix of records in one transaction, all or nothing, updating those known.

        An execution whose stored status is final is not changed: `ExecutionConflictError`,
        unless what is saved equals what is stored. One that becomes final loses its claim; its
        pending timers are CANCELLED then, and its pending signals EXPIRED.
        """
        ...

    async def save_workflow(self, workflow: Workflow) -> None: ...

    async def load_workflow(self, workflow_id: str) -> Workflow | None: ...

    async def save_execution(self, execution: WorkflowExecution) -> None: ...

    async def load_execution(self, workflow_execution_id: str) -> WorkflowExecution | None: ...

    async def load_executions_by_status(
        self, statuses: Iterable[ExecutionStatus]
    ) -> list[WorkflowExecution]:
        """In creation order. A row that cannot be read is logged by its id and left out."""
        ...

    async def save_checkpoint(self, checkpoint: StepCheckpoint) -> None: ...

    async def save_checkpoints(self, checkpoints: Iterable[StepCheckpoint]) -> None: ...

    async def load_checkpoints(self, workflow_execution_id: str) -> list[StepCheckpoint]:
        """In step order: by branch, index and attempt.

        Raises StoreCorruptError if one of them cannot be read: a history with a hole would
        make steps run twice.
        """
        ...

    async def save_timer(self, timer: WorkflowTimer) -> None: ...

    async def load_pending_timers(self) -> list[WorkflowTimer]:
        """By `fire_at`. A row that cannot be read is logged by its id and left out."""
        ...

    async def load_timers(self, workflow_execution_id: str) -> list[WorkflowTimer]:
        """All timers of one execution, by `fire_at`."""
        ...

    async def save_signal(self, signal: WorkflowSignal) -> WorkflowSignal:
        """Save a signal and return it with its id."""
        ...

    async def send_signal(self, signal: WorkflowSignal) -> WorkflowSignal:
        """Keep a signal for an execution that can still receive it; return it with its id.

        Raises ExecutionNotFoundError or, for a finished execution, ExecutionConflictError.
        """
        ...

    async def load_pending_signals(
        self, workflow_execution_id: str, signal_name: str | None = None
    ) -> list[WorkflowSignal]:
        """In order of arrival; of one name, or of all."""
        ...

    async def load_signalled_execution_ids(self) -> set[str]:
        """The executions for which signals wait."""
        ...

    def has_news(self) -> bool:
        """Whether another worker may have written since this was last asked; quick, no I/O."""
        ...

    async def create_execution(
        self, workflow: Workflow, execution: WorkflowExecution
    ) -> WorkflowClaim | None:
        """Start an execution and claim it, in one transaction; make sure its workflow is there.

        None, and nothing written, if the id is taken.
        """
        ...

    async def claim_execution(self, workflow_execution_id: str) -> WorkflowClaim | None:
        """Take an unfinished execution on, unless a live worker (this one included) has it.

        None if one has, or if the execution is unknown or final.
        """
        ...

    async def release_claims(self, claims: Iterable[WorkflowClaim]) -> None:
        """Let go of executions; claims that are lost already are passed over."""
        ...

    async def load_unclaimed_executions(self) -> list[UnclaimedExecution]:
        """The unfinished executions that no live worker has claimed, oldest first."""
        ...

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
        """Delete finished executions last changed before a time, in batches; return how many.

        Each batch is a transaction of its own, so that no writer waits for long.
        """
        ...

    async def delete_old_timers(self, before: datetime, *, batch_size: int = 500) -> int:
        """Delete timers that fired or were cancelled and were due before a time."""
        ...

    async def delete_old_signals(self, before: datetime, *, batch_size: int = 500) -> int:
        """Delete signals that were delivered or expired and came before a time."""
        ...

    async def close(self) -> None:
        """Finish what was asked for, and let go. Closing twice is harmless."""
        ...
