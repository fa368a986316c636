"""What a step waits for before an attempt: a time, a thread, its turn; and what ends that early.

The wait ends early if the step is given up, or if somebody says what the step returned.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from durable_workflow_sqlite.engine.actions import thread_for
from durable_workflow_sqlite.engine.given import Given, given
from durable_workflow_sqlite.engine.history import has_timed_out, never_began
from durable_workflow_sqlite.engine.operations import StepCall
from durable_workflow_sqlite.engine.step_marks import unmarked
from durable_workflow_sqlite.engine.step_notifications import tell_complete
from durable_workflow_sqlite.engine.step_outcomes import CutOff
from durable_workflow_sqlite.engine.step_records import (
    cut_off,
    no_next_attempt,
    read_value,
    warn_of_cut_off,
)
from durable_workflow_sqlite.errors import LimitFullError
from durable_workflow_sqlite.records import (
    RESOLVED_SIGNAL,
    Record,
    StepCheckpoint,
    StepSlot,
    StepStatus,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from durable_workflow_sqlite.engine.run import Run
    from durable_workflow_sqlite.engine.step_limits import Turn
    from durable_workflow_sqlite.engine.threads import Thread

T = TypeVar("T")

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_INTENT: Final = StepStatus.INTENT


async def given_value(run: Run, call: StepCall) -> Given | None:
    """The value that a person has given as the result of the step."""
    return (await given(run.environment.store, run.id)).get(call.place)


async def given_to_any(run: Run) -> frozenset[int]:
    """The ids of the signals that give a value to some step, or are to, and were not taken yet."""
    pending = await run.environment.store.load_pending_signals(run.id, RESOLVED_SIGNAL)
    return frozenset(one.workflow_signal_id or 0 for one in pending)


async def take_given(
    run: Run, call: StepCall, attempt: StepCheckpoint, known: Given | None = None
) -> bool:
    """Go on as if an attempt had returned the value that somebody gave; False if nobody did.

    attempt: as it is recorded already, so that nobody can give another value.
    Raises SerializationError for a value that does not fit, once it is recorded.
    """
    found = await given_value(run, call) or known
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
    completed = intent.completed(found.value, now, run.numbers.take(call))
    along: list[Record] = [*found.signals, *run.running(progressed=True)]
    completed = await run.finish_step(call, completed, *along)
    if not call.is_given_up:
        read_value(run.id, call, completed)
    first = call.history.first if call.history is not None else None
    tell_complete(run, completed, (first or intent).started_at, replayed=False)
    return True


async def without_question(run: Run, last: StepCheckpoint) -> StepCheckpoint:
    """The attempt, as it is recorded from now on: nobody is asked what became of it."""
    if last.status is not _INTENT or last.error_type is None:
        return last
    bare = msgspec.structs.replace(
        last,
        error_type=None,
        error_message=None,
        input_data=unmarked(last.input_data),
        completed_at=None,
        due_at=None,
    )
    await run.save(bare, *run.running())
    return bare


def goes_on(run: Run, call: StepCall) -> bool:
    """Whether there may be another attempt after this one."""
    return not (call.is_given_up or run.is_finishing)


def may_begin(run: Run, call: StepCall) -> bool:
    """Whether the next attempt may begin in this run."""
    is_stopping = run.trouble is not None or run.stops_after_steps is not None
    return goes_on(run, call) and not is_stopping


async def give_up(run: Run, call: StepCall, last: StepCheckpoint) -> None:
    """Record that there is no other attempt.

    last: what was recorded last of it, maybe in an earlier run. A value that somebody has
        given instead of the next attempt is its outcome nevertheless.
    """
    attempt = last
    if last.status is StepStatus.FAILED and last.due_at is not None:
        attempt = no_next_attempt(last, run.completion_time())
        await run.save(attempt)
    if await take_given(run, call, attempt):
        return
    if last.status is _INTENT:
        await run.save(cut_off(last, run.completion_time(), has_begun=True))
    call.was_cut_off = not call.is_idempotent and (last.status is _INTENT or has_timed_out(last))
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


async def pause(run: Run, call: StepCall, failed: StepCheckpoint) -> None:
    """Wait for the time of the next attempt."""

    async def until_due() -> None:
        await run.pauses.after(failed, run.environment.scheduler)
        if not await run.take_queue_slot():
            raise asyncio.CancelledError(f"execution {run.id!r} is being stopped")

    await wait(run, call, failed, until_due, until=failed.due_at)


async def thread_of(
    run: Run, call: StepCall, last: StepCheckpoint | None, turn: Turn | None
) -> Thread:
    thread = run.turns.take(run.id, call)
    if thread is None:
        try:
            thread = await wait(run, call, last, partial(thread_for, run, call), for_thread=True)
        except BaseException:
            if turn is not None:
                turn.leave()
            raise
    return thread


async def until_its_turn(run: Run, call: StepCall, last: StepCheckpoint | None, turn: Turn) -> None:
    """Wait until it may begin under its limit."""
    try:
        await wait(run, call, last, turn.comes)
    except BaseException:
        turn.leave()
        raise


async def begin_in_turn(
    run: Run, call: StepCall, last: StepCheckpoint | None, intent: StepCheckpoint, turn: Turn
) -> StepCheckpoint:
    """Record its INTENT together with a slot, as soon as one is free; return that INTENT."""
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
                await run.begin_step(None if call.is_idempotent else intent, *along, slot)
            except LimitFullError:
                if along:
                    await run.save(*along)  # it is RUNNING, whatever begins next
                await wait(run, call, last, turn.comes)
                now = run.environment.clock.now()
                intent = msgspec.structs.replace(intent, started_at=now)
            else:
                run.step_slots.takes(slot)
                return intent
    finally:
        turn.leave()


async def wait(
    run: Run,
    call: StepCall,
    last: StepCheckpoint | None,
    comes: Callable[[], Awaitable[T]],
    *,
    until: datetime | None = None,
    for_thread: bool = False,
) -> T:
    """Wait for what the next attempt needs; if there is to be none, record that, and raise.

    last: what was recorded last of the step. until: how long it is to wait, if that is known.
    """
    if may_begin(run, call):
        run.begins_to_wait(call, until=until, for_thread=for_thread)
        try:
            return await comes()
        except asyncio.CancelledError:
            if run.trouble is not None or may_begin(run, call):
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        finally:
            run.waits_no_more(call)
    if run.trouble is not None:
        raise asyncio.CancelledError(f"execution {run.id!r} is being stopped")
    if goes_on(run, call):
        raise CutOff  # until the next run
    if last is not None:
        await give_up(run, call, last)
    raise CutOff
