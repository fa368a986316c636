"""Deleting what is finished and old, in batches, so that no writer waits for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial

from durable_workflow_sqlite.records import (
    TERMINAL_STATUSES,
    ExecutionStatus,
    check_identifier,
    check_integer,
    check_time,
)
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.rows import json_array, time_to_text
from durable_workflow_sqlite.store.transactions import Transactions


class Retention:
    """What is kept no longer. Each batch is a transaction of its own."""

    def __init__(self, connection: object, queries: Queries, commit: Transactions) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit

    async def delete_execution(self, workflow_execution_id: str) -> bool:
        check_identifier("workflow_execution_id", workflow_execution_id)
        deleted = await self._commit.write(lambda: self._delete([workflow_execution_id]))
        return deleted > 0

    async def delete_completed_before(
        self,
        before: datetime,
        statuses: Collection[ExecutionStatus],
        *,
        batch_size: int,
        on_deleted: Callable[[int], object] | None,
    ) -> int:
        wanted = {ExecutionStatus(status) for status in statuses}
        if not wanted <= TERMINAL_STATUSES:
            unfinished = ", ".join(sorted(wanted - TERMINAL_STATUSES))
            raise ValueError(f"only finished executions can be deleted, not those {unfinished}")
        before_text = _limit(before)
        workflows = await self._commit.read(lambda: self._queries.load_workflows(self._connection))
        total = 0
        for workflow in workflows:
            for status in sorted(wanted):
                pair = (workflow.workflow_id, status)
                say = None if on_deleted is None else partial(_add_to, total, on_deleted)
                total += await self._prune(*pair, before_text, batch_size, say)
        return total

    async def delete_finished(
        self, workflow_execution_ids: Collection[str], before: datetime
    ) -> list[str]:
        if isinstance(workflow_execution_ids, str):
            raise TypeError(f"give a list of ids, not the string {workflow_execution_ids!r}")
        for one in workflow_execution_ids:
            check_identifier("workflow_execution_id", one)
        ids, before_text = json_array(workflow_execution_ids), _limit(before)

        def delete_batch() -> list[str]:
            rows = self._queries.load_finished(
                self._connection, workflow_execution_ids=ids, before=before_text
            )
            found = [row.workflow_execution_id for row in rows]
            self._delete(found)
            return found

        began = time.monotonic()
        deleted = await self._commit.write(delete_batch)
        await asyncio.sleep(time.monotonic() - began)
        return deleted

    async def _prune(
        self,
        workflow_id: str,
        status: ExecutionStatus,
        before: str,
        batch_size: int,
        on_deleted: Callable[[int], object] | None,
    ) -> int:
        def delete_batch(created_from: str) -> tuple[int, str]:
            found = self._queries.load_ids_to_prune(
                self._connection,
                workflow_id=workflow_id,
                status=status.value,
                created_from=created_from,
                before=before,
                batch_size=batch_size,
            )
            if not found:
                return 0, created_from
            return self._delete([row.workflow_execution_id for row in found]), found[-1].created_at

        return await self._in_batches(delete_batch, batch_size, on_deleted)

    async def delete_old_changes(self, before: datetime, batch_size: int) -> None:
        """Delete the entries of the audit log about what is not an execution."""
        text = _limit(before)

        def delete() -> bool:
            deleted = self._queries.delete_old_changes(
                self._connection, before=text, batch_size=batch_size
            )
            return deleted == batch_size

        while await self._commit.write(delete):
            pass

    async def delete_old_timers(self, before: datetime, batch_size: int) -> int:
        before_text = _limit(before)

        def delete_batch(_: str) -> tuple[int, str]:
            deleted = self._queries.delete_old_timers(
                self._connection, before=before_text, batch_size=batch_size
            )
            return deleted, ""

        return await self._in_batches(delete_batch, batch_size)

    async def delete_old_signals(self, before: datetime, batch_size: int) -> int:
        before_text = _limit(before)

        def delete_batch(_: str) -> tuple[int, str]:
            deleted = self._queries.delete_old_signals(
                self._connection, before=before_text, batch_size=batch_size
            )
            return deleted, ""

        return await self._in_batches(delete_batch, batch_size)

    async def _in_batches(
        self,
        delete_batch: Callable[[str], tuple[int, str]],
        batch_size: int,
        on_deleted: Callable[[int], object] | None = None,
    ) -> int:
        """Delete batch after batch; each is given the place at which the one before ended."""
        check_integer("batch_size", batch_size, minimum=1)
        total = 0
        place = ""
        while True:
            began = time.monotonic()
            deleted, place = await self._commit.write(partial(delete_batch, place))
            if not deleted:
                return total
            total += deleted
            if on_deleted is not None:
                on_deleted(total)
            # Others who want the lock look for it now and then: it is free half of the time.
            await asyncio.sleep(time.monotonic() - began)

    def _delete(self, execution_ids: list[str]) -> int:
        ids = json_array(execution_ids)
        for delete in (
            self._queries.delete_claims,
            self._queries.delete_signals,
            self._queries.delete_timers,
            self._queries.delete_checkpoints,
            self._queries.delete_patches,
            self._queries.delete_stream_items,
            self._queries.delete_progress,
            self._queries.delete_tags,
            self._queries.delete_audit_log,
        ):
            delete(self._connection, workflow_execution_ids=ids)
        before = self._commit.total_changes()
        deleted = self._queries.delete_executions(self._connection, workflow_execution_ids=ids)
        if self._commit.total_changes() - before > deleted:
            self._commit.count_change()  # a trigger has told a parent, or children
        return deleted


def _add_to(before: int, on_deleted: Callable[[int], object], deleted: int) -> None:
    on_deleted(before + deleted)


def _limit(before: datetime) -> str:
    check_time("before", before)
    return time_to_text(before)
