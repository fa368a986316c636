"""The stores without `await`."""

from __future__ import annotations

import os
import sqlite3
from types import TracebackType
from typing import Self

from durable_workflow_sqlite import protocol, stores
from durable_workflow_sqlite.blocking.loop_thread import LoopThread, blocking
from durable_workflow_sqlite.payload_codec import MAX_PAYLOAD_BYTES, PayloadCodec
from durable_workflow_sqlite.protocol import CheckpointStore as Behind
from durable_workflow_sqlite.store.connection import Synchronous, is_bound_to_thread
from durable_workflow_sqlite.store.sqlite import SqliteCheckpointStore as Sqlite
from durable_workflow_sqlite.store.statement_store import StatementStore as Statements


class CheckpointStore:
    """Any async store, and the thread with the event loop that uses it, until `close`.

    behind: a store that no event loop has used yet.
    """

    def __init__(self, behind: protocol.CheckpointStore) -> None:
        self.behind = behind
        self.loop = LoopThread(behind.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Dispose of the engines that use it, commit what was asked for, and close.

        Closing twice is harmless.
        """
        self.loop.close()

    @property
    def worker_id(self) -> str:
        return self.behind.worker_id

    @property
    def max_payload_bytes(self) -> int:
        return self.behind.max_payload_bytes

    save = blocking(Behind.save)
    begin_step = blocking(Behind.begin_step)
    finish_step = blocking(Behind.finish_step)
    transact = blocking(Behind.transact)
    continue_as_new = blocking(Behind.continue_as_new)
    load_workflow = blocking(Behind.load_workflow)
    load_workflows = blocking(Behind.load_workflows)
    load_execution = blocking(Behind.load_execution)
    load_checkpoints = blocking(Behind.load_checkpoints)
    take_execution = blocking(Behind.take_execution)
    send_signal = blocking(Behind.send_signal)
    load_keyed_signal = blocking(Behind.load_keyed_signal)
    load_pending_signals = blocking(Behind.load_pending_signals)
    load_stream_items = blocking(Behind.load_stream_items)
    load_stream_heads = blocking(Behind.load_stream_heads)
    load_stream_ends = blocking(Behind.load_stream_ends)
    load_progress = blocking(Behind.load_progress)
    load_signals = blocking(Behind.load_signals)
    load_next_signals = blocking(Behind.load_next_signals)
    load_open_waits = blocking(Behind.load_open_waits)
    load_last_signal_id = blocking(Behind.load_last_signal_id)
    load_signals_after = blocking(Behind.load_signals_after)
    answer_question = blocking(Behind.answer_question)
    load_questions = blocking(Behind.load_questions)
    request_cancel = blocking(Behind.request_cancel)
    load_statuses = blocking(Behind.load_statuses)
    load_stopped = blocking(Behind.load_stopped)
    create_execution = blocking(Behind.create_execution)
    enqueue_execution = blocking(Behind.enqueue_execution)
    claim_execution = blocking(Behind.claim_execution)
    claim_available = blocking(Behind.claim_available)
    load_next_available_at = blocking(Behind.load_next_available_at)
    release_claims = blocking(Behind.release_claims)
    leave_slot = blocking(Behind.leave_slot)
    take_slot = blocking(Behind.take_slot)
    declare_limits = blocking(Behind.declare_limits)
    save_limit = blocking(Behind.save_limit)
    load_limits = blocking(Behind.load_limits)
    load_limit_room = blocking(Behind.load_limit_room)
    debounce_execution = blocking(Behind.debounce_execution)
    release_created = blocking(Behind.release_created)
    mark_as_stopping = blocking(Behind.mark_as_stopping)
    join = blocking(Behind.join)
    load_served = blocking(Behind.load_served)
    release_claims_of_the_dead = blocking(Behind.release_claims_of_the_dead)
    put_into_queue = blocking(Behind.put_into_queue)
    load_unqueued_executions = blocking(Behind.load_unqueued_executions)
    load_unregistered = blocking(Behind.load_unregistered)
    load_blocked = blocking(Behind.load_blocked)
    unblock_execution = blocking(Behind.unblock_execution)
    hasten_attempts = blocking(Behind.hasten_attempts)
    mend_execution = blocking(Behind.mend_execution)
    pause_execution = blocking(Behind.pause_execution)
    resume_execution = blocking(Behind.resume_execution)
    spread_pauses = blocking(Behind.spread_pauses)
    begin_pause = blocking(Behind.begin_pause)
    end_pause = blocking(Behind.end_pause)
    load_pauses = blocking(Behind.load_pauses)
    acknowledge = blocking(Behind.acknowledge)
    load_tags = blocking(Behind.load_tags)
    load_audit_log = blocking(Behind.load_audit_log)
    load_changes = blocking(Behind.load_changes)
    save_schedule = blocking(Behind.save_schedule)
    delete_schedule = blocking(Behind.delete_schedule)
    load_schedule = blocking(Behind.load_schedule)
    load_schedules = blocking(Behind.load_schedules)
    load_due_schedules = blocking(Behind.load_due_schedules)
    load_unfinished_of_schedule = blocking(Behind.load_unfinished_of_schedule)


class StatementStore(CheckpointStore):
    """What each store that `open_store` opens offers beside the roles, without `await`."""

    write = blocking(Statements.write)
    read = blocking(Statements.read)
    save_workflow = blocking(Statements.save_workflow)
    save_execution = blocking(Statements.save_execution)
    load_executions_by_status = blocking(Statements.load_executions_by_status)
    save_checkpoint = blocking(Statements.save_checkpoint)
    save_checkpoints = blocking(Statements.save_checkpoints)
    save_timer = blocking(Statements.save_timer)
    load_pending_timers = blocking(Statements.load_pending_timers)
    load_timers = blocking(Statements.load_timers)
    save_signal = blocking(Statements.save_signal)
    delete_execution = blocking(Statements.delete_execution)
    delete_completed_before = blocking(Statements.delete_completed_before)
    delete_old_timers = blocking(Statements.delete_old_timers)
    delete_old_signals = blocking(Statements.delete_old_signals)
    delete_finished = blocking(Statements.delete_finished)
    recode = blocking(Statements.recode)


class SqliteCheckpointStore(StatementStore):
    """`durable_workflow_sqlite.SqliteCheckpointStore` without `await`.

    A connection of your own must have been opened with `check_same_thread=False`.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        synchronous: Synchronous = "normal",
        codec: PayloadCodec | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        if is_bound_to_thread(connection):
            raise ValueError(
                "the connection works in one thread only, but the store uses another; open it"
                " with sqlite3.connect(..., check_same_thread=False)"
            )
        super().__init__(
            Sqlite(
                connection,
                synchronous=synchronous,
                codec=codec,
                max_payload_bytes=max_payload_bytes,
            )
        )

    @classmethod
    def file(
        cls,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "normal",
        codec: PayloadCodec | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> Self:
        """Open a file, or create it; its folder must exist."""
        return cls.over(
            Sqlite.file(
                path, synchronous=synchronous, codec=codec, max_payload_bytes=max_payload_bytes
            )
        )

    @classmethod
    def in_memory(
        cls,
        *,
        codec: PayloadCodec | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> Self:
        """A store that ends with the process, for tests."""
        return cls.over(Sqlite.in_memory(codec=codec, max_payload_bytes=max_payload_bytes))

    @classmethod
    def over(cls, behind: Sqlite) -> Self:
        """A store that no event loop has used yet."""
        store = cls.__new__(cls)
        CheckpointStore.__init__(store, behind)
        return store


def open_store(
    url: str | os.PathLike[str],
    *,
    synchronous: Synchronous = "normal",
    codec: PayloadCodec | None = None,
    max_payload_bytes: int = MAX_PAYLOAD_BYTES,
) -> StatementStore:
    """`durable_workflow_sqlite.open_store`, for `with`."""
    behind = stores.open_store(
        url, synchronous=synchronous, codec=codec, max_payload_bytes=max_payload_bytes
    )
    if isinstance(behind, Sqlite):
        return SqliteCheckpointStore.over(behind)
    return StatementStore(behind)
