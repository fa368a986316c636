"""Where executions are, and what to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from durable_workflow_sqlite.reading.executions import ExecutionSummary
from durable_workflow_sqlite.reading.findings import COUNTED
from durable_workflow_sqlite.reading.overview import (
    BlockedExecution,
    DueTimer,
    ExecutionInTrouble,
    Overview,
    StepBeingUndone,
    StepInDoubt,
    StepNotUndone,
    UnresolvedStep,
)
from durable_workflow_sqlite.reading.pauses import Paused, PausedExecution
from durable_workflow_sqlite.records import check_integer, check_time
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows import json_array, pause_from, readable, readable_time


def overview(file: Readable, now: datetime, *, limit: int) -> Overview:
    """What to look at first; at most `limit` of each kind, and how many there are."""
    check_time("now", now)
    check_integer("limit", limit, minimum=1)
    queries = file.queries
    with file.reading() as connection:
        picked = queries.pick_oldest_unfinished(connection, row_limit=limit)
        oldest = summaries(file, connection, [row.workflow_execution_id for row in picked])
        timers = queries.load_next_timers(connection, row_limit=limit)
        living = living_workers(file, connection)
        in_doubt = queries.load_steps_in_doubt(connection, living=living, row_limit=limit)
        in_doubt_total: int | None = len(in_doubt)
        if in_doubt_total == limit:  # else these are all, and were looked for everywhere
            in_doubt_total = queries.count_steps_in_doubt(connection, living=living)
        cut_off = queries.load_steps_cut_off(connection, row_limit=limit)
        blocked = queries.load_blocked(connection, row_limit=limit)
        in_trouble = queries.load_in_trouble(connection, row_limit=limit)
        not_undone = queries.load_not_undone(connection, row_limit=limit)
        undoing = queries.load_undoing(connection, row_limit=limit)
        next_timers = tuple(
            DueTimer(
                execution_id=row.workflow_execution_id,
                workflow_type=row.workflow_type,
                step_name=row.step_name,
                fire_at=readable_time(row.fire_at),
            )
            for row in timers
        )
        return Overview(
            oldest_unfinished=oldest,
            next_timers=next_timers,
            timers_total=queries.count_pending_timers(connection) or 0,
            timers_overdue=sum(
                timer.fire_at is not None and timer.fire_at <= now for timer in next_timers
            ),
            in_doubt=tuple(map(_step_in_doubt, in_doubt)),
            in_doubt_total=in_doubt_total or 0,
            cut_off=tuple(map(_step_in_doubt, cut_off)),
            cut_off_total=queries.count_steps_cut_off(connection) or 0,
            unresolved=tuple(
                map(_unresolved, queries.load_unresolved(connection, row_limit=limit))
            ),
            unresolved_total=queries.count_unresolved(connection) or 0,
            blocked=tuple(map(_blocked, blocked)),
            blocked_total=queries.count_blocked(connection) or 0,
            in_trouble=tuple(map(_in_trouble, in_trouble)),
            in_trouble_total=queries.count_in_trouble(connection) or 0,
            not_undone=tuple(map(_not_undone, not_undone)),
            not_undone_total=queries.count_not_undone(connection) or 0,
            undoing=tuple(map(_undoing, undoing)),
            undoing_total=queries.count_undoing(connection) or 0,
        )


def paused(file: Readable, *, limit: int) -> Paused:
    """What is paused; at most `limit` of the executions, and how many there are."""
    check_integer("limit", limit, minimum=0)
    queries = file.queries
    with file.reading() as connection:
        wholes = readable(queries.load_pauses(connection), pause_from)
        rows = queries.load_paused(connection, row_limit=limit, at_most=COUNTED)
        total = queries.count_paused(connection) or 0
    return Paused(
        wholes=tuple(wholes),
        executions=tuple(
            PausedExecution(
                id=row.workflow_execution_id,
                workflow_type=row.workflow_type,
                status=row.status,
                paused_at=readable_time(row.paused_at),
                paused_by=row.paused_by,
                paused_reason=row.paused_reason,
                ttl_expires_at=readable_time(row.ttl_expires_at),
                held=row.held,
            )
            for row in rows
        ),
        executions_total=total,
    )


def living_workers(file: Readable, connection: object) -> str:
    """The workers with claims that live, as the queries want them."""
    workers = [row.worker_id for row in file.queries.load_claiming_workers(connection)]
    return json_array(sorted(file.living(workers)))


def summaries(
    file: Readable, connection: object, ids: Sequence[str]
) -> tuple[ExecutionSummary, ...]:
    """Where some executions are, in that order; those that are not there are left out."""
    rows = file.queries.load_summaries(connection, workflow_execution_ids=json_array(ids))
    found = {row.workflow_execution_id: summary(row) for row in rows}
    return tuple(found[one] for one in ids if one in found)


def summary(row: q.LoadSummariesRow) -> ExecutionSummary:
    return ExecutionSummary(
        id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        version=row.version,
        status=row.status,
        created_at=readable_time(row.created_at),
        updated_at=readable_time(row.updated_at),
        current_step=row.current_step,
        current_branch=row.current_branch,
        attempts=row.attempts,
        steps_begun=row.steps_begun,
        steps_completed=row.steps_completed,
        waiting_for=row.waiting_for,
        waiting_until=readable_time(row.waiting_until),
        waiting_since=readable_time(row.waiting_since),
        step_error_type=row.step_error_type,
        step_error_message=row.step_error_message,
        steps_not_undone=row.steps_not_undone,
        signals_pending=row.signals_pending,
        error_type=row.error_type,
        error_message=row.error_message,
        blocked_reason=row.blocked_reason,
        trouble=row.trouble,
        trouble_since=readable_time(row.trouble_since),
        queue=row.queue,
        paused_at=readable_time(row.paused_at),
        paused_by=row.paused_by,
        paused_reason=row.paused_reason,
        paused_scope=row.paused_scope,
        paused_with=row.paused_with,
        status_since=readable_time(row.status_since),
        worker_id=row.worker_id,
        started_at=readable_time(row.started_at),
        parent_execution_id=row.parent_execution_id,
        root_execution_id=row.root_execution_id,
        on_parent_end=row.on_parent_end,
        run_number=row.run_number,
        forked_from=row.forked_from,
        forked_before=row.forked_before,
    )


def _unresolved(row: q.LoadUnresolvedRow) -> UnresolvedStep:
    return UnresolvedStep(
        execution_id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        branch=row.branch,
        step_index=row.step_index,
        attempt=row.attempt,
        step_name=row.step_name,
        question=row.question,
        asked_at=readable_time(row.asked_at),
        started_at=readable_time(row.started_at),
    )


def _step_in_doubt(row: q.LoadStepsInDoubtRow | q.LoadStepsCutOffRow) -> StepInDoubt:
    return StepInDoubt(
        execution_id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        branch=row.branch,
        step_index=row.step_index,
        attempt=row.attempt,
        step_name=row.step_name,
        idempotency_key=row.idempotency_key,
        started_at=readable_time(row.started_at),
        worker_id=row.worker_id,
    )


def _blocked(row: q.LoadBlockedRow) -> BlockedExecution:
    return BlockedExecution(
        id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        version=row.version,
        status=row.status,
        blocked_reason=row.blocked_reason,
        created_at=readable_time(row.created_at),
        updated_at=readable_time(row.updated_at),
    )


def _in_trouble(row: q.LoadInTroubleRow) -> ExecutionInTrouble:
    return ExecutionInTrouble(
        id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        version=row.version,
        status=row.status,
        trouble=row.trouble,
        place=row.place,
        trouble_since=readable_time(row.trouble_since),
        created_at=readable_time(row.created_at),
        updated_at=readable_time(row.updated_at),
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
        failed_at=readable_time(row.failed_at),
    )


def _undoing(row: q.LoadUndoingRow) -> StepBeingUndone:
    return StepBeingUndone(
        execution_id=row.workflow_execution_id,
        workflow_type=row.workflow_type,
        undoing_since=readable_time(row.undoing_since),
        step_name=row.step_name,
        attempts=row.attempts,
        error_message=row.error_message,
        next_try_at=readable_time(row.next_try_at),
    )
