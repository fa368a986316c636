"""The errors of a workflow function: which are outcomes, and which tell of what is refused."""

from __future__ import annotations

import asyncio
from operator import is_
from types import CodeType
from typing import Final, cast

from durable_workflow_sqlite.engine.refusals import refused_by_asyncio
from durable_workflow_sqlite.errors import NonDeterministicCallError

MOST_KEPT: Final = 100
"""How many of the errors that a body was told of are known without their traceback."""


class OutcomeErrors:
    """The errors that one body was told of: outcomes of steps and waits, which are recorded.

    teller: the code that raises them in the workflow function.
    """

    __slots__ = ("_last", "_teller")

    def __init__(self, teller: CodeType) -> None:
        self._teller = teller
        self._last: tuple[BaseException, ...] = ()

    def add(self, error: BaseException) -> None:
        """The body is told of it now."""
        self._last = (*self._last[1 - MOST_KEPT :], error)

    def __contains__(self, error: BaseException) -> bool:
        """Whether it is one of them, or a copy that was raised where one of them was caught."""
        place = error.__traceback__
        while place is not None:
            if place.tb_frame.f_code is self._teller:
                return True
            place = place.tb_next
        return self._is_kept(error) or (
            error.__context__ is not None
            and _is_copy(error, error.__context__)
            and self._is_kept(error.__context__)
        )

    def _is_kept(self, error: BaseException) -> bool:
        return any(one is error for one in self._last)


def _is_copy(error: BaseException, of: BaseException) -> bool:
    same_args = len(error.args) == len(of.args) and all(map(is_, error.args, of.args))
    return type(error) is type(of) and same_args


def cancelled_by_itself(cancellation: asyncio.CancelledError) -> asyncio.CancelledError:
    """With this a workflow function has ended that nobody had cancelled: it says so."""
    text = str(cancellation)
    error = asyncio.CancelledError(
        "the workflow function ended with CancelledError, though nobody cancelled the execution"
        + (f": {text}" if text else "")
    )
    error.__cause__ = cancellation
    return error


def refusal_in(error: BaseException, outcomes: OutcomeErrors) -> NonDeterministicCallError | None:
    """The call that was refused, if that is what an error comes from.

    A library may have raised an error of its own from it, or a group of errors.
    """
    to_see, seen = [error], set[int]()
    while to_see:
        one = to_see.pop()
        if id(one) in seen or one in outcomes:
            continue
        seen.add(id(one))
        refused = one if isinstance(one, NonDeterministicCallError) else refused_by_asyncio(one)
        if refused is not None:
            return refused
        if one.__cause__ is not None:
            to_see.append(one.__cause__)
        if isinstance(one, BaseExceptionGroup):
            to_see.extend(cast("BaseExceptionGroup[BaseException]", one).exceptions[::-1])
    return None
