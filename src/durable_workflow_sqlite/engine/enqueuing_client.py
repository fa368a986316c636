"""What a client offers to start executions that any worker runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, TypeVarTuple

from durable_workflow_sqlite.engine import enqueuing, starting
from durable_workflow_sqlite.engine.handle import ExecutionHandle
from durable_workflow_sqlite.engine.new_signals import NewSignal
from durable_workflow_sqlite.engine.signalling_client import SignallingClient
from durable_workflow_sqlite.engine.startable import Startable
from durable_workflow_sqlite.engine.starting import OnDuplicate
from durable_workflow_sqlite.engine.workflow import check_workflow
from durable_workflow_sqlite.records import check_tags

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class EnqueuingClient(SignallingClient):
    """Stores executions for the workers."""

    async def enqueue(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        queue: str | None = None,
        key: str | None = None,
        dedup_id: str | None = None,
        on_duplicate: OnDuplicate = "reject",
        debounce: timedelta | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        ttl: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        signals: Sequence[NewSignal] = (),
        connection: Any = None,
    ) -> ExecutionHandle[R]:
        """Store an execution for any worker that has the workflow registered.

        execution_id: an id that you choose; by default a new UUID. If an execution has this id
            already, this attaches to it. So you can repeat an enqueue until it has worked.
        queue: the named queue to put it into; see `declare`. Its limits say how many executions
            run at once. By default the execution is in no named queue.
        key: the key that the queue's `per_key` limits; for example, the id of a customer.
        dedup_id: at most one unfinished execution of the queue has this id. When it is over, the
            id is free again. If another one has the id, `on_duplicate` says what happens: "reject"
            raises DuplicateExecutionError, "existing" returns a handle to the other one.
        debounce: with `dedup_id`: the execution begins when this time has passed without another
            such call, with the arguments of the last call. Calls return a handle to the same
            execution until it begins; after that, a call starts the next one.
        delay: no worker claims the execution before this time has passed.
        priority: executions with a higher number are claimed first; then older executions.
        ttl: how long the execution may take; then it is compensated and FAILED.
        tags: names and values to find it by, as `{"customer": "7"}`; they do not change later.
            An execution that has this id already keeps its old tags.
        signals: stored in the same transaction. An execution that has this id already gets none of
            them: `signal_or_start` sends a signal to it.
        connection: of your own, to the same database, in a transaction: the execution is stored in
            that, and begins when you commit. On SQLite it is a `sqlite3.Connection` to the same
            file, on PostgreSQL a `psycopg.Connection` or `AsyncConnection`.

        Raises ExecutionConflictError if the id belongs to another workflow or input. Raises
        SerializationError for input, or a type of result, that would not come back as it is.
        Raises TypeError for arguments that the workflow does not take, and QueueNotFoundError for a
        queue that is not declared; DuplicateExecutionError because of `dedup_id`. Raises
        TransactionMisuseError for a connection that cannot be used. Nothing is written then.
        """
        access = self._working() if connection is None else self._within(connection)
        timing = starting.timing(
            access.clock.now(),
            delay=delay,
            priority=priority,
            ttl=ttl,
            queue=queue,
            key=key,
            dedup=starting.Dedup(dedup_id, on_duplicate, debounce),
        )
        tags, definition = check_tags(tags), check_workflow(workflow)
        record = starting.queued_record(
            definition.record, definition.encode_input(args), execution_id, timing
        )
        type_ = definition.result_type  # refused before anything is written
        stored = await starting.enqueue(access, definition.record, record, tags, signals, timing)
        return self._handle_of(stored, type_)

    async def enqueue_named(
        self,
        type: str,  # noqa: A002 - the word that the tables have
        args: Sequence[object] = (),
        *,
        version: int | None = None,
        execution_id: str | None = None,
        queue: str | None = None,
        key: str | None = None,
        dedup_id: str | None = None,
        on_duplicate: OnDuplicate = "reject",
        debounce: timedelta | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        ttl: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        signals: Sequence[NewSignal] = (),
        connection: Any = None,
    ) -> ExecutionHandle[Any]:
        """Store an execution for the workers, as `enqueue`, without the code of its workflow.

        type: the name of the workflow; executions of it must have been stored before, or a living
            worker or this engine has it registered. version: by default the newest one.
        args: the list of the arguments, stored as JSON. If this engine has the workflow, they are
            checked. Otherwise a worker checks them: if its code cannot read them, the execution
            stops in trouble before it begins, and can be cancelled.

        The other arguments are as for `enqueue`. Raises ValueError for a type or version that is
        not known, and names the nearest type; ExecutionConflictError, SerializationError,
        QueueNotFoundError and, if this engine has the workflow, TypeError as `enqueue` does.
        Nothing is written then.
        """
        access = self._working() if connection is None else self._within(connection)
        timing = starting.timing(
            access.clock.now(),
            delay=delay,
            priority=priority,
            ttl=ttl,
            queue=queue,
            key=key,
            dedup=starting.Dedup(dedup_id, on_duplicate, debounce),
        )
        tags = check_tags(tags)
        stored = await enqueuing.enqueue_named(
            access, type, args, version, execution_id, timing, tags, signals
        )
        return self._handle_of(stored, Any)
