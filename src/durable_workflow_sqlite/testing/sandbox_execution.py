"""What `AsyncSandbox.start` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durable_workflow_sqlite import ExecutionStatus
from durable_workflow_sqlite.testing.history import History

if TYPE_CHECKING:
    from durable_workflow_sqlite.testing.sandbox import AsyncSandbox

R_co = TypeVar("R_co", covariant=True)


class AsyncSandboxExecution(Generic[R_co]):
    """What `AsyncSandbox.start` returns: as `ExecutionHandle`, through any number of crashes."""

    def __init__(self, sandbox: AsyncSandbox, execution_id: str, result_type: Any) -> None:
        self._sandbox = sandbox
        self._execution_id = execution_id
        self._result_type = result_type

    def __repr__(self) -> str:
        return f"<execution {self._execution_id!r}>"

    @property
    def execution_id(self) -> str:
        """The id of the execution."""
        return self._execution_id

    async def result(self) -> R_co:
        """Let time pass until it has ended; see `AsyncSandbox.result_of`."""
        __tracebackhide__ = True
        result: R_co = await self._sandbox.result_of(self._execution_id, self._result_type)
        return result

    async def status(self) -> ExecutionStatus:
        """How the execution stands."""
        return await self._sandbox.status(self._execution_id)

    async def history(self) -> History:
        """What is recorded of the execution."""
        return await self._sandbox.history(self._execution_id)

    async def signal(self, name: str, payload: object = None) -> None:
        """As `engine.send_signal`."""
        await self._sandbox.signal(self._execution_id, name, payload)

    async def cancel(self) -> bool:
        """As `engine.cancel`."""
        return await self._sandbox.cancel(self._execution_id)
