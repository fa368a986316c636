"""What is to become of a step, or of a compensation, that is in doubt: `in_doubt` of `ctx.step`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Done(msgspec.Struct, Generic[T_co], frozen=True):
    """A probe says: the action took effect, and this is what it returned.

    The value must be one that the step may return. For a compensation it does not count.
    """

    value: T_co = None  # type: ignore[assignment]


class NotDone(msgspec.Struct, frozen=True):
    """A probe says: the action has not taken effect, and will not. So it runs again."""


RERUN: Final = "rerun"
FAIL: Final = "fail"
ASK: Final = "ask"

Probe = Callable[[str], Awaitable[Done[T] | NotDone]] | Callable[[str], Done[T] | NotDone]
"""Asks the outside world whether an action took effect, by its idempotency key."""

InDoubt = Literal["rerun", "fail", "ask"] | Probe[T]


class Doubt(msgspec.Struct, eq=False):
    """Of one step.

    key: the idempotency key that its probe gets. is_to_undo: whether it is only to be known whether
    the step has to be undone; then its action runs no more.
    """

    step: InDoubt[Any]
    compensation: InDoubt[Any]
    key: str
    is_to_undo: bool = False


def check_in_doubt(
    name: str,
    in_doubt: object,
    compensate_in_doubt: object,
    *,
    has_compensation: bool,
    is_idempotent: bool,
) -> None:
    """Raise TypeError or ValueError for what a step must not be given."""
    for what, policy in (("in_doubt", in_doubt), ("compensate_in_doubt", compensate_in_doubt)):
        if isinstance(policy, str):
            if policy not in (RERUN, FAIL, ASK):
                raise ValueError(
                    f'{what} of step {name!r} must be "rerun", "fail", "ask" or a function, not'
                    f" {policy!r}"
                )
        elif not callable(policy):
            raise TypeError(
                f'{what} of step {name!r} must be "rerun", "fail", "ask" or a function, not'
                f" {policy!r}"
            )
    if is_idempotent and in_doubt != RERUN:
        raise ValueError(
            f"step {name!r} is idempotent, so it is never in doubt: leave out in_doubt, or"
            " idempotent=True"
        )
    if compensate_in_doubt != RERUN and not has_compensation:
        raise ValueError(f"step {name!r} has compensate_in_doubt, and no `compensate`")
