"""Durable sleeps and waits for signals: steps whose outcome is a time, or a message."""

from __future__ import annotations

import asyncio
from datetime import MINYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.failures import error_type
from durable_workflow_sqlite.engine.history import Place, StepHistory, place_in_words
from durable_workflow_sqlite.errors import SerializationError, SignalTimeoutError, StoreError
from durable_workflow_sqlite.records import (
    Record,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TimerStatus,
    WorkflowSignal,
    WorkflowTimer,
)

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.execution import Execution


_UNREADABLE: Final = f"{SerializationError.__module__}:{SerializationError.__qualname__}"


class WaitCall(msgspec.Struct, frozen=True):
    """What `ctx.sleep` or `ctx.wait_signal` was called with, and what is recorded there."""

    place: Place
    name: str
    kind: StepKind
    history: StepHistory | None

    @property
    def last(self) -> StepCheckpoint | None:
        return None if self.history is None else self.history.last

    def describe(self) -> str:
        return f"{self.kind.lower()} {self.name!r} ({place_in_words(self.place)})"


class Inbox:
    """The signals of one execution that its waits have not taken yet."""

    __slots__ = ("_execution", "_listening", "_news", "_taken")

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._taken: dict[int, None] = {}
        self._news = 0
        self._listening: list[asyncio.Future[None]] = []

    def notify(self) -> None:
        """There may be a signal that was not there before."""
        self._news += 1
        listening, self._listening = self._listening, []
        for future in listening:
            if not future.done():
                future.set_result(None)

    async def take(self, name: str, deadline: datetime | None) -> WorkflowSignal | None:
        """The first signal of this name, if it came by the deadline; else None.

        By the clock of whoever sent it, unless it is there before the deadline. None is passed over
        for a later one, whatever the clocks say.
        """
        execution = self._execution
        try:
            pending = await execution.environment.store.load_pending_signals(execution.id, name)
        except Exception as error:
            execution.stop(error)
            raise
        for signal in pending:
            signal_id = signal.workflow_signal_id
            if signal_id is None or signal_id in self._taken:
                continue
            now = execution.environment.clock.now()
            if deadline is not None and min(signal.created_at, now) > deadline:
                return None
            self._taken[signal_id] = None
            return signal
        return None

    async def wait(self, name: str, deadline: datetime | None) -> WorkflowSignal | None:
        """As `take`, waiting for it until the deadline."""
        environment = self._execution.environment
        alarm = None if deadline is None else environment.scheduler.at(deadline)
        try:
            while True:
                news = self._news
                # The deadline first: a signal that came by then is still looked for.
                is_over = alarm is not None and alarm.done()
                signal = await self.take(name, deadline)
                if signal is not None or is_over:
                    return signal
                if news == self._news:
                    await self._listen(alarm)
        finally:
            if alarm is not None:
                alarm.cancel()

    async def _listen(self, alarm: asyncio.Future[None] | None) -> None:
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listening.append(heard)
        try:
            if alarm is None:
                await heard
            else:
                await asyncio.wait([heard, alarm], return_when=asyncio.FIRST_COMPLETED)
        finally:
            heard.cancel()
            if heard in self._listening:
                self._listening.remove(heard)


async def sleep_until(execution: Execution, call: WaitCall, end: datetime | timedelta) -> None:
    """Wait for a time, or for the time that was recorded when this was first reached."""
    execution.check_open()
    last = call.last
    if last is not None and last.status is StepStatus.COMPLETED:
        _tell_replayed(execution, last)
        return
    if execution.begins_nothing_new:
        await execution.park()
    intent = last
    task = execution.activity.begin_busy()
    try:
        if intent is None or intent.due_at is None:
            intent = _intent(execution, call, _deadline(execution, end))
            await _save_intent(execution, intent)
        _tell_start(execution, intent, replayed=intent is last)
        deadline = intent.due_at
        assert deadline is not None
        execution.activity.begin_wait()
        try:
            await execution.environment.scheduler.at(deadline)
        finally:
            execution.activity.end_wait()
        completed = msgspec.structs.replace(
            intent, status=StepStatus.COMPLETED, completed_at=execution.completion_time()
        )
        timer = timer_of(completed, TimerStatus.FIRED)
        await _save_outcome(execution, timer, completed)
    finally:
        execution.activity.end_busy(task)
    _tell_complete(execution, completed, replayed=False)


async def wait_for_signal(
    execution: Execution, call: WaitCall, timeout: timedelta | None, payload_type: Any
) -> Any:
    """The payload of the next signal, or of the one that was recorded."""
    execution.check_open()
    last = call.last
    if last is not None and last.status is StepStatus.COMPLETED:
        _tell_replayed(execution, last)
        try:
            return _payload(execution, last, payload_type)
        except (SerializationError, StoreError) as error:
            execution.stop(error)  # the record is right, and the code has changed
            raise
    if last is not None and last.status is StepStatus.FAILED:
        await execution.turn_to_fail(last)
        _tell_replayed(execution, last)
        raise _failure_of(execution, last)
    if execution.begins_nothing_new:
        await execution.park()
    task = execution.activity.begin_busy()
    payload: Any = None
    failure: Exception | None = None
    try:
        signal = None
        intent = last
        if intent is None:
            deadline = None if timeout is None else _deadline(execution, timeout)
            intent = _intent(execution, call, deadline)
            signal = await execution.inbox.take(call.name, deadline)
            if signal is None:
                await _save_intent(execution, intent)
        _tell_start(execution, intent, replayed=intent is last)
        if signal is None:
            execution.activity.begin_wait()
            try:
                signal = await execution.inbox.wait(call.name, intent.due_at)
            finally:
                execution.activity.end_wait()
        outcome = msgspec.structs.replace(
            intent,
            status=StepStatus.COMPLETED,
            output_data=None if signal is None else signal.payload,
            completed_at=execution.completion_time(),
        )
        if signal is None:
            failure = _timed_out(execution, intent)
            timer = [timer_of(outcome, TimerStatus.FIRED)]
            delivered = []
        else:
            try:
                payload = _payload(execution, outcome, payload_type)
            except SerializationError as error:
                failure = error  # recorded, so that a replay meets it, too
            except StoreError as error:
                execution.stop(error)
                raise
            timer = [timer_of(outcome, TimerStatus.CANCELLED)] if intent.due_at is not None else []
            delivered = [msgspec.structs.replace(signal, status=SignalStatus.DELIVERED)]
        if failure is not None:
            outcome = msgspec.structs.replace(
                outcome,
                status=StepStatus.FAILED,
                error_type=error_type(failure),
                error_message=execution.environment.format_error(failure),
            )
        await _save_outcome(execution, *delivered, *timer, outcome)
    finally:
        execution.activity.end_busy(task)
    _tell_complete(execution, outcome, replayed=False)
    if failure is not None:
        raise failure
    return payload


def _failure_of(execution: Execution, failed: StepCheckpoint) -> Exception:
    """What a wait raised when it failed: at its deadline, or for a payload of another type."""
    if failed.error_type != _UNREADABLE:
        return _timed_out(execution, failed)
    return SerializationError(
        failed.error_message or "the payload cannot be read",
        workflow_execution_id=execution.id,
        step_name=failed.step_name,
        step_index=failed.step_index,
        branch=failed.branch,
    )


def _intent(execution: Execution, call: WaitCall, deadline: datetime | None) -> StepCheckpoint:
    return StepCheckpoint(
        workflow_execution_id=execution.id,
        branch=call.place[0],
        step_index=call.place[1],
        step_name=call.name,
        kind=call.kind,
        status=StepStatus.INTENT,
        started_at=execution.environment.clock.now(),
        due_at=deadline,
    )


async def _save_intent(execution: Execution, intent: StepCheckpoint) -> None:
    timer = [] if intent.due_at is None else [timer_of(intent, TimerStatus.PENDING)]
    await execution.save(intent, *timer, *execution.running())


async def _save_outcome(execution: Execution, *records: Record) -> None:
    """The wait is over. While that is being written, the execution is not only waiting: it must
    not be called SUSPENDED, with no time left that it waits for."""
    task = execution.activity.begin_busy()
    try:
        await execution.save(*records, *execution.running(progressed=True))
    finally:
        execution.activity.end_busy(task)


def timer_of(checkpoint: StepCheckpoint, status: TimerStatus) -> WorkflowTimer:
    """The timer of a wait; made of its checkpoint, so that it is the same one each time."""
    assert checkpoint.due_at is not None
    identity = (checkpoint.workflow_execution_id, checkpoint.branch, checkpoint.step_index)
    return WorkflowTimer(
        workflow_timer_id=msgspec.json.encode(identity).decode(),
        workflow_execution_id=checkpoint.workflow_execution_id,
        step_name=checkpoint.step_name,
        fire_at=checkpoint.due_at,
        status=status,
        created_at=checkpoint.started_at or checkpoint.due_at,
    )


def _deadline(execution: Execution, end: datetime | timedelta) -> datetime:
    if isinstance(end, datetime):
        try:
            return end.astimezone(UTC)
        except OverflowError:  # of a zone west or east of it, at the end or beginning of time
            if end.year == MINYEAR:
                return datetime.min.replace(tzinfo=UTC)
            return datetime.max.replace(tzinfo=UTC)
    now = execution.environment.clock.now()
    try:
        return now + end
    except OverflowError:
        return datetime.max.replace(tzinfo=now.tzinfo)


def _payload(execution: Execution, completed: StepCheckpoint, payload_type: Any) -> Any:
    what = f"the payload of signal {completed.step_name!r} to execution {execution.id!r}"
    if payload_type is Any and not serialization.is_json(completed.output_data):
        return completed.output_data  # written by hand, or by a program that stores plain text
    return serialization.from_json(completed.output_data, payload_type, what)


def _timed_out(execution: Execution, checkpoint: StepCheckpoint) -> SignalTimeoutError:
    return SignalTimeoutError(
        f"no signal {checkpoint.step_name!r} came to execution {execution.id!r}"
        f" by {checkpoint.due_at}",
        workflow_execution_id=execution.id,
        step_name=checkpoint.step_name,
        step_index=checkpoint.step_index,
        branch=checkpoint.branch,
        signal_name=checkpoint.step_name,
        deadline=checkpoint.due_at,
    )


def _tell_start(execution: Execution, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
    execution.environment.observers.tell("on_step_start", checkpoint, replayed=replayed)


def _tell_complete(execution: Execution, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
    elapsed = timedelta(0)
    if checkpoint.started_at is not None and checkpoint.completed_at is not None:
        elapsed = checkpoint.completed_at - checkpoint.started_at
    execution.environment.observers.tell("on_step_complete", checkpoint, elapsed, replayed=replayed)


def _tell_replayed(execution: Execution, checkpoint: StepCheckpoint) -> None:
    _tell_start(execution, checkpoint, replayed=True)
    _tell_complete(execution, checkpoint, replayed=True)
