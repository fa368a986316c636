"""Gaps in what is recorded of executions: rows that somebody deleted, found by what is left."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.rows import json_array

MOST_NUMBERS = 5
"""How many numbers of events are named of one execution."""


class MissingRows(msgspec.Struct, frozen=True):
    """What is missing, in a sentence.

    is_certain: nothing but a deleted or edited row explains it. A number alone is left out also
    where the store refused an outcome at first.
    """

    text: str
    is_certain: bool


def gaps(
    queries: q.Queries, connection: object, statuses: Collection[str], limit: int
) -> Iterator[MissingRows]:
    """The gaps of at most so many executions of some statuses."""
    for found in queries.load_gaps(connection, statuses=json_array(statuses), row_limit=limit):
        one = found.workflow_execution_id
        steps = queries.load_checkpoints(connection, workflow_execution_id=one)
        yield from _gaps_of(f"execution {one!r}", steps, found.last_event)


def _gaps_of(
    execution: str, steps: list[q.StepCheckpointRow], last_event: int | None
) -> Iterator[MissingRows]:
    attempts: dict[tuple[str, int], list[q.StepCheckpointRow]] = {}
    for step in steps:
        attempts.setdefault((step.branch, step.step_index), []).append(step)
    for (branch, index), rows in attempts.items():
        numbers = {row.attempt for row in rows} - {0}
        where = f"index {index}" + (f" of branch {branch!r}" if branch else "")
        what = f"{execution} has {rows[-1].step_name!r} ({where})"
        if not numbers:
            yield MissingRows(f"{what} and not the step that it undoes", True)
        for number in sorted(set(range(1, max(numbers, default=0))) - numbers):
            yield MissingRows(f"{what} and not its attempt {number}", True)
    events = [step.event for step in steps if isinstance(step.event, int)]
    highest = max(events, default=0)
    for event in sorted({event for event in events if events.count(event) > 1}):
        yield MissingRows(f"{execution} has event {event} twice", True)
    if last_event is not None and last_event > highest:
        yield MissingRows(
            f"{execution} ended after event {last_event}, which is not recorded", True
        )
    missing = sorted(set(range(1, highest)) - set(events))
    if missing:
        more = ", ..." if len(missing) > MOST_NUMBERS else ""
        named = ", ".join(map(str, missing[:MOST_NUMBERS])) + more
        plural = "s" if len(missing) > 1 else ""
        yield MissingRows(f"{execution} lacks event{plural} {named} of {highest}", False)
