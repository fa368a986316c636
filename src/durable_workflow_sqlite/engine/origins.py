"""What a fork repeats of the executions whose records it began with: their clock, their chance.

Random numbers come from the id of an execution, and its clock begins when it was first claimed. The
copied records tell what came of both, so a replay of them needs the same. Behind them, a fork has
random numbers of its own.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from durable_workflow_sqlite.errors import StoreCorruptError
from durable_workflow_sqlite.records import WorkflowExecution

Seeds = tuple[tuple[str, int], ...]
"""Executions, the first one first: up to which event the random numbers are those of each."""


class Origin(msgspec.Struct, frozen=True):
    """began_at: when the clock of the function begins."""

    began_at: datetime
    seeds: Seeds


def origin_of(record: WorkflowExecution) -> Origin:
    """Of any execution; its own where it began with no records of another one.

    Raises StoreCorruptError for what the library has not written.
    """
    if record.replay_origin is None:
        return Origin(record.started_at or record.created_at, ())
    try:
        return msgspec.json.decode(record.replay_origin, type=Origin)
    except msgspec.MsgspecError as error:
        raise StoreCorruptError(
            f"replay_origin of execution {record.workflow_execution_id!r} cannot be read: {error}."
            " Somebody has edited it: correct it, or restore a backup",
            workflow_execution_id=record.workflow_execution_id,
        ) from error


def origin_of_fork(source: WorkflowExecution, until: int) -> str:
    """What a fork needs that has the records of an execution up to an event; JSON."""
    before = origin_of(source)
    seeds = [(one, min(end, until)) for one, end in before.seeds]
    seeds.append((source.workflow_execution_id, until))
    return msgspec.json.encode(Origin(before.began_at, tuple(seeds))).decode()


def cut_at(record: WorkflowExecution, until: int) -> str | None:
    """The origin of a fork whose records behind an event are deleted: it runs again from there."""
    if record.replay_origin is None:
        return None
    before = origin_of(record)
    seeds = tuple((one, min(end, until)) for one, end in before.seeds)
    return msgspec.json.encode(Origin(before.began_at, seeds)).decode()


def ancestors(record: WorkflowExecution) -> list[str]:
    """An execution, and those whose records it may have."""
    return [record.workflow_execution_id, *(one for one, _ in origin_of(record).seeds)]
