"""The raw floor: a plain loop over sqlite3 that runs the same transactions, and nothing else.

    python benchmarks/floor.py WORK FILE

The statements are those of sql/queries, as they stand there, with the same PRAGMAs and schema.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.ours import AT_ONCE, STARTS, STEPS, STEPS_EACH
from durable_workflow_sqlite import migrate
from durable_workflow_sqlite.store.connection import configure, open_connection, wait_for_locks
from durable_workflow_sqlite.store.sql import load_queries

QUERIES: Any = load_queries()


def sequential(connection: sqlite3.Connection) -> dict[str, float]:
    execution_id, token = start(connection)
    for number in range(50):
        step(connection, execution_id, token, number)
    began = time.perf_counter()
    for number in range(50, 50 + STEPS):
        step(connection, execution_id, token, number)
    return {"per second": STEPS / (time.perf_counter() - began)}


def at_once(connection: sqlite3.Connection) -> dict[str, float]:
    """A hundred executions that take turns, with one transaction for a turn of all of them."""
    executions = [start(connection) for _ in range(AT_ONCE)]
    began = time.perf_counter()
    for number in range(STEPS_EACH):
        for write in (intent, outcome):
            connection.execute("begin immediate")
            for execution_id, token in executions:
                write(connection, execution_id, token, number)
            connection.execute("commit")
    return {"per second": AT_ONCE * STEPS_EACH / (time.perf_counter() - began)}


def starts(connection: sqlite3.Connection) -> dict[str, float]:
    finish(connection, *start(connection))
    began = time.perf_counter()
    for _ in range(STARTS):
        finish(connection, *start(connection))
    return {"per second": STARTS / (time.perf_counter() - began)}


def step(connection: sqlite3.Connection, execution_id: str, token: int, number: int) -> None:
    for write in (intent, outcome):
        connection.execute("begin immediate")
        write(connection, execution_id, token, number)
        connection.execute("commit")


def intent(connection: sqlite3.Connection, execution_id: str, token: int, number: int) -> None:
    connection.execute(
        QUERIES.insert_intent.sql,
        {
            "workflow_execution_id": execution_id,
            "branch": "",
            "step_index": number,
            "attempt": 1,
            "step_name": "step",
            "kind": "STEP",
            "status": "INTENT",
            "started_at": NOW,
            "fencing_token": token,
        },
    )


def outcome(connection: sqlite3.Connection, execution_id: str, token: int, number: int) -> None:
    connection.execute(
        QUERIES.update_outcome.sql,
        {
            "status": "COMPLETED",
            "output_data": str(number),
            "completed_at": NOW,
            "workflow_execution_id": execution_id,
            "branch": "",
            "step_index": number,
            "attempt": 1,
            "step_name": "step",
            "started_at": NOW,
            "fencing_token": token,
        },
    )


def start(connection: sqlite3.Connection) -> tuple[str, int]:
    execution_id = str(uuid.uuid4())
    connection.execute("begin immediate")
    by_id = {"workflow_execution_id": execution_id}
    connection.execute(QUERIES.load_execution.sql, by_id).fetchone()
    workflow = {"workflow_id": "w@1", "workflow_type": "w", "version": 1, "created_at": NOW}
    connection.execute(QUERIES.insert_workflow_if_absent.sql, workflow)
    connection.execute(QUERIES.insert_execution_if_absent.sql, execution(execution_id, "RUNNING"))
    claim = {"workflow_execution_id": execution_id, "worker_id": "w" * 32, "claimed_at": NOW}
    (token,) = connection.execute(QUERIES.insert_claim.sql, claim).fetchone()
    connection.execute("commit")
    return execution_id, token


def finish(connection: sqlite3.Connection, execution_id: str, token: int) -> None:
    by_id = {"workflow_execution_id": execution_id}
    final = execution(execution_id, "COMPLETED") | {"fencing_token": token, "output_data": "null"}
    connection.execute("begin immediate")
    connection.execute(QUERIES.upsert_execution.sql, final)
    connection.execute(QUERIES.delete_claim_of.sql, by_id)
    connection.execute(QUERIES.cancel_pending_timers.sql, by_id)
    connection.execute(QUERIES.expire_pending_signals.sql, by_id)
    connection.execute("commit")


def execution(execution_id: str, status: str) -> dict[str, Any]:
    return {
        "workflow_execution_id": execution_id,
        "workflow_id": "w@1",
        "status": status,
        "current_step": 0,
        "input_data": "[]",
        "output_data": None,
        "error_type": None,
        "error_message": None,
        "ttl_expires_at": None,
        "guarantee": "BEST_EFFORT_BACKGROUND",
        "recovery_count": 0,
        "blocked_reason": None,
        "created_at": NOW,
        "updated_at": NOW,
    }


NOW = datetime.now(UTC).isoformat(timespec="microseconds")[:26] + "Z"
WORKS: dict[str, Callable[[sqlite3.Connection], dict[str, float]]] = {
    work.__name__: work for work in (sequential, at_once, starts)
}


def main(work: str, file: Path) -> dict[str, float]:
    connection = open_connection(file)
    wait_for_locks(connection)
    configure(connection)
    migrate(connection)
    try:
        return WORKS[work](connection)
    finally:
        connection.close()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
