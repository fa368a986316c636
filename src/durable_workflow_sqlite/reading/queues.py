"""What is read of the named queues and of the limits for steps, and what is wrong with them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from durable_workflow_sqlite.reading.findings import (
    FORGOTTEN,
    LATE,
    SHOWN,
    Finding,
    Level,
    at,
    many,
)
from durable_workflow_sqlite.reading.worker_findings import START, lives
from durable_workflow_sqlite.reading.workers import Workers, WorkerState

LONG: Final = timedelta(hours=1)
"""Who holds a slot of a full queue for longer than this may be stuck."""


class NamedQueue(msgspec.Struct, frozen=True, kw_only=True):
    """A named queue, its limits (None: none), and what is in it: see `workflow_named_queues`.

    is_declared: whether it has limits at all. rate_used: how many have begun within `rate_seconds`.
    running: how many executions hold a slot; running_keys: how many keys they have. due: how many
    wait for a slot, or for a worker; due_since: since when the first of them has. later: how many
    are due at a later time. running_longest: the execution that has held its slot for the longest
    time, claimed at running_since. paused_at, paused_by, paused_reason: since when the queue is
    paused, by whom and why; None if it is not. updated_at: when its limits were last changed.
    """

    name: str
    is_declared: bool
    concurrency: int | None
    per_worker: int | None
    per_key: int | None
    rate: int | None
    rate_seconds: float | None
    rate_used: int | None
    key_rate: int | None
    key_rate_seconds: float | None
    running: int
    running_keys: int
    due: int
    due_since: datetime | None
    later: int
    running_longest: str | None
    running_since: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    updated_at: datetime | None

    @property
    def is_full(self) -> bool:
        """Whether all slots are held."""
        return self.concurrency is not None and self.running >= self.concurrency

    @property
    def may_hold(self) -> bool:
        """Whether something may wait in it although workers have free slots."""
        return (
            self.is_full
            or self.paused_by is not None
            or self.per_worker is not None
            or self.per_key is not None
            or self.key_rate is not None
            or (self.rate is not None and (self.rate_used or 0) >= self.rate)
        )


class StepLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit for steps (None: none), and what runs under it: see `workflow_step_limits`.

    held_longest: the execution whose step, `held_step`, has held its slot since held_since, the
    longest of all. The other fields are as those of `NamedQueue`.
    """

    name: str
    is_declared: bool
    concurrency: int | None
    per_key: int | None
    rate: int | None
    rate_seconds: float | None
    rate_used: int | None
    running: int
    running_keys: int
    held_longest: str | None
    held_step: str | None
    held_since: datetime | None
    updated_at: datetime | None


class HeldSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a slot: see `workflow_held_slots`. step_name: None for a slot of a queue."""

    execution_id: str
    workflow_type: str | None
    key: str | None
    branch: str | None
    step_index: int | None
    step_name: str | None
    worker: str
    since: datetime | None


class DueInQueue(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for a worker, of one workflow and in one queue. queue: None for none."""

    queue: str | None
    workflow_type: str
    version: int
    due: int
    due_since: datetime | None


class MissingLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that steps name and nobody has declared, and the executions in trouble for it."""

    name: str
    execution_ids: tuple[str, ...]


class Queues(msgspec.Struct, frozen=True, kw_only=True):
    """The queues and the limits for steps, and what waits, at one moment."""

    queues: tuple[NamedQueue, ...]
    limits: tuple[StepLimit, ...]
    due: tuple[DueInQueue, ...]
    missing: tuple[MissingLimit, ...]


def queue_findings(found: Queues, workers: Workers, now: datetime) -> Iterator[Finding]:
    """What keeps executions and steps waiting, and does not go away by itself."""
    by_name = {one.name: one for one in found.queues}
    yield from _unserved(found.due, by_name, workers, now)
    for one in found.queues:
        yield from _stuck(one, now)
        yield from _paused(one, now)
    for limit in found.missing:
        more = len(limit.execution_ids) - SHOWN
        yield Finding(
            level=Level.WARNING,
            check="limit",
            message=f"no limit {limit.name!r} for steps is declared, and"
            f" {many(len(limit.execution_ids), 'execution')} with such steps"
            f" {'waits' if len(limit.execution_ids) == 1 else 'wait'} for it: "
            + ", ".join(limit.execution_ids[:SHOWN])
            + (f" and {more:,} more" if more > 0 else ""),
            hint=f"`durable-workflow queue set FILE --limit {shlex.quote(limit.name)} --add` with"
            " its limits, or engine.declare(Limit(...)); then restart the workers",
        )


def _unserved(
    due: Iterable[DueInQueue],
    queues: dict[str, NamedQueue],
    workers: Workers,
    now: datetime,
) -> Iterator[Finding]:
    """A queue in which something waits whose workflow no living worker of the queue runs."""
    by_queue: dict[str | None, list[DueInQueue]] = {}
    for one in due:
        if one.due_since is None or one.due_since + LATE >= now:
            continue
        if one.queue in queues and queues[one.queue].paused_by is not None:
            continue
        runs = [worker for worker in workers.living if _runs(worker, one)]
        if runs and not any(worker.serves_queue(one.queue) for worker in runs):
            by_queue.setdefault(one.queue, []).append(one)
    for queue, waits in by_queue.items():
        number = sum(one.due for one in waits)
        since = min(one.due_since for one in waits if one.due_since is not None)
        named = sorted({name for one in workers.living for name in one.queues or ()})
        where = "what is in no queue" if queue is None else f"queue {queue!r}"
        option = "" if queue is None else f", with --queue {shlex.quote(queue)} or without --queue"
        yield Finding(
            level=Level.WARNING,
            check="unserved",
            message=f"no living worker that runs it serves {where}:"
            f" {many(number, 'execution')} due, the first since {at(since)};"
            f" {lives(len(workers.living))}, serving " + (", ".join(named[:SHOWN]) or "no queue"),
            hint=f"start a worker that serves it: {START}" + (option or ", without --queue"),
        )


def _runs(worker: WorkerState, one: DueInQueue) -> bool:
    return any(
        (served.workflow_type, served.version) == (one.workflow_type, one.version)
        for served in worker.serves
    )


def _stuck(queue: NamedQueue, now: datetime) -> Iterator[Finding]:
    """A full queue in which something waits, and one execution has held its slot for long."""
    if (
        queue.paused_by is None
        and queue.is_full
        and queue.due_since is not None
        and queue.due_since + LATE < now
        and queue.running_longest is not None
        and queue.running_since is not None
        and queue.running_since + LONG < now
    ):
        yield Finding(
            level=Level.WARNING,
            check="slot",
            message=f"queue {queue.name!r} is full ({queue.running:,} of {queue.concurrency:,}):"
            f" {many(queue.due, 'execution')} due, the first since {at(queue.due_since)};"
            f" {queue.running_longest} has held a slot since {at(queue.running_since)}",
            hint=f"`durable-workflow show FILE {shlex.quote(queue.running_longest)}` says what it"
            " does; if it is stuck, `durable-workflow cancel FILE"
            f" {shlex.quote(queue.running_longest)}`; if not, `durable-workflow queue set FILE"
            f" {shlex.quote(queue.name)} --concurrency {queue.running + 1}` gives the queue more"
            " slots",
        )


def _paused(queue: NamedQueue, now: datetime) -> Iterator[Finding]:
    """A queue that was paused long ago, and in which something waits."""
    if (
        queue.paused_by is not None
        and queue.due_since is not None
        and (queue.paused_at is None or queue.paused_at + FORGOTTEN < now)
    ):
        reason = "" if queue.paused_reason is None else f": {queue.paused_reason}"
        yield Finding(
            level=Level.WARNING,
            check="paused",
            message=f"queue {queue.name!r} is paused since {at(queue.paused_at)} by"
            f" {queue.paused_by}{reason}; {many(queue.due, 'execution')} due in it, the first since"
            f" {at(queue.due_since)}",
            hint=f"`durable-workflow resume FILE --queue {shlex.quote(queue.name)}` lets it go on",
        )


def limits_of(one: NamedQueue | StepLimit) -> list[tuple[str, str]]:
    """The limits in words that are not none: what they count, and how many."""
    named: Sequence[tuple[str, int | None, float | None]] = (
        ("at once", one.concurrency, None),
        ("per worker", one.per_worker if isinstance(one, NamedQueue) else None, None),
        ("per key", one.per_key, None),
        ("rate", one.rate, one.rate_seconds),
        (
            "key rate",
            one.key_rate if isinstance(one, NamedQueue) else None,
            one.key_rate_seconds if isinstance(one, NamedQueue) else None,
        ),
    )
    return [
        (words, rate_in_words(number, seconds) if seconds is not None else f"{number:,}")
        for words, number, seconds in named
        if number is not None
    ]


def rate_in_words(number: int | None, seconds: float | None) -> str:
    """As `durable-workflow queue set` takes it: 100/60."""
    return "" if number is None or seconds is None else f"{number}/{seconds:.15g}"
