"""What people ask about workers and queues: who lives, at what, and what waits for whom."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.rows import json_array, readable_time
from durable_workflow_sqlite.store.sql import load_queries


class Served(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A workflow that a worker runs."""

    workflow_type: str
    version: int


class WorkUnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that holds a slot of a worker, and the step that has run for longest.

    step_name: None between two steps; then `since` is when the worker claimed the execution.
    """

    execution_id: str
    workflow_type: str | None
    step_name: str | None
    attempt: int | None
    since: datetime | None


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that lives, or a dead one that still has claims.

    number, host, process_id, program, started_at: None if its row is not written yet, or gone.
    slots: how many executions it runs at once; None if that is not known.
    serves: the workflows that it runs. executions: how many it has, those that wait included.
    slots_in_use: in how many of them code runs. doing: some of these, the longest first.
    """

    worker_id: str
    is_alive: bool
    number: int | None
    host: str | None
    process_id: int | None
    program: str | None
    started_at: datetime | None
    slots: int | None
    slots_in_use: int
    executions: int
    serves: tuple[Served, ...]
    doing: tuple[WorkUnderWay, ...]

    @property
    def name(self) -> str:
        """HOST:PROCESS_ID, or the beginning of its id."""
        return f"{self.worker_id[:8]}…" if self.host is None else f"{self.host}:{self.process_id}"


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """The unfinished executions of a workflow; see the view `workflow_queue`.

    living_workers: how many of the living workers run this workflow.
    """

    workflow_type: str
    version: int
    unfinished: int
    unfinished_since: datetime | None
    due: int
    due_since: datetime | None
    running: int
    waiting: int
    in_trouble: int
    blocked: int
    living_workers: int

    @property
    def name(self) -> str:
        return f"{self.workflow_type} v{self.version}"


class Staff(msgspec.Struct, frozen=True, kw_only=True):
    """Who works, and what there is to do, at one moment.

    workers: the living ones, and dead ones that still have claims.
    """

    workers: tuple[WorkerState, ...]
    queues: tuple[QueueState, ...]

    @property
    def living(self) -> tuple[WorkerState, ...]:
        return tuple(one for one in self.workers if one.is_alive)

    @property
    def left_behind(self) -> int:
        """How many executions dead workers have."""
        return sum(one.executions for one in self.workers if not one.is_alive)

    @property
    def unknown(self) -> tuple[QueueState, ...]:
        """The workflows with something to do that no living worker runs."""
        return tuple(
            one for one in self.queues if not one.living_workers and one.unfinished > one.blocked
        )


class AttemptWorker(NamedTuple):
    """Who began an attempt: `worker` is HOST:PROCESS_ID, or `worker NUMBER`."""

    worker_number: int
    worker: str


def staff(
    connection: sqlite3.Connection,
    living: Collection[str],
    unfinished: Mapping[tuple[str | None, int | None], int] | None,
    *,
    limit: int,
) -> Staff:
    """Read it; a caller that has counted already need not do so again.

    living: the ids of the workers that live. unfinished: how many executions there are, by type
        and version; None: they are to be counted. limit: of what each worker does now.
    """
    queries = load_queries()
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
    under_way = _under_way(queries.load_work_under_way(connection) if claims else [])
    workers = [
        _worker(one, one in living, rows.get(one), claims.get(one, 0), under_way, served, limit)
        for one in ids
    ]
    if unfinished is None:
        unfinished = {
            (row.workflow_type, row.version): row.unfinished
            for row in queries.count_unfinished(connection)
        }
    workers.sort(key=lambda one: (not one.is_alive, one.number is None, one.number, one.worker_id))
    known = [one for worker in workers if worker.is_alive for one in worker.serves]
    return Staff(
        workers=tuple(workers),
        queues=tuple(
            _queue(row, known, unfinished.get((row.workflow_type, row.version), 0))
            for row in queries.load_queues(connection)
        ),
    )


def name_of(connection: sqlite3.Connection, worker_id: str) -> str | None:
    """HOST:PROCESS_ID of a worker; None if it has no row."""
    found = load_queries().load_workers(connection, worker_ids=json_array([worker_id]))
    return f"{found[0].host}:{found[0].process_id}" if found else None


def workers_of_attempts(
    connection: sqlite3.Connection, execution_id: str
) -> dict[int, AttemptWorker]:
    """Who began the attempts of an execution, by the ids of their checkpoints."""
    found = load_queries().load_attempt_workers(connection, workflow_execution_id=execution_id)
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
    )


def _queue(row: q.LoadQueuesRow, known: list[Served], unfinished: int) -> QueueState:
    others = row.due + row.running + row.in_trouble + row.blocked
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
        living_workers=sum(
            (one.workflow_type, one.version) == (row.workflow_type, row.version) for one in known
        ),
    )
