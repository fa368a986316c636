"""What a context offers for steps: the checks of their arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from datetime import timedelta
from typing import (
    Any,
    Final,
    TypeVar,
    TypeVarTuple,
    Unpack,
    get_args,
    overload,
)

from msgspec import UNSET

from durable_workflow_sqlite.engine import hints, serialization
from durable_workflow_sqlite.engine.doubt import Doubt, InDoubt, check_in_doubt
from durable_workflow_sqlite.engine.fingerprints import changed, fingerprint
from durable_workflow_sqlite.engine.operations import OnCancel, StepCall
from durable_workflow_sqlite.engine.retry import COMPENSATION_RETRY, RetryPolicy
from durable_workflow_sqlite.engine.transacting import Transacting
from durable_workflow_sqlite.engine.waiting import check_duration
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import StepKind, check_identifier, check_limit

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

_ON_CANCEL: Final = get_args(OnCancel)

# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_STEP: Final = StepKind.STEP


class Stepping(Transacting):
    """Steps of a workflow function."""

    __slots__ = ()

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
        on_cancel: OnCancel = ...,
        limit: str | None = None,
        limit_key: str | None = None,
        idempotent: bool = False,
        of: object = UNSET,
        in_doubt: InDoubt[R] = "rerun",
        compensate_in_doubt: InDoubt[Any] = "rerun",
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
        on_cancel: OnCancel = ...,
        limit: str | None = None,
        limit_key: str | None = None,
        idempotent: bool = False,
        of: object = UNSET,
        in_doubt: InDoubt[R] = "rerun",
        compensate_in_doubt: InDoubt[Any] = "rerun",
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
        on_cancel: OnCancel = "finish",
        limit: str | None = None,
        limit_key: str | None = None,
        idempotent: bool = False,
        of: object = UNSET,
        in_doubt: InDoubt[Any] = "rerun",
        compensate_in_doubt: InDoubt[Any] = "rerun",
    ) -> Coroutine[Any, Any, Any]:
        """Run an action once, and record its result. Always await the returned coroutine.

        name: the name of the step in the history; any text of up to 256 characters.
        action: called with `args`. A sync action runs in a thread. The result is stored as JSON,
            and comes back as the type that the return annotation of the action names; without one
            it must be plain JSON data.
        compensate: called with the result, to undo the step when the execution fails or is
            cancelled.
        retry: attempts after a failure; `compensate_retry` is the same for the compensation. By
            default a compensation is retried until it succeeds: the first time after 0.2 seconds,
            later once an hour. The execution is COMPENSATING until then.
        timeout: the longest time of each attempt. A sync action cannot be interrupted: after the
            timeout it continues until it returns. A step whose last attempt timed out may have
            taken effect. If the execution is undone, the compensation gets what the thread
            returned, or the step runs again first. Otherwise the step is in doubt.
        serialize, deserialize: functions that convert the result to plain JSON data and back. They
            replace the type of the annotation.
        on_cancel: for an async action that runs when the execution fails, is cancelled or expires:
            "finish" lets it continue for the engine's `cancel_grace`, "stop" cancels it at once. A
            sync action always continues until it returns.
        limit: the declared `Limit` that says how many such steps run at once, over all workers;
            `limit_key` is what its `per_key` limits. The step waits until it may begin.
        idempotent: whether the action only reads, or may be done twice without harm. Then only its
            outcome is recorded, which saves one of two writes. After a crash it runs again, and it
            is never in doubt. It must have no `compensate`.
        of: what the result answers, for example the prompt of a model: any value that can be
            written as JSON. Only a hash of it is stored. If a replay comes here with another value,
            the execution is left as it is, with NonDeterminismError: it never gets a stale answer.
        in_doubt: what to do when an attempt was cut off or timed out, so that nobody knows whether
            it took effect. "rerun" runs it again. "fail" raises StepAmbiguousError. "ask" waits
            until a person says what became of it (`Client.resolve`). A function is a probe: it gets
            the idempotency key of the step, and returns `Done(value)` or `NotDone()`. It is retried
            as the step is, within the same timeout; after that it is StepAmbiguousError.
        compensate_in_doubt: the same for the compensation. Its probe gets the key of the step with
            ":compensate" at the end.

        When the await returns, the result is committed and the action never runs again. If the
        process dies before that, the action runs again: see `idempotency_key`.

        Raises the action's own error when its attempts are used up: StepTimeoutError after a
        timeout, StepFailedError for an error whose class is local or not an Exception. Raises
        SerializationError for a result that would not come back as it is; if the type shows this,
        it raises at the call. Raises NonDeterminismError if another step is recorded here. Bad
        arguments raise TypeError or ValueError at the call.
        """
        check_identifier("a step's name", name)
        if not callable(action):
            raise TypeError(
                f"the action of step {name!r} must be callable, not {action!r}; pass the function,"
                f" then its arguments: `ctx.step({name!r}, function, argument)`"
            )
        if args:
            self._body.calls.refuse_unawaited(name, args)
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
            check_duration("timeout", timeout, minimum=timedelta(microseconds=1))
        if on_cancel not in _ON_CANCEL:
            raise ValueError(
                f'on_cancel of step {name!r} must be "finish" or "stop", not {on_cancel!r}'
            )
        if limit is not None or limit_key is not None:
            check_limit(limit, limit_key)
        if idempotent:
            if idempotent is not True:
                raise TypeError(f"idempotent of step {name!r} must be a bool, not {idempotent!r}")
            if compensate is not None:
                raise ValueError(
                    f"step {name!r} has an effect, since `compensate` undoes it; leave out"
                    " idempotent=True"
                )
        is_doubt_given = in_doubt != "rerun" or compensate_in_doubt != "rerun"
        if is_doubt_given:
            check_in_doubt(
                name,
                in_doubt,
                compensate_in_doubt,
                has_compensation=compensate is not None,
                is_idempotent=idempotent,
            )
        result_type = Any
        if deserialize is None:
            try:
                result_type = hints.result_type(action)
                if result_type is not Any:
                    serialization.check_type(result_type, "the result of step", name)
            except SerializationError as refusal:
                self._refuse(refusal)
        asked = None if of is UNSET else fingerprint(of, name)
        place, history = self._next(name, _STEP)
        if asked is not None and (error := changed(self._body.execution_id, history, asked)):
            self._body.fail(error)
            raise error
        call = StepCall(
            place,
            name,
            history,
            action,
            args,
            result_type,
            compensate,
            retry,
            timeout,
            serialize,
            deserialize,
            compensate_retry,
            on_cancel,
            self._key(place, name) if self._keyed == (place[1], name) else None,
            copy_context(),
            limit,
            limit_key,
            idempotent,
            Doubt(in_doubt, compensate_in_doubt, self._key(place, name))
            if is_doubt_given
            else None,
            asked,
        )
        if compensate is not None and self._body.is_open:
            self._body.undoable[place] = call
        return self._ask(call)
