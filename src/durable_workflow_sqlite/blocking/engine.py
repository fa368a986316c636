"""The engine without `await`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from contextvars import Context
from datetime import timedelta
from types import TracebackType
from typing import Self

from durable_workflow_sqlite.blocking.client import Client, check_store, starting
from durable_workflow_sqlite.blocking.loop_thread import blocking
from durable_workflow_sqlite.blocking.store import CheckpointStore
from durable_workflow_sqlite.engine.clock import Clock
from durable_workflow_sqlite.engine.engine import DurableEngine as Behind
from durable_workflow_sqlite.engine.error_codec import ErrorFunctions
from durable_workflow_sqlite.engine.failures import ErrorFormatter, default_error_formatter
from durable_workflow_sqlite.engine.observer import DurableEngineObserver
from durable_workflow_sqlite.engine.recovery import RecoveryResult
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import EngineStoppedError


class DurableEngine(Client):
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
        queues: Iterable[str] | None = None,
        max_concurrent: int = 100,
        max_recoveries: int = 10,
        cancel_grace: timedelta = timedelta(seconds=30),
        context: Context | None = None,
        park_after: timedelta | None = timedelta(seconds=60),
        max_resident: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        check_store(store)
        self.loop = store.loop
        self._engine = Behind(
            store.behind,
            workflows,
            observers=observers,
            error_formatter=error_formatter,
            errors=errors,
            queues=queues,
            max_concurrent=max_concurrent,
            max_recoveries=max_recoveries,
            cancel_grace=cancel_grace,
            context=context,
            park_after=park_after,
            max_resident=max_resident,
            clock=clock,
        )
        self.behind = self._engine

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
        self.loop.close_too(self._engine.dispose, is_busy=self._has_functions_in_threads)
        return self.loop.call(self._engine.open)

    def _has_functions_in_threads(self) -> bool:
        return self._engine._has_functions_in_threads  # pyright: ignore[reportPrivateUsage]

    def dispose(self, grace: timedelta = timedelta(0)) -> None:
        """Stop and release everything; unfinished executions can be resumed, and never fail.

        grace: for how long steps that are under way may go on to their end. After that, async
            actions are cancelled. Sync ones cannot be: they are waited for, and recorded. Ctrl-C
            ends the wait, and the event loop: what still runs is in doubt then, and runs again.
        """
        with suppress(EngineStoppedError):  # the store was closed, and that disposed of this
            if not self.loop.is_over:
                try:
                    self.loop.call(self._engine.dispose, grace)
                except KeyboardInterrupt:
                    self.loop.end_at_once()
                    raise

    run = blocking(Behind.run)
    start = starting(Behind.start)
    recover = blocking(Behind.recover)
