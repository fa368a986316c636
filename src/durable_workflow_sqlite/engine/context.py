"""`WorkflowContext`: what a workflow function is given, and all that it may await."""

from __future__ import annotations

from asyncio import events
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    TypeVar,
    TypeVarTuple,
    Unpack,
    cast,
    get_args,
    overload,
)

from durable_workflow_sqlite.engine import hints, serialization
from durable_workflow_sqlite.engine.awaiting import (
    Awaited,
    AwaitedSignal,
    AwaitedTimer,
    FirstOf,
    first_of,
)
from durable_workflow_sqlite.engine.body_loop import BodyLoop
from durable_workflow_sqlite.engine.composing import ChildHandle, Composing
from durable_workflow_sqlite.engine.operations import OnCancel, StepCall, WaitCall
from durable_workflow_sqlite.engine.retry import COMPENSATION_RETRY, RetryPolicy
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import StepKind, check_identifier, check_time

if TYPE_CHECKING:
    from typing_extensions import TypeForm

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
T = TypeVar("T")

_ON_CANCEL: Final = get_args(OnCancel)

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_STEP: Final = StepKind.STEP


class WorkflowContext(Composing):
    """What a workflow function uses for steps, sleeps and signals, which are recorded.

    Each `step`, `sleep` and `wait_signal` takes the next number of its context when it is
    *called*; this number identifies the call on every replay. Any task of the workflow function
    may use the context. A `branch` has its own numbers.
    """

    __slots__ = ()

    @staticmethod
    def current() -> WorkflowContext | None:
        """The context of the workflow function that calls this, from any of its tasks.

        Everywhere else it is None, also in actions and compensations. It is the context of the
        function, not a branch of it.
        """
        loop = events._get_running_loop()
        return cast("WorkflowContext", loop.context) if isinstance(loop, BodyLoop) else None

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
        return self._ask(self._sleep_call(name, end))

    def _sleep_call(self, name: str, end: datetime | timedelta) -> WaitCall:
        place, history = self._next(name, StepKind.SLEEP)
        return WaitCall(place=place, name=name, history=history, is_sleep=True, end=end)

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
        _check_signal_name(name)
        if timeout is not None:
            _check_duration("timeout", timeout)
        return self._ask(self._signal_call(name, timeout, Any if type is None else type))

    def _signal_call(self, name: str, timeout: timedelta | None, payload_type: Any) -> WaitCall:
        if payload_type is not Any:
            try:
                serialization.check_type(payload_type, "the payload of signal", name)
            except SerializationError as refusal:
                self._refuse(refusal)
        place, history = self._next(name, StepKind.SIGNAL)
        return WaitCall(
            place=place,
            name=name,
            history=history,
            is_sleep=False,
            end=timeout,
            payload_type=payload_type,
        )

    @overload
    def signal(self, name: str, type: None = None) -> AwaitedSignal[Any]: ...

    @overload
    def signal(self, name: str, type: TypeForm[T]) -> AwaitedSignal[T]: ...

    def signal(self, name: str, type: Any = None) -> AwaitedSignal[Any]:  # noqa: A002
        """A signal for `wait_any` to wait for; it sends nothing. type: as for `wait_signal`."""
        _check_signal_name(name)
        return AwaitedSignal(name, Any if type is None else type)

    def timer(self, name: str, end: timedelta | datetime) -> AwaitedTimer:
        """A time for `wait_any` to wait for: how long from the call on, or when."""
        check_identifier("a timer's name", name)
        if isinstance(end, datetime):
            check_time("end", end)
        else:
            _check_duration("end", end)
        return AwaitedTimer(name, end)

    def wait_any(self, *items: Awaited) -> Coroutine[Any, Any, Awaited]:
        """Wait for the first of several signals, timers and children, and return that item.

        items: what `signal`, `timer` and `start_child` return. The returned item is one of them:
            compare with `is`. A signal then has its payload as `value`.

        Only the first is taken. Signals of the others stay for other waits, other timers are
        cancelled, and other children go on. Of those that came before the call, the earliest
        signal or timer is first; a child whose end is known already comes before these.

        Each item takes the next number, as if it were waited for alone; a child when it is needed.

        Raises TypeError or ValueError at the call for no items, for the same item twice, and for
        what is none; SerializationError for a type that cannot be stored.
        """
        if not items:
            raise ValueError("wait_any needs something to wait for, as ctx.signal(name)")
        for number, item in enumerate(items):
            if not isinstance(item, Awaited):
                raise TypeError(
                    "wait_any waits for what ctx.signal, ctx.timer and ctx.start_child return,"
                    f" not for {item!r}"
                )
            if any(item is other for other in items[:number]):
                raise ValueError("wait_any is given the same item twice")
        body = self._body
        body.check_open()
        place = (self._branch, body.asked[self._branch])
        call = FirstOf(place, [(item, self._wait_of(item)) for item in items])
        return body.calls.add(first_of(call, body.ask))

    def _wait_of(self, item: Awaited) -> WaitCall | Callable[[], Coroutine[Any, Any, Any]]:
        if isinstance(item, AwaitedSignal):
            return self._signal_call(item.name, None, item.type)
        if isinstance(item, AwaitedTimer):
            return self._sleep_call(item.name, item.end)
        assert isinstance(item, ChildHandle)
        return item.result


def _check_signal_name(name: str) -> None:
    check_identifier("a signal's name", name)
    if name.startswith("$"):
        raise ValueError(f"signal names that begin with $ are reserved for the library: {name!r}")


def _check_duration(what: str, value: object, minimum: timedelta = timedelta(0)) -> None:
    if not isinstance(value, timedelta):
        raise TypeError(f"{what} must be a timedelta, as timedelta(seconds=30), not {value!r}")
    if value < minimum:
        raise ValueError(
            f"{what} must not be {'negative' if not minimum else 'zero or less'}: {value}"
        )
