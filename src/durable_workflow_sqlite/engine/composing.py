"""Workflows made of workflows: what a context offers for children, and to continue as new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import Any, Generic, Literal, TypeVar, TypeVarTuple

from msgspec import UNSET, UnsetType

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.awaiting import Awaited
from durable_workflow_sqlite.engine.body import ContinueAsNew
from durable_workflow_sqlite.engine.child_calls import (
    ChildCall,
    ChildEnd,
    ChildWait,
    SignalCall,
    child_id,
)
from durable_workflow_sqlite.engine.numbering import Numbering
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.retry import COMPENSATION_RETRY, RetryPolicy
from durable_workflow_sqlite.engine.startable import (
    Startable,
    StartableDefinition,
    check_startable,
)
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    CHILD_SIGNAL,
    OnParentEnd,
    StepKind,
    check_identifier,
    check_queue_key,
)

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class ChildHandle(Awaited, Generic[R_co]):
    """A child of a workflow, for the workflow function that started it.

    `ctx.wait_any` takes it, too: a child comes when it ends, however it ends.

    execution_id: the id of the child.
    """

    __slots__ = ("_definition", "_end", "_send", "_turn", "_until_ended", "execution_id")

    def __init__(
        self,
        definition: StartableDefinition,
        execution_id: str,
        until_ended: Callable[[], Coroutine[Any, Any, ChildEnd | Exception]],
        send: Callable[[str, str, str | None], Coroutine[Any, Any, None]],
    ) -> None:
        self.execution_id = execution_id
        self._definition = definition
        self._until_ended = until_ended
        self._send = send
        self._end: ChildEnd | Exception | None = None
        self._turn: asyncio.Lock | None = None

    async def result(self) -> R_co:
        """Wait for the end of the child, and return what it returned.

        You may call it again: the result stays. Raises ChildFailedError if the child FAILED, or if
        it was deleted, and ChildCancelledError if it was cancelled. If you cancel this wait, the
        child goes on.
        """
        turn = self._turn = self._turn or asyncio.Lock()
        async with turn:
            if self._end is None:
                self._end = await self._until_ended()
        if isinstance(self._end, Exception):
            raise self._end
        result: R_co = self._end.result(self._definition, self.execution_id)
        return result

    def signal(self, name: str, payload: object = None) -> Coroutine[Any, Any, None]:
        """Send a signal to the child, exactly once. A child that is over does not get it.

        payload: stored as JSON. Raises SerializationError if JSON cannot hold it.
        """
        check_identifier("a signal's name", name)
        if name.startswith("$"):
            raise ValueError(
                f"signal names that begin with $ are reserved for the library: {name!r}; to cancel"
                " a child, call cancel()"
            )
        text = serialization.to_json(payload, f"the payload of signal {name!r}")
        return self._send(f"signal {name}"[:256], name, text)

    def cancel(self) -> Coroutine[Any, Any, None]:
        """Ask the child to stop, to undo what it did, and to end CANCELLED, and do not wait."""
        return self._send("cancel", CANCEL_SIGNAL, None)


class Composing(Numbering):
    """Children of a workflow function."""

    __slots__ = ()

    def start_child(
        self,
        name: str,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        on_parent_end: Literal["cancel", "detach"] = "cancel",
        timeout: timedelta | None = None,
        queue: str | UnsetType | None = UNSET,
        key: str | UnsetType | None = UNSET,
        compensate: Callable[[R], object] | None = None,
        compensate_retry: RetryPolicy = COMPENSATION_RETRY,
    ) -> Coroutine[Any, Any, ChildHandle[R]]:
        """Start another execution as a child of this one, and return a handle to it.

        name: the name of the step, and part of the id of the child, which the handle has.
        on_parent_end: what the child does when this execution begins to undo, or is over. "cancel":
            it is cancelled, and this execution waits for its end before it undoes its own steps.
            "detach": it goes on.
        timeout: the time to live of the child, from its start; then it is undone and FAILED.
        queue, key: as for `engine.enqueue`; by default those of this execution. `queue=None` puts
            the child into no queue. An execution that waits for its child holds no slot. If no
            queue of this name is declared, the execution stops in trouble until one is.
        compensate: called with the result of the child if this execution is undone and the child
            has completed; `compensate_retry` is its policy. Not for a child that is detached.

        The child and the record of its start are one transaction: no crash starts it twice, or
        loses it. A worker that has its workflow registered runs it.

        Raises TypeError, ValueError or SerializationError at the call, as `engine.enqueue` does.
        """
        call = self._new_child(
            name, workflow, args, on_parent_end, timeout, queue, key, compensate, compensate_retry
        )
        return self._body.calls.add(self._start(call))

    def child(
        self,
        name: str,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        timeout: timedelta | None = None,
        queue: str | UnsetType | None = UNSET,
        key: str | UnsetType | None = UNSET,
        compensate: Callable[[R], object] | None = None,
        compensate_retry: RetryPolicy = COMPENSATION_RETRY,
    ) -> Coroutine[Any, Any, R]:
        """Run another execution as a child of this one, and return its result.

        As `start_child` and then `ChildHandle.result`. While it waits, this execution needs no
        worker and no memory. If you cancel the wait, the child goes on until this execution ends.

        Raises ChildFailedError if the child FAILED or was deleted, and ChildCancelledError if it
        was cancelled.
        """
        call = self._new_child(
            name, workflow, args, "cancel", timeout, queue, key, compensate, compensate_retry
        )
        return self._body.calls.add(self._run(call))

    def continue_as_new(self, *args: object) -> R:  # type: ignore[type-var]  # as it is returned
        """End this run of the workflow, and begin again with these arguments: return what it gives.

        `return ctx.continue_as_new(cursor)`. The execution keeps its id, its tags, its time to live
        and the signals that no wait has taken. Its steps are deleted, in the transaction that
        begins the next run, so the history stays small: `history_length` tells when it is time.
        What completed steps did is not undone any more. Children that do not detach are cancelled.

        Raises TypeError or SerializationError for arguments that the workflow does not take.
        """
        self._body.check_open()
        assert self._body.encode_input is not None
        input_data = self._body.encode_input(args)
        check_size(input_data, self._body.max_payload_bytes, "the input of the next run")
        following: Any = ContinueAsNew(input_data)
        self._body.following = following
        return following  # type: ignore[no-any-return]

    # What the handles and the calls above share

    def _new_child(
        self,
        name: str,
        workflow: Startable[*Ts, R],
        args: tuple[Any, ...],
        on_parent_end: str,
        timeout: timedelta | None,
        queue: str | UnsetType | None,
        key: str | UnsetType | None,
        compensate: Callable[[R], object] | None,
        compensate_retry: RetryPolicy,
    ) -> ChildCall:
        check_identifier("a child's name", name)
        definition = check_startable(workflow)
        if on_parent_end not in ("cancel", "detach"):
            raise ValueError(
                f'on_parent_end of child {name!r} must be "cancel" or "detach",'
                f" not {on_parent_end!r}"
            )
        if timeout is not None and not isinstance(timeout, timedelta):
            raise TypeError(f"timeout must be a timedelta, as timedelta(hours=1), not {timeout!r}")
        if timeout is not None and timeout <= timedelta(0):
            raise ValueError(f"timeout must not be zero or less: {timeout}")
        if compensate is not None and not callable(compensate):
            raise TypeError(f"compensate of child {name!r} must be callable, not {compensate!r}")
        if compensate is not None and on_parent_end == "detach":
            raise ValueError(
                f"child {name!r} is detached: it may go on after this execution, which so cannot"
                " undo it; leave compensate= out"
            )
        if not isinstance(compensate_retry, RetryPolicy):
            raise TypeError(
                f"compensate_retry of child {name!r} must be a RetryPolicy,"
                f" not {compensate_retry!r}"
            )
        if isinstance(queue, UnsetType):
            queue = self._body.queue
            key = self._body.queue_key if isinstance(key, UnsetType) else key
        elif queue is not None:
            check_identifier("queue", queue)
        if isinstance(key, UnsetType):
            key = None
        if key is not None:
            check_queue_key(queue, key)
        if args:
            self._body.calls.refuse_unawaited(name, args)
        try:
            input_data = definition.encode_input(args)
            check_size(input_data, self._body.max_payload_bytes, f"the input of child {name!r}")
            serialization.check_type(definition.result_type, "the result of child", name)
        except SerializationError as refusal:
            self._refuse(refusal)
            input_data = "[]"  # it is recorded, and not started again
        place, history = self._next(name, StepKind.STEP)
        execution_id = child_id(self._body.execution_id, self._body.run_number, place, name)
        call = ChildCall(
            place=place,
            name=name,
            history=history,
            action=check_startable,
            args=(),
            result_type=str,
            compensate=compensate,
            retry=RetryPolicy(),
            timeout=None,
            serialize=None,
            deserialize=None,
            compensate_retry=compensate_retry,
            on_cancel="finish",
            idempotency_key=None,
            variables=copy_context(),
            output=serialization.to_json(execution_id, "the id of a child"),
            to=execution_id,
            definition=definition,
            input_data=input_data,
            on_parent_end=OnParentEnd(on_parent_end),
            ttl=timeout,
            queue=queue,
            queue_key=key,
        )
        if self._body.is_open:
            if compensate is not None:
                self._body.undoable[place] = call
            if on_parent_end == "cancel":
                self._body.children[execution_id] = call
        return call

    async def _start(self, call: ChildCall) -> ChildHandle[Any]:
        await self._body.ask(call)
        return ChildHandle(
            call.definition,
            call.child_id,
            lambda: self._until_ended(call),
            partial(self._send, call.child_id),
        )

    async def _run(self, call: ChildCall) -> Any:
        await self._body.ask(call)
        end = await self._until_ended(call)
        if isinstance(end, Exception):
            raise end
        return end.result(call.definition, call.child_id)

    def _wait_for(self, child: str) -> ChildWait:
        name = CHILD_SIGNAL + child
        place, history = self._next(name, StepKind.SIGNAL)
        return ChildWait(
            place=place,
            name=name,
            history=history,
            is_sleep=False,
            end=None,
            child_id=child,
        )

    async def _until_ended(self, call: ChildCall) -> ChildEnd | Exception:
        body = self._body
        try:
            end: ChildEnd = await body.ask(self._wait_for(call.child_id))
        except Exception as error:
            if getattr(error, "child_execution_id", None) != call.child_id:
                raise
            body.children.pop(call.to, None)
            return error
        if call.compensate is None:
            body.children.pop(call.to, None)
        return end

    def _send(
        self, child: str, name: str, signal_name: str, payload: str | None
    ) -> Coroutine[Any, Any, None]:
        try:
            limit = self._body.max_payload_bytes
            check_size(payload, limit, f"the payload of signal {signal_name!r}")
        except SerializationError as refusal:
            self._refuse(refusal)
        place, history = self._next(name, StepKind.STEP)
        call = SignalCall(
            place=place,
            name=name,
            history=history,
            action=check_startable,
            args=(),
            result_type=None,
            compensate=None,
            retry=RetryPolicy(),
            timeout=None,
            serialize=None,
            deserialize=None,
            compensate_retry=COMPENSATION_RETRY,
            on_cancel="finish",
            idempotency_key=None,
            variables=copy_context(),
            output="null",
            to=child,
            signal_name=signal_name,
            payload=payload,
        )
        return self._ask(call)
