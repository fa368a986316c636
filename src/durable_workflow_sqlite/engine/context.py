"""`WorkflowContext`: what a workflow function is given, and all that it may await."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, Unpack, overload

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.history import Place, StepHistory, place_in_words
from durable_workflow_sqlite.engine.retry import RetryPolicy
from durable_workflow_sqlite.engine.steps import StepCall, run_step
from durable_workflow_sqlite.engine.waits import WaitCall, sleep_until, wait_for_signal
from durable_workflow_sqlite.errors import NonDeterminismError
from durable_workflow_sqlite.records import StepKind, check_identifier, check_time

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.execution import Execution

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
T = TypeVar("T")

COMPENSATION_RETRY: Final = RetryPolicy.exponential(
    max_attempts=5, initial_delay=timedelta(milliseconds=200), max_delay=timedelta(seconds=30)
)
_KEY_NAMESPACE: Final = uuid.UUID("b5b1a4a4-6f0e-4f7c-9a51-3f6a0d0c7a11")


class WorkflowContext:
    """The way of a workflow function to everything that must survive.

    Each `step`, `sleep` and `wait_signal` takes the next number of its context when it is
    *called*, so steps that are started together keep their identity on every replay. A context
    belongs to one task for ever: the first one to the workflow function's, a `branch` to the
    first task that uses it. Chains of steps that run side by side take a `branch` each.
    """

    __slots__ = ("_branch", "_branches", "_execution", "_keyed", "_next_index", "_owner")

    def __init__(self, execution: Execution, branch: str = "") -> None:
        self._execution = execution
        self._branch = branch
        self._next_index = 0
        self._owner: asyncio.Task[Any] | None = None
        self._branches: dict[str, None] = {}  # a set would take more memory than the rest
        self._keyed: tuple[int, str] | None = None

    @property
    def execution_id(self) -> str:
        """The id of the execution that this is the context of."""
        return self._execution.id

    def belong_to(self, task: asyncio.Task[Any]) -> None:
        """Refuse every other task from now on."""
        self._owner = task

    def has_taken(self, branch: str) -> bool:
        """Whether a branch of this key was asked for."""
        return branch in self._branches

    @overload
    def step(
        self,
        name: str,
        action: Callable[[Unpack[Ts]], Awaitable[R]],
        *args: *Ts,
        compensate: Callable[[R], object] | None = None,
        retry: RetryPolicy = ...,
        timeout: timedelta | None = None,
        serialize: Callable[[R], Any] | None = None,
        deserialize: Callable[[Any], R] | None = None,
        compensate_retry: RetryPolicy = ...,
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def step(
        self,
        name: str,
        action: Callable[[Unpack[Ts]], R],
        *args: *Ts,
        compensate: Callable[[R], object] | None = None,
        retry: RetryPolicy = ...,
        timeout: timedelta | None = None,
        serialize: Callable[[R], Any] | None = None,
        deserialize: Callable[[Any], R] | None = None,
        compensate_retry: RetryPolicy = ...,
    ) -> Coroutine[Any, Any, R]: ...

    def step(  # type: ignore[misc]  # mypy cannot match the variadic overloads with it
        self,
        name: str,
        action: Callable[..., Any],
        *args: Any,
        compensate: Callable[[Any], object] | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        timeout: timedelta | None = None,
        serialize: Callable[[Any], Any] | None = None,
        deserialize: Callable[[Any], Any] | None = None,
        compensate_retry: RetryPolicy = COMPENSATION_RETRY,
    ) -> Coroutine[Any, Any, Any]:
        """Run an action once, and remember its result; await what this returns.

        name: tells the step in the history; letters of your choice, up to 256.
        action: async, or sync and then run in a thread; called with `args`. Its result is stored
            as JSON and comes back as the type that its return annotation names.
        compensate: undoes the step, given its result, when the execution fails or is cancelled.
        retry: attempts after a failure; `compensate_retry` likewise for the compensation.
        timeout: of each attempt. A sync action cannot be interrupted: it runs on, unheeded.
        serialize, deserialize: to plain JSON data and back, instead of the annotation's type.

        Once this returns, the result is committed and the action never runs again. When the
        process dies in between, the action runs again: see `idempotency_key`.

        Raises the action's own error when its attempts are used up: StepTimeoutError after a
        timeout, StepFailedError on a replay that cannot find the error's class. Raises
        SerializationError for a result that is no JSON, NonDeterminismError if the history holds
        another step here. Bad arguments raise TypeError or ValueError at the call.
        """
        check_identifier("a step's name", name)
        if not callable(action):
            raise TypeError(
                f"the action of step {name!r} must be callable, not {action!r}; name the function,"
                f" and its arguments after it: `ctx.step({name!r}, function, argument)`"
            )
        if compensate is not None or serialize is not None or deserialize is not None:
            for what, function in (
                ("compensate", compensate),
                ("serialize", serialize),
                ("deserialize", deserialize),
            ):
                if function is not None and not callable(function):
                    raise TypeError(f"{what} of step {name!r} must be callable, not {function!r}")
        if not (isinstance(retry, RetryPolicy) and isinstance(compensate_retry, RetryPolicy)):
            what, policy = ("retry", retry)
            if isinstance(retry, RetryPolicy):
                what, policy = ("compensate_retry", compensate_retry)
            raise TypeError(f"{what} of step {name!r} must be a RetryPolicy, not {policy!r}")
        if timeout is not None:
            _check_duration("timeout", timeout, minimum=timedelta(microseconds=1))
        result_type = Any if deserialize else serialization.result_type(action)
        if result_type is not Any:
            serialization.check_type(result_type, "the result of step", name)
        place, history = self._next(name, StepKind.STEP)
        call = run_step(
            self._execution,
            StepCall(
                place=place,
                name=name,
                history=history,
                action=action,
                args=args,
                result_type=result_type,
                compensate=compensate,
                retry=retry,
                timeout=timeout,
                serialize=serialize,
                deserialize=deserialize,
                compensate_retry=compensate_retry,
                idempotency_key=self._key(place, name) if self._keyed == (place[1], name) else None,
            ),
        )
        return self._execution.calls.add(call)

    def sleep(self, name: str, duration: timedelta) -> Coroutine[Any, Any, None]:
        """Sleep; the deadline is computed once, and kept over any number of restarts."""
        check_identifier("a sleep's name", name)
        _check_duration("duration", duration)
        place, history = self._next(name, StepKind.SLEEP)
        call = WaitCall(place=place, name=name, kind=StepKind.SLEEP, history=history)
        return self._execution.calls.add(sleep_until(self._execution, call, duration))

    def sleep_until(self, name: str, deadline: datetime) -> Coroutine[Any, Any, None]:
        """Sleep until a time, which must know its zone."""
        check_identifier("a sleep's name", name)
        check_time("deadline", deadline)
        place, history = self._next(name, StepKind.SLEEP)
        call = WaitCall(place=place, name=name, kind=StepKind.SLEEP, history=history)
        return self._execution.calls.add(sleep_until(self._execution, call, deadline))

    @overload
    def wait_signal(
        self, name: str, timeout: timedelta | None = None, type: None = None
    ) -> Coroutine[Any, Any, Any]: ...

    @overload
    def wait_signal(
        self, name: str, timeout: timedelta | None = None, *, type: type[T]
    ) -> Coroutine[Any, Any, T]: ...

    def wait_signal(
        self,
        name: str,
        timeout: timedelta | None = None,
        type: Any = None,  # noqa: A002 - the word that callers expect
    ) -> Coroutine[Any, Any, Any]:
        """Wait for a signal of this name, and return its payload.

        Signals are kept until somebody waits for them, and each wait takes one, in order of
        arrival. timeout: from the first time that the wait was reached; its deadline is kept over
        restarts. type: of the payload; plain JSON data by default.

        Raises SignalTimeoutError at the deadline (a signal that comes later stays for the next
        wait), SerializationError for a payload that is not of the type.
        """
        check_identifier("a signal's name", name)
        if name.startswith("$"):
            raise ValueError(f"signal names that begin with $ are the library's own: {name!r}")
        if timeout is not None:
            _check_duration("timeout", timeout)
        payload_type = Any if type is None else type
        if payload_type is not Any:
            serialization.check_type(payload_type, "the payload of signal", name)
        place, history = self._next(name, StepKind.SIGNAL)
        call = WaitCall(place=place, name=name, kind=StepKind.SIGNAL, history=history)
        return self._execution.calls.add(
            wait_for_signal(self._execution, call, timeout, payload_type)
        )

    def branch(self, key: str) -> WorkflowContext:
        """A context with a numbering of its own, for a chain of steps that runs beside others.

        key: tells the branch from its siblings, the same on every replay: an item's id, say.
        Raises ValueError if this context has a branch of that key already.
        """
        self._check_task()
        check_identifier("a branch's key", key)
        if "/" in key:
            raise ValueError(f"a branch's key must not hold a slash, which parts branches: {key!r}")
        if key in self._branches:
            raise ValueError(
                f"branch {key!r} is taken; give each branch a key of its own, and keep the context"
                " that branch() returned to go on with it"
            )
        self._branches[key] = None
        return WorkflowContext(self._execution, f"{self._branch}/{key}" if self._branch else key)

    def idempotency_key(self, step: str) -> str:
        """A key for the next step of this context, the same each time that it runs.

        step: the step's name. Give the key to the outside world, which can then tell a repeated
        call from a new one: `await ctx.step("pay", pay, order, ctx.idempotency_key("pay"))`.
        Raises ValueError if the next step has another name, since the key would not be its own.
        """
        check_identifier("a step's name", step)
        self._check_task()
        self._keyed = self._next_index, step
        return self._key((self._branch, self._next_index), step)

    def _key(self, place: Place, name: str) -> str:
        parts = (self._execution.id, place[0], place[1], name)
        return str(uuid.uuid5(_KEY_NAMESPACE, repr(parts)))

    def _next(self, name: str, kind: StepKind) -> tuple[Place, StepHistory | None]:
        """Take the next number, and look up what is recorded there."""
        self._check_task()
        execution = self._execution
        place = (self._branch, self._next_index)
        if self._keyed is not None and self._keyed[0] == place[1]:
            keyed = self._keyed[1]
            if name != keyed or kind is not StepKind.STEP:
                raise ValueError(
                    f"idempotency_key({keyed!r}) must be followed by step {keyed!r} of the same"
                    f" context, and {kind.lower()} {name!r} follows"
                )
        history = execution.history.take(place)
        self._next_index += 1
        execution.steps_begun += 1
        recorded = None if history is None else history.last
        if recorded is not None and (recorded.step_name != name or recorded.kind != kind):
            error = _mismatch(execution.id, place, recorded.kind, recorded.step_name, kind, name)
            execution.stop(error)
            raise error
        return place, history

    def _check_task(self) -> None:
        """Refuse a call that would make the numbering depend on which task comes first."""
        self._execution.check_open()
        task = asyncio.current_task()
        if task is not None and self._execution.activity.is_in_flight(task):
            raise RuntimeError(
                f"an action of execution {self._execution.id!r} uses the context itself; a step"
                " cannot hold steps, since a replay does not run it. Do it in the workflow function"
            )
        if task is None or task is self._owner:
            return
        if self._owner is None:
            self._owner = task
            return
        # Not even once the owner is done: which of two tasks is done first is a matter of time.
        where = f"branch {self._branch!r}" if self._branch else "the context"
        raise RuntimeError(
            f"{where} of execution {self._execution.id!r} is used by two tasks, so its"
            " steps could be numbered differently on a replay. Give each task a branch of its own:"
            " `asyncio.gather(*(handle(ctx.branch(item), item) for item in items))`"
        )


def _mismatch(
    execution_id: str,
    place: Place,
    recorded_kind: StepKind,
    recorded_name: str,
    kind: StepKind,
    name: str,
) -> NonDeterminismError:
    branch, index = place
    return NonDeterminismError(
        f"execution {execution_id!r} has {recorded_kind.lower()} {recorded_name!r} recorded at"
        f" {place_in_words(place)}, where its workflow now asks for {kind.lower()} {name!r}. It was"
        " left as it is. Run it with the code that it was started with, or give changed code a new"
        " version.",
        workflow_execution_id=execution_id,
        step_index=index,
        branch=branch,
        recorded_name=recorded_name,
        current_name=name,
    )


def _check_duration(what: str, value: object, minimum: timedelta = timedelta(0)) -> None:
    if not isinstance(value, timedelta):
        raise TypeError(f"{what} must be a timedelta, as timedelta(seconds=30), not {value!r}")
    if value < minimum:
        raise ValueError(
            f"{what} must not be {'negative' if not minimum else 'zero or less'}: {value}"
        )
