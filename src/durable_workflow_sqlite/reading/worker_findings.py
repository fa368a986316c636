"""Problems of the workers: none lives, none has a workflow registered, or none has free slots."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from durable_workflow_sqlite.reading.findings import LATE, SHOWN, Finding, Level, at, many
from durable_workflow_sqlite.reading.workers import QueueState, Workers, WorkerState

START = "`durable-workflow worker FILE --app MODULE:NAME`"


def worker_findings(workers: Workers, now: datetime) -> Iterator[Finding]:
    """Whether there is a worker for what waits for one."""
    living = workers.living
    dead = [one for one in workers.workers if not one.is_alive]
    left = workers.left_behind
    if not living:
        yield _nobody_lives(workers, left)
        return
    yield Finding(
        level=Level.NOTE,
        check="workers",
        message=f"{lives(len(living))}: " + _some([_described(one) for one in living]),
        hint="do nothing; `durable-workflow workers FILE` says what they do",
    )
    yield from map(_stopped, workers.stopped)
    if left:
        yield Finding(
            level=Level.NOTE,
            check="claims",
            message=f"{many(left, 'execution')} claimed by {many(len(dead), 'dead worker')}",
            hint="do nothing: a living worker takes them over",
        )
    for queue in workers.unknown:
        yield _nobody_knows(queue, living)
    for queue in workers.queues:
        if queue.due_since is not None and queue.due_since + LATE < now:
            yield from _nobody_has_room(queue, living)


def unknown(workers: Workers, workflow_type: str | None, version: int | None) -> Finding | None:
    """What is wrong if workers live, and none has this workflow registered; None otherwise."""
    for queue in workers.unknown if workers.living else ():
        if (queue.workflow_type, queue.version) == (workflow_type, version):
            return _nobody_knows(queue, workers.living)
    return None


def lives(number: int) -> str:
    return "1 worker lives" if number == 1 else f"{number} workers live"


def how_to_wake(process_id: int | None) -> str:
    """What to do with a process that is stopped."""
    return (
        f"`kill -CONT {process_id}` lets it go on; `kill -9 {process_id}` lets another worker take"
        " over what it has"
    )


def _stopped(worker: WorkerState) -> Finding:
    what = "it has no execution"
    if worker.executions:
        more = worker.executions - len(worker.holds)
        named = ", ".join(worker.holds) + (f" and {more:,} more" if more > 0 else "")
        what = f"nobody goes on with {many(worker.executions, 'execution')} that it has: {named}"
    if worker.last_write_at is not None:
        what += f"; the last change of these was at {at(worker.last_write_at)}"
    return Finding(
        level=Level.WARNING,
        check="stopped",
        message=f"worker {worker.name} is stopped (SIGSTOP): {what}",
        hint=how_to_wake(worker.process_id),
    )


def _nobody_lives(workers: Workers, left: int) -> Finding:
    due = sum(one.due for one in workers.queues)
    if not due + left:
        return Finding(
            level=Level.NOTE,
            check="workers",
            message="no worker lives, and nothing is due",
            hint=f"do nothing now; to run more executions, start a worker: {START}",
        )
    parts: list[str] = []
    if due:
        first = min(
            (one.due_since for one in workers.queues if one.due_since is not None), default=None
        )
        parts.append(f"{many(due, 'execution')} due, the first since {at(first)}")
    if left:
        parts.append(f"{many(left, 'execution')} claimed by dead workers")
    return Finding(
        level=Level.WARNING,
        check="workers",
        message=f"no worker lives: {'; '.join(parts)}",
        hint=f"start one: {START}",
    )


def _nobody_knows(queue: QueueState, living: tuple[WorkerState, ...]) -> Finding:
    known = sorted({one for worker in living for one in worker.serves})
    # Other versions of the same workflow say what was deployed, or was not.
    others = [one for one in known if one.workflow_type == queue.workflow_type] or known
    runs = _some([f"{one.workflow_type} v{one.version}" for one in others]) or "nothing"
    return Finding(
        level=Level.WARNING,
        check="unknown",
        message=f"no living worker knows {queue.name}: {many(queue.unfinished, 'execution')},"
        f" the oldest since {at(queue.unfinished_since)}; {lives(len(living))}, and"
        f" {'knows' if len(living) == 1 else 'know'} {runs}",
        hint=f"start a worker whose code has it: {START}",
    )


def _nobody_has_room(queue: QueueState, living: tuple[WorkerState, ...]) -> Iterator[Finding]:
    of_it = [
        worker
        for worker in living
        if any(
            (one.workflow_type, one.version) == (queue.workflow_type, queue.version)
            for one in worker.serves
        )
    ]
    if of_it and all(one.slots is not None and one.slots_in_use >= one.slots for one in of_it):
        slots = sum(one.slots or 0 for one in of_it)
        yield Finding(
            level=Level.WARNING,
            check="queue",
            message=f"{many(queue.due, 'execution')} of {queue.name} due, the first since"
            f" {at(queue.due_since)}: all {slots:,} slots of {many(len(of_it), 'worker')} in use",
            hint="start more workers, or raise their --max-concurrent;"
            " `durable-workflow workers FILE` says what they do",
        )


def _described(worker: WorkerState) -> str:
    runs = _some([f"{one.workflow_type} v{one.version}" for one in worker.serves])
    return f"{worker.name} ({runs})" if runs else worker.name


def _some(texts: list[str]) -> str:
    more = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and {more} more" if more > 0 else "")
