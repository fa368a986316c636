"""Judges the processes that ran one execution: what the database said in between, what was done.

It reads the file, or the schema of PostgreSQL, with plain SQL and knows nothing of the engine.
Actions write a journal, which outlives the process: `run NAME` as the action of a step begins,
`done NAME` when `ctx.step` has returned, `undo NAME` as its compensation begins, `over NAME` as
either ends, `ended STATUS` when that was told to whoever asked. Names of steps are unique in an
execution.

The outcomes that an execution had are its events, and have numbers. What it gave up, or ended
without, is cut off: a FAILED record of a CancelledError, which is no event. It may have taken
effect: if it has a compensation, undoing runs it again, and then undoes it. So may have what timed
out; that is an event, which the function has heard of.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from durable_workflow_sqlite import PayloadCodec
from durable_workflow_sqlite.store.encoding import (
    VALUE,
    Encoding,
    execution_place,
    is_encoded,
    step_place,
)

FINAL = ("COMPLETED", "FAILED", "CANCELLED")
SUFFIX = ":compensate"
TIMERS = "$timers"
CUT_OFF = "asyncio.exceptions:CancelledError"
TIMED_OUT = "durable_workflow_sqlite.errors:StepTimeoutError"
AMBIGUOUS = "durable_workflow_sqlite.errors:StepAmbiguousError"


class Step(NamedTuple):
    branch: str
    step_index: int
    attempt: int
    step_name: str
    kind: str
    status: str
    output_data: str | None
    error_type: str | None
    compensate_ref: str | None
    started_at: str | None
    completed_at: str | None
    due_at: str | None
    event: int | None
    input_data: str | None = None

    @property
    def is_copied(self) -> bool:
        """Whether a fork began with it: another execution ran it, and alone undoes it."""
        return self.kind == "STEP" and '"ran_in"' in (self.input_data or "")

    @property
    def place(self) -> tuple[str, int]:
        return self.branch, self.step_index

    @property
    def is_cut_off(self) -> bool:
        return self.status == "FAILED" and self.error_type == CUT_OFF

    @property
    def has_timed_out(self) -> bool:
        """Whether it is an attempt of a step that timed out, and that none was to follow."""
        return self.status == "FAILED" and self.error_type == TIMED_OUT and self.due_at is None

    @property
    def has_begun(self) -> bool:
        """Whether its action may have run in this attempt."""
        return not (self.is_cut_off and self.started_at is None)

    @property
    def is_in_doubt(self) -> bool:
        return self.kind == "STEP" and (
            self.status == "INTENT" or (self.is_cut_off and self.has_begun) or self.has_timed_out
        )


@dataclass(frozen=True)
class Snapshot:
    """What the database says of one execution at a moment when no process runs.

    in_doubt: the names in the view of what may have taken effect; None for a store without it.
    children: the ids of its children, as JSON: what the steps that started them returned.
    own: the names in the rows that its transactions wrote, and in the executions that they started.
    resolved: what the audit log says of the values that people gave: those steps need not have run.
    """

    status: str | None
    output_data: str | None
    error_type: str | None
    steps: tuple[Step, ...]
    signals: tuple[tuple[int, str, str | None, str], ...]
    pending_timers: int
    claims: int
    damage: tuple[str, ...]
    in_doubt: frozenset[str] | None = None
    children: frozenset[str] = frozenset()
    own: tuple[str, ...] = ()
    resolved: tuple[str, ...] = ()

    def forward(self) -> list[Step]:
        return [step for step in self.steps if step.attempt > 0]

    def last_attempts(self) -> dict[tuple[str, int], Step]:
        return {step.place: step for step in self.forward()}

    def compensations(self) -> dict[tuple[str, int], Step]:
        return {step.place: step for step in self.steps if step.attempt == 0}


@dataclass(frozen=True)
class ProcessRun:
    """What one process wrote to the journal, and the database as it left it.

    forgot: it ended by a power cut that may have taken the last commits.
    """

    journal: tuple[str, ...]
    after: Snapshot
    forgot: bool = False


NEWEST_READ = 36
"""The version of the schema from which on all that is asked below is there; before, nothing ran."""


def look(file: Path, execution_id: str) -> Snapshot:
    """The snapshot of an execution in a file."""
    with closing(sqlite3.connect(file)) as connection:
        return look_through(connection, execution_id)


def look_through(connection: Any, execution_id: str, *, find_damage: bool = True) -> Snapshot:
    """The snapshot of an execution.

    connection: of sqlite3, or a `Shell`, whose schema of PostgreSQL has the same tables and views.
    """
    of_it = (execution_id,)
    if not _can_be_asked(connection):
        return Snapshot(None, None, None, (), (), 0, 0, ())
    execution = connection.execute(
        "select status, output_data, error_type from workflow_executions"
        " where workflow_execution_id = ?",
        of_it,
    ).fetchone()
    steps = connection.execute(
        f"select {', '.join(Step._fields)} from step_checkpoints"
        " where workflow_execution_id = ? order by branch, step_index, attempt",
        of_it,
    ).fetchall()
    signals = connection.execute(
        "select workflow_signal_id, signal_name, payload, status from workflow_signals"
        " where workflow_execution_id = ? order by workflow_signal_id",
        of_it,
    ).fetchall()
    resolved = connection.execute(
        "select details from workflow_audit_log where workflow_execution_id = ?"
        " and act in ('resolve', 'retry')",
        of_it,
    ).fetchall()
    (timers,) = connection.execute(
        "select count(*) from workflow_timers"
        " where workflow_execution_id = ? and status = 'PENDING'",
        of_it,
    ).fetchone()
    (claims,) = connection.execute(
        "select count(*) from workflow_claims where workflow_execution_id = ?", of_it
    ).fetchone()
    in_doubt = connection.execute(
        "select step_name from workflow_in_doubt where workflow_execution_id = ?", of_it
    ).fetchall()
    children = connection.execute(
        "select workflow_execution_id from workflow_executions where parent_execution_id = ?", of_it
    ).fetchall()
    damage = damage_of(connection) if find_damage else []
    damage += [
        f"{name} was begun by a worker without a row"
        for (name,) in connection.execute(
            "select step_name from step_checkpoints as step where workflow_execution_id = ? and not"
            " exists (select 1 from workflow_workers as worker"
            " where worker.worker_number = step.worker_number)"
            # Nobody ran what somebody resolved, or what a fork began with.
            " and not (step.worker_number is null and step.status = 'COMPLETED' and exists ("
            " select 1 from workflow_audit_log as act"
            " where act.workflow_execution_id = step.workflow_execution_id"
            " and act.act in ('resolve', 'retry')))"
            " and not (step.worker_number is null and exists ("
            " select 1 from workflow_executions as fork"
            " where fork.workflow_execution_id = step.workflow_execution_id"
            " and fork.forked_from is not null))",
            of_it,
        )
    ]
    if _has(connection, "workflow_progress_reports"):
        damage += [
            f"the progress of {name} is of attempt {attempt}, which never began"
            for name, attempt in connection.execute(
                "select step_name, attempt from workflow_progress_reports as report"
                " where workflow_execution_id = ? and step_index >= 0 and not exists ("
                " select 1 from step_checkpoints as step"
                " where step.workflow_execution_id = report.workflow_execution_id"
                " and step.branch = report.branch and step.step_index = report.step_index"
                " and step.attempt = report.attempt and step.step_name = report.step_name)",
                of_it,
            )
        ]
    damage += [
        f"{count} signals with the key {key}"
        for key, count in connection.execute(
            "select signal_key, count(*) from workflow_signals where workflow_execution_id = ?"
            " and signal_key is not null group by signal_key having count(*) > 1",
            of_it,
        )
    ]
    own: list[str] = []
    if _has(connection, "own_rows"):
        own += [
            name
            for (name,) in connection.execute(
                "select name from own_rows where execution = ?", of_it
            )
        ]
    own += [
        one.partition("|")[2]
        for (one,) in connection.execute(
            "select workflow_execution_id from workflow_executions"
            " where workflow_execution_id like ? || '|%'",
            of_it,
        )
    ]
    status, output_data, error_type = execution or (None, None, None)
    return Snapshot(
        status,
        output_data,
        error_type,
        tuple(Step(*row) for row in steps),
        tuple(signals),
        timers,
        claims,
        tuple(damage),
        frozenset(name for (name,) in in_doubt),
        frozenset(json.dumps(one) for (one,) in children),
        tuple(sorted(own)),
        tuple(details or "" for (details,) in resolved),
    )


def decoded(found: Snapshot, execution_id: str, codec: PayloadCodec) -> Snapshot:
    """A snapshot of a store with a codec, as one without it would look. Each value is encoded."""
    encoding = Encoding(codec)

    def plain(text: str | None, place: str) -> str | None:
        assert text is None or is_encoded(text), f"{place} is plain: {text}"
        return None if text is None else encoding.plain(text, place, VALUE)

    steps = [
        step._replace(
            output_data=plain(
                step.output_data,
                step_place(execution_id, step.branch, step.step_index, step.attempt),
            )
        )
        for step in found.steps
    ]
    signals = [
        (
            number,
            name,
            None if text is None else encoding.plain_payload(text, execution_id, name),
            status,
        )
        for number, name, text, status in found.signals
    ]
    return replace(
        found,
        output_data=plain(found.output_data, execution_place(execution_id, "output_data")),
        steps=tuple(steps),
        signals=tuple(signals),
    )


def _can_be_asked(connection: Any) -> bool:
    if not isinstance(connection, sqlite3.Connection):
        return True  # whoever has a schema there has brought it up to date
    tables = connection.execute("select count(*) from sqlite_schema").fetchone()[0]
    return tables > 0 and connection.execute("pragma user_version").fetchone()[0] >= NEWEST_READ


def _has(connection: Any, table: str) -> bool:
    is_there = "select to_regclass(?) is not null"
    if isinstance(connection, sqlite3.Connection):
        is_there = "select exists (select 1 from sqlite_schema where name = ?)"
    return bool(connection.execute(is_there, (table,)).fetchone()[0])


def damage_of(connection: Any) -> list[str]:
    """What SQLite itself finds wrong with a file. PostgreSQL has checked all references before."""
    if not isinstance(connection, sqlite3.Connection):
        return []
    damage = [row[0] for row in connection.execute("pragma integrity_check") if row[0] != "ok"]
    return damage + [
        f"orphan in {row[0]}" for row in connection.execute("pragma foreign_key_check")
    ]


def lost(process: ProcessRun) -> list[str]:
    """What was acknowledged in a process, and is not in the file."""
    completed = {s.step_name for s in process.after.forward() if s.status == "COMPLETED"}
    completed |= mended(process.journal)
    return [
        line
        for line in dict.fromkeys(process.journal)
        if (line.startswith("done ") and line[5:] not in completed)
        or (line.startswith("ended ") and line[6:] != process.after.status)
    ]


RETRYING = "retrying"
"""What is noted before an operator has what failed run again."""


MENDING = "mending "
"""What is noted, with the name of each step, before somebody has it run again or resolves it."""


READS = "read "
"""The names of steps begin so whose beginning is not recorded: they may run again."""

ONCE = "once "
"""The names of steps begin so that must not simply run again when they are in doubt. Their actions
note `effect NAME`, and their compensations `undone NAME`: each at most once.
"""

OWN = "own "
"""The names of transactions begin so; those with `OWN_STARTS` also start an execution."""

OWN_STARTS = "own start "

GIVING, GIVEN = "giving ", "given "
"""What is noted, with the name of a step and a value as JSON, before and after somebody gives that
value to the step in a back-off, and is not refused.
"""


PAUSED, RESUMING = "paused", "resuming"
"""What is noted once a worker has left what was paused, and before that is resumed."""


def mended(journal: Iterable[str]) -> set[str]:
    """The steps that somebody may have had run again by then, or resolved."""
    return {line.removeprefix(MENDING) for line in journal if line.startswith(MENDING)}


def violations(processes: list[ProcessRun]) -> list[str]:
    """Every broken promise, in words; the last process is the one that finished the execution."""
    processes = [_as_remembered(process) if process.forgot else process for process in processes]
    return [
        *(text for process in processes for text in _of_what_was_acknowledged(process)),
        *_of_the_end(processes[-1].after),
        *_of_compensation(processes),
        *_of_what_was_given(processes),
        *(text for process in processes for text in _of_any_moment(process.after)),
        *(
            text
            for one, next_one in pairwise(processes)
            for text in _of_a_new_process(one, next_one)
        ),
        *_of_what_ran(processes),
        *_of_what_must_happen_once(processes),
        *_of_pauses(processes),
    ]


class Note(NamedTuple):
    """A line of the journal that several workers share, and who wrote it."""

    worker: str
    line: str


DYING = "dying"
"""What is noted of a worker right before it is killed."""


def violations_among_workers(notes: list[Note], end: Snapshot) -> list[str]:
    """As `violations`, for an execution that many workers had in hand, of whom some were killed."""
    return [
        *violations([ProcessRun(tuple(note.line for note in notes), end)]),
        *_of_two_at_once(notes),
    ]


def _of_two_at_once(notes: list[Note]) -> Iterator[str]:
    inside: dict[str, str] = {}
    dead: set[str] = set()
    for worker, line in notes:
        kind, _, name = line.partition(" ")
        if kind == DYING:
            dead.add(worker)
        elif worker in dead:
            continue  # in the moment before it was
        elif kind in ("run", "undo"):
            other = inside.get(name)
            if other is not None and other not in dead:
                yield f"{other} and {worker} were in {name} at once"
            inside[name] = worker
        elif kind == "over" and inside.get(name) == worker:
            del inside[name]


def _as_remembered(process: ProcessRun) -> ProcessRun:
    """A process as the file tells it: what was done and then forgotten may be done again."""
    forgotten = set(lost(process))
    attempts = {step.step_name: step.attempt for step in process.after.last_attempts().values()}
    undone = {
        step.step_name.removesuffix(SUFFIX) for step in process.after.compensations().values()
    }
    journal: list[str] = []
    for line in process.journal:
        kind, _, name = line.partition(" ")
        if (
            line in forgotten
            or (kind == "run" and journal.count(line) >= attempts.get(name, 0))
            or (kind == "undo" and name not in undone)
        ):
            continue
        journal.append(line)
    return replace(process, journal=tuple(journal))


def _of_what_was_acknowledged(process: ProcessRun) -> Iterator[str]:
    yield from (f"{line!r} was acknowledged, and is not in the file" for line in lost(process))
    acknowledged: set[str] = set()
    for line in process.journal:
        kind, _, name = line.partition(" ")
        if kind == "done":
            acknowledged.add(name)
        elif line.startswith(MENDING):
            acknowledged.discard(name)
        elif kind == "run" and name in acknowledged:
            yield f"{name} ran after it was acknowledged"


def _of_any_moment(at: Snapshot) -> Iterator[str]:
    yield from at.damage
    done = [
        step.step_name
        for step in at.forward()
        if step.status == "COMPLETED" and step.step_name.startswith(OWN)
    ]
    expected = sorted([*done, *(name for name in done if name.startswith(OWN_STARTS))])
    missing = Counter(expected) - Counter(at.own)
    is_given = all(any(json.dumps(one) in told for told in at.resolved) for one in missing)
    if Counter(at.own) - Counter(expected) or not is_given:
        yield f"transactions have written {list(at.own)}, and their records say {expected}"
    attempts: dict[tuple[str, int], list[Step]] = {}
    for step in at.forward():
        attempts.setdefault(step.place, []).append(step)
    for place, steps in attempts.items():
        if [step.attempt for step in steps] != list(range(1, len(steps) + 1)):
            yield f"the attempts at {place} are not numbered 1, 2, 3 ..."
        if len({(step.step_name, step.kind) for step in steps}) > 1:
            yield f"the attempts at {place} are of different steps"
        for step in steps[:-1]:
            if step.status == "COMPLETED":
                yield f"{step.step_name} was tried again after it was COMPLETED"
    yield from _of_events(at)
    for step in at.last_attempts().values():
        has_slept = step.kind == "SLEEP" and step.status == "COMPLETED"
        if has_slept and str(step.completed_at) < str(step.due_at):
            yield f"{step.step_name} woke before its deadline"
        is_own = "durable_workflow_sqlite" in str(step.error_type)
        is_over = any(one in str(step.error_type) for one in ("Timeout", ":QuestionOverdue"))
        is_doubt = step.error_type == AMBIGUOUS and step.step_name.startswith(ONCE)
        if is_own and not is_doubt and not is_over:
            yield f"{step.step_name} failed by the engine's own trouble: {step.error_type}"
    waits = [
        step
        for step in sorted(at.last_attempts().values(), key=lambda step: str(step.completed_at))
        if step.kind == "SIGNAL" and step.status == "COMPLETED"
    ]
    for name in {step.step_name for step in waits} | {signal[1] for signal in at.signals}:
        consumed = [step.output_data for step in waits if step.step_name == name]
        delivered = [s[2] for s in at.signals if s[1] == name and s[3] == "DELIVERED"]
        if not name.startswith("$") and consumed != delivered:
            yield f"signal {name}: delivered {delivered}, consumed {consumed}"
        states = [s[3] for s in at.signals if s[1] == name and s[3] != "REFUSED"]
        if "DELIVERED" in states[states.count("DELIVERED") :] and not name.startswith("$"):
            yield f"signal {name}: not taken in order of arrival: {states}"


def _of_events(at: Snapshot) -> Iterator[str]:
    numbers = [step.event for step in at.steps if step.event is not None]
    if len(set(numbers)) < len(numbers):
        yield f"an event's number was given twice: {sorted(numbers)}"
    last = at.last_attempts()
    for step in at.steps:
        is_final = step.status == "COMPLETED" or (
            step.status == "FAILED" and (step.kind != "STEP" or step.due_at is None)
        )
        # Undoing tries again what timed out.
        is_last = last.get(step.place) is step
        is_tried_again = step.has_timed_out and step.event is not None and step.compensate_ref
        is_outcome = is_final and (is_last or is_tried_again) and not step.is_cut_off
        if is_outcome and step.event is None:
            yield f"{step.step_name} is {step.status} for good, and no event"
        if step.event is not None and not is_outcome:
            yield f"{step.step_name} is {step.status}, and event {step.event}"
        if step.branch == TIMERS and (step.kind, step.status) != ("SLEEP", "COMPLETED"):
            yield f"a timer is a {step.kind} that is {step.status}"


def _of_a_new_process(before: ProcessRun, after: ProcessRun) -> Iterator[str]:
    old, new = before.after, after.after
    may_be_retried = RETRYING in (*before.journal, *after.journal)
    changed = mended((*before.journal, *after.journal))
    if changed:
        pass  # whatever it was, it goes on
    elif may_be_retried and old.status in FINAL and new.status not in ("COMPENSATING", *FINAL):
        yield f"{old.status} was retried, and is {new.status}"
    elif (
        not may_be_retried
        and old.status in FINAL
        and (old.status, old.output_data) != (new.status, new.output_data)
    ):
        yield f"a final status changed: {old.status} to {new.status}"
    ends = ("COMPENSATING", "FAILED", "CANCELLED")
    if old.status == "COMPENSATING" and not changed and new.status not in ends:
        yield f"an execution that was compensating became {new.status}"
    new_last, new_undone = new.last_attempts(), new.compensations()
    for place, step in old.last_attempts().items():
        if step.step_name in changed:
            continue
        now = new_last.get(place)
        if now is None:
            yield f"the record of {step.step_name} is gone"
            continue
        if (now.step_name, now.kind) != (step.step_name, step.kind):
            yield f"{place} was {step.step_name} and is {now.step_name}"
        if step.kind != "STEP" and step.due_at != now.due_at:
            yield f"the deadline of {step.step_name} moved"
        if step.status == "COMPLETED":
            if now != step:
                yield f"the record of {step.step_name} changed after it was COMPLETED"
            if f"run {step.step_name}" in after.journal:
                yield f"{step.step_name} ran again after it was COMPLETED"
        elif step.event is not None and (
            step not in new.steps or (now != step and not _may_be_tried_again(step, new))
        ):
            yield f"the record of {step.step_name} changed after it was event {step.event}"
        elif (
            step.is_cut_off
            and f"run {step.step_name}" in after.journal
            and (step.compensate_ref is None or new.status == "COMPLETED")
        ):
            yield f"{step.step_name} ran again after it was cut off"
    for place, step in old.compensations().items():
        name = step.step_name.removesuffix(SUFFIX)
        if name in changed:
            continue
        if step.status == "COMPENSATED" or (step.status == "FAILED" and not may_be_retried):
            if f"undo {name}" in after.journal:
                yield f"{name} was undone again after that was {step.status}"
            if new_undone.get(place) != step:
                yield f"the record of undoing {name} changed"
    if old.status in ("COMPENSATING", *FINAL) and not changed:
        may_run = {
            f"run {step.step_name}"
            for step in old.last_attempts().values()
            if step.is_in_doubt and step.compensate_ref is not None and old.status not in FINAL
        }
        yield from (
            f"{line!r} after the execution was {old.status}"
            for line in after.journal
            if line.startswith("run ") and line not in may_run
        )


def _may_be_tried_again(step: Step, at: Snapshot) -> bool:
    ends = ("COMPENSATING", "FAILED", "CANCELLED")
    return step.has_timed_out and step.compensate_ref is not None and at.status in ends


def _of_what_ran(processes: list[ProcessRun]) -> Iterator[str]:
    journal = [line for process in processes for line in process.journal]
    end = processes[-1].after
    names = {step.step_name for step in end.forward()}
    for step in end.last_attempts().values():
        if step.kind != "STEP" or step.output_data in end.children:
            continue
        runs = journal.count(f"run {step.step_name}")
        attempts = sum(one.has_begun for one in end.forward() if one.place == step.place)
        if step.is_copied:
            if runs:
                yield f"{step.step_name} ran again, and its result was copied"
            continue
        if step.status == "COMPLETED" and runs == 0:
            yield f"{step.step_name} is COMPLETED and never ran"
        name = step.step_name
        may_run_again = name.startswith((READS, OWN)) or name in mended(journal)
        if runs > attempts and not may_run_again:
            yield f"{step.step_name} ran {runs} times in {attempts} attempts"
    for line in journal:
        kind, _, name = line.partition(" ")
        if kind in ("run", "undo") and name not in names:
            yield f"{line!r} without a record before it"


def _of_what_must_happen_once(processes: list[ProcessRun]) -> Iterator[str]:
    journal = [line for process in processes for line in process.journal]
    end = processes[-1].after
    for line in dict.fromkeys(journal):
        kind, _, name = line.partition(" ")
        if kind in ("effect", "undone") and journal.count(line) > 1:
            yield f"{line!r} {journal.count(line)} times"
    undone = {step.step_name.removesuffix(SUFFIX): step for step in end.compensations().values()}
    for step in end.last_attempts().values():
        name = step.step_name
        if not name.startswith(ONCE) or step.kind != "STEP":
            continue
        has_effect = f"effect {name}" in journal
        if step.status == "COMPLETED" and not has_effect:
            yield f"{name} is COMPLETED without an effect"
        if step.error_type == AMBIGUOUS and "asks" in name:
            yield f"{name} failed, and a person has answered otherwise"
        if step.error_type == AMBIGUOUS and end.in_doubt is not None and name not in end.in_doubt:
            yield f"{name} may have taken effect, and is not in doubt"
        is_undone = name in undone and undone[name].status == "COMPENSATED"
        if is_undone and f"undone {name}" not in journal:
            yield f"{name} is COMPENSATED, and is not undone"
        if f"run {name}" in journal and "fails" in name and journal.count(f"run {name}") > 1:
            yield f"{name} ran again"


def _of_pauses(processes: list[ProcessRun]) -> Iterator[str]:
    """Nothing begins between the two notes, in whatever process."""
    is_paused = False
    for process in processes:
        for line in process.journal:
            if line in (PAUSED, RESUMING):
                is_paused = line == PAUSED
            elif is_paused and line.partition(" ")[0] in ("run", "undo"):
                yield f"{line!r} began while it was paused"


def _of_the_end(end: Snapshot) -> Iterator[str]:
    if end.status not in FINAL:
        yield f"the execution did not finish: {end.status}"
    if (end.output_data is not None) != (end.status == "COMPLETED"):
        yield f"it is {end.status} with the output {end.output_data}"
    if (end.error_type is None) != (end.status == "COMPLETED"):
        yield f"it is {end.status} with the error {end.error_type}"
    for step in end.last_attempts().values():
        if step.status == "INTENT" or (step.kind == "STEP" and step.due_at is not None):
            yield f"it is {end.status}, and {step.step_name} is {step.status}, still to be done"
    for step in end.last_attempts().values():
        may_be_tried = end.status != "COMPLETED" and step.compensate_ref is not None
        attempts = [one.attempt for one in end.forward() if one.place == step.place and one.event]
        if step.has_timed_out and may_be_tried and attempts == [step.attempt]:
            yield f"{step.step_name} timed out, and undoing has not tried it again"
        is_listed = end.in_doubt is None or step.step_name in end.in_doubt
        if step.is_in_doubt and step.place not in end.compensations() and not is_listed:
            yield f"{step.step_name} may have taken effect, and is neither undone nor in doubt"
    if end.pending_timers:
        yield "timers are pending for a finished execution"
    if end.claims:
        yield "a finished execution is claimed"
    if any(signal[3] == "PENDING" for signal in end.signals):
        yield "signals are pending for a finished execution"


def _of_compensation(processes: list[ProcessRun]) -> Iterator[str]:
    end = processes[-1].after
    done = [step for step in end.last_attempts().values() if step.status == "COMPLETED"]
    to_undo = {step.place: step for step in done if step.compensate_ref is not None}
    undone = end.compensations()
    journal = [line for process in processes for line in process.journal]
    if end.status == "COMPLETED":
        yield from (f"{step.step_name} of a COMPLETED execution" for step in undone.values())
        was_undone = {line[5:] for line in journal if line.startswith("undo ")} - mended(journal)
        yield from (f"{name} of a COMPLETED execution was undone" for name in was_undone)
        return
    for place, step in to_undo.items():
        if place not in undone:
            yield f"{step.step_name} was not undone"
        elif undone[place].status not in ("COMPENSATED", "FAILED"):
            yield f"undoing {step.step_name} is still {undone[place].status}"
    for place, step in undone.items():
        if place not in to_undo:
            yield f"{step.step_name} undid what was not COMPLETED"
    in_reverse = sorted(to_undo.values(), key=lambda step: str(step.completed_at), reverse=True)
    # One that is in doubt may fail before its function was called.
    unclear = {place for place, step in undone.items() if step.error_type == AMBIGUOUS}
    wanted = [
        step.step_name
        for step in in_reverse
        if step.place not in unclear or f"undo {step.step_name}" in journal
    ]
    first = list(dict.fromkeys(line[5:] for line in journal if line.startswith("undo ")))
    if first != wanted:
        yield f"undone in the order {first}, not {wanted}"


def _of_what_was_given(processes: list[ProcessRun]) -> Iterator[str]:
    end = processes[-1].after
    values: dict[str, list[object]] = {}
    accepted: dict[str, int] = {}
    names = {step.place: step.step_name for step in end.forward()}
    for _, signal, payload, _ in end.signals:
        if signal == "$resolved":
            told = json.loads(payload or "null")
            if "value" not in told or told.get("is_compensation"):
                continue  # it says that a step has not taken effect, or is undone
            name = names.get((told["branch"], told["step_index"]), "a step without a record")
            values.setdefault(name, []).append(told["value"])
            accepted.setdefault(name, 0)
    for line in (line for process in processes for line in process.journal):
        if line.startswith((GIVING, GIVEN)):
            kind, _, told = line.partition(" ")
            name, value = json.loads(told)
            known = values.setdefault(name, [])
            if kind == GIVING.strip():
                known.append(value)
            else:  # it, or one that came later
                accepted[name] = len(known) - 1
    outcomes = {step.step_name: step for step in end.last_attempts().values()}
    for name, at_least in accepted.items():
        step = outcomes.get(name)
        if step is None or step.status != "COMPLETED":
            yield f"{name} was given {values[name]}, and is {step and step.status}"
        elif json.loads(step.output_data or "null") not in values[name][at_least:]:
            yield f"{name} was given {values[name]}, and returned {step.output_data}"


def payloads(end: Snapshot) -> list[object]:
    """What the signals of an execution held, in order of arrival."""
    return [json.loads(signal[2] or "null") for signal in end.signals]
