"""One step that is recorded in the transaction in which it happens: so it happens exactly once.

Its beginning is not recorded, and it is never in doubt: either all of it is there, its outcome too,
or nothing.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.actions import reference
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.given import may_be_given
from durable_workflow_sqlite.engine.observer import log_attributes
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.step_notifications import (
    tell_complete,
    tell_failure,
    tell_in_doubt,
    tell_retry,
)
from durable_workflow_sqlite.engine.step_outcomes import CutOff, record_cut_off, take_error
from durable_workflow_sqlite.engine.step_waits import (
    give_up,
    given_to_any,
    given_value,
    goes_on,
    pause,
    take_given,
    without_question,
)
from durable_workflow_sqlite.errors import (
    SerializationError,
    TransactionMisuseError,
    TransactionTimeoutError,
)
from durable_workflow_sqlite.records import RESOLVED_SIGNAL, StepCheckpoint, StepStatus

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.operations import TransactionCall
    from durable_workflow_sqlite.engine.transacting_run import Reserved, TransactingRun

_log = logging.getLogger("durable_workflow_sqlite.engine")

_OF_THE_LIBRARY: Final = (SerializationError, TransactionMisuseError, TransactionTimeoutError)

_WOULD_FAIL_AGAIN: Final = (SerializationError, TransactionMisuseError)
"""Errors after which there is no other attempt: the function has a mistake."""


async def perform_transaction(run: TransactingRun, call: TransactionCall) -> None:
    """Bring it to its outcome, in the current task, and record that. Raises as `perform_step`."""
    attempt, first_started_at = 1, None
    call.has_begun = False
    last = call.last
    if last is not None:
        assert call.history is not None
        if call.is_given_up:
            await give_up(run, call, last)
            raise CutOff
        attempt = last.attempt + 1
        first_started_at = None if call.history.first is None else call.history.first.started_at
        was_begun = last.status is StepStatus.INTENT and may_be_given(last)
        last = await without_question(run, last)
        if was_begun and await take_given(run, call, last):
            return
        if last.due_at is not None:
            await pause(run, call, last)
        elif call.history.is_in_doubt:  # it was a step in the code that ran then
            tell_in_doubt(run, last)
    elif run.stops_after_steps is not None:
        raise CutOff  # it begins in the next run, if that asks for it, too
    while True:
        one = _Attempt(run, call, attempt)
        first_started_at = first_started_at or one.intent.started_at
        may_have_value = last is not None and may_be_given(last)
        # Signals that are there before the look, and are not found by it, are for other steps.
        others: frozenset[int] = await given_to_any(run) if may_have_value else frozenset()
        known = await given_value(run, call) if may_have_value else None
        if known is not None and await take_given(run, call, one.intent, known):
            return
        if call.is_given_up or run.trouble is not None:
            await record_cut_off(run, call, one.intent, has_begun=False)
        if run.environment.is_observed:
            run.environment.observers.tell("on_step_start", one.intent, replayed=False)
        call.has_begun = True
        one.watch()
        try:
            outcome = await run.transact(
                call,
                one.act,
                one.failed,
                timeout=one.timeout,
                unless_signal=RESOLVED_SIGNAL if may_have_value else None,
                passed_over=others,
            )
        finally:
            one.stop_watching()
        if outcome is None:  # somebody has just given a value
            call.has_begun = False
            continue
        if outcome.status is StepStatus.COMPLETED:
            if progressed := run.running(progressed=True):
                await run.save(*progressed)
            tell_complete(run, outcome, first_started_at, replayed=False)
            return
        assert one.failure is not None
        if one.retried_in is None:
            take_error(run, call, outcome, one.failure)
            tell_complete(run, outcome, first_started_at, replayed=False)
            tell_failure(run, outcome, one.failure)
            return
        call.has_begun = False
        last = outcome
        tell_retry(run, last, one.failure, one.retried_in)
        await pause(run, call, last)
        attempt += 1


class _Attempt:
    """One attempt: what is called in the transaction, and what is recorded of it there."""

    def __init__(self, run: TransactingRun, call: TransactionCall, number: int) -> None:
        assert call.timeout is not None
        self._run, self._call, self._number = run, call, number
        self._context = copy_context()
        self.timeout: timedelta = call.timeout
        self.failure: Exception | None = None
        self.retried_in: timedelta | None = None
        self._begun_at: float | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self.intent = StepCheckpoint(
            workflow_execution_id=run.id,
            branch=call.place[0],
            step_index=call.place[1],
            attempt=number,
            step_name=call.name,
            status=StepStatus.INTENT,
            input_data=call.fingerprint,
            compensate_ref=None if call.compensate is None else reference(call.compensate),
            started_at=run.environment.clock.now(),
        )

    def act(self, connection: Any, reserved: Reserved) -> StepCheckpoint:
        call = self._call
        self._begun_at = monotonic()
        try:
            result = self._context.copy().run(call.action, connection, *call.args)
        except Exception as error:
            if isinstance(error, StopIteration):  # it means something else outside
                raise self._as_failure(error) from error
            raise
        except BaseException as error:
            raise self._as_failure(error) from error
        output, call.value = call.encode(result)
        check_size(output, self._run.environment.max_payload_bytes, call)
        now = max(self._run.environment.clock.now(), reserved.completed_at)
        return self.intent.completed(output, now, reserved.event)

    def failed(self, error: BaseException, reserved: Reserved) -> StepCheckpoint:
        run, call, environment = self._run, self._call, self._run.environment
        failure = error if isinstance(error, Exception) else self._as_failure(error)
        if isinstance(failure, _OF_THE_LIBRARY):
            failure.workflow_execution_id, failure.step_name = run.id, call.name
            failure.branch, failure.step_index = call.place
        self.failure, self.retried_in = failure, None
        may_again = goes_on(run, call) and not isinstance(failure, _WOULD_FAIL_AGAIN)
        if may_again and call.retry.allows_another(self._number, failure):
            self.retried_in = call.retry.delay_after(self._number)
        now = max(environment.clock.now(), reserved.completed_at)
        is_over = self.retried_in is None
        return msgspec.structs.replace(
            self.intent,
            status=StepStatus.FAILED,
            compensate_ref=None,  # nothing of it is there
            output_data=environment.error_codec.parts(failure) if is_over else None,
            error_type=failures.error_type(failure),
            error_message=environment.format_error(failure),
            completed_at=now,
            due_at=None if self.retried_in is None else later(now, self.retried_in),
            event=reserved.event if is_over else None,
        )

    def watch(self) -> None:
        """Warn when the function has run for twice its timeout; it may have to wait to begin."""
        allowed = 2 * self.timeout.total_seconds()
        left = allowed if self._begun_at is None else self._begun_at + allowed - monotonic()
        if left > 0:
            self._alarm = asyncio.get_running_loop().call_later(left, self.watch)
        else:
            self._warn()

    def stop_watching(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def _warn(self) -> None:
        _log.warning(
            "transaction %r of execution %r goes on, though its timeout of %s is over: its function"
            " calls neither SQLite nor PostgreSQL, and cannot be interrupted. Nothing else can be"
            " written until it returns",
            self._call.name,
            self._run.id,
            self.timeout,
            extra=log_attributes(self.intent),
        )

    def _as_failure(self, error: BaseException) -> RuntimeError:
        failure = RuntimeError(f"the function of {self._call.describe()} raised {error!r}")
        failure.__cause__ = error
        return failure
