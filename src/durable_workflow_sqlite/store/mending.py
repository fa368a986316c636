"""Changing an execution that nobody works on, if it is still as it was seen: one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from durable_workflow_sqlite.errors import ExecutionConflictError
from durable_workflow_sqlite.records import (
    StepCheckpoint,
    TakenExecution,
    WorkflowExecution,
    utc_now,
)
from durable_workflow_sqlite.store.claims import Claims
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.rows import json_array, optional_time_to_text, time_to_text
from durable_workflow_sqlite.store.transactions import Transactions


class Mending:
    """take: all that is known of an execution. let_rest, put_into_queue: what becomes of it."""

    def __init__(
        self,
        connection: object,
        queries: Queries,
        commit: Transactions,
        claims: Claims,
        *,
        take: Callable[[str], TakenExecution | None],
        let_rest: Callable[[str], None],
        put_into_queue: Callable[[list[str], datetime], None],
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._claims = claims
        self._take = take
        self._let_rest = let_rest
        self._put_into_queue = put_into_queue

    async def mend_execution(
        self,
        seen: TakenExecution,
        becomes: WorkflowExecution,
        save: Callable[[], None],
        forget: Collection[StepCheckpoint],
        now: datetime | None,
    ) -> bool:
        """`save` is called in the same transaction, before it is in the queue."""
        execution_id = seen.execution.workflow_execution_id
        if becomes.workflow_execution_id != execution_id:
            raise ValueError(f"{becomes.workflow_execution_id!r} is not {execution_id!r}")
        at = now or utc_now()

        def mend() -> bool:
            self._commit.hold_execution(execution_id)
            claim = self._claims.load(execution_id)
            if claim is not None and self._claims.is_alive(claim.worker_id):
                raise self._is_claimed(execution_id, claim.worker_id)
            if self._take(execution_id) != seen:
                return False
            if claim is not None:
                self._claims.delete(execution_id, claim.fencing_token)
            self._commit.count_change()
            self._change(becomes, forget)
            save()
            if becomes.status.is_terminal:
                self._let_rest(execution_id)
                return True
            if seen.execution.status.is_terminal:
                self._queries.expect_signals_again(
                    self._connection, workflow_execution_id=execution_id
                )
            self._put_into_queue([execution_id], at)
            return True

        return await self._commit.write(mend)

    def _is_claimed(self, execution_id: str, worker_id: str) -> ExecutionConflictError:
        """Names the workers as `workers` does: another one would take over what one has left."""
        rows = self._queries.load_workers_of(self._connection, workflow_execution_id=execution_id)
        names = {
            row.worker_id: f"{row.host}:{row.process_id}"
            for row in rows
            if self._claims.is_alive(row.worker_id)
        }
        name = names.setdefault(worker_id, f"{worker_id[:8]}…")
        stop = "Stop that worker, and repeat this before you start it again"
        if len(names) > 1:
            stop = (
                f"Stop all workers that have its workflow, since another one would take it over:"
                f" {', '.join(sorted(names.values()))}. Repeat this before you start one again"
            )
        return ExecutionConflictError(
            f"execution {execution_id!r} is claimed by worker {name}: nothing was changed. {stop}",
            workflow_execution_id=execution_id,
        )

    def _change(self, becomes: WorkflowExecution, forget: Collection[StepCheckpoint]) -> None:
        if forget:  # before the rest: a trigger takes it for a deletion by hand, and blocks it
            ids = json_array([one.id for one in forget if one.id is not None])
            for forgotten in (
                self._queries.forget_stream_items,
                self._queries.forget_progress,
                self._queries.forget_attempts,
            ):
                forgotten(
                    self._connection,
                    workflow_execution_id=becomes.workflow_execution_id,
                    checkpoint_ids=ids,
                )
        self._queries.mend_execution(
            self._connection,
            workflow_execution_id=becomes.workflow_execution_id,
            status=becomes.status.value,
            current_step=becomes.current_step,
            error_type=becomes.error_type,
            error_message=becomes.error_message,
            ttl_expires_at=optional_time_to_text(becomes.ttl_expires_at),
            last_event=becomes.last_event,
            replay_origin=becomes.replay_origin,
            updated_at=time_to_text(becomes.updated_at),
            paused_at=optional_time_to_text(becomes.paused_at),
            paused_by=becomes.paused_by,
            paused_reason=becomes.paused_reason,
        )
