"""The raw floor: a plain loop over sqlite3 that runs the same transactions, and nothing else.

    python -m benchmarks.floor WORK FILE [--tiny]

The statements are those of sql/queries, as the library sends them, with the same PRAGMAs and
schema. It is meant to be the fastest loop that does so in Python: the time is read once, the values
of the two statements of a step are tuples, nothing is checked, and nobody checkpoints the log.
tests/benchmarks holds it to the statements that the library sends.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from benchmarks.sizes import TINY, WHOLE, Sizes
from durable_workflow_sqlite import migrate
from durable_workflow_sqlite.store.adapter import number_parameters
from durable_workflow_sqlite.store.connection import configure, open_connection, wait_for_locks
from durable_workflow_sqlite.store.sql import load_queries

Figures = dict[str, float]

_QUERIES: Final[Any] = load_queries()
_NOW: Final = datetime.now(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def sequential(connection: sqlite3.Connection, sizes: Sizes) -> Figures:
    """One execution, from its start to its end."""
    run_one(connection, sizes.warm_up)
    began = time.perf_counter()
    run_one(connection, sizes.steps)
    return {"steps/s": sizes.steps / (time.perf_counter() - began)}


def idempotent(connection: sqlite3.Connection, sizes: Sizes) -> Figures:
    """The same, with steps of which only the outcome is recorded."""
    run_one(connection, sizes.warm_up, writes=1)
    began = time.perf_counter()
    run_one(connection, sizes.steps, writes=1)
    return {"steps/s": sizes.steps / (time.perf_counter() - began)}


def at_once(connection: sqlite3.Connection, sizes: Sizes) -> Figures:
    """A hundred executions that take turns, with one transaction for a turn of all of them."""
    run_one(connection, sizes.warm_up)
    began = time.perf_counter()
    run_many(connection, sizes.at_once, sizes.steps_each)
    return {"steps/s": sizes.at_once * sizes.steps_each / (time.perf_counter() - began)}


def starts(connection: sqlite3.Connection, sizes: Sizes) -> Figures:
    """Executions without steps, one after another."""
    for _ in range(sizes.warm_up):
        run_one(connection, 0)
    began = time.perf_counter()
    for _ in range(sizes.starts):
        run_one(connection, 0)
    return {"executions/s": sizes.starts / (time.perf_counter() - began)}


def run_one(connection: sqlite3.Connection, steps: int, *, writes: int = 2) -> None:
    """writes: of each step; with one, only its outcome is recorded."""
    execute = connection.execute
    execute("begin immediate")
    execution_id, token = start(connection)
    execute("commit")
    for number in range(steps if writes == 1 else 0):
        execute("begin immediate")
        execute(RECORD, record_values(execution_id, number, str(number), token))
        execute("commit")
    for number in range(steps if writes == 2 else 0):
        execute("begin immediate")
        execute(INTENT, intent_values(execution_id, number, token))
        execute("commit")
        execute("begin immediate")
        execute(OUTCOME, outcome_values(execution_id, number, str(number), token))
        execute("commit")
    execute("begin immediate")
    finish(connection, execution_id, token, steps)
    execute("commit")


def run_many(connection: sqlite3.Connection, count: int, steps: int) -> None:
    execute = connection.execute
    execute("begin immediate")
    started = [start(connection) for _ in range(count)]
    execute("commit")
    for number in range(steps):
        output = str(number)
        execute("begin immediate")
        for one, token in started:
            execute(INTENT, intent_values(one, number, token))
        execute("commit")
        execute("begin immediate")
        for one, token in started:
            execute(OUTCOME, outcome_values(one, number, output, token))
        execute("commit")
    execute("begin immediate")
    for one, token in started:
        finish(connection, one, token, steps)
    execute("commit")


def intent_values(one: str, number: int, token: int) -> tuple[Any, ...]:
    return (one, "", number, 1, "step", "STEP", _NOW, 1, token, one)


def outcome_values(one: str, number: int, output: str, token: int) -> tuple[Any, ...]:
    return ("COMPLETED", output, _NOW, number + 1, one, "", number, 1, token, one)


def record_values(one: str, number: int, output: str, token: int) -> tuple[Any, ...]:
    step = (one, "", number, 1, "step", "STEP")
    return (*step, "COMPLETED", output, _NOW, _NOW, number + 1, 1, token, one)


def start(connection: sqlite3.Connection) -> tuple[str, int]:
    execution_id = str(uuid.uuid4())
    record = _ROW | {"workflow_execution_id": execution_id}
    _INSERT_EXECUTION(connection, record)
    (token,) = _INSERT_CLAIM(connection, record).fetchone()
    return execution_id, token


def finish(connection: sqlite3.Connection, execution_id: str, token: int, steps: int) -> None:
    record = _ROW | {
        "workflow_execution_id": execution_id,
        "status": "COMPLETED",
        "current_step": steps,
        "output_data": str(steps),
        "fencing_token": token,
    }
    _UPDATE_EXECUTION(connection, record)
    _DELETE_CLAIM(connection, record)
    _LOAD_PENDING(connection, record).fetchone()


_ROW: Final[dict[str, Any]] = {
    "workflow_id": "steps@1",
    "workflow_type": "steps",
    "version": 1,
    "status": "RUNNING",
    "current_step": 0,
    "input_data": "[1000]",
    "output_data": None,
    "error_type": None,
    "error_message": None,
    "ttl_expires_at": None,
    "guarantee": "BEST_EFFORT_BACKGROUND",
    "priority": 0,
    "recovery_count": 0,
    "blocked_reason": None,
    "available_at": None,
    "last_event": None,
    "started_at": _NOW,
    "parent_execution_id": None,
    "root_execution_id": None,
    "on_parent_end": None,
    "run_number": 1,
    "forked_from": None,
    "forked_before": None,
    "replay_origin": None,
    "queue": None,
    "queue_key": None,
    "dedup_id": None,
    "debounced": 0,
    "created_at": _NOW,
    "updated_at": _NOW,
    "worker_id": "w" * 32,
    "claimed_at": _NOW,
}


def _sql_of(query: str, *expected: str) -> str:
    """A statement that takes its values by number, and is given them in this order."""
    sql, names = number_parameters(getattr(_QUERIES, query).sql)
    if names != list(expected):
        raise ValueError(f"{query} takes {names}; the floor gives it {list(expected)}")
    return sql


def _statement(query: str) -> Callable[[sqlite3.Connection, dict[str, Any]], sqlite3.Cursor]:
    """A statement that picks its values from a record."""
    sql, names = number_parameters(getattr(_QUERIES, query).sql)
    if len(names) == 1:
        (name,) = names
        return lambda connection, record: connection.execute(sql, (record[name],))
    values = itemgetter(*names)
    return lambda connection, record: connection.execute(sql, values(record))


INTENT: Final = _sql_of(
    "begin_step",
    "workflow_execution_id",
    "branch",
    "step_index",
    "attempt",
    "step_name",
    "kind",
    "started_at",
    "worker_number",
    "fencing_token",
    "workflow_execution_id",
)
OUTCOME: Final = _sql_of(
    "complete_step",
    "status",
    "output_data",
    "completed_at",
    "event",
    "workflow_execution_id",
    "branch",
    "step_index",
    "attempt",
    "fencing_token",
    "workflow_execution_id",
)
RECORD: Final = _sql_of(
    "record_step",
    "workflow_execution_id",
    "branch",
    "step_index",
    "attempt",
    "step_name",
    "kind",
    "status",
    "output_data",
    "started_at",
    "completed_at",
    "event",
    "worker_number",
    "fencing_token",
    "workflow_execution_id",
)
_INSERT_WORKFLOW: Final = _statement("insert_workflow_if_absent")
_INSERT_EXECUTION: Final = _statement("insert_execution_if_absent")
_INSERT_CLAIM: Final = _statement("insert_claim")
_UPDATE_EXECUTION: Final = _statement("update_execution")
_DELETE_CLAIM: Final = _statement("delete_claim_of")
_LOAD_PENDING: Final = _statement("load_pending")

WORKS: dict[str, Callable[[sqlite3.Connection, Sizes], Figures]] = {
    work.__name__: work for work in (sequential, idempotent, at_once, starts)
}


def prepare(connection: sqlite3.Connection) -> None:
    """Set the PRAGMAs, and migrate, as the library does when it opens a file."""
    wait_for_locks(connection)
    configure(connection)
    migrate(connection)
    _INSERT_WORKFLOW(connection, _ROW)


def run(work: str, file: Path, sizes: Sizes) -> Figures:
    with closing(open_connection(file)) as connection:
        prepare(connection)
        return WORKS[work](connection, sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description="Do one work by plain SQL, and print its figures.")
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tiny", action="store_true", help="as little of it as runs")
    arguments = parser.parse_args()
    sizes = TINY if arguments.tiny else WHOLE
    print(json.dumps(run(arguments.work, arguments.file, sizes)))


if __name__ == "__main__":
    main()
