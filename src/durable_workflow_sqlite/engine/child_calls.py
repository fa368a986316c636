"""Children, as a workflow function asks for them: the start, the wait for the end, a message."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.history import Place, place_in_words
from durable_workflow_sqlite.engine.operations import StepCall, WaitCall
from durable_workflow_sqlite.engine.startable import StartableDefinition
from durable_workflow_sqlite.errors import ChildCancelledError, ChildFailedError, SerializationError
from durable_workflow_sqlite.records import (
    CHILD_SIGNAL,
    OnParentEnd,
    StepCheckpoint,
    StepKind,
    WorkflowExecution,
)

LONGEST_ID: Final = 200
"""A longer id of a child is cut, and ends in a hash: the name of a signal holds all of it."""

_ESCAPED: Final = str.maketrans(
    {"/": ".", ".": "%2E", ":": "%3A", "@": "%40", "~": "%7E", "%": "%25"}
)
"""What separates the parts of an id must not be in them: else two children had one id."""


def child_id(parent: str, run_number: int, place: Place, name: str) -> str:
    """The id of a child: the same each time that its parent comes to this place."""
    run = "" if run_number == 1 else f"{run_number}@"
    branch = f"{place[0].translate(_ESCAPED)}:" if place[0] else ""
    whole = f"{parent}/{run}{branch}{name.translate(_ESCAPED)}-{place[1]}"
    if len(whole) <= LONGEST_ID and whole.isprintable():
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:32]
    printable = "".join(one for one in whole if one.isprintable()).strip()
    return f"{printable[: LONGEST_ID - 33]}-{digest}"


class SendCall(StepCall, eq=False, kw_only=True):
    """A step that happens in the transaction that records it: it reaches other executions.

    output: its result, as JSON.
    """

    output: str
    to: str
    """The id of the execution that it starts, or sends a signal to."""

    @property
    def is_recorded_before_it_begins(self) -> bool:
        return False

    def give_up(self) -> None:
        """It begins no more. What has begun is one transaction, and is not stopped."""
        self.is_given_up = True


class SignalCall(SendCall, eq=False, kw_only=True):
    """What `ChildHandle.signal` or `ChildHandle.cancel` was called with."""

    signal_name: str
    payload: str | None


class ChildCall(SendCall, eq=False, kw_only=True):
    """What `ctx.start_child` was called with; the compensation gets the result of the child."""

    definition: StartableDefinition
    input_data: str
    on_parent_end: OnParentEnd
    ttl: timedelta | None
    queue: str | None
    queue_key: str | None

    @property
    def is_started(self) -> bool:
        """Whether the child is there, as far as the records say."""
        return self.is_recorded or self.last is not None

    @property
    def child_id(self) -> str:
        """The id as it is recorded; before that, the one that it is to get."""
        return self.value if isinstance(self.value, str) else self.to

    def describe(self) -> str:
        return f"child {self.name!r} ({place_in_words(self.place)})"


class ChildWait(WaitCall, eq=False, kw_only=True):
    """The wait for the end of a child."""

    child_id: str

    def describe(self) -> str:
        return f"the end of child {self.child_id!r} ({place_in_words(self.place)})"


class ChildEnd(msgspec.Struct, frozen=True):
    """How a child ended, as the signal of its end says it."""

    status: str
    output: msgspec.Raw = msgspec.Raw(b"null")
    error_type: str | None = None
    error_message: str | None = None

    @property
    def is_completed(self) -> bool:
        return self.status == "COMPLETED"

    def result(self, definition: StartableDefinition, child: str) -> Any:
        """What the child returned. Raises SerializationError if its type has changed."""
        what = f"the result of child {child!r}"
        return serialization.from_json(bytes(self.output).decode(), definition.result_type, what)


def children_without_end(
    checkpoints: Iterable[StepCheckpoint],
) -> list[tuple[StepCheckpoint, str]]:
    """The starts of children whose ends their parent did not get, and the ids of these."""
    recorded = list(checkpoints)
    ended = {child_of_wait(one) for one in recorded if one.event is not None}
    starts: list[tuple[StepCheckpoint, str]] = []
    for one in recorded:
        prefix = f'"{one.workflow_execution_id}/'
        if one.kind is StepKind.STEP and (one.output_data or "").startswith(prefix):
            child = serialization.from_json(one.output_data, str, "the id of a child")
            if child not in ended:
                starts.append((one, child))
    return starts


def end_of_record(child: WorkflowExecution | None) -> str:
    """What the signal of the end of a child says, from its record; None: it was deleted."""
    end = ChildEnd(status="DELETED")
    if child is not None:
        end = ChildEnd(
            status=child.status.value,
            output=msgspec.Raw((child.output_data or "null").encode()),
            error_type=child.error_type,
            error_message=child.error_message,
        )
    return msgspec.json.encode(end).decode()


def read_end(payload: str | None, child: str) -> ChildEnd:
    """Raises SerializationError for what the library has not written."""
    try:
        return msgspec.json.decode(payload or "", type=ChildEnd)
    except msgspec.MsgspecError as error:
        raise SerializationError(f"how child {child!r} ended cannot be read: {error}") from error


def error_of_end(execution_id: str, child: str, end: ChildEnd) -> Exception | None:
    """What the parent is told; None for a child that has completed."""
    if end.is_completed:
        return None
    if end.status == "CANCELLED":
        return ChildCancelledError(
            f"child {child!r} of execution {execution_id!r} was cancelled",
            workflow_execution_id=execution_id,
            child_execution_id=child,
        )
    why = "it was deleted before its end"
    if end.status != "DELETED":
        why = f"{end.error_type}: {end.error_message}"
    return ChildFailedError(
        f"child {child!r} of execution {execution_id!r} failed: {why}",
        workflow_execution_id=execution_id,
        child_execution_id=child,
        error_type=end.error_type,
        error_message=end.error_message,
    )


def recorded_error(execution_id: str, call: ChildWait, failed: StepCheckpoint) -> Exception:
    """The error that a wait for a child ended with, from its record."""
    end = read_end(failed.output_data, call.child_id)
    error = error_of_end(execution_id, call.child_id, end)
    if error is None:
        raise SerializationError(
            f"{call.describe()} of execution {execution_id!r} is FAILED, and its record says that"
            " the child has completed: somebody has edited it"
        )
    return error


def child_of_wait(wait: StepCheckpoint) -> str | None:
    """The id of the child whose end a wait is for; None for any other wait."""
    name = wait.step_name
    return name.removeprefix(CHILD_SIGNAL) if name.startswith(CHILD_SIGNAL) else None
