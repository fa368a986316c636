"""Tasks, futures and callbacks of a body's event loop; places in sets are the same in each process.

asyncio and anyio keep both in sets, and go through these to start, to cancel and to tell.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, Protocol, cast

import msgspec

_SCOPES_CANCEL: Final = "_deliver_cancellation"
"""The function of anyio that cancels the tasks of a scope, and of the scopes within it."""


_NOT_OF_THE_WORKFLOW: Final = (__name__.partition(".")[0] + ".", "asyncio.")


class Loop(Protocol):
    """What a body's event loop is for its tasks."""

    def cancel_in_order(self, cancel: Callable[[Any], bool], message: Any, number: int) -> bool:
        """Cancel a task of that number, which comes after those with lower ones."""
        ...


class Handle(msgspec.Struct, eq=False):
    """A callback to be run, instead of asyncio's: it is made in a fraction of the time."""

    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: Context
    when_due: float = 0.0
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.when_due


class BodyFuture(asyncio.Future[Any]):
    """A future whose hash is its number."""

    number = 0

    def __hash__(self) -> int:
        return self.number


def new_future(loop: asyncio.AbstractEventLoop, number: int) -> BodyFuture:
    future = BodyFuture(loop=loop)  # an `__init__` would take longer than all of this
    future.number = number
    return future


class BodyTask(asyncio.Task[Any]):
    """A task whose hash is its number."""

    __slots__ = ("_number",)

    def __init__(
        self,
        number: int,
        coroutine: Any,
        loop: Any,
        name: str | None,
        context: Context,
        **more: Any,
    ) -> None:
        self._number = number
        super().__init__(coroutine, loop=loop, name=name, context=context, **more)

    def __hash__(self) -> int:
        return self._number

    def cancel(self, msg: Any | None = None) -> bool:
        if sys._getframe(1).f_code.co_name != _SCOPES_CANCEL:  # pyright: ignore[reportPrivateUsage]
            return super().cancel(msg)
        loop = cast("Loop", self.get_loop())
        return loop.cancel_in_order(super().cancel, msg, self._number)


class Cancellations:
    """What a scope of anyio wakes as it is cancelled: put into the order of the tasks' numbers.

    The scopes within a scope are in a set, in the order of their addresses.
    """

    def __init__(self) -> None:
        self._woken: list[tuple[int, list[Any]]] = []

    def put_in_order(self, ready: list[Any], before: int, number: int) -> None:
        """Put what a task's cancellation has appended where its number says.

        before: how long the list of what is ready was before that.
        """
        added = ready[before:]
        if not added:
            return
        woken = self._woken
        if not (woken and before and ready[before - 1] is woken[-1][1][-1]):
            woken.clear()  # something else has become ready since: that was another scope
        place = len(woken)
        while place and woken[place - 1][0] > number:
            place -= 1
            before -= len(woken[place][1])
        woken.insert(place, (number, added))
        ready[before:] = [handle for _, handles in woken[place:] for handle in handles]


def where_it_waits(coroutine: Any) -> str:
    """The line of the user's own code at which a coroutine waits, in words; or nothing."""
    where = ""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        if not frame.f_globals.get("__name__", "").startswith(_NOT_OF_THE_WORKFLOW):
            code = frame.f_code
            where = f" at line {frame.f_lineno} of {code.co_filename}, in {code.co_qualname}"
        coroutine = coroutine.cr_await
    return where
