"""The client and its handles without `await`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from durable_workflow_sqlite.blocking.loop_thread import LoopThread, blocking
from durable_workflow_sqlite.blocking.store import CheckpointStore
from durable_workflow_sqlite.engine import handle
from durable_workflow_sqlite.engine.client import Client as Behind
from durable_workflow_sqlite.engine.clock import Clock
from durable_workflow_sqlite.engine.following import End, Item, Reset
from durable_workflow_sqlite.engine.outcome import SignalResult
from durable_workflow_sqlite.engine.repeating_client import RepeatingClient
from durable_workflow_sqlite.engine.signalling_client import SignallingClient
from durable_workflow_sqlite.engine.step_names import StepName
from durable_workflow_sqlite.records import Progress, WorkflowExecution
from durable_workflow_sqlite.store.joined import run_now

P = ParamSpec("P")
R = TypeVar("R")
B = TypeVar("B", bound=SignallingClient | RepeatingClient)
S = TypeVar("S", bound=SignallingClient)
R_co = TypeVar("R_co", covariant=True)


class ExecutionHandle(Generic[R_co]):
    """What `engine.start`, `client.enqueue` and `client.handle` return."""

    def __init__(self, behind: handle.ExecutionHandle[R_co], loop: LoopThread) -> None:
        self.behind = behind
        self.loop = loop

    def __repr__(self) -> str:
        return repr(self.behind)

    @property
    def execution_id(self) -> str:
        return self.behind.execution_id

    def result(self, timeout: timedelta | None = None) -> R_co:
        """Wait for the end, and return what the workflow returned; errors as in the async API.

        Raises TimeoutError if it has not ended by then. The execution goes on, and this can be
        asked again.
        """
        waiting = self.loop.post(self.behind.result)
        try:
            return self.loop.outcome(waiting, None if timeout is None else timeout.total_seconds())
        except TimeoutError as error:
            if waiting.done():
                raise
            raise TimeoutError(
                f"execution {self.execution_id!r} has not ended after {timeout}; it continues"
            ) from error
        finally:
            waiting.cancel()

    status = blocking(handle.ExecutionHandle[Any].status)
    cancel = blocking(handle.ExecutionHandle[Any].cancel)
    signal = blocking(handle.ExecutionHandle[Any].signal)


def starting(
    method: Callable[Concatenate[B, P], Coroutine[Any, Any, handle.ExecutionHandle[R]]],
) -> Callable[Concatenate[Any, P], ExecutionHandle[R]]:
    """As `blocking`, for a method that returns a handle."""

    @functools.wraps(method)
    def start(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> ExecutionHandle[R]:
        loop: LoopThread = self.loop
        if kwargs.get("connection") is not None:  # in this thread, where the connection is
            return ExecutionHandle(run_now(method(self.behind, *args, **kwargs)), loop)
        return ExecutionHandle(loop.call(method, self.behind, *args, **kwargs), loop)

    return start


def signalling(
    method: Callable[
        Concatenate[S, P], Coroutine[Any, Any, tuple[handle.ExecutionHandle[R], SignalResult]]
    ],
) -> Callable[Concatenate[Any, P], tuple[ExecutionHandle[R], SignalResult]]:
    """As `starting`, for a method that also returns what became of a signal."""

    @functools.wraps(method)
    def signal(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        loop: LoopThread = self.loop
        behind, result = loop.call(method, self.behind, *args, **kwargs)
        return ExecutionHandle(behind, loop), result

    return signal


def sending(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, SignalResult]],
) -> Callable[Concatenate[Any, P], SignalResult]:
    """As `blocking`, in the thread of the caller if there is a connection."""
    otherwise = blocking(method)

    @functools.wraps(method)
    def send(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> SignalResult:
        if kwargs.get("connection") is not None:
            return run_now(method(self.behind, *args, **kwargs))
        return otherwise(self, *args, **kwargs)

    return send


class Client:
    """`durable_workflow_sqlite.Client` without `await`; its arguments are the same.

    store: of this package.
    """

    behind: Behind

    def __init__(self, store: CheckpointStore, *, clock: Clock | None = None) -> None:
        check_store(store)
        self.loop = store.loop
        self.behind = Behind(store.behind, clock=clock)

    def handle(self, execution_id: str) -> ExecutionHandle[Any]:
        """A handle to any execution; its result comes as plain JSON data."""
        return ExecutionHandle(self.behind.handle(execution_id), self.loop)

    def observe(self, execution_id: str) -> Iterator[WorkflowExecution]:
        """Every state of an execution: the current one first, the last one final.

        Executions that run elsewhere are looked at now and then, so a state that is left again
        at once may be missed. Raises ExecutionNotFoundError.
        """
        states: SimpleQueue[WorkflowExecution | None] = SimpleQueue()

        async def forward() -> None:
            async for state in self.behind.observe(execution_id):
                states.put(state)

        observing = self.loop.post(forward)
        observing.add_done_callback(lambda _: states.put(None))
        try:
            while (state := states.get()) is not None:
                yield state
            self.loop.outcome(observing)
        finally:
            observing.cancel()

    def follow(
        self, execution_id: str, *, step: StepName | None = None, after: str | None = None
    ) -> Iterator[Item | Reset | Progress | End]:
        """What the actions of an execution put into their streams; as in the async API."""
        items: SimpleQueue[Item | Reset | Progress | End | None] = SimpleQueue()

        async def forward() -> None:
            async for one in self.behind.follow(execution_id, step=step, after=after):
                items.put(one)

        following = self.loop.post(forward)
        following.add_done_callback(lambda _: items.put(None))
        try:
            while (one := items.get()) is not None:
                yield one
            self.loop.outcome(following)
        finally:
            following.cancel()

    enqueue = starting(Behind.enqueue)
    enqueue_named = starting(Behind.enqueue_named)
    declare = blocking(Behind.declare)
    limits = blocking(Behind.limits)
    change_limits = blocking(Behind.change_limits)
    load = blocking(Behind.load)
    progress = blocking(Behind.progress)
    send_signal = sending(Behind.send_signal)
    signal_or_start = signalling(Behind.signal_or_start)
    questions = blocking(Behind.questions)
    answer = blocking(Behind.answer)
    cancel = blocking(Behind.cancel)
    result_of = blocking(Behind.result_of)
    unblock = blocking(Behind.unblock)
    retry = blocking(Behind.retry)
    acknowledge = blocking(Behind.acknowledge)
    resolve = blocking(Behind.resolve)
    fork = starting(Behind.fork)
    rerun = starting(Behind.rerun)
    schedule = blocking(Behind.schedule)
    unschedule = blocking(Behind.unschedule)
    load_schedule = blocking(Behind.load_schedule)
    load_schedules = blocking(Behind.load_schedules)
    pause_schedule = blocking(Behind.pause_schedule)
    resume_schedule = blocking(Behind.resume_schedule)
    trigger = starting(Behind.trigger)
    backfill = blocking(Behind.backfill)
    next_times = blocking(Behind.next_times)
    pause = blocking(Behind.pause)
    resume = blocking(Behind.resume)
    pause_workflow = blocking(Behind.pause_workflow)
    resume_workflow = blocking(Behind.resume_workflow)
    pause_queue = blocking(Behind.pause_queue)
    resume_queue = blocking(Behind.resume_queue)
    pause_all = blocking(Behind.pause_all)
    resume_all = blocking(Behind.resume_all)
    pauses = blocking(Behind.pauses)


def check_store(store: object) -> None:
    """Raise TypeError for anything but a store of this package."""
    if not isinstance(store, CheckpointStore):
        raise TypeError(
            "store must be from durable_workflow_sqlite.blocking: its SqliteCheckpointStore, or"
            f" its CheckpointStore with a store of your own; it is {store!r}"
        )
