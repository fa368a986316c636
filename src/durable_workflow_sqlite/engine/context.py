"""`WorkflowContext`: what a workflow function is given, and all that it may await."""

from __future__ import annotations

import uuid
from asyncio import events
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar, copy_context
from datetime import datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    TypeVar,
    TypeVarTuple,
    Unpack,
    get_args,
    overload,
)

from durable_workflow_sqlite.engine import hints, serialization
from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.body_loop import BodyLoop
from durable_workflow_sqlite.engine.history import TIMERS, Place, StepHistory, mismatch
from durable_workflow_sqlite.engine.operations import OnCancel, Operation, StepCall, WaitCall
from durable_workflow_sqlite.engine.retry import RetryPolicy
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import StepKind, check_identifier, check_text, check_time

if TYPE_CHECKING:
    from typing_extensions import TypeForm

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
T = TypeVar("T")

COMPENSATION_RETRY: Final = RetryPolicy.exponential(
    max_attempts=None, initial_delay=timedelta(milliseconds=200), max_delay=timedelta(hours=1)
)
"""A compensation does not give up: what is not undone is somebody's money."""
_KEY_NAMESPACE: Final = uuid.UUID("b5b1a4a4-6f0e-4f7c-9a51-3f6a0d0c7a11")
_ON_CANCEL: Final = get_args(OnCancel)

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_STEP: Final = StepKind.STEP

current_context: ContextVar[WorkflowContext] = ContextVar("workflow context")


class WorkflowContext:
    """What a workflow function uses for steps, sleeps and signals, which are recorded.

    Each `step`, `sleep` and `wait_signal` takes the next number of its context when it is
    *called*; this number identifies the call on every replay. Any task of the workflow function
    may use the context. A `branch` has its own numbers.
    """

    __slots__ = ("_body", "_branch", "_keyed", "_made")

    def __init__(self, body: Body, branch: str = "") -> None:
        self._body = body
        self._branch = branch
        self._keyed: tuple[int, str] | None = None
        self._made = 0
        body.asked[branch] = 0

    @staticmethod
    def current() -> WorkflowContext | None:
        """The context of the workflow function that calls this, from any of its tasks.

        Everywhere else it is None, also in actions and compensations. It is the context of the
        function, not a branch of it.
        """
        if not isinstance(events._get_running_loop(), BodyLoop):
            return None
        return current_context.get(None)

    @property
    def execution_id(self) -> str:
        """The id of the execution that this context belongs to."""
        return self._body.execution_id

    def now(self) -> datetime:
        """The time of the last event that the workflow function got, in UTC.

        It is the same on every replay, and does not change while the function computes.
        """
        self._body.check_open()
        return self._body.loop.now

    def random(self) -> float:
        """A random number from 0 to 1, but never 1; the same on every replay.

        If you need more numbers, seed a generator: `random.Random(ctx.random())`. Not for secrets.
        """
        return (int.from_bytes(self._random_bytes()[:7]) >> 3) / (1 << 53)

    def uuid4(self) -> uuid.UUID:
        """A random UUID; the same on every replay. Not for secrets."""
        return uuid.UUID(bytes=self._random_bytes()[:16], version=4)

    def _random_bytes(self) -> bytes:
        from hashlib import sha256  # it loads OpenSSL, and few workflows need it

        self._body.check_open()
        self._made += 1
        body = self._body
        seed = repr((body.execution_id, body.started_at.isoformat(), self._branch, self._made))
        return sha256(seed.encode()).digest()

    @overload
    def step(
        self,
        name: str,
        action: Callable[[Unpack[Ts]], Awaitable[R]],
        *args: *Ts,
        compensate: Callable[[R], object] | None = None,
        retry: RetryPolicy = ...,
        timeout: timedelta | None = None,
        serialize: Callable[[R], Any] | None = None,
        deserialize: Callable[[Any], R] | None = None,
        compensate_retry: RetryPolicy = ...,
        on_cancel: OnCancel = ...,
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def step(
        self,
        name: str,
        action: Callable[[Unpack[Ts]], R],
        *args: *Ts,
        compensate: Callable[[R], object] | None = None,
        retry: RetryPolicy = ...,
        timeout: timedelta | None = None,
        serialize: Callable[[R], Any] | None = None,
        deserialize: Callable[[Any], R] | None = None,
        compensate_retry: RetryPolicy = ...,
        on_cancel: OnCancel = ...,
    ) -> Coroutine[Any, Any, R]: ...

    def step(  # type: ignore[misc]  # mypy cannot match the variadic overloads with it
        self,
        name: str,
        action: Callable[..., Any],
        *args: Any,
        compensate: Callable[[Any], object] | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        timeout: timedelta | None = None,
        serialize: Callable[[Any], Any] | None = None,
        deserialize: Callable[[Any], Any] | None = None,
        compensate_retry: RetryPolicy = COMPENSATION_RETRY,
        on_cancel: OnCancel = "finish",
    ) -> Coroutine[Any, Any, Any]:
        """Run an action once, and record its result. Always await the returned coroutine.

        name: the name of the step in the history; any text of up to 256 characters.
        action: called with `args`. A sync action runs in a thread. The result is stored as JSON,
            and comes back as the type that the return annotation of the action names; without one
            it must be plain JSON data.
        compensate: called with the result, to undo the step when the execution fails or is
            cancelled.
        retry: attempts after a failure; `compensate_retry` is the same for the compensation. By
            default a compensation is retried until it succeeds: the first time after 0.2 seconds,
            later once an hour. The execution is COMPENSATING until then.
        timeout: the longest time of each attempt. A sync action cannot be interrupted: after the
            timeout it continues until it returns. A step whose last attempt timed out may have
            taken effect. If the execution is undone, the compensation gets what the thread
            returned, or the step runs again first. Otherwise the step is in doubt.
        serialize, deserialize: functions that convert the result to plain JSON data and back. They
            replace the type of the annotation.
        on_cancel: for an async action that runs when the execution fails, is cancelled or expires:
            "finish" lets it continue for the engine's `cancel_grace`, "stop" cancels it at once. A
            sync action always continues until it returns.

        When the await returns, the result is committed and the action never runs again. If the
        process dies before that, the action runs again: see `idempotency_key`.

        Raises the action's own error when its attempts are used up: StepTimeoutError after a
        timeout, StepFailedError for an error whose class is local or not an Exception. Raises
        SerializationError for a result that would not come back as it is; if the type shows this,
        it raises at the call. Raises NonDeterminismError if another step is recorded here. Bad
        arguments raise TypeError or ValueError at the call.
        """
        check_identifier("a step's name", name)
        if not callable(action):
            raise TypeError(
                f"the action of step {name!r} must be callable, not {action!r}; pass the function,"
                f" then its arguments: `ctx.step({name!r}, function, argument)`"
            )
        if args:
            self._body.calls.refuse_unawaited(name, args)
        if compensate is not None or serialize is not None or deserialize is not None:
            for what, function in (
                ("compensate", compensate),
                ("serialize", serialize),
                ("deserialize", deserialize),
            ):
                if function is not None and not callable(function):
                    raise TypeError(f"{what} of step {name!r} must be callable, not {function!r}")
        if not (isinstance(retry, RetryPolicy) and isinstance(compensate_retry, RetryPolicy)):
            what, policy = ("retry", retry)
            if isinstance(retry, RetryPolicy):
                what, policy = ("compensate_retry", compensate_retry)
            raise TypeError(f"{what} of step {name!r} must be a RetryPolicy, not {policy!r}")
        if timeout is not None:
            _check_duration("timeout", timeout, minimum=timedelta(microseconds=1))
        if on_cancel not in _ON_CANCEL:
            raise ValueError(
                f'on_cancel of step {name!r} must be "finish" or "stop", not {on_cancel!r}'
            )
        result_type = Any
        if deserialize is None:
            try:
                result_type = hints.result_type(action)
                if result_type is not Any:
                    serialization.check_type(result_type, "the result of step", name)
            except SerializationError as refusal:
                self._refuse(refusal)
        place, history = self._next(name, _STEP)
        call = StepCall(
            place=place,
            name=name,
            history=history,
            action=action,
            args=args,
            result_type=result_type,
            compensate=compensate,
            retry=retry,
            timeout=timeout,
            serialize=serialize,
            deserialize=deserialize,
            compensate_retry=compensate_retry,
            on_cancel=on_cancel,
            idempotency_key=self._key(place, name) if self._keyed == (place[1], name) else None,
            variables=copy_context(),
        )
        if compensate is not None and self._body.is_open:
            self._body.undoable[place] = call
        return self._ask(call)

    def sleep(self, name: str, duration: timedelta) -> Coroutine[Any, Any, None]:
        """Sleep. The deadline is computed once, and stays the same after a restart."""
        check_identifier("a sleep's name", name)
        _check_duration("duration", duration)
        return self._sleep(name, duration)

    def sleep_until(self, name: str, deadline: datetime) -> Coroutine[Any, Any, None]:
        """Sleep until a time, which must have a time zone."""
        check_identifier("a sleep's name", name)
        check_time("deadline", deadline)
        return self._sleep(name, deadline)

    def _sleep(self, name: str, end: datetime | timedelta) -> Coroutine[Any, Any, None]:
        place, history = self._next(name, StepKind.SLEEP)
        return self._ask(WaitCall(place=place, name=name, history=history, is_sleep=True, end=end))

    @overload
    def wait_signal(
        self, name: str, timeout: timedelta | None = None, type: None = None
    ) -> Coroutine[Any, Any, Any]: ...

    @overload
    def wait_signal(
        self, name: str, timeout: timedelta | None = None, *, type: TypeForm[T]
    ) -> Coroutine[Any, Any, T]: ...

    def wait_signal(
        self,
        name: str,
        timeout: timedelta | None = None,
        type: Any = None,  # noqa: A002 - the word that callers expect
    ) -> Coroutine[Any, Any, Any]:
        """Wait for a signal of this name, and return its payload.

        Signals are kept until a wait takes them. Each wait takes one signal, in order of arrival.

        timeout: counted from the first time that the workflow reaches the wait; the deadline stays
            the same after a restart.
        type: of the payload; plain JSON data by default. A signal whose payload does not have the
            type is not taken: it is REFUSED, and the wait stays open for the next one.

        Raises SignalTimeoutError at the deadline; a signal that comes later stays for the next
        wait.
        """
        check_identifier("a signal's name", name)
        if name.startswith("$"):
            raise ValueError(
                f"signal names that begin with $ are reserved for the library: {name!r}"
            )
        if timeout is not None:
            _check_duration("timeout", timeout)
        payload_type = Any if type is None else type
        if payload_type is not Any:
            try:
                serialization.check_type(payload_type, "the payload of signal", name)
            except SerializationError as refusal:
                self._refuse(refusal)
        place, history = self._next(name, StepKind.SIGNAL)
        return self._ask(
            WaitCall(
                place=place,
                name=name,
                history=history,
                is_sleep=False,
                end=timeout,
                payload_type=payload_type,
            )
        )

    def branch(self, key: str, *, repeat: bool = False) -> WorkflowContext:
        """A context with its own numbers: you can change its steps without changing the others.

        key: the name of the branch, the same on every replay; for example the id of an item.
        repeat: whether the key may be used again; its second branch is then "KEY#2", and so on.

        Raises ValueError if a branch has this key already, and `repeat` is not set.
        """
        self._body.check_open()
        check_text("a branch's key", key, required=True)
        path = f"{self._branch}/{key}" if self._branch else key
        body = self._body
        if path == TIMERS:
            raise ValueError(
                f"the branch key {TIMERS!r} is reserved for the library; use another key"
            )
        if path in body.asked:
            if not repeat:
                raise ValueError(
                    f"branch {path!r} exists already. Give each branch its own key, or write"
                    " repeat=True. To go on with a branch, use the context that branch() returned"
                )
            path = body.next_of(path)
        return WorkflowContext(body, path)

    def idempotency_key(self, step: str) -> str:
        """A key for the next step of this context; it is the same each time that the step runs.

        step: the name of the step.

        Pass the key to the service that you call, so that it recognizes a repeated call:
        `await ctx.step("pay", pay, order, ctx.idempotency_key("pay"))`. The next step must have
        this name. Otherwise it raises ValueError, because the key would belong to another step.
        """
        check_identifier("a step's name", step)
        self._body.check_open()
        index = self._body.asked[self._branch]
        self._keyed = index, step
        return self._key((self._branch, index), step)

    def _key(self, place: Place, name: str) -> str:
        parts = (self._body.execution_id, place[0], place[1], name)
        return str(uuid.uuid5(_KEY_NAMESPACE, repr(parts)))

    def _ask(self, call: Operation) -> Coroutine[Any, Any, Any]:
        body = self._body
        return body.calls.add(body.ask(call))

    def _refuse(self, refusal: SerializationError) -> None:
        """Refuse a type, unless the outcome is already recorded: then it is read as before."""
        if not self._body.history.has_outcome((self._branch, self._body.asked[self._branch])):
            raise refusal

    def _next(self, name: str, kind: StepKind) -> tuple[Place, StepHistory | None]:
        """Take the next number, and look up what is recorded there."""
        body = self._body
        branch = self._branch
        index = body.asked[branch]
        place = (branch, index)
        if not (body.is_open and body.loop.is_running_now):
            body.check_open()
            return place, None  # nothing comes of it: it waits until the body is dropped
        if self._keyed is not None and self._keyed[0] == place[1]:
            keyed = self._keyed[1]
            if name != keyed or kind is not StepKind.STEP:
                raise ValueError(
                    f"idempotency_key({keyed!r}) must be followed by step {keyed!r} of the same"
                    f" context, but the next call is {kind.lower()} {name!r}"
                )
        history = body.history.take(place)
        body.asked[branch] = index + 1
        body.steps_begun += 1
        recorded = None if history is None else history.last
        if recorded is not None and (recorded.step_name != name or recorded.kind != kind):
            error = mismatch(body.execution_id, recorded, kind, name)
            body.fail(error)
            raise error
        return place, history


def _check_duration(what: str, value: object, minimum: timedelta = timedelta(0)) -> None:
    if not isinstance(value, timedelta):
        raise TypeError(f"{what} must be a timedelta, as timedelta(seconds=30), not {value!r}")
    if value < minimum:
        raise ValueError(
            f"{what} must not be {'negative' if not minimum else 'zero or less'}: {value}"
        )
