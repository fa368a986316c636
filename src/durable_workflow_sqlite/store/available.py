"""What may be claimed next: of the executions in no queue, and of those in the named queues.

The highest priority goes first, then what has waited longest. But from time to time the one that
has waited longest goes first whatever its priority, so that each is reached in the end.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store import rows
from durable_workflow_sqlite.store.queues import Queues, Room
from durable_workflow_sqlite.store.rows import json_array, time_to_text

LONG: Final = timedelta(minutes=1)
"""How long an execution waits before it may go first whatever its priority."""

OLDEST_AFTER: Final = 10
"""Of how many executions that are claimed one may be such a one."""

LOOKED_AT: Final = 100
"""How many executions of a queue are looked at, where the slots of keys are full; then keys are."""

KEYS_LOOKED_AT: Final = 100

Row = q.LoadAvailableRow | q.LoadAvailableInQueueRow

Found = tuple[Row, Room | None]
"""What may be claimed, and the room of its queue."""

_log = logging.getLogger("durable_workflow_sqlite.store")


class Head(msgspec.Struct, frozen=True, eq=False):
    """The executions of one workflow and one priority, in a queue or in none."""

    workflow_id: str
    priority: int
    available_at: str
    room: Room | None


class Wanted(msgspec.Struct, frozen=True):
    """What a worker asks for, beside the workflows that it runs.

    queues: which queues it serves; None: all of them, and what is in none.
    """

    workflows: Collection[tuple[str, int]]
    queues: Collection[str] | None
    passed_over: Collection[str]
    suspect_at: int
    now: datetime


class Available:
    """Called from within a transaction."""

    def __init__(self, connection: object, queries: q.Queries, queues: Queues) -> None:
        self._connection = connection
        self._queries = queries
        self._queues = queues
        self._said: set[str] = set()
        self._claimed = 0
        """Since the one that had waited longest went first."""
        self._keys: dict[str, str] = {}
        """By queue, the key up to which its keys were looked at."""

    def due(self, wanted: Wanted) -> list[Head]:
        """In which something may be claimed now, the highest priority first."""
        until = time_to_text(wanted.now)
        heads = [
            one
            for one in self._heads(wanted)
            if one.available_at <= until and (one.room is None or one.room.free > 0)
        ]
        heads.sort(key=lambda one: -one.priority)
        return heads

    def is_any(self, wanted: Wanted) -> bool:
        """Whether there is something to claim, as far as a short look shows it."""
        heads = self.due(wanted)
        if all(one.room is not None and one.room.limits_keys for one in heads):
            # All of their keys may be full.
            return bool(self.find(wanted, 1, takes_suspect=True))
        return True

    def next_at(self, wanted: Wanted) -> datetime | None:
        """The time from which something may be claimed."""
        times: list[datetime] = []
        for head in self._heads(wanted):
            try:
                time = rows.text_to_time("available_at", head.available_at)
                if head.room is not None and head.room.again_at is not None:
                    time = max(time, head.room.again_at)
                times.append(time)
            except ValueError as error:
                self._say_once(f"an execution of workflow {head.workflow_id!r}: {error}")
        return min(times, default=None)

    def _heads(self, wanted: Wanted) -> Iterator[Head]:
        if wanted.queues is None:
            for head in self._queries.load_queue_heads(self._connection):
                if (head.workflow_type, head.version) in wanted.workflows:
                    yield from self._readable(head, None)
        for room in self._queues.rooms(wanted.queues, wanted.now):
            if room.free <= 0 and room.again_at is None:
                continue
            for one in self._queries.load_heads_of_queue(self._connection, queue=room.name):
                if (one.workflow_type, one.version) in wanted.workflows:
                    yield from self._readable(one, room)

    def _readable(self, head: q.LoadQueueHeadsRow, room: Room | None) -> Iterator[Head]:
        if type(head.priority) is int and type(head.available_at) is str:
            yield Head(head.workflow_id, head.priority, head.available_at, room)
        else:
            self._say_once(
                f"the queue of workflow {head.workflow_id!r} with the priority"
                f" {head.priority!r} and the time {head.available_at!r} cannot be read"
            )

    def find(self, wanted: Wanted, limit: int, *, takes_suspect: bool) -> list[Found]:
        """What is to be claimed, as many as there are, or as the limit."""
        heads = self.due(wanted)
        found: list[Found] = self._longest_waiting(heads, wanted)
        suspects = int(takes_suspect)
        while heads and len(found) < limit:
            same = [one for one in heads if one.priority == heads[0].priority]
            heads = heads[len(same) :]
            ids = [row.workflow_execution_id for row, _ in found]
            passed_over = [*wanted.passed_over, *ids]
            asked = msgspec.structs.replace(wanted, passed_over=passed_over) if ids else wanted
            more = self._of_one_priority(same, asked, limit - len(found), suspects)
            suspects -= sum(row.is_suspect for row, _ in more)
            found += more
        return found

    def _longest_waiting(self, heads: list[Head], wanted: Wanted) -> list[Found]:
        """It alone, if it has waited for long, and its priority would keep it waiting."""
        if self._claimed < OLDEST_AFTER or not heads:
            return []
        oldest = min(heads, key=lambda one: one.available_at)
        if oldest.priority == heads[0].priority or oldest.available_at > time_to_text(
            wanted.now - LONG
        ):
            return []
        self._claimed = 0
        return self._of_one_priority([oldest], wanted, 1, 0)

    def claimed(self, number: int) -> None:
        """So many were claimed."""
        self._claimed += number

    def _of_one_priority(
        self, heads: list[Head], wanted: Wanted, limit: int, suspects: int
    ) -> list[Found]:
        """Of some heads, the longest waiting; of suspects, no more than so many: 1 or 0."""

        def load(*, with_suspects: bool) -> list[Found]:
            found = [
                (row, head.room)
                for head in heads
                for row in self._of(head, wanted, limit, with_suspects=with_suspects)
            ]
            return _with_room(found, limit)

        found = load(with_suspects=bool(suspects))
        if sum(row.is_suspect for row, _ in found) > suspects:
            foremost = [one for one in found if one[0].is_suspect][:suspects]
            found = _with_room([*foremost, *load(with_suspects=False)], limit)
        for row, room in found:
            if room is not None:
                room.take(key_of(row))
        return found

    def _of(self, head: Head, wanted: Wanted, limit: int, *, with_suspects: bool) -> list[Row]:
        asked: dict[str, Any] = {
            "workflow_id": head.workflow_id,
            "priority": head.priority,
            "now": time_to_text(wanted.now),
            "passed_over": json_array(wanted.passed_over),
            "suspect_at": wanted.suspect_at,
            "with_suspects": int(with_suspects),
        }
        if head.room is None:
            return [*self._queries.load_available(self._connection, **asked, batch_size=limit)]
        room, number = head.room, min(limit, head.room.free)
        looked_at = number if not room.limits_keys else max(number, LOOKED_AT)
        found = self._queries.load_available_in_queue(
            self._connection, **asked, queue=room.name, batch_size=looked_at
        )
        if not room.limits_keys:
            return [*found]
        left = room.copy()
        free = [row for row in found if left.take(row.queue_key)]
        if len(free) < number and len(found) == looked_at:
            known = {row.workflow_execution_id for row in free}
            more = self._by_key(left, asked)
            free += [row for row in more if row.workflow_execution_id not in known]
        return [*free]

    def _by_key(self, room: Room, asked: dict[str, Any]) -> list[q.LoadAvailableInQueueRow]:
        """What the first executions of a queue hide: their keys are full, but others are not.

        Each call looks at the keys after those of the call before.
        """
        found: list[q.LoadAvailableInQueueRow] = []
        key: str | None = None
        is_wrapped = False
        for _ in range(KEYS_LOOKED_AT):
            if room.free_of(key) > 0:
                found += self._queries.load_available_of_key(
                    self._connection,
                    **asked,
                    queue=room.name,
                    queue_key=key,
                    batch_size=room.free_of(key),
                )
            after = self._keys.get(room.name, "")
            key = self._queries.load_next_key(self._connection, queue=room.name, after=after)
            if key is None:
                if is_wrapped or not after:
                    break
                is_wrapped = True
                key = self._queries.load_next_key(self._connection, queue=room.name, after="")
                if key is None:
                    break
            self._keys[room.name] = key
        return found

    def _say_once(self, problem: str) -> None:
        if problem not in self._said:
            self._said.add(problem)
            _log.error("%s; it is left out", problem)


def _with_room(found: list[Found], limit: int) -> list[Found]:
    """The longest waiting of them, and no more of a queue than it has room for."""
    found.sort(key=lambda one: one[0].available_at)
    rooms: dict[int, Room] = {}
    taken: list[Found] = []
    for row, room in found:
        if len(taken) == limit:
            break
        if room is None or rooms.setdefault(id(room), room.copy()).take(key_of(row)):
            taken.append((row, room))
    return taken


def key_of(row: Row) -> str | None:
    """Its key in its queue."""
    return None if isinstance(row, q.LoadAvailableRow) else row.queue_key
