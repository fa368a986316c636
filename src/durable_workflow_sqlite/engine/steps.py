"""One step on its way: recorded before and after each attempt, and tried again."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from durable_workflow_sqlite.engine.actions import (
    call_function,
    failure_of,
    is_async,
    late_outcome,
    reference,
)
from durable_workflow_sqlite.engine.given import may_be_given
from durable_workflow_sqlite.engine.history import has_timed_out
from durable_workflow_sqlite.engine.operations import StepCall
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.settling import is_doubtful, settle, settles
from durable_workflow_sqlite.engine.step_info import AT_WORK, leave
from durable_workflow_sqlite.engine.step_marks import IDEMPOTENT, marked
from durable_workflow_sqlite.engine.step_notifications import (
    tell_complete,
    tell_in_doubt,
    tell_late,
    tell_retry,
)
from durable_workflow_sqlite.engine.step_outcomes import (
    CutOff,
    failed_attempt,
    record_cut_off,
    record_failure,
)
from durable_workflow_sqlite.engine.step_waits import (
    begin_in_turn,
    give_up,
    given_value,
    goes_on,
    pause,
    take_given,
    thread_of,
    until_its_turn,
    wait,
    without_question,
)
from durable_workflow_sqlite.errors import SerializationError, StepTimeoutError
from durable_workflow_sqlite.records import StepCheckpoint, StepStatus

if TYPE_CHECKING:
    from contextvars import Token
    from datetime import datetime

    from durable_workflow_sqlite.engine.run import Run
    from durable_workflow_sqlite.engine.threads import Thread

T = TypeVar("T")

_log = logging.getLogger("durable_workflow_sqlite.engine")

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_INTENT: Final = StepStatus.INTENT
_enter: Final = AT_WORK.set
_reset: Final = AT_WORK.reset


async def perform_step(run: Run, call: StepCall) -> None:
    """Bring a step to its outcome, in the current task, and record that.

    Raises CutOff if nobody waits for it: it was given up, which is recorded; or it waited when the
    execution was to stop, and waits again in the next run.
    """
    environment = run.environment
    attempt = 1
    first_started_at: datetime | None = None
    is_in_doubt = call.has_begun = False
    is_on_the_loop = is_async(call.action)
    late = None
    if (last := call.last) is not None:
        assert call.history is not None
        if call.is_given_up:
            await give_up(run, call, last)
            raise CutOff
        attempt = last.attempt + 1
        first_started_at = None if call.history.first is None else call.history.first.started_at
        is_in_doubt = call.history.is_in_doubt and not call.is_idempotent
        if is_in_doubt and settles(call):
            last = await settle(run, call, last, first_started_at)
            if last is None:
                return
            is_in_doubt, attempt = False, last.attempt + 1
        elif last.status is _INTENT:
            may_have_value = may_be_given(last)
            last = await without_question(run, last)
            if may_have_value and await take_given(run, call, last):
                return
        if call.late:  # it is run again, to be undone
            grace = environment.cancel_grace
            late = await wait(run, call, last, partial(late_outcome, call, grace))
        if late is not None:
            pass
        elif last.due_at is not None:
            await pause(run, call, last)
        elif is_in_doubt:
            tell_in_doubt(run, last)
    elif run.stops_after_steps is not None:
        raise CutOff  # it begins in the next run, if that asks for it, too
    while True:
        turn = thread = known = None
        if not is_on_the_loop and late is None and last is not None and may_be_given(last):
            known = await given_value(run, call)
        if late is None and known is None:
            # Before it is recorded that it begins: what waits for these has not begun.
            if call.limit is not None:
                turn = environment.step_limits.turn(call.limit, call.limit_key)
                if not turn.begins_at_once:
                    await until_its_turn(run, call, last, turn)
            if not is_on_the_loop:
                thread = await thread_of(run, call, last, turn)
        intent = _intent(run, call, attempt)
        first_started_at = first_started_at or intent.started_at
        try:
            if turn is not None:
                intent = await begin_in_turn(run, call, last, intent, turn)
            elif not call.is_idempotent:
                await run.begin_step(intent, *run.running())
            elif along := run.running():
                await run.save(*along)
            # From now on, nobody can give a value any more.
            if (
                last is not None
                and may_be_given(last)
                and await take_given(run, call, intent, known)
            ):
                if thread is not None:
                    thread.leave()
                return
            if call.is_given_up or run.trouble is not None:
                # What an attempt of an earlier run may have done, it may have done still.
                await record_cut_off(run, call, intent, has_begun=is_in_doubt)
        except BaseException:
            if thread is not None:
                thread.leave()
            raise
        if environment.is_observed:
            environment.observers.tell("on_step_start", intent, replayed=False)
        retried_in: timedelta | None = None
        in_doubt: StepCheckpoint | None = None
        try:
            if late is not None:
                result = late.result()
            elif call.timeout is None and thread is None:
                call.interruptible = call.has_begun = True
                token: Token[tuple[Run, StepCheckpoint]] = _enter((run, intent))
                try:
                    result = await call.action(*call.args)
                except BaseException:
                    leave(token)
                    raise
                finally:
                    call.interruptible = False
                _reset(token)
            else:
                result = await _act(run, call, intent, thread)
        except BaseException as error:  # noqa: BLE001 - whatever it raises
            if environment.streams.of_runs:
                environment.streams.leave(run, call.place)
            if isinstance(error, asyncio.CancelledError) and call.is_given_up:
                has_begun = is_in_doubt or call.has_begun
                await record_cut_off(run, call, intent, has_begun=has_begun, error=error)
            failure = failure_of(run, error, call)
            if call.is_idempotent and isinstance(failure, StepTimeoutError):
                mark = marked(intent.input_data, IDEMPOTENT, True)
                intent = msgspec.structs.replace(intent, input_data=mark)
            if call.is_idempotent and last is not None and await take_given(run, call, intent):
                return  # as below
            if environment.streams.of_runs:
                await environment.streams.flush(run)
            is_over = late is not None or not goes_on(run, call)
            if is_over:
                pass
            elif call.doubt is not None and is_doubtful(call, failure):
                in_doubt = failed_attempt(run, intent, failure, None)
            elif call.retry.allows_another(attempt, failure):
                retried_in = call.retry.delay_after(attempt)
        else:
            # Its beginning is not recorded, so somebody may have given a value meanwhile.
            if call.is_idempotent and last is not None and await take_given(run, call, intent):
                return
            try:
                if environment.streams.of_runs:
                    await environment.streams.end(run, call.place)
                output, call.value = call.encode(result)
                if len(output) * 4 > environment.max_payload_bytes:
                    check_size(output, environment.max_payload_bytes, call)
                completed = intent.completed(output, run.completion_time(), run.numbers.take(call))
                completed = await run.finish_step(
                    call,
                    completed,
                    *run.running(progressed=True),
                    has_begun=not call.is_idempotent,
                )
            except SerializationError as error:
                # The side effect has happened: never again, and undone with what is at hand.
                failure = _with_ids(error, run, call)
                call.unstorable = (result,)
            else:
                if environment.is_observed:
                    tell_complete(run, completed, first_started_at, replayed=False)
                return
        if in_doubt is not None:
            last = await settle(run, call, in_doubt, first_started_at)
            if last is None:
                return
            is_in_doubt, attempt = False, last.attempt + 1
            continue
        if retried_in is None:
            await record_failure(run, call, intent, failure, first_started_at)
            return
        last = failed_attempt(run, intent, failure, retried_in)
        call.has_begun = False
        await run.save(last)
        tell_retry(run, last, failure, retried_in)
        await pause(run, call, last)
        attempt += 1
        is_in_doubt = has_timed_out(last)


def _intent(run: Run, call: StepCall, attempt: int) -> StepCheckpoint:
    return StepCheckpoint(
        workflow_execution_id=run.id,
        branch=call.place[0],
        step_index=call.place[1],
        attempt=attempt,
        step_name=call.name,
        status=_INTENT,
        input_data=call.fingerprint,
        idempotency_key=call.idempotency_key,
        compensate_ref=None if call.compensate is None else reference(call.compensate),
        started_at=run.environment.clock.now(),
    )


async def _act(run: Run, call: StepCall, intent: StepCheckpoint, thread: Thread | None) -> Any:
    """One attempt: the action's result, within the timeout."""
    at_work = (run, intent)
    if call.timeout is None:
        return await call_function(call.action, call.args, call, thread, at_work)
    timeout = asyncio.timeout(call.timeout.total_seconds())
    try:
        async with timeout:
            return await call_function(call.action, call.args, call, thread, at_work)
    except TimeoutError as error:
        if not timeout.expired():
            raise
        if thread is not None and (running := thread.running) is not None:
            call.late += (running,)
            running.add_done_callback(partial(tell_late, run.environment, intent))
        raise StepTimeoutError(
            f"{call.describe()} of execution {run.id!r} took longer than {call.timeout}",
            workflow_execution_id=run.id,
            step_name=call.name,
            step_index=call.place[1],
            branch=call.place[0],
        ) from error


def _with_ids(error: SerializationError, run: Run, call: StepCall) -> SerializationError:
    error.workflow_execution_id = run.id
    error.step_name = call.name
    error.branch, error.step_index = call.place
    return error
