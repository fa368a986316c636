"""What `ctx.wait_any` waits for, and the wait for the first of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec

from durable_workflow_sqlite.engine.history import Place
from durable_workflow_sqlite.engine.operations import WaitCall

T_co = TypeVar("T_co", covariant=True)

_NOTHING: Any = object()


class Awaited:
    """What `ctx.wait_any` can wait for.

    `ctx.signal`, `ctx.question`, `ctx.timer` and `ctx.start_child` give it.
    """

    __slots__ = ()


class AwaitedSignal(Awaited, Generic[T_co]):
    """A signal that `ctx.wait_any` waits for, by name.

    type: of the payload, as for `ctx.wait_signal`.
    """

    __slots__ = ("_value", "name", "type")

    def __init__(self, name: str, type: Any) -> None:  # noqa: A002 - as in `ctx.wait_signal`
        self.name = name
        self.type = type
        self._value: Any = _NOTHING

    @property
    def value(self) -> T_co:
        """The payload, once `ctx.wait_any` has returned this; of the last time that it did.

        Raises RuntimeError before that.
        """
        if self._value is _NOTHING:
            raise RuntimeError(f"signal {self.name!r} has no value: wait_any has not returned it")
        value: T_co = self._value
        return value

    def came(self, value: object) -> None:
        """For the library: this came first, with this payload."""
        self._value = value


class AwaitedQuestion(AwaitedSignal[T_co]):
    """A question to people that `ctx.wait_any` waits for.

    question, to, details: as for `ctx.ask`. `value` is the answer.
    """

    __slots__ = ("details", "question", "to")

    def __init__(
        self,
        name: str,
        type: Any,  # noqa: A002 - as in `ctx.ask`
        question: str,
        to: str | None,
        details: object,
    ) -> None:
        super().__init__(name, type)
        self.question = question
        self.to = to
        self.details = details


class AwaitedTimer(Awaited):
    """A time that `ctx.wait_any` waits for.

    end: when; or how long, counted from each call of `ctx.wait_any`.
    """

    __slots__ = ("end", "name")

    def __init__(self, name: str, end: datetime | timedelta) -> None:
        self.name = name
        self.end = end


class FirstOf(msgspec.Struct, frozen=True):
    """A call of `ctx.wait_any`: what it waits for, and the waits, or what else gives an outcome."""

    place: Place
    waits: list[tuple[Awaited, WaitCall | Callable[[], Coroutine[Any, Any, Any]]]]

    @property
    def name(self) -> str:
        return "wait_any"

    @property
    def operations(self) -> list[WaitCall]:
        """What it asks for."""
        return [one for _, one in self.waits if isinstance(one, WaitCall)]

    def describe(self) -> str:
        calls = ", ".join(one.describe() for one in self.operations)
        return f"wait_any of {calls or 'children'}"


async def first_of(call: FirstOf, ask: Callable[[WaitCall], Coroutine[Any, Any, Any]]) -> Awaited:
    """Wait for the first, and give the others up: what they wait for stays for other waits."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any]] = [
        loop.create_task(ask(one) if isinstance(one, WaitCall) else one()) for _, one in call.waits
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    first: Awaited | None = None
    for (item, one), task in zip(call.waits, tasks, strict=True):
        if not task.done():
            continue
        if not isinstance(one, WaitCall):
            task.exception()  # the child has come to its end, and its handle says how
            first = first or item
        elif first is None:
            first, value = item, task.result()
            if isinstance(item, AwaitedSignal):
                item.came(value)
    assert first is not None
    return first
