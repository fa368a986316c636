"""What a workflow called on its context, and has not awaited: an `await` is easily forgotten."""

from __future__ import annotations

from collections.abc import Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    AnyCoroutine = CoroutineType[Any, Any, Any]

T = TypeVar("T")


class Calls:
    """The steps, sleeps and waits of one execution, as far as they have not begun."""

    __slots__ = ("_earlier", "_last")

    def __init__(self) -> None:
        self._last: AnyCoroutine | None = None
        self._earlier: list[AnyCoroutine] | None = None  # most workflows never need it

    def add(self, call: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Remember a call until it begins, and hand it on."""
        last = self._last
        if last is not None and not last.cr_suspended and last.cr_frame is not None:
            self._keep(last)
        self._last = call  # type: ignore[assignment]  # a cast costs as much as all of this
        return call

    def take_unawaited(self) -> list[Any]:
        """The `StepCall`s and `WaitCall`s that nobody awaited; they cannot be awaited any more."""
        calls: list[Any] = []
        for coroutine in (*(self._earlier or ()), self._last):
            if coroutine is not None and _is_new(coroutine):
                assert coroutine.cr_frame is not None
                call = coroutine.cr_frame.f_locals["call"]
                calls += getattr(call, "operations", None) or [call]  # those of a `wait_any`
                coroutine.close()  # or Python warns of it, too
        return calls

    def refuse_unawaited(self, step: str, args: tuple[object, ...]) -> None:
        """Raise TypeError if a step is given the call of another one instead of its result."""
        for arg in args:
            if type(arg) is not CoroutineType:
                continue
            call: AnyCoroutine = arg  # pyright: ignore[reportUnknownVariableType]
            is_ours = call is self._last or any(call is one for one in self._earlier or ())
            if is_ours and _is_new(call):
                assert call.cr_frame is not None
                called = call.cr_frame.f_locals["call"].describe()
                raise TypeError(
                    f"step {step!r} is given the coroutine of {called} as an argument, and not its"
                    " result: write `await` before that call"
                )

    def _keep(self, call: AnyCoroutine) -> None:
        # Steps that start together are called before any of them begins.
        earlier = self._earlier = self._earlier or []
        earlier.append(call)
        if not len(earlier) & 63:
            earlier[:] = filter(_is_new, earlier)


def _is_new(call: AnyCoroutine) -> bool:
    return not (call.cr_running or call.cr_suspended or call.cr_frame is None)
