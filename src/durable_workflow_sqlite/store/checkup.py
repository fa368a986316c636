"""`check_content`: what is wrong with what is in a database, and what its operator should know."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from durable_workflow_sqlite.reading.executions import step_words
from durable_workflow_sqlite.reading.findings import (
    COUNTED,
    FORGOTTEN,
    LATE,
    RECENTLY,
    SHOWN,
    TOGETHER,
    Finding,
    Level,
    at,
    many,
)
from durable_workflow_sqlite.reading.overview import ExecutionInTrouble, Overview, short_place
from durable_workflow_sqlite.reading.pauses import name_of, option_of, says
from durable_workflow_sqlite.reading.queues import queue_findings
from durable_workflow_sqlite.reading.schedules import schedule_findings
from durable_workflow_sqlite.reading.worker_findings import START, worker_findings
from durable_workflow_sqlite.reading.workers import Workers
from durable_workflow_sqlite.records import PauseScope
from durable_workflow_sqlite.store import moves, rows_checkup
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.encodings_checkup import encoded
from durable_workflow_sqlite.store.overview import overview, paused
from durable_workflow_sqlite.store.problems import problems
from durable_workflow_sqlite.store.questions_checkup import questions, unanswered
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.reading_queues import read_queues
from durable_workflow_sqlite.store.reading_schedules import read_schedules
from durable_workflow_sqlite.store.reading_workers import read_workers
from durable_workflow_sqlite.store.rows import time_to_text

_GROUPS: Final = 20
"""So many groups of the same error are looked through."""

SUSPECT_AT: Final = 5
"""Take-overs in a row after which an execution is a suspect, as `max_recoveries` is by default."""


def check_content(file: Readable, now: datetime, *, quick: bool) -> Iterator[Finding]:
    """Check the rows and the workers of a database; quick: leave out slow checks."""
    with file.reading() as connection:
        moved = moves.known(connection, file.queries)
    yield from moves.findings(moved)
    if moved.out is not None:
        return  # what is here goes on elsewhere
    yield from rows_checkup.rows(file)
    yield from encoded(file, quick=quick)
    yield from rows_checkup.history(file, quick=quick)
    signals = rows_checkup.untaken_signals(file, now)
    yield from rows_checkup.edited(file, signals, quick=quick)
    yield from rows_checkup.signals(file)
    workers = read_workers(file, None, limit=SHOWN)
    yield from worker_findings(workers, now)
    yield from schedule_findings(read_schedules(file), workers, now)
    yield from queue_findings(read_queues(file, now), workers, now)
    yield from _executions(file, workers, signals, now)
    yield from _paused(file, workers, now)
    yield from _failed(file, now)
    yield from _back_offs(file)


def _executions(
    file: Readable, workers: Workers, signals: list[q.LoadUntakenSignalsRow], now: datetime
) -> Iterator[Finding]:
    seen = overview(file, now, limit=SHOWN)
    found = [
        *_steps(seen, workers),
        *_left_as_they_are(seen),
        *_taken_over(file),
        *_overdue(file, seen, workers, signals, now),
    ]
    message = "none is blocked, in trouble or in doubt"
    yield from found or [Finding(level=Level.OK, check="executions", message=message)]


def _steps(seen: Overview, workers: Workers) -> Iterator[Finding]:
    """Steps that may have taken effect, or are not undone."""
    if seen.in_doubt_total:
        yield Finding(
            level=Level.NOTE if workers.living else Level.WARNING,
            check="in-doubt",
            message=f"{many(seen.in_doubt_total, 'step')} in doubt (interrupted by a dead worker): "
            + ", ".join(f"{one.step_name} of {one.execution_id}" for one in seen.in_doubt),
            hint="do nothing: a living worker takes their executions over, and runs them again"
            if workers.living
            else f"start a worker, which runs them again: {START}",
        )
    if seen.unresolved_total:
        yield Finding(
            level=Level.WARNING,
            check="unresolved",
            message=f"{many(seen.unresolved_total, 'step')} in doubt, waiting for a person: "
            + ", ".join(
                f"{one.step_name} of {one.execution_id}, since {at(one.asked_at)}"
                for one in seen.unresolved
            ),
            hint="find out whether each took effect, then run `durable-workflow resolve FILE ID"
            " STEP JSON` with what it returned, or with --not-done, or with --failed WHY",
        )
    if seen.not_undone_total:
        yield Finding(
            level=Level.ERROR,
            check="not-undone",
            message=f"{many(seen.not_undone_total, 'step')} not undone, because the compensation"
            " failed for good: "
            + ", ".join(
                f"{one.step_name} of {one.execution_id} ({one.error_type})"
                for one in seen.not_undone
            ),
            hint="correct the cause, then run `durable-workflow retry FILE ID`; or undo the step by"
            " hand, then run `durable-workflow acknowledge FILE ID`",
        )
    if seen.undoing_total:
        yield Finding(
            level=Level.WARNING,
            check="undoing",
            message=f"{many(seen.undoing_total, 'step')} not undone yet: "
            + ", ".join(
                f"{one.step_name} of {one.execution_id}, since {at(one.undoing_since)},"
                f" next attempt {at(one.next_try_at)} ({one.error_message})"
                for one in seen.undoing
            ),
            hint="correct the cause: each compensation is retried until it succeeds. To retry it at"
            " once, run `durable-workflow retry FILE ID`; if a person has undone the step, run"
            " `durable-workflow acknowledge FILE ID --step STEP`",
        )
    if seen.cut_off_total:
        yield Finding(
            level=Level.WARNING,
            check="cut-off",
            message=f"{many(seen.cut_off_total, 'step')} cut off or timed out: may have taken"
            " effect, and will not be undone: "
            + ", ".join(f"{one.step_name} of {one.execution_id}" for one in seen.cut_off),
            hint="find out whether they took effect, undo that by hand, then run `durable-workflow"
            " acknowledge FILE ID`",
        )


def _left_as_they_are(seen: Overview) -> Iterator[Finding]:
    """Executions with which no worker goes on before a person has done something."""
    if seen.blocked_total:
        yield Finding(
            level=Level.WARNING,
            check="blocked",
            message=f"{many(seen.blocked_total, 'execution')} blocked: "
            + ", ".join(f"{one.id} ({one.blocked_reason})" for one in seen.blocked),
            hint="correct the cause, which is in brackets (restore rows that were deleted), then"
            " run `durable-workflow unblock FILE ID`",
        )
    if seen.in_trouble_total:
        yield Finding(
            level=Level.WARNING,
            check="trouble",
            message=f"{many(seen.in_trouble_total, 'execution')} in trouble: "
            + ", ".join(
                f"{one.id} ({_in_a_word(one)}, since {at(one.trouble_since)})"
                for one in seen.in_trouble
            ),
            hint="run `durable-workflow show FILE ID`, which says why; correct the cause, or deploy"
            " code that fits; then restart the workers",
            details=tuple(f"{one.id}: {one.trouble}" for one in seen.in_trouble),
        )


def _taken_over(file: Readable) -> Iterator[Finding]:
    suspects, suspects_total = _suspects(file)
    if suspects:
        more = suspects_total - len(suspects)
        yield Finding(
            level=Level.WARNING,
            check="suspects",
            message=f"{many(suspects_total, 'execution')} taken over from dead workers repeatedly,"
            " without progress in between: "
            + ", ".join(f"{one} ({times} times)" for one, times in suspects)
            + (f"; and {more} more" if more else ""),
            hint="run `durable-workflow show FILE ID`, which names the step that runs. Find out"
            " whether it ends its worker (memory, a crash in C). If so, correct it, or run"
            " `durable-workflow cancel FILE ID`",
        )


def _overdue(
    file: Readable,
    seen: Overview,
    workers: Workers,
    signals: list[q.LoadUntakenSignalsRow],
    now: datetime,
) -> Iterator[Finding]:
    """Signals and deadlines that a worker should have taken."""
    late = [one for one in seen.next_timers if one.fire_at is not None and one.fire_at + LATE < now]
    held = _held(file, workers, [one.execution_id for one in late])
    untaken = _untaken(signals, workers) + [
        f"deadline {step_words(one.step_name)} of {one.execution_id} ({held[one.execution_id]})"
        for one in late
        if one.execution_id in held
    ]
    late = [one for one in late if one.execution_id not in held]
    asked = unanswered(file)
    signals_asked = {(one.workflow_execution_id, one.signal_name) for one in asked}
    of_questions = {(one.execution_id, one.step_name) for one in late} & signals_asked
    yield from questions(asked, of_questions, workers)
    late = [one for one in late if (one.execution_id, one.step_name) not in of_questions]
    if untaken:
        more = len(untaken) - SHOWN
        yield Finding(
            level=Level.WARNING,
            check="untaken",
            message="due for over a minute, and the living worker that has the execution has not"
            " taken it: " + ", ".join(untaken[:SHOWN]) + (f" and {more} more" if more > 0 else ""),
            hint="`durable-workflow workers FILE` says whether that worker is stopped: `kill -CONT"
            " PID` lets it go on. Otherwise its log says what blocks its event loop. `kill -9 PID`"
            " lets another worker take over what it has",
        )
    if late:
        yield Finding(
            level=Level.WARNING,
            check="timers",
            message="deadlines that no worker noticed: "
            + ", ".join(f"{step_words(one.step_name)} of {one.execution_id}" for one in late),
            hint=f"start a worker that has these workflows: {START}",
        )


def _paused(file: Readable, workers: Workers, now: datetime) -> Iterator[Finding]:
    """What a person holds, so that nobody looks for another reason why it does not continue.

    It is a warning once something has waited for long: somebody may have forgotten it.
    """
    found = paused(file, limit=SHOWN)
    held = {one.workflow_type for one in workers.queues if one.paused}

    def level(since: datetime | None, *, holds: bool) -> Level:
        is_old = since is not None and since + FORGOTTEN < now
        return Level.WARNING if is_old and holds else Level.NOTE

    for one in found.wholes:
        option = shlex.join(option_of(one.scope, one.name))
        holds = {
            PauseScope.WORKFLOW: one.name in held,
            PauseScope.QUEUE: False,  # `queue_findings` knows what waits in it
            PauseScope.ALL: bool(held),
        }[one.scope]
        yield Finding(
            level=level(one.paused_at, holds=holds),
            check="paused",
            message=f"{name_of(one.scope, one.name)} is paused"
            f" {says(one.paused_at, one.paused_by, one.paused_reason)}",
            hint=f"`durable-workflow resume FILE {option}` lets it go on",
        )
    if found.executions_total:
        more = found.executions_total - len(found.executions)
        named = ", ".join(
            f"{one.id} ({says(one.paused_at, one.paused_by, one.paused_reason)})"
            for one in found.executions
        )
        yield Finding(
            level=level(found.executions[0].paused_at, holds=True),
            check="paused",
            message=f"{many(found.executions_total, 'execution')} paused: {named}"
            + (f"; and {more:,} more" if more > 0 else ""),
            hint="`durable-workflow resume FILE ID` lets one go on, and"
            " `durable-workflow list FILE --paused` lists them",
        )


def _failed(file: Readable, now: datetime) -> Iterator[Finding]:
    """What has just failed with the same error, so that there is one cause to look for."""
    with file.reading() as connection:
        groups = file.queries.load_fresh_failures(
            connection, since=time_to_text(now - RECENTLY), least=TOGETHER, at_most=COUNTED
        )
    for one in groups[:SHOWN]:
        which = _which("--failed-since 1h", one.workflow_type, None, one.error_type)
        yield Finding(
            level=Level.WARNING,
            check="failed",
            message=f"{many(one.executions, 'execution')} of {one.workflow_type} FAILED"
            f" within an hour with {one.error_type or 'an unknown error'}, the last at"
            f" {one.last_one[:27]}: {one.last_one[27:]}",
            hint=f"look: `durable-workflow list FILE {which}`; once the cause is gone:"
            f" `durable-workflow retry FILE {which}`, or `rerun` for those that were undone",
        )


def _back_offs(file: Readable) -> Iterator[Finding]:
    for one in problems(file, limit=_GROUPS):
        if one.problem == "BACK-OFF":
            which = _which(
                "--status running,pending",
                one.workflow_type,
                one.step_name,
                one.error_type,
            )
            yield Finding(
                level=Level.WARNING,
                check="back-off",
                message=f"{many(one.executions, 'execution')} of {one.workflow_type or '?'} wait"
                f" for the next attempt of {one.step_name} after {one.error_type}: {one.says}",
                hint="correct the cause; the attempts come by themselves, and `durable-workflow"
                f" retry FILE {which}` makes them at once",
            )


def _which(first: str, workflow: str | None, step: str | None, error: str | None = None) -> str:
    """The options of a command that choose a group."""
    values = (("--type", workflow), ("--step", step), ("--error", error))
    return " ".join([first, *(f"{name} {shlex.quote(value)}" for name, value in values if value)])


def _held(file: Readable, workers: Workers, execution_ids: list[str]) -> dict[str, str]:
    """Those of some executions that a living worker has, and the name of that worker."""
    living = {one.worker_id: one.name for one in workers.living}
    found: dict[str, str] = {}
    with file.reading() as connection:
        for one in execution_ids:
            claim = file.queries.load_claim_of(connection, workflow_execution_id=one)
            if claim is not None and claim.worker_id in living:
                found[one] = living[claim.worker_id]
    return found


def _untaken(signals: list[q.LoadUntakenSignalsRow], workers: Workers) -> list[str]:
    """Signals that a living worker should have taken long ago."""
    living = {one.worker_id: one.name for one in workers.living}
    return [
        f"signal {row.signal_name} of {row.workflow_execution_id} ({living[row.worker_id]})"
        for row in signals
        if row.worker_id in living
    ]


def _suspects(file: Readable) -> tuple[list[tuple[str, int]], int]:
    """Executions that were taken over repeatedly: some, with their counts; and the total."""
    queries = file.queries
    with file.reading() as connection:
        rows = queries.load_taken_over(connection, least=SUSPECT_AT, row_limit=SHOWN)
        total = queries.count_taken_over(connection, least=SUSPECT_AT)
    return [(row.workflow_execution_id, row.recovery_count) for row in rows], total or 0


def _in_a_word(one: ExecutionInTrouble) -> str:
    """The class of the error, and the line of code, if there is one."""
    kind, place = one.trouble.partition(":")[0], short_place(one.place)
    if not place:
        return kind
    return f"{kind} at {place}" if place.startswith("line ") else f"{kind}: {place}"
