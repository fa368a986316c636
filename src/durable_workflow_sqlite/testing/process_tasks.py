"""The tasks, callbacks and threads of a simulated process: nothing of it goes on after its end.

A process that is killed runs no `except` and no `finally`; it just stops. So do the tasks of a
simulated process: each runs in a coroutine that is never resumed after the end of the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Final, cast

LAST_TURNS: Final = 20
"""Turns of the event loop in which the tasks of a process that is discarded end."""

MOST_CLOSINGS: Final = 100

current: contextvars.ContextVar[ProcessTasks | None] = contextvars.ContextVar(
    "process", default=None
)
"""Whose task, callback or thread this is: context variables are handed on to all that it starts."""


class ProcessTasks:
    """The tasks of one simulated process."""

    def __init__(self) -> None:
        self.is_dead = False
        self.callbacks = 0
        """How many the event loop was ever given for it. Where a whole turn adds none, nothing of
        it is ready: it goes on when its clock is moved, or a thread or the world has done its
        part."""
        self.threads: set[asyncio.Future[Any]] = set()
        """What its sync actions run in."""
        self._tasks: dict[asyncio.Task[Any], Coroutine[Any, Any, Any]] = {}
        self._is_ready: asyncio.Future[None] | None = None

    async def until_ready(self, timeout_s: float) -> None:
        """Wait until something of it is ready to run."""
        self._is_ready = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._is_ready], timeout=timeout_s)
        self._is_ready = None

    def has_callback(self) -> None:
        """The event loop is given one."""
        self.callbacks += 1
        if self._is_ready is not None and not self._is_ready.done():
            self._is_ready.set_result(None)

    def new_task(
        self, create: Callable[..., asyncio.Task[Any]], coroutine: Coroutine[Any, Any, Any]
    ) -> asyncio.Task[Any]:
        """A task of this process; `create` makes one of a coroutine."""
        if self.is_dead:  # nothing begins any more
            coroutine.close()
            task = create(forever())
            task.cancel()
            return task
        task = create(_KillableCoroutine(self, coroutine))
        self._tasks[task] = coroutine
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        if not self.is_dead:  # else its coroutine has stopped in the middle, and waits for its end
            self._tasks.pop(task, None)

    def close_tasks(self) -> None:
        """Close what has stopped in the middle. Its `finally` blocks run, as Python has it."""
        for task, coroutine in self._tasks.items():
            task.cancel()
            _close(coroutine)
        self._tasks.clear()


class _KillableCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine that is not resumed once its process has ended."""

    def __init__(self, process: ProcessTasks, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._process = process
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        if self._process.is_dead:
            self._coroutine = forever()  # the process remembers the one that stopped
            return self._coroutine.send(None)
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        if self._process.is_dead:  # the event loop is closing, and wants to see its tasks end
            raise error[0]
        return self._coroutine.throw(*error)

    def close(self) -> None:
        if not self._process.is_dead:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._coroutine.__await__())


class LoopWatch:
    """Tells the lives of an event loop of the tasks, callbacks and threads that they start."""

    def __init__(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._create_task: Any = loop.get_task_factory()
        self._call_soon: Any = loop.call_soon
        self._run_in_executor = loop.run_in_executor
        self._factory = cast(Any, self._new_task)
        loop.set_task_factory(self._factory)
        setattr(loop, "call_soon", self._watch_callback)  # noqa: B010 - mypy would object
        setattr(loop, "run_in_executor", self._watch_thread)  # noqa: B010

    def end(self, turns: int = LAST_TURNS) -> None:
        """Stop watching, once what was discarded has come to rest."""
        if turns:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon(self.end, turns - 1)
        elif self._loop.get_task_factory() is self._factory:
            self._loop.set_task_factory(self._create_task)
            for name in ("call_soon", "run_in_executor"):
                with suppress(AttributeError):
                    delattr(self._loop, name)

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Future[Any]:
        context = options.get("context")
        process = current.get() if context is None else context.get(current)
        factory = self._create_task or _create_task
        if process is None:
            task: asyncio.Task[Any] = factory(loop, coroutine, **options)
            return task
        return process.new_task(functools.partial(factory, loop, **options), coroutine)

    def _watch_callback(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        process = current.get() if context is None else context.get(current)
        if process is not None:
            process.has_callback()
        handle: asyncio.Handle = self._call_soon(callback, *args, context=context)
        return handle

    def _watch_thread(
        self, executor: Executor | None, function: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        running = self._run_in_executor(cast(Any, executor), function, *args)
        process = current.get()
        if process is not None:
            process.threads.add(running)
            running.add_done_callback(process.threads.discard)
        return running


def _create_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    for _ in range(MOST_CLOSINGS):
        try:
            coroutine.close()
        except RuntimeError:
            continue  # it waits for something else on its way out
        except BaseException:  # noqa: BLE001 - whatever it makes of its end
            return
        return
