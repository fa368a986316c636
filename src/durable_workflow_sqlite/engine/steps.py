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
    thread_for,
)
from durable_workflow_sqlite.engine.given import Given, given, may_be_given
from durable_workflow_sqlite.engine.history import has_timed_out, never_began
from durable_workflow_sqlite.engine.operations import StepCall
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
from durable_workflow_sqlite.engine.step_records import (
    cut_off,
    no_next_attempt,
    read_value,
    warn_of_cut_off,
)
from durable_workflow_sqlite.errors import LimitFullError, SerializationError, StepTimeoutError
from durable_workflow_sqlite.records import Record, StepCheckpoint, StepSlot, StepStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from durable_workflow_sqlite.engine.run import Run
    from durable_workflow_sqlite.engine.step_limits import Turn
    from durable_workflow_sqlite.engine.threads import Thread

T = TypeVar("T")

_log = logging.getLogger("durable_workflow_sqlite.engine")

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_INTENT: Final = StepStatus.INTENT


async def perform_step(run: Run, call: StepCall) -> None:
    """Bring a step to its outcome, in the current task, and record that.

    Raises CutOff if nobody waits for it: it was given up, which is recorded; or it waited when the
    execution was to stop, and waits again in the next run.
    """
    environment = run.environment
    attempt, first_started_at = 1, None
    is_in_doubt = call.has_begun = False
    is_on_the_loop = is_async(call.action)
    late = None
    if (last := call.last) is not None:
        assert call.history is not None
        if call.is_given_up:
            await _give_up(run, call, last)
            raise CutOff
        attempt = last.attempt + 1
        first_started_at = None if call.history.first is None else call.history.first.started_at
        is_in_doubt = call.history.is_in_doubt
        if last.status is _INTENT and may_be_given(last) and await _take_given(run, call, last):
            return
        if call.late:  # it is run again, to be undone
            grace = environment.cancel_grace
            late = await _wait(run, call, last, partial(late_outcome, call, grace))
        if late is not None:
            pass
        elif last.due_at is not None:
            await _pause(run, call, last)
        elif is_in_doubt:
            tell_in_doubt(run, last)
    elif run.stops_after_steps is not None:
        raise CutOff  # it begins in the next run, if code that is corrected asks for it again
    while True:
        turn = thread = known = None
        if not is_on_the_loop and late is None and last is not None and may_be_given(last):
            known = await _given(run, call)
        if late is None and known is None:
            # Before it is recorded that it begins: what waits for these has not begun.
            if call.limit is not None:
                turn = environment.step_limits.turn(call.limit, call.limit_key)
                if not turn.begins_at_once:
                    await _until_its_turn(run, call, last, turn)
            if not is_on_the_loop:
                thread = await _thread_for(run, call, last, turn)
        intent = _intent(run, call, attempt)
        first_started_at = first_started_at or intent.started_at
        try:
            if turn is None:
                await run.begin_step(intent, *run.running())
            else:
                intent = await _begin_in_turn(run, call, last, intent, turn)
            # From now on, nobody can give a value any more.
            if (
                last is not None
                and may_be_given(last)
                and await _take_given(run, call, intent, known)
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
        try:
            if late is not None:
                result = late.result()
            elif call.timeout is None and thread is None:
                call.interruptible = call.has_begun = True
                try:
                    result = await call.action(*call.args)
                finally:
                    call.interruptible = False
            else:
                result = await _act(run, call, intent, thread)
        except BaseException as error:  # noqa: BLE001 - whatever it raises
            if isinstance(error, asyncio.CancelledError) and call.is_given_up:
                has_begun = is_in_doubt or call.has_begun
                await record_cut_off(run, call, intent, has_begun=has_begun, error=error)
            failure = failure_of(run, error, call)
            is_over = late is not None or not _goes_on(run, call)
            if not is_over and call.retry.allows_another(attempt, failure):
                retried_in = call.retry.delay_after(attempt)
        else:
            try:
                output, call.value = call.encode(result)
                completed = intent.completed(output, run.completion_time(), run.next_event(call))
                completed = await run.finish_step(call, completed, *run.running(progressed=True))
            except SerializationError as error:
                # The side effect has happened: never again, and undone with what is at hand.
                failure = _with_ids(error, run, call)
                call.unstorable = (result,)
            else:
                if environment.is_observed:
                    tell_complete(run, completed, first_started_at, replayed=False)
                return
        if retried_in is None:
            await record_failure(run, call, intent, failure, first_started_at)
            return
        last = failed_attempt(run, intent, failure, retried_in)
        call.has_begun = False
        await run.save(last)
        tell_retry(run, last, failure, retried_in)
        await _pause(run, call, last)
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
        idempotency_key=call.idempotency_key,
        compensate_ref=None if call.compensate is None else reference(call.compensate),
        started_at=run.environment.clock.now(),
    )


async def _given(run: Run, call: StepCall) -> Given | None:
    """What somebody has said that it returned."""
    return (await given(run.environment.store, run.id)).get(call.place)


async def _take_given(
    run: Run, call: StepCall, attempt: StepCheckpoint, known: Given | None = None
) -> bool:
    """Go on as if an attempt had returned what somebody has said; False if nobody has.

    attempt: as it is recorded already, so that nobody can give another value.
    Raises SerializationError for a value that does not fit, once it is recorded.
    """
    found = await _given(run, call) or known
    if found is None:
        return False
    now = run.completion_time()
    intent = msgspec.structs.replace(
        attempt,
        status=_INTENT,
        error_type=None,
        error_message=None,
        started_at=attempt.started_at or now,
    )
    run.environment.observers.tell("on_step_start", intent, replayed=False)
    completed = intent.completed(found.value, now, run.next_event(call))
    along: list[Record] = [*found.signals, *run.running(progressed=True)]
    completed = await run.finish_step(call, completed, *along)
    if not call.is_given_up:
        read_value(run.id, call, completed)
    first = call.history.first if call.history is not None else None
    tell_complete(run, completed, (first or intent).started_at, replayed=False)
    return True


def _goes_on(run: Run, call: StepCall) -> bool:
    """Whether there may be another attempt after this one."""
    return not (call.is_given_up or run.is_finishing)


def _may_begin(run: Run, call: StepCall) -> bool:
    """Whether that may be in this run."""
    is_stopping = run.trouble is not None or run.stops_after_steps is not None
    return _goes_on(run, call) and not is_stopping


async def _give_up(run: Run, call: StepCall, last: StepCheckpoint) -> None:
    """Record that there is no other attempt.

    last: what was recorded last of it, maybe in an earlier run. A value that somebody has
        given instead of the next attempt is its outcome nevertheless.
    """
    attempt = last
    if last.status is StepStatus.FAILED and last.due_at is not None:
        attempt = no_next_attempt(last, run.completion_time())
        await run.save(attempt)
    if await _take_given(run, call, attempt):
        return
    if last.status is _INTENT:
        await run.save(cut_off(last, run.completion_time(), has_begun=True))
    call.was_cut_off = last.status is _INTENT or has_timed_out(last)
    if call.was_cut_off:
        warn_of_cut_off(run, attempt)


def is_open(run: Run, call: StepCall) -> bool:
    """Whether something is to be recorded of a step that is given up before it goes on."""
    last = call.last
    if last is None or call.is_recorded:
        return False
    if never_began(last):
        return call.place in run.given
    return last.status is _INTENT or (last.status is StepStatus.FAILED and last.due_at is not None)


async def _pause(run: Run, call: StepCall, failed: StepCheckpoint) -> None:
    """Wait for the time of the next attempt."""

    async def until_due() -> None:
        await run.pauses.after(failed, run.environment.scheduler)
        if not await run.take_queue_slot():
            raise asyncio.CancelledError(f"execution {run.id!r} is being stopped")

    await _wait(run, call, failed, until_due, until=failed.due_at)


async def _thread_for(
    run: Run, call: StepCall, last: StepCheckpoint | None, turn: Turn | None
) -> Thread:
    thread = run.turns.take(run.id, call)
    if thread is None:
        try:
            thread = await _wait(run, call, last, partial(thread_for, run, call), for_thread=True)
        except BaseException:
            if turn is not None:
                turn.leave()
            raise
    return thread


async def _until_its_turn(
    run: Run, call: StepCall, last: StepCheckpoint | None, turn: Turn
) -> None:
    """Wait until it may begin under its limit."""
    try:
        await _wait(run, call, last, turn.comes)
    except BaseException:
        turn.leave()
        raise


async def _begin_in_turn(
    run: Run, call: StepCall, last: StepCheckpoint | None, intent: StepCheckpoint, turn: Turn
) -> StepCheckpoint:
    """Take a slot of its limit with its INTENT, as soon as one is free; the INTENT as it is."""
    try:
        while True:
            now = intent.started_at
            assert now is not None
            slot = StepSlot(
                workflow_execution_id=run.id,
                branch=intent.branch,
                step_index=intent.step_index,
                limit=turn.limit,
                key=turn.key,
                is_held=True,
                at=now,
            )
            along = run.running()
            try:
                await run.begin_step(intent, *along, slot)
            except LimitFullError:
                if along:
                    await run.save(*along)  # it is RUNNING, whatever begins next
                await _wait(run, call, last, turn.comes)
                now = run.environment.clock.now()
                intent = msgspec.structs.replace(intent, started_at=now)
            else:
                run.step_slots.takes(slot)
                return intent
    finally:
        turn.leave()


async def _wait(
    run: Run,
    call: StepCall,
    last: StepCheckpoint | None,
    wait: Callable[[], Awaitable[T]],
    *,
    until: datetime | None = None,
    for_thread: bool = False,
) -> T:
    """Wait for what the next attempt needs; if there is to be none, record that, and raise.

    last: what was recorded last of the step. until: how long it is to wait, if that is known.
    """
    if _may_begin(run, call):
        run.begins_to_wait(call, until=until, for_thread=for_thread)
        try:
            return await wait()
        except asyncio.CancelledError:
            if run.trouble is not None or _may_begin(run, call):
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        finally:
            run.waits_no_more(call)
    if run.trouble is not None:
        raise asyncio.CancelledError(f"execution {run.id!r} is being stopped")
    if _goes_on(run, call):
        raise CutOff  # until the next run
    if last is not None:
        await _give_up(run, call, last)
    raise CutOff


async def _act(run: Run, call: StepCall, intent: StepCheckpoint, thread: Thread | None) -> Any:
    """One attempt: the action's result, within the timeout."""
    if call.timeout is None:
        return await call_function(call.action, call.args, call, thread)
    timeout = asyncio.timeout(call.timeout.total_seconds())
    try:
        async with timeout:
            return await call_function(call.action, call.args, call, thread)
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
