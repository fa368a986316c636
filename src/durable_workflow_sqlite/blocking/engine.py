"""The engine and its handles without `await`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from contextvars import Context
from datetime import timedelta
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from durable_workflow_sqlite.blocking.loop_thread import LoopThread, blocking
from durable_workflow_sqlite.blocking.store import CheckpointStore
from durable_workflow_sqlite.engine import handle
from durable_workflow_sqlite.engine.clock import Clock
from durable_workflow_sqlite.engine.engine import DurableEngine as Behind
from durable_workflow_sqlite.engine.error_codec import ErrorFunctions
from durable_workflow_sqlite.engine.failures import ErrorFormatter, default_error_formatter
from durable_workflow_sqlite.engine.observer import DurableEngineObserver
from durable_workflow_sqlite.engine.recovery import RecoveryResult
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import EngineStoppedError
from durable_workflow_sqlite.records import WorkflowExecution

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class ExecutionHandle(Generic[R_co]):
    """What `engine.start` and `engine.handle` return."""

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
    method: Callable[Concatenate[Behind, P], Coroutine[Any, Any, handle.ExecutionHandle[R]]],
) -> Callable[Concatenate[Any, P], ExecutionHandle[R]]:
    """As `blocking`, for a method that returns a handle."""

    @functools.wraps(method)
    def start(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> ExecutionHandle[R]:
        loop: LoopThread = self.loop
        return ExecutionHandle(loop.call(method, self.behind, *args, **kwargs), loop)

    return start


class DurableEngine:
    """`durable_workflow_sqlite.DurableEngine` without `await`; its arguments are the same.

    store: of this package. Observers, and async actions, are called in the thread of its loop.
    """

    def __init__(
        self,
        store: CheckpointStore,
        workflows: Iterable[AnyWorkflow] = (),
        *,
        observers: Iterable[DurableEngineObserver] = (),
        error_formatter: ErrorFormatter = default_error_formatter,
        errors: ErrorFunctions | None = None,
        max_concurrent: int = 100,
        max_recoveries: int = 10,
        cancel_grace: timedelta = timedelta(seconds=30),
        context: Context | None = None,
        park_after: timedelta | None = timedelta(seconds=60),
        max_resident: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(store, CheckpointStore):
            raise TypeError(
                "store must be of durable_workflow_sqlite.blocking: its SqliteCheckpointStore, or"
                f" its CheckpointStore over one of your own; not {store!r}"
            )
        self.loop = store.loop
        self.behind = Behind(
            store.behind,
            workflows,
            observers=observers,
            error_formatter=error_formatter,
            errors=errors,
            max_concurrent=max_concurrent,
            max_recoveries=max_recoveries,
            cancel_grace=cancel_grace,
            context=context,
            park_after=park_after,
            max_resident=max_resident,
            clock=clock,
        )

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.dispose()

    def open(self) -> RecoveryResult:
        """Begin to work, and recover what was interrupted; `with` does it."""
        # First, since what interrupts this wait leaves the engine to go on opening.
        self.loop.close_too(self.behind.dispose, is_busy=self._has_functions_in_threads)
        return self.loop.call(self.behind.open)

    def _has_functions_in_threads(self) -> bool:
        return self.behind._has_functions_in_threads  # pyright: ignore[reportPrivateUsage]

    def dispose(self, grace: timedelta = timedelta(0)) -> None:
        """Stop and release everything; unfinished executions can be resumed, and never fail.

        grace: for how long steps that are under way may go on to their end. After that, async
            actions are cancelled. Sync ones cannot be: they are waited for, and recorded. Ctrl-C
            ends the wait, and the event loop: what still runs is in doubt then, and runs again.
        """
        with suppress(EngineStoppedError):  # the store was closed, and that disposed of this
            if not self.loop.is_over:
                try:
                    self.loop.call(self.behind.dispose, grace)
                except KeyboardInterrupt:
                    self.loop.end_at_once()
                    raise

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

    run = blocking(Behind.run)
    start = starting(Behind.start)
    enqueue = starting(Behind.enqueue)
    enqueue_named = starting(Behind.enqueue_named)
    load = blocking(Behind.load)
    send_signal = blocking(Behind.send_signal)
    cancel = blocking(Behind.cancel)
    result_of = blocking(Behind.result_of)
    unblock = blocking(Behind.unblock)
    retry = blocking(Behind.retry)
    acknowledge = blocking(Behind.acknowledge)
    resolve = blocking(Behind.resolve)
    rerun = starting(Behind.rerun)
    recover = blocking(Behind.recover)
