"""What is wrong with a database, and what an operator should know of it: `check_up`."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.store.connection import LOG_BYTES
from durable_workflow_sqlite.store.findings import LATE, SHOWN, Finding, Level, at, many
from durable_workflow_sqlite.store.in_memory import open_in_memory
from durable_workflow_sqlite.store.inspection import Inspector
from durable_workflow_sqlite.store.reading_workers import Staff
from durable_workflow_sqlite.store.schema import normal
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.store.worker_checkup import staff_findings
from durable_workflow_sqlite.store.worker_lock import lock_files

SUSPECT_AT: Final = 5
"""Take-overs in a row after which an execution is a suspect, as `max_recoveries` is by default."""

_LOOKED_AT: Final = 1000
"""So many of a kind are looked at, at most."""


def check_up(inspector: Inspector, now: datetime, *, quick: bool = False) -> Iterator[Finding]:
    """Look at a file, one thing after the other; quick: do not compare indexes with rows.

    Raises StoreError, when something cannot be looked at.
    """
    yield _sqlite_version()
    yield from _integrity(inspector, quick=quick)
    yield from _references(inspector)
    yield from _journal(inspector)
    yield disk(inspector)
    schema = _schema(inspector)
    yield schema
    if schema.level is Level.ERROR:
        return  # what is missing is needed to look further
    try:
        yield from _content(inspector, now, quick=quick)
    except StoreError as error:
        if schema.level is Level.OK:
            raise
        yield Finding(
            level=Level.ERROR,
            check="schema",
            message=f"the rest was not looked at: {error}",
            hint="make the schema whole first, and run doctor again",
        )


def _content(inspector: Inspector, now: datetime, *, quick: bool) -> Iterator[Finding]:
    yield from _rows(inspector)
    yield from _history(inspector, quick=quick)
    yield from _edited(inspector, quick=quick)
    yield from _signals(inspector)
    staff = inspector.staff()
    yield from staff_findings(staff, now)
    yield from _lock_files(inspector, staff)
    yield from _executions(inspector, staff, now)


def disk(inspector: Inspector) -> Finding:
    """Whether there is room for what workers record."""
    try:
        free = shutil.disk_usage(inspector.path.parent).free
    except OSError as error:
        raise StoreError(f"cannot tell how much room the disk has: {error}") from error
    text = f"{free / 1e6:,.0f} MB are free"
    if free >= 4 * LOG_BYTES:
        return Finding(level=Level.OK, check="disk", message=text)
    return Finding(
        level=Level.ERROR if free < 1_000_000 else Level.WARNING,
        check="disk",
        message=f"{text}: workers stop when there is no room for what they record",
        hint="make room; workers go on by themselves then. `prune` and `vacuum` need room, too",
    )


def _sqlite_version() -> Finding:
    version = sqlite3.sqlite_version_info
    text = f"SQLite {sqlite3.sqlite_version}"
    if not has_reset_bug(version):
        return Finding(level=Level.OK, check="sqlite", message=text)
    return Finding(
        level=Level.NOTE,
        check="sqlite",
        message=f"{text} has the WAL-reset bug (3.7.0 to 3.51.2), which this library keeps from"
        " happening",
        hint="let no other program checkpoint this file: in the sqlite3 shell, say"
        " `pragma wal_autocheckpoint = 0` before writing",
    )


def has_reset_bug(version: tuple[int, int, int]) -> bool:
    """Whether a checkpoint that races a commit can corrupt a file (sqlite.org/wal.html)."""
    is_mended = version >= (3, 51, 3) or any(
        branch <= version < (3, branch[1] + 1, 0) for branch in ((3, 44, 6), (3, 50, 7))
    )
    return version >= (3, 7, 0) and not is_mended


def _integrity(inspector: Inspector, *, quick: bool) -> Iterator[Finding]:
    pragma = "quick_check" if quick else "integrity_check"
    # Rows that break a rule of a table are no damage: what is wrong with them, `_rows` says.
    inspector.pragma("ignore_check_constraints = on")
    problems = [text for (text,) in inspector.pragma(f"{pragma}({SHOWN})") if text != "ok"]
    if problems:
        yield Finding(
            level=Level.ERROR,
            check="integrity",
            message="; ".join(" ".join(text.split()) for text in problems),
            hint="stop the workers, keep a copy of the file, and restore a backup",
        )
    else:
        yield Finding(level=Level.OK, check="integrity", message=f"{pragma} finds nothing")


def _references(inspector: Inspector) -> Iterator[Finding]:
    broken = list(inspector.pragma("foreign_key_check"))
    if broken:
        table, _, referred, _ = broken[0]
        yield Finding(
            level=Level.ERROR,
            check="references",
            message=f"{many(len(broken), 'row')} with a reference to no row, the first in {table},"
            f" to {referred}",
            hint="list them with `pragma foreign_key_check`; restore or delete them",
        )
    else:
        yield Finding(level=Level.OK, check="references", message="every reference has its row")


def _schema(inspector: Inspector) -> Finding:
    found = {(kind, name): normal(sql) for kind, name, sql in inspector.schema_objects()}
    with closing(open_in_memory()) as fresh:
        wanted = {
            (row.type, row.name): normal(row.sql)
            for row in load_queries().load_schema_objects(fresh)
        }
    missing = [
        f"the {kind} {name} is missing" for kind, name in sorted(wanted.keys() - found.keys())
    ]
    other = [
        f"the {kind} {name} is another one"
        for kind, name in sorted(wanted.keys() & found.keys())
        if wanted[kind, name] != found[kind, name]
    ]
    if missing or other:
        of_views = all(one.startswith("the view ") for one in missing + other)
        return Finding(
            level=Level.ERROR if missing else Level.WARNING,
            check="schema",
            message="; ".join(missing + other),
            hint="`durable-workflow migrate FILE` makes views again"
            if of_views
            else "compare with sql/schema.sql, and create again what is not as it is there; views"
            " are made again by `durable-workflow migrate FILE`",
        )
    return Finding(level=Level.OK, check="schema", message=f"{len(wanted)} objects are as shipped")


def _journal(inspector: Inspector) -> Iterator[Finding]:
    ((mode,),) = inspector.pragma("journal_mode")
    if mode != "wal":
        yield Finding(
            level=Level.WARNING,
            check="journal",
            message=f"journal_mode is {mode}: readers and writers wait for each other",
            hint="the next worker that opens the file sets it to wal",
        )
        return
    size = _size(Path(f"{inspector.path}-wal"))
    if size > 2 * LOG_BYTES:
        yield Finding(
            level=Level.WARNING,
            check="journal",
            message=f"the log has {size / 1e6:.0f} MB: somebody has been reading for long, or no"
            " worker lives to copy it into the file",
            hint="end long readers, and start a worker",
        )
    else:
        yield Finding(level=Level.OK, check="journal", message=f"wal, with {size / 1e6:.1f} MB")


def _rows(inspector: Inspector) -> Iterator[Finding]:
    unreadable = inspector.unreadable()
    if unreadable:
        more = len(unreadable) - SHOWN
        yield Finding(
            level=Level.ERROR,
            check="rows",
            message="; ".join(unreadable[:SHOWN]) + (f"; and {more} more" if more > 0 else ""),
            hint="no worker claims these: correct the columns by hand (a time is"
            " 2030-01-01T00:00:00.000000Z), then restart the workers",
        )
    else:
        yield Finding(
            level=Level.OK, check="rows", message="everything that workers need can be read"
        )


def _history(inspector: Inspector, *, quick: bool) -> Iterator[Finding]:
    found = inspector.gaps(finished=not quick, limit=_LOOKED_AT)
    certain = [gap.text for gap in found if gap.is_certain]
    numbers = [gap.text for gap in found if not gap.is_certain]
    if certain:
        yield Finding(
            level=Level.ERROR,
            check="history",
            message=_some(certain),
            hint="rows of step_checkpoints were deleted or edited by hand: workers leave these"
            " executions as they are; restore the rows, or a backup, then restart the workers",
        )
    if numbers:
        yield Finding(
            level=Level.WARNING,
            check="history",
            message=_some(numbers),
            hint="if somebody deleted rows of step_checkpoints by hand, restore them, or a backup:"
            " workers leave these executions as they are. A number is also left out, without harm,"
            " where the file was locked or full when an outcome was to be written",
        )
    if not found:
        yield Finding(level=Level.OK, check="history", message="no event or attempt is missing")


def _edited(inspector: Inspector, *, quick: bool) -> Iterator[Finding]:
    """What nobody but a person who edits the file can have brought about."""
    opened = [] if quick else inspector.open_of_completed(_LOOKED_AT)
    if opened:
        yield Finding(
            level=Level.WARNING,
            check="completed",
            message="COMPLETED, with steps, sleeps or waits that have not ended: "
            + _some([f"{one} ({step})" for one, step in opened]),
            hint="somebody set the status by hand: restore a backup, or start them once more with"
            " `durable-workflow rerun FILE ID`. An earlier version left a step so that ran when its"
            " worker was killed: find out whether it took effect",
        )
    if inspector.tokens_may_come_again():
        yield Finding(
            level=Level.ERROR,
            check="tokens",
            message="the row of workflow_claims in sqlite_sequence was deleted or edited by hand:"
            " fencing tokens come again, and a worker that was cut off may write beside another",
            hint="stop all workers, and then start them again: tokens of before are nobody's then",
        )


def _signals(inspector: Inspector) -> Iterator[Finding]:
    refused = inspector.refused_signals(_LOOKED_AT)
    stray = inspector.stray_signals(_LOOKED_AT)
    if refused:
        yield Finding(
            level=Level.WARNING,
            check="signals",
            message="refused, and still waited for: "
            + _some([f"{one.signal_name} of {one.execution_id} ({one.why})" for one in refused]),
            hint="send them again, with a payload that fits: `durable-workflow signal FILE ID NAME"
            " JSON`",
        )
    if stray:
        yield Finding(
            level=Level.WARNING,
            check="signals",
            message="pending, and nothing will take them: "
            + _some([f"{one.signal_name} of {one.execution_id} ({one.why})" for one in stray]),
            hint="they were inserted by hand; delete them, or insert what was meant. To cancel, the"
            " name is $cancel",
        )
    if not (refused or stray):
        yield Finding(level=Level.OK, check="signals", message="each can still be taken")


def _lock_files(inspector: Inspector, staff: Staff) -> Iterator[Finding]:
    living = {one.worker_id for one in staff.living}
    orphans = [file.name for one, file in lock_files(inspector.path).items() if one not in living]
    if orphans:
        yield Finding(
            level=Level.NOTE,
            check="locks",
            message=f"{many(len(orphans), 'lock file')} of dead workers, which the next worker that"
            " starts removes: " + ", ".join(orphans[:SHOWN]),
        )


def _executions(inspector: Inspector, staff: Staff, now: datetime) -> Iterator[Finding]:
    overview = inspector.overview(now, limit=SHOWN)
    if overview.in_doubt_total:
        yield Finding(
            level=Level.NOTE if staff.living else Level.WARNING,
            check="in-doubt",
            message=f"{many(overview.in_doubt_total, 'step')} began and did not end: "
            + ", ".join(f"{one.step_name} of {one.execution_id}" for one in overview.in_doubt),
            hint="they run again when a worker takes their executions over; start one",
        )
    if overview.not_undone_total:
        yield Finding(
            level=Level.ERROR,
            check="not-undone",
            message=f"{many(overview.not_undone_total, 'step')} not undone, since the compensation"
            " failed for good: "
            + ", ".join(
                f"{one.step_name} of {one.execution_id} ({one.error_type})"
                for one in overview.not_undone
            ),
            hint="correct what made it fail, then `durable-workflow retry FILE ID`; or undo it by"
            " hand, then `durable-workflow acknowledge FILE ID`",
        )
    if overview.undoing_total:
        yield Finding(
            level=Level.WARNING,
            check="undoing",
            message=f"{many(overview.undoing_total, 'step')} not undone yet: "
            + ", ".join(
                f"{one.step_name} of {one.execution_id}, since {at(one.undoing_since)},"
                f" next try {at(one.next_try_at)} ({one.error_message})"
                for one in overview.undoing
            ),
            hint="their compensations are tried until they succeed; correct what makes them fail,"
            " and `durable-workflow retry FILE ID` tries at once",
        )
    if overview.cut_off_total:
        yield Finding(
            level=Level.WARNING,
            check="cut-off",
            message=f"{many(overview.cut_off_total, 'step')} cut off, may have taken effect, and"
            " nothing undoes that: "
            + ", ".join(f"{one.step_name} of {one.execution_id}" for one in overview.cut_off),
            hint="find out whether they took effect, undo it by hand, then `durable-workflow"
            " acknowledge FILE ID`",
        )
    if overview.blocked_total:
        yield Finding(
            level=Level.WARNING,
            check="blocked",
            message=f"{many(overview.blocked_total, 'execution')} blocked: "
            + ", ".join(f"{one.id} ({one.blocked_reason})" for one in overview.blocked),
            hint="find out why, then `durable-workflow retry FILE ID`",
        )
    if overview.in_trouble_total:
        yield Finding(
            level=Level.WARNING,
            check="trouble",
            message=f"{many(overview.in_trouble_total, 'execution')} left in trouble: "
            + ", ".join(
                f"{one.id} ({_in_a_word(one.trouble)}, since {at(one.trouble_since)})"
                for one in overview.in_trouble
            ),
            hint="`durable-workflow show FILE ID` says why: correct that, or deploy code that fits;"
            " then restart the workers",
            details=tuple(f"{one.id}: {one.trouble}" for one in overview.in_trouble),
        )
    suspects, suspects_total = inspector.taken_over(SUSPECT_AT, limit=SHOWN)
    if suspects:
        more = suspects_total - len(suspects)
        yield Finding(
            level=Level.WARNING,
            check="suspects",
            message=f"{many(suspects_total, 'execution')} taken over from dead workers again and"
            " again, with no progress in between: "
            + ", ".join(f"{one} ({times} times)" for one, times in suspects)
            + (f"; and {more} more" if more else ""),
            hint="each worker runs one of these at a time, and blocks what it dies of too often."
            " `durable-workflow show FILE ID` names the step that runs: find out whether it ends"
            " its worker (memory, a crash in C) and correct it, or cancel the execution",
        )
    late = [
        one for one in overview.next_timers if one.fire_at is not None and one.fire_at + LATE < now
    ]
    if late:
        yield Finding(
            level=Level.WARNING,
            check="timers",
            message="deadlines that nobody notices: "
            + ", ".join(f"{one.step_name} of {one.execution_id}" for one in late),
            hint="start a worker that has these workflows: `durable-workflow worker FILE --app"
            " MODULE:NAME`",
        )
    if not (
        overview.in_doubt_total
        or overview.cut_off_total
        or overview.not_undone_total
        or overview.undoing_total
        or overview.blocked_total
        or overview.in_trouble_total
        or suspects
        or late
    ):
        yield Finding(
            level=Level.OK, check="executions", message="none is blocked, in trouble or in doubt"
        )


def _some(texts: list[str]) -> str:
    more = len(texts) - SHOWN
    return "; ".join(texts[:SHOWN]) + (f"; and {_more(more)}" if more > 0 else "")


def _more(number: int) -> str:
    return f"{number} more" if number + SHOWN < _LOOKED_AT else f"{number} more at least"


def _in_a_word(trouble: str) -> str:
    """The class of the error."""
    return trouble.partition(":")[0]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
