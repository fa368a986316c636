"""`PausingClient`: what a client pauses and resumes."""

from __future__ import annotations

from durable_workflow_sqlite.engine import pausing
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.records import Pause


class PausingClient:
    """Pauses and resumes. A pause is no status: what is paused keeps the status that it has.

    What runs ends its step: the step is recorded, and its worker then releases the execution.
    While it is paused, no other step, attempt or compensation begins, in any process. Signals are
    kept, and deadlines too. One that passes during the pause takes effect when the execution is
    resumed: a sleep ends, a wait times out, and if the time to live is over, the execution is
    undone.
    """

    def _working(self) -> Access:
        raise NotImplementedError

    async def pause(
        self, execution_id: str, *, reason: str | None = None, by: str | None = None
    ) -> bool:
        """Pause an execution until somebody resumes or cancels it, and with it what is below it.

        Its children are held as long as it is, and theirs, also those that it starts later. Those
        with `on_parent_end="detach"` go on. They are not paused themselves: their `paused_with`
        names the paused execution, and they may have a pause of their own beside it. Of 100,000
        descendants, some hundred at a time are told, in transactions of milliseconds.

        reason: why, for people. by: who pauses it; by default the user that this process runs as.

        Returns False if it was paused already. Its pause then keeps its time and its author, and
        takes the new reason, if you give one. The audit log keeps each pause and each new reason.
        Raises ExecutionNotFoundError, ExecutionFinishedError.
        """
        return await pausing.pause(self._working(), execution_id, reason, by)

    async def resume(self, execution_id: str, *, by: str | None = None) -> bool:
        """End the pause of an execution: workers may claim it at once. False if it is not paused.

        What is below it goes on, too, except what is paused itself. If an execution above it, its
        workflow, its queue or everything is paused, too, it waits until that is resumed. by: as for
        `pause`, for the audit log. Raises ExecutionNotFoundError.
        """
        return await pausing.resume(self._working(), execution_id, by)

    async def pause_workflow(
        self, workflow_type: str, *, reason: str | None = None, by: str | None = None
    ) -> bool:
        """Pause all executions of a workflow, and those that are started later, of any version.

        workflow_type: its name. reason, by: as for `pause`, and so is what is returned. New
        executions are stored, and stay PENDING. A cancel is stored, and counts after the pause; an
        execution that has not begun ends at once. Raises ValueError for a name that no workflow
        has.
        """
        return await pausing.pause_workflow(self._working(), workflow_type, reason, by)

    async def resume_workflow(self, workflow_type: str, *, by: str | None = None) -> bool:
        """End the pause of a workflow; False if it is not paused.

        Executions that are paused themselves stay paused. by: as for `resume`. Raises ValueError
        for a name that no workflow has.
        """
        return await pausing.resume_workflow(self._working(), workflow_type, by)

    async def pause_queue(
        self, name: str, *, reason: str | None = None, by: str | None = None
    ) -> bool:
        """Pause all executions in a named queue, and those that are enqueued into it later.

        name: the name of the queue. reason, by: as for `pause`, and so is what is returned. An
        execution that runs ends its step, and frees its slot. New ones are stored, and stay
        PENDING. Raises QueueNotFoundError for a queue that is not declared.
        """
        return await pausing.pause_queue(self._working(), name, reason, by)

    async def resume_queue(self, name: str, *, by: str | None = None) -> bool:
        """End the pause of a named queue; False if it is not paused.

        Executions that are paused themselves, or with their workflow, stay paused. by: as for
        `resume`. Raises QueueNotFoundError for a queue that is not declared.
        """
        return await pausing.resume_queue(self._working(), name, by)

    async def pause_all(self, *, reason: str | None = None, by: str | None = None) -> bool:
        """Pause everything in this store, as `pause_workflow` does for each workflow."""
        return await pausing.pause_all(self._working(), reason, by)

    async def resume_all(self, *, by: str | None = None) -> bool:
        """End the pause of everything; False if there is none.

        Workflows, queues and executions that are paused themselves stay paused. by: as for
        `resume`.
        """
        return await pausing.resume_all(self._working(), by)

    async def pauses(self) -> list[Pause]:
        """What is paused as a whole: everything, and workflows and queues by name.

        An execution that is paused itself says so in its record, which `load` returns.
        """
        access = self._working()
        access.check_open()
        return await access.store.load_pauses()
