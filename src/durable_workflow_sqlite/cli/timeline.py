"""What `show` says of one execution."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from durable_workflow_sqlite import commands
from durable_workflow_sqlite.cli import output, tables, trees
from durable_workflow_sqlite.database import command, for_file
from durable_workflow_sqlite.progress_texts import amount_of
from durable_workflow_sqlite.progress_texts import name_of as reporter_of
from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.reading.executions import (
    Claim,
    ExecutionDetails,
    ExecutionSummary,
    StepAttempt,
    is_undone_by_hand,
    step_words,
)
from durable_workflow_sqlite.reading.pauses import EXECUTION, name_of, option_of, says
from durable_workflow_sqlite.reading.queues import NamedQueue
from durable_workflow_sqlite.reading.worker_findings import how_to_wake, unknown
from durable_workflow_sqlite.reading.workers import Workers
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    CHILD_SIGNAL,
    COMPENSATION_SUFFIX,
    DELETED_ROWS,
    TERMINAL_STATUSES,
    OnParentEnd,
    who_ran,
)

WIDE, NOT_NARROW = 106, 94
"""Columns of a terminal that has room for bars of 24, or of 12."""

DATA_LENGTH = 200
FORKS_NAMED = 5

UNREADABLE_RESULT = "SerializationError: the result of step "
"""How `trouble` begins if the code cannot read a result."""


def standing(summary: ExecutionSummary, now: datetime, *, briefly: bool = False) -> str:
    """What it waits for until when, or why it does not go on, in a few words.

    briefly: where the whole of its trouble stands elsewhere.
    """
    if summary.paused_scope is not None:
        return f"paused: {pause_of(summary)}"
    return _standing(summary, now, briefly=briefly)


def pause_of(summary: ExecutionSummary) -> str:
    """What holds it, since when, by whom and why."""
    scope = summary.paused_scope or EXECUTION
    whole = "" if scope == EXECUTION else f"{name_of(scope, summary.paused_name)} "
    return whole + says(summary.paused_at, summary.paused_by, summary.paused_reason)


def _standing(summary: ExecutionSummary, now: datetime, *, briefly: bool = False) -> str:
    if summary.blocked_reason is not None:
        return f"blocked: {summary.blocked_reason}"
    if summary.trouble is not None:
        trouble = summary.trouble.partition(":")[0] if briefly else summary.trouble
        return f"in trouble: {trouble}"
    if summary.waiting_for is not None:
        until = f", {output.ago(summary.waiting_until, now)}" if summary.waiting_until else ""
        came = ""
        if number := summary.signals_pending:
            came = f" ({number} signal{'' if number == 1 else 's'} came and not taken yet)"
        says_why = summary.waiting_for.startswith(("retry of ", "probe of ", "answer about "))
        if says_why and summary.step_error_message is not None:
            came = f": {summary.step_error_message}"
        what = summary.waiting_for
        if summary.asks_about is not None and summary.waiting_since is not None:
            what += f" (asked {output.ago(summary.waiting_since, now)})"
        if what == "worker" and summary.queue is not None:
            what += f" with a slot of queue {summary.queue}"
        return f"{what}{until}{came}"
    if summary.steps_not_undone:
        number = summary.steps_not_undone
        return f"NOT UNDONE: {number} step{'' if number == 1 else 's'}; {summary.error_message}"
    return summary.error_message or ""


def page(
    details: ExecutionDetails,
    file: str,
    workers: Workers,
    now: datetime,
    queue: NamedQueue | None = None,
) -> RenderableType:
    """For a terminal; `hint` is apart, since it may be wider.

    queue: the named queue that it is in.
    """
    parts: list[RenderableType] = [_head(details, len(workers.living), now, queue)]
    parts += [
        Text(output.printable(f"cannot be read: {problem}"), "bold red")
        for problem in details.problems
    ]
    for table in _tables(details, now):
        parts += ["", table]
    summary = details.summary
    if summary.status not in TERMINAL_STATUSES:
        if not workers.living:
            parts += ["", _no_worker(file)]
        elif found := unknown(workers, summary.workflow_type, summary.version):
            says = (output.printable(found.message), "bold red")
            hint = output.printable(f"; {for_file(found.hint or '', file)}")
            parts += ["", Text.assemble(says, hint)]
    return Group(*parts)


def _tables(details: ExecutionDetails, now: datetime) -> Iterator[RenderableType]:
    """Its steps, and what else there is of it."""
    width = tables.console().width
    bar = 24 if width >= WIDE else 12 if width >= NOT_NARROW else 0
    yield tables.make_table(
        "steps",
        ["", "step", "attempt", "status", "began", "took", "", "worker", "result / error"],
        [_step(one, details, now, bar, width) for one in [*details.steps, *details.compensations]],
    )
    if details.progress:
        yield tables.make_table(
            "progress",
            ["of", "attempt", "done", "", "right now", "reported"],
            [
                [
                    reporter_of(one),
                    one.attempt or None,
                    amount_of(one),
                    _filled(one.fraction, bar or 12),
                    _cut(one.note),
                    output.ago(one.reported_at, now),
                ]
                for one in details.progress
            ],
        )
    if details.children.counts:
        yield trees.as_table(details.children, now)
    if details.signals:
        yield tables.make_table(
            "signals",
            ["name", "status", "came", "payload", "key", "refused, because"],
            [
                [
                    step_words(one.signal_name),
                    tables.status(one.status),
                    output.ago(one.created_at, now),
                    _cut(one.payload),
                    _cut(one.key),
                    _cut(one.refused_reason),
                ]
                for one in details.signals
            ],
        )
    if details.audit_log:
        yield tables.make_table(
            "what people did",
            ["when", "what", "who", "details"],
            [
                [_moment(one.created_at, now), one.act, one.actor, _cut(one.details)]
                for one in details.audit_log
            ],
        )
    if details.patches:
        yield tables.make_table(
            "patches that it has passed",
            ["name", "branch", "when", "after event"],
            [
                [one.patch_name, one.branch, _moment(one.passed_at, now), one.event]
                for one in details.patches
            ],
        )
    if details.timers:
        yield tables.make_table(
            "timers",
            ["step", "status", "due"],
            [[one.step_name, tables.status(one.status), one.fire_at] for one in details.timers],
        )


def _no_worker(file: str) -> Text:
    start = output.printable(command("worker", file, "--app"))
    return Text.assemble(
        ("no worker lives, so it does not continue", "bold red"),
        f"; start one: {start} MODULE:NAME",
    )


def _is_to_cancel(details: ExecutionDetails) -> bool:
    return any(
        one.signal_name == CANCEL_SIGNAL and one.status == "PENDING" for one in details.signals
    )


def hint(details: ExecutionDetails, file: str, queue: NamedQueue | None = None) -> str | None:
    """What one could do about it. queue: the named queue that it is in."""
    summary = details.summary
    if details.problems and summary.status not in TERMINAL_STATUSES:
        return (
            "to continue it: correct the unreadable columns by hand (`doctor` says how to write"
            " a time), and restart the workers"
        )
    if summary.paused_scope is not None:
        return f"to let it go on: {how_to_resume(summary, file)}"
    if details.claim is not None and details.claim.stopped_process is not None:
        words = how_to_wake(details.claim.stopped_process).replace("`", "")
        return f"its worker is stopped: {words}"
    if details.is_not_undone:
        return (
            f"to undo the rest: {command('retry', file, summary.id)}; if a person has undone it"
            f" by hand: {command('acknowledge', file, summary.id)}"
        )
    if summary.blocked_reason is not None or summary.status == "FAILED":
        undone = bool(details.compensations)
        if undone and summary.status == "FAILED":
            return (
                f"{_what_was_undone(details)}; to rerun it: {command('rerun', file, summary.id)};"
                " to run it again from a step before the steps that were undone:"
                f" {command('retry', file, summary.id, '--from')} STEP"
            )
        if summary.blocked_reason is None:
            again = f"to run it from its failed step: {command('retry', file, summary.id)}"
            name = summary.current_step
            if name is not None and name.startswith(CHILD_SIGNAL):
                child = name.removeprefix(CHILD_SIGNAL)
                return (
                    "to run it from its failed step, and its failed child, too:"
                    f" {command('retry', file, summary.id)}; to look at that child:"
                    f" {command('show', file, child)}"
                )
            if name is None or any(one.kind == "SIGNAL" for one in _named(details, name)):
                return again
            return f"{again}; {_if_it_took_effect(details, file, name)}"
        go_on = commands.how_to_unblock(file, details)
        if summary.blocked_reason.startswith(DELETED_ROWS):
            return f"to let it go on: {go_on}"
        name = summary.current_step
        if name is None or any(one.kind != "STEP" for one in _named(details, name)):
            return f"to let it go on: {go_on}"
        return f"to let it go on: {go_on}; {_if_it_took_effect(details, file, name)}"
    if summary.trouble is None and (asked := summary.asks_about) is not None:
        resolve = command("resolve", file, summary.id, asked)
        undone = asked.endswith(COMPENSATION_SUFFIX)
        returned = "" if undone else ", with what it returned"
        return (
            f"if {asked} took effect: {resolve} {'null' if undone else 'JSON'}{returned}; if not:"
            f" {resolve} --not-done; if nobody knows: {resolve} --failed WHY"
        )
    if summary.trouble is None and summary.is_in_back_off(datetime.now(UTC)):
        again = f"to start the next attempt at once: {command('retry', file, summary.id)}"
        name = summary.current_step
        if name is None:
            return again
        if summary.status == "COMPENSATING":
            name = name.removesuffix(COMPENSATION_SUFFIX)
            done = command("acknowledge", file, summary.id, "--step", name)
            return f"{again}; if a person has undone {name}: {done}"
        return f"{again}; {_if_it_took_effect(details, file, name)}"
    if summary.trouble is not None:
        return _out_of_trouble(details, summary.trouble, file)
    if summary.awaited_child is not None:
        return (
            "it goes on when its child is over; to look at that child:"
            f" {command('show', file, summary.awaited_child)}"
        )
    if summary.status == "COMPENSATING":
        return _until_it_can_be_undone(details, file)
    if queue is not None and queue.is_full and summary.waiting_for == "worker":
        return _out_of_the_queue(queue, file)
    if details.questions:
        return _how_to_answer(details, file)
    if summary.waiting_for is not None and summary.waiting_for.startswith("signal "):
        name = summary.waiting_for.removeprefix("signal ")
        if any(one.signal_name == name and one.status == "PENDING" for one in details.signals):
            return f"its signal {name} has come: a worker takes it, and nobody need send it again"
        return f"to continue it: {command('signal', file, summary.id, name)} [JSON]"
    return None


def _how_to_answer(details: ExecutionDetails, file: str) -> str:
    first = next((one for one in details.questions if not one.is_answered), None)
    if first is None:
        return "its question is answered: a worker takes the answer"
    names = [one.name for one in details.questions]
    name = first.name if names.count(first.name) == 1 else first.signal_name
    return f"to answer it: {command('answer', file, details.summary.id, name)} JSON"


def _until_it_can_be_undone(details: ExecutionDetails, file: str) -> str | None:
    """What it waits for before it can undo its steps."""
    claim = details.claim
    open_steps = [one for one in details.steps if one.kind == "STEP" and one.status == "INTENT"]
    if open_steps and claim is not None and claim.is_alive:
        last = open_steps[-1]
        host, _, process = (claim.worker or "?:?").rpartition(":")
        return (
            f"it goes on when step {last.step_name} ends, which still runs; if that call hangs,"
            f" end its worker, on {host}: kill -9 {process}. The step is then in doubt, and other"
            " workers take over what that worker has"
        )
    for child in details.children.shown:
        if child.status not in TERMINAL_STATUSES and child.on_parent_end != OnParentEnd.DETACH:
            return (
                "it is undone when its children are over; to look at one that is not:"
                f" {command('show', file, child.id)}"
            )
    return None


def _out_of_the_queue(queue: NamedQueue, file: str) -> str:
    """What to do about a full queue."""
    more = command("queue set", file, queue.name, "--concurrency")
    longest = ""
    if queue.running_longest is not None:
        longest = (
            f"; {queue.running_longest} has held a slot for the longest time, to look at it:"
            f" {command('show', file, queue.running_longest)}"
        )
    return f"it waits for a slot of queue {queue.name}{longest}; for more slots: {more} N"


def how_to_resume(summary: ExecutionSummary, file: str) -> str:
    """The command that ends the pause that holds it."""
    scope = summary.paused_scope or EXECUTION
    if scope == EXECUTION:
        return command("resume", file, summary.id)
    return command("resume", file, *option_of(scope, summary.paused_name))


def _out_of_trouble(details: ExecutionDetails, trouble: str, file: str) -> str:
    summary = details.summary
    if _is_to_cancel(details) and commands.needs_code_that_fits(trouble):
        return f"to undo it: {commands.how_to_undo(file, summary.id)}"
    go_on = "to continue it: restart the workers, with code that fits its history"
    if trouble.startswith(UNREADABLE_RESULT):
        resolve = command("resolve", file, summary.id)
        go_on += f", or say what the step returned: {resolve} STEP JSON"
    if summary.status == "COMPENSATING":
        return go_on
    give_up = f"{go_on}; to cancel it: {command('cancel', file, summary.id)}"
    if details.steps and commands.needs_code_that_fits(trouble):
        give_up += " (undoing needs code that fits its history, too)"
    return give_up


def _what_was_undone(details: ExecutionDetails) -> str:
    by_hand = [one.step_name for one in details.compensations if is_undone_by_hand(one)]
    if not by_hand:
        return "it was undone"
    names = ", ".join(by_hand)
    if len(by_hand) == len(details.compensations):
        return f"dealt with by hand: {names}"
    return f"it was undone (dealt with by hand: {names})"


def _named(details: ExecutionDetails, name: str) -> list[StepAttempt]:
    return [one for one in details.steps if one.step_name == name]


def _if_it_took_effect(details: ExecutionDetails, file: str, name: str) -> str:
    resolve = command("resolve", file, details.summary.id, name)
    return f"if {name} took effect: {resolve} JSON, with what it returned"


def lines(details: ExecutionDetails) -> Iterator[list[tables.Cell]]:
    """For a pipe: each line begins with what it is."""
    summary = details.summary
    for name in ("id", "workflow_type", "version", "status", "created_at", "updated_at"):
        yield ["execution", name, getattr(summary, name)]
    for name in ("current_step", "waiting_for", "waiting_until", "blocked_reason"):
        yield ["execution", name, getattr(summary, name)]
    for name in ("error_type", "error_message", "trouble"):
        yield ["execution", name, getattr(summary, name)]
    for name in ("status_since", "waiting_since", "trouble_since", "steps_not_undone"):
        yield ["execution", name, getattr(summary, name)]
    yield ["execution", "started_at", summary.started_at]
    for name in ("queued_seconds", "running_seconds"):
        yield ["execution", name, getattr(details, name)]
    for name in ("input_data", "output_data", "ttl_expires_at", "guarantee", "recovery_count"):
        yield ["execution", name, getattr(details, name)]
    for name in ("priority", "available_at"):
        yield ["execution", name, getattr(details, name)]
    for name in ("queue", "paused_at", "paused_by", "paused_reason", "paused_scope", "paused_with"):
        yield ["execution", name, getattr(summary, name)]
    for name in ("parent_execution_id", "root_execution_id", "on_parent_end", "run_number"):
        yield ["execution", name, getattr(summary, name)]
    for name in ("forked_from", "forked_before"):
        yield ["execution", name, getattr(summary, name)]
    for fork in details.forks:
        yield ["fork", fork.id, fork.status, fork.before, fork.created_at]
    yield from trees.lines(details.children, summary.id)
    if details.claim is not None:
        alive = "alive" if details.claim.is_alive else "dead"
        if details.claim.stopped_process is not None:
            alive = "stopped"
        yield ["claim", details.claim.worker_id, alive, details.claim.claimed_at]
    for problem in details.problems:
        yield ["problem", problem]
    for name, value in details.tags.items():
        yield ["tag", name, value]
    for act in details.audit_log:
        yield ["act", act.act, act.actor, act.created_at, act.details]
    for what, attempts in (("step", details.steps), ("compensation", details.compensations)):
        for one in attempts:
            yield [
                what,
                one.branch,
                one.step_index,
                one.attempt,
                one.step_name,
                one.kind,
                one.status,
                one.started_at,
                one.completed_at,
                one.due_at,
                one.output_data,
                one.error_message,
                one.worker,
            ]
    for report in details.progress:
        yield [
            "progress",
            report.branch,
            report.step_index,
            report.attempt,
            report.step_name,
            f"{report.done:.15g}",
            None if report.total is None else f"{report.total:.15g}",
            report.note,
            report.reported_at,
        ]
    for patch in details.patches:
        yield ["patch", patch.branch, patch.patch_name, patch.event, patch.passed_at]
    for timer in details.timers:
        yield ["timer", timer.step_name, timer.status, timer.fire_at]
    for signal in details.signals:
        yield [
            "signal",
            signal.signal_name,
            signal.status,
            signal.created_at,
            signal.payload,
            signal.refused_reason,
            signal.key,
        ]


def _head(
    details: ExecutionDetails, living_workers: int, now: datetime, queue: NamedQueue | None
) -> RenderableType:
    summary = details.summary
    facts: list[tuple[str, tables.Cell]] = [
        ("workflow", f"{summary.workflow_type or '?'} v{summary.version or '?'}"),
        ("status", tables.status(summary.status)),
        ("began", _moment(summary.created_at, now)),
        ("in the queue", _seconds(details.queued_seconds)),
        ("running", _seconds(details.running_seconds)),
        ("since", _moment(summary.status_since, now)),
    ]
    if summary.run_number != 1:
        facts.append(("run", f"{summary.run_number:,}: it continued as new"))
    if summary.parent_execution_id is not None:
        facts.append(("child of", trees.parent_of(summary)))
    if summary.forked_from is not None:
        before = "" if summary.forked_before is None else f", before {summary.forked_before}"
        facts.append(("fork of", f"{summary.forked_from}{before}"))
    if details.forks:
        some = ", ".join(one.id for one in details.forks[:FORKS_NAMED])
        more = len(details.forks) - FORKS_NAMED
        facts.append(("forked as", f"{some}, and {more} more" if more > 0 else some))
    if summary.queue is not None:
        full = ""
        if queue is not None and queue.is_full:
            full = f", which is full: {queue.running:,} of {queue.concurrency:,} slots are held"
        facts.append(("queue", f"{summary.queue}{full}"))
    if details.tags:
        facts.insert(1, ("tags", ", ".join(f"{k}={v}" for k, v in details.tags.items())))
    if details.is_not_undone:
        names = ", ".join(one.step_name for one in details.compensations if one.status == "FAILED")
        facts.append(("NOT UNDONE", Text(output.printable(names), "bold red")))
    if summary.paused_scope is not None:
        facts.append(("PAUSED", Text(output.printable(pause_of(summary)), "bold yellow")))
        if details.ttl_expires_at is not None and details.ttl_expires_at <= now:
            facts.append(("", "its time to live is over: it is undone once it is resumed"))
    if summary.trouble is not None:
        facts.append(("in trouble", Text(output.printable(summary.trouble), "bold red")))
        facts.append(("", f"since {_moment(summary.trouble_since, now)}"))
    elif summary.blocked_reason is not None:
        facts.append(("blocked", Text(output.printable(summary.blocked_reason), "bold red")))
    elif summary.waiting_for is not None:
        facts.append(("waits for", _standing(summary, now)))
    if _is_to_cancel(details):
        is_unfit = commands.needs_code_that_fits(summary.trouble)
        what = "a worker can undo it only with code that fits its history"
        facts.append(
            ("asked", f"to cancel; {what if is_unfit else 'no worker has noticed it yet'}")
        )
    facts += [("asks", _question(one, now)) for one in details.questions]
    if details.claim is not None:
        state = _state(details.claim, living_workers)
        facts.append(("worker", f"{details.claim.worker or details.claim.worker_id}, {state}"))
    if summary.error_type:
        facts.append(("error", f"{summary.error_type}: {summary.error_message}"))
    if details.ttl_expires_at is not None:
        facts.append(("must end", _moment(details.ttl_expires_at, now)))
    facts += [("input", _cut(details.input_data)), ("output", _cut(details.output_data))]
    if details.recovery_count:
        facts.append(("taken over", f"{details.recovery_count} times"))
    return tables.make_table(
        output.printable(summary.id),
        ["", ""],
        [[Text(name, "dim"), value] for name, value in facts if value is not None],
    )


def _question(one: Question, now: datetime) -> str:
    text = "a question that cannot be read here" if one.question is None else one.question
    of = "" if one.to is None else f" of {one.to}"
    about = ""
    if one.details is not None:
        about = f"; {_cut(msgspec.json.encode(one.details).decode())}"
    until = "" if one.deadline is None else f", until {_moment(one.deadline, now)}"
    answered = ", answered" if one.is_answered else ""
    return f"{one.name}{of}: {text}{about} ({one.type}{until}{answered})"


def _state(claim: Claim, living_workers: int) -> str:
    if claim.stopped_process is not None:
        return "STOPPED (SIGSTOP): nobody goes on with it"
    if claim.is_alive:
        return "alive"
    return "DEAD: a living worker takes it over" if living_workers else "DEAD"


def _step(
    one: StepAttempt, details: ExecutionDetails, now: datetime, bar: int, width: int
) -> list[tables.Cell]:
    branch = f"{one.branch}/" if one.branch else ""
    undo = "undo " if one.attempt == 0 else ""
    kind = {"SLEEP": "sleep ", "SIGNAL": "signal "}.get(one.kind, "")
    if one.kind == "SIGNAL" and one.step_name.startswith("$"):
        kind = ""
    took = ""
    if one.started_at is not None and one.completed_at is not None:
        took = output.span(one.completed_at - one.started_at)
    elif one.status == "INTENT" and one.due_at is not None:
        took = f"due {output.ago(one.due_at, now)}"
    result = one.error_message if one.error_message is not None else one.output_data
    if is_undone_by_hand(one):
        result = f"dealt with by hand; its error was: {result or one.error_type}"
    if (ran_in := who_ran(one.input_data)) is not None:
        result = f"ran in {ran_in}: {result}"
    if _is_in_doubt(one, details):
        result = "in doubt: interrupted, and may have taken effect; it runs again"
    return [
        str(one.step_index),
        f"{branch}{undo}{kind}{step_words(one.step_name)}",
        one.attempt or None,
        tables.status(one.status),
        _offset(one, details),
        took,
        _bar(one, details, now, bar),
        _worker(one, width),
        _cut(result),
    ]


def _worker(one: StepAttempt, width: int) -> str | None:
    """Who began it: the number alone where there is little room."""
    if width >= WIDE or one.worker_number is None:
        return one.worker
    return f"#{one.worker_number}"


def _is_in_doubt(one: StepAttempt, details: ExecutionDetails) -> bool:
    if one.status != "INTENT" or one.kind != "STEP":
        return False
    if details.summary.status in TERMINAL_STATUSES or one.asks:
        return False
    return details.claim is None or not details.claim.is_alive


def _offset(one: StepAttempt, details: ExecutionDetails) -> str:
    began = details.summary.created_at
    if one.started_at is None or began is None:
        return ""
    return f"+{output.span(max(one.started_at - began, one.started_at - one.started_at))}"


def _bar(one: StepAttempt, details: ExecutionDetails, now: datetime, width: int) -> Text:
    """When the attempt was, from the beginning of the execution to its end, or to now."""
    summary = details.summary
    is_over = summary.status in TERMINAL_STATUSES
    begin, end = summary.created_at, summary.updated_at if is_over else now
    if not width or begin is None or end is None or one.started_at is None or end <= begin:
        return Text("")
    whole = (end - begin).total_seconds()
    left = (one.started_at - begin).total_seconds() / whole
    right = ((one.completed_at or end) - begin).total_seconds() / whole
    first = min(max(int(left * width), 0), width - 1)
    last = min(max(int(right * width), first), width - 1)
    text = " " * first + "━" * (last - first + 1)
    # A second line would be another time.
    style = tables.STATUS_STYLES.get(one.status, "")
    return Text(text.ljust(width), style, no_wrap=True, overflow="crop")


def _filled(fraction: float | None, width: int) -> Text:
    """The part that is done, as a bar."""
    if fraction is None:
        return Text("")
    done = int(fraction * width)
    parts = [("━" * done, "green"), ("─" * (width - done), "dim")]
    return Text.assemble(*parts, no_wrap=True, overflow="crop")


def _seconds(length: float | None) -> str | None:
    return None if length is None else output.span(timedelta(seconds=max(length, 0)))


def _moment(time: datetime | None, now: datetime) -> str:
    return "?" if time is None else f"{time:%Y-%m-%d %H:%M:%S}Z, {output.ago(time, now)}"


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= DATA_LENGTH:
        return text
    return f"{text[:DATA_LENGTH]}... ({len(text):,} characters; all with --json)"
