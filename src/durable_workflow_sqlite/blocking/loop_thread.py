"""An event loop in a thread of its own, and the way to it from every other thread.

It is the standard library's: `asyncio.Runner` in a thread, `run_coroutine_threadsafe` to get
there. A portal of another library would spare the few lines of that, and none of what the rest
is about: Ctrl-C, the end of the interpreter, a fork, a caller that has a loop itself.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import logging
import os
import sys
import threading
from asyncio import events
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, suppress
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from durable_workflow_sqlite.engine.body_loop import BodyLoop
from durable_workflow_sqlite.errors import EngineStoppedError, NonDeterministicCallError

P = ParamSpec("P")
R = TypeVar("R")

EXIT_MAY_TAKE_S: Final = 10.0
"""For how long the end of the interpreter waits for a loop that was not closed.

Longer only for functions in threads, as the engine does always.
"""

HURRY_S: Final = 0.4
"""How long tasks that are cancelled may take to end before they are cancelled again."""

TRIES: Final = 5

_log = logging.getLogger("durable_workflow_sqlite.blocking")


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Any, P], R]:
    """Make a method of a class of this package that waits for the async method of its namesake."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.loop.call(getattr(self.behind, name), *args, **kwargs)
        return result

    return call


class LoopThread:
    """Runs coroutines for other threads, from now until `close`.

    close_last: closes what the loop is for. What `close_too` was given is closed before it.
    """

    def __init__(self, close_last: Callable[[], Awaitable[None]]) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._is_closed = False
        self._has_ended = threading.Event()
        """To wait for: Python up to 3.12 takes a thread for ended once its join is interrupted."""
        self._ended_by: BaseException | None = None
        self._calls: set[Future[Any]] = set()
        self._resources = AsyncExitStack()
        self._are_busy: list[Callable[[], bool]] = []
        self.close_too(close_last)
        begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        # A daemon, so that it cannot keep the interpreter from ending; `_close_all` closes it.
        self._thread = threading.Thread(
            target=self._serve, args=(begun,), name="durable-workflow-loop", daemon=True
        )
        _close_at_exit(self)
        self._thread.start()
        self._loop, self._closing = begun.result()

    def close_too(
        self, close: Callable[[], Awaitable[None]], is_busy: Callable[[], bool] | None = None
    ) -> None:
        """Call this when the loop is closed; the last given is the first called.

        is_busy: whether it waits for what cannot be interrupted, and should not be.
        """
        self._resources.push_async_callback(close)
        if is_busy is not None:
            self._are_busy.append(is_busy)

    def call(
        self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run a coroutine function on the loop, and wait for its result.

        What interrupts the wait (Ctrl-C) does not interrupt the coroutine: whatever it has begun
        to write is written, and stands for something that has begun.
        """
        return self.outcome(self.post(function, *args, **kwargs))

    def post(
        self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]:
        """Begin to run a coroutine function on the loop; `outcome` waits for its result.

        Raises RuntimeError where waiting would block a loop, or never end; EngineStoppedError
        after the end of this one.
        """
        self._check_caller()
        with self._lock:
            if self._is_closed:
                raise self._stopped() from self._ended_by
            future = asyncio.run_coroutine_threadsafe(function(*args, **kwargs), self._loop)
            self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        return future

    def outcome(self, future: Future[R], timeout_s: float | None = None) -> R:
        """What a coroutine returned or raised. Raises TimeoutError if it is not done in time."""
        try:
            return future.result(timeout_s)
        except CancelledError:
            raise self._stopped() from self._ended_by

    def close(self, timeout_s: float | None = None) -> bool:
        """Close what the loop is for, and end it; whether that is done when this returns.

        Calls that are under way get an EngineStoppedError. Closing twice is harmless; in a child
        of fork, which has no part in it, this does nothing.
        """
        if self._is_elsewhere:
            return True
        self._check_caller()
        with self._lock:
            if not self._is_closed:
                self._loop.call_soon_threadsafe(self._closing.set)
        try:
            if not self._has_ended.wait(timeout_s):
                return False
        except KeyboardInterrupt:
            self.end_at_once()
            raise
        self._thread.join()
        if self._ended_by is not None:
            raise self._ended_by
        return True

    def end_at_once(self) -> None:
        """End the loop without waiting for what cannot be interrupted: that is left behind."""
        for _ in range(TRIES):  # what is cancelled may begin to close the next thing
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(_cancel_all_tasks)
            if self._has_ended.wait(HURRY_S):
                break

    @property
    def is_busy(self) -> bool:
        """Whether it waits for what cannot be interrupted, and should not be."""
        return any(is_busy() for is_busy in self._are_busy)

    def _serve(self, begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._until_closed(begun))
        except asyncio.CancelledError:
            pass  # it was ended at once
        except BaseException as error:  # noqa: BLE001 - told to whoever calls, or closes
            self._ended_by = error
            if not begun.done():
                begun.set_exception(error)
        for never_begun in list(self._calls):
            never_begun.cancel()
        _open.discard(self)
        self._has_ended.set()

    async def _until_closed(
        self, begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
    ) -> None:
        closing = asyncio.Event()
        try:
            async with self._resources:
                begun.set_result((asyncio.get_running_loop(), closing))
                await closing.wait()
        finally:
            with self._lock:
                self._is_closed = True

    @property
    def is_over(self) -> bool:
        """Whether nothing can be called any more: it was closed, or this process is a fork."""
        return self._is_elsewhere or self._is_closed

    @property
    def _is_elsewhere(self) -> bool:
        return os.getpid() != self._process

    def _check_caller(self) -> None:
        if self._is_elsewhere:
            raise RuntimeError(
                f"this store was opened by process {self._process}, and this is process"
                f" {os.getpid()}: a fork of it cannot use its thread, nor its connection. Open"
                " the store and the engine after the fork, in each process that uses them"
            )
        if isinstance(loop := events._get_running_loop(), BodyLoop):
            raise loop.refuse(
                NonDeterministicCallError(
                    "a workflow function cannot use a blocking engine, a store or a handle: a"
                    " replay could not repeat the call. Do it in a step: `await ctx.step(name,"
                    " function, ...)`",
                    call="a blocking engine",
                )
            )
        if threading.current_thread() is not self._thread:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return
            if _is_notebook():
                return
        raise RuntimeError(
            "durable_workflow_sqlite.blocking was called in a thread that runs an event loop, which"
            " it would block. Use the async API there: `from durable_workflow_sqlite import"
            " DurableEngine, SqliteCheckpointStore`, and await its methods"
        )

    def _stopped(self) -> EngineStoppedError:
        return EngineStoppedError(
            "the store was closed, or its event loop ended; unfinished executions can be resumed"
        )


def _cancel_all_tasks() -> None:
    """As `asyncio.run` does after a second Ctrl-C."""
    for task in asyncio.all_tasks():
        task.cancel()


def _is_notebook() -> bool:
    """Whether the running loop is that of a notebook, which has nothing to do but this cell."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


# The end of the interpreter

_open: set[LoopThread] = set()


def _close_at_exit(one: LoopThread) -> None:
    _register_once()
    _open.add(one)


@functools.cache
def _register_once() -> None:
    # An `atexit` function is called when executors take no more work: until then, steps would go
    # on and fail for that. concurrent.futures has the same need, and this way to meet it; what is
    # registered later is called first.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(_close_all)
    os.register_at_fork(after_in_child=_open.clear)


def _close_all() -> None:
    for one in list(_open):
        try:
            is_busy = True
            while not (is_done := one.close(EXIT_MAY_TAKE_S)) and is_busy:
                is_busy = one.is_busy
        except KeyboardInterrupt:
            continue  # it was ended at once
        except Exception:  # noqa: BLE001 - the others must be closed, too
            _log.warning("a store was not closed, and closing it at exit failed", exc_info=True)
        else:
            if not is_done:
                _log.warning(
                    "a store was not closed, and closing it at exit took longer than %g s;"
                    " unfinished executions will be resumed later",
                    EXIT_MAY_TAKE_S,
                )
