"""`Client`: starts, signals, awaits and repairs executions, in whatever process they run."""

from __future__ import annotations

import inspect
from asyncio import events
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

from durable_workflow_sqlite.engine import (
    by_name,
    cancelling,
    commands,
    observing,
    resolving,
    starting,
)
from durable_workflow_sqlite.engine.access import Access, refuse_in_a_workflow_function
from durable_workflow_sqlite.engine.clock import Clock, SystemClock
from durable_workflow_sqlite.engine.handle import ExecutionHandle
from durable_workflow_sqlite.engine.outcome import Cancellation
from durable_workflow_sqlite.engine.places import StepName
from durable_workflow_sqlite.engine.workflow import (
    Startable,
    WorkflowRegistry,
    check_workflow,
)
from durable_workflow_sqlite.loops import LoopBinding
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import WorkflowExecution, check_identifier, check_tags

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class Client:
    """Starts, signals, cancels, observes, awaits and repairs executions; it runs none itself.

    It costs nothing to create one: nothing is read, and nothing is recovered. It needs no closing.
    It is used from one event loop, as its store is. `DurableEngine` is a client that also works.

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
        """What everything is done with; raises if it cannot be done here."""
        access = self._access
        if access is not None and events._get_running_loop() is access.binding.loop:
            return access
        refuse_in_a_workflow_function()
        if access is None:
            access = Access(
                LoopBinding("this client"), self._store, self._clock, WorkflowRegistry(())
            )
            self._access = access
        access.binding.check()
        return access

    async def enqueue(
        self,
        workflow: Startable[*Ts, R],
        *args: *Ts,
        execution_id: str | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        ttl: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> ExecutionHandle[R]:
        """Store an execution for whichever worker has the workflow registered.

        execution_id: an id that you choose; by default a new UUID. If an execution has this id
            already, this attaches to it. So you can repeat an enqueue until it has worked.
        delay: no worker claims the execution before this time has passed.
        priority: executions with a higher number are claimed first; then older executions.
        ttl: how long the execution may take; then it is compensated and FAILED.
        tags: names and values to find it by, as `{"customer": "7"}`; they stay as they are.
            An execution that has this id already keeps its old tags.

        Raises ExecutionConflictError if the id belongs to another workflow or input. Raises
        SerializationError for input that would not come back as it is, or such a type of the
        result; TypeError for arguments that the workflow does not take. Nothing is written then.
        """
        access = self._working()
        timing = starting.timing(access.clock.now(), delay=delay, priority=priority, ttl=ttl)
        tags = check_tags(tags)
        definition = check_workflow(workflow)
        record = starting.queued_record(
            definition.record, definition.encode_input(args), execution_id, timing
        )
        handle: ExecutionHandle[R] = ExecutionHandle(
            self, record.workflow_execution_id, definition.result_type
        )
        await starting.enqueue(access, definition.record, record, tags)
        return handle

    def handle(self, execution_id: str) -> ExecutionHandle[Any]:
        """A handle to any execution; its result comes as plain JSON data."""
        check_identifier("execution_id", execution_id)
        return ExecutionHandle(self, execution_id, Any)

    async def enqueue_named(
        self,
        type: str,  # noqa: A002 - the word that the tables have
        args: Sequence[object] = (),
        *,
        version: int | None = None,
        execution_id: str | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        ttl: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> ExecutionHandle[Any]:
        """Store an execution for the workers, as `enqueue`, without the code of its workflow.

        type: the name of the workflow; executions of it must have been stored before, or a living
            worker or this engine has it registered. version: by default the newest one.
        args: the list of the arguments, stored as JSON. If this engine has the workflow, they are
            checked. Otherwise a worker finds out: if its code cannot read them, the execution
            stops in trouble before it begins, and can be cancelled.

        The other arguments are as for `enqueue`. Raises ValueError for a type or version that is
        not known, and names the nearest type; ExecutionConflictError, SerializationError and, if
        this engine has the workflow, TypeError as `enqueue` does. Nothing is written then.
        """
        access = self._working()
        timing = starting.timing(access.clock.now(), delay=delay, priority=priority, ttl=ttl)
        tags = check_tags(tags)
        stored = await by_name.enqueue_named(
            access, type, args, version, execution_id, timing, tags
        )
        return self.handle(stored)

    async def load(self, execution_id: str) -> WorkflowExecution:
        """The record as stored. Raises ExecutionNotFoundError."""
        return await self._working().load(execution_id)

    async def send_signal(self, execution_id: str, name: str, payload: object = None) -> None:
        """Send a message to an execution; it is kept until the workflow waits for it.

        payload: stored as JSON. Raises ExecutionNotFoundError, ExecutionConflictError for a
        finished execution, SerializationError for a payload that cannot be written as JSON.
        """
        await commands.send_signal(self._working(), execution_id, name, payload)

    async def cancel(self, execution_id: str, *, by: str | None = None) -> Cancellation:
        """Ask an execution to stop, undo what it did, and end CANCELLED.

        by: who asks, for the audit log; by default the user that this process runs as.

        Returns the result; it is false only for REFUSED. ASKED: a worker undoes and ends it.
        ENDED: it is CANCELLED already. REFUSED: it is finished, failing, or being cancelled
        already. An execution ends at once if no worker has it and it has not begun. So does one
        that is blocked or in trouble, if its records have nothing to undo. A blocked one with
        something to undo is unblocked; its function does not continue. To undo one in trouble, a
        worker needs code that fits what is recorded: the old code, or `retry` from the first step
        that differs.

        The request is stored, so it is kept if this process ends. An execution that runs in another
        process may still end before it gets the request. Raises ExecutionNotFoundError.
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

    @overload
    async def result_of(self, execution_id: str) -> Any: ...

    @overload
    async def result_of(self, execution_id: str, result_type: TypeForm[T]) -> T: ...

    async def result_of(self, execution_id: str, result_type: Any = Any) -> Any:
        """Wait for the end of an execution, wherever it runs; see `ExecutionHandle.result`."""
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

    async def retry(
        self, execution_id: str, *, from_step: StepName | None = None, by: str | None = None
    ) -> None:
        """Run a FAILED execution again, from the step that failed; or unblock a blocked one.

        A step or compensation that waits for its next attempt is tried at once, also where a
        worker has the execution.

        Completed steps do not run again. A wait that timed out waits again, with the same timeout.
        The time to live is removed. If compensations of a FAILED or CANCELLED execution have
        failed, these run again, and nothing else; then it ends as it had ended. Signals that were
        sent and not taken before the end may be taken now. An execution that is blocked since rows
        of its steps were deleted by hand is refused until these are restored.

        from_step: a step, sleep or wait that has its outcome: it runs again, and all that came
            after it. Its name, or `(branch, name)` or `(branch, name, index)` where the name
            occurs several times. The execution must be FAILED, CANCELLED, blocked or in trouble.
            All that was recorded from that outcome on is forgotten, in one transaction; the audit
            log names it. A step that was not over by then begins again, with all of its attempts,
            and with the same idempotency key. A wait that was open by then is open again, until
            the same deadline. The signals of waits that are forgotten can be taken again. Refused
            if what was undone would stay, or what stands would be done twice.
            If the execution is over, you can also name a sleep or wait that was open at its end:
            it is open again, and all that was recorded stays.

        by: as for `cancel`.

        Raises ExecutionNotFoundError; ExecutionConflictError for an execution that a worker has;
        without `from_step`, for one that is neither FAILED nor blocked nor waits for a next
        attempt, or is undone to the end;
        with it, for one that cannot be run again from that step; ValueError for a step that is not
        there, or is there several times. Nothing is written then.
        """
        access = self._working()
        if from_step is None:
            await commands.retry(access, execution_id, by)
        else:
            await commands.retry_from(access, execution_id, from_step, by)

    async def resolve(
        self, execution_id: str, step: StepName, value: object = None, *, by: str | None = None
    ) -> None:
        """Let an execution go on as if a step had returned a value, without running it.

        step: named as `from_step` of `retry`. One that failed its execution (if nothing was
            undone), that is in doubt or in a back-off, or whose stored result cannot be read. The
            execution may be blocked, or in trouble. A sleep ends now.
        value: stored as JSON, and read as the type of the step when the execution goes on. If it
            does not fit, the execution stops in trouble, and you may resolve the step again. For a
            sleep: None.
        by: as for `cancel`.

        If a worker waits for the time of the step's next attempt, it takes the value instead. Else
        no worker may have the execution.

        The step counts as completed: if the execution is undone later, its compensation is called
        with that value. A blocked execution is unblocked.

        Raises ExecutionNotFoundError; ValueError as `retry` does; SerializationError for a value
        that cannot be written as JSON. Raises ExecutionConflictError if the step needs no value,
        or if a worker has the execution, this engine included, and does not take the value.
        Nothing is written then.
        """
        await resolving.resolve(self._working(), execution_id, step, value, by)

    async def rerun(
        self,
        execution_id: str,
        *,
        new_id: str | None = None,
        once: bool = False,
        by: str | None = None,
    ) -> ExecutionHandle[Any]:
        """Enqueue an execution once more: a new one with the same workflow, version, input, tags.

        It has the same priority and, from now on, as much time to live. The old one may be in any
        state, and stays as it is. The audit logs of both name the other.

        new_id: of the new execution; by default a new UUID. once: refuse it if somebody has started
            the old one once more before. by: as for `cancel`.

        Without `once`, a rerun can be repeated with the same `new_id`. Raises
        ExecutionNotFoundError, or ExecutionConflictError if another execution has that id, or
        because of `once`. Nothing is written then.
        """
        return self.handle(
            await by_name.rerun(self._working(), execution_id, new_id, by, once=once)
        )

    async def acknowledge(self, execution_id: str, *, by: str | None = None) -> int:
        """Say that a person has dealt with what an execution that is over has left.

        A person has undone by hand what the failed compensations did not undo, and has found out
        what became of steps that were cut off. These steps leave the lists of `doctor` and the
        dashboard, and `retry` does not run their compensations again. Returns the number of these
        steps. by: as for `cancel`.

        Raises ExecutionNotFoundError, or ExecutionConflictError for one that is not over.
        """
        return await commands.acknowledge(self._working(), execution_id, by)


def check_store(store: object) -> None:
    """Raise TypeError for anything but a store."""
    if not inspect.iscoroutinefunction(getattr(store, "save", None)):
        raise TypeError(
            "store must be a CheckpointStore, whose methods are async, as that of open_store(path)"
            f" is; not {store!r}"
        )
