"""The queue: what may be claimed, when, and by whom; what nobody may claim."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

from durable_workflow_sqlite.errors import (
    StoreError,
)
from durable_workflow_sqlite.records import (
    MAX_INTEGER,
    AbandonedExecution,
    ExecutionStatus,
    StepCheckpoint,
    StepStatus,
    UnqueuedExecution,
    WorkflowClaim,
    WorkflowExecution,
    check_identifier,
    check_integer,
    utc_now,
)
from durable_workflow_sqlite.store import executions, rows
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.available import Available, Wanted, key_of
from durable_workflow_sqlite.store.claims import Claims
from durable_workflow_sqlite.store.queues import QUEUE, Queues, Room
from durable_workflow_sqlite.store.rows import json_array, readable, time_to_text
from durable_workflow_sqlite.store.transactions import Transactions

_AT_WORK: Final = (ExecutionStatus.RUNNING, ExecutionStatus.COMPENSATING)
_GOES_ON: Final = (ExecutionStatus.SUSPENDED, ExecutionStatus.COMPENSATING)


class Queue:
    """The executions that no worker has, the claimed ones, and the changes between the two."""

    def __init__(
        self,
        connection: object,
        queries: q.Queries,
        commit: Transactions,
        claims: Claims,
        queues: Queues,
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._claims = claims
        self._queues = queues
        self._available = Available(connection, queries, queues)
        self._to_release: dict[int, tuple[WorkflowClaim, str | None]] = {}
        """By token, the claims that may not be released yet, and the trouble to store."""
        self._former_troubles: dict[str, str] = {}
        """By execution that was claimed, why the worker before had left it."""

    async def claim_execution(
        self, workflow_execution_id: str, now: datetime | None = None
    ) -> WorkflowClaim | None:
        check_identifier("workflow_execution_id", workflow_execution_id)
        self._claims.be_alive()
        at = now or utc_now()

        def claim() -> list[WorkflowClaim]:
            self._commit.hold_execution(workflow_execution_id)
            may_be, room, key = self._queues.room_for(workflow_execution_id, at)
            if not may_be:
                return []
            begins_at = self._begins_at([room], at)
            claims = self._claim([workflow_execution_id], begins_at)
            for one in claims:
                self._count(one, room, key, begins_at)
            return claims

        claims = await self._commit.write(claim, noted=self._claims.took)
        return claims[0] if claims else None

    def _begins_at(self, rooms: Iterable[Room | None], now: datetime) -> datetime:
        """Not before what has begun by the same rates: a rate counts the times that are stored."""
        rated = {room.limits.name: room for room in rooms if room is not None and room.has_rate}
        times = [
            self._queues.not_before_the_last(room.limits, QUEUE, now) for room in rated.values()
        ]
        return max(times, default=now)

    def _count(
        self, claim: WorkflowClaim, room: Room | None, key: str | None, now: datetime
    ) -> None:
        """For the rates of its queue, unless it only goes on after a wait, or undoes."""
        if room is None or not room.has_rate or claim.status_before in _GOES_ON:
            return
        if claim.status_before is ExecutionStatus.RUNNING and self._has_paused(claim):
            return
        self._queues.count_use(room.limits, QUEUE, key, now)

    def _has_paused(self, claim: WorkflowClaim) -> bool:
        """Whether it only waited for the next attempts of its steps."""
        steps = self._queries.load_open_steps(
            self._connection, workflow_execution_id=claim.workflow_execution_id
        )
        return {one.status for one in steps} == {StepStatus.FAILED.value}

    def _claim(self, workflow_execution_ids: list[str], now: datetime) -> list[WorkflowClaim]:
        """Claim what is unfinished, and what no worker has."""
        statuses = executions.load_statuses(self._connection, self._queries, workflow_execution_ids)
        if in_trouble := self._queries.load_troubles(
            self._connection, workflow_execution_ids=json_array(workflow_execution_ids)
        ):
            former = self._former_troubles.items()
            self._former_troubles = {one: why for one, why in former if self._claims.has(one)}
            for row in in_trouble:
                self._former_troubles[row.workflow_execution_id] = row.trouble
        claims: list[WorkflowClaim] = []
        queries, at = self._queries, time_to_text(now)
        for execution_id in workflow_execution_ids:
            status = statuses.get(execution_id)
            if status is None:
                continue
            claim = self._claims.insert(execution_id, status, now)
            if claim is not None:
                claims.append(claim)
                take = queries.take_up_again if status in _AT_WORK else queries.take_from_queue
                take(self._connection, workflow_execution_id=execution_id, updated_at=at)
        return claims

    async def claim_available(
        self,
        workflows: Collection[tuple[str, int]],
        limit: int,
        *,
        queues: Collection[str] | None,
        passed_over: Collection[str],
        suspect_at: int | None,
        takes_suspect: bool,
        now: datetime | None,
    ) -> list[WorkflowClaim]:
        check_integer("limit", limit, minimum=1)
        at = now or utc_now()
        wanted = Wanted(workflows, queues, passed_over, _checked(suspect_at), at)
        with suppress(StoreError):  # it matters once there is something to claim
            self._claims.be_alive()  # people see that a worker is there, also an idle one
        # A look first: where there is nothing to claim, nobody is kept from the lock.
        if not await self._commit.read(lambda: self._available.is_any(wanted)):
            return []
        self._claims.be_alive()

        def claim() -> list[WorkflowClaim]:
            workers = self._claims.count_workers()
            found = self._available.find(wanted, limit * workers, takes_suspect=takes_suspect)
            share = min(limit, -(-len(found) // workers))
            wanted_rows = {row.workflow_execution_id: (row, room) for row, room in found[:share]}
            begins_at = self._begins_at([room for _, room in wanted_rows.values()], at)
            claims = self._claim(list(wanted_rows), begins_at)
            for claim in claims:
                row, room = wanted_rows[claim.workflow_execution_id]
                self._count(claim, room, key_of(row), begins_at)
            return claims

        claims = await self._commit.write(claim, noted=self._claims.took)
        self._available.claimed(len(claims))
        return claims

    async def load_next_available_at(
        self,
        workflows: Collection[tuple[str, int]],
        queues: Collection[str] | None,
        now: datetime | None,
    ) -> datetime | None:
        wanted = Wanted(workflows, queues, (), MAX_INTEGER, now or utc_now())
        return await self._commit.read(lambda: self._available.next_at(wanted))

    async def release_claims(
        self, claims: Iterable[WorkflowClaim], now: datetime | None, trouble: str | None
    ) -> None:
        await self._release([(claim, trouble) for claim in claims], now or utc_now())

    async def _release(
        self, to_release: Sequence[tuple[WorkflowClaim, str | None]], at: datetime
    ) -> None:
        """Release claims now or, after a StoreError, with those of the dead: see `_to_release`."""

        def release() -> None:
            released: list[str] = []
            for claim, trouble in to_release:
                execution_id = claim.workflow_execution_id
                if self._claims.delete(execution_id, claim.fencing_token):
                    released.append(execution_id)
                    if trouble is not None:
                        self._queries.note_trouble(
                            self._connection,
                            workflow_execution_id=execution_id,
                            trouble=trouble,
                            former_trouble=self._former_troubles.get(execution_id),
                            updated_at=time_to_text(at),
                        )
            self.put_now(released, at)

        if not to_release:
            return
        by_token = {claim.fencing_token: (claim, trouble) for claim, trouble in to_release}
        self._to_release |= by_token
        for claim, _ in to_release:
            self._claims.releases(claim.workflow_execution_id)

        def noted(_: object) -> None:
            self._forget(by_token)
            self._claims.released(claim.workflow_execution_id for claim, _ in to_release)

        try:
            await self._commit.write(release, noted=noted)
        except (StoreError, asyncio.CancelledError):
            raise  # one that was cancelled may be released yet
        except BaseException:
            self._forget(by_token)  # it would fail again
            raise

    def _forget(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self._to_release.pop(token, None)

    async def release_created(
        self, execution: WorkflowExecution, now: datetime | None = None
    ) -> None:
        execution_id = execution.workflow_execution_id
        at = now or utc_now()

        def release() -> None:
            held = self._claims.load(execution_id)
            if held is None or held.worker_id != self._claims.worker_id:
                return
            found = executions.load_execution(self._connection, self._queries, execution_id)
            # Created at the same microsecond, it is this record and not another of its id.
            if found is not None and found.created_at == execution.created_at:
                self._claims.delete(execution_id, held.fencing_token)
                self.put_now([execution_id], at)

        self._claims.releases(execution_id)
        await self._commit.write(release, noted=lambda _: self._claims.released([execution_id]))

    async def mark_as_stopping(self, claims: Iterable[WorkflowClaim]) -> None:
        tokens = [claim.fencing_token for claim in claims]
        if tokens:
            await self._commit.write(lambda: self._claims.mark_as_stopping(tokens))

    async def release_claims_of_the_dead(
        self, max_recoveries: int, now: datetime | None, suspect_at: int | None
    ) -> list[AbandonedExecution]:
        check_integer("max_recoveries", max_recoveries)
        suspect_at = _checked(suspect_at)
        at = now or utc_now()
        if self._to_release:
            # One by one, in one transaction: a row that is damaged must not keep the others.
            await asyncio.gather(
                *(self._release([one], at) for one in self._to_release.values()),
                return_exceptions=True,
            )

        def load_dead() -> dict[str, dict[int, q.LoadAtWorkRow]]:
            workers = self._queries.load_claiming_workers(self._connection)
            ids = [row.worker_id for row in workers if not self._claims.is_alive(row.worker_id)]
            return {one: self._load_at_work(one, suspect_at) for one in ids}

        # What they died of is looked for in all steps of an execution, so outside the lock.
        dead = await self._commit.read(load_dead)

        def release() -> list[AbandonedExecution]:
            return [
                one
                for worker_id, at_work in dead.items()
                for one in self._abandon(worker_id, at_work, max_recoveries, at)
            ]

        return await self._commit.write(release) if dead else []

    def _load_at_work(self, worker_id: str, suspect_at: int) -> dict[int, q.LoadAtWorkRow]:
        """By token, the executions that a dead worker may have died of. They stay as they are."""
        claims = self._queries.load_claims_of(self._connection, worker_id=worker_id)
        tokens = {row.workflow_execution_id: row.fencing_token for row in claims}
        at_work = self._queries.load_at_work(
            self._connection,
            workflow_execution_ids=json_array(
                row.workflow_execution_id for row in claims if not row.is_stopping
            ),
            suspect_at=suspect_at,
        )
        return {tokens[row.workflow_execution_id]: row for row in at_work}

    def _abandon(
        self,
        worker_id: str,
        at_work: dict[int, q.LoadAtWorkRow],
        max_recoveries: int,
        now: datetime,
    ) -> list[AbandonedExecution]:
        claims = self._queries.load_claims_of(self._connection, worker_id=worker_id)
        claimed = [row.workflow_execution_id for row in claims]
        ids = json_array(claimed)
        # Another worker may have released some since then.
        left = [at_work[row.fencing_token] for row in claims if row.fencing_token in at_work]
        # Beside a suspect, the others are taken to be innocent.
        blamed = [row for row in left if row.is_suspect] or left
        counted = self._queries.count_recoveries(
            self._connection,
            workflow_execution_ids=json_array([row.workflow_execution_id for row in blamed]),
            max_recoveries=max_recoveries,
        )
        reasons = {row.workflow_execution_id: row.blocked_reason for row in counted}
        self._queries.delete_claims(self._connection, workflow_execution_ids=ids)
        self._queues.forget_the_dead()
        self.put_now(claimed, now)
        return [
            AbandonedExecution(workflow_execution_id=one, blocked_reason=reasons.get(one))
            for one in claimed
        ]

    async def put_into_queue(
        self, workflow_execution_ids: Iterable[str], now: datetime | None = None
    ) -> None:
        ids = list(workflow_execution_ids)
        at = now or utc_now()

        def put() -> None:
            for one in ids:
                self._commit.hold_execution(one)
            self.put_now([one for one in ids if self._claims.load(one) is None], at)

        if ids:
            await self._commit.write(put)

    def put_now(self, workflow_execution_ids: Iterable[str], now: datetime) -> None:
        """As `put_into_queue`, of those that nobody has; called from within a transaction."""
        self._queries.put_into_queue(
            self._connection,
            workflow_execution_ids=json_array(workflow_execution_ids),
            now=time_to_text(now),
        )

    async def load_unqueued_executions(self) -> list[UnqueuedExecution]:
        found = await self._commit.read(lambda: self._queries.load_unqueued(self._connection))
        return readable(found, rows.unqueued_from)

    async def load_unregistered(
        self, workflows: Collection[tuple[str, int]], limit: int
    ) -> list[str]:
        check_integer("limit", limit, minimum=1)

        def load() -> list[str]:
            others = [
                row.workflow_id
                for row in self._queries.load_workflows(self._connection)
                if (row.workflow_type, row.version) not in workflows
            ]
            if not others:
                return []
            found = self._queries.load_unregistered(
                self._connection, workflow_ids=json_array(others), row_limit=limit
            )
            return [row.workflow_execution_id for row in found]

        return await self._commit.read(load)

    async def load_blocked(self) -> list[str]:
        found = await self._commit.read(
            lambda: self._queries.load_blocked(self._connection, row_limit=-1)  # all of them
        )
        return [row.workflow_execution_id for row in found]

    async def unblock_execution(
        self, workflow_execution_id: str, save: Callable[[], None], now: datetime | None = None
    ) -> bool:
        """`save` is called in the same transaction, before it is in the queue."""
        check_identifier("workflow_execution_id", workflow_execution_id)
        at = now or utc_now()

        def unblock() -> bool:
            changed = self._queries.unblock_execution(
                self._connection, workflow_execution_id=workflow_execution_id
            )
            if changed:
                save()
                self.put_now([workflow_execution_id], at)
            return bool(changed)

        return await self._commit.write(unblock)

    async def hasten_attempts(
        self,
        workflow_execution_id: str,
        save: Callable[[], None],
        only: StepCheckpoint | None = None,
        now: datetime | None = None,
    ) -> int:
        """`save` is called in the same transaction, before it is in the queue."""
        check_identifier("workflow_execution_id", workflow_execution_id)
        at = now or utc_now()

        def hasten() -> int:
            self._commit.hold_execution(workflow_execution_id)
            hastened = self._queries.hasten_attempts(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                checkpoint_id=None if only is None else only.id,
                now=time_to_text(at),
            )
            if hastened:
                save()
                if self._claims.load(workflow_execution_id) is None:
                    self.put_now([workflow_execution_id], at)
            return hastened

        return await self._commit.write(hasten)


def _checked(suspect_at: int | None) -> int:
    if suspect_at is None:
        return MAX_INTEGER
    check_integer("suspect_at", suspect_at, minimum=1)
    return suspect_at
