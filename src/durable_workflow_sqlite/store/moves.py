"""What a database knows of its moves, and what that forbids; called within a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from durable_workflow_sqlite.errors import StoreError, StoreMovedError
from durable_workflow_sqlite.moving.database import Move, Moves
from durable_workflow_sqlite.reading.findings import Finding, Level
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.rows import json_array, time_to_text

MOVED: Final = "moved to another database: see workflow_moves"
"""What the triggers of a database say that was moved, or is being moved."""

MOVED_ELSEWHERE: Final = (
    "it was moved to another database, or is being moved; `durable-workflow doctor` says where to"
)


def known(connection: object, queries: Queries) -> Moves:
    found = {
        row.direction: Move(row.move_id, row.other, row.started_at, row.finished_at is not None)
        for row in queries.load_moves(connection)
    }
    return Moves(found.get("OUT"), found.get("IN"))


def check_not_moved(connection: object, queries: Queries, name: str) -> None:
    """Raise StoreError if nobody may work here: StoreMovedError if all of it is elsewhere."""
    moves = known(connection, queries)
    if moves.out is not None:
        raise moved(name, moves.out)
    if moves.into is not None and not moves.into.is_finished:
        raise StoreError(
            f"cannot use {name} yet: what {moves.into.other} holds is being moved here, since"
            f" {moves.into.started_at}; to end that, give the same `durable-workflow move` again"
        )


def moved(name: str, out: Move) -> StoreMovedError:
    if out.is_finished:
        return StoreMovedError(
            f"cannot use {name}: it was moved to {out.other}; use that. What is here is only to be"
            " read"
        )
    return StoreMovedError(
        f"cannot use {name}: it is being moved to {out.other}, since {out.started_at}; to end that,"
        " give the same `durable-workflow move` again, or to give it up, add --give-up"
    )


def findings(moves: Moves) -> Iterator[Finding]:
    """What `doctor` says of moves."""
    again = "give the same `durable-workflow move` again, which goes on with it"
    if moves.out is not None and moves.out.is_finished:
        yield Finding(
            level=Level.WARNING,
            check="moved",
            message=f"all of it was moved to {moves.out.other}, where its executions run now",
            hint="use that database; you may delete this one",
        )
    elif moves.out is not None:
        yield Finding(
            level=Level.WARNING,
            check="moved",
            message=f"all of it is being moved to {moves.out.other}, since {moves.out.started_at}",
            hint=f"{again}; or add --give-up, so that workers can use this database again",
        )
    if moves.into is not None and not moves.into.is_finished:
        yield Finding(
            level=Level.WARNING,
            check="moved",
            message=f"{moves.into.other} is being moved here, since {moves.into.started_at}",
            hint=again,
        )


def begin(
    connection: object,
    queries: Queries,
    direction: Literal["OUT", "IN"],
    move_id: str,
    other: str,
    moved_by: str,
    now: datetime,
    *,
    put_off: str | None,
) -> None:
    queries.insert_move(
        connection,
        direction=direction,
        move_id=move_id,
        other=other,
        started_at=time_to_text(now),
        moved_by=moved_by,
        put_off=put_off,
    )


def end_all_claims(connection: object, queries: Queries, now: datetime) -> None:
    """Put everything that a worker has into the queue, as if each had been told to stop."""
    for worker in queries.load_claiming_workers(connection):
        claims = queries.load_claims_of(connection, worker_id=worker.worker_id)
        ids = json_array([claim.workflow_execution_id for claim in claims])
        queries.delete_claims(connection, workflow_execution_ids=ids)
        queries.put_into_queue(connection, workflow_execution_ids=ids, now=time_to_text(now))
