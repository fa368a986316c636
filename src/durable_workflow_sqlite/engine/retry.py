"""`RetryPolicy`: how many attempts a step has, and the back-off between them."""

from __future__ import annotations

import builtins
import math
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal, Self

import msgspec

_USUAL_MAX_DELAY = timedelta(minutes=5)
_MAX_SECONDS = timedelta.max.total_seconds()


class RetryPolicy(msgspec.Struct, frozen=True):
    """How a step is retried. Create it with `none`, `fixed` or `exponential`.

    max_attempts: the number of attempts, the first included; None for no limit.
    initial_delay: the back-off after the first failed attempt; after the n-th it is
        min(initial_delay * multiplier ** (n - 1), max_delay).
    jitter: from 0 to 1; each back-off is longer or shorter by a random part, up to this part.
    give_up_on: exception types after which there is no further attempt.
    """

    type: Literal["none", "fixed", "exponential"] = "none"
    max_attempts: int | None = 1
    initial_delay: timedelta = timedelta(0)
    multiplier: float = 1.0
    max_delay: timedelta = timedelta.max
    jitter: float = 0.0
    give_up_on: tuple[builtins.type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if self.max_attempts is not None:
            if type(self.max_attempts) is not int:
                raise TypeError(
                    f"max_attempts must be an integer or None, not {self.max_attempts!r}"
                )
            if self.max_attempts < 1:
                raise ValueError(f"max_attempts must be at least 1, not {self.max_attempts}")
        for name in ("initial_delay", "max_delay"):
            delay = getattr(self, name)
            if not isinstance(delay, timedelta):
                raise TypeError(f"{name} must be a timedelta, not {delay!r}")
            if delay < timedelta(0):
                raise ValueError(f"{name} must not be negative: {delay}")
        if not (math.isfinite(self.multiplier) and self.multiplier >= 1):
            raise ValueError(f"multiplier must be at least 1, not {self.multiplier}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {self.jitter}")
        for kind in self.give_up_on:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise TypeError(f"give_up_on must hold exception types, not {kind!r}")

    @classmethod
    def none(cls) -> Self:
        """One attempt."""
        return cls()

    @classmethod
    def fixed(
        cls,
        *,
        max_attempts: int | None,
        delay: timedelta,
        give_up_on: tuple[builtins.type[BaseException], ...] = (),
    ) -> Self:
        """The same back-off before every further attempt."""
        return cls(
            type="fixed", max_attempts=max_attempts, initial_delay=delay, give_up_on=give_up_on
        )

    @classmethod
    def exponential(
        cls,
        *,
        max_attempts: int | None,
        initial_delay: timedelta = timedelta(seconds=1),
        multiplier: float = 2.0,
        max_delay: timedelta | None = None,
        jitter: float = 0.1,
        give_up_on: tuple[builtins.type[BaseException], ...] = (),
    ) -> Self:
        """A back-off that grows after each attempt.

        max_delay: by default 5 minutes, or `initial_delay` if that is longer.
        """
        if max_delay is None:
            is_longer = isinstance(initial_delay, timedelta) and initial_delay > _USUAL_MAX_DELAY
            max_delay = initial_delay if is_longer else _USUAL_MAX_DELAY
        return cls(
            type="exponential",
            max_attempts=max_attempts,
            initial_delay=initial_delay,
            multiplier=multiplier,
            max_delay=max_delay,
            jitter=jitter,
            give_up_on=give_up_on,
        )

    def allows_another(self, attempt: int, error: BaseException) -> bool:
        """Whether another attempt follows the failed attempt with this number."""
        is_the_last = self.max_attempts is not None and attempt >= self.max_attempts
        return not is_the_last and not isinstance(error, self.give_up_on)

    def delay_after(self, attempt: int) -> timedelta:
        """The back-off after the failed attempt with this number (from 1), jitter included."""
        try:
            seconds = self.initial_delay.total_seconds() * self.multiplier ** (attempt - 1)
        except OverflowError:
            seconds = _MAX_SECONDS
        seconds = min(seconds, self.max_delay.total_seconds())
        if self.jitter:
            seconds *= 1 + random.uniform(-self.jitter, self.jitter)
        return timedelta(seconds=seconds) if seconds < _MAX_SECONDS else timedelta.max

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; `give_up_on` holds Python types and is left out."""
        if self.type == "none":
            return {"type": "none"}
        if self.type == "fixed":
            return {
                "type": "fixed",
                "maxAttempts": self.max_attempts,
                "delayMs": _milliseconds(self.initial_delay),
            }
        return {
            "type": "exponential",
            "maxAttempts": self.max_attempts,
            "initialDelayMs": _milliseconds(self.initial_delay),
            "multiplier": self.multiplier,
            "maxDelayMs": _milliseconds(self.max_delay),
            "jitter": self.jitter,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The policy that `to_json` wrote. Raises ValueError for anything else."""
        if not isinstance(data, Mapping):
            raise ValueError(f"{data!r} is not a retry policy")
        try:
            match data["type"]:
                case "none":
                    return cls.none()
                case "fixed":
                    return cls.fixed(
                        max_attempts=data["maxAttempts"],
                        delay=timedelta(milliseconds=data["delayMs"]),
                    )
                case "exponential":
                    return cls.exponential(
                        max_attempts=data["maxAttempts"],
                        initial_delay=timedelta(milliseconds=data["initialDelayMs"]),
                        multiplier=data["multiplier"],
                        max_delay=timedelta(milliseconds=data["maxDelayMs"]),
                        jitter=data["jitter"],
                    )
                case other:
                    raise ValueError(f"no retry policy has the type {other!r}")
        except KeyError as error:
            raise ValueError(f"this retry policy lacks {error}: {dict(data)!r}") from None
        except (TypeError, OverflowError) as error:
            raise ValueError(f"{dict(data)!r} is not a retry policy: {error}") from None


def _milliseconds(delay: timedelta) -> int:
    return delay // timedelta(milliseconds=1)


COMPENSATION_RETRY: Final = RetryPolicy.exponential(
    max_attempts=None, initial_delay=timedelta(milliseconds=200), max_delay=timedelta(hours=1)
)
"""A compensation does not give up: what is not undone is somebody's money."""
