"""The records of a store: frozen objects that compare by value, one class for each table.

Fields have the names of the columns. Times have a time zone and are kept in UTC. `input_data`,
`output_data` and `payload` hold JSON text. A record checks its fields when it is created, so that
every record that is written can be read back.
"""

from __future__ import annotations

import functools
import inspect
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

MAX_IDENTIFIER_LENGTH: Final = 256
TRANSACTION_TIMEOUT: Final = timedelta(seconds=5)
"""How long a function of the user may take in a transaction of a store, by default."""

MOST_PROGRESS: Final = 1e15
"""Up to it, every whole number is a number of its own."""
LONGEST_NOTE: Final = 1000
MAX_INTEGER: Final = 2**63 - 1
COMPENSATION_SUFFIX: Final = ":compensate"
CUT_OFF: Final = "asyncio.exceptions:CancelledError"
"""The error of an attempt that was cut off: the workflow cancelled it, or ended without it."""
TIMED_OUT: Final = "durable_workflow_sqlite.errors:StepTimeoutError"
"""The error of an attempt that took longer than its timeout, and may have taken effect."""
AMBIGUOUS: Final = "durable_workflow_sqlite.errors:StepAmbiguousError"
"""The error of an attempt that may have taken effect, and is not simply to run again. With the
status INTENT, a person is asked what became of it, since `completed_at`."""

CANCEL_SIGNAL: Final = "$cancel"
"""Name of the signal that asks an execution to cancel; names with a `$` are the library's own."""

SCHEDULE_TAG: Final = "schedule"
"""The name of the tag that an execution has which a schedule started; its value is the schedule."""

MAX_SCHEDULE_NAME_LENGTH: Final = 200
"""So that the ids of its executions, NAME@TIME, are not too long."""

MAX_SCHEDULE_SECONDS: Final = 100 * 366 * 86_400
"""A hundred years: the longest interval, jitter or time to live of a schedule."""

CHILD_SIGNAL: Final = "$child:"
"""How the name of a signal begins that tells a parent of the end of a child; its id follows."""

ANSWER_SIGNAL: Final = "$answer:"
"""How the name of a signal begins that answers a question to people; see `questions.py`."""

MENDED_SIGNAL: Final = "$mended"
"""Name of a signal that is DELIVERED from its beginning: a worker that left an execution as it is
claims it again."""

PAUSED_SIGNAL: Final = "$paused"
"""Name of a signal that is DELIVERED from its beginning: the worker that has the execution leaves
it."""

RESOLVED_SIGNAL: Final = "$resolved"
"""Name of a signal that holds a step, and the value that replaces the next attempt of the step; or
what became of a step that is in doubt."""

DELETED_ROWS: Final = "rows of step_checkpoints were deleted by hand: "
"""How `blocked_reason` begins where a trigger of the tables says so; it goes on with the rows."""


class ExecutionStatus(StrEnum):
    """The status of an execution; COMPLETED, FAILED and CANCELLED are final."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    COMPENSATING = "COMPENSATING"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether no other status follows."""
        return self in TERMINAL_STATUSES


TERMINAL_STATUSES: Final = frozenset(
    {ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}
)


class StepStatus(StrEnum):
    """INTENT is written before an attempt, COMPLETED or FAILED after it.

    COMPENSATED: a compensation that has succeeded, or that a person has done by hand.
    """

    INTENT = "INTENT"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    COMPENSATED = "COMPENSATED"


# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_COMPLETED: Final = StepStatus.COMPLETED


class StepKind(StrEnum):
    """What a workflow asked for: a side effect, a durable sleep, or the wait for a signal."""

    STEP = "STEP"
    SLEEP = "SLEEP"
    SIGNAL = "SIGNAL"


class TimerStatus(StrEnum):
    """A timer is PENDING until its time comes (FIRED), or until no wait needs it (CANCELLED)."""

    PENDING = "PENDING"
    FIRED = "FIRED"
    CANCELLED = "CANCELLED"


class SignalStatus(StrEnum):
    """A signal is PENDING until a wait takes it; then it is DELIVERED.

    EXPIRED: the execution ended before a wait took it. REFUSED: a wait could not read its payload.
    """

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    EXPIRED = "EXPIRED"
    REFUSED = "REFUSED"


class PauseScope(StrEnum):
    """What is paused as a whole: every execution of a WORKFLOW, or in a QUEUE, or ALL of them."""

    WORKFLOW = "WORKFLOW"
    QUEUE = "QUEUE"
    ALL = "ALL"


class WorkflowGuarantee(StrEnum):
    """Who may take over an execution whose worker is dead.

    FOREGROUND_ONLY: only an engine that starts up, or whose `recover()` is called.
    BEST_EFFORT_BACKGROUND: any running engine that has the workflow registered, by itself.
    """

    FOREGROUND_ONLY = "FOREGROUND_ONLY"
    BEST_EFFORT_BACKGROUND = "BEST_EFFORT_BACKGROUND"


class OnParentEnd(StrEnum):
    """What becomes of a child when its parent begins to undo, or is over.

    CANCEL: it is asked to cancel, and undoes what it did. DETACH: it goes on.
    """

    CANCEL = "cancel"
    DETACH = "detach"


def utc_now() -> datetime:
    return datetime.now(UTC)


class Workflow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A definition: a type name and a version."""

    workflow_id: str
    workflow_type: str
    version: int = 1
    created_at: datetime = msgspec.field(default_factory=utc_now)

    def __post_init__(self) -> None:
        check_identifier("workflow_id", self.workflow_id)
        check_identifier("workflow_type", self.workflow_type)
        check_integer("version", self.version, minimum=1)
        check_time("created_at", self.created_at)


class WorkflowExecution(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One run of a workflow.

    `current_step` is the number of steps begun when the state was last written.
    `error_type` is `module:name` of the error that `error_message` describes.
    `recovery_count` is how often in a row the execution may have killed its worker, with no
    progress in between. While `blocked_reason` is set, no worker claims the execution.
    `trouble` is why the last worker left the execution as it is, if the reason does not go away by
    itself; None when a worker has the execution again.
    `available_at` is the time from which any worker may claim the execution, a higher `priority`
    first; None while no worker may claim it.
    `dedup_id` keeps duplicates out of its queue while it is unfinished; if it is `debounced`, only
    until it begins.
    `queue` is the named queue that it is in, and `queue_key` its key there; None if it is in none.
    `started_at` is when a worker first claimed the execution; None before that, and if an older
    version of the library did it.
    `last_event` is the last event that the workflow function got before it ended by a failure, a
    cancel or its time to live; None before that, and if an older version wrote it.
    `paused_at` is since when a person has paused the execution: no worker claims it, whatever its
    status. `paused_by` and `paused_reason` say who did it and why. All three are None if it is not
    paused itself. `paused_with` is the nearest execution above it that is paused itself, and holds
    it, too; None if there is none.
    `parent_execution_id` is the execution whose workflow function started this one, if one did;
    `root_execution_id` is the first of its tree. `on_parent_end` says what becomes of a child when
    its parent begins to undo, or is over.
    `run_number` is 1 at first, and one more each time that it continues as new.
    `forked_from` is the execution whose first records this one began with; None for no fork.
    `forked_before` says in words before which step these records end. `replay_origin` is JSON
    text: what a replay of these records needs.
    """

    workflow_execution_id: str
    workflow_id: str
    status: ExecutionStatus = ExecutionStatus.PENDING
    current_step: int = 0
    input_data: str | None = None
    output_data: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    ttl_expires_at: datetime | None = None
    guarantee: WorkflowGuarantee = WorkflowGuarantee.FOREGROUND_ONLY
    priority: int = 0
    queue: str | None = None
    queue_key: str | None = None
    dedup_id: str | None = None
    debounced: bool = False
    recovery_count: int = 0
    blocked_reason: str | None = None
    trouble: str | None = None
    available_at: datetime | None = None
    last_event: int | None = None
    started_at: datetime | None = None
    parent_execution_id: str | None = None
    root_execution_id: str | None = None
    on_parent_end: OnParentEnd | None = None
    run_number: int = 1
    forked_from: str | None = None
    forked_before: str | None = None
    replay_origin: str | None = None
    created_at: datetime = msgspec.field(default_factory=utc_now)
    updated_at: datetime = msgspec.field(default_factory=utc_now)
    paused_at: datetime | None = None
    paused_by: str | None = None
    paused_reason: str | None = None
    paused_with: str | None = None

    def __post_init__(self) -> None:
        check_identifier("workflow_execution_id", self.workflow_execution_id)
        check_identifier("workflow_id", self.workflow_id)
        check_member("status", self.status, ExecutionStatus)
        check_integer("current_step", self.current_step)
        check_member("guarantee", self.guarantee, WorkflowGuarantee)
        check_integer("priority", self.priority, minimum=-MAX_INTEGER - 1)
        if self.queue is not None:
            check_identifier("queue", self.queue)
        if self.queue_key is not None:
            check_queue_key(self.queue, self.queue_key)
        if self.dedup_id is not None:
            check_identifier("dedup_id", self.dedup_id)
        check_integer("recovery_count", self.recovery_count)
        # Most of these are None, and a call takes longer than to see that.
        if self.input_data is not None:
            check_text("input_data", self.input_data)
        if self.output_data is not None:
            check_text("output_data", self.output_data)
        if self.error_type is not None:
            check_text("error_type", self.error_type)
        if self.error_message is not None:
            check_text("error_message", self.error_message)
        if self.blocked_reason is not None:
            check_text("blocked_reason", self.blocked_reason)
        if self.trouble is not None:
            check_text("trouble", self.trouble)
        if self.last_event is not None:
            check_integer("last_event", self.last_event)
        if self.ttl_expires_at is not None:
            check_time("ttl_expires_at", self.ttl_expires_at)
        if self.available_at is not None:
            check_time("available_at", self.available_at)
        if self.started_at is not None:
            check_time("started_at", self.started_at)
        if self.parent_execution_id is not None:
            check_identifier("parent_execution_id", self.parent_execution_id)
        if self.root_execution_id is not None:
            check_identifier("root_execution_id", self.root_execution_id)
        if self.on_parent_end is not None:
            check_member("on_parent_end", self.on_parent_end, OnParentEnd)
        check_integer("run_number", self.run_number, minimum=1)
        if self.forked_from is not None:
            check_identifier("forked_from", self.forked_from)
        if self.forked_before is not None:
            check_text("forked_before", self.forked_before)
        if self.replay_origin is not None:
            check_text("replay_origin", self.replay_origin)
        check_time("created_at", self.created_at)
        check_time("updated_at", self.updated_at)
        if self.paused_at is not None:
            check_time("paused_at", self.paused_at)
        if self.paused_by is not None:
            check_text("paused_by", self.paused_by)
        if self.paused_reason is not None:
            check_text("paused_reason", self.paused_reason)
        if self.paused_with is not None:
            check_identifier("paused_with", self.paused_with)

    @property
    def is_paused(self) -> bool:
        """Whether somebody has paused it, or an execution above it."""
        return self.paused_at is not None or self.paused_with is not None


class StepCheckpoint(msgspec.Struct, frozen=True, gc=False):
    """One attempt of one step; the key is (execution, branch, step_index, attempt).

    A compensation is attempt 0 of the step that it undoes, named `STEP:compensate`.
    `id` is given by the store, and is ignored when checkpoints are saved.
    `input_data` is the number of the attempt for a compensation; which payload it takes for a wait
    that names a type; the execution that ran it for a step that a fork began with; else None.
    `due_at` is when a SLEEP or the wait for a SIGNAL ends, and when a FAILED attempt is retried.
    `event` numbers the outcomes that the workflow function got, from 1, in their order.
    It is None before the outcome. It stays None for an attempt that is retried, for a
    compensation, and for a step or wait that the workflow cancelled.

    Give its fields by name: their order may change.
    """

    workflow_execution_id: str
    step_index: int
    step_name: str
    status: StepStatus
    branch: str = ""
    attempt: int = 1
    kind: StepKind = StepKind.STEP
    input_data: str | None = None
    output_data: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    idempotency_key: str | None = None
    compensate_ref: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    due_at: datetime | None = None
    event: int | None = None
    id: int | None = None

    def __post_init__(self) -> None:
        # Two of these are made for every step, so what nearly all of them have is seen at a glance.
        output, event = self.output_data, self.event
        began, ended = self.started_at, self.completed_at
        if not (
            type(self.workflow_execution_id) is str
            and _is_plain_identifier(self.workflow_execution_id)
            and type(self.step_name) is str
            and _is_plain_identifier(self.step_name)
            and type(self.step_index) is int
            and 0 <= self.step_index <= MAX_INTEGER
            and type(self.attempt) is int
            and 0 <= self.attempt <= MAX_INTEGER
            and type(self.status) is StepStatus
            and type(self.kind) is StepKind
        ):
            check_identifier("workflow_execution_id", self.workflow_execution_id)
            check_integer("step_index", self.step_index)
            check_step_name(self.step_name)
            check_member("status", self.status, StepStatus)
            check_integer("attempt", self.attempt)
            check_member("kind", self.kind, StepKind)
        if self.branch != "":
            check_text("branch", self.branch, required=True)
        if self.input_data is not None:
            check_text("input_data", self.input_data)
        if output is not None and not (type(output) is str and output.isascii()):
            check_text("output_data", output)
        if self.error_type is not None:
            check_text("error_type", self.error_type)
        if self.error_message is not None:
            check_text("error_message", self.error_message)
        if self.idempotency_key is not None:
            check_text("idempotency_key", self.idempotency_key)
        if self.compensate_ref is not None:
            check_text("compensate_ref", self.compensate_ref)
        if began is not None and not (type(began) is datetime and began.tzinfo is UTC):
            check_time("started_at", began)
        if ended is not None and not (type(ended) is datetime and ended.tzinfo is UTC):
            check_time("completed_at", ended)
        if self.due_at is not None:
            check_time("due_at", self.due_at)
        if event is not None and not (type(event) is int and 1 <= event <= MAX_INTEGER):
            check_integer("event", event, minimum=1)

    def completed(self, output_data: str, completed_at: datetime, event: int) -> StepCheckpoint:
        """This attempt with its result. The other fields are not checked again."""
        copied: Any = self
        completed: StepCheckpoint = copied.__copy__()
        change = msgspec.structs.force_setattr
        change(completed, "status", _COMPLETED)
        change(completed, "output_data", output_data)
        change(completed, "completed_at", completed_at)
        change(completed, "event", event)
        return completed


class _RanIn(msgspec.Struct, frozen=True):
    ran_in: str


def ran_in(workflow_execution_id: str, input_data: str | None) -> str:
    """The `input_data` of a step that a fork has from another execution, which alone undoes it."""
    data = {} if input_data is None else msgspec.json.decode(input_data, type=dict[str, Any])
    return msgspec.json.encode({"ran_in": workflow_execution_id, **data}).decode()


def who_ran(input_data: str | None) -> str | None:
    """The execution that ran a step, as its `input_data` says it; None for a step of its own."""
    if input_data is None:
        return None
    try:
        return msgspec.json.decode(input_data, type=_RanIn).ran_in
    except msgspec.MsgspecError:
        return None


class WorkflowTimer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A durable deadline of an execution."""

    workflow_timer_id: str
    workflow_execution_id: str
    step_name: str
    fire_at: datetime
    status: TimerStatus = TimerStatus.PENDING
    created_at: datetime = msgspec.field(default_factory=utc_now)

    def __post_init__(self) -> None:
        check_text("workflow_timer_id", self.workflow_timer_id, required=True)
        check_identifier("workflow_execution_id", self.workflow_execution_id)
        check_identifier("step_name", self.step_name)
        check_time("fire_at", self.fire_at)
        check_member("status", self.status, TimerStatus)
        check_time("created_at", self.created_at)


class WorkflowPatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A patch that an execution has passed: it takes the new way of the code.

    `event` is the number of the last event that its workflow function had got by then.
    """

    workflow_execution_id: str
    patch_name: str
    branch: str = ""
    event: int = 0
    passed_at: datetime = msgspec.field(default_factory=utc_now)

    def __post_init__(self) -> None:
        check_identifier("workflow_execution_id", self.workflow_execution_id)
        check_identifier("patch_name", self.patch_name)
        check_text("branch", self.branch)
        check_integer("event", self.event)
        check_time("passed_at", self.passed_at)


class StreamItems(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Items that one attempt of a step has put into its stream, in this order: each is JSON.

    `run_number` is that of the execution. `written_under` is the fencing token of the claim: of a
    step whose beginning is not recorded, an attempt may have a number twice. `created_at`: when
    they were about to be written.
    """

    workflow_execution_id: str
    step_index: int
    step_name: str
    items: tuple[str, ...]
    branch: str = ""
    attempt: int = 1
    run_number: int = 1
    written_under: int = 0
    created_at: datetime = msgspec.field(default_factory=utc_now)

    def __post_init__(self) -> None:
        check_identifier("workflow_execution_id", self.workflow_execution_id)
        check_text("branch", self.branch)
        check_integer("step_index", self.step_index)
        check_identifier("step_name", self.step_name)
        if type(self.items) is not tuple or not self.items:
            raise TypeError(f"items must be a tuple of JSON texts, not {self.items!r}")
        for item in self.items:
            if type(item) is not str:
                raise TypeError(f"an item must be JSON text, not {item!r}")
        check_integer("attempt", self.attempt, minimum=1)
        check_integer("run_number", self.run_number, minimum=1)
        check_integer("written_under", self.written_under)
        check_time("created_at", self.created_at)


class StreamItem(NamedTuple):
    """One item, as it is stored. The store gives the id: the order of writing."""

    workflow_stream_item_id: int
    workflow_execution_id: str
    branch: str
    step_index: int
    step_name: str
    attempt: int
    run_number: int
    written_under: int
    item: str
    created_at: datetime


class StreamEnd(NamedTuple):
    """How the last attempt of a step stands, and whether that is the outcome of the step."""

    branch: str
    step_index: int
    status: StepStatus
    is_over: bool


class Progress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How much of its work is done, as a step or a workflow function has reported last.

    done: 0 or more. total: of how much; None if that is unknown. note: what is done right now, in
    one line. step_index, step_name, attempt: which attempt of a step; -1, "" and 0 for a workflow
    function. branch: of the step, or of the context. reported_at: when; of a workflow function,
    its `ctx.now()`.
    """

    workflow_execution_id: str
    done: float
    total: float | None = None
    note: str | None = None
    branch: str = ""
    step_index: int = -1
    step_name: str = ""
    attempt: int = 0
    reported_at: datetime = msgspec.field(default_factory=utc_now)

    def __post_init__(self) -> None:
        check_identifier("workflow_execution_id", self.workflow_execution_id)
        check_progress(self.done, self.total, self.note)
        check_text("branch", self.branch)
        if self.step_index == -1:
            if self.step_name or self.attempt:
                raise ValueError("the progress of a workflow function has no step and no attempt")
        else:
            check_integer("step_index", self.step_index)
            check_identifier("step_name", self.step_name)
            check_integer("attempt", self.attempt, minimum=1)
        check_time("reported_at", self.reported_at)

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0 to 1; None if the total is unknown."""
        return None if self.total is None else min(self.done / self.total, 1.0)


def check_progress(done: object, total: object, note: object) -> None:
    """Raise TypeError or ValueError for bad numbers, or a bad note."""
    for name, number in (("done", done), ("total", total)):
        if name == "total" and number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(f"{name} must be a number, not {number!r}")
        if not 0 <= number <= MOST_PROGRESS or (name == "total" and number == 0):
            least = "0 or more" if name == "done" else "more than 0"
            raise ValueError(f"{name} must be {least}, and finite, not {number!r}")
    check_text("note", note)
    if isinstance(note, str):
        if "\0" in note:
            raise ValueError("note must not hold a null character")
        if len(note) > LONGEST_NOTE:
            raise ValueError(f"note may have {LONGEST_NOTE} characters, and has {len(note)}")


class WorkflowSignal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A durable message to an execution. The store gives the id: the order of arrival.

    `refused_reason` says why the payload of a REFUSED signal could not be read.
    `signal_key` is a name for this one message: an execution has one signal of a key at most.
    """

    workflow_execution_id: str
    signal_name: str
    payload: str | None = None
    status: SignalStatus = SignalStatus.PENDING
    created_at: datetime = msgspec.field(default_factory=utc_now)
    refused_reason: str | None = None
    signal_key: str | None = None
    workflow_signal_id: int | None = None

    def __post_init__(self) -> None:
        check_identifier("workflow_execution_id", self.workflow_execution_id)
        check_identifier("signal_name", self.signal_name)
        check_text("payload", self.payload)
        check_member("status", self.status, SignalStatus)
        check_time("created_at", self.created_at)
        check_text("refused_reason", self.refused_reason)
        if self.signal_key is not None:
            check_identifier("the key of a signal", self.signal_key)
        if self.workflow_signal_id is not None:
            check_integer("workflow_signal_id", self.workflow_signal_id, minimum=1)


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a person did to an execution. Entries are added, and never changed.

    `act` is what was done, for example "retry" or "cancel". `actor` is who did it, as far as known.
    `details` is JSON text with more about it.
    """

    workflow_execution_id: str
    act: str
    actor: str
    details: str | None = None
    created_at: datetime = msgspec.field(default_factory=utc_now)

    def __post_init__(self) -> None:
        check_identifier("workflow_execution_id", self.workflow_execution_id)
        check_identifier("act", self.act)
        check_identifier("actor", self.actor)
        check_text("details", self.details)
        check_time("created_at", self.created_at)


class ChangeScope(StrEnum):
    """To what somebody did something, if not to an execution. STEP: to a limit for steps."""

    SCHEDULE = "SCHEDULE"
    WORKFLOW = "WORKFLOW"
    QUEUE = "QUEUE"
    STEP = "STEP"
    ALL = "ALL"


class ChangeEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a person did to something that is not an execution, as `AuditEntry` for executions.

    `name` is the name of the schedule, the workflow, the queue or the limit; "" for
    ChangeScope.ALL.
    """

    scope: ChangeScope
    name: str
    act: str
    actor: str
    details: str | None = None
    created_at: datetime = msgspec.field(default_factory=utc_now)

    def __post_init__(self) -> None:
        check_named_scope(self.scope, self.name)
        check_identifier("act", self.act)
        check_identifier("actor", self.actor)
        check_text("details", self.details)
        check_time("created_at", self.created_at)


Overlap = Literal["skip", "buffer_one", "cancel_other", "all"]
"""What a schedule does at a time when an execution of an earlier time is not finished."""

Missed = Literal["skip", "last", "all"]
"""Which of the times a schedule fires that passed while no worker could fire them."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """When executions of a workflow are started, and with what.

    Its times are those of `cron` in the zone `tz`, or every `every_seconds` from `created_at` on.
    `input_data` is a JSON array of the arguments, `tags` a JSON object. `queue` and `queue_key` are
    the named queue of its executions, and their key.
    `next_fire_at` is the time that is fired next; None while it is paused, when it has ended, and
    when a worker is to compute it.
    `last_fired_at` is the last time that was fired, `last_execution_id` what was started last.
    `last_skipped_at` is the last time that was not fired, by `overlap`, `missed` or `within`.
    `buffered_at` is a time that is fired when the execution before it is finished.
    `ended_at` is when it had no more times. `trouble` is why no worker can compute its times.
    `declared` is what the program last declared, as JSON; None for a row written by hand.
    """

    schedule_name: str
    workflow_type: str
    version: int = 1
    input_data: str = "[]"
    cron: str | None = None
    tz: str = "UTC"
    every_seconds: int | None = None
    overlap: Overlap = "skip"
    missed: Missed = "last"
    within_seconds: int | None = None
    jitter_seconds: int = 0
    ends_at: datetime | None = None
    priority: int = 0
    ttl_seconds: int | None = None
    tags: str = "{}"
    queue: str | None = None
    queue_key: str | None = None
    next_fire_at: datetime | None = None
    last_fired_at: datetime | None = None
    last_execution_id: str | None = None
    last_skipped_at: datetime | None = None
    buffered_at: datetime | None = None
    paused_at: datetime | None = None
    paused_by: str | None = None
    paused_reason: str | None = None
    ended_at: datetime | None = None
    trouble: str | None = None
    declared: str | None = None
    created_at: datetime = msgspec.field(default_factory=utc_now)
    updated_at: datetime = msgspec.field(default_factory=utc_now)

    def __post_init__(self) -> None:
        check_identifier("schedule_name", self.schedule_name)
        if len(self.schedule_name) > MAX_SCHEDULE_NAME_LENGTH:
            raise ValueError(
                f"schedule_name must have at most {MAX_SCHEDULE_NAME_LENGTH} characters, not"
                f" {len(self.schedule_name)}"
            )
        check_identifier("workflow_type", self.workflow_type)
        check_integer("version", self.version, minimum=1)
        check_text("input_data", self.input_data, required=True)
        check_text("cron", self.cron)
        check_text("tz", self.tz, required=True)
        if (self.cron is None) == (self.every_seconds is None):
            raise ValueError("a schedule has either cron or every")
        for name in ("every_seconds", "within_seconds", "ttl_seconds"):
            if (value := getattr(self, name)) is not None:
                check_seconds(name, value, minimum=1)
        check_seconds("jitter_seconds", self.jitter_seconds)
        check_choice("overlap", self.overlap, get_args(Overlap))
        check_choice("missed", self.missed, get_args(Missed))
        check_integer("priority", self.priority, minimum=-MAX_INTEGER - 1)
        check_text("tags", self.tags, required=True)
        if self.queue is not None:
            check_identifier("queue", self.queue)
        if self.queue_key is not None:
            check_queue_key(self.queue, self.queue_key)
        check_text("last_execution_id", self.last_execution_id)
        check_text("paused_by", self.paused_by)
        check_text("paused_reason", self.paused_reason)
        check_text("trouble", self.trouble)
        check_text("declared", self.declared)
        for name in SCHEDULE_TIMES:
            check_optional_time(name, getattr(self, name))
        check_time("created_at", self.created_at)
        check_time("updated_at", self.updated_at)


SCHEDULE_TIMES: Final = (
    "ends_at",
    "next_fire_at",
    "last_fired_at",
    "last_skipped_at",
    "buffered_at",
    "paused_at",
    "ended_at",
)


class DueSchedules(msgspec.Struct, frozen=True, kw_only=True):
    """The schedules that a worker has something to do about.

    `due` are the schedules with a time that has come, or that is to be computed. `buffered` are
    those with a time that is to be fired when the execution before it is finished. `next_fire_at`
    is when the next of all others fires.
    """

    due: list[Schedule]
    buffered: list[Schedule]
    next_fire_at: datetime | None


class Pause(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A workflow, a named queue, or everything, that a person has paused.

    `name` is the name of the workflow or of the queue; "" for PauseScope.ALL. `paused_reason` is
    None if the person did not say why.
    """

    scope: PauseScope
    name: str = ""
    paused_at: datetime
    paused_by: str
    paused_reason: str | None = None

    def __post_init__(self) -> None:
        check_scope(self.scope, self.name)
        check_time("paused_at", self.paused_at)
        check_identifier("paused_by", self.paused_by)
        check_text("paused_reason", self.paused_reason)

    def holds(self, workflow_type: str, queue: str | None) -> bool:
        """Whether no execution of that workflow in that queue may go on. queue: None for none."""
        if self.scope is PauseScope.ALL:
            return True
        return self.name == (queue if self.scope is PauseScope.QUEUE else workflow_type)


class StepSlot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The slot of a limit that a step takes with its INTENT, and frees with the outcome.

    `key` is the `limit_key` of the step. `at` is when the attempt begins.
    """

    workflow_execution_id: str
    branch: str
    step_index: int
    limit: str
    key: str | None
    is_held: bool
    at: datetime


class LimitRoom(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a step may begin under its limit. `again_at` is when its rate allows the next one."""

    is_free: bool
    again_at: datetime | None = None


class ArrivedSignal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The id, the execution and the name of a new signal, for the worker that has the execution."""

    workflow_signal_id: int
    workflow_execution_id: str
    signal_name: str


class TakenExecution(msgspec.Struct, frozen=True, kw_only=True):
    """All records that are needed to resume an execution.

    `checkpoints` are in step order. `pending_timers` are by `fire_at`. `is_to_cancel` says whether
    a signal asks it to cancel. `patches` are those that it has passed.
    """

    execution: WorkflowExecution
    checkpoints: list[StepCheckpoint]
    pending_timers: list[WorkflowTimer]
    is_to_cancel: bool
    patches: list[WorkflowPatch] = msgspec.field(default_factory=list[WorkflowPatch])


class WorkflowClaim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The right of one worker to write for one execution, until a claim has a higher token.

    `status_before` is the status of the execution before it was claimed.
    """

    workflow_execution_id: str
    worker_id: str
    fencing_token: int
    status_before: ExecutionStatus = ExecutionStatus.RUNNING


class NewExecution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution to start, its definition, and its tags.

    Raises ValueError for an execution of another workflow, and for one that is final, blocked, in
    trouble or paused; TypeError or ValueError for tags that are not valid.
    """

    workflow: Workflow
    execution: WorkflowExecution
    tags: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        one = self.execution
        if one.workflow_id != self.workflow.workflow_id:
            raise ValueError(
                f"execution {one.workflow_execution_id!r} is of workflow {one.workflow_id!r}, not"
                f" {self.workflow.workflow_id!r}"
            )
        state = ""
        if one.status in TERMINAL_STATUSES:
            state = "final already"
        elif one.blocked_reason is not None:
            state = "blocked"
        elif one.trouble is not None:
            state = "in trouble"
        elif one.is_paused:
            state = "paused"
        if state:
            raise ValueError(f"execution {one.workflow_execution_id!r} is {state}")
        msgspec.structs.force_setattr(self, "tags", check_tags(self.tags))


class UnqueuedExecution(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An unfinished execution that no worker has, and that no running worker claims by itself.

    `wakes_at` is when it has something to do; None if it waits only for a signal.
    """

    workflow_execution_id: str
    workflow_id: str
    guarantee: WorkflowGuarantee
    is_due: bool
    wakes_at: datetime | None


class AbandonedExecution(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An execution whose worker died; it is in the queue again unless `blocked_reason` says why."""

    workflow_execution_id: str
    blocked_reason: str | None


Record = (
    Workflow
    | WorkflowExecution
    | StepCheckpoint
    | StepSlot
    | WorkflowTimer
    | WorkflowSignal
    | WorkflowPatch
    | StreamItems
    | Progress
    | AuditEntry
    | ChangeEntry
)
_RECORDS: Final = frozenset(get_args(Record))


def check_records(records: Iterable[Record], claim: WorkflowClaim | None) -> list[str]:
    """Whether they may be saved under a claim; the ids of the executions that become final.

    Raises TypeError for what is not a record, ValueError for what the claim does not cover.
    """
    final: list[str] = []
    for record in records:
        if type(record) not in _RECORDS:
            raise TypeError(f"save() takes records, not {record!r}")
        if claim is not None and not isinstance(record, Workflow | ChangeEntry):
            check_covered(claim, record.workflow_execution_id)
        if isinstance(record, WorkflowExecution) and record.status in TERMINAL_STATUSES:
            final.append(record.workflow_execution_id)
    return final


def check_covered(claim: WorkflowClaim, workflow_execution_id: str) -> None:
    """Raise ValueError unless a claim is of this execution."""
    if claim.workflow_execution_id != workflow_execution_id:
        raise ValueError(
            f"a claim on {claim.workflow_execution_id!r} does not cover a record of"
            f" {workflow_execution_id!r}"
        )


def check_sent(signal: WorkflowSignal) -> None:
    """Raise ValueError for a name that nothing will ever wait for."""
    name = signal.signal_name
    if name.startswith("$") and name != CANCEL_SIGNAL:
        raise ValueError(
            f"signal names that begin with $ are reserved for the library; the only one is"
            f" {CANCEL_SIGNAL!r}, and not {name!r}"
        )


def check_answer(signal: WorkflowSignal) -> None:
    """Raise ValueError for the name of a signal that answers no question."""
    if not signal.signal_name.startswith(ANSWER_SIGNAL):
        raise ValueError(f"no question is answered by a signal {signal.signal_name!r}")


def check_scope(scope: PauseScope, name: str) -> None:
    """Raise TypeError or ValueError for what cannot be paused."""
    check_member("scope", scope, PauseScope)
    _check_name_in(scope, name)


def check_named_scope(scope: ChangeScope, name: str) -> None:
    """Raise TypeError or ValueError for what nobody can have changed."""
    check_member("scope", scope, ChangeScope)
    _check_name_in(scope, name)


def _check_name_in(scope: PauseScope | ChangeScope, name: str) -> None:
    if scope.value != "ALL":
        check_identifier("name", name)
    elif name != "":
        raise ValueError(f"everything has no name: {name!r}")


def check_identifier(what: str, value: object) -> None:
    """Refuse an identifier that is empty, padded or too long, or that has control characters.

    Raises TypeError if it is not a string, else ValueError.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {value!r}")
    if _is_plain_identifier(value):
        return
    if not value:
        raise ValueError(f"{what} must not be empty")
    if len(value) > MAX_IDENTIFIER_LENGTH:
        raise ValueError(
            f"{what} must have at most {MAX_IDENTIFIER_LENGTH} characters, not {len(value)}"
        )
    if value != value.strip():
        raise ValueError(f"{what} must not begin or end with white space: {value!r}")
    for character in value:
        # Cc: control characters. Cs: half a surrogate pair, which no UTF-8 text can hold.
        if unicodedata.category(character) in {"Cc", "Cs"}:
            raise ValueError(f"{what} must not hold control characters: {value!r}")


@functools.lru_cache(maxsize=4096)
def _is_plain_identifier(value: str) -> bool:
    """Whether it is one beyond doubt: ASCII, as nearly all are."""
    if not (value.isascii() and value.isprintable() and 0 < len(value) <= MAX_IDENTIFIER_LENGTH):
        return False
    return value[0] != " " and value[-1] != " "


def check_step_name(value: object) -> None:
    """As `check_identifier`, leaving room for the suffix of a compensation's name."""
    if isinstance(value, str) and value.endswith(COMPENSATION_SUFFIX):
        value = value.removesuffix(COMPENSATION_SUFFIX)
    check_identifier("step_name", value)


def check_queue_key(queue: str | None, key: object) -> None:
    """As `check_identifier`; a key is of a queue."""
    if queue is None:
        raise ValueError(f"key {key!r} is given without a queue; a key limits what a queue runs")
    check_identifier("key", key)


def check_limit(limit: object, key: object) -> None:
    """As `check_identifier`, of a limit for steps and a key of it."""
    if limit is None:
        raise ValueError(f"limit_key {key!r} is given without a limit")
    check_identifier("limit", limit)
    if key is not None:
        check_identifier("limit_key", key)


def check_tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    """Copy tags. Raises TypeError or ValueError for a name or value that is not valid."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise TypeError(f"tags must be a mapping of names to values, not {tags!r}")
    for name, value in tags.items():
        check_identifier("the name of a tag", name)
        if "=" in name:
            raise ValueError(f"the name of a tag must not hold an equals sign: {name!r}")
        check_identifier(f"the value of the tag {name!r}", value)
    return dict(tags)


def check_integer(what: str, value: object, minimum: int = 0) -> None:
    if type(value) is not int:
        raise TypeError(f"{what} must be an integer, not {value!r}")
    if value < minimum:
        raise ValueError(f"{what} must be at least {minimum}, not {value}")
    if value > MAX_INTEGER:
        raise ValueError(f"{what} must fit into 64 bits, not {value}")


def check_transaction(what: str, function: object, timeout: object) -> None:
    """Raise TypeError or ValueError for what cannot run in a transaction of a store."""
    if not callable(function):
        raise TypeError(f"{what} must be given a function, and then its arguments: {function!r}")
    if inspect.iscoroutinefunction(function):
        raise TypeError(
            f"{what} must be given a function that is not async, since nobody else can write while"
            f" it runs: {function!r}"
        )
    if not isinstance(timeout, timedelta):
        raise TypeError(
            f"the timeout of {what} must be a timedelta, as timedelta(seconds=5), not {timeout!r}"
        )
    if timeout <= timedelta(0):
        raise ValueError(f"the timeout of {what} must not be zero or less: {timeout}")


def check_seconds(what: str, value: object, minimum: int = 0) -> None:
    check_integer(what, value, minimum)
    if isinstance(value, int) and value > MAX_SCHEDULE_SECONDS:
        raise ValueError(f"{what} must be at most {MAX_SCHEDULE_SECONDS}, not {value}")


def check_choice(what: str, value: object, choices: Collection[str]) -> None:
    if value not in choices:
        names = ", ".join(repr(one) for one in choices)
        raise ValueError(f"{what} must be one of {names}, not {value!r}")


def check_text(what: str, value: object, *, required: bool = False) -> None:
    if value is None and not required:
        return
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string{'' if required else ' or None'}, not {value!r}")
    if required and not value:
        raise ValueError(f"{what} must not be empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{what} holds half a surrogate pair: {error}") from None


def check_time(what: str, value: object) -> None:
    if not isinstance(value, datetime):
        raise TypeError(f"{what} must be a datetime, not {value!r}")
    if value.tzinfo is not UTC and value.utcoffset() is None:
        raise ValueError(f"{what} must have a time zone: give datetime(..., tzinfo=UTC)")


def check_optional_time(what: str, value: object) -> None:
    if value is not None:
        check_time(what, value)


def check_member(what: str, value: object, kind: type[StrEnum]) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, not {value!r}")
