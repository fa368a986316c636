"""Checks of the rows of a database: unreadable, missing or lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from durable_workflow_sqlite.reading.executions import step_words
from durable_workflow_sqlite.reading.findings import LATE, SHOWN, Finding, Level
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    CHILD_SIGNAL,
    RESOLVED_SIGNAL,
    TERMINAL_STATUSES,
    ExecutionStatus,
)
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.lost_rows import MissingRows, gaps
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows import json_array, time_to_text
from durable_workflow_sqlite.store.unreadable import unreadable_rows

LOOKED_AT: Final = 1000
"""So many of a kind are looked at, at most."""


def rows(file: Readable) -> Iterator[Finding]:
    unreadable = _unreadable(file)
    if unreadable:
        more = len(unreadable) - SHOWN
        yield Finding(
            level=Level.ERROR,
            check="rows",
            message="; ".join(unreadable[:SHOWN]) + (f"; and {more} more" if more > 0 else ""),
            hint="correct the columns by hand (a time is 2030-01-01T00:00:00.000000Z), then restart"
            " the workers: no worker can claim these executions",
        )
    else:
        yield Finding(
            level=Level.OK, check="rows", message="everything that workers need can be read"
        )


def history(file: Readable, *, quick: bool) -> Iterator[Finding]:
    found = _gaps(file, finished=not quick)
    certain = [gap.text for gap in found if gap.is_certain]
    numbers = [gap.text for gap in found if not gap.is_certain]
    if certain:
        yield Finding(
            level=Level.ERROR,
            check="history",
            message=_some(certain),
            hint="restore the rows of step_checkpoints that somebody deleted or edited, or a"
            " backup; then restart the workers. Until then, they do not run these executions",
        )
    if numbers:
        yield Finding(
            level=Level.WARNING,
            check="history",
            message=_some(numbers),
            hint="if somebody deleted rows of step_checkpoints by hand, restore them, or a backup."
            " If not, do nothing. A number is also skipped, without harm, when the file was locked"
            " or the disk full; or when a transaction was tried again beside other steps",
        )
    if not found:
        yield Finding(level=Level.OK, check="history", message="no event or attempt is missing")


def untaken_signals(file: Readable, now: datetime) -> list[q.LoadUntakenSignalsRow]:
    """Signals for a wait that is open, and that nobody has taken for a while."""
    with file.reading() as connection:
        return file.queries.load_untaken_signals(
            connection, before=time_to_text(now - LATE), row_limit=LOOKED_AT
        )


def edited(
    file: Readable, signals: list[q.LoadUntakenSignalsRow], *, quick: bool
) -> Iterator[Finding]:
    """Changes that only a person who edits the file can have made. signals: those not taken."""
    over = [] if quick else _edited_by_hand(file)
    if over:
        yield Finding(
            level=Level.WARNING,
            check="edited",
            message="no worker leaves an execution like this: " + _some(over),
            hint="if somebody set the status by hand, find out what was done, undo it by hand, or"
            " restore a backup; `durable-workflow show FILE ID` shows the steps. An earlier version"
            " may have left a wait open",
        )
    numbered = _numbered(file)
    if numbered:
        yield Finding(
            level=Level.ERROR,
            check="edited",
            message="steps that have not ended, with the number of an event: " + _some(numbered),
            hint="somebody edited the status or the event by hand: restore the row, or a backup",
        )
    yield from _asleep(signals)
    yield from _stranded(file)
    yield from _left_open(file, quick=quick)
    if _tokens_may_come_again(file):
        yield Finding(
            level=Level.ERROR,
            check="tokens",
            message=f"{file.dialect.tokens} by hand: fencing tokens repeat, and two workers may"
            " write for one execution",
            hint="stop all workers, then start them again: then no worker has an old token",
        )


def _asleep(signals: list[q.LoadUntakenSignalsRow]) -> Iterator[Finding]:
    asleep = [
        f"{one.signal_name} of {one.workflow_execution_id}"
        for one in signals
        if one.worker_id is None
    ]
    if asleep:
        yield Finding(
            level=Level.WARNING,
            check="asleep",
            message="a signal came, and no worker will claim the execution that waits for it: "
            + _some(asleep),
            hint="somebody set available_at to null, or the trigger trg_wf_signal_wakes was"
            " missing: set available_at of these executions to the present time by hand",
        )


def _stranded(file: Readable) -> Iterator[Finding]:
    """Executions that wait for what will not come, or that no worker may claim."""
    with file.reading() as connection:
        found = file.queries.load_stranded(
            connection, child_signal=CHILD_SIGNAL, row_limit=LOOKED_AT
        )
    for what, (message, hint) in _STRANDED.items():
        names = [
            row.workflow_execution_id
            if row.step_name is None
            else f"{row.workflow_execution_id} ({step_words(row.step_name)})"
            for row in found
            if row.what == what
        ]
        if names:
            yield Finding(
                level=Level.ERROR,
                check="stranded",
                message=f"{message}: {_some(names)}",
                hint=hint.format(present=file.dialect.present),
            )


def _left_open(file: Readable, *, quick: bool) -> Iterator[Finding]:
    """Steps that nobody may have done, or that are done again."""
    opened = [] if quick else _open_of_completed(file)
    if opened:
        yield Finding(
            level=Level.WARNING,
            check="completed",
            message="COMPLETED, with steps, sleeps or waits that have not ended: " + _some(opened),
            hint="if somebody set the status by hand, restore a backup, or run `durable-workflow"
            " rerun FILE ID`. If not, an earlier version left a step open when its worker was"
            " killed: find out whether the step took effect",
        )
    unblocked = _unblocked_without_rows(file)
    if unblocked:
        yield Finding(
            level=Level.WARNING,
            check="unblocked",
            message="unblocked although rows of their steps were missing: " + _some(unblocked),
            hint="such a step runs again, and what it did at first may not be undone:"
            " `durable-workflow show FILE ID` says what it does now. Correct by hand what was done"
            " twice; this is said until the execution is over",
        )


def signals(file: Readable) -> Iterator[Finding]:
    refused = _refused_signals(file)
    stray = _stray_signals(file)
    if refused:
        yield Finding(
            level=Level.WARNING,
            check="signals",
            message="refused signals, while their executions still wait: " + _some(refused),
            hint="send them again, with a payload that fits: `durable-workflow signal FILE ID NAME"
            " JSON`",
        )
    if stray:
        yield Finding(
            level=Level.WARNING,
            check="signals",
            message="pending signals that no execution will take: " + _some(stray),
            hint="delete these rows, which somebody inserted by hand, or correct them. The signal"
            " that cancels an execution has the name $cancel",
        )
    if not (refused or stray):
        yield Finding(level=Level.OK, check="signals", message="each can still be taken")


def _unreadable(file: Readable) -> list[str]:
    with file.reading() as connection:
        return list(unreadable_rows(file.queries, connection))


def _gaps(file: Readable, *, finished: bool) -> list[MissingRows]:
    """finished: also of those that FAILED or were CANCELLED, which may be run or undone again."""
    statuses = [one.value for one in ExecutionStatus if not one.is_terminal]
    if finished:
        statuses += [ExecutionStatus.FAILED.value, ExecutionStatus.CANCELLED.value]
    with file.reading() as connection:
        return list(gaps(file.queries, connection, statuses, LOOKED_AT))


_WHAT: Final = {
    "open": "{status} with the open wait or sleep {step}",
    "not undone": "{step} is neither undone nor acknowledged",
    "no error": "FAILED without an error",
}


_STRANDED: Final = {
    "child": (
        "parents that wait for a child which is over or gone, or has another parent, so nobody"
        " tells them",
        "somebody edited the row of the child, or deleted a signal. If the child is not over, set"
        " its parent_execution_id back by hand. Otherwise `durable-workflow cancel FILE ID`, and"
        " `durable-workflow rerun FILE ID`",
    ),
    "no event": (
        "COMPLETED, without the number of an event, so the function never gets the outcome",
        "somebody edited status or event of these rows of step_checkpoints by hand: restore the"
        " rows, or a backup",
    ),
    "no time": (
        "no worker has these executions, and available_at is null, so none claims them",
        "somebody set available_at to null by hand: set it to the present time, as {present}",
    ),
}
"""Why no worker goes on with an execution: what to say, and what to do."""


def _edited_by_hand(file: Readable) -> list[str]:
    statuses = json_array([ExecutionStatus.FAILED.value, ExecutionStatus.CANCELLED.value])
    with file.reading() as connection:
        found = file.queries.load_edited(connection, statuses=statuses, row_limit=LOOKED_AT)
    return [
        f"{row.workflow_execution_id} ("
        + _WHAT[row.what].format(status="FAILED or CANCELLED", step=row.step_name)
        + ")"
        for row in found
    ]


def _numbered(file: Readable) -> list[str]:
    with file.reading() as connection:
        found = file.queries.load_numbered_intents(connection, row_limit=LOOKED_AT)
    return [f"{row.step_name} of {row.workflow_execution_id}" for row in found]


def _open_of_completed(file: Readable) -> list[str]:
    with file.reading() as connection:
        found = file.queries.load_open_of_completed(connection, row_limit=LOOKED_AT)
    return [f"{row.workflow_execution_id} ({row.step_name})" for row in found]


def _unblocked_without_rows(file: Readable) -> list[str]:
    with file.reading() as connection:
        found = file.queries.load_unblocked_without_rows(connection, row_limit=LOOKED_AT)
    return [f"{row.workflow_execution_id} ({row.missing})" for row in found]


def _tokens_may_come_again(file: Readable) -> bool:
    """Whether SQLite has lost the number of the last fencing token."""
    with file.reading() as connection:
        (row,) = file.queries.load_token_sequence(connection)
    return row.given < row.used or (row.given == 0 and bool(row.has_begun))


def _refused_signals(file: Readable) -> list[str]:
    """The last ones that were refused where the execution still waits for one like it."""
    with file.reading() as connection:
        return [
            f"{row.signal_name} of {row.workflow_execution_id} ({row.refused_reason or ''})"
            for row in file.queries.load_refused_signals(connection, row_limit=LOOKED_AT)
        ]


def _stray_signals(file: Readable) -> list[str]:
    """The pending ones that nothing will take."""
    with file.reading() as connection:
        return [
            f"{row.signal_name} of {row.workflow_execution_id} ("
            + (
                f"the execution is {row.status}"
                if row.status in TERMINAL_STATUSES
                else "no such name is known"
            )
            + ")"
            for row in file.queries.load_stray_signals(
                connection,
                cancel_signal=CANCEL_SIGNAL,
                resolved_signal=RESOLVED_SIGNAL,
                row_limit=LOOKED_AT,
            )
        ]


def _some(texts: list[str]) -> str:
    more = len(texts) - SHOWN
    return "; ".join(texts[:SHOWN]) + (f"; and {_more(more)}" if more > 0 else "")


def _more(number: int) -> str:
    return f"{number} more" if number + SHOWN < LOOKED_AT else f"{number} more at least"
