"""Rows that somebody broke by hand: found by what looks suspect, and judged as the engine does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import msgspec

from durable_workflow_sqlite.errors import StoreCorruptError
from durable_workflow_sqlite.store import rows
from durable_workflow_sqlite.store.queries import Queries

R = TypeVar("R")

SUSPECTS: Final = 1000
"""So many rows of a table are judged, at most."""


def unreadable_rows(queries: Queries, connection: object) -> Iterator[str]:
    """What no engine can read: a sentence for each row that says which it is, and why.

    Of every execution; and of those that are not over, of their steps, timers and signals. What
    should be JSON and is none counts, too.
    """
    known = {row.workflow_id for row in queries.load_workflows(connection)}
    for execution in queries.load_suspect_executions(connection, row_limit=SUSPECTS):
        what = f"execution {execution.workflow_execution_id!r}"
        problem = _problem(execution, rows.execution_from)
        if problem is None and execution.workflow_id not in known:
            problem = f"{what} is of workflow {execution.workflow_id!r}, which is not in the file"
        yield from _said(problem or json_problem(f"{what}: input_data", execution.input_data))
    for step in queries.load_suspect_checkpoints(connection, row_limit=SUSPECTS):
        what = f"checkpoint {step.id} of execution {step.workflow_execution_id!r}"
        problem = _problem(step, rows.checkpoint_from)
        yield from _said(problem or json_problem(f"{what}: output_data", step.output_data))
    for timer in queries.load_suspect_timers(connection, row_limit=SUSPECTS):
        yield from _said(_problem(timer, rows.timer_from))
    for signal in queries.load_suspect_signals(connection, row_limit=SUSPECTS):
        what = f"signal {signal.workflow_signal_id} to execution {signal.workflow_execution_id!r}"
        problem = _problem(signal, rows.signal_from)
        yield from _said(problem or json_problem(f"{what}: payload", signal.payload))


def json_problem(column: str, text: object) -> str | None:
    """What is wrong with what should be JSON, or null; None if nothing is."""
    if text is None:
        return None
    try:
        msgspec.json.decode(text if isinstance(text, str) else "", type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError) as error:
        return f"{column} is not JSON: {error}"
    return None


def _problem(row: R, convert: Callable[[R], object]) -> str | None:
    try:
        convert(row)
    except StoreCorruptError as error:
        return str(error)
    return None


def _said(problem: str | None) -> Iterator[str]:
    if problem is not None:
        yield problem
