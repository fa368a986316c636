"""Calling functions of the user: an async one on the event loop, a sync one in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from durable_workflow_sqlite.engine.callables import remembered
from durable_workflow_sqlite.errors import EngineStoppedError

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.run import Run, UnderWay


async def call_function(
    run: Run, function: Callable[..., Any], args: tuple[Any, ...], step: UnderWay | None = None
) -> Any:
    """What a function gives; `step` is told how it can be interrupted meanwhile.

    Whoever cancels the caller cancels an async function. A thread cannot be interrupted.
    """
    if is_async(function):
        if step is None:
            return await function(*args)
        step.interruptible = step.has_begun = True
        try:
            return await function(*args)
        finally:
            step.interruptible = False
    loop = asyncio.get_running_loop()
    turn = _Turn(step)
    call = functools.partial(contextvars.copy_context().run, turn.take, function, *args)
    try:
        running = loop.run_in_executor(run.environment.executor, call)
    except RuntimeError as error:
        # The interpreter is ending, and executors take no more work: the function did not fail.
        stopped = EngineStoppedError(
            f"the interpreter is ending; execution {run.id!r} is left to be resumed",
            workflow_execution_id=run.id,
        )
        run.stop(stopped)
        raise stopped from error
    try:
        await asyncio.wait([running])  # it is not cancelled with the caller
    except asyncio.CancelledError:
        turn.is_over = True
        running.add_done_callback(_heed_not)
        raise
    result = running.result()
    if not inspect.isawaitable(result):
        return result
    if step is None:
        return await result
    step.interruptible = True
    try:
        return await result
    finally:
        step.interruptible = False


class NeverBegan(Exception):  # noqa: N818 - no error: it says that nothing has happened
    """The function was given up while it waited for a thread."""


class _Turn:
    """The turn of a sync function that waits for a thread; given up by then, it never begins."""

    def __init__(self, step: UnderWay | None) -> None:
        self._step = step
        self.is_over = False

    def take(self, function: Callable[..., Any], *args: Any) -> Any:
        if self.is_over or (self._step is not None and self._step.is_given_up):
            raise NeverBegan
        if self._step is not None:
            self._step.has_begun = True
        try:
            return function(*args)
        except StopIteration as error:  # which no future can hold
            raise RuntimeError(f"{function!r} raised StopIteration") from error


def _heed_not(running: asyncio.Future[Any]) -> None:
    if not running.cancelled():
        running.exception()


def failure_of(run: Run, error: BaseException, what: str) -> Exception:
    """The error of a function of the user; a cancellation from outside is raised again.

    So is, as one, what a function met that asked an engine that is going: it did nothing wrong.
    """
    if isinstance(error, EngineStoppedError) and run.trouble is not None:
        raise asyncio.CancelledError from error
    if isinstance(error, Exception):
        return error
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    return RuntimeError(f"the function of {what} was cancelled from within")


@remembered
def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - its kind, not whether
    )


@remembered
def reference(function: Callable[..., Any]) -> str:
    """`module:name` of a function, for people who read the row."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or type(function).__module__}:{name}"
