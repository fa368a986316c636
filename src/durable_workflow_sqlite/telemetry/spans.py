"""The spans of an execution: one trace, over any number of workers and restarts.

The ids of the trace, of its root span and of its steps are made of stored values: the execution's
id and the time of its creation, a step's branch and index. So workers that know nothing of each
other write one trace. A span is exported by the worker that sees its end: what was open when a
process died is not, and is told by the next worker as in doubt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, TraceFlags, Tracer
from opentelemetry.trace.status import Status, StatusCode

from durable_workflow_sqlite.questions import question_or_step
from durable_workflow_sqlite.records import (
    COMPENSATION_SUFFIX,
    ExecutionStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowExecution,
)
from durable_workflow_sqlite.telemetry import names

Attributes = Mapping[str, str | int | bool]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WAITS: Final = {StepKind.SLEEP: "sleep", StepKind.SIGNAL: "wait"}


class _Attempt(NamedTuple):
    span: Span
    token: Token[Context]


class ExecutionTrace:
    """The trace of one execution, and its spans that are open in this worker."""

    def __init__(self, tracer: Tracer, execution: WorkflowExecution) -> None:
        self.workflow_id = execution.workflow_id
        self._tracer = tracer
        self._seed = f"{execution.workflow_execution_id}\0{execution.created_at.isoformat()}"
        self._attributes: Attributes = {
            names.EXECUTION_ID: execution.workflow_execution_id,
            names.WORKFLOW_ID: execution.workflow_id,
        }
        self._attempts: dict[tuple[str, int], _Attempt] = {}
        self._has_root = _can_choose_ids(tracer)
        if self._has_root:
            # In each worker; the one that sees the end exports it.
            with _chosen_ids(self._trace_id, self._id_of("execution")):
                self._root = self._start("execution", execution.created_at, context=Context())
        else:
            self._root = NonRecordingSpan(
                SpanContext(
                    self._trace_id,
                    self._id_of("execution"),
                    is_remote=True,
                    trace_flags=TraceFlags(TraceFlags.SAMPLED),
                )
            )
        self._context = trace.set_span_in_context(self._root, Context())

    def tell_start(self, execution: WorkflowExecution) -> None:
        """A span without a length: it is exported now, and says who asked for the execution."""
        caller = trace.get_current_span().get_span_context()
        self._tell("start", execution, [Link(caller)] if caller.is_valid else [])

    def tell_resume(self, execution: WorkflowExecution) -> None:
        """A span without a length: the execution is resumed, maybe in another process."""
        self._tell("resume", execution, [])

    def end(self, execution: WorkflowExecution) -> None:
        for attempt in self._attempts.values():
            attempt.span.set_status(Status(StatusCode.ERROR, "it was interrupted"))
            attempt.span.end(_ns(execution.updated_at))
        self._attempts.clear()
        root = self._root
        if not self._has_root:
            root = self._start("execution", execution.created_at)
        root.set_attribute(names.EXECUTION_STATUS, execution.status.value)
        if execution.status is ExecutionStatus.FAILED:
            _fail(root, execution.error_type, execution.error_message)
        root.end(_ns(execution.updated_at))

    def begin_attempt(self, checkpoint: StepCheckpoint) -> None:
        """Spans that the action starts from now on, in this task, belong to the attempt."""
        span = self._start_attempt(checkpoint)
        token = contexts.attach(trace.set_span_in_context(span))
        self._attempts[_place(checkpoint)] = _Attempt(span, token)

    def end_attempt(self, checkpoint: StepCheckpoint, at: datetime | None) -> None:
        attempt = self._attempts.pop(_place(checkpoint), None)
        if attempt is None:
            return
        contexts.detach(attempt.token)
        if checkpoint.error_type is not None:
            _fail(attempt.span, checkpoint.error_type, checkpoint.error_message)
        attempt.span.end(None if at is None else _ns(at))

    def tell_in_doubt(self, checkpoint: StepCheckpoint) -> None:
        """An attempt that began in a process that has ended: how far it got is not known."""
        span = self._start_attempt(checkpoint)
        span.set_attribute(names.STEP_IN_DOUBT, True)
        span.set_status(Status(StatusCode.ERROR, "it was interrupted, and may have taken effect"))
        span.end(_ns(checkpoint.started_at) if checkpoint.started_at else None)

    def tell_step(self, outcome: StepCheckpoint, elapsed: timedelta) -> None:
        """A step or a wait has its outcome: its span is from its first beginning to here."""
        name = names.step_name(outcome.step_name)
        kind = _WAITS.get(outcome.kind, "step")
        ended_at = outcome.completed_at or outcome.started_at or _EPOCH
        attributes = {**_of_step(outcome), names.STEP_STATUS: outcome.status.value}
        with _chosen_ids(self._trace_id, self._step_id(outcome)):
            span = self._start(
                kind,
                ended_at - elapsed,
                name=name,
                attributes=attributes,
            )
        if outcome.status is StepStatus.FAILED:
            _fail(span, outcome.error_type, outcome.error_message)
        span.end(_ns(ended_at))

    def _tell(self, what: str, execution: WorkflowExecution, links: list[Link]) -> None:
        at = execution.updated_at
        attributes = {names.RECOVERY_COUNT: execution.recovery_count}
        self._start(what, at, attributes=attributes, links=links).end(_ns(at))

    def _start_attempt(self, checkpoint: StepCheckpoint) -> Span:
        is_compensation = checkpoint.step_name.endswith(COMPENSATION_SUFFIX)
        parent = self._context
        if self._has_root and not is_compensation:
            # The step's span is made at its end, maybe in another process, under this id.
            root = self._root.get_span_context()
            step = SpanContext(
                root.trace_id,
                self._step_id(checkpoint),
                is_remote=False,
                trace_flags=root.trace_flags,
                trace_state=root.trace_state,
            )
            parent = trace.set_span_in_context(NonRecordingSpan(step), Context())
        return self._start(
            "compensate" if is_compensation else "attempt",
            checkpoint.started_at or _EPOCH,
            name=names.step_name(checkpoint.step_name),
            attributes={**_of_step(checkpoint), names.STEP_ATTEMPT: checkpoint.attempt},
            context=parent,
        )

    def _start(
        self,
        what: str,
        at: datetime,
        *,
        name: str | None = None,
        attributes: Attributes | None = None,
        links: list[Link] | None = None,
        context: Context | None = None,
    ) -> Span:
        return self._tracer.start_span(
            f"{what} {name or self.workflow_id.partition('@')[0]}",
            context=self._context if context is None else context,
            attributes={**self._attributes, **(attributes or {})},
            links=links,
            start_time=_ns(at),
        )

    @property
    def _trace_id(self) -> int:
        return self._hash("trace", 16)

    def _id_of(self, what: str) -> int:
        return self._hash(what, 8)

    def _step_id(self, checkpoint: StepCheckpoint) -> int:
        return self._id_of(f"step {checkpoint.step_index} of {checkpoint.branch}")

    def _hash(self, what: str, size: int) -> int:
        text = f"{what}\0{self._seed}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=size).digest()) or 1


def _place(checkpoint: StepCheckpoint) -> tuple[str, int]:
    return checkpoint.branch, checkpoint.step_index


def _of_step(checkpoint: StepCheckpoint) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {
        names.STEP_NAME: question_or_step(checkpoint.step_name),
        names.STEP_INDEX: checkpoint.step_index,
    }
    if checkpoint.branch:
        found[names.STEP_BRANCH] = checkpoint.branch
    return found


def _fail(span: Span, error_type: str | None, message: str | None) -> None:
    # Of the error, what is stored and no more: the engine's error_formatter may have redacted it.
    span.set_attribute(names.ERROR_TYPE, names.error_type(error_type))
    span.set_status(Status(StatusCode.ERROR, message))


def _ns(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


# Ids of our choice

_ids: ContextVar[tuple[int, int] | None] = ContextVar("durable_workflow_span_ids", default=None)


class _ChosenIds:
    """Gives the ids that were chosen for the span that starts now; else another generator's."""

    def __init__(self, behind: Any) -> None:
        self._behind = behind

    def generate_trace_id(self) -> int:
        chosen = _ids.get()
        trace_id: int = self._behind.generate_trace_id() if chosen is None else chosen[0]
        return trace_id

    def generate_span_id(self) -> int:
        chosen = _ids.get()
        span_id: int = self._behind.generate_span_id() if chosen is None else chosen[1]
        return span_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


def _can_choose_ids(tracer: Any) -> bool:
    """Make a tracer take ids from here, if it is of an SDK that has generators of ids.

    It is this library's tracer, which nobody else has. Without it, the spans are still in one
    trace, below a root that is never exported.
    """
    ids = getattr(tracer, "id_generator", None)
    if ids is not None and not isinstance(ids, _ChosenIds):
        tracer.id_generator = _ChosenIds(ids)
    return ids is not None


@contextmanager
def _chosen_ids(trace_id: int, span_id: int) -> Generator[None]:
    token = _ids.set((trace_id, span_id))
    try:
        yield
    finally:
        _ids.reset(token)
