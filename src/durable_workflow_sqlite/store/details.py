"""Everything of one execution, also where somebody has broken its rows by hand."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Final

from durable_workflow_sqlite.errors import StoreCorruptError
from durable_workflow_sqlite.reading.executions import (
    Act,
    Claim,
    ExecutionDetails,
    Fork,
    PassedPatch,
    Signal,
    StepAttempt,
    Timer,
)
from durable_workflow_sqlite.records import (
    COMPENSATION_SUFFIX,
    ExecutionStatus,
    Progress,
    SignalStatus,
    StepStatus,
    TimerStatus,
)
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.overview import summary
from durable_workflow_sqlite.store.processes import is_stopped
from durable_workflow_sqlite.store.questions import load_questions, question_from
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.reading_workers import (
    AttemptWorker,
    row_of,
    workers_of_attempts,
)
from durable_workflow_sqlite.store.rows import (
    json_array,
    progress_from,
    readable_time,
    text_to_time,
)
from durable_workflow_sqlite.store.trees import tree_below
from durable_workflow_sqlite.store.unreadable import json_problem

QUESTIONS_AT_ONCE: Final = 100
"""How many questions of one execution are shown."""
FORKS_SHOWN: Final = 100


def execution(file: Readable, execution_id: str) -> ExecutionDetails | None:
    """Everything of one execution; None if no execution has this id."""
    queries = file.queries
    with file.reading() as connection:
        data = queries.load_execution_data(connection, workflow_execution_id=execution_id)
        if data is None:
            return None
        (row,) = queries.load_summaries(
            connection, workflow_execution_ids=json_array([execution_id])
        )
        steps = queries.load_checkpoints(connection, workflow_execution_id=execution_id)
        workers = workers_of_attempts(queries, connection, execution_id)
        timers = queries.load_timers(connection, workflow_execution_id=execution_id)
        signals = queries.load_signals(connection, workflow_execution_id=execution_id)
        claim = queries.load_claim_of(connection, workflow_execution_id=execution_id)
        worker = None if claim is None else row_of(queries, connection, claim.worker_id)
        tags = queries.load_tags(connection, workflow_execution_ids=json_array([execution_id]))
        acts = queries.load_audit_log(connection, workflow_execution_id=execution_id)
        patches = queries.load_patches(connection, workflow_execution_id=execution_id)
        reports = queries.load_progress(connection, workflow_execution_id=execution_id)
        cut_off = queries.count_cut_off_of(connection, workflow_execution_id=execution_id)
        forks = queries.load_forks(connection, forked_from=execution_id, row_limit=FORKS_SHOWN)
        children = tree_below(queries, connection, execution_id)
        asked = load_questions(connection, queries, None, execution_id, QUESTIONS_AT_ONCE)
    steps.sort(key=lambda step: (step.started_at or step.completed_at or "", step.id))
    problems = _problems_of(row, data, steps, timers, signals)
    attempts = [_attempt(one, workers.get(one.id)) for one in steps if one.attempt != 0]
    compensations = [_attempt(one, workers.get(one.id)) for one in steps if one.attempt == 0]
    return ExecutionDetails(
        summary=summary(row),
        input_data=data.input_data,
        output_data=data.output_data,
        ttl_expires_at=readable_time(data.ttl_expires_at),
        guarantee=data.guarantee,
        recovery_count=data.recovery_count,
        priority=data.priority,
        available_at=readable_time(data.available_at),
        queued_seconds=row.queued_seconds,
        running_seconds=row.running_seconds,
        claim=None if claim is None else _claim(claim, worker, file.is_alive(claim.worker_id)),
        steps=tuple(attempts),
        compensations=tuple(compensations),
        timers=tuple(map(_timer, timers)),
        signals=tuple(map(_signal, signals)),
        steps_cut_off=cut_off or 0,
        tags={tag.name: tag.value for tag in tags},
        audit_log=tuple(map(_act, acts)),
        problems=tuple(problems),
        children=children,
        patches=tuple(map(_patch, patches)),
        questions=tuple(map(question_from, asked)),
        forks=tuple(map(_fork, forks)),
        progress=_progress(reports),
    )


def _claim(row: q.LoadClaimOfRow, worker: q.LoadWorkersRow | None, is_alive: bool) -> Claim:
    stopped = None
    if worker is not None and is_alive and is_stopped(worker.host, worker.process_id):
        stopped = worker.process_id
    return Claim(
        worker_id=row.worker_id,
        worker=None if worker is None else f"{worker.host}:{worker.process_id}",
        fencing_token=row.fencing_token,
        claimed_at=readable_time(row.claimed_at),
        is_alive=is_alive,
        stopped_process=stopped,
    )


def _patch(row: q.WorkflowPatchRow) -> PassedPatch:
    return PassedPatch(
        patch_name=row.patch_name,
        branch=row.branch,
        event=row.event,
        passed_at=readable_time(row.passed_at),
    )


def _progress(rows: list[q.WorkflowProgressReportRow]) -> tuple[Progress, ...]:
    """Without what somebody has edited so that it cannot be read: no engine reads it."""
    readable: list[Progress] = []
    for row in rows:
        with suppress(StoreCorruptError):
            readable.append(progress_from(row))
    return tuple(readable)


def _fork(row: q.LoadForksRow) -> Fork:
    return Fork(
        id=row.workflow_execution_id,
        before=row.forked_before,
        status=row.status,
        created_at=readable_time(row.created_at),
    )


def _timer(row: q.WorkflowTimerRow) -> Timer:
    return Timer(
        id=row.workflow_timer_id,
        step_name=row.step_name,
        fire_at=readable_time(row.fire_at),
        status=row.status,
        created_at=readable_time(row.created_at),
    )


def _signal(row: q.LoadSignalsRow) -> Signal:
    return Signal(
        id=row.workflow_signal_id,
        signal_name=row.signal_name,
        payload=row.payload,
        status=row.status,
        created_at=readable_time(row.created_at),
        refused_reason=row.refused_reason,
        key=row.signal_key,
    )


def _act(row: q.LoadAuditLogRow) -> Act:
    return Act(
        act=row.act,
        actor=row.actor,
        details=row.details,
        created_at=readable_time(row.created_at),
    )


def _problems_of(
    row: q.LoadSummariesRow,
    data: q.LoadExecutionDataRow,
    steps: list[q.StepCheckpointRow],
    timers: list[q.WorkflowTimerRow],
    signals: list[q.LoadSignalsRow],
) -> list[str]:
    """What no engine can read of it, in short sentences."""
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
    return problems.found


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
        started_at=readable_time(step.started_at),
        completed_at=readable_time(step.completed_at),
        due_at=readable_time(step.due_at),
        input_data=step.input_data,
        output_data=step.output_data,
        error_type=step.error_type,
        error_message=step.error_message,
        idempotency_key=step.idempotency_key,
        compensate_ref=step.compensate_ref,
        worker_number=None if worker is None else worker.worker_number,
        worker=None if worker is None else worker.worker,
    )
