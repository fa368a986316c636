"""`ExecutionHandle`: one execution, from the outside."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from durable_workflow_sqlite.engine.outcome import Cancellation, SignalResult
from durable_workflow_sqlite.records import ExecutionStatus, WorkflowExecution

R_co = TypeVar("R_co", covariant=True)


class Commands(Protocol):
    """The methods of a client that a handle calls."""

    async def result_of(self, execution_id: str, result_type: Any) -> Any: ...

    async def load(self, execution_id: str) -> WorkflowExecution: ...

    async def cancel(self, execution_id: str) -> Cancellation: ...

    async def send_signal(
        self, execution_id: str, name: str, payload: object, *, key: str | None
    ) -> SignalResult: ...


class ExecutionHandle(Generic[R_co]):
    """What `engine.start`, `client.enqueue` and `client.handle` return."""

    def __init__(self, client: Commands, execution_id: str, result_type: Any) -> None:
        self._client = client
        self._execution_id = execution_id
        self._result_type = result_type

    def __repr__(self) -> str:
        return f"<execution {self._execution_id!r}>"

    @property
    def execution_id(self) -> str:
        """The id of the execution."""
        return self._execution_id

    async def result(self) -> R_co:
        """Wait for the end of the execution, and return the result of the workflow.

        Raises WorkflowFailedError (WorkflowExpiredError if the time to live ran out) or
        WorkflowCancelledError if the execution ended FAILED or CANCELLED. If the execution is left
        unfinished, raises what stopped it: for example EngineStoppedError, StoreError,
        ClaimLostError, NonDeterminismError or ExecutionBlockedError. It raises the same if another
        process left the execution in trouble, unless this engine claims it again. After a
        StoreBusyError or StoreFullError, the execution continues by itself, and you may call this
        again. If no worker has the workflow registered, this waits for such a worker.
        """
        result: R_co = await self._client.result_of(self._execution_id, self._result_type)
        return result

    async def status(self) -> ExecutionStatus:
        """The stored status. Raises ExecutionNotFoundError if the execution was deleted."""
        return (await self._client.load(self._execution_id)).status

    async def cancel(self) -> Cancellation:
        """The same as `engine.cancel`. Raises ExecutionFinishedError if the execution is over."""
        return await self._client.cancel(self._execution_id)

    async def signal(
        self, name: str, payload: object = None, *, key: str | None = None
    ) -> SignalResult:
        """The same as `engine.send_signal`; raises ExecutionFinishedError if it is over."""
        return await self._client.send_signal(self._execution_id, name, payload, key=key)
