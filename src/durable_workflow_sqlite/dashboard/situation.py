"""Where an execution stands, in words: what it does or waits for, until when, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from durable_workflow_sqlite.dashboard.text import duration, exactly
from durable_workflow_sqlite.dashboard.timeline import Row, StepState
from durable_workflow_sqlite.questions import is_question
from durable_workflow_sqlite.reading.executions import ExecutionSummary
from durable_workflow_sqlite.reading.pauses import EXECUTION, name_of
from durable_workflow_sqlite.records import DELETED_ROWS, ExecutionStatus

_NAMED = 5
"""How many steps a sentence names."""


@dataclass
class Situation:
    """The words at the top of the page of an execution."""

    look: str
    """The name of an icon, and of a colour."""

    headline: str
    until: datetime | None = None
    until_word: str = "until"
    lines: list[str] = field(default_factory=list[str])
    error: str | None = None
    is_trouble: bool = False
    """Somebody may have to do something."""

    is_failed: bool = False
    awaited: str | None = None
    """The signal that it waits for."""

    child: str | None = None
    """The id of the child whose end it waits for."""


def situation(
    status: ExecutionStatus,
    rows: Sequence[Row],
    *,
    took: timedelta,
    is_worked_on: bool,
    blocked_reason: str | None,
    trouble: str | None,
    error: str | None,
    available_at: datetime | None,
    since: datetime | None,
) -> Situation:
    """What to say of an execution and its steps.

    took: from its start to its end, or until now.
    since: since when it has its status.
    is_worked_on: a living worker has it. trouble: why the last one left it as it is.
    """
    if status.is_terminal:
        return _ended(status, rows, took, error)
    if blocked_reason is not None:
        return Situation(
            "BLOCKED",
            "Blocked: no worker claims it",
            lines=[blocked_reason, _until_when(blocked_reason)],
            error=error,
            is_trouble=True,
        )
    if trouble is not None:
        what = "is undone" if status is ExecutionStatus.COMPENSATING else "goes on"
        lines = [f"It {what} when the workers are restarted and no longer meet this:"]
        words = "In trouble: its worker left it as it is"
        return Situation("DOUBT", words, lines=lines, error=trouble, is_trouble=True)
    if status is ExecutionStatus.PENDING and not rows:
        return Situation("PENDING", "Waits for a worker", until=available_at, until_word="from")
    if status is ExecutionStatus.COMPENSATING:
        return _undoing(rows, is_worked_on, error, since)
    said = [_open(row) for row in rows if row.state in _OPEN]
    if not said:
        if is_worked_on:
            return Situation("RUNNING", "Running, between two steps")
        words = "Interrupted between two steps: no worker has it"
        return Situation(
            "PENDING", words, lines=["The next worker that has the workflow continues it."]
        )
    said.sort(key=_urgency)
    most = said[0]
    most.awaited = next((one.awaited for one in said if one.awaited is not None), None)
    most.child = next((one.child for one in said if one.child is not None), None)
    others = [one.headline[0].lower() + one.headline[1:] for one in said[1 : 1 + _NAMED]]
    if others:
        more = len(said) - 1 - len(others)
        most.lines.append(f"Also: {'; '.join(others)}{f'; and {more} more' if more else ''}.")
    return most


def paused(was: Situation, summary: ExecutionSummary, *, is_late: bool) -> Situation:
    """What to say of an execution that a person holds. is_late: its time to live is over."""
    scope = summary.paused_scope or EXECUTION
    says = Situation("PAUSED", "Paused", until=summary.paused_at, until_word="since")
    whole = "" if scope == EXECUTION else f"{name_of(scope, summary.paused_name)} is paused "
    by = f"by {summary.paused_by}" if summary.paused_by else "by somebody"
    why = f": {summary.paused_reason}" if summary.paused_reason else ""
    says.lines.append(f"{whole[:1].upper()}{whole[1:]}{by}{why}")
    if is_late:
        says.lines.append("Its time to live is over: it is undone once it is resumed.")
    until = f" {was.until_word} {exactly(was.until)}" if was.until is not None else ""
    says.lines.append(f"Without that: {was.headline[0].lower()}{was.headline[1:]}{until}")
    says.lines += was.lines
    says.error, says.awaited, says.is_trouble = was.error, was.awaited, was.is_trouble
    return says


_OPEN = {
    StepState.RUNNING,
    StepState.RETRYING,
    StepState.SLEEPING,
    StepState.WAITING,
    StepState.IN_DOUBT,
    StepState.ASKING,
}


def _urgency(one: Situation) -> tuple[bool, bool, float]:
    """What is wrong, then what ends by itself, the sooner the earlier."""
    until = one.until
    return not one.is_trouble, until is None, until.timestamp() if until is not None else 0.0


def _open(row: Row) -> Situation:
    """What to say of a step that is not over."""
    last = row.last
    assert last is not None
    step = f"step “{row.title}”"
    if row.state is StepState.WAITING and row.child is not None:
        words = f"Waits for its child “{row.child}”"
        return Situation("SUSPENDED", words, until=last.due_at, child=row.child)
    if row.state is StepState.WAITING:
        if is_question(row.name):
            return Situation("SUSPENDED", f"Waits for an {row.title}", until=last.due_at)
        words = f"Waits for the signal “{row.name}”"
        return Situation("SUSPENDED", words, until=last.due_at, awaited=row.name)
    if row.state is StepState.SLEEPING:
        return Situation("SUSPENDED", f"Sleeps in “{row.name}”", until=last.due_at)
    if row.state is StepState.RETRYING:
        return Situation(
            "RETRY",
            f"Tries {step} again, attempt {last.attempt + 1},",
            until=last.due_at,
            until_word="at",
            lines=[f"Attempt {last.attempt} failed:"],
            error=error_text(last.error_type, last.error_message),
            is_trouble=True,
        )
    if row.state is StepState.ASKING:
        return _asking(row)
    if row.state is StepState.IN_DOUBT:
        return Situation(
            "DOUBT",
            f"In doubt: {step} was cut off",
            lines=[
                "It had begun and no living worker runs it: it may have taken effect, or not."
                " When a worker claims the execution, the step runs again, with the same"
                " idempotency key."
            ],
            is_trouble=True,
        )
    attempt = f", attempt {last.attempt}" if last.attempt > 1 else ""
    return Situation("RUNNING", f"Runs {step}{attempt},", until=last.started_at, until_word="since")


def _asking(row: Row) -> Situation:
    asked = row.compensation if row.asks_to_undo else row.last
    assert asked is not None
    what = "undoing step" if row.asks_to_undo else "step"
    return Situation(
        "DOUBT",
        f"Waits for an answer about {what} “{row.title}”",
        until=asked.completed_at,
        until_word="since",
        lines=[
            "It was cut off, or took longer than its timeout: it may have taken effect, or not."
            " Find out, and say so in the row of the step."
        ],
        error=asked.error_message,
        is_trouble=True,
    )


def _until_when(blocked_reason: str) -> str:
    if blocked_reason.startswith(DELETED_ROWS):
        return (
            "Restore the rows, or a backup; then unblock it, in the list of those that are blocked."
        )
    return "It stays so until it is unblocked."


def _ended(
    status: ExecutionStatus, rows: Sequence[Row], took: timedelta, error: str | None
) -> Situation:
    if status is ExecutionStatus.COMPLETED:
        return Situation("COMPLETED", f"Completed in {duration(took)}")
    said = Situation(status.value, f"Cancelled after {duration(took)}")
    if status is ExecutionStatus.FAILED:
        failed = [row for row in rows if row.state is StepState.FAILED]
        where = f"at step “{failed[-1].title}”, " if failed else ""
        said.headline = f"Failed {where}after {duration(took)}"
        said.is_failed = True
        said.error = error
    said.lines = _what_was_undone(rows)
    said.is_trouble = any(row.state is StepState.NOT_UNDONE for row in rows)
    return said


def _undoing(
    rows: Sequence[Row], is_worked_on: bool, error: str | None, since: datetime | None
) -> Situation:
    asking = [row for row in rows if row.state is StepState.ASKING]
    if asking:
        said = _asking(asking[-1])
        said.lines += _what_was_undone(rows)
        return said
    at = [row for row in rows if row.state is StepState.UNDOING]
    words = f"Undoing step “{at[-1].name}”" if at else "Undoing what was done"
    lines = _what_was_undone(rows)
    if since is not None:
        lines.insert(0, f"It has been undoing its steps since {exactly(since)}.")
    if error is not None:
        lines.append(f"The cause is: {error}")
    now = at[-1].compensation if at else None
    if now is None or now.error_type is None:
        if not is_worked_on:
            words += ", as soon as a worker has it"
        return Situation("COMPENSATING", words, lines=lines)
    return Situation(
        "RETRY",
        f"Could not undo step “{at[-1].name}” so far; tries again",
        until=now.due_at,
        until_word="at",
        lines=[*lines, "The compensation failed:"],
        error=error_text(now.error_type, now.error_message),
        is_trouble=True,
    )


def _what_was_undone(rows: Sequence[Row]) -> list[str]:
    lines: list[str] = []
    not_undone = [row.name for row in rows if row.state is StepState.NOT_UNDONE]
    undone = [row.name for row in rows if row.state is StepState.UNDONE]
    if not_undone:
        lines.append(f"Could not be undone: {_names(not_undone)}.")
    if undone:
        lines.append(f"Undone: {_names(undone)}.")
    return lines


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"“{name}”" for name in names[:_NAMED]) + more


def error_text(error_type: str | None, message: str | None) -> str | None:
    """An error as it is stored."""
    if error_type is None and message is None:
        return None
    return ": ".join(part for part in (error_type, message) if part)
