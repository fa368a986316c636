"""The records of an execution, found by the place of a step, or in the order of events."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from operator import attrgetter
from typing import Final

import msgspec

from durable_workflow_sqlite.engine.along import Along
from durable_workflow_sqlite.engine.patches import Patches
from durable_workflow_sqlite.engine.step_marks import IDEMPOTENT, mark_of
from durable_workflow_sqlite.errors import NonDeterminismError, StoreCorruptError
from durable_workflow_sqlite.records import (
    AMBIGUOUS,
    COMPENSATION_SUFFIX,
    CUT_OFF,
    TIMED_OUT,
    Record,
    StepCheckpoint,
    StepKind,
    StepStatus,
    WorkflowPatch,
    WorkflowTimer,
)

Place = tuple[str, int]
"""Branch and index: what tells one step of an execution from all others."""

_log = logging.getLogger("durable_workflow_sqlite.engine")

LONG_HISTORY: Final = 10_000
"""Outcomes after which the log advises to continue as new."""

TIMERS: Final = "$timers"
"""The branch of the timers of a workflow function's event loop: `asyncio.sleep`, `timeout`."""

HOW_TO_MEND: Final = (
    "Run it with the code that it was started with, or give changed code a new version; or"
    " forget what does not fit with `retry --from` the first recorded step that differs. If the"
    " code has not changed, it depends on the time, on random numbers or on the order of a set: use"
    " ctx.now(), ctx.random(), sorted()."
)
"""What to do where the code does not fit its records."""


def place_in_words(place: Place) -> str:
    branch, index = place
    return f"index {index}" + (f" of branch {branch!r}" if branch else "")


# Looked up once: with Python 3.11, a member's class takes as long to give it as a short call.
_STEP: Final = StepKind.STEP
_INTENT: Final = StepStatus.INTENT
_COMPLETED: Final = StepStatus.COMPLETED
_FAILED: Final = StepStatus.FAILED

_EVENT: Final = attrgetter("event")


class StepHistory(msgspec.Struct, gc=False):
    """The first and the last attempt of one step, and its compensation.

    told: the attempt whose outcome the workflow function got first. One that timed out may
        be followed by others, which undoing makes to know what to undo.
    """

    first: StepCheckpoint | None = None
    last: StepCheckpoint | None = None
    told: StepCheckpoint | None = None
    compensation: StepCheckpoint | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether its last attempt was cut off or timed out, and so may have taken effect."""
        last = self.last
        if last is None or last.kind is not _STEP:
            return False
        return last.status is _INTENT or was_cut_off(last) or has_timed_out(last)

    @property
    def pauses(self) -> bool:
        """Whether it waits for the time of its next attempt, or its compensation does."""
        last, undone = self.last, self.compensation
        if undone is not None:
            return undone.status is _INTENT and undone.due_at is not None
        return (
            last is not None
            and last.kind is _STEP
            and last.due_at is not None
            and (last.status is _FAILED or last.status is _INTENT)
        )


class RecordedHistory:
    """The checkpoints of one execution.

    events: the outcomes that reached the workflow function, in the order in which they did.
    paused: the attempts that wait for the time of the next one.
    has_given_up: whether there is an attempt that was given up before it had begun.
    timers: the pending ones. Their times say until when something still waits.
    patches: those that it has passed.
    along: what the next write of its run takes along.

    Raises StoreCorruptError where the rows cannot have been recorded like that.
    """

    __slots__ = (
        "_steps",
        "along",
        "events",
        "has_given_up",
        "last_completed_at",
        "patches",
        "paused",
        "timers",
    )

    def __init__(
        self,
        checkpoints: Iterable[StepCheckpoint] = (),
        timers: Iterable[WorkflowTimer] = (),
        patches: Iterable[WorkflowPatch] = (),
    ) -> None:
        self.timers = tuple(timers)
        self.along = Along()
        self.patches = Patches(patches, self.along)
        steps: dict[Place, StepHistory] = {}
        compensations: list[StepCheckpoint] = []
        events: list[StepCheckpoint] = []
        times: list[datetime] = []
        for checkpoint in checkpoints:
            event, at = checkpoint.event, checkpoint.completed_at
            if at is not None:
                times.append(at)
                if event is not None or _is_unnumbered(checkpoint):
                    events.append(checkpoint)
            if event is not None and (at is None or checkpoint.status is _INTENT):
                raise _corrupt(checkpoint, "though it has not ended")
            if checkpoint.branch == TIMERS:
                continue
            place = (checkpoint.branch, checkpoint.step_index)
            step = steps.get(place)
            if step is None:
                if checkpoint.attempt == 1:  # as nearly always
                    told = None if event is None else checkpoint
                    steps[place] = StepHistory(checkpoint, checkpoint, told)
                    continue
                step = steps[place] = StepHistory()
            if checkpoint.attempt == 0:
                step.compensation = checkpoint
                compensations.append(checkpoint)
                continue
            before = step.last
            number = 1 if before is None else before.attempt + 1
            if checkpoint.attempt != number:
                raise _lost(checkpoint, f"is there, and attempt {number} is not")
            if before is None:
                step.first = checkpoint
            elif before.step_name != checkpoint.step_name:
                raise _lost(checkpoint, f"is named {before.step_name!r} at its attempt before")
            step.last = checkpoint
            if event is not None and step.told is None:
                step.told = checkpoint
        self._steps, self.events = steps, events
        self.last_completed_at = max(times, default=None)
        self._check_compensations(compensations)
        unfinished = [
            one
            for one in steps.values()
            if one.last is None or one.last.status is not _COMPLETED or one.compensation is not None
        ]
        self.paused = [
            last
            for one in unfinished
            if one.pauses and (last := one.compensation or one.last) is not None
        ]
        self.has_given_up = any(one.last and never_began(one.last) for one in unfinished)
        numbers = set(map(_EVENT, events))
        if None in numbers:
            self._number_the_rest()
            return
        events.sort(key=_EVENT)
        if len(numbers) < len(events):
            twice = next(two for one, two in pairwise(events) if one.event == two.event)
            raise _corrupt(twice, "and so is another one")

    def _check_compensations(self, compensations: list[StepCheckpoint]) -> None:
        for one in compensations:
            undone = self._steps[one.branch, one.step_index].last
            if undone is None:
                raise _lost(one, "is there, and the step that it undoes is not")
            if one.step_name.removesuffix(COMPENSATION_SUFFIX) != undone.step_name:
                raise _lost(one, f"undoes what is named {undone.step_name!r}")

    def _number_the_rest(self) -> None:
        """A process of an earlier version has written beside ours: the times tell the order."""
        self.events.sort(key=lambda one: (_completed_at(one), one.event or 0))
        last = 1
        for position, checkpoint in enumerate(self.events):
            if checkpoint.event is None:
                self.events[position] = msgspec.structs.replace(checkpoint, event=last)
            last = max(last, event_of(self.events[position]))

    @property
    def last_event(self) -> int:
        """The number of the last event; 0 where there is none."""
        return max(map(_EVENT, self.events), default=0)

    def take(self, place: Place) -> StepHistory | None:
        """What is recorded at a place; each place is asked for once, and then forgotten."""
        return self._steps.pop(place, None)

    def has_outcome(self, place: Place) -> bool:
        """Whether what is at a place has completed, and has not been asked for."""
        step = self._steps.get(place)
        return step is not None and step.last is not None and step.last.status is _COMPLETED

    def goes_on_after(self, event: int) -> bool:
        """Whether something is recorded that has not been asked for, or a later event than this."""
        return bool(self._steps or (self.events and event_of(self.events[-1]) > event))

    def __len__(self) -> int:
        return len(self._steps)

    def steps(self) -> Iterator[tuple[Place, StepHistory]]:
        """Every step that has not been asked for."""
        yield from self._steps.items()


def was_cut_off(checkpoint: StepCheckpoint) -> bool:
    """Whether it is an attempt that had begun, and was cancelled before it had an outcome."""
    return (
        checkpoint.status is _FAILED
        and checkpoint.event is None
        and checkpoint.error_type == CUT_OFF
        and checkpoint.started_at is not None
    )


def never_began(checkpoint: StepCheckpoint) -> bool:
    """Whether it is an attempt that was given up before it had begun."""
    return (
        checkpoint.status is _FAILED
        and checkpoint.kind is _STEP
        and checkpoint.error_type == CUT_OFF
        and checkpoint.started_at is None
    )


def has_timed_out(checkpoint: StepCheckpoint) -> bool:
    """Whether it is an attempt that took longer than its timeout, and may have taken effect."""
    return (
        checkpoint.status is _FAILED
        and checkpoint.error_type == TIMED_OUT
        and checkpoint.kind is _STEP
        and mark_of(checkpoint.input_data, IDEMPOTENT) is None
    )


def asks(checkpoint: StepCheckpoint) -> bool:
    """Whether a person is asked what became of it: a step, or a compensation."""
    return (
        checkpoint.status is _INTENT
        and checkpoint.error_type == AMBIGUOUS
        and checkpoint.kind is _STEP
        and checkpoint.due_at is None
    )


def mismatch(
    execution_id: str, recorded: StepCheckpoint, kind: StepKind, name: str
) -> NonDeterminismError:
    """The error for a place where something else is asked for than is recorded."""
    place = (recorded.branch, recorded.step_index)
    return NonDeterminismError(
        f"execution {execution_id!r} has {recorded.kind.lower()} {recorded.step_name!r} recorded at"
        f" {place_in_words(place)}, where its workflow now asks for {kind.lower()} {name!r}. It was"
        f" left as it is. {HOW_TO_MEND}",
        workflow_execution_id=execution_id,
        step_index=recorded.step_index,
        branch=recorded.branch,
        recorded_name=recorded.step_name,
        current_name=name,
    )


def _corrupt(checkpoint: StepCheckpoint, what_is_wrong: str) -> StoreCorruptError:
    event = f"is event {checkpoint.event}, {what_is_wrong}"
    return _broken(checkpoint, f"{event}: its row was edited by hand; correct it")


def _lost(checkpoint: StepCheckpoint, what_is_wrong: str) -> StoreCorruptError:
    return _broken(checkpoint, f"{what_is_wrong}: a row was deleted or edited by hand; correct it")


def _broken(checkpoint: StepCheckpoint, what_is_wrong: str) -> StoreCorruptError:
    place = place_in_words((checkpoint.branch, checkpoint.step_index))
    return StoreCorruptError(
        f"{checkpoint.kind.lower()} {checkpoint.step_name!r} ({place}, attempt"
        f" {checkpoint.attempt}) of execution {checkpoint.workflow_execution_id!r}"
        f" {what_is_wrong}, or restore a backup",
        workflow_execution_id=checkpoint.workflow_execution_id,
        step_name=checkpoint.step_name,
        step_index=checkpoint.step_index,
        branch=checkpoint.branch,
    )


def _is_unnumbered(checkpoint: StepCheckpoint) -> bool:
    """Whether it is an outcome that an earlier version wrote, which knew no events."""
    if checkpoint.attempt == 0 or checkpoint.event is not None or checkpoint.completed_at is None:
        return False
    if checkpoint.status is _COMPLETED:
        return True
    return (
        checkpoint.status is _FAILED
        and checkpoint.error_type != CUT_OFF
        and (checkpoint.due_at is None or checkpoint.kind is not _STEP)
        and checkpoint.error_message is not None
    )


def _completed_at(checkpoint: StepCheckpoint) -> datetime:
    assert checkpoint.completed_at is not None
    return checkpoint.completed_at


def event_of(record: Record) -> int:
    """The number of an outcome."""
    assert isinstance(record, StepCheckpoint)
    assert record.event is not None
    return record.event


def is_outcome(record: Record) -> bool:
    """Whether it tells what a step, or its compensation, did."""
    return (
        isinstance(record, StepCheckpoint) and record.kind is _STEP and record.status is not _INTENT
    )


def warn_of_long_history(execution_id: str) -> None:
    """To be called once, at that outcome."""
    _log.warning(
        "execution %r has recorded %d outcomes, and a replay reads them all; end a long"
        " history by `return ctx.continue_as_new(...)`",
        execution_id,
        LONG_HISTORY,
        extra={"workflow_execution_id": execution_id},
    )
