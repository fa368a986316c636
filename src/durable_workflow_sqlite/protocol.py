"""The methods of a store, by roles. `durable_workflow_sqlite.testing` has the contract: the tests
that every store must pass. The contract defines each method more exactly than types can.

Some methods have a body, which calls other methods. A store that inherits from the roles has them
already; it defines them only to be faster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from durable_workflow_sqlite import limits
from durable_workflow_sqlite.payload_codec import MAX_PAYLOAD_BYTES
from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.records import (
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
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    StreamEnd,
    StreamItem,
    TakenExecution,
    UnqueuedExecution,
    Workflow,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowSignal,
    check_identifier,
)


class Records(Protocol):
    """The records of executions, stored atomically and durably.

    When the `await` of a write returns, the write is committed. When it raises, nothing has
    changed. A write under a claim raises `ClaimLostError` when the claim is no longer held.
    """

    async def create_execution(
        self,
        workflow: Workflow,
        execution: WorkflowExecution,
        tags: Mapping[str, str] | None = None,
        *records: Record,
    ) -> WorkflowClaim | None:
        """Start an execution and claim it, in one transaction; make sure its workflow is there.

        It saves records beside, in the same transaction.

        tags: names and values to find it by; they do not change any more.
        None, and nothing written, if the id is taken. None, too, if its workflow or everything is
        paused: then it is stored as PENDING, has no `started_at`, and may be claimed from
        `created_at` on once that is resumed. Raises ValueError for one that is final, blocked, in
        trouble or paused, and for one in a named queue, which can only be enqueued.
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

        False, and nothing written, if the id is taken. Raises QueueNotFoundError if it names a
        queue that is not declared, and DuplicateExecutionError if another unfinished execution of
        its queue has its `dedup_id`.
        """
        ...

    async def debounce_execution(
        self,
        workflow: Workflow,
        execution: WorkflowExecution,
        tags: Mapping[str, str] | None = None,
        *records: Record,
    ) -> str:
        """As `enqueue_execution`, of one that is debounced; returns the id of the one that waits.

        If one with its `dedup_id` waits in its queue already, and is debounced, that one gets its
        input and its `available_at`, and nothing else is written. Raises DuplicateExecutionError
        if that one is of another workflow, or is not debounced.
        """
        ...

    async def take_execution(self, workflow_execution_id: str) -> TakenExecution | None:
        """All that an execution is resumed from, for the worker that has claimed it.

        Its patches are in the order of branch and name; of one that was saved twice, the first.
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
        final is left out, and so is one whose `signal_key` is taken there.

        An execution whose stored status is final is not changed: `ExecutionFinishedError`,
        unless what is saved equals what is stored. One that becomes final loses its claim; its
        pending timers are CANCELLED then, and its pending signals EXPIRED. Under a claim, what an
        execution was started with (workflow, input, time to live, guarantee, priority, parent,
        creation) stays as it is. So do `started_at`, `available_at`, `run_number` and its pause.
        One that becomes final is not paused any more.

        Whatever makes a child final, also `mend_execution`, sends its parent the signal
        `$child:ID`, in the same transaction. The payload says how it ended, as an object: `status`,
        `output`, `error_type`, `error_message`. The signal is EXPIRED at once if the parent is
        final. Whatever makes a parent COMPENSATING or final sends $cancel to those of its children
        that are to end with it. The end of a child that is deleted has the status DELETED.
        """
        ...

    async def begin_step(
        self, intent: StepCheckpoint, *beside: Record, claim: WorkflowClaim
    ) -> None:
        """Save that an attempt of a step, or of its compensation, is about to begin.

        As `save(intent, *beside, claim=claim)`. The engine calls it before every attempt.
        """
        await self.save(intent, *beside, claim=claim)

    async def finish_step(
        self,
        outcome: StepCheckpoint,
        *beside: Record,
        claim: WorkflowClaim,
        has_begun: bool = True,
    ) -> None:
        """Save the outcome of a step, or of its compensation, that `begin_step` has saved.

        As `begin_step`. What the attempt began with has not changed: its name, kind, input, start,
        idempotency key and compensation.

        has_begun: False for an attempt that `begin_step` has not saved.
        """
        del has_begun
        await self.save(outcome, *beside, claim=claim)

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
        """Call a function with the connection, and save the records that it gives: both or neither.

        That is one transaction, which nobody else shares. It begins with the check of the claim. If
        the function fails, all of it is rolled back, and the records that `failed` makes of the
        error are saved instead. The error is what the function raised, TransactionTimeoutError, or
        SerializationError for records that cannot be stored. It is TransactionMisuseError if the
        function did with the connection what only the store may do. The function may be called
        several times, if what it did before was rolled back.

        unless_signal: if the execution has a pending signal of this name, nothing is called or
            saved, and False comes back.
        passed_over: the ids of signals that do not count for this.
        """
        ...

    async def continue_as_new(
        self, execution: WorkflowExecution, *records: Record, claim: WorkflowClaim
    ) -> None:
        """Begin an execution again, under its claim, without checkpoints, timers, patches, streams.

        Its `input_data`, `run_number` and `updated_at` become those of `execution`; `started_at`
        becomes `updated_at`, and `replay_origin` None. It saves records first, in one transaction.
        Pending signals stay, except those about children of the run before. Those of its children
        that are to end with it are asked to cancel.
        """
        ...

    async def send_signal(self, signal: WorkflowSignal, *records: Record) -> WorkflowSignal | None:
        """Keep a signal for an execution that can still receive it; return it with its id.

        It saves records beside, in one transaction. None, and nothing written, if the execution has
        a signal with this `signal_key` already, whatever has become of it; also if it is finished.
        Raises ValueError for a name that begins with $, unless it is $cancel; to cancel, there is
        `request_cancel`.

        One that nobody has may be claimed then, if the signal may be for it: see `release_claims`.
        Raises ExecutionNotFoundError or ExecutionFinishedError; it is decided in the transaction.
        """
        ...

    async def answer_question(
        self, signal: WorkflowSignal, *records: Record
    ) -> WorkflowSignal | None:
        """Send the signal that answers a question, and return the signal.

        The question is open: its wait, a SIGNAL checkpoint of the signal's name, is at INTENT, with
        a `due_at` after the signal's `created_at` or none. The execution is not final and not
        COMPENSATING, and has no pending signal of that name. It saves `records` in the same
        transaction. If the question is not open, it writes nothing and returns None.
        """
        ...

    async def load_questions(
        self, to: str | None = None, workflow_execution_id: str | None = None, *, limit: int = 100
    ) -> list[Question]:
        """The open questions: of all executions, or for one receiver, or of one execution.

        The longest waiting first, and at most `limit`. The cost does not depend on the number of
        other waits.
        """
        ...

    async def request_cancel(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> WorkflowSignal | None:
        """Send the signal that asks an execution to cancel, and return the signal.

        It saves `records` in the same transaction. If the execution is paused itself, that ends.
        If it is COMPENSATING, or has such a signal already, it writes nothing and returns None.
        Raises ExecutionNotFoundError or ExecutionFinishedError; it is decided in the transaction.
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

        Raises StoreCorruptError if one of them cannot be read, because a history with a gap would
        make steps run twice.
        """
        ...

    async def load_stream_items(
        self, workflow_execution_id: str, after: int = 0, limit: int = 500
    ) -> list[StreamItem]:
        """The items of the streams of an execution that were written after the item `after`.

        They are in the order of their ids, which is the order in which they were written; `limit`
        of them at most. `StreamItems` are saved under a claim as any record, and are always new.
        Raises PayloadDecodeError or StoreCorruptError if one cannot be read.
        """
        ...

    async def load_stream_heads(self, workflow_execution_id: str, up_to: int) -> list[StreamItem]:
        """Of each step, the last item of its stream that was written up to the item `up_to`."""
        heads: dict[tuple[str, int], StreamItem] = {}
        after = 0
        while items := await self.load_stream_items(workflow_execution_id, after):
            for one in items:
                after = one.workflow_stream_item_id
                if after > up_to:
                    return list(heads.values())
                heads[one.branch, one.step_index] = one
        return list(heads.values())

    async def load_stream_ends(self, workflow_execution_id: str, step_name: str) -> list[StreamEnd]:
        """How the steps of a name stand, in step order: their last attempts."""
        ends: dict[tuple[str, int], StreamEnd] = {}
        for one in await self.load_checkpoints(workflow_execution_id):
            if one.step_name == step_name and one.attempt > 0:
                is_over = one.event is not None
                place = (one.branch, one.step_index)
                ends[place] = StreamEnd(*place, one.status, is_over)
        return list(ends.values())

    async def load_progress(self, workflow_execution_id: str) -> list[Progress]:
        """What an execution has reported last, in the order of branches and steps.

        In each branch the workflow function comes first. What an attempt of a step has reported
        is left out once a later attempt is recorded. A `Progress` is saved under a claim as any
        record, and replaces the one of its place.
        Raises PayloadDecodeError or StoreCorruptError if one cannot be read.
        """
        ...

    async def load_keyed_signal(
        self, workflow_execution_id: str, signal_key: str
    ) -> WorkflowSignal | None:
        """The signal of an execution that has this `signal_key`, of any status; None if none."""
        check_identifier("the key of a signal", signal_key)
        signals = await self.load_signals(workflow_execution_id)
        return next((one for one in signals if one.signal_key == signal_key), None)

    async def load_signals(self, workflow_execution_id: str) -> list[WorkflowSignal]:
        """All signals of one execution, of any status, in order of arrival."""
        ...

    async def load_pending_signals(
        self, workflow_execution_id: str, signal_name: str | None = None
    ) -> list[WorkflowSignal]:
        """The pending signals of one name, or of all names, in order of arrival."""
        return [
            one
            for one in await self.load_signals(workflow_execution_id)
            if one.status is SignalStatus.PENDING and signal_name in (None, one.signal_name)
        ]

    async def load_next_signals(
        self, workflow_execution_id: str, signal_names: Collection[str]
    ) -> list[WorkflowSignal]:
        """The first pending signal of each of these names, in order of arrival.

        The cost does not depend on the number of pending signals.
        """
        first: dict[str, WorkflowSignal] = {}
        for one in await self.load_pending_signals(workflow_execution_id):
            if one.signal_name in signal_names:
                first.setdefault(one.signal_name, one)
        return list(first.values())

    async def load_open_waits(
        self, workflow_execution_id: str, signal_name: str
    ) -> list[StepCheckpoint]:
        """The SIGNAL checkpoints of a name at INTENT, in step order. As fast as `send_signal`."""
        check_identifier("signal_name", signal_name)
        return [
            one
            for one in await self.load_checkpoints(workflow_execution_id)
            if one.kind is StepKind.SIGNAL
            and one.status is StepStatus.INTENT
            and one.step_name == signal_name
        ]


class Queue(Protocol):
    """Which worker has which execution, and which executions wait for a worker.

    An execution is claimed by one worker, or is in the queue from its `available_at` on. It is
    neither if it is blocked, is paused itself, only waits for a signal, is FOREGROUND_ONLY, or is
    final. What a pause of its workflow or of everything holds stays in the queue.
    """

    async def claim_execution(
        self, workflow_execution_id: str, now: datetime | None = None
    ) -> WorkflowClaim | None:
        """Claim an unfinished execution that no worker has; its status becomes RUNNING.

        None if a worker has it (this one included), or if it is blocked, paused, unknown or final;
        it is paused, too, if its workflow or everything is. None, too, if no slot of its queue is
        free. The status COMPENSATING does not change. The claim clears its `trouble`. The first
        claim sets its `started_at`.
        """
        ...

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
        """Claim due executions of some workflows: the highest priority first, then the oldest.

        workflows: their types and versions.
        limit: the highest number of claims. If other live workers could claim their share, fewer
            are claimed.
        queues: the queues from which it claims; None: from all of them, and what is in none.
        passed_over: the ids of executions that are not claimed. Nor is what is paused.
        suspect_at: of executions with this `recovery_count` or more, at most one is claimed; none
            unless `takes_suspect`.

        Each claimed execution changes as `claim_execution` says. An execution in a queue takes a
        slot of it, and is not claimed if none is free. If an execution has waited for more than a
        minute, it may be claimed before those of a higher priority; so each is reached in the end.
        """
        ...

    async def leave_slot(self, claim: WorkflowClaim) -> None:
        """Free the slot of its queue that a claim holds: the execution waits for an attempt.

        If the claim is lost, or holds none, nothing changes.
        """
        ...

    async def take_slot(self, claim: WorkflowClaim, queue: str, key: str | None) -> bool:
        """Take a slot of its queue for an execution that goes on; False if none is free.

        It had left its slot, or had given it up when it was saved as SUSPENDED under its claim.
        Also False if the claim is lost. If the claim holds a slot, nothing changes.
        """
        ...

    async def load_next_available_at(
        self,
        workflows: Collection[tuple[str, int]],
        queues: Collection[str] | None = None,
        now: datetime | None = None,
    ) -> datetime | None:
        """The time from which the next execution of some workflows may be claimed; None if none.

        queues: as for `claim_available`. A queue without a free slot counts for
            nothing, and one whose rate keeps it counts from the time on that the rate allows.

        It may be past or future. Workflows that are paused are left out. The cost does not depend
        on the number of executions.
        """
        ...

    async def release_claims(
        self,
        claims: Iterable[WorkflowClaim],
        now: datetime | None = None,
        *,
        trouble: str | None = None,
    ) -> None:
        """Release claims; claims that are already lost are ignored.

        trouble: the reason why this worker leaves the executions as they are; stored in them.

        Each execution may be claimed again from `now` on. There is one exception: an execution that
        is SUSPENDED, has a pending timer or a sleep or wait at INTENT, and has no pending signal
        that it may take. It may be claimed from the earliest of these times on: its pending
        timers, the `due_at` of its sleeps and waits at INTENT, and the end of its time to live. It
        may take a signal if it waits for the name (it has a SIGNAL checkpoint at INTENT), or if
        the name begins with $.

        If this raises StoreError, the claims are still held; the next
        `release_claims_of_the_dead` of this store releases them, and stores their trouble.
        """
        ...

    async def release_created(
        self, execution: WorkflowExecution, now: datetime | None = None
    ) -> None:
        """Release what a `create_execution` of this record claimed, if it did.

        For a caller that was cancelled before it got the claim.
        """
        ...

    async def put_into_queue(
        self, workflow_execution_ids: Iterable[str], now: datetime | None = None
    ) -> None:
        """Make executions available, as if they were released now, if no worker has them yet."""
        ...

    async def load_unqueued_executions(self) -> list[UnqueuedExecution]:
        """The unfinished executions that no worker has, and that only a recovery claims.

        Of those that are paused, only FOREGROUND_ONLY ones.
        """
        ...

    async def load_unregistered(
        self, workflows: Collection[tuple[str, int]], limit: int
    ) -> list[str]:
        """The unfinished executions of all workflows except these, the oldest first.

        At most `limit`; the cost depends only on `limit`.
        """
        ...

    async def load_blocked(self) -> list[str]:
        """The unfinished executions that are blocked, the oldest first."""
        ...


class Limits(Protocol):
    """How much runs at once, or begins within a time, over all workers: of queues, and of steps.

    A change counts for the next claim, also of other workers. A slot is held by the claim of an
    execution whose code runs, so it is free when the claim is released, in whatever way.
    """

    async def declare_limits(
        self, definitions: Iterable[limits.Definition], now: datetime | None = None
    ) -> None:
        """Make sure that queues and limits are there, as code gives them.

        If one was declared in the same way last time, it stays as it is, also if somebody has
        changed it since.
        """
        ...

    async def save_limit(
        self, definition: limits.Definition, *records: Record, now: datetime | None = None
    ) -> None:
        """Change a queue or a limit, or add it; it is not declared by that.

        `records` are saved in the same transaction.
        """
        ...

    async def load_limits(self) -> list[limits.Definition]:
        """All queues, then all limits for steps, by name."""
        ...

    async def load_limit_room(
        self, limit: str, key: str | None, now: datetime | None = None
    ) -> LimitRoom:
        """Whether a step may begin under a limit now. Raises LimitNotFoundError.

        A step takes its slot with a `StepSlot` that is saved with its INTENT. That raises
        LimitFullError, and saves nothing, if none is free. The outcome is saved with a `StepSlot`
        that is not held. A slot is free, too, when the claim under which it was taken is gone.
        """
        ...


class Changes(Protocol):
    """What other workers have written, noticed at a low cost."""

    def change_counter(self) -> int:
        """A number that changes when there may be something new.

        It changes within milliseconds when another worker has written. It also changes when a
        signal or a new execution for the queue came through this store, which several engines may
        use. So it does when a pause began or ended through it. It is fast.
        """
        ...

    async def load_last_signal_id(self) -> int:
        """The id of the newest signal; 0 if there is none."""
        arrived = await self.load_signals_after(0)
        return arrived[-1].workflow_signal_id if arrived else 0

    async def load_signals_after(self, signal_id: int) -> list[ArrivedSignal]:
        """The signals that came after the signal with that id, in order of arrival."""
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

    The store of a worker has one `worker_id`. It does not release the claims of another worker as
    long as that worker lives.
    """

    @property
    def worker_id(self) -> str:
        """The id of this store; each store on the same records has another id."""
        ...

    async def join(
        self,
        workflows: Collection[tuple[str, int]],
        max_concurrent: int,
        now: datetime | None = None,
        *,
        queues: Collection[str] | None = None,
    ) -> None:
        """Record this store as a worker, with what it runs, so that people see it.

        workflows: types and versions; earlier ones stay. max_concurrent: its slots. queues: those
            that it serves, beside earlier ones; None: all of them, and what is in none.

        From this call on, or from its first claim, the worker lives until the store is closed.
        """
        ...

    async def load_served(self) -> set[tuple[str, int]]:
        """The workflows, by type and version, that living workers have given to `join`."""
        ...

    async def mark_as_stopping(self, claims: Iterable[WorkflowClaim]) -> None:
        """Note that this worker stops: if it dies with these claims, that is not counted."""
        ...

    async def release_claims_of_the_dead(
        self,
        max_recoveries: int,
        now: datetime | None = None,
        *,
        suspect_at: int | None = None,
    ) -> list[AbandonedExecution]:
        """Release all claims of dead workers, as `release_claims` does.

        It also releases claims that this store could not release before; these are not in the
        returned list. If an execution may have killed its worker, its `recovery_count` increases.
        If the count was already `max_recoveries`, the execution is blocked. Each execution that the
        worker had may have killed it, except

        - an execution that is SUSPENDED;
        - an execution that only waits for the next attempt of a step or compensation, if this wait
          began after it was claimed;
        - all of them, if the worker was told to stop: see `mark_as_stopping`;
        - executions beside a suspect, which has a `recovery_count` of `suspect_at` or more.
        """
        ...


class Mending(Protocol):
    """The changes that people make to executions, and the audit log."""

    async def unblock_execution(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> bool:
        """Put a blocked execution into the queue, and reset its `recovery_count`.

        It saves `records` in the same transaction. If the execution is not blocked, it writes
        nothing and returns False.
        """
        ...

    async def hasten_attempts(
        self,
        workflow_execution_id: str,
        *records: Record,
        only: StepCheckpoint | None = None,
        now: datetime | None = None,
    ) -> int:
        """End the back-off of steps and compensations, so that they are retried at once.

        only: the failed attempt of one step, also if its back-off is over; None for all steps.

        Their `due_at` becomes `now`, also if a worker has the execution. If no worker has it, it
        may be claimed from `now` on. It saves `records` in the same transaction. Returns the number
        of steps; if it is 0, nothing is written.
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
        """Change an execution that no living worker has; save `records` in the same transaction.

        seen: what `take_execution` returned.
        becomes: the new record. Its input, other arguments of its start and `started_at` do not
            change, but its time to live, its `replay_origin` and its pause may. The execution is
            not blocked or in trouble any more, has no output, and its `recovery_count` is 0.
        forget: checkpoints that are deleted.

        If the execution becomes final, the result is the same as with `save`. If not, it may be
        claimed from `now` on, as after `release_claims`; and if it was final, its EXPIRED signals
        are PENDING again, except those whose names begin with $.

        If the execution has changed since it was seen, this writes nothing and returns False.
        Raises ExecutionConflictError if a living worker has it. The claim of a dead worker is
        deleted.
        """
        ...

    async def acknowledge(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> int:
        """Note that a person has dealt with failed compensations and steps that were cut off.

        The execution is final. Its compensations that FAILED become COMPENSATED. Its steps that
        were cut off or timed out leave the view `workflow_in_doubt`. Returns the number of these
        checkpoints. If it is not 0, `records` are saved in the same transaction.
        """
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

    async def load_changes(self, scope: ChangeScope, name: str = "") -> list[ChangeEntry]:
        """What people did to a schedule, a workflow, a queue, a limit or everything, in order."""
        ...


class Schedules(Protocol):
    """When executions are started by themselves, and which of them are not finished yet."""

    async def save_schedule(
        self,
        schedule: Schedule,
        *records: Record,
        seen: Schedule | None,
        start: Collection[NewExecution] = (),
    ) -> bool:
        """Save a schedule, and start executions of it, in one transaction.

        seen: the schedule as it was read; None for a new one. If it is not as that any more, this
        writes nothing and returns False. start: these are executions of this schedule; one whose id
        is taken is left out. `records` are saved after them. Raises QueueNotFoundError if the
        schedule has a queue that is not declared, unless the schedule is in trouble.
        """
        ...

    async def delete_schedule(self, schedule_name: str, *records: Record) -> bool:
        """Delete a schedule, and leave its executions; False if there was none.

        If there was one, `records` are saved in the same transaction.
        """
        ...

    async def load_schedule(self, schedule_name: str) -> Schedule | None:
        """The schedule of that name; None if there is none.

        Raises StoreCorruptError if it cannot be read.
        """
        check_identifier("schedule_name", schedule_name)
        schedules = await self.load_schedules()
        return next((one for one in schedules if one.schedule_name == schedule_name), None)

    async def load_schedules(self) -> list[Schedule]:
        """Every schedule, by name. Rows that cannot be read are left out."""
        ...

    async def load_due_schedules(self, now: datetime) -> DueSchedules:
        """What a worker has to do about schedules now, and when it has to look again.

        Schedules that are paused or in trouble are left out; of those that have ended, only what
        is buffered is not. Rows that cannot be read are left out. The cost does not depend on the
        number of schedules that are not due.
        """
        awake = [x for x in await self.load_schedules() if not x.paused_at and not x.trouble]
        going = [one for one in awake if not one.ended_at]
        later = [x.next_fire_at for x in going if x.next_fire_at and x.next_fire_at > now]
        return DueSchedules(
            due=[x for x in going if not x.next_fire_at or x.next_fire_at <= now],
            buffered=[one for one in awake if one.buffered_at],
            next_fire_at=min(later, default=None),
        )

    async def load_unfinished_of_schedule(self, schedule_name: str) -> list[str]:
        """The unfinished executions that `save_schedule` has started, in the order of their ids.

        The cost does not depend on the number of finished executions.
        """
        ...


class Pausing(Protocol):
    """What people pause and resume. A pause is no status: it says that no worker may go on.

    The worker that has a paused execution leaves it; the store does not take away its claim.
    """

    async def pause_execution(
        self,
        workflow_execution_id: str,
        *records: Record,
        by: str,
        reason: str | None = None,
        now: datetime | None = None,
    ) -> bool:
        """Pause one execution, from `now` on, and save `records` in the same transaction.

        No worker claims it until it is resumed; its `available_at` is None until then. Returns
        whether it was not paused before. If it was, only its reason changes, and only if one is
        given. Raises ExecutionNotFoundError or ExecutionFinishedError.
        """
        ...

    async def resume_execution(
        self, workflow_execution_id: str, *records: Record, now: datetime | None = None
    ) -> bool:
        """End the pause of one execution, and save `records` in the same transaction.

        If no worker has it, it may be claimed as after `release_claims`. If it is not paused, this
        writes nothing and returns False. Raises ExecutionNotFoundError.
        """
        ...

    async def spread_pauses(self, now: datetime | None = None) -> bool:
        """Hand pauses down from parents to their children, or the ends of pauses: one part of it.

        Returns whether there may be more to hand down. A pause of an execution, its resume and its
        end reach its children so, and theirs; those with `OnParentEnd.DETACH` are left out. A child
        that is held has the nearest paused execution above it as its `paused_with`: no worker
        claims it, as if it were paused itself, and its own pause stays as it is. A child that is
        started later has it from the beginning. The store keeps what is still to be handed down.
        """
        ...

    async def begin_pause(self, pause: Pause, *records: Record) -> bool:
        """Pause a workflow, a queue, or everything; returns whether it was not paused before.

        If it was, only its reason changes, and only if one is given. If anything changes, `records`
        are saved in the same transaction.
        """
        ...

    async def end_pause(self, scope: PauseScope, name: str = "", *records: Record) -> bool:
        """Resume a workflow, a queue, or everything; False if it was not paused.

        If it was, `records` are saved in the same transaction.
        """
        ...

    async def load_pauses(self) -> list[Pause]:
        """What is paused as a whole, by scope and name. Rows that cannot be read are left out."""
        ...


class Maintenance(Protocol):
    """Deletes old records. The engine does not use it; people and the command line do."""

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
        """Delete finished executions begun and last changed before a time; return their number.

        Each batch is a transaction, so that no writer waits for long. The rows of workers that were
        found dead before that time are deleted, too, if these workers have no claim left. So are
        older entries of the audit log about what is not an execution.
        """
        ...

    async def delete_old_timers(self, before: datetime, *, batch_size: int = 500) -> int:
        """Delete timers that fired or were cancelled and were due before a time."""
        ...

    async def delete_old_signals(self, before: datetime, *, batch_size: int = 500) -> int:
        """Delete signals that were delivered, expired or refused, and came before a time."""
        ...


class CheckpointStore(
    Records, Queue, Limits, Changes, Membership, Mending, Pausing, Schedules, Protocol
):
    """The methods that `DurableEngine` and `Client` need, by roles.

    A store only keeps records; the engine gives them their meaning. Problems of the database raise
    `StoreError`. A value that a store can never hold raises `SerializationError`: it is too long,
    or not valid JSON.

    max_payload_bytes: how large one value may be, as JSON in UTF-8. The engine and the client check
        it before they give a value to the store.
    """

    max_payload_bytes: int = MAX_PAYLOAD_BYTES

    async def load_statuses(
        self, workflow_execution_ids: Iterable[str]
    ) -> dict[str, ExecutionStatus]:
        found = [await self.load_execution(one) for one in workflow_execution_ids]
        return {one.workflow_execution_id: one.status for one in found if one}

    async def load_stopped(self, workflow_execution_ids: Iterable[str]) -> set[str]:
        found = [await self.load_execution(one) for one in workflow_execution_ids]
        stopped = [one for one in found if one and (one.blocked_reason or one.trouble)]
        return {one.workflow_execution_id for one in stopped}

    def joined(self, connection: Any) -> CheckpointStore:
        """The same records, in the transaction of a connection of the caller.

        Whatever is written is committed when the caller commits, and until then seen by nobody
        else. What fails leaves the transaction as it was. Only what starts and signals executions
        is of use there: no claim is taken. On SQLite, nothing of it waits.

        Raises TypeError for any other connection, TransactionMisuseError for one that is to another
        database or in no transaction, and StoreError.
        """
        raise TypeError(f"{type(self).__name__} cannot write in the transaction of {connection!r}")

    async def close(self) -> None:
        """Finish all pending calls, and close the store. Closing twice has no effect."""
        ...
