"""`Access`: what a client reaches of a store, and of the worker beside it where there is one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from durable_workflow_sqlite.engine.body_loop import BodyLoop
from durable_workflow_sqlite.engine.changes import ChangePoller
from durable_workflow_sqlite.engine.clock import Clock
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.results import not_found
from durable_workflow_sqlite.engine.workflow import WorkflowRegistry
from durable_workflow_sqlite.errors import NonDeterministicCallError
from durable_workflow_sqlite.loops import LoopBinding
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    StepCheckpoint,
    Workflow,
    WorkflowExecution,
    WorkflowPatch,
    WorkflowSignal,
)


class States:
    """The states of an execution that a caller has not seen yet.

    Not a queue of asyncio: to wait for one of these begins no task, which could be left behind.
    """

    def __init__(self) -> None:
        self._states: deque[WorkflowExecution] = deque()
        self._next: asyncio.Future[WorkflowExecution] | None = None

    def put_nowait(self, state: WorkflowExecution) -> None:
        if self._next is None or self._next.done():
            self._states.append(state)
        else:
            self._next.set_result(state)

    def next(self) -> asyncio.Future[WorkflowExecution]:
        """The next state. One caller at a time waits for it, and may cancel that."""
        self._next = asyncio.get_running_loop().create_future()
        if self._states:
            self._next.set_result(self._states.popleft())
        return self._next


class Access:
    """A client's: no worker is beside it. `OpenEngine` is an engine's.

    binding: the event loop and the process that it is used in.
    registry: the workflows whose code is known here.
    executions: those in memory here, by their ids.
    """

    def __init__(
        self, binding: LoopBinding, store: CheckpointStore, clock: Clock, registry: WorkflowRegistry
    ) -> None:
        self.binding = binding
        self.store = store
        self.clock = clock
        self.registry = registry
        self.changes = ChangePoller(store)
        self.executions: dict[str, Execution] = {}
        self._listeners: dict[str, set[States]] = {}

    def check_open(self) -> None:
        """Raise EngineStoppedError if nothing may be done here any more."""

    async def load(self, execution_id: str) -> WorkflowExecution:
        """The record as stored. Raises ExecutionNotFoundError."""
        self.check_open()
        found = await self.store.load_execution(execution_id)
        if found is None:
            raise not_found(execution_id)
        return found

    # The worker beside it

    def look(self) -> None:
        """There may be something to claim."""

    def look_at_schedules(self) -> None:
        """A schedule has changed."""

    async def resume(self, record: WorkflowExecution) -> None:
        """Claim one execution now, if that can be done here."""

    async def until_released(self, execution_id: str) -> None:
        """Wait until the worker here has released its claim, if it is about to."""

    def on_signal_sent(self, signal: WorkflowSignal) -> None:
        """Tell the worker here of a signal that was sent through this, or a request to cancel."""

    async def hasten(self, execution_id: str) -> None:
        """Somebody has ended pauses of an execution before their time: tell the worker here."""

    async def paused(self, execution_id: str) -> None:
        """Somebody has paused an execution: tell the worker here."""

    async def paused_below(self, root: str) -> None:
        """The pause of an execution has reached what is below it, in the tree of this root."""

    async def look_at_pauses(self) -> None:
        """A pause of a workflow or of everything has begun or ended: tell the worker here."""

    def trouble_of(self, execution_id: str) -> BaseException | None:
        """Why the worker here does not claim an execution again by itself; None if it does."""
        return None

    def why_unfit(
        self,
        workflow: Workflow,
        record: WorkflowExecution,
        checkpoints: Iterable[StepCheckpoint],
        patches: Iterable[WorkflowPatch],
    ) -> Exception | None:
        """With what the code here would leave an execution that had these records; else None."""
        return None

    async def will_claim(self, record: WorkflowExecution) -> bool:
        """Whether the worker here claims one that it had left as it is, without being told."""
        return False

    def ended_at_once(self, record: WorkflowExecution, before: ExecutionStatus) -> None:
        """An execution that no worker had was ended by a caller."""
        self.changes.changed(record.workflow_execution_id)

    # Whoever hears of how they stand

    def listen(self, execution_id: str) -> States:
        """Where the states of an execution come in from now on, while it is in memory here."""
        states = States()
        self._listeners.setdefault(execution_id, set()).add(states)
        return states

    def listen_no_more(self, execution_id: str, states: States) -> None:
        listeners = self._listeners[execution_id]
        listeners.discard(states)
        if not listeners:
            del self._listeners[execution_id]


def refuse_in_a_workflow_function() -> None:
    """Raise where a workflow function asks for the engine."""
    loop = asyncio.events._get_running_loop()
    if isinstance(loop, BodyLoop):
        raise loop.refuse(
            NonDeterministicCallError(
                "a workflow function cannot use an engine or a handle: a replay could not repeat"
                " the call. Do it in a step: `await ctx.step(name, function, ...)`",
                call="the engine",
            )
        )
