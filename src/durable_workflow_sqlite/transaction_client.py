"""`TransactionClient`: starts and signals executions in the caller's own transaction."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from durable_workflow_sqlite import stores
from durable_workflow_sqlite.engine.access import Access, refuse_in_a_workflow_function
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.clock import Clock
from durable_workflow_sqlite.engine.enqueuing_client import EnqueuingClient
from durable_workflow_sqlite.engine.handle import ExecutionHandle
from durable_workflow_sqlite.engine.outcome import SignalResult
from durable_workflow_sqlite.engine.signalling_client import SignallingClient
from durable_workflow_sqlite.loops import NoLoop
from durable_workflow_sqlite.payload_codec import MAX_PAYLOAD_BYTES, PayloadCodec
from durable_workflow_sqlite.store.joined import run_now

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=EnqueuingClient)
S = TypeVar("S", bound=SignallingClient)


class _Behind(Client):
    def _working(self) -> Access:
        refuse_in_a_workflow_function()
        return Access(NoLoop(), self._store, self._clock, self._known())


def _starting(
    method: Callable[Concatenate[E, P], Coroutine[Any, Any, ExecutionHandle[R]]],
) -> Callable[Concatenate[TransactionClient, P], str]:
    @functools.wraps(method)
    def start(self: TransactionClient, /, *args: P.args, **kwargs: P.kwargs) -> str:
        behind: Any = self.behind
        return run_now(method(behind, *args, **kwargs)).execution_id

    return start


def _sending(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, SignalResult]],
) -> Callable[Concatenate[TransactionClient, P], SignalResult]:
    @functools.wraps(method)
    def send(self: TransactionClient, /, *args: P.args, **kwargs: P.kwargs) -> SignalResult:
        behind: Any = self.behind
        return run_now(method(behind, *args, **kwargs))

    return send


class TransactionClient:
    """Starts and signals executions in the transaction of a connection; it needs nothing else.

    No store and no engine need be open in this process, and nothing here waits: use it in any
    thread, with or without an event loop. Your program commits, and the workers begin then. It also
    works with the connection that a function of `ctx.transaction` or `store.write` gets.

    connection: a `sqlite3.Connection` to a file that has the tables of this library, or a
        `psycopg.Connection`. A transaction that is not open is begun as the driver would begin it.
        In autocommit mode, begin it first.
    schema: on PostgreSQL, the schema of the store; by default `durable_workflow`.
    codec, max_payload_bytes: as for `open_store`. With the connection of a function that a store
        calls, these and `schema` are those of the store.
    clock: where the time comes from.

    Raises TypeError for anything but a connection. Raises TransactionMisuseError for a connection
    that is closed, is of another thread, or is in autocommit mode and in no transaction. Raises
    StoreError for a database without the tables of this version, and SchemaTooNewError.
    """

    def __init__(
        self,
        connection: Any,
        *,
        schema: str | None = None,
        codec: PayloadCodec | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        clock: Clock | None = None,
    ) -> None:
        store = stores.joined_store(connection, schema, codec, max_payload_bytes)
        self.behind = _Behind(store, clock=clock)

    enqueue = _starting(EnqueuingClient.enqueue)
    enqueue_named = _starting(EnqueuingClient.enqueue_named)
    send_signal = _sending(SignallingClient.send_signal)
