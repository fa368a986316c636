"""Who works, and what waits for a worker: `workers`, and its part of `status`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.database import for_file
from durable_workflow_sqlite.reading.findings import Finding
from durable_workflow_sqlite.reading.worker_findings import lives, worker_findings
from durable_workflow_sqlite.reading.workers import QueueState, Workers, WorkerState, WorkUnderWay

DOING, DOING_WIDE = 3, 20
"""Of what a worker does, how much a table shows."""


def page(workers: Workers, file: str, now: datetime, *, is_wide: bool) -> RenderableType:
    """The workers, for a terminal."""
    wide = ["program", "id"] if is_wide else []
    table = tables.make_table(
        "workers",
        ["", "worker", "since", "runs", "queues", "slots", "has", *wide, "now"],
        [
            [
                "" if one.number is None else str(one.number),
                _name(one),
                output.ago(one.started_at, now),
                _runs(one),
                _queues(one),
                _slots(one),
                one.executions,
                *([one.program, tables.execution_id(one.worker_id)] if is_wide else ()),
                _doing(one, now, DOING_WIDE if is_wide else DOING),
            ]
            for one in workers.workers
        ],
        empty="none lives",
    )
    return Group(table, *warnings(found(workers, now), file))


def lines(workers: Workers, *, is_wide: bool) -> Iterator[list[tables.Cell]]:
    """The workers, for a pipe: of what each does, only the longest."""
    for one in workers.workers:
        first = one.doing[0] if one.doing else None
        yield [
            one.number,
            one.host,
            one.process_id,
            "stopped" if one.is_stopped else "alive" if one.is_alive else "dead",
            one.started_at,
            _runs(one),
            one.slots_in_use,
            one.slots,
            one.executions,
            None if first is None else first.execution_id,
            None if first is None else first.step_name,
            None if first is None else first.since,
            None if one.queues is None else ", ".join(one.queues),
            *([one.program, one.worker_id] if is_wide else ()),
        ]


def warnings(findings: Iterable[Finding], file: str) -> Iterator[RenderableType]:
    """What is wrong, each with the command that helps."""
    for finding in findings:
        yield ""
        yield Text(output.printable(finding.message), "bold red")
        if finding.hint is not None:
            yield Text(output.printable(for_file(finding.hint, file)), "italic")


def found(workers: Workers, now: datetime) -> list[Finding]:
    return [one for one in worker_findings(workers, now) if one.level.needs_somebody]


def in_a_word(workers: Workers) -> str:
    """How many live, and how many of their slots are in use."""
    living = workers.living
    if not living:
        return "no worker lives"
    number = lives(len(living))
    if workers.stopped:
        number += f", {len(workers.stopped)} of them stopped (SIGSTOP)"
    if any(one.slots is None for one in living):
        return number
    in_use = sum(one.slots_in_use for one in living)
    slots = sum(one.slots or 0 for one in living)
    return f"{number}; {in_use:,} of {slots:,} slots in use"


def queue_table(workers: Workers, now: datetime) -> RenderableType:
    """What there is to do of each workflow."""
    return tables.make_table(
        "queue",
        [
            *("workflow", "due", "the first since", "running", "waiting", "paused"),
            *("in trouble", "blocked", "workers"),
        ],
        [
            [
                one.name,
                one.due or "",
                output.ago(one.due_since, now),
                one.running or "",
                one.waiting or "",
                one.paused or "",
                one.in_trouble or "",
                one.blocked or "",
                one.living_workers if one.living_workers else Text("0", "bold red"),
            ]
            for one in workers.queues
        ],
    )


def status_lines(workers: Workers, file: str, now: datetime) -> Iterator[list[tables.Cell]]:
    """For a pipe: each line begins with what it is."""
    for cells in lines(workers, is_wide=False):
        yield ["worker", *cells]
    for one in workers.queues:
        yield ["queue", *_queue_cells(one)]
    yield from warning_lines(found(workers, now), file)


def warning_lines(findings: Iterable[Finding], file: str) -> Iterator[list[tables.Cell]]:
    """What is wrong, for a pipe."""
    for finding in findings:
        hint = None if finding.hint is None else for_file(finding.hint, file)
        yield ["warning", finding.check, finding.message, hint]


def _queue_cells(one: QueueState) -> list[tables.Cell]:
    return [
        one.workflow_type,
        one.version,
        one.due,
        one.due_since,
        one.running,
        one.waiting,
        one.in_trouble,
        one.blocked,
        one.living_workers,
        one.paused,
    ]


def _name(one: WorkerState) -> Text:
    if one.is_alive and not one.is_stopped:
        return Text(output.printable(one.name))
    state = "STOPPED (SIGSTOP)" if one.is_stopped else "DEAD"
    return Text(output.printable(f"{one.name} {state}"), "bold red")


def _runs(one: WorkerState) -> str:
    return ", ".join(f"{served.workflow_type} v{served.version}" for served in one.serves)


def _queues(one: WorkerState) -> str:
    return "all" if one.queues is None else ", ".join(one.queues)


def _slots(one: WorkerState) -> str:
    return f"{one.slots_in_use}/{'?' if one.slots is None else one.slots}"


def _without_step(work: WorkUnderWay) -> str:
    return "waits for its children" if work.waits_for_children else "between steps"


def _doing(one: WorkerState, now: datetime, limit: int) -> str:
    shown = [
        f"{work.execution_id}: {work.step_name or _without_step(work)}"
        + ("" if work.since is None else f", {output.span(now - work.since)}")
        for work in one.doing[:limit]
    ]
    more = one.slots_in_use - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
