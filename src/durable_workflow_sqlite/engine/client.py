"""`Client`: starts, signals, awaits and repairs executions, in whatever process they run."""

from __future__ import annotations

import inspect
from asyncio import events
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

from durable_workflow_sqlite.engine import (
    acknowledging,
    cancelling,
    commands,
    following,
    observing,
    resolving,
)
from durable_workflow_sqlite.engine.access import Access, refuse_in_a_workflow_function
from durable_workflow_sqlite.engine.answering_client import AnsweringClient
from durable_workflow_sqlite.engine.clock import Clock, SystemClock
from durable_workflow_sqlite.engine.enqueuing_client import EnqueuingClient
from durable_workflow_sqlite.engine.following import End, Item, Reset
from durable_workflow_sqlite.engine.handle import ExecutionHandle
from durable_workflow_sqlite.engine.limiting_client import LimitingClient
from durable_workflow_sqlite.engine.outcome import Cancellation
from durable_workflow_sqlite.engine.pausing_client import PausingClient
from durable_workflow_sqlite.engine.repeating_client import RepeatingClient
from durable_workflow_sqlite.engine.scheduling_client import SchedulingClient
from durable_workflow_sqlite.engine.step_names import StepName
from durable_workflow_sqlite.engine.workflow import WorkflowRegistry
from durable_workflow_sqlite.loops import LoopBinding, NoLoop
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import Progress, WorkflowExecution, check_identifier

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class Client(
    PausingClient,
    LimitingClient,
    SchedulingClient,
    AnsweringClient,
    EnqueuingClient,
    RepeatingClient,
):
    """Starts, signals, cancels, observes, awaits and repairs executions; it runs none itself.

    Creating a client costs nothing: it reads and recovers nothing, and needs no closing. Use it in
    one event loop, the same as its store. `DurableEngine` is a client that also runs executions.

    store: any `CheckpointStore`. The client does not close it.
    clock: where the time comes from.

    Raises TypeError for anything but a store.
    """

    def __init__(self, store: CheckpointStore, *, clock: Clock | None = None) -> None:
        check_store(store)
        self._store = store
        self._clock = clock or SystemClock()
        self._access: Access | None = None

    def _working(self) -> Access:
        """The access to the store; raises if this client may not be used here."""
        access = self._access
        if access is not None and events._get_running_loop() is access.binding.loop:
            return access
        refuse_in_a_workflow_function()
        if access is None:
            access = Access(LoopBinding("this client"), self._store, self._clock, self._known())
            self._access = access
        access.binding.check()
        return access

    def _within(self, connection: Any) -> Access:
        """The access to the store in the transaction of a connection."""
        refuse_in_a_workflow_function()
        return Access(NoLoop(), self._store.joined(connection), self._clock, self._known())

    def _known(self) -> WorkflowRegistry:
        """The workflows whose code is known here."""
        return WorkflowRegistry(())

    def handle(self, execution_id: str) -> ExecutionHandle[Any]:
        """A handle to any execution; its result comes as plain JSON data."""
        check_identifier("execution_id", execution_id)
        return self._handle_of(execution_id, Any)

    def _handle_of(self, execution_id: str, result_type: Any) -> ExecutionHandle[Any]:
        return ExecutionHandle(self, execution_id, result_type)

    async def trigger(self, name: str, *, by: str | None = None) -> ExecutionHandle[Any]:
        """Start an execution of a schedule now, also if it is paused, and whatever `overlap` says.

        The times of the schedule stay as they are. by: who asks, for the audit log; by default the
        user that this process runs as. Raises ScheduleNotFoundError.
        """
        return self.handle(await self._trigger(name, by))

    async def load(self, execution_id: str) -> WorkflowExecution:
        """The stored record of an execution. Raises ExecutionNotFoundError."""
        return await self._working().load(execution_id)

    async def cancel(self, execution_id: str, *, by: str | None = None) -> Cancellation:
        """Ask an execution to stop, undo what it did, and end CANCELLED.

        by: who asks, for the audit log; by default the user that this process runs as.

        Returns the result; it is false only for REFUSED. ASKED: a worker undoes and ends it.
        ENDED: it is CANCELLED already. REFUSED: it is failing, or being cancelled already.

        An execution ends at once if no worker has it and it has not begun. A cancel ends the pause
        of an execution that is paused itself. A blocked execution, or
        one in trouble, also ends at once if its records have nothing to undo. If a blocked
        execution has something to undo, it is unblocked, and a worker undoes it; its function does
        not continue. To undo an execution in trouble, a worker needs code that fits its history:
        use the old code, or `retry` from the first step that differs.

        The request is stored, so it is kept if this process ends. An execution that runs in another
        process may still end before it gets the request. Raises ExecutionNotFoundError, and
        ExecutionFinishedError for an execution that is finished, also if it is CANCELLED.
        """
        return await cancelling.cancel(self._working(), execution_id, by)

    async def observe(self, execution_id: str) -> AsyncIterator[WorkflowExecution]:
        """Every state of an execution: the current one first, the last one final.

        For an execution in another process, the store is read from time to time, so a state that
        lasts only a moment may be missed. Raises ExecutionNotFoundError.
        """
        async with aclosing(observing.states(self._working(), execution_id)) as states:
            async for state in states:
                yield state

    async def follow(
        self, execution_id: str, *, step: StepName | None = None, after: str | None = None
    ) -> AsyncIterator[Item | Reset | Progress | End]:
        """What the actions of an execution put into their streams, as they do: `step_stream`.

        It begins with the first item of all, and ends with `End`, when the execution is over. If a
        step runs again, `Reset` comes, and then the items of the new attempt. The store is read
        from time to time: an item comes up to 30 ms after it was written. `Progress` comes where
        `report_progress` or `ctx.progress` has reported another one, up to 0.1 seconds later.

        step: only what this step tells, named as for `retry`. It ends when the step has its
            outcome; given by its name alone, when all its steps of that name that have begun do.
        after: the `cursor` of an item, behind which it goes on.

        Raises ExecutionNotFoundError, also if the execution is deleted meanwhile; TypeError or
        ValueError for what names no step or is no cursor.
        """
        items = following.follow(self._working(), execution_id, step, after)
        async with aclosing(items) as found:
            async for one in found:
                yield one

    async def progress(self, execution_id: str) -> list[Progress]:
        """What an execution has reported last: by `ctx.progress`, and each step by
        `report_progress`.

        They are in the order of their branches and steps; in each branch, the workflow function
        comes first. Raises ExecutionNotFoundError.
        """
        return await following.progress(self._working(), execution_id)

    @overload
    async def result_of(self, execution_id: str) -> Any: ...

    @overload
    async def result_of(self, execution_id: str, result_type: TypeForm[T]) -> T: ...

    async def result_of(self, execution_id: str, result_type: Any = Any) -> Any:
        """Wait for the result of an execution in any process; see `ExecutionHandle.result`."""
        return await observing.result_of(self._working(), execution_id, result_type)

    async def unblock(
        self, execution_id: str, *, without_rows: bool = False, by: str | None = None
    ) -> bool:
        """Unblock an execution, so that workers claim it again; False if it was not blocked.

        without_rows: also if rows of its steps were deleted by hand and are not restored. Such a
            step may run again. The audit log keeps which rows are missing.
        by: as for `cancel`.

        Raises ExecutionNotFoundError, and ExecutionConflictError if such rows are missing.
        """
        access = self._working()
        return await commands.unblock(access, execution_id, by, without_rows=without_rows)

    async def resolve(
        self,
        execution_id: str,
        step: StepName,
        value: object = None,
        *,
        not_done: bool = False,
        failed: str | None = None,
        by: str | None = None,
    ) -> None:
        """Continue an execution as if a step had returned a value, without running the step.

        It also answers what became of a step with `in_doubt="ask"`: it returned the value;
        `not_done`: it has not taken effect, and runs again; `failed`: it raises StepAmbiguousError
        with this text. For a compensation, name "STEP:compensate".

        step: named as `from_step` of `retry`. The step failed its execution (if nothing was
            undone), is in doubt or in a back-off, or has a stored result that cannot be read. The
            execution may be blocked or in trouble. A sleep ends now.
        value: stored as JSON, and read as the type of the step when the execution continues. If it
            does not fit, the execution stops in trouble, and you may resolve the step again; an
            answer that does not fit is refused. For a sleep: None. by: as for `cancel`.

        If a worker waits for the step's next attempt or for the answer, it takes the value instead.
        In all other cases, no worker may have the execution.

        The step counts as completed: if the execution is undone later, its compensation is called
        with that value. A blocked execution is unblocked.

        Raises ExecutionNotFoundError; ValueError as `retry` does; SerializationError for a value
        that cannot be written as JSON. Raises ExecutionConflictError if the step needs no value,
        or if a worker has the execution, this engine included, and does not take the value.
        Nothing is written then.
        """
        how = resolving.How(value, not_done, failed)
        await resolving.resolve(self._working(), execution_id, step, how, by)

    async def acknowledge(
        self,
        execution_id: str,
        *,
        step: StepName | None = None,
        note: str | None = None,
        by: str | None = None,
    ) -> int:
        """Say that a person has dealt with the problems that a final execution has left.

        The person has undone by hand what failed compensations did not undo. The person has also
        found out whether steps that were cut off or timed out took effect. These steps leave the
        lists of `doctor` and the dashboard, and `retry` does not run their compensations again.
        Returns the number of these steps.

        step: a step whose compensation has failed, named as for `retry`. A person has undone it:
            the compensation is not tried again, and the execution continues with the others. It may
            be COMPENSATING, also in a worker that waits for the next try.
        note: why, or how, for the audit log. by: as for `cancel`.

        Raises ExecutionNotFoundError; ExecutionConflictError if the execution is not final, or with
        `step`, if a worker runs the compensation right now or there is none to acknowledge;
        ValueError for a step that is not there.
        """
        access = self._working()
        if step is not None:
            return await acknowledging.acknowledge_step(access, execution_id, step, by, note)
        return await acknowledging.acknowledge(access, execution_id, by, note)


def check_store(store: object) -> None:
    """Raise TypeError for anything but a store."""
    if not inspect.iscoroutinefunction(getattr(store, "save", None)):
        raise TypeError(
            "store must be a CheckpointStore with async methods, such as open_store(path) gives;"
            f" it is {store!r}"
        )
