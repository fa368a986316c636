"""Events that are missing: somebody has deleted the rows of steps that the execution has taken.

A number alone says little: some are left out, where the store refused an outcome at first and took
the next one. But what the workflow function waited for when that event came has an outcome, or at
least a row. If it has none, the row was deleted. To run the step again would do twice what it did.

What is not recorded before it begins (as an idempotent step, or a transaction) has no row until it
has an outcome. It proves nothing where something else was under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.operations import Operation, StepCall
from durable_workflow_sqlite.errors import StoreCorruptError
from durable_workflow_sqlite.records import StepCheckpoint, StepKind, StepStatus


class Gap(NamedTuple):
    """Numbers that no event has; what was waited for then, and when the next event came."""

    first: int
    last: int
    waited_for: list[Operation]
    next_at: datetime | None


class Gaps:
    """Of one replay."""

    def __init__(self, events: Sequence[StepCheckpoint], last_event: int | None) -> None:
        """events: all that are recorded, in order. last_event: as in the execution's record."""
        self._last_event = last_event
        self._found: list[Gap] = []
        self._before: dict[int, int] = {}
        """By an event before which numbers are left out: the first of these."""
        self._at: dict[int, datetime | None] = {}
        number = len(events)
        if not events or events[-1].event == number:  # as nearly always
            self._highest = number
            return
        number = 0
        for event in events:
            if (event.event or 0) > number + 1:
                self._before[event.event or 0] = number + 1
                self._at[event.event or 0] = event.completed_at
            number = max(number, event.event or 0)
        self._highest = number

    def __bool__(self) -> bool:
        return bool(self._before)

    def note(self, body: Body, event: StepCheckpoint) -> None:
        """A body is about to get an event: what does it wait for, if numbers are left out?"""
        if self._before and event.event in self._before:
            self._take(body, event.event)

    def _take(self, body: Body, number: int) -> None:
        first, at = self._before.pop(number), self._at[number]
        self._found.append(Gap(first, number - 1, list(body.open.values()), at))

    def refuse(self, body: Body) -> None:
        """Raise StoreCorruptError if an event was deleted that a body waited for.

        To be called when it has got all events, or does not fit them: that may be why.
        """
        for number in list(self._before):  # beyond what it has heard of
            self._take(body, number)
        for gap in self._found:
            if any(_may_have_been_refused(call, gap) for call in gap.waited_for):
                continue
            for call in gap.waited_for:
                if _is_missing(call, gap):
                    raise _deleted(body, gap, call)
        if self._last_event is not None and self._last_event > self._highest:
            raise StoreCorruptError(
                f"execution {body.execution_id!r} ended after event {self._last_event}, and the"
                f" last one recorded is event {self._highest}: a row of step_checkpoints was"
                " deleted by hand. It was left as it is, and nothing was undone; restore the row,"
                " or a backup",
                workflow_execution_id=body.execution_id,
            )


def _is_missing(call: Operation, gap: Gap) -> bool:
    """Whether the outcome of what was waited for is not recorded, nor why it has none yet."""
    last = call.last
    if last is None:
        # A wait may be given up before it is recorded; a step never.
        return isinstance(call, StepCall) or not (call.future is None or call.future.done())
    if last.kind is not StepKind.STEP or last.status is not StepStatus.FAILED:
        return False
    # It was due to be tried again before the next event came, and there is no such attempt.
    return last.due_at is not None and gap.next_at is not None and last.due_at <= gap.next_at


def _may_have_been_refused(call: Operation, gap: Gap) -> bool:
    """Whether the store may have refused an outcome of a call, and taken the event after the gap.

    Its outcome came later then, or never: the worker died first.
    """
    last = call.last
    if last is not None and last.event is not None:
        return last.event > gap.last + 1
    if call.is_recorded_before_it_begins:
        return last is not None and last.kind is StepKind.STEP and last.status is StepStatus.INTENT
    # Its first row may be its outcome, so nothing tells of what was refused. Where nothing else was
    # under way, nothing else can have taken the next number.
    return len(gap.waited_for) > 1 and (last is None or isinstance(call, StepCall))


def _deleted(body: Body, gap: Gap, call: Operation) -> StoreCorruptError:
    numbers = f"event {gap.first}"
    if gap.last > gap.first:
        numbers = f"events {gap.first} to {gap.last}"
    branch, index = call.place
    return StoreCorruptError(
        f"execution {body.execution_id!r} lacks {numbers}, maybe the outcome of {call.describe()}:"
        " a row of step_checkpoints was deleted by hand. It was left as it is, and nothing was run"
        " or undone; restore the row, or a backup. Or run it again: `retry --from` the first step"
        " that is recorded after the gap deletes the records from there on",
        workflow_execution_id=body.execution_id,
        step_name=call.name,
        step_index=index,
        branch=branch,
    )
