"""The limits: of the named queues and of steps, and who holds their slots.

A slot of a queue is held by a claim that names the queue, so it is taken and freed with the claim.
The slot of a step is a row of its own, which counts as long as its claim is there. What is free is
counted in the transaction that takes a slot, by the limits as they are then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from durable_workflow_sqlite.errors import (
    DuplicateExecutionError,
    LimitFullError,
    LimitNotFoundError,
    QueueNotFoundError,
    StoreCorruptError,
)
from durable_workflow_sqlite.limits import Definition, Limit, Queue, Rate, checked
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.records import (
    MAX_INTEGER,
    LimitRoom,
    StepSlot,
    WorkflowClaim,
    WorkflowExecution,
    utc_now,
)
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.claims import Claims
from durable_workflow_sqlite.store.rows import readable, text_to_time, time_to_text
from durable_workflow_sqlite.store.transactions import AsStatement, Shortcut, Transactions

QUEUE, STEP = "QUEUE", "STEP"
"""The kinds of a limit."""

_PLACE: Final = ("name", "fencing_token", "workflow_execution_id", "branch", "step_index")
_SLOT: Final = (*_PLACE, "limit_key", "taken_at")

Limits = q.LoadWaitingQueuesRow | q.LoadLimitRow


class Room:
    """How many more executions of one queue may be claimed, in one transaction.

    used: how many of a key have begun within the time of the key's rate.
    again_at: when the rate allows the next one; None if the rate is not what keeps it.
    """

    def __init__(
        self,
        limits: Limits,
        free: int,
        held: Counter[str],
        used: Callable[[str], int],
        again_at: datetime | None,
    ) -> None:
        self.limits = limits
        self.name = limits.name
        self.free = free
        self.again_at = again_at
        self._held = held
        self._used = used
        self._begun: Counter[str] = Counter()

    @property
    def limits_keys(self) -> bool:
        return self.limits.per_key is not None or self.limits.key_rate is not None

    @property
    def has_rate(self) -> bool:
        return self.limits.rate is not None or self.limits.key_rate is not None

    def copy(self) -> Room:
        copy = Room(self.limits, self.free, self._held.copy(), self._used, self.again_at)
        copy._begun = self._begun.copy()
        return copy

    def free_of(self, key: str | None) -> int:
        """How many of this key."""
        free = self.free
        if key is not None and self.limits.per_key is not None:
            free = min(free, self.limits.per_key - self._held[key])
        if key is not None and self.limits.key_rate is not None:
            free = min(free, self.limits.key_rate - self._used(key) - self._begun[key])
        return free

    def take(self, key: str | None) -> bool:
        """Take a slot; False if there is none."""
        if self.free_of(key) <= 0:
            return False
        self.free -= 1
        if key is not None:
            self._held[key] += 1
            self._begun[key] += 1
        return True


class Queues:
    """Of one store. What takes or counts slots is called from within a transaction."""

    def __init__(
        self,
        connection: object,
        queries: q.Queries,
        commit: Transactions,
        claims: Claims,
        as_statement: AsStatement,
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._claims = claims
        self._delete_step_slot = as_statement(queries.delete_step_slot, *_PLACE)
        self._take_step_slot = as_statement(queries.take_step_slot, *_SLOT)
        self._insert_step_slot = as_statement(queries.insert_step_slot, *_SLOT)

    # Definitions

    async def declare(self, definitions: Iterable[Definition], now: datetime | None) -> None:
        declared = checked(definitions)
        at = now or utc_now()

        def missing() -> list[Definition]:
            return [one for one in declared if self._declared(one) != _as_json(one)]

        def declare() -> None:
            for one in missing():
                self._save(one, _as_json(one), at)

        # A look first: as a rule, nothing has changed since the last start.
        if await self._commit.read(missing):
            await self._commit.write(declare)

    async def save(
        self, definition: Definition, save_beside: Callable[[], None], now: datetime | None
    ) -> None:
        """`save_beside` is called in the same transaction."""
        (one,) = checked([definition])
        at = now or utc_now()

        def save() -> None:
            self._save(one, None, at)
            save_beside()

        await self._commit.write(save)

    async def load(self) -> list[Definition]:
        found = await self._commit.read(lambda: self._queries.load_limits(self._connection))
        return readable(found, _definition_from)

    def _declared(self, one: Definition) -> str | None:
        row = self._queries.load_limit(self._connection, kind=_kind(one), name=one.name)
        return None if row is None else row.declared

    def _save(self, one: Definition, declared: str | None, now: datetime) -> None:
        self._commit.count_change()  # there may be more room
        key_rate = one.key_rate if isinstance(one, Queue) else None
        self._queries.upsert_limit(
            self._connection,
            kind=_kind(one),
            name=one.name,
            concurrency=one.concurrency,
            per_worker=one.per_worker if isinstance(one, Queue) else None,
            per_key=one.per_key,
            rate=None if one.rate is None else one.rate.number,
            rate_seconds=None if one.rate is None else one.rate.period.total_seconds(),
            key_rate=None if key_rate is None else key_rate.number,
            key_rate_seconds=None if key_rate is None else key_rate.period.total_seconds(),
            declared=declared,
            now=time_to_text(now),
        )

    # What is enqueued

    def check_new(self, execution: WorkflowExecution) -> None:
        """Raise QueueNotFoundError, or DuplicateExecutionError."""
        if execution.queue is not None:
            self.check_declared(execution.queue)
        if execution.dedup_id is not None:
            found = self._duplicate(execution)
            one = execution.workflow_execution_id
            if found is not None and found.workflow_execution_id != one:
                raise _is_duplicate(execution, found.workflow_execution_id)

    def check_declared(self, name: str) -> None:
        """Raise QueueNotFoundError."""
        if self._limits(QUEUE, name) is None:
            known = self._names(QUEUE)
            hint = nearest(name, known) or "; declare it: await engine.declare(Queue(...))"
            raise QueueNotFoundError(f"nothing was started: no queue {name!r} is declared{hint}")

    def _duplicate(self, execution: WorkflowExecution) -> q.LoadDuplicateRow | None:
        assert execution.dedup_id is not None
        return self._queries.load_duplicate(
            self._connection, queue=execution.queue, dedup_id=execution.dedup_id
        )

    def postpone(self, execution: WorkflowExecution) -> str | None:
        """Give the input and the time of an execution to the one that has its `dedup_id`.

        Returns the id of that one; None if there is none. Raises DuplicateExecutionError if it
        cannot be postponed.
        """
        found = self._duplicate(execution)
        if found is None:
            return None
        if (
            not found.debounced
            or found.workflow_id != execution.workflow_id
            or execution.available_at is None
            or not self._queries.postpone_execution(
                self._connection,
                workflow_execution_id=found.workflow_execution_id,
                input_data=execution.input_data,
                available_at=time_to_text(execution.available_at),
                updated_at=time_to_text(execution.updated_at),
            )
        ):
            raise _is_duplicate(execution, found.workflow_execution_id)
        return found.workflow_execution_id

    def _limits(self, kind: str, name: str) -> q.LoadLimitRow | None:
        return self._queries.load_limit(self._connection, kind=kind, name=name)

    def _names(self, kind: str) -> list[str]:
        found = self._queries.load_limits(self._connection)
        return [row.name for row in found if row.kind == kind]

    # Slots of queues

    def rooms(self, served: Collection[str] | None, now: datetime) -> list[Room]:
        """The queues in which something waits, of those that are served."""
        return [
            self._room(row, now)
            for row in self._queries.load_waiting_queues(self._connection)
            if served is None or row.name in served
        ]

    def _room(self, limits: Limits, now: datetime, *, begins: bool = True) -> Room:
        """begins: whether what is to be claimed counts for the rates."""
        free, again_at = MAX_INTEGER, None
        if _is_limited(limits):
            self._commit.hold(QUEUE, limits.name)
        if limits.concurrency is not None or limits.per_worker is not None:
            slots = self._queries.count_slots(
                self._connection, queue=limits.name, worker_id=self._claims.worker_id
            )
            held, by_worker = (0, 0) if slots is None else (slots.held, slots.by_worker)
            if limits.concurrency is not None:
                free = limits.concurrency - held
            if limits.per_worker is not None:
                free = min(free, limits.per_worker - by_worker)
        if begins and free > 0:
            allowed, again_at = self._allowed(QUEUE, limits, now)
            free = min(free, allowed)
        of_keys: Counter[str] = Counter()
        if limits.per_key is not None and free > 0:
            by_key = self._queries.count_slots_of_keys(self._connection, queue=limits.name)
            of_keys.update({row.queue_key: row.held for row in by_key})
        known: dict[str, int] = {}

        def used(key: str) -> int:
            if key not in known:
                known[key] = self._used_by(limits, key, now) if begins else 0
            return known[key]

        return Room(limits, free, of_keys, used, again_at)

    def _allowed(self, kind: str, limits: Limits, now: datetime) -> tuple[int, datetime | None]:
        """How many may begin by the rate, and when the next one may, if none."""
        if limits.rate is None or limits.rate_seconds is None:
            return MAX_INTEGER, None
        period = timedelta(seconds=limits.rate_seconds)
        uses = self._queries.load_limit_uses(
            self._connection,
            kind=kind,
            name=limits.name,
            since=time_to_text(now - period),
            until=time_to_text(now + period),
            row_limit=limits.rate,
        )
        if len(uses) < limits.rate:
            return limits.rate - len(uses), None
        return 0, text_to_time("used_at", uses[-1].used_at) + period

    def _used_by(self, limits: Limits, key: str, now: datetime) -> int:
        if limits.key_rate is None or limits.key_rate_seconds is None:
            return 0
        period = timedelta(seconds=limits.key_rate_seconds)
        uses = self._queries.load_limit_uses_of_key(
            self._connection,
            kind=QUEUE,
            name=limits.name,
            limit_key=key,
            since=time_to_text(now - period),
            until=time_to_text(now + period),
            row_limit=limits.key_rate,
        )
        return len(uses)

    def count_use(self, limits: Limits, kind: str, key: str | None, at: datetime) -> None:
        """Something begins at a time that is not before the last one: it counts for the rates."""
        period = _longest_period(limits)
        names = {"kind": kind, "name": limits.name}
        self._queries.delete_old_limit_uses(
            self._connection,
            **names,
            before=time_to_text(at - period),
            after=time_to_text(at + period),
        )
        self._queries.insert_limit_use(
            self._connection, **names, limit_key=key, used_at=time_to_text(at)
        )

    def not_before_the_last(self, limits: Limits, kind: str, now: datetime) -> datetime:
        """A time, or that of the last thing that began under a limit with a rate, if it is later.

        It is later if another worker read its clock meanwhile, and had the write lock first.
        """
        latest = self._queries.load_limit_uses(
            self._connection,
            kind=kind,
            name=limits.name,
            since=time_to_text(now),
            until=time_to_text(now + _longest_period(limits)),
            row_limit=1,
        )
        return text_to_time("used_at", latest[0].used_at) if latest else now

    def room_for(
        self, workflow_execution_id: str, now: datetime
    ) -> tuple[bool, Room | None, str | None]:
        """Whether an execution may be claimed; the room of its queue, and its key there."""
        row = self._queries.load_queue_of(
            self._connection, workflow_execution_id=workflow_execution_id
        )
        if row is None or row.queue is None:
            return True, None, None
        limits = self._limits(QUEUE, row.queue)
        if limits is None:
            return True, None, None
        room = self._room(limits, now)
        return room.take(row.queue_key), room, row.queue_key

    def give_up(self, claim: WorkflowClaim) -> None:
        """The execution of a claim only waits from now on."""
        self._queries.give_up_slot(
            self._connection,
            fencing_token=claim.fencing_token,
            workflow_execution_id=claim.workflow_execution_id,
        )

    async def leave_slot(self, claim: WorkflowClaim) -> None:
        """See `protocol.Queue`."""
        await self._commit.write(lambda: self.give_up(claim))

    async def take_slot(self, claim: WorkflowClaim, queue: str, key: str | None) -> bool:
        """See `protocol.Queue`."""

        def take() -> bool:
            self.give_up(claim)
            limits = self._limits(QUEUE, queue)
            if limits is not None and not self._room(limits, utc_now(), begins=False).take(key):
                return False
            return bool(
                self._queries.take_slot(
                    self._connection,
                    queue=queue,
                    queue_key=key,
                    fencing_token=claim.fencing_token,
                    workflow_execution_id=claim.workflow_execution_id,
                )
            )

        return await self._commit.write(take)

    # Slots of steps

    async def load_limit_room(self, limit: str, key: str | None, now: datetime) -> LimitRoom:
        return await self._commit.read(lambda: self._limit_room(limit, key, now)[0])

    def _limit_room(
        self, name: str, key: str | None, now: datetime
    ) -> tuple[LimitRoom, q.LoadLimitRow]:
        limits = self._limits(STEP, name)
        if limits is None:
            hint = (
                nearest(name, self._names(STEP)) or "; declare it: await engine.declare(Limit(...))"
            )
            raise LimitNotFoundError(f"no limit {name!r} for steps is declared{hint}")
        if limits.concurrency is not None or limits.per_key is not None:
            slots = self._queries.count_step_slots(self._connection, name=name, limit_key=key)
            held, of_key = (0, 0) if slots is None else (slots.held, slots.of_key)
            if (limits.concurrency is not None and held >= limits.concurrency) or (
                key is not None and limits.per_key is not None and of_key >= limits.per_key
            ):
                return LimitRoom(is_free=False), limits
        allowed, again_at = self._allowed(STEP, limits, now)
        return LimitRoom(is_free=allowed > 0, again_at=again_at), limits

    def forget_the_dead(self) -> None:
        """Delete the slots of steps whose claims are gone: they count no more."""
        self._queries.delete_void_step_slots(self._connection)

    def save_slot(self, slot: StepSlot, claim: WorkflowClaim | None) -> int:
        """A step begins, or its attempt is over. Raises LimitFullError."""
        if claim is None:
            raise ValueError("the slot of a step is taken and freed under a claim")
        if slot.is_held:
            self.hold_limit(slot.limit)
        shortcut = self.slot_statement(slot, claim)
        return int(bool(self._commit.execute(shortcut)) or self.look_closer(slot, claim))

    def slot_statement(self, slot: StepSlot, claim: WorkflowClaim) -> Shortcut:
        """The statement that takes or frees a slot in the usual case; see `look_closer`."""
        if slot.is_held:
            statement, in_order = self._take_step_slot
            return statement, in_order(_values_of(slot, claim))
        statement, in_order = self._delete_step_slot
        one = slot.workflow_execution_id
        place = slot.limit, claim.fencing_token, one, slot.branch, slot.step_index
        return statement, in_order(place)

    def hold_limit(self, limit: str) -> None:
        """Nobody else takes a slot of it before this transaction is over."""
        self._commit.hold(STEP, limit)

    def look_closer(self, slot: StepSlot, claim: WorkflowClaim) -> bool:
        """Called if `slot_statement` has changed nothing. Returns False if the claim is lost.

        Raises LimitFullError.
        """
        if not slot.is_held:
            return self._claims.holds(claim)
        room, limits = self._limit_room(slot.limit, slot.key, slot.at)
        if not room.is_free:
            raise LimitFullError(f"no slot of limit {slot.limit!r} is free")
        if limits.rate is not None:
            at = self.not_before_the_last(limits, STEP, slot.at)
            self.count_use(limits, STEP, slot.key, at)
        statement, in_order = self._insert_step_slot
        taken = self._commit.execute((statement, in_order(_values_of(slot, claim))))
        return bool(taken) or self._claims.holds(claim)


def _values_of(slot: StepSlot, claim: WorkflowClaim) -> tuple[object, ...]:
    """In the order of the names in `_SLOT`."""
    return (
        slot.limit,
        claim.fencing_token,
        slot.workflow_execution_id,
        slot.branch,
        slot.step_index,
        slot.key,
        time_to_text(slot.at),
    )


def _is_duplicate(execution: WorkflowExecution, existing: str) -> DuplicateExecutionError:
    where = "" if execution.queue is None else f" of queue {execution.queue!r}"
    return DuplicateExecutionError(
        f"execution {existing!r}{where} has the dedup_id {execution.dedup_id!r}, and is not over;"
        " nothing was started",
        workflow_execution_id=existing,
    )


def _longest_period(limits: Limits) -> timedelta:
    return timedelta(seconds=max(limits.rate_seconds or 0.0, limits.key_rate_seconds or 0.0))


def _is_limited(limits: Limits) -> bool:
    return any(
        one is not None
        for one in (
            limits.concurrency,
            limits.per_worker,
            limits.per_key,
            limits.rate,
            limits.key_rate,
        )
    )


def _kind(one: Definition) -> str:
    return QUEUE if isinstance(one, Queue) else STEP


def _as_json(one: Definition) -> str:
    return msgspec.json.encode(one).decode()


def _rate(number: int | None, seconds: float | None) -> Rate | None:
    if number is None or seconds is None:
        return None
    return Rate(number, timedelta(seconds=seconds))


def _definition_from(row: q.LoadLimitRow) -> Definition:
    try:
        if row.kind == STEP:
            return Limit(
                row.name,
                concurrency=row.concurrency,
                per_key=row.per_key,
                rate=_rate(row.rate, row.rate_seconds),
            )
        return Queue(
            row.name,
            concurrency=row.concurrency,
            per_worker=row.per_worker,
            per_key=row.per_key,
            rate=_rate(row.rate, row.rate_seconds),
            key_rate=_rate(row.key_rate, row.key_rate_seconds),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise StoreCorruptError(f"the limit {row.name!r} cannot be read: {error}") from None
