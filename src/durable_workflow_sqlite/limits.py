"""How much runs at once, or begins within a time, over all workers: of queues, and of steps."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import msgspec

from durable_workflow_sqlite.records import check_identifier, check_integer


class Rate(msgspec.Struct, frozen=True):
    """So many within any time of this length, as `Rate(100, timedelta(minutes=1))`.

    Raises TypeError or ValueError for a number or a time that is not valid.
    """

    number: int
    period: timedelta

    def __post_init__(self) -> None:
        check_integer("the number of a rate", self.number, minimum=1)
        if not isinstance(self.period, timedelta):
            raise TypeError(f"the period of a rate must be a timedelta, not {self.period!r}")
        if self.period <= timedelta(0):
            raise ValueError(f"the period of a rate must be more than zero, not {self.period}")


def in_words(limit: int | Rate | None) -> int | str | None:
    """A limit as people write it: a rate as 100/60, which is a number and seconds."""
    if not isinstance(limit, Rate):
        return limit
    return f"{limit.number}/{limit.period.total_seconds():.15g}"


class Named(msgspec.Struct, frozen=True):
    """What has a name, which may be given without its keyword."""

    name: str


class Queue(Named, frozen=True, kw_only=True):
    """A named queue, and how many of its executions run at once or begin. None: any number.

    name: what `enqueue(..., queue=name)` says.
    concurrency: how many run at once, over all workers.
    per_worker: how many of them in each worker.
    per_key: how many of each key, which `enqueue(..., key=...)` gives, over all workers.
    rate: how many begin within a time, over all workers. key_rate: how many of each key.

    An execution counts for the first three while its code runs. It does not count while it waits
    for a time or a signal, for a worker, or for its next attempt in a back-off. For a rate, it
    counts when a worker claims it to begin, or to begin again after its worker died.

    Raises TypeError or ValueError for a name or a number that is not valid.
    """

    concurrency: int | None = None
    per_worker: int | None = None
    per_key: int | None = None
    rate: Rate | None = None
    key_rate: Rate | None = None

    def __post_init__(self) -> None:
        _check(self, "queue", ("concurrency", "per_worker", "per_key"), ("rate", "key_rate"))


class Limit(Named, frozen=True, kw_only=True):
    """How many steps run at once, or begin within a time, over all workers. None: any number.

    name: what `ctx.step(..., limit=name)` says.
    concurrency: how many of these steps run at once.
    per_key: how many of each `limit_key`.
    rate: how many attempts of them begin within a time.

    A step counts while an attempt of it runs, and not in a back-off.

    Raises TypeError or ValueError for a name or a number that is not valid.
    """

    concurrency: int | None = None
    per_key: int | None = None
    rate: Rate | None = None

    def __post_init__(self) -> None:
        _check(self, "limit", ("concurrency", "per_key"), ("rate",))


Definition = Queue | Limit


def _check(one: Named, kind: str, numbers: tuple[str, ...], rates: tuple[str, ...]) -> None:
    check_identifier(f"the name of a {kind}", one.name)
    for what in numbers:
        number = getattr(one, what)
        if number is not None:
            check_integer(f"{what} of {kind} {one.name!r}", number, minimum=1)
    for what in rates:
        rate = getattr(one, what)
        if rate is not None and not isinstance(rate, Rate):
            raise TypeError(
                f"{what} of {kind} {one.name!r} must be a Rate, as Rate(100, timedelta(minutes=1)),"
                f" not {rate!r}"
            )


def checked(definitions: Iterable[Definition]) -> list[Definition]:
    """What is declared. Raises TypeError for another type, ValueError for a name that is twice."""
    found = list(definitions)
    names: set[tuple[type, str]] = set()
    for one in found:
        if type(one) is not Queue and type(one) is not Limit:
            raise TypeError(
                f"declare takes queues and limits, as Queue('mail', concurrency=5), not {one!r};"
                " nothing was changed"
            )
        if (type(one), one.name) in names:
            kind = type(one).__name__.lower()
            raise ValueError(f"{kind} {one.name!r} is declared twice; nothing was changed")
        names.add((type(one), one.name))
    return found
