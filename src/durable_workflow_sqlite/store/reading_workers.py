"""What people ask about workers and queues: who lives, at what, and what waits for whom."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from durable_workflow_sqlite.reading.executions import ExecutionCount
from durable_workflow_sqlite.reading.findings import SHOWN
from durable_workflow_sqlite.reading.workers import (
    QueueState,
    Served,
    Workers,
    WorkerState,
    WorkUnderWay,
)
from durable_workflow_sqlite.records import TERMINAL_STATUSES, check_integer
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.processes import is_stopped
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows import json_array, readable_time


class AttemptWorker(NamedTuple):
    """Who began an attempt: `worker` is HOST:PROCESS_ID, or `worker NUMBER`."""

    worker_number: int
    worker: str


def read_workers(file: Readable, counts: Sequence[ExecutionCount] | None, *, limit: int) -> Workers:
    """Who works, and what there is to do; at most `limit` of what each worker does now.

    counts: what was counted, if the caller has it: to count is what takes time.
    """
    check_integer("limit", limit, minimum=0)
    unfinished: dict[tuple[str | None, int | None], int] | None = None
    if counts is not None:
        unfinished = {(one.workflow_type, one.version): 0 for one in counts}
        for one in counts:
            if one.status not in TERMINAL_STATUSES:
                unfinished[one.workflow_type, one.version] += one.count
    living = file.all_living()
    with file.reading() as connection:
        return _read(file.queries, connection, living, unfinished, limit)


def _read(
    queries: q.Queries,
    connection: object,
    living: Collection[str],
    unfinished: Mapping[tuple[str | None, int | None], int] | None,
    limit: int,
) -> Workers:
    claims = {row.worker_id: row.total for row in queries.count_claims_by_worker(connection)}
    ids = sorted({*living, *claims})
    rows = {
        row.worker_id: row for row in queries.load_workers(connection, worker_ids=json_array(ids))
    }
    served: dict[int, list[Served]] = {}
    numbers = json_array([row.worker_number for row in rows.values()])
    for one in queries.load_served(connection, worker_numbers=numbers):
        served.setdefault(one.worker_number, []).append(
            Served(workflow_type=one.workflow_type, version=one.version)
        )
    queues: dict[int, list[str]] = {}
    for row in queries.load_served_queues(connection, worker_numbers=numbers):
        queues.setdefault(row.worker_number, []).append(row.queue)
    under_way = _under_way(queries.load_work_under_way(connection) if claims else [])
    workers = [
        _worker(
            one, one in living, rows.get(one), claims.get(one, 0), under_way, served, queues, limit
        )
        for one in ids
    ]
    workers = [
        _with_what_it_holds(queries, connection, one) if one.is_stopped else one for one in workers
    ]
    if unfinished is None:
        unfinished = {
            (row.workflow_type, row.version): row.unfinished
            for row in queries.count_unfinished(connection)
        }
    workers.sort(key=lambda one: (not one.is_alive, one.number is None, one.number, one.worker_id))
    known = [one for worker in workers if worker.is_alive for one in worker.serves]
    return Workers(
        workers=tuple(workers),
        queues=tuple(
            _queue(row, known, unfinished.get((row.workflow_type, row.version), 0))
            for row in queries.load_queues(connection)
        ),
    )


def _with_what_it_holds(queries: q.Queries, connection: object, worker: WorkerState) -> WorkerState:
    found = queries.load_claimed_by(connection, worker_id=worker.worker_id, row_limit=SHOWN)
    ids = tuple(row.workflow_execution_id for row in found)
    last = readable_time(found[0].updated_at) if found else None
    return msgspec.structs.replace(worker, holds=ids, last_write_at=last)


def row_of(queries: q.Queries, connection: object, worker_id: str) -> q.LoadWorkersRow | None:
    """Who a worker is; None if it has no row."""
    found = queries.load_workers(connection, worker_ids=json_array([worker_id]))
    return found[0] if found else None


def workers_of_attempts(
    queries: q.Queries, connection: object, execution_id: str
) -> dict[int, AttemptWorker]:
    """Who began the attempts of an execution, by the ids of their checkpoints."""
    found = queries.load_attempt_workers(connection, workflow_execution_id=execution_id)
    return {row.checkpoint_id: AttemptWorker(row.worker_number, row.worker) for row in found}


def _under_way(rows: list[q.LoadWorkUnderWayRow]) -> dict[str, list[WorkUnderWay]]:
    """By worker, what holds a slot: what does nothing but wait for its next attempt does not."""
    by_execution: dict[tuple[str, str], list[q.LoadWorkUnderWayRow]] = {}
    for row in rows:
        by_execution.setdefault((row.worker_id, row.workflow_execution_id), []).append(row)
    found: dict[str, list[WorkUnderWay]] = {}
    for (worker_id, execution_id), steps in by_execution.items():
        running = [one for one in steps if one.waiting_for is None]
        if running:
            first = min(running, key=lambda one: one.started_at or "")
            found.setdefault(worker_id, []).append(
                WorkUnderWay(
                    execution_id=execution_id,
                    workflow_type=first.workflow_type,
                    step_name=first.step_name,
                    attempt=first.attempt,
                    since=readable_time(first.started_at or first.claimed_at),
                    waits_for_children=first.step_name is None and bool(first.waits_for_children),
                )
            )
    return found


def _worker(
    worker_id: str,
    is_alive: bool,
    row: q.LoadWorkersRow | None,
    claims: int,
    under_way: dict[str, list[WorkUnderWay]],
    served: dict[int, list[Served]],
    queues: dict[int, list[str]],
    limit: int,
) -> WorkerState:
    doing = under_way.get(worker_id, [])
    doing.sort(key=lambda one: (one.since is None, one.since, one.execution_id))
    return WorkerState(
        worker_id=worker_id,
        is_alive=is_alive,
        number=None if row is None else row.worker_number,
        host=None if row is None else row.host,
        process_id=None if row is None else row.process_id,
        program=None if row is None else row.program,
        started_at=None if row is None else readable_time(row.started_at),
        slots=None if row is None else row.max_concurrent,
        slots_in_use=len(doing) if is_alive else 0,
        executions=claims,
        serves=() if row is None else tuple(served.get(row.worker_number, ())),
        doing=tuple(doing[:limit]) if is_alive else (),
        is_stopped=is_alive and row is not None and is_stopped(row.host, row.process_id),
        queues=None
        if row is None or row.worker_number not in queues
        else tuple(queues[row.worker_number]),
    )


def _queue(row: q.LoadQueuesRow, known: list[Served], unfinished: int) -> QueueState:
    others = row.due + row.running + row.in_trouble + row.blocked + row.paused
    unfinished = max(unfinished, others)  # they may have been counted a moment before
    return QueueState(
        workflow_type=row.workflow_type,
        version=row.version,
        unfinished=unfinished,
        unfinished_since=readable_time(row.unfinished_since),
        due=row.due,
        due_since=readable_time(row.due_since),
        running=row.running,
        waiting=unfinished - others,
        in_trouble=row.in_trouble,
        blocked=row.blocked,
        paused=row.paused,
        living_workers=sum(
            (one.workflow_type, one.version) == (row.workflow_type, row.version) for one in known
        ),
    )
