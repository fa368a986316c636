"""The named queues: their definitions, and who holds their slots.

A slot is held by a claim that names the queue, so it is taken and freed with the claim. What is
free is counted in the transaction that takes a slot, by the limits as they are then.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime

import msgspec

from durable_workflow_sqlite.errors import QueueNotFoundError, StoreCorruptError
from durable_workflow_sqlite.limits import Queue, checked
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.records import MAX_INTEGER, WorkflowClaim, utc_now
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.claims import Claims
from durable_workflow_sqlite.store.group_commit import GroupCommit
from durable_workflow_sqlite.store.rows import readable, time_to_text

QUEUE = "QUEUE"
"""The kind of a limit."""


class Room:
    """How many more executions of one queue may be claimed, in one transaction."""

    def __init__(self, name: str, free: int, per_key: int | None, held: Counter[str]) -> None:
        self.name = name
        self.free = free
        self.per_key = per_key
        self._held = held

    def copy(self) -> Room:
        return Room(self.name, self.free, self.per_key, self._held.copy())

    def free_of(self, key: str | None) -> int:
        """How many of this key."""
        if self.per_key is None or key is None:
            return self.free
        return min(self.free, self.per_key - self._held[key])

    def take(self, key: str | None) -> bool:
        """Take a slot; False if there is none."""
        if self.free_of(key) <= 0:
            return False
        self.free -= 1
        if key is not None:
            self._held[key] += 1
        return True


class Queues:
    """Of one store. What takes or counts slots is called from within a transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        queries: q.Queries,
        commit: GroupCommit,
        claims: Claims,
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._claims = claims

    # Definitions

    async def declare(self, queues: Iterable[Queue], now: datetime | None) -> None:
        declared = checked(queues)
        at = now or utc_now()

        def missing() -> list[Queue]:
            return [one for one in declared if self._declared(one.name) != _as_json(one)]

        def declare() -> None:
            for one in missing():
                self._save(one, _as_json(one), at)

        # A look first: as a rule, nothing has changed since the last start.
        if await self._commit.read(missing):
            await self._commit.write(declare)

    async def save(self, queue: Queue, now: datetime | None) -> None:
        (one,) = checked([queue])
        at = now or utc_now()
        await self._commit.write(lambda: self._save(one, None, at))

    async def load(self) -> list[Queue]:
        found = await self._commit.read(lambda: self._queries.load_limits(self._connection))
        return readable([row for row in found if row.kind == QUEUE], _queue_from)

    def _declared(self, name: str) -> str | None:
        row = self._queries.load_limit(self._connection, kind=QUEUE, name=name)
        return None if row is None else row.declared

    def _save(self, queue: Queue, declared: str | None, now: datetime) -> None:
        self._commit.count_change()  # there may be more room
        self._queries.upsert_limit(
            self._connection,
            kind=QUEUE,
            name=queue.name,
            concurrency=queue.concurrency,
            per_worker=queue.per_worker,
            per_key=queue.per_key,
            declared=declared,
            now=time_to_text(now),
        )

    def check_declared(self, name: str) -> None:
        """Raise QueueNotFoundError for a queue that nobody has declared."""
        if self._queries.load_limit(self._connection, kind=QUEUE, name=name) is not None:
            return
        known = [row.name for row in self._queries.load_limits(self._connection)]
        hint = nearest(name, known) or "; declare it: await engine.declare(Queue(...))"
        raise QueueNotFoundError(f"nothing was started: no queue {name!r} is declared{hint}")

    # Slots

    def rooms(self, served: Collection[str] | None) -> list[Room]:
        """The queues in which something waits and slots are free, of those that are served."""
        rooms = (
            self._room(row)
            for row in self._queries.load_waiting_queues(self._connection)
            if served is None or row.name in served
        )
        return [room for room in rooms if room.free > 0]

    def _room(self, limits: q.LoadWaitingQueuesRow | q.LoadLimitRow) -> Room:
        free = MAX_INTEGER
        if limits.concurrency is not None or limits.per_worker is not None:
            slots = self._queries.count_slots(
                self._connection, queue=limits.name, worker_id=self._claims.worker_id
            )
            held, by_worker = (0, 0) if slots is None else (slots.held, slots.by_worker)
            if limits.concurrency is not None:
                free = limits.concurrency - held
            if limits.per_worker is not None:
                free = min(free, limits.per_worker - by_worker)
        of_keys: Counter[str] = Counter()
        if limits.per_key is not None and free > 0:
            by_key = self._queries.count_slots_of_keys(self._connection, queue=limits.name)
            of_keys.update({row.queue_key: row.held for row in by_key})
        return Room(limits.name, free, limits.per_key, of_keys)

    def has_room(self, name: str, key: str | None) -> bool:
        """Whether one more execution may run."""
        limits = self._queries.load_limit(self._connection, kind=QUEUE, name=name)
        return limits is None or self._room(limits).take(key)

    def may_be_claimed(self, workflow_execution_id: str) -> bool:
        """Whether an execution is in no queue, or a slot of its queue is free."""
        row = self._queries.load_queue_of(
            self._connection, workflow_execution_id=workflow_execution_id
        )
        return row is None or row.queue is None or self.has_room(row.queue, row.queue_key)

    def give_up(self, claim: WorkflowClaim) -> None:
        """The execution of a claim only waits from now on."""
        self._queries.give_up_slot(
            self._connection,
            fencing_token=claim.fencing_token,
            workflow_execution_id=claim.workflow_execution_id,
        )

    async def take_slot(self, claim: WorkflowClaim, queue: str, key: str | None) -> bool:
        """See `protocol.Queue`."""

        def take() -> bool:
            self.give_up(claim)
            return self.has_room(queue, key) and bool(
                self._queries.take_slot(
                    self._connection,
                    queue=queue,
                    queue_key=key,
                    fencing_token=claim.fencing_token,
                    workflow_execution_id=claim.workflow_execution_id,
                )
            )

        return await self._commit.write(take)


def _as_json(queue: Queue) -> str:
    return msgspec.json.encode(queue).decode()


def _queue_from(row: q.LoadLimitRow) -> Queue:
    try:
        return Queue(
            row.name,
            concurrency=row.concurrency,
            per_worker=row.per_worker,
            per_key=row.per_key,
        )
    except (ValueError, TypeError) as error:
        raise StoreCorruptError(f"queue {row.name!r} cannot be read: {error}") from None
