"""The list of executions: what its address asks for, its numbers, and its lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from durable_workflow_sqlite.dashboard.filters import Filters
from durable_workflow_sqlite.dashboard.text import duration
from durable_workflow_sqlite.reading.executions import (
    ExecutionCount,
    ExecutionSummary,
    Page,
    beginning,
    step_words,
)
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.records import (
    COMPENSATION_SUFFIX,
    TERMINAL_STATUSES,
    ExecutionStatus,
)

LINES_PER_PAGE: Final = 50

_STATUSES: Final = (
    ExecutionStatus.RUNNING,
    ExecutionStatus.SUSPENDED,
    ExecutionStatus.PENDING,
    ExecutionStatus.COMPENSATING,
    ExecutionStatus.FAILED,
    ExecutionStatus.CANCELLED,
    ExecutionStatus.COMPLETED,
)


class Count(NamedTuple):
    """One of the numbers at the top, which is a filter, too."""

    name: str
    number: int
    href: str
    is_chosen: bool


class ExecutionLine(NamedTuple):
    """An execution in the list."""

    id: str
    status: str
    workflow_type: str
    version: int
    where: str
    until_word: str
    until: datetime | None
    why: str
    began_at: datetime | None
    took: str


def page_of(reader: Reader, filters: Filters, now: datetime) -> Page:
    """Raises ValueError for filters that make no sense."""
    selection = filters.chosen().selection(reader, now)
    return reader.page(selection, filters.after or None, LINES_PER_PAGE)


def counts_of(counts: Iterable[ExecutionCount], filters: Filters, at: str) -> list[Count]:
    """All, then each status; of the workflow that is asked for, if one is."""
    totals = dict.fromkeys(_STATUSES, 0)
    for one in counts:
        if one.status in totals and filters.workflow_type in ("", one.workflow_type):
            totals[ExecutionStatus(one.status)] += one.count
    return [
        Count("all", sum(totals.values()), filters.href(at, statuses=()), not filters.statuses),
        *(
            Count(status, number, filters.href(at, statuses=(status,)), status in filters.statuses)
            for status, number in totals.items()
        ),
    ]


def types_of(counts: Iterable[ExecutionCount], filters: Filters) -> list[str]:
    types = {one.workflow_type for one in counts if one.workflow_type}
    if filters.workflow_type:
        types.add(filters.workflow_type)
    return sorted(types)


def lines_of(
    summaries: Sequence[ExecutionSummary], in_doubt: Collection[str], now: datetime
) -> list[ExecutionLine]:
    """in_doubt: the ids of executions that have a step in doubt."""
    return [_line(one, one.id in in_doubt, now) for one in summaries]


def _line(one: ExecutionSummary, is_in_doubt: bool, now: datetime) -> ExecutionLine:
    is_final = one.status in TERMINAL_STATUSES
    is_blocked = one.blocked_reason is not None and not is_final
    took = ""
    if is_final and one.status_since is not None and one.created_at is not None:
        took = duration(one.status_since - one.created_at)
    why = one.blocked_reason if is_blocked else one.trouble
    if why is None and one.status == ExecutionStatus.FAILED:
        why = one.error_message or one.error_type
    if why is None and (one.waiting_for or "").startswith(("retry", "probe", "answer")):
        why = one.step_error_message or one.step_error_type
    where, until = _where(one, is_final)
    if one.paused_scope is not None:
        where, until = f"paused: {where}", None
        why = why or one.paused_reason
    elif one.trouble is not None and not is_blocked:
        where, until = "left as it is by its worker", None
    elif is_in_doubt and why is None:
        where, until = f"in doubt at “{one.current_step}”: no living worker has it", None
    if one.waiting_for == "worker" and until is not None and until <= now:
        until = None
    return ExecutionLine(
        id=one.id,
        status=_state(one, is_blocked, is_in_doubt),
        workflow_type=one.workflow_type or "unknown workflow",
        version=one.version or 1,
        where=where,
        until_word="from" if one.waiting_for == "worker" else "until",
        until=until,
        why=beginning(why) or "",
        began_at=one.created_at,
        took=took,
    )


def _state(one: ExecutionSummary, is_blocked: bool, is_in_doubt: bool) -> str:
    """Its status, or what is more urgent."""
    if is_blocked:
        return "BLOCKED"
    if one.steps_not_undone:
        return "NOT UNDONE"
    if one.trouble is not None:
        return "IN TROUBLE"
    if one.paused_scope is not None:
        return "PAUSED"
    return "IN DOUBT" if is_in_doubt else one.status


def _where(one: ExecutionSummary, is_final: bool) -> tuple[str, datetime | None]:
    """What it is at, in few words; and when that ends by itself."""
    done = f"{one.steps_completed} {'step' if one.steps_completed == 1 else 'steps'} done"
    if is_final:
        return (f"at “{step_words(one.current_step)}”" if one.current_step else done), None
    what, _, name = (one.waiting_for or "").partition(" ")
    words = {
        "child": f"waits for its child “{name}”",
        "signal": f"waits for the signal “{name}”",
        "time": f"sleeps in “{one.current_step}”",
        "retry": f"waits to {'undo' if one.attempts == 0 else 'try'} “{_of(one)}” again",
        "probe": f"waits to ask again what became of “{_of(one)}”",
        "answer": f"waits for an answer about “{_of(one)}”"
        if name.startswith("about ")
        else f"waits for an {one.waiting_for}",
        "worker": "waits for a worker",
    }.get(what)
    if words is not None:
        return words, one.waiting_until
    if one.current_step is not None:
        attempt = f", attempt {one.attempts}" if (one.attempts or 0) > 1 else ""
        verb = "undoes" if one.attempts == 0 else "runs"
        return f"{verb} “{_of(one)}”{attempt}", None
    return done, None


def _of(one: ExecutionSummary) -> str:
    """The step; of a compensation, the step that it undoes."""
    return (one.current_step or "").removesuffix(COMPENSATION_SUFFIX)
