"""What people ask of a database, answered without changing it: `Inspector`.

The command line and the dashboard read with it. It opens a file read-only, beside running workers
or without any, and reads rows that the engine would refuse, too: those that somebody broke by hand
are what one looks for here.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    COMPENSATION_SUFFIX,
    RESOLVED_SIGNAL,
    TERMINAL_STATUSES,
    ExecutionStatus,
    SignalStatus,
    StepStatus,
    TimerStatus,
    check_integer,
    check_time,
)
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.backup import Progress, back_up
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS
from durable_workflow_sqlite.store.file_rights import give_rights_of
from durable_workflow_sqlite.store.lost_rows import Gap, gaps
from durable_workflow_sqlite.store.migrations import SCHEMA_VERSION, load_migrations, pending
from durable_workflow_sqlite.store.picking import AT_ONCE, pick, place_of
from durable_workflow_sqlite.store.reading_workers import (
    AttemptWorker,
    Staff,
    name_of,
    staff,
    workers_of_attempts,
)
from durable_workflow_sqlite.store.rows import (
    json_array,
    readable_time,
    text_to_time,
    time_to_text,
)
from durable_workflow_sqlite.store.selection import Place, Selection
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.store.sqlite_errors import is_busy, translate
from durable_workflow_sqlite.store.unreadable import json_problem, unreadable_rows
from durable_workflow_sqlite.store.worker_lock import is_locked, lock_files

_time = readable_time

ERROR_LENGTH: Final = 200
"""How much of an error message a table shows: see `beginning`."""


class ExecutionCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many executions of a workflow have a status.

    `workflow_type` and `version` are None where the definition is not in the file.
    """

    workflow_type: str | None
    version: int | None
    status: str
    count: int


class ExecutionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Where one execution is. A time that cannot be read is None.

    status: one of `ExecutionStatus`, or whatever somebody wrote there.
    current_step: the step that runs, or the wait that ends first; of a FAILED execution, the step
        that failed; else None. `current_branch` ('' for the main line) and `attempts` are its own.
    steps_begun, steps_completed: how far it has got.
    waiting_for: "signal NAME", "time", "retry of STEP" or "worker"; None while something runs.
    waiting_until: when that wait ends by itself; None if it does not. waiting_since: its begin.
    step_error_type, step_error_message: of the last attempt of the current step.
    steps_not_undone: how many compensations have failed for good, and nobody has acknowledged.
    signals_pending: signals that came and that nothing has waited for yet.
    blocked_reason: why no worker may claim it; None if it is not blocked.
    trouble: why its last worker left it as it is; None once a worker has it, and when it is final.
        trouble_since: since when each worker that had it left it.
    status_since: since when it has its status; for a final one, its end.
    worker_id: who has claimed it; it may be dead, see `ExecutionDetails.claim`.
    started_at: when a worker first claimed it.
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
    status_since: datetime | None
    worker_id: str | None
    started_at: datetime | None

    def is_in_back_off(self, now: datetime) -> bool:
        """Whether it waits until the time of its next attempt, which `retry` can make now."""
        is_retry = (self.waiting_for or "").startswith("retry of ")
        return is_retry and self.waiting_until is not None and self.waiting_until > now


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some executions, the newest first; `next` asks for those after them, None if there are none.

    `next` is text without meaning, safe in a URL.
    """

    rows: tuple[ExecutionSummary, ...]
    next: str | None


class DueTimer(msgspec.Struct, frozen=True, kw_only=True):
    """A deadline that is to come, or to be noticed."""

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
    `updated_at` is when it was left the last time, `trouble_since` when the first time.
    """

    id: str
    workflow_type: str | None
    version: int | None
    status: str
    trouble: str
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


class Prunable(msgspec.Struct, frozen=True, kw_only=True):
    """How many finished executions of a workflow would be deleted, and when the oldest ended."""

    workflow_type: str | None
    version: int | None
    status: str
    count: int
    oldest: datetime | None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What to look at first: some of each, and how many of each there are.

    timers_overdue says how many of `next_timers` should have been noticed already. `cut_off` are
    the steps that were cancelled while they ran, may have taken effect, and are not undone.
    """

    oldest_unfinished: tuple[ExecutionSummary, ...]
    next_timers: tuple[DueTimer, ...]
    timers_total: int
    timers_overdue: int
    in_doubt: tuple[StepInDoubt, ...]
    in_doubt_total: int
    cut_off: tuple[StepInDoubt, ...]
    cut_off_total: int
    blocked: tuple[BlockedExecution, ...]
    blocked_total: int
    in_trouble: tuple[ExecutionInTrouble, ...]
    in_trouble_total: int
    not_undone: tuple[StepNotUndone, ...]
    not_undone_total: int
    undoing: tuple[StepBeingUndone, ...]
    undoing_total: int


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


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """A deadline of an execution; status: PENDING, FIRED or CANCELLED."""

    id: str
    step_name: str
    fire_at: datetime | None
    status: str
    created_at: datetime | None


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A message to an execution; status: PENDING, DELIVERED, EXPIRED or REFUSED.

    `payload` is JSON text. `refused_reason` says why no wait could read it.
    """

    id: int
    signal_name: str
    payload: str | None
    status: str
    created_at: datetime | None
    refused_reason: str | None


class UntakenSignal(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that nothing takes, and why."""

    id: int
    execution_id: str
    signal_name: str
    why: str


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who works on an execution; `is_alive` is False for a worker that died with it.

    worker: HOST:PROCESS_ID; None where its row is gone.
    """

    worker_id: str
    worker: str | None
    fencing_token: int
    claimed_at: datetime | None
    is_alive: bool


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What a person did to an execution. `details` is JSON text."""

    act: str
    actor: str
    details: str | None
    created_at: datetime | None


class ExecutionDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the file knows of one execution.

    queued_seconds: from its creation until a worker first claimed it, or until now.
    running_seconds: from then to its end, or until now; its waits count.
    steps: every attempt, in the order of their beginnings. compensations: the same for them.
    steps_cut_off: how many steps were cut off, and nobody has dealt with that.
    tags: what it was given to find it by. audit_log: what people did to it, except signals.
    problems: what in its rows no engine can read, in short sentences.
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

    @property
    def is_not_undone(self) -> bool:
        """Whether it has ended, and a compensation of it has failed for good."""
        return self.summary.status in TERMINAL_STATUSES and self.summary.steps_not_undone > 0


class Inspector:
    """A database opened to be read, by one thread. `open` it, and close it or use `with`.

    Each method reads the file as it is at one moment. Raises StoreError: StoreBusyError,
    StoreCorruptError, and what `open` raises.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, is_immutable: bool) -> None:
        self._path = path
        self._connection = connection
        self._is_immutable = is_immutable
        self._queries = load_queries()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a file that has the schema of this library; it is neither created nor migrated.

        Raises StoreError for a file that is not there or has an older schema, SchemaTooNewError
        for a newer one, MigrationError for another application's, StoreCorruptError.
        """
        # The lock files of workers are named after the file, not after a link to it.
        file = Path(os.path.realpath(path))
        if not file.is_file():
            raise StoreError(f"there is no file {file}; give the path of a database")
        connection, is_immutable = _connect(file)
        try:
            missing = pending(connection, load_migrations())
            if missing:
                version = SCHEMA_VERSION - len(missing)
                raise StoreError(
                    f"{file} has schema version {version}, and this library reads version"
                    f" {SCHEMA_VERSION}; migrate it with"
                    f" `durable-workflow migrate --db {file}`"
                )
        except BaseException:
            connection.close()
            raise
        return cls(file, connection, is_immutable=is_immutable)

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        return self._path

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """One moment of the file, for the modules of the store that read it by their subject."""
        return self._reading()

    def data_version(self) -> int:
        """A number that is another one whenever somebody else has committed; it costs nothing."""
        with self._reading() as connection:
            (version,) = connection.execute("pragma data_version").fetchone()
            return int(version)

    def counts(self) -> list[ExecutionCount]:
        """How many executions there are, by workflow type, version and status."""
        with self._reading() as connection:
            return [
                ExecutionCount(
                    workflow_type=row.workflow_type,
                    version=row.version,
                    status=row.status,
                    count=row.total,
                )
                for row in self._queries.count_executions(connection)
            ]

    def overview(self, now: datetime, *, limit: int = 10) -> Overview:
        """What to look at first; at most `limit` of each kind, and how many there are."""
        check_time("now", now)
        check_integer("limit", limit, minimum=1)
        with self._reading() as connection:
            picked = self._queries.pick_oldest_unfinished(connection, row_limit=limit)
            oldest = self._summaries(connection, [row.workflow_execution_id for row in picked])
            timers = self._queries.load_next_timers(connection, row_limit=limit)
            living = self._living_workers(connection)
            in_doubt = self._queries.load_steps_in_doubt(connection, living=living, row_limit=limit)
            in_doubt_total: int | None = len(in_doubt)
            if in_doubt_total == limit:  # else these are all, and were looked for everywhere
                in_doubt_total = self._queries.count_steps_in_doubt(connection, living=living)
            cut_off = self._queries.load_steps_cut_off(connection, row_limit=limit)
            blocked = self._queries.load_blocked(connection, row_limit=limit)
            in_trouble = self._queries.load_in_trouble(connection, row_limit=limit)
            not_undone = self._queries.load_not_undone(connection, row_limit=limit)
            undoing = self._queries.load_undoing(connection, row_limit=limit)
            next_timers = tuple(
                DueTimer(
                    execution_id=row.workflow_execution_id,
                    workflow_type=row.workflow_type,
                    step_name=row.step_name,
                    fire_at=_time(row.fire_at),
                )
                for row in timers
            )
            return Overview(
                oldest_unfinished=oldest,
                next_timers=next_timers,
                timers_total=self._queries.count_pending_timers(connection) or 0,
                timers_overdue=sum(
                    timer.fire_at is not None and timer.fire_at <= now for timer in next_timers
                ),
                in_doubt=tuple(map(_step_in_doubt, in_doubt)),
                in_doubt_total=in_doubt_total or 0,
                cut_off=tuple(map(_step_in_doubt, cut_off)),
                cut_off_total=self._queries.count_steps_cut_off(connection) or 0,
                blocked=tuple(map(_blocked, blocked)),
                blocked_total=self._queries.count_blocked(connection) or 0,
                in_trouble=tuple(map(_in_trouble, in_trouble)),
                in_trouble_total=self._queries.count_in_trouble(connection) or 0,
                not_undone=tuple(map(_not_undone, not_undone)),
                not_undone_total=self._queries.count_not_undone(connection) or 0,
                undoing=tuple(map(_undoing, undoing)),
                undoing_total=self._queries.count_undoing(connection) or 0,
            )

    def list_executions(
        self,
        statuses: Collection[str] = (),
        workflow_type: str | None = None,
        id_prefix: str | None = None,
        created_before: datetime | None = None,
        created_after: datetime | None = None,
        after: str | None = None,
        limit: int = 50,
        *,
        in_trouble: bool = False,
    ) -> Page:
        """A page of executions, the newest first.

        statuses: those of any of them, all for none. created_after: at that time, or later.
        in_trouble: only those that their worker left as they are.
        after: the `next` of the page before. Raises ValueError for one that is none.
        """
        return self.page(
            Selection(
                statuses=statuses,
                workflow_type=workflow_type,
                id_prefix=id_prefix,
                created_before=created_before,
                created_after=created_after,
                in_trouble=in_trouble,
            ),
            after,
            limit,
        )

    def page(self, selection: Selection, after: str | None = None, limit: int = 50) -> Page:
        """A page of the executions of a selection, the newest first; see `list_executions`."""
        check_integer("limit", limit, minimum=1)
        place = Place.first(selection)
        if after is not None:
            place = min(place, Place.from_text(after))
        with self._reading() as connection:
            picked = pick(connection, selection, place, limit + 1)
            page = picked[:limit]
            return Page(
                rows=self._summaries(connection, [row.workflow_execution_id for row in page]),
                next=place_of(page[-1]).to_text() if len(picked) > limit else None,
            )

    def execution_ids(self, selection: Selection) -> Iterator[list[str]]:
        """The ids of all executions of a selection, the newest first, some at a time.

        Those that are created meanwhile are left out; each list is of a moment of its own.
        """
        place = Place.first(selection)
        while True:
            with self._reading() as connection:
                picked = pick(connection, selection, place, AT_ONCE)
            if picked:
                yield [row.workflow_execution_id for row in picked]
            if len(picked) < AT_ONCE:
                return
            place = place_of(picked[-1])

    def summaries(self, execution_ids: Sequence[str]) -> tuple[ExecutionSummary, ...]:
        """Where some executions are, in that order; those that are not there are left out."""
        with self._reading() as connection:
            return self._summaries(connection, list(execution_ids))

    def workflow_types(self) -> list[str]:
        """The types of the workflows that the file knows."""
        with self._reading() as connection:
            found = self._queries.load_workflows(connection)
            return list(dict.fromkeys(row.workflow_type for row in found))

    def execution(self, execution_id: str) -> ExecutionDetails | None:
        """Everything of one execution; None if no execution has this id."""
        with self._reading() as connection:
            data = self._queries.load_execution_data(connection, workflow_execution_id=execution_id)
            if data is None:
                return None
            (row,) = self._queries.load_summaries(
                connection, workflow_execution_ids=json_array([execution_id])
            )
            steps = self._queries.load_checkpoints(connection, workflow_execution_id=execution_id)
            workers = workers_of_attempts(connection, execution_id)
            timers = self._queries.load_timers(connection, workflow_execution_id=execution_id)
            signals = self._queries.load_signals(connection, workflow_execution_id=execution_id)
            claim = self._queries.load_claim(connection, workflow_execution_id=execution_id)
            worker = None if claim is None else name_of(connection, claim.worker_id)
            tags = self._queries.load_tags(
                connection, workflow_execution_ids=json_array([execution_id])
            )
            acts = self._queries.load_audit_log(connection, workflow_execution_id=execution_id)
            cut_off = self._queries.count_cut_off_of(connection, workflow_execution_id=execution_id)
        steps.sort(key=lambda step: (step.started_at or step.completed_at or "", step.id))
        problems = _Problems()
        problems.status("status", row.status, _EXECUTION_STATUSES)
        for column in ("created_at", "updated_at"):
            problems.time(column, getattr(row, column))
        for column in ("ttl_expires_at", "available_at", "started_at"):
            problems.time(column, getattr(data, column))
        problems.json("input_data", data.input_data)
        for column in ("priority", "recovery_count"):
            problems.integer(column, getattr(data, column))
        if data.last_event is not None:
            problems.integer("last_event", data.last_event)
        if row.workflow_type is None:
            problems.found.append("its workflow_id is not in the table workflows")
        for step in steps:
            where = f"step {step.step_name!r}, attempt {step.attempt}: "
            problems.status(f"{where}status", step.status, _STEP_STATUSES)
            for column in ("started_at", "completed_at", "due_at"):
                problems.time(where + column, getattr(step, column))
            if step.event is not None:
                problems.integer(f"{where}event", step.event)
            problems.json(f"{where}output_data", step.output_data)
        for timer in timers:
            problems.time(f"timer {timer.step_name!r}: fire_at", timer.fire_at)
            problems.status(f"timer {timer.step_name!r}: status", timer.status, _TIMER_STATUSES)
        for signal in signals:
            where = f"signal {signal.signal_name!r}: "
            problems.time(f"{where}created_at", signal.created_at)
            problems.status(f"{where}status", signal.status, _SIGNAL_STATUSES)
            if signal.status != "REFUSED":
                problems.json(f"{where}payload", signal.payload)
        attempts = [_attempt(one, workers.get(one.id)) for one in steps if one.attempt != 0]
        compensations = [_attempt(one, workers.get(one.id)) for one in steps if one.attempt == 0]
        return ExecutionDetails(
            summary=_summary(row),
            input_data=data.input_data,
            output_data=data.output_data,
            ttl_expires_at=_time(data.ttl_expires_at),
            guarantee=data.guarantee,
            recovery_count=data.recovery_count,
            priority=data.priority,
            available_at=_time(data.available_at),
            queued_seconds=row.queued_seconds,
            running_seconds=row.running_seconds,
            claim=None
            if claim is None
            else Claim(
                worker_id=claim.worker_id,
                worker=worker,
                fencing_token=claim.fencing_token,
                claimed_at=_time(claim.claimed_at),
                is_alive=self._is_alive(claim.worker_id),
            ),
            steps=tuple(attempts),
            compensations=tuple(compensations),
            timers=tuple(
                Timer(
                    id=timer.workflow_timer_id,
                    step_name=timer.step_name,
                    fire_at=_time(timer.fire_at),
                    status=timer.status,
                    created_at=_time(timer.created_at),
                )
                for timer in timers
            ),
            signals=tuple(
                Signal(
                    id=signal.workflow_signal_id,
                    signal_name=signal.signal_name,
                    payload=signal.payload,
                    status=signal.status,
                    created_at=_time(signal.created_at),
                    refused_reason=signal.refused_reason,
                )
                for signal in signals
            ),
            steps_cut_off=cut_off or 0,
            tags={tag.name: tag.value for tag in tags},
            audit_log=tuple(
                Act(
                    act=one.act,
                    actor=one.actor,
                    details=one.details,
                    created_at=_time(one.created_at),
                )
                for one in acts
            ),
            problems=tuple(problems.found),
        )

    def prunable(self, before: datetime, statuses: Collection[str]) -> list[Prunable]:
        """What `delete_completed_before` would delete of these statuses now."""
        check_time("before", before)
        with self._reading() as connection:
            return [
                Prunable(
                    workflow_type=row.workflow_type,
                    version=row.version,
                    status=row.status,
                    count=row.total,
                    oldest=_time(row.oldest),
                )
                for row in self._queries.count_prunable(
                    connection,
                    statuses=json_array(sorted(map(str, statuses))),
                    before=time_to_text(before),
                )
            ]

    def living(self, worker_ids: Collection[str]) -> set[str]:
        """Those of some workers that live."""
        return {one for one in worker_ids if self._is_alive(one)}

    def count_living_workers(self) -> int:
        """How many workers have the file open."""
        return len(self.living(lock_files(self._path)))

    def staff(self, counts: Sequence[ExecutionCount] | None = None, *, limit: int = 10) -> Staff:
        """Who works, and what there is to do; at most `limit` of what each worker does now.

        counts: what `counts` gave, if the caller has it: to count is what takes time.
        """
        check_integer("limit", limit, minimum=0)
        unfinished: dict[tuple[str | None, int | None], int] | None = None
        if counts is not None:
            unfinished = {(one.workflow_type, one.version): 0 for one in counts}
            for one in counts:
                if one.status not in TERMINAL_STATUSES:
                    unfinished[one.workflow_type, one.version] += one.count
        living = self.living(lock_files(self._path))
        with self._reading() as connection:
            return staff(connection, living, unfinished, limit=limit)

    # What `checkup` looks at

    def pragma(self, pragma: str) -> list[tuple[Any, ...]]:
        """The rows of a PRAGMA that only reads."""
        with self._reading() as connection:
            return connection.execute(f"pragma {pragma}").fetchall()

    def schema_objects(self) -> list[tuple[str, str, str]]:
        """Tables, indexes, views and triggers: kind, name, and the statement that made it."""
        with self._reading() as connection:
            rows = self._queries.load_schema_objects(connection)
            return [(row.type, row.name, row.sql) for row in rows]

    def unreadable(self) -> list[str]:
        """What no engine can read, a sentence for each row; see `unreadable.unreadable_rows`."""
        with self._reading() as connection:
            return list(unreadable_rows(connection))

    def gaps(self, *, finished: bool, limit: int) -> list[Gap]:
        """What is missing in the histories of unfinished executions; see `lost_rows.gaps`.

        finished: also of those that FAILED or were CANCELLED, which may be run or undone again.
        """
        statuses = [one.value for one in ExecutionStatus if not one.is_terminal]
        if finished:
            statuses += [ExecutionStatus.FAILED.value, ExecutionStatus.CANCELLED.value]
        with self._reading() as connection:
            return list(gaps(connection, statuses, limit))

    def open_of_completed(self, limit: int) -> list[tuple[str, str]]:
        """Waits that have not ended, of executions that are COMPLETED: ids, and names."""
        with self._reading() as connection:
            rows = self._queries.load_open_of_completed(connection, row_limit=limit)
            return [(row.workflow_execution_id, row.step_name) for row in rows]

    def tokens_may_come_again(self) -> bool:
        """Whether SQLite has lost which fencing tokens were given before."""
        with self._reading() as connection:
            (row,) = self._queries.load_token_sequence(connection)
        return row.given < row.used or (row.given == 0 and bool(row.has_begun))

    def refused_signals(self, limit: int) -> list[UntakenSignal]:
        """The last signals that were refused where the execution still waits for one like it."""
        with self._reading() as connection:
            return [
                UntakenSignal(
                    id=row.workflow_signal_id,
                    execution_id=row.workflow_execution_id,
                    signal_name=row.signal_name,
                    why=row.refused_reason or "",
                )
                for row in self._queries.load_refused_signals(connection, row_limit=limit)
            ]

    def stray_signals(self, limit: int) -> list[UntakenSignal]:
        """The pending signals that nothing will take."""
        with self._reading() as connection:
            return [
                UntakenSignal(
                    id=row.workflow_signal_id,
                    execution_id=row.workflow_execution_id,
                    signal_name=row.signal_name,
                    why=f"the execution is {row.status}"
                    if row.status in TERMINAL_STATUSES
                    else "no such name is known",
                )
                for row in self._queries.load_stray_signals(
                    connection,
                    cancel_signal=CANCEL_SIGNAL,
                    resolved_signal=RESOLVED_SIGNAL,
                    row_limit=limit,
                )
            ]

    def taken_over(self, least: int, *, limit: int) -> tuple[list[tuple[str, int]], int]:
        """What was taken over from dead workers so often: the ids, how often, and how many."""
        with self._reading() as connection:
            rows = self._queries.load_taken_over(connection, least=least, row_limit=limit)
            total = self._queries.count_taken_over(connection, least=least)
            return [(row.workflow_execution_id, row.recovery_count) for row in rows], total or 0

    def claims_by_worker(self) -> dict[str, int]:
        """How many executions each worker has claimed, dead ones too."""
        with self._reading() as connection:
            workers = self._queries.load_claiming_workers(connection)
            return {
                row.worker_id: len(
                    self._queries.load_claims_of(connection, worker_id=row.worker_id)
                )
                for row in workers
            }

    def back_up(self, copy: Path, on_progress: Progress | None = None) -> None:
        """Copy the file as it is at one moment; see `backup.back_up`."""
        back_up(self._connection, self._path, copy, on_progress=on_progress)

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        """One moment of the file. An error of SQLite comes out as a StoreError."""
        if self._is_immutable and _log_length(self._path):
            # Somebody began to write since; what was read as unchanging no longer is.
            self._connection.close()
            self._connection, self._is_immutable = _connect(self._path)
        try:
            self._connection.execute("begin")
            try:
                yield self._connection
            finally:
                with suppress(sqlite3.Error):
                    self._connection.execute("rollback")
        except sqlite3.Error as error:
            raise translate(error, "read", str(self._path)) from error

    def _summaries(
        self, connection: sqlite3.Connection, ids: list[str]
    ) -> tuple[ExecutionSummary, ...]:
        found = {
            row.workflow_execution_id: _summary(row)
            for row in self._queries.load_summaries(
                connection, workflow_execution_ids=json_array(ids)
            )
        }
        return tuple(found[one] for one in ids if one in found)

    def _living_workers(self, connection: sqlite3.Connection) -> str:
        workers = [row.worker_id for row in self._queries.load_claiming_workers(connection)]
        return json_array([one for one in workers if self._is_alive(one)])

    def _is_alive(self, worker_id: str) -> bool:
        try:
            return is_locked(self._path, worker_id)
        except OSError as error:
            raise StoreError(f"cannot tell whether a worker lives: {error}") from error


_EXECUTION_STATUSES: Final = frozenset(ExecutionStatus)
_STEP_STATUSES: Final = frozenset(StepStatus)
_TIMER_STATUSES: Final = frozenset(TimerStatus)
_SIGNAL_STATUSES: Final = frozenset(SignalStatus)


class _Problems:
    """What the engine could not read of the rows of one execution."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def time(self, column: str, text: str | None) -> None:
        if text is not None:
            try:
                text_to_time(column, text)
            except ValueError as error:
                self.found.append(str(error))

    def integer(self, column: str, number: object) -> None:
        if not isinstance(number, int):
            self.found.append(f"{column} {number!r} is not an integer")

    def json(self, column: str, text: str | None) -> None:
        if (problem := json_problem(column, text)) is not None:
            self.found.append(problem)

    def status(self, column: str, text: str, known: Collection[str]) -> None:
        if text not in known:
            self.found.append(f"{column} {text!r} is none of {', '.join(sorted(known))}")


def _connect(file: Path) -> tuple[sqlite3.Connection, bool]:
    """Open a file read-only; say whether it is taken to be one that nobody can change.

    To read a file in WAL mode, SQLite makes a file beside it. It cannot do so in a folder that is
    read-only, or on a full disk. Where there is no log, SQLite may be told that the file does not
    change.
    """
    for is_immutable in (False, True):
        uri = f"{file.as_uri()}?mode=ro{'&immutable=1' if is_immutable else ''}"
        try:
            connection = sqlite3.connect(
                uri,
                uri=True,
                timeout=BUSY_TIMEOUT_MS / 1000,
                isolation_level=None,
                check_same_thread=False,  # whoever drops it last may close it
            )
        except sqlite3.Error as error:
            raise translate(error, "open", str(file)) from error
        try:
            connection.execute("pragma schema_version").fetchone()
        except sqlite3.Error as error:
            connection.close()
            if is_immutable or is_busy(error) or _log_length(file):
                raise translate(error, "read", str(file)) from error
            if not {error.sqlite_errorcode, error.sqlite_errorcode & 0xFF} & _NO_SHARED_MEMORY:
                raise translate(error, "read", str(file)) from error
        else:
            for suffix in ("-wal", "-shm"):  # it may have made them
                give_rights_of(str(file), f"{file}{suffix}")
            return connection, is_immutable
    raise AssertionError  # the second round returns or raises


_NO_SHARED_MEMORY: Final = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    # The disk is full.
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
}


def _log_length(file: Path) -> int:
    try:
        return Path(f"{file}-wal").stat().st_size
    except OSError:
        return 0


def _summary(row: q.LoadSummariesRow) -> ExecutionSummary:
    return ExecutionSummary(
        id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        version=row.version,
        status=row.status,
        created_at=_time(row.created_at),
        updated_at=_time(row.updated_at),
        current_step=row.current_step,
        current_branch=row.current_branch,
        attempts=row.attempts,
        steps_begun=row.steps_begun,
        steps_completed=row.steps_completed,
        waiting_for=row.waiting_for,
        waiting_until=_time(row.waiting_until),
        waiting_since=_time(row.waiting_since),
        step_error_type=row.step_error_type,
        step_error_message=row.step_error_message,
        steps_not_undone=row.steps_not_undone,
        signals_pending=row.signals_pending,
        error_type=row.error_type,
        error_message=row.error_message,
        blocked_reason=row.blocked_reason,
        trouble=row.trouble,
        trouble_since=_time(row.trouble_since),
        status_since=_time(row.status_since),
        worker_id=row.worker_id,
        started_at=_time(row.started_at),
    )


def beginning(text: str | None) -> str | None:
    """A text for a table: at most `ERROR_LENGTH` characters, the last a … where it is cut."""
    if text is None or len(text) <= ERROR_LENGTH:
        return text
    return f"{text[: ERROR_LENGTH - 1]}…"


def _step_in_doubt(row: q.LoadStepsInDoubtRow | q.LoadStepsCutOffRow) -> StepInDoubt:
    return StepInDoubt(
        execution_id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        branch=row.branch,
        step_index=row.step_index,
        attempt=row.attempt,
        step_name=row.step_name,
        idempotency_key=row.idempotency_key,
        started_at=_time(row.started_at),
        worker_id=row.worker_id,
    )


def _blocked(row: q.LoadBlockedRow) -> BlockedExecution:
    return BlockedExecution(
        id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        version=row.version,
        status=row.status,
        blocked_reason=row.blocked_reason,
        created_at=_time(row.created_at),
        updated_at=_time(row.updated_at),
    )


def _in_trouble(row: q.LoadInTroubleRow) -> ExecutionInTrouble:
    return ExecutionInTrouble(
        id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        version=row.version,
        status=row.status,
        trouble=row.trouble,
        trouble_since=_time(row.trouble_since),
        created_at=_time(row.created_at),
        updated_at=_time(row.updated_at),
    )


def _not_undone(row: q.LoadNotUndoneRow) -> StepNotUndone:
    return StepNotUndone(
        execution_id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        status=row.status,
        branch=row.branch,
        step_index=row.step_index,
        step_name=row.step_name,
        error_type=row.error_type,
        error_message=row.error_message,
        failed_at=_time(row.failed_at),
    )


def _undoing(row: q.LoadUndoingRow) -> StepBeingUndone:
    return StepBeingUndone(
        execution_id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        undoing_since=_time(row.undoing_since),
        step_name=row.step_name,
        attempts=row.attempts,
        error_message=row.error_message,
        next_try_at=_time(row.next_try_at),
    )


def _attempt(step: q.StepCheckpointRow, worker: AttemptWorker | None) -> StepAttempt:
    return StepAttempt(
        branch=step.branch,
        step_index=step.step_index,
        attempt=step.attempt,
        step_name=step.step_name.removesuffix(COMPENSATION_SUFFIX)
        if step.attempt == 0
        else step.step_name,
        kind=step.kind,
        status=step.status,
        started_at=_time(step.started_at),
        completed_at=_time(step.completed_at),
        due_at=_time(step.due_at),
        input_data=step.input_data,
        output_data=step.output_data,
        error_type=step.error_type,
        error_message=step.error_message,
        idempotency_key=step.idempotency_key,
        compensate_ref=step.compensate_ref,
        worker_number=None if worker is None else worker.worker_number,
        worker=None if worker is None else worker.worker,
    )
