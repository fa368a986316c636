"""Hooks for logging, metrics and tracing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from durable_workflow_sqlite.records import ExecutionStatus, StepCheckpoint, WorkflowExecution

_log = logging.getLogger("durable_workflow_sqlite.observer")


class DurableEngineObserver:
    """Override what you want to hear of. Hooks are called on the event loop and must be quick.

    An observer that raises is logged, and harms nothing. `elapsed` is wall-clock time: of an
    execution since it was started, of a step since its first attempt, over restarts.
    """

    def on_execution_start(self, execution: WorkflowExecution) -> None:
        """An execution starts to run for the first time."""

    def on_execution_complete(self, execution: WorkflowExecution, elapsed: timedelta) -> None:
        """An execution has reached a final status."""

    def on_step_start(self, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
        """An attempt of a step, a sleep or a wait begins; or one of the past is replayed."""

    def on_step_complete(
        self, checkpoint: StepCheckpoint, elapsed: timedelta, *, replayed: bool
    ) -> None:
        """A step has its outcome: COMPLETED, or FAILED for good."""

    def on_step_retry(
        self, checkpoint: StepCheckpoint, error: BaseException, delay: timedelta
    ) -> None:
        """An attempt failed, and another follows after a delay."""

    def on_step_in_doubt(self, checkpoint: StepCheckpoint) -> None:
        """An attempt was interrupted; its side effect may have happened. It is run again."""

    def on_compensation_start(self, checkpoint: StepCheckpoint) -> None:
        """The compensation of a step begins."""

    def on_compensation_complete(self, checkpoint: StepCheckpoint, elapsed: timedelta) -> None:
        """A compensation has its outcome: COMPENSATED, or FAILED for good."""

    def on_recovery_start(self, count: int) -> None:
        """A recovery begins; `count` unfinished executions were found."""

    def on_recovery_complete(self, result: Any, elapsed: timedelta) -> None:
        """A recovery has taken on what it could; `result` is its `RecoveryResult`."""

    def on_status_change(self, execution: WorkflowExecution, before: ExecutionStatus) -> None:
        """An execution has another status now."""

    def on_error(self, error: BaseException, workflow_execution_id: str | None) -> None:
        """A step, a compensation or an execution failed, or the engine is in trouble."""


class Observers:
    """Calls every observer, and lets none of them do harm."""

    def __init__(self, observers: Iterable[DurableEngineObserver]) -> None:
        self._observers = tuple(observers)
        for observer in self._observers:
            if not isinstance(observer, DurableEngineObserver):
                raise TypeError(f"an observer must be a DurableEngineObserver, not {observer!r}")

    def __bool__(self) -> bool:
        return bool(self._observers)

    def tell(self, hook: str, *args: Any, **kwargs: Any) -> None:
        for observer in self._observers:
            try:
                getattr(observer, hook)(*args, **kwargs)
            except (Exception, asyncio.CancelledError):  # noqa: BLE001 - whatever an observer does
                _log.exception("observer %r failed in %s", observer, hook)
