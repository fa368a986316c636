"""What people pause and resume: one execution, all of a workflow or of a queue, everything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from durable_workflow_sqlite.records import (
    Pause,
    PauseScope,
    WorkflowExecution,
    check_identifier,
    check_scope,
    check_text,
    utc_now,
)
from durable_workflow_sqlite.store import executions, rows
from durable_workflow_sqlite.store.claims import Claims
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.rows import json_array, readable, time_to_text
from durable_workflow_sqlite.store.transactions import Transactions

PART: Final = 250
"""So many executions learn of the pause of their parent in one transaction: in milliseconds."""


class Pauses:
    """put_into_queue: makes an execution that no worker has available."""

    def __init__(
        self,
        connection: object,
        queries: Queries,
        commit: Transactions,
        claims: Claims,
        *,
        put_into_queue: Callable[[list[str], datetime], None],
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._claims = claims
        self._put_into_queue = put_into_queue

    async def pause_execution(
        self,
        workflow_execution_id: str,
        save: Callable[[], None],
        by: str,
        reason: str | None,
        now: datetime | None,
    ) -> bool:
        """`save` is called in the same transaction."""
        check_identifier("workflow_execution_id", workflow_execution_id)
        check_identifier("by", by)
        check_text("reason", reason)
        at = now or utc_now()

        def pause() -> bool:
            before = self._load(workflow_execution_id)
            if not self._queries.pause_execution(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                paused_at=time_to_text(at),
                paused_by=by,
                paused_reason=reason,
            ):
                raise executions.finished(before, "it was not paused")
            save()
            self._commit.count_change()
            return before.paused_at is None

        return await self._commit.write(pause)

    async def spread_pauses(self, now: datetime | None) -> bool:
        at = now or utc_now()
        # A look first: where there is nothing to hand down, nobody is kept from the lock.
        if await self._commit.read(self._next_parent) is None:
            return False

        def spread() -> bool:
            left = PART
            while left > 0 and (parent := self._next_parent()) is not None:
                left -= 1 + self._hand_down(parent, left, at)
            return left <= 0

        return await self._commit.write(spread)

    def _next_parent(self) -> str | None:
        return self._queries.load_spreading(self._connection)

    def _hand_down(self, parent: str, at_most: int, now: datetime) -> int:
        """Tell some children of an execution what holds them; how many.

        A trigger notes those that have children of their own, so that these are told, too.
        """
        queries, connection = self._queries, self._connection
        self._commit.hold_execution(parent)
        holder = queries.load_holder(connection, workflow_execution_id=parent)
        if holder is None:
            let_go = queries.load_to_let_go(
                connection, parent_execution_id=parent, row_limit=at_most
            )
            changed = [row.workflow_execution_id for row in let_go]
        else:
            to_hold = queries.load_to_hold(
                connection, parent_execution_id=parent, holder=holder, row_limit=at_most
            )
            changed = [row.workflow_execution_id for row in to_hold]
        if changed:
            self._commit.count_change()
            ids = json_array(changed)
            queries.hold_with(connection, workflow_execution_ids=ids, holder=holder)
            if holder is None:
                free = queries.load_unclaimed(connection, workflow_execution_ids=ids)
                self._put_into_queue([row.workflow_execution_id for row in free], now)
            else:
                queries.tell_paused(
                    connection, workflow_execution_ids=ids, created_at=time_to_text(now)
                )
        if len(changed) < at_most:
            queries.delete_spreading(connection, workflow_execution_id=parent)
        return len(changed)

    async def resume_execution(
        self, workflow_execution_id: str, save: Callable[[], None], now: datetime | None
    ) -> bool:
        """`save` is called in the same transaction, before it is in the queue."""
        check_identifier("workflow_execution_id", workflow_execution_id)
        at = now or utc_now()

        def resume() -> bool:
            if not self.end_pause_of(workflow_execution_id):
                self._load(workflow_execution_id)
                return False
            save()
            self.put_back(workflow_execution_id, at)
            return True

        return await self._commit.write(resume)

    def end_pause_of(self, workflow_execution_id: str) -> bool:
        """Called from within a transaction; whether there was one."""
        return bool(
            self._queries.resume_execution(
                self._connection, workflow_execution_id=workflow_execution_id
            )
        )

    def put_back(self, workflow_execution_id: str, now: datetime) -> None:
        """Called from within a transaction: it may be claimed, unless a worker still has it."""
        self._commit.count_change()
        if self._claims.load(workflow_execution_id) is None:
            self._put_into_queue([workflow_execution_id], now)

    def _load(self, workflow_execution_id: str) -> WorkflowExecution:
        found = executions.load_execution(self._connection, self._queries, workflow_execution_id)
        if found is None:
            raise executions.not_found(workflow_execution_id)
        return found

    # As a whole

    async def begin_pause(self, pause: Pause, save: Callable[[], None]) -> bool:
        """`save` is called in the same transaction, if anything changes."""

        def begin() -> bool:
            self._commit.count_change()
            key = {"scope": pause.scope.value, "name": pause.name}
            is_new = self._queries.insert_pause(
                self._connection,
                **key,
                paused_at=time_to_text(pause.paused_at),
                paused_by=pause.paused_by,
                paused_reason=pause.paused_reason,
            )
            if not is_new and pause.paused_reason is not None:
                self._queries.change_pause_reason(
                    self._connection, **key, paused_reason=pause.paused_reason
                )
            if is_new or pause.paused_reason is not None:
                save()
            return bool(is_new)

        return await self._commit.write(begin)

    async def end_pause(self, scope: PauseScope, name: str, save: Callable[[], None]) -> bool:
        """`save` is called in the same transaction, if it was paused."""
        check_scope(scope, name)

        def end() -> bool:
            self._commit.count_change()
            if not self._queries.delete_pause(self._connection, scope=scope.value, name=name):
                return False
            save()
            return True

        return await self._commit.write(end)

    async def load_pauses(self) -> list[Pause]:
        found = await self._commit.read(lambda: self._queries.load_pauses(self._connection))
        return readable(found, rows.pause_from)
