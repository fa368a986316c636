"""The rows of a checkpointer: functions that a store calls with its connection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, Final, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol

from durable_workflow_sqlite.own_statements import OwnStatements

CHECKPOINTS: Final = "langgraph_checkpoints"
WRITES: Final = "langgraph_writes"

NO_LIMIT: Final = 2**63 - 1

Statement = tuple[str, dict[str, Any]]
"""The name of a statement, and its values."""


class Found(NamedTuple):
    """A checkpoint as it is stored, with what the nodes after it have written."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_id: str | None
    type: str
    checkpoint: bytes
    metadata: str
    writes: list[tuple[str, str, str, bytes]]


def create(connection: Any) -> None:
    """Make the tables, if they are not there."""
    own = _statements(connection)
    own.rows(connection, "lock", name=_name_of(connection))
    own.rows(connection, "create_checkpoints")
    own.rows(connection, "create_writes")


def are_there(connection: Any) -> bool:
    """Whether the tables are there."""
    own = _statements(connection)
    return bool(own.value(connection, "has_table", name=_name_of(connection)))


def write(connection: Any, statements: Sequence[Statement]) -> None:
    """Send statements in their order."""
    own = _statements(connection)
    for name, some in groupby(statements, key=lambda one: one[0]):
        own.run_many(connection, name, [values for _, values in some])


def find(connection: Any, thread_id: str, ns: str, checkpoint_id: str | None) -> Found | None:
    """One checkpoint; without an id, the last one."""
    own = _statements(connection)
    place = {"thread_id": thread_id, "checkpoint_ns": ns}
    if checkpoint_id is None:
        rows = own.rows(connection, "get_latest", **place)
    else:
        rows = own.rows(connection, "get_checkpoint", **place, checkpoint_id=checkpoint_id)
    return _with_writes(connection, rows[0]) if rows else None


def find_all(connection: Any, name: str, values: Mapping[str, Any]) -> list[Found]:
    """The checkpoints that a statement finds."""
    own = _statements(connection)
    return [_with_writes(connection, row) for row in own.rows(connection, name, **values)]


def find_history(
    connection: Any,
    serde: SerializerProtocol,
    place: tuple[str, str, str | None],
    channels: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """What each channel was written since it was last stored whole: the oldest first.

    place: the thread, the namespace and the id of the checkpoint whose ancestors are read.
    """
    newest_first: dict[str, list[list[tuple[str, str, Any]]]] = {name: [] for name in channels}
    seeds: dict[str, Any] = {}
    seen: set[str] = set()
    here = find(connection, *place)
    while here is not None and len(seeds) < len(newest_first):
        seen.add(here.checkpoint_id)
        if here.parent_id is None or here.parent_id in seen:
            break
        here = find(connection, here.thread_id, here.checkpoint_ns, here.parent_id)
        if here is None:
            break
        stored = serde.loads_typed((here.type, here.checkpoint))["channel_values"]
        for name, writes in newest_first.items():
            if name in seeds:
                continue
            writes.append(
                [
                    (task_id, channel, serde.loads_typed((type_, value)))
                    for task_id, channel, type_, value in here.writes
                    if channel == name
                ]
            )
            if name in stored:
                seeds[name] = stored[name]
    found: dict[str, dict[str, Any]] = {}
    for name, groups in newest_first.items():
        found[name] = {"writes": [one for group in reversed(groups) for one in group]}
        if name in seeds:
            found[name]["seed"] = seeds[name]
    return found


def delete_threads(connection: Any, thread_ids: Sequence[str]) -> None:
    """Delete all of some threads."""
    own = _statements(connection)
    own.rows(connection, "delete_threads_writes", thread_ids=json.dumps(thread_ids))
    own.rows(connection, "delete_threads_checkpoints", thread_ids=json.dumps(thread_ids))


def delete_runs(connection: Any, run_ids: Sequence[str]) -> None:
    """Delete the checkpoints of some runs."""
    own = _statements(connection)
    own.rows(connection, "delete_runs_writes", run_ids=json.dumps(run_ids))
    own.rows(connection, "delete_runs_checkpoints", run_ids=json.dumps(run_ids))


def copy(connection: Any, source: str, target: str) -> None:
    """Copy all of a thread to another one."""
    own = _statements(connection)
    own.rows(connection, "copy_checkpoints", source=source, target=target)
    own.rows(connection, "copy_writes", source=source, target=target)


def prune(connection: Any, serde: SerializerProtocol, thread_id: str) -> None:
    """Keep the last checkpoint of each namespace of a thread, and what it is made from."""
    own = _statements(connection)
    for (ns,) in own.rows(connection, "get_namespaces", thread_id=thread_id):
        kept = _needed(connection, serde, thread_id, ns)
        place = {"thread_id": thread_id, "checkpoint_ns": ns, "latest": kept[0]}
        own.rows(connection, "prune_writes", **place, kept=json.dumps(kept))
        own.rows(connection, "prune_checkpoints", **place, kept=json.dumps(kept))


def _needed(connection: Any, serde: SerializerProtocol, thread_id: str, ns: str) -> list[str]:
    """The last checkpoint, and the ancestors from which LangGraph makes its DeltaChannels.

    A DeltaChannel is stored whole now and then. In between, there is only what was written to it.
    LangGraph counts in the metadata how often that was, for each channel.
    """
    here = find(connection, thread_id, ns, None)
    assert here is not None  # the namespace has checkpoints
    kept = [here.checkpoint_id]
    missing = set(json.loads(here.metadata).get("counters_since_delta_snapshot") or ())
    missing &= set(serde.loads_typed((here.type, here.checkpoint))["channel_versions"])
    while True:
        missing -= set(serde.loads_typed((here.type, here.checkpoint))["channel_values"])
        if not missing or here.parent_id is None or here.parent_id in kept:
            return kept
        here = find(connection, thread_id, ns, here.parent_id)
        if here is None:
            return kept
        kept.append(here.checkpoint_id)


def _with_writes(connection: Any, row: tuple[Any, ...]) -> Found:
    thread_id, ns, checkpoint_id = row[:3]
    place = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
    own = _statements(connection)
    writes: list[Any] = own.rows(connection, "get_writes", **place)
    return Found._make((*row, writes))


def _statements(connection: Any) -> OwnStatements:
    """The statements; on PostgreSQL, the tables are in the schema of the store."""
    return _in_schema(getattr(connection, "store_schema", None))


@cache
def _in_schema(schema: str | None) -> OwnStatements:
    names = (CHECKPOINTS, WRITES)
    return OwnStatements("langgraph", {one: f"{schema}.{one}" if schema else one for one in names})


def _name_of(connection: Any) -> str:
    schema = getattr(connection, "store_schema", None)
    return f"{schema}.{WRITES}" if schema else WRITES
