"""The event loop that a workflow function runs on: a queue of what is ready, timers, nothing else.

It knows no clock. Its time is the time of the last event that the workflow function got. It
runs only when it is told to, until nothing is ready. So code on it does the same each time. It
refuses calls that depend on the machine: sockets, threads, subprocesses, signals.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import sys
from asyncio import events
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from datetime import UTC, datetime, timedelta
from itertools import repeat
from types import FrameType
from typing import Any, Final, TypeVarTuple, Unpack, cast

from durable_workflow_sqlite.engine.body_tasks import BodyTask, Cancellations, Handle
from durable_workflow_sqlite.engine.generators import (
    AnyGenerator,
    Generators,
    cancel_what_waits,
    close_generator,
    close_task,
    is_collecting,
)
from durable_workflow_sqlite.engine.refusals import RefusingLoop
from durable_workflow_sqlite.errors import NonDeterministicCallError

Ts = TypeVarTuple("Ts")

_log = logging.getLogger("durable_workflow_sqlite.engine")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ASYNCIO_TASKS: Final = asyncio.tasks.__file__
_BEGINS_AT_ONCE: Final = getattr(asyncio, "eager_task_factory", None)
"""The factory of Python 3.12: tasks that begin as they are made. Its own have no numbers."""
Before = tuple["asyncio.AbstractEventLoop | None", "asyncio.Task[Any] | None", Any]


class BodyLoop(RefusingLoop):
    """See the module. `number_of_timers` counts all that were ever asked for: the k-th is timer k.

    now: what its clock shows; in seconds since 1970, for asyncio.
    context: what the workflow function that runs on it was given.
    hashes_from: the hash of its first task, less one. asyncio has the tasks of all event loops in
        one set: there the first tasks of ten thousand executions must not be at one place.
    """

    def __init__(self, now: datetime, hashes_from: int = 0) -> None:
        self.now = now
        self.context: object = None
        self._hashes_from = hashes_from
        self._ready: list[Handle] = []  # a deque would take more memory than the rest
        self._timers: list[tuple[float, int, Handle]] | None = None
        self._tasks: dict[asyncio.Task[Any], Context] = {}
        self._prune_tasks_at = 64
        self._generators: Generators | None = None
        self._cancellations: Cancellations | None = None
        self._number_of_tasks = 0
        self.number_of_futures = 0
        self._ordered: dict[Any, asyncio.Task[Any]] | None = None
        """Coroutines that have been started in the order that they were given in."""
        self._task_factory: Any = None
        self._exception_handler: Any = None
        self.number_of_timers = 0
        self.is_running_now = False
        self.is_closed_for_good = False

    # What whoever drives it calls

    def run(self) -> None:
        """Run until nothing is ready. Raises KeyboardInterrupt, which ends the program.

        Not SystemExit: it would end whatever else the program runs.
        """
        if not (self._ready or self._timers):
            return
        if self.is_running_now:
            self.run_ready()
            return
        # As `enter` and `leave`, written out: it runs for every step.
        outer = events._get_running_loop()
        task = asyncio.current_task(outer) if _ONE_TASK_A_THREAD and outer is not None else None
        if task is not None:
            asyncio.tasks._leave_task(outer, task)  # type: ignore[arg-type]
        hooks = sys.get_asyncgen_hooks()
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generator_begins, self._generator_is_abandoned)
        self.is_running_now = True
        try:
            self.run_ready()
        finally:
            self.leave((outer, task, hooks))

    def run_ready(self, turns: Iterable[object] = repeat(None)) -> None:
        """What `run` does, within `enter` and `leave`; so many turns at most."""
        for _ in turns:
            ready, self._ready = self._ready, []
            for handle in ready:
                if not handle.is_cancelled:
                    try:
                        handle.context.run(handle.callback, *handle.args)
                    except KeyboardInterrupt:
                        raise
                    except BaseException as error:  # noqa: BLE001 - whatever it raises
                        if isinstance(getattr(handle.callback, "__self__", None), BodyTask):
                            continue  # whoever waits for the task is told
                        self.call_exception_handler(
                            {"message": f"exception in {handle.callback!r}", "exception": error}
                        )
            if not self._ready and not (self._timers and self._move_due()):
                return

    def move_to(self, now: datetime) -> None:
        """Set the clock; it never goes back. What is due by then runs with the next `run`."""
        if now > self.now:
            self.now = now

    @property
    def has_ready(self) -> bool:
        """Whether something is ready to run."""
        return bool(self._ready)

    def next_timer(self) -> tuple[float, int] | None:
        """When the earliest timer is due that somebody still waits for, and its number."""
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)
        return timers[0][:2] if timers else None

    def open_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done."""
        return [task for task in self._tasks if not task.done()]

    def cancel_tasks(self) -> bool:
        """Cancel every task that is not done; whether there was one."""
        for task in (tasks := self.open_tasks()):
            task.cancel()
        return bool(tasks)

    def cancel_in_order(self, cancel: Callable[[Any], bool], message: Any, number: int) -> bool:
        """Cancel a task of that number: what that wakes goes before those with higher ones."""
        before = len(self._ready)
        is_cancelled = cancel(message)
        if self._cancellations is None:
            self._cancellations = Cancellations()
        self._cancellations.put_in_order(self._ready, before, number)
        return is_cancelled

    def close_generators(self) -> None:
        """Begin to close the async generators that are not exhausted."""
        for generator in self._generators.take() if self._generators is not None else ():
            self.create_task(generator.aclose())

    def drop(self) -> list[Any]:
        """Close every coroutine where it stands; those that refuse. Nothing runs here any more."""
        try:
            cancel_what_waits(self)
        finally:
            refusing = self._close_all()
        return refusing

    def _close_all(self) -> list[Any]:
        self.is_closed_for_good = True
        tasks, self._tasks = self._tasks, {}
        refusing: list[Any] = []
        if self._generators is not None or not all(task.done() for task in tasks):
            before = self.enter()
            try:
                for task, context in reversed(tasks.items()):
                    if not task.done() and not context.run(close_task, self, task):
                        refusing.append(task.get_coro())
                for generator in self._generators.take() if self._generators is not None else ():
                    close_generator(generator)
            finally:
                self.leave(before)
        self._ready.clear()
        self._timers = None
        return refusing

    def enter(self) -> Before:
        """Be the running event loop until `leave`, to which this is to be given.

        `run` does it by itself, unless this was called: once for many runs takes less time.
        """
        outer = events._get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        task = None
        if _ONE_TASK_A_THREAD and outer is not None and (task := asyncio.current_task(outer)):
            asyncio.tasks._leave_task(outer, task)
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generator_begins, self._generator_is_abandoned)
        self.is_running_now = True
        return outer, task, hooks

    def leave(self, before: Before) -> None:
        """The event loop that was the running one before is that again."""
        outer, task, hooks = before
        self.is_running_now = False
        sys.set_asyncgen_hooks(*hooks)
        events._set_running_loop(outer)
        if outer is not None and task is not None:
            asyncio.tasks._enter_task(outer, task)

    def _move_due(self) -> bool:
        timers, time = self._timers, self.time()
        while timers and (timers[0][0] <= time or timers[0][2].is_cancelled):
            handle = heapq.heappop(timers)[2]
            if not handle.is_cancelled:
                self._ready.append(handle)
        return bool(self._ready)

    # Async generators

    def _generator_begins(self, generator: AnyGenerator) -> None:
        if self._generators is None:
            self._generators = Generators()
        self._generators.begins(generator)

    def _generator_is_abandoned(self, generator: AnyGenerator) -> None:
        if self.is_closed_for_good:
            close_generator(generator)
        elif events._get_running_loop() is self and not is_collecting():
            self.create_task(generator.aclose())
        else:  # at a time that is another one in each process
            assert self._generators is not None
            self._generators.keep(generator)

    # What asyncio calls

    def time(self) -> float:
        return (self.now - EPOCH).total_seconds()

    def set_debug(self, enabled: bool) -> None:
        pass

    def is_running(self) -> bool:
        return self.is_running_now

    def is_closed(self) -> bool:
        return self.is_closed_for_good

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> events.Handle:
        handle = Handle(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle  # type: ignore[return-value]

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> events.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> events.TimerHandle:
        handle = Handle(callback, args, copy_context() if context is None else context, when)
        self._timers = self._timers or []
        heapq.heappush(self._timers, (when, self.number_of_timers, handle))
        self.number_of_timers += 1
        return handle  # type: ignore[return-value]

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **more: Any
    ) -> asyncio.Task[Any]:
        if context is None:
            context = copy_context()
        factory = self._task_factory
        if factory is not None and factory is not _BEGINS_AT_ONCE:
            task: asyncio.Task[Any] = factory(self, coro, context=context, **more)
            if name is not None:
                task.set_name(name)
        else:
            if factory is not None:
                more.setdefault("eager_start", True)
            started = self._ordered.pop(coro, None) if self._ordered else None
            started = started or self._started_in_order(coro)
            if started is not None:
                return started
            task = self._new_task(coro, name, context, **more)
        tasks = self._tasks
        tasks[task] = context
        if len(tasks) > self._prune_tasks_at:
            self._tasks = {one: its for one, its in tasks.items() if not one.done()}
            self._prune_tasks_at = max(64, 2 * len(self._tasks))
        return task

    def _new_task(
        self, coroutine: Any, name: str | None, context: Context, **more: Any
    ) -> BodyTask:
        number = self._number_of_tasks = self._number_of_tasks + 1
        if name is None:
            name = f"Task-{number}"  # asyncio counts all tasks of the process
        return BodyTask(self._hashes_from + number, coroutine, self, name, context, **more)

    def _started_in_order(self, coroutine: Any) -> asyncio.Task[Any] | None:
        """The task of a coroutine that `asyncio.as_completed` starts, all of them in their order.

        It starts them in the order of a set, which is another one in each process.
        """
        frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        while frame is not None and frame.f_code.co_filename == _ASYNCIO_TASKS:
            if frame.f_code.co_name in ("as_completed", "__init__"):
                given: Any = frame.f_locals.get("fs", frame.f_locals.get("aws"))
                if not isinstance(given, list | tuple):
                    for one in (coroutine, *(() if hasattr(given, "__next__") else given)):
                        if asyncio.iscoroutine(one):
                            one.close()  # or Python warns of it, too
                    raise self.refuse(
                        NonDeterministicCallError(
                            "`asyncio.as_completed` starts coroutines in the order of a set, and a"
                            f" replay would start them in another one. Give it a list, not"
                            f" {given!r}",
                            call="asyncio.as_completed",
                        )
                    )
                ordered = self._ordered = self._ordered or {}
                for one in cast("list[Any]", given):
                    if asyncio.iscoroutine(one) and one not in ordered:
                        context = copy_context()
                        task = self._new_task(one, None, context)
                        self._tasks[task] = context
                        ordered[one] = task
                return ordered.pop(coroutine, None)
            frame = frame.f_back
        return None

    def set_task_factory(self, factory: Any) -> None:
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        return self._task_factory

    def get_exception_handler(self) -> Any:
        return self._exception_handler

    def set_exception_handler(self, handler: Any) -> None:
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_closed_for_good:
            message = context.get("message") or "unhandled exception in a workflow function"
            _log.error(
                "%s: %r",
                message,
                context.get("task") or context.get("future"),
                exc_info=context.get("exception"),
            )

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        handler = self._exception_handler
        if handler is None:
            self.default_exception_handler(context)
            return
        try:
            handler(self, context)
        except Exception:  # noqa: BLE001 - whatever a handler does
            _log.exception("the exception handler of a workflow function failed")

    async def shutdown_asyncgens(self) -> None:
        pass  # `close_generators` does it, when the workflow function has ended


_ONE_TASK_A_THREAD: Final = sys.version_info >= (3, 14)
"""Whether Python refuses to run a task while a task of another loop is current."""


def as_time(seconds: float) -> datetime:
    """The time at which the clock of a body's event loop shows this number, or a little more."""
    try:
        at = EPOCH + timedelta(seconds=seconds)  # rounded: it may be a little less, too
        return at if (at - EPOCH).total_seconds() >= seconds else at + _MICROSECOND
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
