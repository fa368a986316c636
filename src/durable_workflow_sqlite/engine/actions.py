"""Calling functions of the user: an async one on the event loop, a sync one in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.callables import remembered
from durable_workflow_sqlite.engine.step_info import AT_WORK, leave
from durable_workflow_sqlite.errors import EngineStoppedError

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.operations import StepCall
    from durable_workflow_sqlite.engine.run import Run
    from durable_workflow_sqlite.engine.threads import Thread
    from durable_workflow_sqlite.engine.under_way import UnderWay
    from durable_workflow_sqlite.records import StepCheckpoint


async def thread_for(run: Run, step: UnderWay) -> Thread:
    """Wait for a thread for a sync function. Raises CancelledError if there will be none."""
    try:
        return await run.turns.wait(run.id, step)
    except RuntimeError as error:
        # The interpreter is ending, and no thread can be started: nothing has failed.
        stopped = EngineStoppedError(
            f"the interpreter is ending; execution {run.id!r} is left to be resumed",
            workflow_execution_id=run.id,
        )
        run.stop(stopped)
        raise asyncio.CancelledError from error


async def call_function(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    step: UnderWay,
    thread: Thread | None,
    at_work: tuple[Run, StepCheckpoint],
) -> Any:
    """What a function gives; `step` is told how it can be interrupted meanwhile.

    thread: for a sync function. If the caller is cancelled, so is an async function. A thread
        cannot be interrupted: what runs in it is left behind.
    at_work: for `step_info`.
    """
    token = AT_WORK.set(at_work)
    try:
        if thread is None:
            step.has_begun = True
            return await _on_the_loop(step, function(*args))
        return await _through_thread(function, args, step, thread)
    finally:
        leave(token)


async def _through_thread(
    function: Callable[..., Any], args: tuple[Any, ...], step: UnderWay, thread: Thread
) -> Any:
    context = contextvars.copy_context()
    running = thread.run(functools.partial(context.run, _in_thread, step, function, *args))
    try:
        await asyncio.wait([running])  # it is not cancelled with the caller
    finally:
        thread.leave()
    try:
        result = running.result()
    except _NeverBegan:
        raise asyncio.CancelledError from None
    return await _on_the_loop(step, result) if inspect.isawaitable(result) else result


async def late_outcome(step: StepCall, within: timedelta) -> asyncio.Future[Any] | None:
    """What attempts that timed out have come to since, in their threads; None if that is unknown.

    The first that has returned counts. If all have raised, the last one does.
    """
    late, step.late = step.late, ()
    waiting, last = set(late), late[-1]
    with suppress(TimeoutError):
        async with asyncio.timeout(within.total_seconds()):
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    if one.exception() is None and not inspect.isawaitable(one.result()):
                        return one
    is_known = last.done() and isinstance(last.exception(), Exception)
    return last if is_known and not isinstance(last.exception(), _NeverBegan) else None


async def _on_the_loop(step: UnderWay, awaitable: Any) -> Any:
    step.interruptible = True
    try:
        return await awaitable
    finally:
        step.interruptible = False


class _NeverBegan(Exception):  # noqa: N818 - it says that nothing has happened
    """The step was given up before its thread had begun."""


def _in_thread(step: UnderWay, function: Callable[..., Any], *args: Any) -> Any:
    if step.is_given_up:
        raise _NeverBegan
    step.has_begun = True
    try:
        return function(*args)
    except BaseException as error:
        if isinstance(error, StopIteration | GeneratorExit) or failures.ends_the_program(error):
            # Outside of the thread they mean something else, or cannot be told at all.
            raise _as_failure(error, step) from error
        raise


def failure_of(run: Run, error: BaseException, step: UnderWay) -> BaseException:
    """The error of a function of the user; what is none of the function's is raised again.

    A function that calls `sys.exit()`, as the code of commands does, has failed: that is a
    RuntimeError. So has one with an error of another class that no `except Exception` catches. A
    Ctrl-C is raised again, and so is the GeneratorExit of a coroutine that is closed. What met an
    engine that is going has done nothing wrong: it was cancelled.
    """
    if isinstance(error, EngineStoppedError) and run.trouble is not None:
        raise asyncio.CancelledError from error
    if isinstance(error, Exception):
        cause = error.__cause__
        if isinstance(cause, StopIteration) and str(error) == "coroutine raised StopIteration":
            return _as_failure(cause, step)
        return error
    if failures.ends_the_program(error) or not _is_at_work(step):
        raise error
    if isinstance(error, asyncio.CancelledError):
        if step.task is None or step.task.cancelling():
            raise error
        return RuntimeError(f"the function of {step.describe()} was cancelled from within")
    return _as_failure(error, step) if failures.is_of_a_function(error) else error


def _as_failure(error: BaseException, step: UnderWay) -> RuntimeError:
    """An error that means something else where a step fails with it."""
    failure = RuntimeError(f"the function of {step.describe()} raised {error!r}")
    failure.__cause__ = error
    return failure


def _is_at_work(step: UnderWay) -> bool:
    """Whether its task runs: if not, its coroutine is being closed."""
    try:
        return asyncio.current_task() is step.task
    except RuntimeError:
        return False


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
