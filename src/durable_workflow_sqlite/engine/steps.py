"""One step: answered from its checkpoint, or run, recorded before and after, and tried again."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from durable_workflow_sqlite.engine import failures, serialization
from durable_workflow_sqlite.engine.history import Place, StepHistory, place_in_words
from durable_workflow_sqlite.engine.observer import log_attributes
from durable_workflow_sqlite.engine.retry import RetryPolicy
from durable_workflow_sqlite.errors import (
    EngineStoppedError,
    SerializationError,
    StepFailedError,
    StepTimeoutError,
    StoreError,
)
from durable_workflow_sqlite.records import StepCheckpoint, StepStatus

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.execution import Execution


_log = logging.getLogger("durable_workflow_sqlite.engine")


class StepCall(msgspec.Struct, frozen=True):
    """What `ctx.step` was called with, and what is recorded there."""

    place: Place
    name: str
    history: StepHistory | None
    action: Callable[..., Any]
    args: tuple[Any, ...]
    result_type: Any
    compensate: Callable[[Any], object] | None
    retry: RetryPolicy
    timeout: timedelta | None
    serialize: Callable[[Any], Any] | None
    deserialize: Callable[[Any], Any] | None
    compensate_retry: RetryPolicy
    idempotency_key: str | None

    def describe(self) -> str:
        return f"step {self.name!r} ({place_in_words(self.place)})"

    def __str__(self) -> str:
        return f"the result of {self.describe()}"

    def encode(self, result: object) -> tuple[str, Any]:
        """A result as it is stored, and as it will be on a replay."""
        if self.serialize is not None:
            try:
                result = self.serialize(result)
            except Exception as error:
                raise SerializationError(f"{self}: its serialize failed: {error!r}") from error
        output = serialization.to_json(result, self)
        if self.deserialize is None and serialization.is_itself(result, self.result_type):
            return output, result
        return output, self.decode(output)

    def decode(self, output: str | None) -> Any:
        result = serialization.from_json(output, self.result_type, self)
        if self.deserialize is None:
            return result
        try:
            return self.deserialize(result)
        except Exception as error:
            raise SerializationError(f"{self}: its deserialize failed: {error!r}") from error


async def run_step(execution: Execution, call: StepCall) -> Any:
    """The result of a step, from its checkpoint if it has one."""
    execution.check_open()
    attempt, first_started_at = 1, None
    if call.history is not None and (attempts := call.history.attempts):
        last = attempts[-1]
        if last.status is StepStatus.COMPLETED:
            return _replay_result(execution, call, attempts)
        if last.status is StepStatus.FAILED and last.due_at is None:
            await _replay_error(execution, call, attempts)
        attempt, first_started_at = last.attempt + 1, attempts[0].started_at
    else:
        last = None
    if execution.begins_nothing_new:
        await execution.park()
    environment = execution.environment
    task = execution.activity.begin_busy()
    try:
        if last is not None:
            if last.status is StepStatus.INTENT:
                _tell_in_doubt(execution, last)
            elif last.due_at is not None:
                await environment.scheduler.at(last.due_at)
        while True:
            intent = StepCheckpoint(
                workflow_execution_id=execution.id,
                branch=call.place[0],
                step_index=call.place[1],
                attempt=attempt,
                step_name=call.name,
                status=StepStatus.INTENT,
                idempotency_key=call.idempotency_key,
                compensate_ref=None if call.compensate is None else reference(call.compensate),
                started_at=environment.clock.now(),
            )
            first_started_at = first_started_at or intent.started_at
            await execution.save(intent, *execution.running())
            if environment.is_observed:
                environment.observers.tell("on_step_start", intent, replayed=False)
            retried_in: timedelta | None = None
            try:
                if call.timeout is None and _is_async(call.action):
                    result = await call.action(*call.args)
                else:
                    result = await _act(execution, call)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it raises
                failure = not_from_outside(execution, error, call.describe())
                if call.retry.allows_another(attempt, failure):
                    retried_in = call.retry.delay_after(attempt)
            else:
                value = result
                try:
                    output, value = call.encode(result)
                    completed = msgspec.structs.replace(
                        intent,
                        status=StepStatus.COMPLETED,
                        output_data=output,
                        completed_at=execution.completion_time(),
                    )
                    if call.compensate is not None:
                        execution.register_compensation(call, value, completed)
                    await execution.save(completed, *execution.running(progressed=True))
                except SerializationError as error:
                    # The side effect has happened: never again, and undone with what is at hand.
                    failure = _with_ids(error, execution, call)
                    execution.register_compensation(call, value, intent)
                except StoreError as error:
                    execution.stop(error)
                    raise
                else:
                    if environment.is_observed:
                        _tell_complete(execution, completed, first_started_at, replayed=False)
                    if execution.is_ending:
                        raise asyncio.CancelledError  # which a thread of ours kept waiting
                    return value
            await _after_failure(execution, call, intent, failure, retried_in, first_started_at)
            attempt += 1
    finally:
        execution.activity.end_busy(task)


async def _after_failure(
    execution: Execution,
    call: StepCall,
    intent: StepCheckpoint,
    failure: Exception,
    retried_in: timedelta | None,
    first_started_at: datetime | None,
) -> None:
    """Record a failed attempt, and wait until it is time for the next; raise if there is none."""
    environment = execution.environment
    now = execution.completion_time()
    failed = msgspec.structs.replace(
        intent,
        status=StepStatus.FAILED,
        error_type=failures.error_type(failure),
        error_message=environment.format_error(failure),
        output_data=failures.parts(failure)
        if retried_in is None and environment.keeps_errors_whole
        else None,
        completed_at=now,
        due_at=None if retried_in is None else later(now, retried_in),
    )
    if failed.due_at is None or retried_in is None:
        await execution.save(failed, *execution.running(progressed=True))
        _tell_complete(execution, failed, first_started_at, replayed=False)
        _tell_failure(execution, failed, failure)
        if failed.output_data is not None:
            raise failure
        # The body must not see more of it now than it will on a replay.
        raise _error_of(execution, call, failed) from failure
    await execution.save(failed)
    _tell_retry(execution, failed, failure, retried_in)
    if execution.is_ending:
        raise asyncio.CancelledError  # which a thread of ours, or the store, kept waiting
    await environment.scheduler.at(failed.due_at)


def not_from_outside(execution: Execution, error: BaseException, what: str) -> Exception:
    """The error of a function of the user; a cancellation from outside is raised again.

    So is, as one, what a function met that asked an engine that is going: it did nothing wrong.
    """
    if isinstance(error, EngineStoppedError) and execution.is_ending:
        raise asyncio.CancelledError from error
    if isinstance(error, Exception):
        return error
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    return RuntimeError(f"the function of {what} was cancelled from within")


async def call_function(
    execution: Execution, function: Callable[..., Any], args: tuple[Any, ...]
) -> Any:
    """Call a function of the user: on the loop if it is async, else in a thread.

    A thread cannot be interrupted: when this is cancelled, it waits for the thread, so that what
    the function did is known, and goes on as if it had not been cancelled.
    """
    if _is_async(function):
        return await function(*args)
    loop = asyncio.get_running_loop()
    run = functools.partial(contextvars.copy_context().run, _call, function, *args)
    try:
        running = loop.run_in_executor(execution.environment.executor, run)
    except RuntimeError as error:
        # The interpreter is ending, and executors take no more work: the function did not fail.
        stopped = EngineStoppedError(
            f"the interpreter is ending; execution {execution.id!r} is left to be resumed",
            workflow_execution_id=execution.id,
        )
        execution.stop(stopped)
        raise stopped from error
    try:
        result = await asyncio.shield(running)
    except asyncio.CancelledError:
        if not execution.is_ending:
            running.add_done_callback(_heed_not)
            raise
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        result = running.result()
    return await result if inspect.isawaitable(result) else result


def _call(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except StopIteration as error:  # which no future can hold
        raise RuntimeError(f"{function!r} raised StopIteration") from error


async def _act(execution: Execution, call: StepCall) -> Any:
    """One attempt: the action's result, within the timeout."""
    if call.timeout is None:
        return await call_function(execution, call.action, call.args)
    timeout = asyncio.timeout(call.timeout.total_seconds())
    try:
        async with timeout:
            return await call_function(execution, call.action, call.args)
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise StepTimeoutError(
            f"{call.describe()} of execution {execution.id!r} took longer than {call.timeout}",
            workflow_execution_id=execution.id,
            step_name=call.name,
            step_index=call.place[1],
            branch=call.place[0],
        ) from error


def _replay_result(execution: Execution, call: StepCall, attempts: list[StepCheckpoint]) -> Any:
    completed = attempts[-1]
    try:
        value = call.decode(completed.output_data)
    except SerializationError as error:
        # The record is right and the code has changed: nothing of it is the workflow's fault.
        execution.stop(_with_ids(error, execution, call))
        raise
    except StoreError as error:
        execution.stop(error)
        raise
    execution.register_compensation(call, value, completed)
    if execution.environment.is_observed:
        execution.environment.observers.tell("on_step_start", completed, replayed=True)
        _tell_complete(execution, completed, attempts[0].started_at, replayed=True)
    return value


async def _replay_error(
    execution: Execution, call: StepCall, attempts: list[StepCheckpoint]
) -> None:
    failed = attempts[-1]
    await execution.turn_to_fail(failed)
    if execution.environment.is_observed:
        execution.environment.observers.tell("on_step_start", failed, replayed=True)
        _tell_complete(execution, failed, attempts[0].started_at, replayed=True)
    raise _error_of(execution, call, failed)


def _error_of(execution: Execution, call: StepCall, failed: StepCheckpoint) -> Exception:
    """The error that a step failed with for good, as its record tells it."""
    error = failures.rebuild(failed.error_type, failed.error_message, failed.output_data)
    return error or StepFailedError(
        f"{call.describe()} of execution {execution.id!r} failed at attempt {failed.attempt}:"
        f" {failed.error_type}: {failed.error_message}",
        workflow_execution_id=execution.id,
        step_name=call.name,
        step_index=call.place[1],
        branch=call.place[0],
        attempt=failed.attempt,
        error_type=failed.error_type,
        error_message=failed.error_message,
    )


def _tell_complete(
    execution: Execution,
    checkpoint: StepCheckpoint,
    first_started_at: datetime | None,
    *,
    replayed: bool,
) -> None:
    elapsed = timedelta(0)
    if first_started_at is not None and checkpoint.completed_at is not None:
        elapsed = checkpoint.completed_at - first_started_at
    execution.environment.observers.tell("on_step_complete", checkpoint, elapsed, replayed=replayed)


def _tell_in_doubt(execution: Execution, checkpoint: StepCheckpoint) -> None:
    _log.warning(
        "step %r of execution %r was interrupted at attempt %d and may have taken effect;"
        " it runs again",
        checkpoint.step_name,
        execution.id,
        checkpoint.attempt,
        extra=log_attributes(checkpoint),
    )
    execution.environment.observers.tell("on_step_in_doubt", checkpoint)


def _tell_retry(
    execution: Execution, failed: StepCheckpoint, error: BaseException, delay: timedelta
) -> None:
    _log.info(
        "step %r of execution %r failed at attempt %d, trying again in %s: %s",
        failed.step_name,
        execution.id,
        failed.attempt,
        delay,
        failed.error_message,
        extra=log_attributes(failed),
    )
    execution.environment.observers.tell("on_step_retry", failed, error, delay)


def _tell_failure(execution: Execution, failed: StepCheckpoint, error: BaseException) -> None:
    _log.info(
        "step %r of execution %r failed for good at attempt %d: %s",
        failed.step_name,
        execution.id,
        failed.attempt,
        failed.error_message,
        extra=log_attributes(failed),
    )
    execution.environment.observers.tell("on_error", error, execution.id)


def _with_ids(
    error: SerializationError, execution: Execution, call: StepCall
) -> SerializationError:
    error.workflow_execution_id = execution.id
    error.step_name = call.name
    error.branch, error.step_index = call.place
    return error


def later(time: datetime, delay: timedelta) -> datetime:
    try:
        return time + delay
    except OverflowError:
        return datetime.max.replace(tzinfo=time.tzinfo)


def _heed_not(running: asyncio.Future[Any]) -> None:
    if not running.cancelled():
        running.exception()


def reference(function: Callable[..., Any]) -> str:
    try:
        return _reference(function)
    except TypeError:  # it cannot be hashed
        return _reference.__wrapped__(function)


@functools.lru_cache(maxsize=4096)
def _reference(function: Callable[..., Any]) -> str:
    """`module:name` of a function, for people who read the row."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or type(function).__module__}:{name}"


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return _is_coroutine_function(function)
    except TypeError:  # it cannot be hashed
        return _is_coroutine_function.__wrapped__(function)


@functools.lru_cache(maxsize=4096)
def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - its kind, not whether
    )
