"""A retry that also replaces recorded results: what a person corrects before it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from durable_workflow_sqlite.engine import audit, deleted_rows, editing
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.commands import (
    ends_again,
    refuse_cancelled_children,
    what_ended,
)
from durable_workflow_sqlite.engine.editing import Changed, Edit
from durable_workflow_sqlite.engine.fitting import check_fits
from durable_workflow_sqlite.engine.given import given, left
from durable_workflow_sqlite.engine.history import (
    RecordedHistory,
    StepHistory,
    never_began,
)
from durable_workflow_sqlite.engine.mending import Change, mend, refused, to_whoever_left_it
from durable_workflow_sqlite.engine.reopening import reopened, what_failed, why_not_reopened
from durable_workflow_sqlite.engine.resolving import BACK_OFF, resolved, resumed
from durable_workflow_sqlite.engine.step_names import in_words
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    Record,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TakenExecution,
)


async def retry_edited(
    access: Access, execution_id: str, edits: Sequence[Edit], by: str | None
) -> None:
    """See `DurableEngine.retry`, with `edit` and without `from_step`."""

    async def plan(seen: TakenExecution, now: datetime) -> Change:
        record = seen.execution
        if why := _why_not(seen):
            raise refused(execution_id, why)
        await refuse_cancelled_children(access, seen)
        history = RecordedHistory(seen.checkpoints, seen.pending_timers)
        edited = editing.found(execution_id, history, edits)
        steps = dict(history.steps())
        working = _Working(seen)
        failed = None
        if record.status is ExecutionStatus.FAILED:
            failed = what_failed(record, seen.checkpoints)
        failed_at = None if failed is None else (failed.branch, failed.step_index)
        untold = {
            place: one
            for place, one in edited.items()
            if place == failed_at or steps[place].told is None
        }
        told = {place: one for place, one in edited.items() if place not in untold}
        kept = {place: steps[place] for place in told}
        changes = editing.changes_of(record, kept, told, "its end")
        working.take([one.after for one in changes])
        becomes = resumed(record, now)
        if failed_at is not None and failed is not None and failed_at in untold:
            text = untold.pop(failed_at).text
            changes.append(working.resolve(failed, "failed", text, now))
        elif record.status is ExecutionStatus.FAILED:
            change = reopened(working.seen(), now)
            becomes = change.becomes
            working.take([*change.records, *await ends_again(access, change, by, now)])
        for place, edit in untold.items():
            last, was = _open_step(execution_id, steps[place])
            changes.append(working.resolve(last, was, edit.text, now))
        await check_fits(
            access,
            execution_id,
            becomes,
            working.seen().checkpoints,
            seen.patches,
            "run again with these values",
        )
        details = {**editing.noted(changes), **what_ended(record)}
        if record.blocked_reason is not None:
            details["blocked"] = record.blocked_reason
        return Change(
            becomes,
            [
                *working.changed(),
                *left(await given(access.store, execution_id), edited),
                audit.entry(execution_id, "retry", by, now, details),
                to_whoever_left_it(execution_id, now),
            ],
        )

    _, after = await mend(access, execution_id, plan)
    await access.resume(after)


class _Working:
    """The records of an execution, as they become by one change after the other."""

    def __init__(self, seen: TakenExecution) -> None:
        self._seen = seen
        self._steps = {_key(one): one for one in seen.checkpoints}
        self._before = dict(self._steps)
        self._others: list[Record] = []

    def take(self, records: Sequence[Record]) -> None:
        for one in records:
            if isinstance(one, StepCheckpoint):
                self._steps[_key(one)] = one
            else:
                self._others.append(one)

    def seen(self) -> TakenExecution:
        return msgspec.structs.replace(
            self._seen, checkpoints=[self._steps[key] for key in sorted(self._steps)]
        )

    def resolve(self, last: StepCheckpoint, was: str, text: str, now: datetime) -> Changed:
        """As if the step had returned a value just now."""
        self.take(resolved(last, was, text, RecordedHistory(self.seen().checkpoints), now))
        return Changed(last, last, text)

    def changed(self) -> list[Record]:
        changed = [one for key, one in self._steps.items() if self._before.get(key) != one]
        return [*changed, *self._others]


def _key(one: StepCheckpoint) -> tuple[str, int, int]:
    return one.branch, one.step_index, one.attempt


def _why_not(seen: TakenExecution) -> str:
    """Why recorded results cannot be replaced where it is; empty if they can."""
    record = seen.execution
    if missing := deleted_rows.still_missing(record, seen.checkpoints):
        return deleted_rows.why_refused("was not run again", missing, seen.checkpoints)
    if record.status is ExecutionStatus.COMPENSATING:
        return "is COMPENSATING: other results change nothing that it undoes"
    if record.status.is_terminal:
        if any(one.attempt == 0 and one.status is StepStatus.FAILED for one in seen.checkpoints):
            return (
                "has compensations that failed, and only these can run again: other results change"
                " nothing of that. Name a step, and it runs again from there (from_step, in a"
                " command --from)"
            )
        return why_not_reopened(record, seen.checkpoints)
    if record.blocked_reason is None and record.trouble is None:
        return (
            f"is {record.status}, and goes on by itself: only one that is FAILED, blocked or in"
            " trouble can be run again with other results. A fork of it can have them; and a step"
            " that waits for its next attempt, or is in doubt, can be resolved"
        )
    return ""


def _open_step(execution_id: str, step: StepHistory) -> tuple[StepCheckpoint, str]:
    """The last attempt of a step that has no outcome, and how it stands."""
    last = step.last
    assert last is not None
    if last.kind is StepKind.STEP:
        if last.status is StepStatus.FAILED and last.due_at is not None:
            return last, BACK_OFF
        if step.is_in_doubt or never_began(last):
            return last, "in doubt"
    raise refused(
        execution_id,
        f"was not changed: {in_words(last)} has no result. Send a signal to a wait; `resolve` ends"
        " a sleep",
    )
