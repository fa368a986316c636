"""What is read of workers and queues: who lives, at what, and what waits for whom."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Served(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A workflow that a worker runs."""

    workflow_type: str
    version: int


class WorkUnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that holds a slot of a worker, and the step that has run for longest.

    step_name: None between two steps; then `since` is when the worker claimed the execution.
    waits_for_children: it is to be undone, and its children are not over yet.
    """

    execution_id: str
    workflow_type: str | None
    step_name: str | None
    attempt: int | None
    since: datetime | None
    waits_for_children: bool = False


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that lives, or a dead one that still has claims.

    number, host, process_id, program, started_at: None if its row is not written yet, or gone.
    slots: how many executions it runs at once; None if that is not known.
    serves: the workflows that it runs. queues: the named queues that it serves; None: all of them,
    and what is in none. executions: how many it has, those that wait included.
    slots_in_use: in how many of them code runs. doing: some of these, the longest first.
    is_stopped: its process lives, but is stopped (SIGSTOP), as far as this machine knows.
    holds: some of the executions that a stopped one has; nobody takes them over.
    last_write_at: of a stopped one, when one of these was last changed: it was stopped after that.
    """

    worker_id: str
    is_alive: bool
    number: int | None
    host: str | None
    process_id: int | None
    program: str | None
    started_at: datetime | None
    slots: int | None
    slots_in_use: int
    executions: int
    serves: tuple[Served, ...]
    doing: tuple[WorkUnderWay, ...]
    is_stopped: bool = False
    holds: tuple[str, ...] = ()
    last_write_at: datetime | None = None
    queues: tuple[str, ...] | None = None

    def serves_queue(self, queue: str | None) -> bool:
        """Whether it claims what is in a queue. queue: None: what is in none."""
        return self.queues is None or queue in self.queues

    @property
    def name(self) -> str:
        """HOST:PROCESS_ID, or the beginning of its id."""
        return f"{self.worker_id[:8]}…" if self.host is None else f"{self.host}:{self.process_id}"


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """The unfinished executions of a workflow; see the view `workflow_queue`.

    living_workers: how many of the living workers run this workflow.
    """

    workflow_type: str
    version: int
    unfinished: int
    unfinished_since: datetime | None
    due: int
    due_since: datetime | None
    running: int
    waiting: int
    in_trouble: int
    blocked: int
    paused: int
    living_workers: int

    @property
    def name(self) -> str:
        return f"{self.workflow_type} v{self.version}"


class Workers(msgspec.Struct, frozen=True, kw_only=True):
    """Who works, and what there is to do, at one moment.

    workers: the living ones, and dead ones that still have claims.
    """

    workers: tuple[WorkerState, ...]
    queues: tuple[QueueState, ...]

    @property
    def living(self) -> tuple[WorkerState, ...]:
        return tuple(one for one in self.workers if one.is_alive)

    @property
    def stopped(self) -> tuple[WorkerState, ...]:
        return tuple(one for one in self.workers if one.is_stopped)

    @property
    def left_behind(self) -> int:
        """How many executions dead workers have."""
        return sum(one.executions for one in self.workers if not one.is_alive)

    @property
    def unknown(self) -> tuple[QueueState, ...]:
        """The workflows with something to do that no living worker runs."""
        return tuple(
            one for one in self.queues if not one.living_workers and one.unfinished > one.blocked
        )
