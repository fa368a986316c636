"""Problems and work in progress: waits, blocked, in trouble, in doubt, not undone."""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from durable_workflow_sqlite.reading.executions import ExecutionSummary


class DueTimer(msgspec.Struct, frozen=True, kw_only=True):
    """A deadline in the future, or one that no worker has noticed yet."""

    execution_id: str
    workflow_type: str | None
    step_name: str
    fire_at: datetime | None


class StepInDoubt(msgspec.Struct, frozen=True, kw_only=True):
    """A step that began and did not end, and that no living worker runs.

    It may have taken effect or not; when a worker takes the execution over, it runs again.
    `worker_id` is the dead worker's; None if it released the claim.
    """

    execution_id: str
    workflow_type: str | None
    branch: str
    step_index: int
    attempt: int
    step_name: str
    idempotency_key: str | None
    started_at: datetime | None
    worker_id: str | None


class UnresolvedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step, or a compensation, that is in doubt and waits for the answer of a person.

    step_name: of a compensation, STEP:compensate. question: what is asked. asked_at: since when.
    """

    execution_id: str
    workflow_type: str | None
    branch: str
    step_index: int
    attempt: int
    step_name: str
    question: str | None
    asked_at: datetime | None
    started_at: datetime | None


class BlockedExecution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that no worker claims until an operator retries it."""

    id: str
    workflow_type: str | None
    version: int | None
    status: str
    blocked_reason: str
    created_at: datetime | None
    updated_at: datetime | None


class ExecutionInTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that its worker left as it is, for a reason that does not pass by itself.

    Any worker may claim it, and leaves it in the same way if the reason is still there.
    `updated_at` is when it was left the last time, `trouble_since` when first for that reason.
    `place` is as in `Problem`.
    """

    id: str
    workflow_type: str | None
    version: int | None
    status: str
    trouble: str
    place: str | None
    trouble_since: datetime | None
    created_at: datetime | None
    updated_at: datetime | None


class StepNotUndone(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did and should be undone; its compensation has failed for good."""

    execution_id: str
    workflow_type: str | None
    status: str
    branch: str
    step_index: int
    step_name: str
    error_type: str | None
    error_message: str | None
    failed_at: datetime | None


class StepBeingUndone(msgspec.Struct, frozen=True, kw_only=True):
    """A step whose compensation has failed so far, and is tried again at `next_try_at`.

    undoing_since: since when its execution is COMPENSATING.
    """

    execution_id: str
    workflow_type: str | None
    undoing_since: datetime | None
    step_name: str
    attempts: int | None
    error_message: str | None
    next_try_at: datetime | None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What to look at first: some of each, and how many of each there are.

    timers_overdue says how many of `next_timers` should have been noticed already. `cut_off` are
    the steps that were cancelled while they ran, or timed out: they may have taken effect, and are
    not undone. `unresolved` are those that wait for the answer of a person.
    """

    oldest_unfinished: tuple[ExecutionSummary, ...]
    next_timers: tuple[DueTimer, ...]
    timers_total: int
    timers_overdue: int
    in_doubt: tuple[StepInDoubt, ...]
    in_doubt_total: int
    cut_off: tuple[StepInDoubt, ...]
    cut_off_total: int
    unresolved: tuple[UnresolvedStep, ...]
    unresolved_total: int
    blocked: tuple[BlockedExecution, ...]
    blocked_total: int
    in_trouble: tuple[ExecutionInTrouble, ...]
    in_trouble_total: int
    not_undone: tuple[StepNotUndone, ...]
    not_undone_total: int
    undoing: tuple[StepBeingUndone, ...]
    undoing_total: int


class Prunable(msgspec.Struct, frozen=True, kw_only=True):
    """How many finished executions of a workflow would be deleted, and when the oldest ended."""

    workflow_type: str | None
    version: int | None
    status: str
    count: int
    oldest: datetime | None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """How many executions of a workflow have the same error. A time that cannot be read is None.

    problem: "FAILED", "IN TROUBLE", or "BACK-OFF": three or more that wait for their next attempt
    after the same error. step_name: where they failed; None where no step did, and for
    those in trouble. place: of a mistake in the code, such as "line 27 of shop.py, in order", as it
    stands in their trouble; or the class of its error, if no line is known.
    first_at, last_at: when the first and the last of them failed, or got into trouble.
    last_message: what the error of the last one says.
    """

    problem: str
    workflow_type: str | None
    step_name: str | None
    error_type: str | None
    place: str | None = None
    executions: int
    first_at: datetime | None
    last_at: datetime | None
    last_execution_id: str
    last_message: str | None

    @property
    def short_place(self) -> str:
        """The place without the folder of its file; "" for none."""
        return short_place(self.place)

    @property
    def says(self) -> str:
        """What the last one says, without the class of the error."""
        return (self.last_message or "").removeprefix(f"{self.error_type}: ")


class Hour(msgspec.Struct, frozen=True, kw_only=True):
    """How many executions began and ended in an hour. start: its beginning."""

    start: datetime
    began: int
    completed: int
    failed: int
    cancelled: int


class QueueWait(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for a worker although it is due.

    waiting: how many. oldest_at: when the first of them was due.
    """

    workflow_type: str
    waiting: int
    oldest_at: datetime | None


def short_place(place: str | None) -> str:
    """A place in the code without the folder of its file; "" for none."""
    return re.sub(r" of .*[/\\]", " of ", place or "")
