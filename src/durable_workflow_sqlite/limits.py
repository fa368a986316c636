"""How much runs at once, over all workers: the limits of the named queues."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from durable_workflow_sqlite.records import check_identifier, check_integer


class Named(msgspec.Struct, frozen=True):
    """What has a name, which may be given without its keyword."""

    name: str


class Queue(Named, frozen=True, kw_only=True):
    """A named queue, and how many of its executions run at once. None: any number.

    name: what `enqueue(..., queue=name)` says.
    concurrency: over all workers.
    per_worker: in each worker.
    per_key: of each key, which `enqueue(..., key=...)` gives, over all workers.

    An execution counts while its code runs. It does not count while it waits for a time or a
    signal, or for a worker.

    Raises TypeError or ValueError for a name or a number that is not valid.
    """

    concurrency: int | None = None
    per_worker: int | None = None
    per_key: int | None = None

    def __post_init__(self) -> None:
        check_identifier("the name of a queue", self.name)
        for what in ("concurrency", "per_worker", "per_key"):
            number = getattr(self, what)
            if number is not None:
                check_integer(f"{what} of queue {self.name!r}", number, minimum=1)


def checked(queues: Iterable[Queue]) -> list[Queue]:
    """What is declared. Raises TypeError for another type, ValueError for a name that is twice."""
    found = list(queues)
    names: set[str] = set()
    for one in found:
        if type(one) is not Queue:
            raise TypeError(
                f"declare takes queues, as Queue('mail', concurrency=5), not {one!r}; nothing was"
                " changed"
            )
        if one.name in names:
            raise ValueError(f"queue {one.name!r} is declared twice; nothing was changed")
        names.add(one.name)
    return found
