"""Counts of executions, the state of each, and all that is stored about one."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from durable_workflow_sqlite.questions import Question, is_question, name_in
from durable_workflow_sqlite.reading.pauses import TREE
from durable_workflow_sqlite.records import (
    AMBIGUOUS,
    CHILD_SIGNAL,
    TERMINAL_STATUSES,
    PauseScope,
    Progress,
    StepStatus,
)

ERROR_LENGTH: Final = 200
"""How much of an error message a table shows: see `beginning`."""

ANSWER_ABOUT: Final = "answer about "
"""How `waiting_for` begins where a person must say what became of a step."""


class ExecutionCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many executions of a workflow have a status.

    `workflow_type` and `version` are None where the definition is not in the file.
    """

    workflow_type: str | None
    version: int | None
    status: str
    count: int


class ExecutionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one execution. A time that cannot be read is None.

    status: one of `ExecutionStatus`, or whatever somebody wrote there.
    current_step: the step that runs, or the wait that ends first; of a FAILED execution, the step
        that failed; else None. `current_branch` ('' for the main line) and `attempts` are its own.
    steps_begun, steps_completed: the progress of the execution.
    waiting_for: "signal NAME", "child ID", "time", "retry of STEP", "probe of STEP" or "worker";
        "answer about STEP", where a person must say what became of it; "answer to QUESTION" or
        "answer of WHOM to QUESTION", of a question to people; None while something runs.
    waiting_until: when that wait ends by itself; None if it does not. waiting_since: its begin.
    step_error_type, step_error_message: of the last attempt of the current step.
    steps_not_undone: how many compensations have failed for good, and nobody has acknowledged.
    signals_pending: signals that came and that nothing has waited for yet; the ends of children
        do not count.
    blocked_reason: why no worker may claim it; None if it is not blocked.
    trouble: why its last worker left it as it is; None once a worker has it, and when it is final.
        trouble_since: since when each worker that had it left it for this reason.
    paused_at, paused_by, paused_reason: since when nothing of it may begin, who paused it and why;
        None if nothing holds it. paused_scope: what is paused: EXECUTION, TREE,
        WORKFLOW, QUEUE or ALL. paused_with: the nearest paused one above it, which holds it, too.
        queue: the named queue in which it is.
    status_since: since when it has its status; for a final one, its end.
    worker_id: who has claimed it; it may be dead, see `ExecutionDetails.claim`.
    started_at: when a worker first claimed it.
    parent_execution_id: of the execution that started it as a child; None if no other did.
        root_execution_id: of the top of its tree, None where it has no parent. on_parent_end:
        "cancel" or "detach". run_number: 1, and one more each time that it continued as new.
    forked_from: the execution whose first records it began with; None if it is not a fork.
        forked_before: the step before which these end, in words; None for all that had completed.
    """

    id: str
    workflow_type: str | None
    version: int | None
    status: str
    created_at: datetime | None
    updated_at: datetime | None
    current_step: str | None
    current_branch: str | None
    attempts: int | None
    steps_begun: int
    steps_completed: int
    waiting_for: str | None
    waiting_until: datetime | None
    waiting_since: datetime | None
    step_error_type: str | None
    step_error_message: str | None
    steps_not_undone: int
    signals_pending: int
    error_type: str | None
    error_message: str | None
    blocked_reason: str | None
    trouble: str | None
    trouble_since: datetime | None
    queue: str | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    paused_scope: str | None
    paused_with: str | None
    status_since: datetime | None
    worker_id: str | None
    started_at: datetime | None
    parent_execution_id: str | None
    root_execution_id: str | None
    on_parent_end: str | None
    run_number: int
    forked_from: str | None = None
    forked_before: str | None = None

    @property
    def paused_name(self) -> str | None:
        """The name of the workflow or of the queue whose pause holds it, or the id above it."""
        if self.paused_scope == TREE:
            return self.paused_with
        return self.queue if self.paused_scope == PauseScope.QUEUE else self.workflow_type

    @property
    def awaited_child(self) -> str | None:
        """The id of the child whose end it waits for; None if it waits for something else."""
        kind, _, child = (self.waiting_for or "").partition(" ")
        return child if kind == "child" else None

    @property
    def asks_about(self) -> str | None:
        """The step of which a person must say what became of it; None if none is asked."""
        waits = self.waiting_for or ""
        return waits.removeprefix(ANSWER_ABOUT) if waits.startswith(ANSWER_ABOUT) else None

    def is_in_back_off(self, now: datetime) -> bool:
        """Whether it waits until the time of its next attempt, which `retry` can make now."""
        is_retry = (self.waiting_for or "").startswith(("retry of ", "probe of "))
        return is_retry and self.waiting_until is not None and self.waiting_until > now


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some executions, the newest first.

    `next` is the `after` of the next page; None if there is none. It is text without a meaning for
    people, safe in a URL.
    """

    rows: tuple[ExecutionSummary, ...]
    next: str | None


class StepAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of one step, or one compensation.

    kind: STEP, SLEEP or SIGNAL. status: INTENT (begun), COMPLETED, FAILED or COMPENSATED.
    step_name: of a compensation, the step that it undoes. attempt: of a compensation, 0.
    due_at: when a sleep or a wait ends, and when a failed attempt is tried again.
    input_data, output_data: JSON text.
    worker_number: of the worker that began it; None if an older version wrote it. worker: the same
        as HOST:PROCESS_ID, or as `worker NUMBER`.
    """

    branch: str
    step_index: int
    attempt: int
    step_name: str
    kind: str
    status: str
    started_at: datetime | None
    completed_at: datetime | None
    due_at: datetime | None
    input_data: str | None
    output_data: str | None
    error_type: str | None
    error_message: str | None
    idempotency_key: str | None
    compensate_ref: str | None
    worker_number: int | None
    worker: str | None

    @property
    def asks(self) -> bool:
        """Whether a person is asked what became of it, since `completed_at`."""
        return self.status == StepStatus.INTENT and (
            self.error_type == AMBIGUOUS and self.due_at is None
        )


def is_undone_by_hand(one: StepAttempt) -> bool:
    """Whether a person has undone the step: its compensation failed, and was acknowledged."""
    is_done = one.attempt == 0 and one.status == "COMPENSATED"
    return is_done and (one.error_type is not None or one.error_message is not None)


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """A deadline of an execution; status: PENDING, FIRED or CANCELLED."""

    id: str
    step_name: str
    fire_at: datetime | None
    status: str
    created_at: datetime | None


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A message to an execution; status: PENDING, DELIVERED, EXPIRED or REFUSED.

    `payload` is JSON text. `refused_reason` says why no wait could read it. `key` is the name that
    its sender gave this one message.
    """

    id: int
    signal_name: str
    payload: str | None
    status: str
    created_at: datetime | None
    refused_reason: str | None
    key: str | None


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that another one started, in a tree.

    on_parent_end: "cancel" or "detach". status_since: since when it has its status.
    waiting_for, waiting_until: as `ExecutionSummary` has them.
    why_not: what keeps it from going on: "paused", "blocked" or "in trouble"; None for none of
        these.
    children: its own; None where the tree was cut off before they were looked for.
    """

    id: str
    workflow_type: str | None
    version: int | None
    status: str
    status_since: datetime | None
    on_parent_end: str | None
    error_message: str | None
    waiting_for: str | None = None
    waiting_until: datetime | None = None
    why_not: str | None = None
    children: Children | None


class Children(msgspec.Struct, frozen=True, kw_only=True):
    """The children of an execution: some of them, and how many there are of each status.

    shown: at most 20. Those that are not over come first, then FAILED ones, CANCELLED ones and
        COMPLETED ones, each in the order in which they were started.
    counts: by status. A count ends at `findings.COUNTED`: there may be more.
    """

    shown: tuple[Child, ...] = ()
    counts: dict[str, int] = {}

    @property
    def total(self) -> int:
        """How many there are, as far as they were counted."""
        return sum(self.counts.values())


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The worker that has an execution; `is_alive` is False for a dead worker.

    worker: HOST:PROCESS_ID; None where its row is gone.
    stopped_process: the id of its process, if that is stopped (SIGSTOP); None otherwise, and for
    one of another machine.
    """

    worker_id: str
    worker: str | None
    fencing_token: int
    claimed_at: datetime | None
    is_alive: bool
    stopped_process: int | None = None


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What a person did to an execution. `details` is JSON text."""

    act: str
    actor: str
    details: str | None
    created_at: datetime | None


class PassedPatch(msgspec.Struct, frozen=True, kw_only=True):
    """A patch of the code that an execution has passed, and in which branch.

    event: the last event that its workflow function had got by then.
    """

    patch_name: str
    branch: str
    event: int
    passed_at: datetime | None


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that began with the first records of another one.

    before: the step before which these records end, in words; None for all that had completed.
    """

    id: str
    before: str | None
    status: str
    created_at: datetime | None


class ExecutionDetails(msgspec.Struct, frozen=True, kw_only=True):
    """All that is stored about one execution.

    queued_seconds: from its creation until a worker first claimed it, or until now.
    running_seconds: from then to its end, or until now; its waits count.
    steps: every attempt, in the order of their beginnings. compensations: the same for them.
    steps_cut_off: how many steps were cut off or timed out, and nobody has dealt with that.
    tags: what it was given to find it by. audit_log: what people did to it, except signals.
    problems: what in its rows no engine can read, in short sentences.
    children: the tree below it, of at most 100 executions.
    patches: the changes of the code of which it takes the new way.
    questions: what it asks people now.
    progress: what it has reported last, by branch and step.
    forks: what began with records of it: the first 100, in the order in which they were started.
    """

    summary: ExecutionSummary
    input_data: str | None
    output_data: str | None
    ttl_expires_at: datetime | None
    guarantee: str
    recovery_count: int
    priority: int
    available_at: datetime | None
    queued_seconds: float | None
    running_seconds: float | None
    claim: Claim | None
    steps: tuple[StepAttempt, ...]
    compensations: tuple[StepAttempt, ...]
    timers: tuple[Timer, ...]
    signals: tuple[Signal, ...]
    steps_cut_off: int
    tags: dict[str, str]
    audit_log: tuple[Act, ...]
    problems: tuple[str, ...]
    children: Children
    patches: tuple[PassedPatch, ...] = ()
    questions: tuple[Question, ...] = ()
    forks: tuple[Fork, ...] = ()
    progress: tuple[Progress, ...] = ()

    @property
    def is_not_undone(self) -> bool:
        """Whether it has ended, and a compensation of it has failed for good."""
        return self.summary.status in TERMINAL_STATUSES and self.summary.steps_not_undone > 0


def step_words(name: str) -> str:
    """What people call a step, a sleep or a wait of that name."""
    if name.startswith(CHILD_SIGNAL):
        return f"end of child {name.removeprefix(CHILD_SIGNAL)}"
    if is_question(name):
        return f"answer to {name_in(name)}"
    return name


def beginning(text: str | None) -> str | None:
    """A text for a table: at most `ERROR_LENGTH` characters, the last a … where it is cut."""
    if text is None or len(text) <= ERROR_LENGTH:
        return text
    return f"{text[: ERROR_LENGTH - 1]}…"
