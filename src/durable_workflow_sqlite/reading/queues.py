"""What is read of the named queues."""

from __future__ import annotations

from datetime import datetime

import msgspec


class NamedQueue(msgspec.Struct, frozen=True, kw_only=True):
    """A named queue, its limits (None: none), and what is in it: see `workflow_named_queues`.

    running: how many executions hold a slot. due: how many wait for one, or for a worker;
    due_since: since when the first of them has. later: how many are due at a later time.
    running_longest: the execution that has held its slot for the longest time, claimed at
    running_since. paused_at, paused_by, paused_reason: since when the queue is paused, by whom and
    why; None if it is not.
    """

    name: str
    concurrency: int | None
    per_worker: int | None
    per_key: int | None
    running: int
    due: int
    due_since: datetime | None
    later: int
    running_longest: str | None
    running_since: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None

    @property
    def is_full(self) -> bool:
        """Whether all slots of the queue are held."""
        return self.concurrency is not None and self.running >= self.concurrency
