"""Pausing and resuming: one execution, all of a workflow or of a queue, everything."""

from __future__ import annotations

import itertools
from datetime import datetime

from durable_workflow_sqlite.engine import audit
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.mending import to_whoever_left_it
from durable_workflow_sqlite.engine.results import finished
from durable_workflow_sqlite.errors import QueueNotFoundError
from durable_workflow_sqlite.limits import Queue
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.records import (
    PAUSED_SIGNAL,
    ChangeScope,
    Pause,
    PauseScope,
    Schedule,
    SignalStatus,
    WorkflowExecution,
    WorkflowSignal,
    check_identifier,
)


async def pause(access: Access, execution_id: str, reason: str | None, by: str | None) -> bool:
    """See `DurableEngine.pause`."""
    _check_reason(reason)
    found = await access.load(execution_id)
    if found.status.is_terminal:
        raise finished(found, "it was not paused")
    if found.paused_at is not None and reason in (None, found.paused_reason):
        return False
    details: dict[str, object] = {} if reason is None else {"reason": reason}
    if found.paused_at is not None:
        details["was"] = found.paused_reason
    now = access.clock.now()
    entry = audit.entry(execution_id, "pause", by, now, details or None)
    is_new = await access.store.pause_execution(
        execution_id,
        _to_its_worker(execution_id, now),
        entry,
        by=entry.actor,
        reason=reason,
        now=now,
    )
    await access.paused(execution_id)
    await spread(access)
    await access.paused_below(found.root_execution_id or execution_id)
    return is_new


async def resume(access: Access, execution_id: str, by: str | None) -> bool:
    """See `DurableEngine.resume`."""
    found = await access.load(execution_id)
    now = access.clock.now()
    entry = audit.entry(execution_id, "resume", by, now, details_of(found))
    is_ended = await access.store.resume_execution(
        execution_id, to_whoever_left_it(execution_id, now), entry, now=now
    )
    if is_ended:
        await access.hasten(execution_id)
        access.look()
        await spread(access)
    return is_ended


async def spread(access: Access, at_most: int | None = None) -> None:
    """Hand pauses, and their ends, down to the descendants; or so many parts of that at most."""
    for _ in itertools.count() if at_most is None else range(at_most):
        if not await access.store.spread_pauses(access.clock.now()):
            break
    access.look()


def details_of(record: WorkflowExecution | Pause | Schedule) -> dict[str, object]:
    """What the audit log keeps of a pause that ends."""
    return {
        "paused_at": record.paused_at,
        "paused_by": record.paused_by,
        "paused_reason": record.paused_reason,
    }


def _to_its_worker(execution_id: str, now: datetime) -> WorkflowSignal:
    return WorkflowSignal(
        workflow_execution_id=execution_id,
        signal_name=PAUSED_SIGNAL,
        status=SignalStatus.DELIVERED,
        created_at=now,
    )


# As a whole


async def pause_workflow(
    access: Access, workflow_type: str, reason: str | None, by: str | None
) -> bool:
    """See `DurableEngine.pause_workflow`."""
    await _check_type(access, workflow_type, "paused")
    return await _begin(access, PauseScope.WORKFLOW, workflow_type, reason, by)


async def pause_queue(access: Access, name: str, reason: str | None, by: str | None) -> bool:
    """See `DurableEngine.pause_queue`."""
    await _check_queue(access, name, "paused")
    return await _begin(access, PauseScope.QUEUE, name, reason, by)


async def pause_all(access: Access, reason: str | None, by: str | None) -> bool:
    """See `DurableEngine.pause_all`."""
    return await _begin(access, PauseScope.ALL, "", reason, by)


async def resume_workflow(access: Access, workflow_type: str, by: str | None) -> bool:
    """See `DurableEngine.resume_workflow`."""
    if await _end(access, PauseScope.WORKFLOW, workflow_type, by):
        return True
    await _check_type(access, workflow_type, "resumed")
    return False


async def resume_queue(access: Access, name: str, by: str | None) -> bool:
    """See `DurableEngine.resume_queue`."""
    if await _end(access, PauseScope.QUEUE, name, by):
        return True
    await _check_queue(access, name, "resumed")
    return False


async def resume_all(access: Access, by: str | None) -> bool:
    """See `DurableEngine.resume_all`."""
    return await _end(access, PauseScope.ALL, "", by)


async def _begin(
    access: Access, scope: PauseScope, name: str, reason: str | None, by: str | None
) -> bool:
    _check_reason(reason)
    access.check_open()
    now = access.clock.now()
    before = await _found(access, scope, name)
    details: dict[str, object] = {} if reason is None else {"reason": reason}
    if before is not None:
        details["was"] = before.paused_reason
    entry = audit.change(ChangeScope(scope.value), name, "pause", by, now, details)
    begun = Pause(
        scope=scope,
        name=name,
        paused_at=now,
        paused_by=entry.actor,
        paused_reason=reason,
    )
    is_new = await access.store.begin_pause(begun, entry)
    await access.look_at_pauses()
    return is_new


async def _end(access: Access, scope: PauseScope, name: str, by: str | None) -> bool:
    access.check_open()
    before = await _found(access, scope, name)
    is_ended = False
    if before is not None:
        now = access.clock.now()
        details = details_of(before)
        entry = audit.change(ChangeScope(scope.value), name, "resume", by, now, details)
        is_ended = await access.store.end_pause(scope, name, entry)
    await access.look_at_pauses()
    return is_ended


async def _found(access: Access, scope: PauseScope, name: str) -> Pause | None:
    pauses = await access.store.load_pauses()
    return next((one for one in pauses if (one.scope, one.name) == (scope, name)), None)


async def _check_type(access: Access, workflow_type: str, was: str) -> None:
    """Raise ValueError for a name that no workflow has."""
    check_identifier("workflow_type", workflow_type)
    access.check_open()
    names = {one.workflow_type for one in await access.store.load_workflows()}
    names |= {name for name, _ in await access.store.load_served()}
    names |= {name for name, _ in access.registry.names_and_versions}
    if workflow_type not in names:
        hint = nearest(workflow_type, names)
        raise ValueError(f"nothing was {was}: no workflow type {workflow_type!r}{hint}")


async def _check_queue(access: Access, name: str, was: str) -> None:
    """Raise QueueNotFoundError for a queue that is not declared."""
    check_identifier("name", name)
    access.check_open()
    names = {one.name for one in await access.store.load_limits() if isinstance(one, Queue)}
    if name not in names:
        hint = nearest(name, names)
        raise QueueNotFoundError(f"nothing was {was}: no queue {name!r} is declared{hint}")


def _check_reason(reason: str | None) -> None:
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"reason must be a string or None, not {reason!r}")
    if reason is not None and not reason.strip():
        raise ValueError("reason must not be empty; leave it out if there is none")
