"""What a context offers to wait: sleeps, signals, and the first of several things."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.awaiting import (
    Awaited,
    AwaitedSignal,
    AwaitedTimer,
    FirstOf,
    first_of,
)
from durable_workflow_sqlite.engine.composing import ChildHandle, Composing
from durable_workflow_sqlite.engine.operations import WaitCall
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import StepKind, check_identifier, check_time

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class Waiting(Composing):
    """Waits of a workflow function."""

    __slots__ = ()

    def sleep(self, name: str, duration: timedelta) -> Coroutine[Any, Any, None]:
        """Sleep. The deadline is computed once, and stays the same after a restart."""
        check_identifier("a sleep's name", name)
        check_duration("duration", duration)
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
            check_duration("timeout", timeout)
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
            check_duration("end", end)
        return AwaitedTimer(name, end)

    def wait_any(self, *items: Awaited) -> Coroutine[Any, Any, Awaited]:
        """Wait for the first of several signals, timers and children, and return that item.

        items: what `signal`, `question`, `timer` and `start_child` return. The returned item is one
            of them: compare with `is`. A signal then has its payload as `value`, a question its
            answer.

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
                    "wait_any waits for what ctx.signal, ctx.question, ctx.timer and"
                    f" ctx.start_child return, not for {item!r}"
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


def check_duration(what: str, value: object, minimum: timedelta = timedelta(0)) -> None:
    if not isinstance(value, timedelta):
        raise TypeError(f"{what} must be a timedelta, as timedelta(seconds=30), not {value!r}")
    if value < minimum:
        raise ValueError(
            f"{what} must not be {'negative' if not minimum else 'zero or less'}: {value}"
        )
