"""Rows of the database to records, and times to text and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from sys import intern
from typing import Final, TypeVar, get_args

import msgspec

from durable_workflow_sqlite.errors import StoreCorruptError
from durable_workflow_sqlite.payload_codec import ENCODED
from durable_workflow_sqlite.records import (
    AuditEntry,
    ChangeEntry,
    ChangeScope,
    ExecutionStatus,
    Missed,
    OnParentEnd,
    Overlap,
    Pause,
    PauseScope,
    Progress,
    Schedule,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    StreamEnd,
    StreamItem,
    TimerStatus,
    UnqueuedExecution,
    Workflow,
    WorkflowExecution,
    WorkflowGuarantee,
    WorkflowPatch,
    WorkflowSignal,
    WorkflowTimer,
)
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.encoding import (
    HIDDEN,
    HIDDEN_DETAILS,
    VALUE,
    Encoding,
    is_encoded,
    is_encoded_text,
    why_encoded,
)

R = TypeVar("R")
V = TypeVar("V")

_ENCODED_VALUE: Final = VALUE.before
_WITHOUT_CODEC: Final = Encoding(None)

_TIME_LENGTH: Final = len("2030-01-01T00:00:00.000000Z")

# To look a member up takes a tenth of the time that its class takes to find it.
_KINDS: Final = {kind.value: kind for kind in StepKind}
_STEP_STATUSES: Final = {status.value: status for status in StepStatus}
_STATUSES: Final = {status.value: status for status in ExecutionStatus}
_GUARANTEES: Final = {guarantee.value: guarantee for guarantee in WorkflowGuarantee}

OVERLAPS: Final[dict[str, Overlap]] = {one: one for one in get_args(Overlap)}
MISSED: Final[dict[str, Missed]] = {one: one for one in get_args(Missed)}

_log = logging.getLogger("durable_workflow_sqlite.store")


def time_to_text(time: datetime) -> str:
    """UTC in ISO-8601, always with microseconds and a Z, so that text sorts as time does."""
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    text: str = msgspec.to_builtins(time)  # a tenth of the time that isoformat() takes
    return text if len(text) == _TIME_LENGTH else f"{text[:19]}.000000Z"


def optional_time_to_text(time: datetime | None) -> str | None:
    return None if time is None else time_to_text(time)


def text_to_time(column: str, text: str) -> datetime:
    """Read ISO-8601 text; without a zone it is UTC. Raises ValueError naming the column."""
    try:
        time = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise ValueError(f"{column} {text!r} is not an ISO-8601 time") from None
    if time.tzinfo is UTC:  # as all that this library writes
        return time
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def optional_text_to_time(column: str, text: str | None) -> datetime | None:
    return None if text is None else text_to_time(column, text)


def readable_time(text: str | None) -> datetime | None:
    """As `text_to_time`; None if it is not a time, where people look at what somebody broke."""
    try:
        return optional_text_to_time("", text)
    except ValueError:
        return None


def json_array(values: Iterable[str] | Iterable[int]) -> str:
    """How a list is given to a statement."""
    return msgspec.json.encode(list(values)).decode()


def readable(rows: Iterable[R], convert: Callable[[R], V]) -> list[V]:
    """Convert rows; log those that cannot be read, and leave them out."""
    values: list[V] = []
    for row in rows:
        try:
            values.append(convert(row))
        except StoreCorruptError as error:
            _log.error("%s; it is left out", error)
    return values


def workflow_from(row: q.WorkflowRow) -> Workflow:
    try:
        return Workflow(
            workflow_id=row.workflow_id,
            workflow_type=row.workflow_type,
            version=row.version,
            created_at=text_to_time("created_at", row.created_at),
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(f"workflow {row.workflow_id!r}", error) from None


def execution_from(
    row: q.LoadExecutionRow | q.TakeExecutionRow | q.LoadExecutionsAmongRow,
) -> WorkflowExecution:
    try:
        _check_decoded(row)
        return WorkflowExecution(
            workflow_execution_id=row.workflow_execution_id,
            workflow_id=row.workflow_id,
            status=_STATUSES.get(row.status) or ExecutionStatus(row.status),
            current_step=row.current_step,
            input_data=row.input_data,
            output_data=row.output_data,
            error_type=row.error_type,
            error_message=row.error_message,
            ttl_expires_at=optional_text_to_time("ttl_expires_at", row.ttl_expires_at),
            guarantee=_GUARANTEES.get(row.guarantee) or WorkflowGuarantee(row.guarantee),
            priority=row.priority,
            queue=row.queue,
            queue_key=row.queue_key,
            dedup_id=row.dedup_id,
            debounced=bool(row.debounced),
            recovery_count=row.recovery_count,
            blocked_reason=row.blocked_reason,
            trouble=_shown(row.trouble),
            available_at=optional_text_to_time("available_at", row.available_at),
            last_event=row.last_event,
            started_at=optional_text_to_time("started_at", row.started_at),
            parent_execution_id=row.parent_execution_id,
            root_execution_id=row.root_execution_id,
            on_parent_end=None if row.on_parent_end is None else OnParentEnd(row.on_parent_end),
            run_number=row.run_number,
            forked_from=row.forked_from,
            forked_before=row.forked_before,
            replay_origin=row.replay_origin,
            created_at=text_to_time("created_at", row.created_at),
            updated_at=text_to_time("updated_at", row.updated_at),
            paused_at=optional_text_to_time("paused_at", row.paused_at),
            paused_by=row.paused_by,
            paused_reason=row.paused_reason,
            paused_with=row.paused_with,
        )
    except (ValueError, TypeError) as error:
        raise _unreadable("execution", error, row.workflow_execution_id) from None


def unqueued_from(row: q.LoadUnqueuedRow) -> UnqueuedExecution:
    try:
        return UnqueuedExecution(
            workflow_execution_id=row.workflow_execution_id,
            workflow_id=row.workflow_id,
            guarantee=WorkflowGuarantee(row.guarantee),
            is_due=bool(row.is_due),
            wakes_at=optional_text_to_time("fire_at", row.wakes_at),
        )
    except (ValueError, TypeError) as error:
        raise _unreadable("execution", error, row.workflow_execution_id) from None


def checkpoint_from(row: q.StepCheckpointRow | q.LoadCheckpointsAmongRow) -> StepCheckpoint:
    try:
        # Not by a function for most: an execution may have thousands of these.
        output, message = row.output_data, row.error_message
        if message is not None or (output is not None and output.startswith(_ENCODED_VALUE)):
            _check_decoded(row)
        # By position: by name, it takes a third longer.
        return StepCheckpoint(
            # Many rows have the same text: interned, it is in memory once.
            intern(row.workflow_execution_id),
            row.step_index,
            intern(row.step_name),
            _STEP_STATUSES.get(row.status) or StepStatus(row.status),
            intern(row.branch),
            row.attempt,
            _KINDS.get(row.kind) or StepKind(row.kind),
            row.input_data,
            output,
            row.error_type,
            message,
            row.idempotency_key,
            row.compensate_ref,
            # Not by `optional_text_to_time`: an execution may have thousands of these.
            None if row.started_at is None else text_to_time("started_at", row.started_at),
            None if row.completed_at is None else text_to_time("completed_at", row.completed_at),
            None if row.due_at is None else text_to_time("due_at", row.due_at),
            row.event,
            row.id,
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(
            f"checkpoint {row.id} of execution", error, row.workflow_execution_id
        ) from None


def timer_from(row: q.WorkflowTimerRow | q.LoadSuspectTimersRow) -> WorkflowTimer:
    try:
        return WorkflowTimer(
            workflow_timer_id=row.workflow_timer_id,
            workflow_execution_id=row.workflow_execution_id,
            step_name=row.step_name,
            fire_at=text_to_time("fire_at", row.fire_at),
            status=TimerStatus(row.status),
            created_at=text_to_time("created_at", row.created_at),
        )
    except (ValueError, TypeError) as error:
        what = f"timer {row.workflow_timer_id!r} of execution"
        raise _unreadable(what, error, row.workflow_execution_id) from None


def patch_from(row: q.WorkflowPatchRow | q.LoadPatchesAmongRow) -> WorkflowPatch:
    try:
        return WorkflowPatch(
            workflow_execution_id=row.workflow_execution_id,
            branch=row.branch,
            patch_name=row.patch_name,
            event=row.event,
            passed_at=text_to_time("passed_at", row.passed_at),
        )
    except (ValueError, TypeError) as error:
        what = f"patch {row.patch_name!r} of execution"
        raise _unreadable(what, error, row.workflow_execution_id) from None


def stream_item_from(row: q.WorkflowStreamItemRow) -> StreamItem:
    what = f"an item of the stream of step {row.step_name!r} of execution"
    if is_encoded(row.item):
        raise why_encoded(
            row.item, f"{what} {row.workflow_execution_id!r}", row.workflow_execution_id
        )
    try:
        return StreamItem(
            row.workflow_stream_item_id,
            row.workflow_execution_id,
            row.branch,
            row.step_index,
            row.step_name,
            row.attempt,
            row.run_number,
            row.written_under,
            row.item,
            text_to_time("created_at", row.created_at),
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(what, error, row.workflow_execution_id) from None


def progress_from(row: q.WorkflowProgressReportRow) -> Progress:
    what = "the progress of"
    if row.step_index >= 0:
        what = f"{what} step {row.step_name!r} of"
    try:
        return Progress(
            workflow_execution_id=row.workflow_execution_id,
            branch=row.branch,
            step_index=row.step_index,
            step_name=row.step_name,
            attempt=row.attempt,
            done=row.done,
            total=row.total,
            note=HIDDEN if is_encoded_text(row.note) else row.note,
            reported_at=text_to_time("reported_at", row.reported_at),
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(f"{what} execution", error, row.workflow_execution_id) from None


def stream_end_from(row: q.LoadStreamEndsRow) -> StreamEnd:
    return StreamEnd(row.branch, row.step_index, StepStatus(row.status), bool(row.is_over))


def signal_from(row: q.WorkflowSignalRow | q.LoadSignalsRow) -> WorkflowSignal:
    return keyed_signal_from(row, row.workflow_execution_id, row.signal_key)


def keyed_signal_from(
    row: q.WorkflowSignalRow | q.LoadSignalsRow | q.LoadKeyedSignalRow,
    workflow_execution_id: str,
    signal_key: str | None,
) -> WorkflowSignal:
    payload = row.payload
    if isinstance(payload, str) and ENCODED in payload:
        # Of the end of a child, the trigger tells the columns as they are, in an object.
        payload = _WITHOUT_CODEC.decode_payload(payload, workflow_execution_id, row.signal_name)
    if is_encoded(payload):
        raise why_encoded(
            payload,
            f"the payload of signal {row.signal_name!r} to execution {workflow_execution_id!r}",
            workflow_execution_id,
        )
    try:
        return WorkflowSignal(
            workflow_signal_id=row.workflow_signal_id,
            workflow_execution_id=workflow_execution_id,
            signal_name=row.signal_name,
            payload=payload,
            status=SignalStatus(row.status),
            created_at=text_to_time("created_at", row.created_at),
            refused_reason=_shown(row.refused_reason),
            signal_key=signal_key,
        )
    except (ValueError, TypeError) as error:
        what = f"signal {row.workflow_signal_id} of execution"
        raise _unreadable(what, error, workflow_execution_id) from None


def audit_entry_from(row: q.LoadAuditLogRow, workflow_execution_id: str) -> AuditEntry:
    try:
        return AuditEntry(
            workflow_execution_id=workflow_execution_id,
            act=row.act,
            actor=row.actor,
            details=_details(row.details),
            created_at=text_to_time("created_at", row.created_at),
        )
    except (ValueError, TypeError) as error:
        what = f"entry {row.workflow_audit_id} of the audit log, of execution"
        raise _unreadable(what, error, workflow_execution_id) from None


def change_entry_from(row: q.LoadAuditLogRow, scope: ChangeScope, name: str) -> ChangeEntry:
    try:
        return ChangeEntry(
            scope=scope,
            name=name,
            act=row.act,
            actor=row.actor,
            details=_details(row.details),
            created_at=text_to_time("created_at", row.created_at),
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(f"entry {row.workflow_audit_id} of the audit log", error) from None


def schedule_from(row: q.WorkflowScheduleRow) -> Schedule:
    try:
        if row.overlap not in OVERLAPS or row.missed not in MISSED:
            raise ValueError(f"overlap {row.overlap!r} or missed {row.missed!r} is not known")
        return Schedule(
            schedule_name=row.schedule_name,
            workflow_type=row.workflow_type,
            version=row.version,
            input_data=_of_schedule(row.input_data, row),
            cron=row.cron,
            tz=row.tz,
            every_seconds=row.every_seconds,
            overlap=OVERLAPS[row.overlap],
            missed=MISSED[row.missed],
            within_seconds=row.within_seconds,
            jitter_seconds=row.jitter_seconds,
            ends_at=optional_text_to_time("ends_at", row.ends_at),
            priority=row.priority,
            ttl_seconds=row.ttl_seconds,
            tags=row.tags,
            queue=row.queue,
            queue_key=row.queue_key,
            next_fire_at=optional_text_to_time("next_fire_at", row.next_fire_at),
            last_fired_at=optional_text_to_time("last_fired_at", row.last_fired_at),
            last_execution_id=row.last_execution_id,
            last_skipped_at=optional_text_to_time("last_skipped_at", row.last_skipped_at),
            buffered_at=optional_text_to_time("buffered_at", row.buffered_at),
            paused_at=optional_text_to_time("paused_at", row.paused_at),
            paused_by=row.paused_by,
            paused_reason=row.paused_reason,
            ended_at=optional_text_to_time("ended_at", row.ended_at),
            trouble=_shown(row.trouble),
            declared=None if row.declared is None else _of_schedule(row.declared, row),
            created_at=text_to_time("created_at", row.created_at),
            updated_at=text_to_time("updated_at", row.updated_at),
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(f"schedule {row.schedule_name!r}", error) from None


def pause_from(row: q.WorkflowPauseRow) -> Pause:
    try:
        return Pause(
            scope=PauseScope(row.scope),
            name=row.name,
            paused_at=text_to_time("paused_at", row.paused_at),
            paused_by=row.paused_by,
            paused_reason=row.paused_reason,
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(f"the pause of {row.scope} {row.name!r}", error) from None


def _check_decoded(
    row: q.LoadExecutionRow
    | q.TakeExecutionRow
    | q.LoadExecutionsAmongRow
    | q.StepCheckpointRow
    | q.LoadCheckpointsAmongRow,
) -> None:
    """Raise PayloadDecodeError if a value is still encoded."""
    id_ = row.workflow_execution_id
    for text in (row.input_data, row.output_data):
        if is_encoded(text):
            raise why_encoded(text, f"a value of execution {id_!r}", id_)
    if is_encoded_text(row.error_message):
        raise why_encoded(row.error_message, f"an error of execution {id_!r}", id_)


def _of_schedule(text: str, row: q.WorkflowScheduleRow) -> str:
    if is_encoded(text):
        raise why_encoded(text, f"the input of schedule {row.schedule_name!r}", None)
    return text


def _shown(text: str | None) -> str | None:
    """What only people read, without what is encoded."""
    if not isinstance(text, str) or ENCODED not in text:
        return text
    return text[: text.index(ENCODED)] + HIDDEN


def _details(text: str | None) -> str | None:
    return HIDDEN_DETAILS if text is not None and is_encoded(text) else text


def _unreadable(
    what: str, error: Exception, workflow_execution_id: str | None = None
) -> StoreCorruptError:
    if workflow_execution_id is not None:
        what = f"{what} {workflow_execution_id!r}"
    return StoreCorruptError(
        f"{what} cannot be read: {error}", workflow_execution_id=workflow_execution_id
    )
