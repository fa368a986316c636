"""Undoing what an execution completed: in reverse order, each step once, recorded as it goes."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.history import History, Place
from durable_workflow_sqlite.engine.steps import StepCall, call_function, later, not_from_outside
from durable_workflow_sqlite.errors import (
    CompensationError,
    SerializationError,
    StepFailedError,
)
from durable_workflow_sqlite.records import COMPENSATION_SUFFIX, StepCheckpoint, StepStatus

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.execution import Execution

_log = logging.getLogger("durable_workflow_sqlite.engine")


_UNSTORABLE: Final = f"{SerializationError.__module__}:{SerializationError.__qualname__}"


class _Compensation(NamedTuple):
    call: StepCall
    value: object
    checkpoint: StepCheckpoint


class Saga:
    """The compensations of one execution."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._registered: dict[Place, _Compensation] = {}
        self._expected: dict[Place, StepCheckpoint] = {}
        self._begun: dict[Place, StepCheckpoint] = {}
        self._lost: dict[Place, StepCheckpoint] = {}
        self._settled: set[Place] = set()
        self._failed: list[StepCheckpoint] = []

    def __bool__(self) -> bool:
        """Whether there is anything to undo."""
        return bool(self._registered or self._expected or self._lost)

    def register(self, call: StepCall, value: object, checkpoint: StepCheckpoint) -> None:
        """A step is completed; `value` is what its compensation is given."""
        self._registered[call.place] = _Compensation(call, value, checkpoint)

    def expect(self, history: History) -> None:
        """What the records say must be undone, and how far that has got."""
        for place, step in history.steps():
            last, undone = step.last, step.compensation
            if undone is not None:
                if undone.status is StepStatus.INTENT:
                    self._begun[place] = undone
                else:
                    self._settled.add(place)
                    if undone.status is StepStatus.FAILED:
                        self._failed.append(undone)
                    continue
            if last is None or last.compensate_ref is None:
                continue
            if last.status is StepStatus.COMPLETED:
                self._expected[place] = last
            elif last.error_type == _UNSTORABLE:
                self._lost[place] = last

    def missing(self) -> list[StepCheckpoint]:
        """The expected steps that the body has not registered."""
        return [
            checkpoint
            for place, checkpoint in self._expected.items()
            if place not in self._registered and place not in self._settled
        ]

    async def compensate(self) -> CompensationError | None:
        """Undo everything that is not undone, the last completed first; report what failed."""
        execution = self._execution
        to_do = [one for place, one in self._registered.items() if place not in self._settled]
        to_do.sort(key=_completed_at, reverse=True)
        for compensation in to_do:
            await self._compensate(compensation)
        for place, checkpoint in self._lost.items():
            if place not in self._registered and place not in self._settled:
                await self._report_lost(place, checkpoint)
        if not self._failed:
            return None
        errors = [_as_error(one) for one in self._failed]
        names = ", ".join(f"{one.step_name!r} (index {one.step_index})" for one in self._failed)
        error = CompensationError(
            f"execution {execution.id!r} could not undo everything: {names} failed",
            workflow_execution_id=execution.id,
            failures=errors,
        )
        execution.environment.observers.tell("on_error", error, execution.id)
        return error

    async def _compensate(self, compensation: _Compensation) -> None:
        execution, environment = self._execution, self._execution.environment
        call, policy = compensation.call, compensation.call.compensate_retry
        assert call.compensate is not None
        begun = self._begun.get(call.place)
        attempt = 1
        if begun is not None:
            attempt = _attempts_of(begun) + 1
            if begun.due_at is not None:
                await environment.scheduler.at(begun.due_at)
        while True:
            execution.raise_trouble()
            intent = StepCheckpoint(
                workflow_execution_id=execution.id,
                branch=call.place[0],
                step_index=call.place[1],
                attempt=0,
                step_name=call.name + COMPENSATION_SUFFIX,
                status=StepStatus.INTENT,
                input_data=msgspec.json.encode({"attempt": attempt}).decode(),
                compensate_ref=compensation.checkpoint.compensate_ref,
                started_at=environment.clock.now(),
            )
            await execution.save(intent)
            environment.observers.tell("on_compensation_start", intent)
            try:
                await call_function(execution, call.compensate, (compensation.value,))
            except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - whatever it raises
                error = not_from_outside(execution, raised, intent.step_name)
                delay = (
                    policy.delay_after(attempt) if policy.allows_another(attempt, error) else None
                )
                now = execution.completion_time()
                outcome = msgspec.structs.replace(
                    intent,
                    status=StepStatus.FAILED if delay is None else StepStatus.INTENT,
                    error_type=failures.error_type(error),
                    error_message=environment.format_error(error),
                    completed_at=now if delay is None else None,
                    due_at=None if delay is None else later(now, delay),
                )
                await execution.save(outcome)
                self._log(outcome, attempt, delay)
                if outcome.due_at is not None and delay is not None:
                    environment.observers.tell("on_compensation_retry", outcome, error, delay)
                    execution.raise_trouble()
                    await environment.scheduler.at(outcome.due_at)
                    attempt += 1
                    continue
                self._failed.append(outcome)
            else:
                outcome = msgspec.structs.replace(
                    intent,
                    status=StepStatus.COMPENSATED,
                    completed_at=execution.completion_time(),
                )
                await execution.save(outcome)
            self._settled.add(call.place)
            elapsed = timedelta(0)
            if outcome.completed_at is not None and outcome.started_at is not None:
                elapsed = outcome.completed_at - outcome.started_at
            environment.observers.tell("on_compensation_complete", outcome, elapsed)
            return

    async def _report_lost(self, place: Place, checkpoint: StepCheckpoint) -> None:
        """A step took effect, its result could not be stored, and the process that had it died."""
        execution = self._execution
        error = SerializationError("the result that it needs could not be stored, and is lost")
        outcome = StepCheckpoint(
            workflow_execution_id=execution.id,
            branch=checkpoint.branch,
            step_index=checkpoint.step_index,
            attempt=0,
            step_name=checkpoint.step_name + COMPENSATION_SUFFIX,
            status=StepStatus.FAILED,
            error_type=_UNSTORABLE,
            error_message=execution.environment.format_error(error),
            compensate_ref=checkpoint.compensate_ref,
            completed_at=execution.completion_time(),
        )
        await execution.save(outcome)
        self._log(outcome, 0, None)
        self._failed.append(outcome)
        self._settled.add(place)

    def _log(self, outcome: StepCheckpoint, attempt: int, delay: timedelta | None) -> None:
        _log.log(
            logging.ERROR if delay is None else logging.INFO,
            "compensation of step %r of execution %r failed at attempt %d, %s: %s",
            outcome.step_name.removesuffix(COMPENSATION_SUFFIX),
            self._execution.id,
            attempt,
            "for good" if delay is None else f"trying again in {delay}",
            outcome.error_message,
            extra={
                "workflow_execution_id": self._execution.id,
                "step_name": outcome.step_name,
                "step_index": outcome.step_index,
                "branch": outcome.branch,
                "attempt": attempt,
            },
        )


def _completed_at(compensation: _Compensation) -> datetime:
    checkpoint = compensation.checkpoint
    at = checkpoint.completed_at or checkpoint.started_at
    assert at is not None
    return at


def _attempts_of(compensation: StepCheckpoint) -> int:
    try:
        data: dict[str, Any] = msgspec.json.decode(
            compensation.input_data or "{}", type=dict[str, Any]
        )
        return int(data.get("attempt", 0))
    except (msgspec.MsgspecError, ValueError, TypeError):
        return 0


def _as_error(failed: StepCheckpoint) -> StepFailedError:
    return StepFailedError(
        f"{failed.step_name!r} (index {failed.step_index}): {failed.error_message}",
        workflow_execution_id=failed.workflow_execution_id,
        step_name=failed.step_name,
        step_index=failed.step_index,
        branch=failed.branch,
        attempt=_attempts_of(failed),
        error_type=failed.error_type,
        error_message=failed.error_message,
    )
