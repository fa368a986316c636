"""`RepeatingClient`: what a client runs again: an execution, from a step, or as another one."""

from __future__ import annotations

from typing import Any

from durable_workflow_sqlite.engine import commands, correcting, editing, enqueuing, forking
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.handle import ExecutionHandle
from durable_workflow_sqlite.engine.step_names import Results, StepName


class RepeatingClient:
    """Retries and forks executions, and reruns them."""

    def _working(self) -> Access:
        raise NotImplementedError

    def _handle_of(self, execution_id: str, result_type: Any) -> ExecutionHandle[Any]:
        raise NotImplementedError

    async def retry(
        self,
        execution_id: str,
        *,
        from_step: StepName | None = None,
        edit: Results | None = None,
        by: str | None = None,
    ) -> None:
        """Run a FAILED execution again, from the step that failed; or unblock a blocked one.

        If a step or compensation waits for its next attempt, the attempt begins at once, also if a
        worker has the execution.

        Completed steps do not run again. A wait that timed out waits again, with the same timeout.
        The time to live is removed. If compensations of a FAILED or CANCELLED execution have
        failed, these run again, and nothing else; then the execution has the same status as before.
        Signals that were sent before the end, and that no wait took, can be taken now. Refused for
        an execution that is blocked because rows of its steps were deleted by hand, until these are
        restored.

        from_step: a step, sleep or wait that has an outcome. It runs again, and also everything
            after it. Give its name, or `(branch, name)` or `(branch, name, index)` if the name
            occurs several times. The execution must be FAILED, CANCELLED, blocked or in trouble.
            All records from that outcome on are deleted, in one transaction; the audit log names
            them. A step that ran at that time begins again, with all of its attempts, and with the
            same idempotency key. A wait that was open at that time is open again, until the same
            deadline. The signals of deleted waits can be taken again. `retry` refuses if a step
            would stay that was undone, or if a step would take effect twice.
            If the execution is final, you can also name a sleep or wait that was open at its end:
            it is open again, and all records stay. If it is in trouble, you can also name a step
            or wait without an outcome: its records are deleted, and all outcomes since it began.

        edit: other results for steps that stay, as `{"price": 42}`; the names as for `from_step`.
            Each value is stored as JSON, and read as the type of the step. A failure that the
            workflow function has caught becomes a result. If a step was undone, it counts as
            done again. A step that is edited is undone later with the new value. Without
            `from_step`, a step that is in doubt, in a back-off, or failed the execution can have a
            value, too: it completes with that. The execution must be FAILED, blocked or in
            trouble. The audit log keeps the old values.

        by: as for `cancel`.

        Raises ExecutionNotFoundError. Raises ExecutionConflictError if a worker has the execution.
        Also raises it without `from_step`, if the execution is neither FAILED nor blocked and waits
        for no next attempt, or is completely undone; and with `from_step`, if the execution cannot
        run again from that step. Raises ValueError if the step does not exist, or exists several
        times. With `edit`, raises ExecutionConflictError for a step that has no result there. It
        also does so if this engine has the workflow, and the workflow would stop with these values.
        Raises TypeError or SerializationError for values that cannot be written as JSON. Nothing is
        written then.
        """
        access = self._working()
        edits = editing.checked(edit, access.store.max_payload_bytes)
        if from_step is not None:
            await commands.retry_from(access, execution_id, from_step, edits, by)
        elif edits:
            await correcting.retry_edited(access, execution_id, edits, by)
        else:
            await commands.retry(access, execution_id, by)

    async def fork(
        self,
        execution_id: str,
        *,
        before: StepName | None = None,
        edit: Results | None = None,
        new_id: str | None = None,
        version: int | None = None,
        by: str | None = None,
    ) -> ExecutionHandle[Any]:
        """Start a new execution that begins with the records of another one, up to a step.

        The steps before that one do not run again: the new execution has their results. The other
        execution may be finished or not. It does not change, and alone undoes what it did: the new
        execution undoes only steps that it runs itself.

        before: a step, sleep or wait of the other execution, named as `from_step` of `retry`. All
            that its workflow function had got before the outcome of that step is copied. By
            default everything that it has got; of a FAILED execution, all before the step that
            failed it.
        edit: other results for copied steps, as for `retry`. What lies between an edited step and
            `before` must be what the workflow does with the new value.
        new_id: the id of the new execution; by default a new UUID.
        version: the version of its workflow; by default the same as that of the other execution.
        by: as for `cancel`.

        The new execution has the same input, tags, priority, queue and key, and the same length
        of time to live, from now. It has no parent. Waits that were
        open are open until the same deadline. It gets the signals that had come when that step
        began, and that no copied wait has taken. `forked_from` and `forked_before` say where it
        comes from; the audit log of each names the other.

        You can repeat a fork with the same `new_id`. Raises ExecutionNotFoundError, and ValueError
        for a step or version that does not exist. Raises ExecutionConflictError if another
        execution has that id; if a copied step was undone or is being undone, and is not edited;
        if a child that was started before is not over; or because of `edit`, as `retry` does.
        Raises TypeError or SerializationError for values that cannot be written as JSON. Nothing
        is written then.
        """
        started = await forking.fork(
            self._working(), execution_id, before, edit, new_id, version, by
        )
        return self._handle_of(started, Any)

    async def rerun(
        self,
        execution_id: str,
        *,
        new_id: str | None = None,
        once: bool = False,
        by: str | None = None,
    ) -> ExecutionHandle[Any]:
        """Enqueue a new execution with the workflow, version, input and tags of an old one.

        It has the same priority, queue and key, and the same length of time to live. The old
        execution may have any status, and does not change. The audit log of each names the other.

        new_id: the id of the new execution; by default a new UUID.
        once: refuse if somebody has already rerun the old execution.
        by: as for `cancel`.

        Without `once`, a rerun can be repeated with the same `new_id`. Raises
        ExecutionNotFoundError, or ExecutionConflictError if another execution has that id, or
        because of `once`. Nothing is written then.
        """
        started = await enqueuing.rerun(self._working(), execution_id, new_id, by, once=once)
        return self._handle_of(started, Any)
