"""A step that goes on as if it had returned what a person says."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from durable_workflow_sqlite.engine import audit, deleted_rows, serialization
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.answering import answer, check_answer, refuse_unasked
from durable_workflow_sqlite.engine.given import given, in_place_of_the_next, left
from durable_workflow_sqlite.engine.history import (
    Place,
    RecordedHistory,
    StepHistory,
    place_in_words,
)
from durable_workflow_sqlite.engine.mending import (
    Change,
    as_open,
    mend,
    refused,
    to_whoever_left_it,
)
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.reopening import what_failed, without_events
from durable_workflow_sqlite.engine.step_names import StepName, check_step, find_step, in_words
from durable_workflow_sqlite.engine.wait_records import timer_of
from durable_workflow_sqlite.errors import (
    ExecutionConflictError,
    SerializationError,
    StoreCorruptError,
)
from durable_workflow_sqlite.records import (
    COMPENSATION_SUFFIX,
    AuditEntry,
    ExecutionStatus,
    Record,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TakenExecution,
    TimerStatus,
    WorkflowExecution,
)

ACT = "resolve"

BACK_OFF: Final = "in a back-off"


class How(NamedTuple):
    """What a person says of a step: what it returned, that it is not done, or why it fails."""

    value: object
    not_done: bool = False
    failed: str | None = None


async def resolve(
    access: Access, execution_id: str, step: StepName, how: How, by: str | None
) -> None:
    """See `DurableEngine.resolve`."""
    check_step(step)
    check_answer(how.value, not_done=how.not_done, failed=how.failed)
    text = serialization.to_json(how.value, "the value")
    check_size(text, access.store.max_payload_bytes, "the value")
    is_value = not how.not_done and how.failed is None
    given_text = text if is_value else None
    if await answer(access, execution_id, step, given_text, audit.noted(text), how.failed, by):
        return
    if not is_value:
        await refuse_unasked(access, execution_id, step)
    _refuse_compensation(execution_id, step)
    if execution_id in access.executions:
        await _check_needs_no_signal(access, execution_id, step)

    async def plan(seen: TakenExecution, now: datetime) -> Change:
        record = seen.execution
        if missing := deleted_rows.still_missing(record, seen.checkpoints):
            raise refused(
                execution_id,
                deleted_rows.why_refused("has not taken the value", missing, seen.checkpoints),
            )
        history = RecordedHistory(seen.checkpoints, seen.pending_timers)
        place, found = find_step(execution_id, history, step)
        log = await access.store.load_audit_log(execution_id)
        was = _standing(seen, place, found, log)
        last = found.last
        assert last is not None
        if last.kind is StepKind.SLEEP and text != "null":
            raise refused(
                execution_id, f"has not taken the value: {in_words(last)} returns none; give null"
            )
        details: dict[str, object] = {
            "step": in_words(last),
            "was": was,
            "value": audit.noted(text),
        }
        if record.blocked_reason is not None:
            details["blocked"] = record.blocked_reason
        before = await given(access.store, execution_id)
        return Change(
            resumed(record, now),
            [
                *resolved(last, was, text, history, now),
                *left(before, [place]),  # the last value counts
                audit.entry(execution_id, ACT, by, now, details),
                to_whoever_left_it(execution_id, now),
            ],
        )

    try:
        _, after = await mend(access, execution_id, plan)
    except ExecutionConflictError:
        if not await _told_its_worker(access, execution_id, step, text, by):
            raise
    else:
        await access.resume(after)


def _refuse_compensation(execution_id: str, step: StepName) -> None:
    name = step if isinstance(step, str) else step[1]
    undone = name.removesuffix(COMPENSATION_SUFFIX)
    if undone != name:
        raise refused(
            execution_id,
            f"has not taken the value: {name!r} is a compensation, which returns none. If a person"
            f" has undone the step, acknowledge that (acknowledge --step {undone})",
        )


async def _told_its_worker(
    access: Access, execution_id: str, step: StepName, text: str, by: str | None
) -> bool:
    """Give the value instead of the next attempt, to the worker that waits for its time.

    False if the step is not in a back-off, or is no more.
    """
    record = await access.load(execution_id)
    try:
        history = RecordedHistory(await access.store.load_checkpoints(execution_id))
        _, found = find_step(execution_id, history, step)
    except (StoreCorruptError, ValueError):
        return False  # which has been said
    last = found.last
    if last and found.compensation and not record.status.is_terminal:
        raise _is_being_undone(execution_id, last)
    if last is None or record.status.is_terminal or not _is_in_a_back_off(found):
        return False
    now = access.clock.now()
    details: dict[str, object] = {
        "step": in_words(last),
        "was": BACK_OFF,
        "value": audit.noted(text),
    }
    told = await access.store.hasten_attempts(
        execution_id,
        in_place_of_the_next(last, text, now),
        audit.entry(execution_id, ACT, by, now, details),
        to_whoever_left_it(execution_id, now),
        only=last,
        now=now,
    )
    if told:
        await access.hasten(execution_id)
    return bool(told)


def _is_in_a_back_off(step: StepHistory) -> bool:
    last = step.last
    return last is not None and last.kind is StepKind.STEP and step.pauses


async def _check_needs_no_signal(access: Access, execution_id: str, step: StepName) -> None:
    """Say of a wait what it needs, and not that this engine has the execution."""
    history = RecordedHistory(await access.store.load_checkpoints(execution_id), [])
    with suppress(ValueError):
        last = find_step(execution_id, history, step)[1].last
        if last is not None and last.kind is StepKind.SIGNAL and last.status is StepStatus.INTENT:
            raise _needs_a_signal(execution_id, last, "")


def _needs_a_signal(execution_id: str, wait: StepCheckpoint, when: str) -> ExecutionConflictError:
    return refused(
        execution_id,
        f"has not taken the value: {in_words(wait)} waits for a signal. Send it that signal{when}",
    )


def _is_being_undone(execution_id: str, step: StepCheckpoint) -> ExecutionConflictError:
    return refused(
        execution_id,
        f"undoes {in_words(step)} already: what it returned is known, and a compensation takes no"
        " value. If a person has undone it, acknowledge that (acknowledge --step"
        f" {step.step_name})",
    )


def _standing(seen: TakenExecution, place: Place, step: StepHistory, log: list[AuditEntry]) -> str:
    """How the step stands, in words. Raises ExecutionConflictError if nobody can resolve it."""
    record, last = seen.execution, step.last
    execution_id, status = record.workflow_execution_id, record.status
    assert last is not None
    name = in_words(last)
    if status in (ExecutionStatus.COMPLETED, ExecutionStatus.CANCELLED):
        instead = "A fork of it can have another result there (fork, edit=)"
        if status is ExecutionStatus.CANCELLED:
            instead += ", and so can it itself, run again from a step (retry, from_step=, edit=)"
        raise refused(execution_id, f"is {status}: nothing waits for {name} any more. {instead}")
    if last.kind is StepKind.SIGNAL:
        when = " after a retry" if status is ExecutionStatus.FAILED else ""
        raise _needs_a_signal(execution_id, last, when)
    if status is ExecutionStatus.FAILED and any(one.attempt == 0 for one in seen.checkpoints):
        raise refused(
            execution_id,
            "was compensated: what its steps did is undone. Rerun it, or run it"
            " again from a step before what was undone. Or say which results count now of the steps"
            " that were undone (edit= of retry with from_step=, or of fork)",
        )
    if step.compensation is not None:
        raise _is_being_undone(execution_id, last)
    was = ""
    if status is ExecutionStatus.FAILED:
        was = "failed" if what_failed(record, seen.checkpoints) == last else ""
    elif last.kind is StepKind.SLEEP:
        is_open = last.status is StepStatus.INTENT and status is not ExecutionStatus.COMPENSATING
        was = "sleeping" if is_open else ""
    elif last.status is StepStatus.FAILED and last.event is None and last.due_at is not None:
        was = BACK_OFF
    elif step.is_in_doubt and last.event is None:
        was = "in doubt"
    elif last.status is StepStatus.COMPLETED and _is_unreadable(record, place, last, log):
        was = "unreadable"
    if was:
        return was
    if last.kind is StepKind.SLEEP and last.status is StepStatus.COMPLETED:
        raise refused(execution_id, f"needs no value: {name} is over, and a sleep takes no value")
    raise refused(
        execution_id,
        f"needs no value for {name}, which is {last.status}: its workflow function has got"
        " that, or was cancelled there. You can resolve only a step that failed the execution,"
        " is in doubt, waits for its next attempt, or whose result cannot be read."
        " To replace another result, retry it with edit= (and from_step=, where it is to go on), or"
        " fork it with edit=",
    )


def _is_unreadable(
    record: WorkflowExecution, place: Place, last: StepCheckpoint, log: list[AuditEntry]
) -> bool:
    """Whether its value does not fit, as far as anybody has tried; so it can be set once more."""
    trouble = record.trouble or ""
    if trouble.startswith(SerializationError.__qualname__) and (
        f"step {last.step_name!r} ({place_in_words(place)})" in trouble
    ):
        return True
    # It was set, and no worker has had the execution since.
    resolved = [one for one in log if one.act == ACT and one.created_at == record.updated_at]
    return any(audit.details_of(one.details).get("step") == in_words(last) for one in resolved)


def resumed(record: WorkflowExecution, now: datetime) -> WorkflowExecution:
    if record.status is ExecutionStatus.FAILED:
        return as_open(
            record,
            now,
            status=ExecutionStatus.PENDING,
            error_type=None,
            error_message=None,
            ttl_expires_at=None,
            last_event=None,
        )
    if record.status is ExecutionStatus.SUSPENDED:
        return as_open(record, now, status=ExecutionStatus.PENDING)  # it has something to do now
    return as_open(record, now)


def resolved(
    last: StepCheckpoint, was: str, text: str, history: RecordedHistory, now: datetime
) -> list[Record]:
    """The records of the step: it has completed, after all that has come so far."""
    if was == "unreadable":
        return [msgspec.structs.replace(last, output_data=text)]
    at = now
    if history.last_completed_at is not None:
        at = max(at, history.last_completed_at + timedelta(microseconds=1))
    event = history.last_event + 1
    if was == "sleeping":
        woken = msgspec.structs.replace(
            last, status=StepStatus.COMPLETED, completed_at=at, event=event
        )
        return [woken, timer_of(woken, TimerStatus.CANCELLED)]
    if was == "in doubt":
        completed = msgspec.structs.replace(
            last,
            status=StepStatus.COMPLETED,
            output_data=text,
            error_type=None,
            error_message=None,
            completed_at=at,
            event=event,
        )
        return [completed]
    # The attempt that failed stays in the history, and another one has completed.
    event -= sum(
        (one.branch, one.step_index) == (last.branch, last.step_index) for one in history.events
    )  # which are taken back
    failed = msgspec.structs.replace(last, due_at=last.due_at or now, event=None)
    completed = msgspec.structs.replace(
        failed,
        attempt=last.attempt + 1,
        status=StepStatus.COMPLETED,
        output_data=text,
        error_type=None,
        error_message=None,
        started_at=now,
        completed_at=at,
        due_at=None,
        event=event,
    )
    return [failed, *without_events(last, history.events), completed]
