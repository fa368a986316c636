"""`OpenTelemetryObserver`: what the hooks of the engine tell, as spans and measurements."""

from __future__ import annotations

import functools
from datetime import timedelta
from importlib.metadata import version
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import Histogram, Meter, MeterProvider
from opentelemetry.trace import TracerProvider

from durable_workflow_sqlite.engine.observer import DurableEngineObserver
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowExecution,
)
from durable_workflow_sqlite.telemetry import names
from durable_workflow_sqlite.telemetry.spans import ExecutionTrace

SCOPE: Final = "durable_workflow_sqlite"

SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    *(60, 300, 900, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400),
)
"""Buckets: from a step in memory to a month."""


class OpenTelemetryObserver(DurableEngineObserver):
    """Spans and metrics of what an engine does; replays count once.

    tracer_provider, meter_provider: the global ones by default. They are asked when the engine
        first has something to tell, so they may be set after this is made.

    What an error says is told as it is stored: `error_formatter` of the engine can redact it.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._traces: dict[str, ExecutionTrace] = {}
        self._waiting: dict[str, WorkflowExecution] = {}

    def on_execution_start(self, execution: WorkflowExecution) -> None:
        self._trace(execution).tell_start(execution)
        attributes = {names.WORKFLOW_ID: execution.workflow_id}
        self._instruments.started.add(1, attributes)
        # A worker that takes it from the queue writes the time of that.
        queued = execution.updated_at - execution.created_at
        self._instruments.queue_time.record(queued.total_seconds(), attributes)

    def on_execution_resume(self, execution: WorkflowExecution) -> None:
        self._trace(execution).tell_resume(execution)
        self._instruments.resumed.add(1, {names.WORKFLOW_ID: execution.workflow_id})

    def on_status_change(self, execution: WorkflowExecution, before: ExecutionStatus) -> None:
        # Ten thousand may be waiting: a trace takes more memory than a record.
        if execution.status is ExecutionStatus.SUSPENDED:
            self._traces.pop(execution.workflow_execution_id, None)
            self._waiting[execution.workflow_execution_id] = execution

    def on_execution_complete(self, execution: WorkflowExecution, elapsed: timedelta) -> None:
        self._trace(execution).end(execution)
        del self._traces[execution.workflow_execution_id]
        attributes = {
            names.WORKFLOW_ID: execution.workflow_id,
            names.EXECUTION_STATUS: execution.status.value,
        }
        if execution.status is ExecutionStatus.FAILED:
            attributes[names.ERROR_TYPE] = names.error_type(execution.error_type)
        self._instruments.execution_duration.record(elapsed.total_seconds(), attributes)

    def on_step_start(self, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
        trace_ = self._trace_of(checkpoint)
        if trace_ is not None and not replayed and checkpoint.kind is StepKind.STEP:
            trace_.begin_attempt(checkpoint)

    def on_step_complete(
        self, checkpoint: StepCheckpoint, elapsed: timedelta, *, replayed: bool
    ) -> None:
        if replayed:
            return
        trace_ = self._trace_of(checkpoint)
        if trace_ is not None:
            trace_.end_attempt(checkpoint, checkpoint.completed_at)
            trace_.tell_step(checkpoint, elapsed)
        is_step = checkpoint.kind is StepKind.STEP
        instruments = self._instruments
        self._record(
            instruments.step_duration if is_step else instruments.wait_duration,
            checkpoint,
            elapsed,
        )

    def on_step_retry(
        self, checkpoint: StepCheckpoint, error: BaseException, delay: timedelta
    ) -> None:
        trace_ = self._trace_of(checkpoint)
        if trace_ is not None:
            trace_.end_attempt(checkpoint, checkpoint.completed_at)
        attributes = self._attributes(checkpoint)
        attributes[names.ERROR_TYPE] = names.error_type(checkpoint.error_type)
        self._instruments.retries.add(1, attributes)

    def on_step_in_doubt(self, checkpoint: StepCheckpoint) -> None:
        trace_ = self._trace_of(checkpoint)
        if trace_ is not None:
            trace_.tell_in_doubt(checkpoint)
        self._instruments.in_doubt.add(1, self._attributes(checkpoint))

    def on_compensation_start(self, checkpoint: StepCheckpoint) -> None:
        trace_ = self._trace_of(checkpoint)
        if trace_ is not None:
            trace_.begin_attempt(checkpoint)

    def on_compensation_retry(
        self, checkpoint: StepCheckpoint, error: BaseException, delay: timedelta
    ) -> None:
        trace_ = self._trace_of(checkpoint)
        if trace_ is not None:
            trace_.end_attempt(checkpoint, None)

    def on_compensation_complete(self, checkpoint: StepCheckpoint, elapsed: timedelta) -> None:
        trace_ = self._trace_of(checkpoint)
        if trace_ is not None:
            trace_.end_attempt(checkpoint, checkpoint.completed_at)
        self._record(self._instruments.compensation_duration, checkpoint, elapsed)

    def _trace(self, execution: WorkflowExecution) -> ExecutionTrace:
        """The trace of an execution; a new one where this worker claims it again."""
        self._waiting.pop(execution.workflow_execution_id, None)
        found = self._traces.get(execution.workflow_execution_id)
        if found is None:
            found = ExecutionTrace(self._tracer, execution)
            self._traces[execution.workflow_execution_id] = found
        return found

    def _trace_of(self, checkpoint: StepCheckpoint) -> ExecutionTrace | None:
        waiting = self._waiting.get(checkpoint.workflow_execution_id)
        if waiting is not None:
            return self._trace(waiting)
        return self._traces.get(checkpoint.workflow_execution_id)

    def _record(self, duration: Histogram, checkpoint: StepCheckpoint, elapsed: timedelta) -> None:
        attributes = self._attributes(checkpoint)
        attributes[names.STEP_STATUS] = checkpoint.status.value
        if checkpoint.status is StepStatus.FAILED:
            attributes[names.ERROR_TYPE] = names.error_type(checkpoint.error_type)
        duration.record(elapsed.total_seconds(), attributes)

    def _attributes(self, checkpoint: StepCheckpoint) -> dict[str, str]:
        attributes = {names.STEP_NAME: names.step_name(checkpoint.step_name)}
        trace_ = self._trace_of(checkpoint)
        if trace_ is not None:
            attributes[names.WORKFLOW_ID] = trace_.workflow_id
        return attributes

    @functools.cached_property
    def _tracer(self) -> trace.Tracer:
        return trace.get_tracer(SCOPE, _version(), self._tracer_provider)

    @functools.cached_property
    def _instruments(self) -> _Instruments:
        return _Instruments(metrics.get_meter(SCOPE, _version(), self._meter_provider))


class _Instruments:
    """What is measured. How many have finished is the count of their durations."""

    def __init__(self, meter: Meter) -> None:
        def counter(name: str, unit: str, description: str) -> metrics.Counter:
            return meter.create_counter(f"durable_workflow.{name}", unit, description)

        def seconds(name: str, description: str) -> Histogram:
            return meter.create_histogram(
                f"durable_workflow.{name}",
                "s",
                description,
                explicit_bucket_boundaries_advisory=SECONDS,
            )

        self.started = counter(
            "execution.started", "{execution}", "Executions that began to run for the first time."
        )
        self.resumed = counter(
            "execution.resumed", "{execution}", "Executions that a worker claimed again."
        )
        self.queue_time = seconds(
            "execution.queue_time", "From the creation of an execution to its first run."
        )
        self.execution_duration = seconds(
            "execution.duration", "From the creation of an execution to its end."
        )
        self.step_duration = seconds(
            "step.duration", "From the first attempt of a step to its outcome."
        )
        self.wait_duration = seconds(
            "wait.duration", "Sleeps and waits for signals, from their beginning to their end."
        )
        self.retries = counter(
            "step.retries", "{attempt}", "Attempts that failed and are followed by another."
        )
        self.in_doubt = counter(
            "step.in_doubt", "{attempt}", "Attempts that may have taken effect."
        )
        self.compensation_duration = seconds(
            "compensation.duration", "The last attempt of a compensation."
        )


def _version() -> str:
    return version("durable-workflow-sqlite")
