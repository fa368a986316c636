"""What a context offers for steps in the same transaction as the tables of the user."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import copy_context
from datetime import timedelta
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

from msgspec import UNSET

from durable_workflow_sqlite.engine import hints, serialization
from durable_workflow_sqlite.engine.asking import Asking
from durable_workflow_sqlite.engine.fingerprints import changed, fingerprint
from durable_workflow_sqlite.engine.operations import TransactionCall
from durable_workflow_sqlite.engine.retry import COMPENSATION_RETRY, RetryPolicy
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import (
    TRANSACTION_TIMEOUT,
    StepKind,
    check_identifier,
    check_transaction,
)

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

_STEP: Final = StepKind.STEP


class Transacting(Asking):
    """Transactions of a workflow function."""

    __slots__ = ()

    def transaction(
        self,
        name: str,
        function: Callable[[Any, Unpack[Ts]], R],
        *args: *Ts,
        compensate: Callable[[R], object] | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        timeout: timedelta = TRANSACTION_TIMEOUT,
        compensate_retry: RetryPolicy = COMPENSATION_RETRY,
        of: object = UNSET,
    ) -> Coroutine[Any, Any, R]:
        """Run a function and record its result in one transaction: so it happens exactly once.

        function: called with the connection of the store, and then `args`. It is not async, and
            keeps its rows in tables of its own in the same database. On SQLite the connection is
            the `sqlite3.Connection` that the store writes with, on PostgreSQL a
            `psycopg.Connection`. The function runs in a thread of the store. Its result is stored
            as that of a step. It may enqueue executions and send signals with that connection:
            these are committed with it. It may not commit, roll back, change settings, attach files
            or write to the tables of the library.
        compensate: as for `step`; it is an action like any other.
        retry: attempts after a failure; whatever a failed attempt wrote is rolled back.
        timeout: how long an attempt may take. Nobody else can write to the file meanwhile.
        of: as for `step`.

        The step is never in doubt: a crash leaves all of it, or nothing. The function may be called
        again after a crash or a failure, so it must do nothing outside of the database.

        Raises the function's own error when its attempts are used up, and TransactionTimeoutError
        when the last one took too long. There is only one attempt for a function that does what it
        may not do: that raises TransactionMisuseError. The same goes for a result that would not
        come back as it is: SerializationError. Bad arguments raise TypeError or ValueError at the
        call.
        """
        check_identifier("a step's name", name)
        check_transaction(f"transaction {name!r}", function, timeout)
        if args:
            self._body.calls.refuse_unawaited(name, args)
        if compensate is not None and not callable(compensate):
            raise TypeError(
                f"compensate of transaction {name!r} must be callable, not {compensate!r}"
            )
        for what, policy in (("retry", retry), ("compensate_retry", compensate_retry)):
            if not isinstance(policy, RetryPolicy):
                raise TypeError(
                    f"{what} of transaction {name!r} must be a RetryPolicy, not {policy!r}"
                )
        result_type = Any
        try:
            result_type = hints.result_type(function)
            if result_type is not Any:
                serialization.check_type(result_type, "the result of transaction", name)
        except SerializationError as refusal:
            self._refuse(refusal)
        asked = None if of is UNSET else fingerprint(of, name)
        place, history = self._next(name, _STEP)
        if asked is not None and (error := changed(self._body.execution_id, history, asked)):
            self._body.fail(error)
            raise error
        call = TransactionCall(
            place,
            name,
            history,
            function,
            args,
            result_type,
            compensate,
            retry,
            timeout,
            None,
            None,
            compensate_retry,
            "finish",
            None,
            copy_context(),
            None,
            None,
            True,
            fingerprint=asked,
        )
        if compensate is not None and self._body.is_open:
            self._body.undoable[place] = call
        return self._ask(call)
