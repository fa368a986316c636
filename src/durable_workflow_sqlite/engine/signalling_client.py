"""What a client offers for signals."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar, TypeVarTuple

from durable_workflow_sqlite.engine import signalling, starting
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.handle import ExecutionHandle
from durable_workflow_sqlite.engine.new_signals import NewSignal
from durable_workflow_sqlite.engine.outcome import SignalResult
from durable_workflow_sqlite.engine.startable import Startable
from durable_workflow_sqlite.engine.workflow import check_workflow
from durable_workflow_sqlite.records import check_identifier, check_tags

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class SignallingClient:
    """Sends signals, also to an execution that it starts with them."""

    def _working(self) -> Access:
        raise NotImplementedError

    def _within(self, connection: Any) -> Access:
        raise NotImplementedError

    def _handle_of(self, execution_id: str, result_type: Any) -> ExecutionHandle[Any]:
        raise NotImplementedError

    async def send_signal(
        self,
        execution_id: str,
        name: str,
        payload: object = None,
        *,
        key: str | None = None,
        connection: Any = None,
    ) -> SignalResult:
        """Send a message to an execution; it is kept until the workflow waits for it.

        payload: stored as JSON.
        key: a name for this one message, for example the id that its sender gave it. So you can
            repeat a send until it has worked: if the execution has a signal with this key already,
            nothing is written. This is so until the row of the signal is deleted, also if the
            execution is finished by then.
        connection: of your own, in a transaction, as for `enqueue`: the signal is sent when you
            commit.

        Returns SENT, or DUPLICATE because of the key; only DUPLICATE is false.

        Raises ExecutionNotFoundError; ExecutionFinishedError; SerializationError for a payload that
        cannot be written as JSON, or that the open wait cannot read; ExecutionConflictError if the
        key belongs to a signal with another name or payload. Nothing is written then.
        """
        new = NewSignal(name, payload, key=key)
        access = self._working() if connection is None else self._within(connection)
        return await signalling.send_signal(access, execution_id, new)

    async def signal_or_start(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str,
        signal: NewSignal,
        queue: str | None = None,
        key: str | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        ttl: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> tuple[ExecutionHandle[R], SignalResult]:
        """Send a signal to an execution; if there is none with this id, enqueue it with the signal.

        The execution and the signal are stored in one transaction. So several processes may call
        this at once: one of them starts the execution, and each signal is stored once.

        execution_id: required, since the id says which execution gets the signal. If it is there,
            all arguments except `signal` are not used: also another input is no conflict.
        signal: if it has a key of its own, you can repeat this until it has worked.

        The other arguments are those of `enqueue`; `key` is for the queue.

        Returns the handle, and what became of the signal: SENT, STARTED or DUPLICATE. Raises
        ExecutionFinishedError for a finished execution, and ExecutionConflictError for one of
        another workflow. The other errors are those of `enqueue` and `send_signal`. Nothing is
        written then.
        """
        access = self._working()
        check_identifier("execution_id", execution_id)
        timing = starting.timing(
            access.clock.now(), delay=delay, priority=priority, ttl=ttl, queue=queue, key=key
        )
        tags = check_tags(tags)
        definition = check_workflow(workflow)
        record = starting.queued_record(
            definition.record, definition.encode_input(args), execution_id, timing
        )
        handle: ExecutionHandle[R] = self._handle_of(execution_id, definition.result_type)
        result = await signalling.signal_or_start(access, definition.record, record, signal, tags)
        return handle, result
