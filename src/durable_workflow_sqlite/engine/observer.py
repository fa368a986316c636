"""Hooks for metrics and tracing, and the log of normal work at DEBUG."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from durable_workflow_sqlite.records import (
    COMPENSATION_SUFFIX,
    ExecutionStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowExecution,
)

_log = logging.getLogger("durable_workflow_sqlite.observer")


class DurableEngineObserver:
    """Override the hooks that you need. They are called on the event loop, and must be fast.

    If an observer raises an error, the error is logged and has no other effect. `elapsed` is the
    time since the start of an execution, or since the first attempt of a step, restarts included.
    """

    def on_execution_start(self, execution: WorkflowExecution) -> None:
        """An execution starts to run for the first time."""

    def on_execution_resume(self, execution: WorkflowExecution) -> None:
        """A worker claims an execution again: after a restart, a crash or a long wait."""

    def on_execution_complete(self, execution: WorkflowExecution, elapsed: timedelta) -> None:
        """An execution has reached a final status."""

    def on_step_start(self, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
        """An attempt of a step, a sleep or a wait begins; or a recorded one is replayed."""

    def on_step_complete(
        self, checkpoint: StepCheckpoint, elapsed: timedelta, *, replayed: bool
    ) -> None:
        """A step has its outcome: COMPLETED, or FAILED for good."""

    def on_step_retry(
        self, checkpoint: StepCheckpoint, error: BaseException, delay: timedelta
    ) -> None:
        """An attempt failed, and another follows after a delay."""

    def on_step_in_doubt(self, checkpoint: StepCheckpoint) -> None:
        """An attempt was interrupted, and may have taken effect.

        The step runs again, or does what its `in_doubt` says; then also after a timeout.
        """

    def on_compensation_start(self, checkpoint: StepCheckpoint) -> None:
        """An attempt of the compensation of a step begins."""

    def on_compensation_retry(
        self, checkpoint: StepCheckpoint, error: BaseException, delay: timedelta
    ) -> None:
        """An attempt of a compensation failed, and another follows after a delay."""

    def on_compensation_complete(self, checkpoint: StepCheckpoint, elapsed: timedelta) -> None:
        """A compensation has its outcome: COMPENSATED, or FAILED for good."""

    def on_recovery_start(self, count: int) -> None:
        """A recovery begins; `count` unfinished executions were found."""

    def on_recovery_complete(self, result: Any, elapsed: timedelta) -> None:
        """A recovery has claimed what it could; `result` is its `RecoveryResult`."""

    def on_status_change(self, execution: WorkflowExecution, before: ExecutionStatus) -> None:
        """The status of an execution has changed; `before` is the old one."""

    def on_error(self, error: BaseException, workflow_execution_id: str | None) -> None:
        """A step, a compensation or an execution failed, or the engine has a problem."""


class Observers:
    """Calls every observer. An error of an observer is logged."""

    def __init__(self, observers: Iterable[DurableEngineObserver]) -> None:
        self._observers = tuple(observers)
        if _Log.LOGGER.isEnabledFor(logging.DEBUG):
            # Where nobody reads it, a step must not cost more for it.
            self._observers += (_Log(),)
        for observer in self._observers:
            if not isinstance(observer, DurableEngineObserver):
                raise TypeError(f"an observer must be a DurableEngineObserver, not {observer!r}")

    def __bool__(self) -> bool:
        return bool(self._observers)

    def tell(self, hook: str, *args: Any, **kwargs: Any) -> None:
        for observer in self._observers:
            try:
                getattr(observer, hook)(*args, **kwargs)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - whatever an observer does
                _log.exception("observer %r failed in %s", observer, hook)


def log_attributes(checkpoint: StepCheckpoint) -> dict[str, Any]:
    """The attributes of a log record about a step."""
    return {
        "workflow_execution_id": checkpoint.workflow_execution_id,
        "step_name": checkpoint.step_name,
        "step_index": checkpoint.step_index,
        "branch": checkpoint.branch,
        "attempt": checkpoint.attempt,
    }


class _Log(DurableEngineObserver):
    """Logs normal work at DEBUG. Problems are logged where they occur, at a higher level."""

    LOGGER = logging.getLogger("durable_workflow_sqlite.engine")

    def on_execution_start(self, execution: WorkflowExecution) -> None:
        self._of_execution(execution, "execution %r of %s starts")

    def on_execution_resume(self, execution: WorkflowExecution) -> None:
        self._of_execution(execution, "execution %r of %s is claimed again")

    def on_status_change(self, execution: WorkflowExecution, before: ExecutionStatus) -> None:
        if execution.status is ExecutionStatus.SUSPENDED:
            self._of_execution(execution, "execution %r of %s waits")
        elif execution.status is ExecutionStatus.COMPENSATING:
            self._of_execution(execution, "execution %r of %s begins to undo its steps")

    def on_execution_complete(self, execution: WorkflowExecution, elapsed: timedelta) -> None:
        if execution.status is ExecutionStatus.COMPLETED:
            self._of_execution(execution, "execution %r of %s completed after %s", elapsed)

    def on_step_start(self, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
        if checkpoint.kind is StepKind.STEP:
            if not replayed:
                self._of_step(checkpoint, "step %r of execution %r: attempt %d", checkpoint.attempt)
        elif checkpoint.status is StepStatus.INTENT:
            what = "sleep" if checkpoint.kind is StepKind.SLEEP else "wait for signal"
            until = "it comes" if checkpoint.due_at is None else checkpoint.due_at
            self._of_step(checkpoint, what + " %r of execution %r, until %s", until)

    def on_step_complete(
        self, checkpoint: StepCheckpoint, elapsed: timedelta, *, replayed: bool
    ) -> None:
        if replayed:
            return
        if checkpoint.status is StepStatus.COMPLETED:
            what = "step" if checkpoint.kind is StepKind.STEP else "wait"
            self._of_step(checkpoint, what + " %r of execution %r completed after %s", elapsed)
        elif checkpoint.kind is StepKind.SIGNAL:
            self._of_step(checkpoint, "wait %r of execution %r timed out after %s", elapsed)

    def on_compensation_start(self, checkpoint: StepCheckpoint) -> None:
        self._of_step(checkpoint, "step %r of execution %r: its compensation begins")

    def on_compensation_complete(self, checkpoint: StepCheckpoint, elapsed: timedelta) -> None:
        if checkpoint.status is StepStatus.COMPENSATED:
            self._of_step(checkpoint, "step %r of execution %r was undone after %s", elapsed)

    def _of_execution(self, execution: WorkflowExecution, message: str, *args: object) -> None:
        execution_id = execution.workflow_execution_id
        self.LOGGER.debug(
            message,
            execution_id,
            execution.workflow_id,
            *args,
            extra={"workflow_execution_id": execution_id},
        )

    def _of_step(self, checkpoint: StepCheckpoint, message: str, *args: object) -> None:
        self.LOGGER.debug(
            message,
            checkpoint.step_name.removesuffix(COMPENSATION_SUFFIX),
            checkpoint.workflow_execution_id,
            *args,
            extra=log_attributes(checkpoint),
        )
