"""Commands that only look: status, list, watch, and show, whose page is in `timeline`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.cli import output, tables, timeline
from durable_workflow_sqlite.cli import paused as paused_things
from durable_workflow_sqlite.cli import problems as problem_groups
from durable_workflow_sqlite.cli import workers as worker_tables
from durable_workflow_sqlite.cli.arguments import AsJson, form_of, on_database
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.errors import ExecutionNotFoundError
from durable_workflow_sqlite.reading.executions import (
    ExecutionCount,
    ExecutionDetails,
    ExecutionSummary,
    Page,
    beginning,
    step_words,
)
from durable_workflow_sqlite.reading.findings import Finding, Level
from durable_workflow_sqlite.reading.overview import Overview, Problem
from durable_workflow_sqlite.reading.pauses import Paused
from durable_workflow_sqlite.reading.queues import NamedQueue, Queues, queue_findings
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.schedules import ScheduleState, schedule_findings
from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.reading.workers import QueueState, Workers, WorkerState
from durable_workflow_sqlite.records import TERMINAL_STATUSES, ExecutionStatus
from durable_workflow_sqlite.stores import open_reader

SHOWN = 10
_ORDER = {status.value: number for number, status in enumerate(ExecutionStatus)}


class _Status(msgspec.Struct, frozen=True):
    counts: list[ExecutionCount]
    overview: Overview
    problems: list[Problem]
    living_workers: int
    disk: Finding
    workers: tuple[WorkerState, ...]
    queues: tuple[QueueState, ...]
    paused: Paused
    schedules: list[ScheduleState]
    named_queues: Queues

    @property
    def all_workers(self) -> Workers:
        return Workers(workers=self.workers, queues=self.queues)


class _Workers(msgspec.Struct, frozen=True):
    """Who works, and what nobody works at since a person has paused it."""

    workers: tuple[WorkerState, ...]
    queues: tuple[QueueState, ...]
    paused: Paused


def _look(reader: Reader, now: datetime) -> _Status:
    counts = reader.counts()
    found = reader.workers(counts, limit=SHOWN)
    return _Status(
        counts,
        reader.overview(now, limit=SHOWN),
        reader.problems(),
        len(found.living),
        reader.disk(),
        found.workers,
        found.queues,
        reader.paused(limit=SHOWN),
        reader.schedules(),
        reader.queues(now),
    )


app = typer.Typer(rich_markup_mode=None)


class WideForm(StrEnum):
    """How `workers` writes them."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


class ListForm(StrEnum):
    """How `list` writes executions."""

    TABLE = "table"
    WIDE = "wide"
    NAME = "name"
    ID = "id"
    JSON = "json"


@on_database(app)
def workers(
    file: str,
    output_form: Annotated[
        WideForm | None, typer.Option("--output", "-o", help="wide: more about each worker")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the workers, with their steps, slots and queues, and what is paused."""
    form = form_of(output_form, as_json=as_json)
    is_wide = form == "wide"
    with open_reader(file) as reader:
        now = datetime.now(UTC)
        found = reader.workers(limit=worker_tables.DOING_WIDE)
        paused = reader.paused(limit=SHOWN)
    if form == "json":
        output.write_json(_Workers(found.workers, found.queues, paused))
    elif output.is_terminal():
        page = worker_tables.page(found, file, now, is_wide=is_wide)
        parts = [page]
        for one in paused_things.as_tables(paused, file, now):
            parts += ["", one]
        tables.console().print(Group(*parts), crop=False)
    else:
        tables.write_lines(worker_tables.lines(found, is_wide=is_wide))


@on_database(app)
def status(file: str, is_json: bool) -> None:
    """Show the counts, the workers and the problems: in trouble, blocked, old, due."""
    with open_reader(file) as reader:
        now = datetime.now(UTC)
        found = _look(reader, now)
    if is_json:
        output.write_json(found)
    elif output.is_terminal():
        tables.console().print(_as_tables(found, file, now), crop=False)
    else:
        tables.write_lines(_as_lines(found, file, now))


@on_database(app, "list")
def list_(
    file: str,
    chosen: Chosen,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000)] = 50,
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            metavar="NEXT",
            help="continue after a page; the previous page prints this text",
        ),
    ] = None,
    output_form: Annotated[
        ListForm | None,
        typer.Option("--output", "-o", help="id or name: one id in each line, for a pipe"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List executions, the newest first, in pages."""
    form = form_of(output_form, as_json=as_json)
    now = datetime.now(UTC)
    with open_reader(file) as reader:
        selection = chosen.selection(reader, now)
        while True:
            page = reader.page(selection, after, limit)
            _write_page(reader, page, form, now)
            if page.next is None:
                return
            if not chosen.is_all:
                break
            after = page.next
    if form != "json":
        more = f"there are more: add --all, or --after {page.next}"
        if output.is_terminal():
            output.say(more)
        else:
            output.fail(more)


def _write_page(reader: Reader, page: Page, form: str, now: datetime) -> None:
    is_wide = form == "wide"
    if form == "json":
        output.write_json(page)
    elif form in ("name", "id"):
        output.write_ids(row.id for row in page.rows)
    elif output.is_terminal():
        in_doubt = reader.in_doubt_among(page.rows)
        table = _executions("executions", page.rows, now, in_doubt=in_doubt, is_wide=is_wide)
        tables.console().print(table)
    else:
        tables.write_lines(
            _line(row) + (_more(row) if is_wide else []) + _above_and_paused(row)
            for row in page.rows
        )


@on_database(app)
def show(
    file: str,
    execution_ids: Annotated[
        list[str], typer.Argument(metavar="ID", help="of executions, as `list` shows them")
    ],
    is_json: bool,
) -> None:
    """Show all about executions, with their steps as timelines."""
    with open_reader(file) as reader:
        workers = reader.workers(limit=0)
        # First all of them: one that is not there is said where it is seen.
        found = [_execution(reader, one) for one in dict.fromkeys(execution_ids)]
        queues = {one.name: one for one in _queues_of(reader, found)}
    for number, details in enumerate(found):
        if is_json:
            output.write_json(details)
            continue
        if number:
            output.say("")
        if output.is_terminal():
            queue = queues.get(details.summary.queue or "")
            tables.console().print(timeline.page(details, file, workers, datetime.now(UTC), queue))
            if hint := timeline.hint(details, file, queue):
                # In one line, whatever the width: a command in it can be copied.
                tables.console().print(
                    "", Text(output.printable(hint), "italic"), sep="\n", soft_wrap=True
                )
        else:
            tables.write_lines(timeline.lines(details))


@on_database(app)
def watch(
    file: str,
    execution_id: Annotated[str | None, typer.Argument(metavar="ID")] = None,
    interval: Annotated[
        float, typer.Option(min=0.05, metavar="SECONDS", help="look at most this often")
    ] = 1.0,
) -> None:
    """Show changes when they happen; with an id, until the execution ends."""
    with open_reader(file) as reader:
        try:
            if output.is_terminal() and not output.is_dumb():
                _watch_live(reader, execution_id, interval)
            else:
                _watch_lines(reader, execution_id, interval)
        except KeyboardInterrupt:
            return


def _watch_live(reader: Reader, execution_id: str | None, interval: float) -> None:
    with Live(console=tables.console(), auto_refresh=False, screen=execution_id is None) as live:
        for now in _moments(interval):
            if execution_id is None:
                found = _look(reader, now)
                head = Text(f"{reader.name}  {now:%H:%M:%S}Z", "dim")
                live.update(Group(head, _as_tables(found, reader.name, now)), refresh=True)
                continue
            details = _execution(reader, execution_id)
            workers = reader.workers(limit=0)
            queue = next(iter(_queues_of(reader, [details])), None)
            page = timeline.page(details, reader.name, workers, now, queue)
            hint = timeline.hint(details, reader.name, queue)
            if hint is not None:
                page = Group(page, "", Text(output.printable(hint), "italic"))
            live.update(page, refresh=True)
            if details.summary.status in TERMINAL_STATUSES:
                return


def _watch_lines(reader: Reader, execution_id: str | None, interval: float) -> None:
    """A line for each change: of the counts, or of the execution."""
    before: object = None
    version = None
    for now in _moments(interval):
        if version == (version := reader.changes()):
            continue
        if execution_id is None:
            counts = {
                (one.workflow_type, one.version, one.status): one.count for one in reader.counts()
            }
            if counts != before:
                tables.write_lines([now, "count", *key, count] for key, count in counts.items())
            before = counts
            continue
        summary = _execution(reader, execution_id).summary
        if summary != before:
            tables.write_lines([[now, summary.status, summary.current_step, summary.waiting_for]])
        before = summary
        if summary.status in TERMINAL_STATUSES:
            return


def _moments(interval: float) -> Iterator[datetime]:
    while True:
        yield datetime.now(UTC)
        time.sleep(interval)


def _queues_of(reader: Reader, found: Sequence[ExecutionDetails]) -> list[NamedQueue]:
    """The named queues in which unfinished ones are."""
    names = {one.summary.queue for one in found if one.summary.status not in TERMINAL_STATUSES} - {
        None
    }
    return [one for one in reader.named_queues() if one.name in names] if names else []


def _execution(reader: Reader, execution_id: str) -> ExecutionDetails:
    details = reader.execution(execution_id)
    if details is not None:
        return details
    near = reader.page(Selection(id_prefix=execution_id), limit=2).rows
    hint = (
        f"there is {near[0].id}"
        if near
        else f"find it with `{command('list', reader.name)} --id PREFIX`"
    )
    raise ExecutionNotFoundError(
        f"no execution has the id {execution_id!r}; {hint}", workflow_execution_id=execution_id
    )


def _as_tables(found: _Status, file: str, now: datetime) -> RenderableType:
    counts = found.counts
    statuses = sorted({one.status for one in counts}, key=lambda name: (_ORDER.get(name, 9), name))
    workflows = sorted({(one.workflow_type or "?", one.version or 0) for one in counts})
    by_place = {
        (one.workflow_type or "?", one.version or 0, one.status): one.count for one in counts
    }
    parts: list[RenderableType] = [
        tables.make_table(
            "executions",
            ["workflow", *statuses],
            [
                [
                    f"{name} v{version}",
                    *(_number(by_place.get((name, version, one)), one) for one in statuses),
                ]
                for name, version in workflows
            ],
        ),
        *_who_lives(found, file, now),
        *worker_tables.warnings(_of_the_file(found, now), file),
    ]
    if found.queues:
        parts += ["", worker_tables.queue_table(found.all_workers, now)]
    for one in sorted({one.status for one in counts} - _ORDER.keys()):
        which = output.printable(command("list", file, "--status", one))
        parts += [
            "",
            Text(f"no worker knows the status {output.printable(one)}: {which}", "bold red"),
        ]
    if found.disk.level is not Level.OK:
        parts += ["", Text(f"{found.disk.message}; {found.disk.hint}", "bold red")]
    for table in _what_waits(found, file, now):
        parts += ["", table]
    return Group(*parts)


def _who_lives(found: _Status, file: str, now: datetime) -> Iterator[RenderableType]:
    """How many workers live, unless a warning says that none does; and what is wrong."""
    findings = worker_tables.found(found.all_workers, now)
    if found.living_workers or not findings:
        yield ""
        yield Text(worker_tables.in_a_word(found.all_workers), "bold")
    yield from worker_tables.warnings(findings, file)


def _of_the_file(found: _Status, now: datetime) -> list[Finding]:
    return [
        *schedule_findings(found.schedules, found.all_workers, now),
        *queue_findings(found.named_queues, found.all_workers, now),
    ]


def _what_waits(found: _Status, file: str, now: datetime) -> Iterator[RenderableType]:
    """What needs a person, the worst first; then what takes long, and what comes next."""
    overview = found.overview
    yield from _to_be_undone(overview, now)
    yield from _left_as_they_are(found, file, now)
    yield from _asked(overview, now)
    yield from _may_have_taken_effect(overview, now)
    if rows := overview.oldest_unfinished:
        doubtful = {one.execution_id for one in overview.in_doubt}
        yield _executions("oldest unfinished", rows, now, briefly=True, in_doubt=doubtful)
    if overview.next_timers:
        yield tables.make_table(
            f"next timers: of {overview.timers_total}",
            ["due", "id", "workflow", "step"],
            (
                [
                    output.ago(one.fire_at, now) or "?",
                    tables.execution_id(one.execution_id),
                    one.workflow_type,
                    one.step_name,
                ]
                for one in overview.next_timers
            ),
        )


def _to_be_undone(overview: Overview, now: datetime) -> Iterator[RenderableType]:
    if overview.not_undone:
        yield tables.make_table(
            f"NOT UNDONE: {overview.not_undone_total} (the compensation failed for good;"
            " `retry` runs it again, `acknowledge` says that a person has undone it)",
            ["id", "workflow", "step", "why", "since"],
            (
                [
                    tables.execution_id(one.execution_id),
                    one.workflow_type,
                    one.step_name,
                    one.error_message,
                    output.ago(one.failed_at, now),
                ]
                for one in overview.not_undone
            ),
        )
    if overview.undoing:
        yield tables.make_table(
            f"not undone yet: {overview.undoing_total} (the compensation is retried until it"
            " succeeds)",
            ["id", "workflow", "step", "tries", "why", "since", "next try"],
            (
                [
                    tables.execution_id(one.execution_id),
                    one.workflow_type,
                    one.step_name,
                    one.attempts,
                    one.error_message,
                    output.ago(one.undoing_since, now),
                    output.ago(one.next_try_at, now),
                ]
                for one in overview.undoing
            ),
        )


def _left_as_they_are(found: _Status, file: str, now: datetime) -> Iterator[RenderableType]:
    overview = found.overview
    if overview.blocked:
        yield tables.make_table(
            f"blocked: {overview.blocked_total} (no worker claims them; `show` says what to do)",
            ["id", "workflow", "why", "since"],
            (
                [
                    tables.execution_id(one.id),
                    one.workflow_type,
                    one.blocked_reason,
                    output.ago(one.updated_at, now),
                ]
                for one in overview.blocked
            ),
        )
    yield from paused_things.as_tables(found.paused, file, now)
    if found.problems:
        yield problem_groups.as_table(found.problems, file, now)
    if overview.in_trouble:
        yield tables.make_table(
            f"in trouble: {overview.in_trouble_total} (correct the cause, then restart the"
            " workers)",
            ["id", "workflow", "why", "since"],
            (
                [
                    tables.execution_id(one.id),
                    one.workflow_type,
                    beginning(one.trouble),
                    output.ago(one.trouble_since, now),
                ]
                for one in overview.in_trouble
            ),
        )


def _may_have_taken_effect(overview: Overview, now: datetime) -> Iterator[RenderableType]:
    in_doubt = f"in doubt: {overview.in_doubt_total} (interrupted; no living worker runs it)"
    cut_off = (
        f"cut off or timed out: {overview.cut_off_total} (may have taken effect, and will not be"
        " undone)"
    )
    for title, steps in ((in_doubt, overview.in_doubt), (cut_off, overview.cut_off)):
        if steps:
            yield tables.make_table(
                title,
                ["id", "workflow", "step", "attempt", "began"],
                (
                    [
                        tables.execution_id(one.execution_id),
                        one.workflow_type,
                        one.step_name,
                        one.attempt,
                        output.ago(one.started_at, now),
                    ]
                    for one in steps
                ),
            )


def _asked(overview: Overview, now: datetime) -> Iterator[RenderableType]:
    if overview.unresolved:
        yield tables.make_table(
            f"waiting for an answer: {overview.unresolved_total} (in doubt; say what became of them"
            " with `resolve`)",
            ["id", "workflow", "step", "asked", "question"],
            (
                [
                    tables.execution_id(one.execution_id),
                    one.workflow_type,
                    one.step_name,
                    output.ago(one.asked_at, now),
                    one.question,
                ]
                for one in overview.unresolved
            ),
        )


def _as_lines(found: _Status, file: str, now: datetime) -> Iterator[list[tables.Cell]]:
    """Each line begins with what it is: workers, count, oldest, timer, in-doubt and so on."""
    yield ["workers", found.living_workers]
    yield from worker_tables.status_lines(found.all_workers, file, now)
    yield from worker_tables.warning_lines(_of_the_file(found, now), file)
    yield ["disk", found.disk.level, found.disk.message]
    for count in found.counts:
        yield ["count", count.workflow_type, count.version, count.status, count.count]
    yield from problem_groups.as_lines(found.problems)
    for row in found.overview.oldest_unfinished:
        yield ["oldest", *_line(row), *_above_and_paused(row)]
    for timer in found.overview.next_timers:
        yield ["timer", timer.execution_id, timer.workflow_type, timer.step_name, timer.fire_at]
    for what, steps in (
        ("in-doubt", found.overview.in_doubt),
        ("cut-off", found.overview.cut_off),
    ):
        for step in steps:
            yield [
                what,
                step.execution_id,
                step.workflow_type,
                step.step_name,
                step.attempt,
                step.started_at,
            ]
    for asked in found.overview.unresolved:
        yield [
            "question",
            asked.execution_id,
            asked.workflow_type,
            asked.step_name,
            asked.question,
            asked.asked_at,
        ]
    for one in found.overview.blocked:
        yield ["blocked", one.id, one.workflow_type, one.status, one.blocked_reason]
    yield from paused_things.as_lines(found.paused)
    for left in found.overview.in_trouble:
        since = left.trouble_since
        yield [
            "in-trouble",
            left.id,
            left.workflow_type,
            left.status,
            beginning(left.trouble),
            since,
        ]
    for lost in found.overview.not_undone:
        yield [
            "not-undone",
            lost.execution_id,
            lost.workflow_type,
            lost.step_name,
            beginning(lost.error_message),
            lost.failed_at,
        ]
    for undoing in found.overview.undoing:
        yield [
            "undoing",
            undoing.execution_id,
            undoing.workflow_type,
            undoing.step_name,
            undoing.attempts,
            beginning(undoing.error_message),
            undoing.undoing_since,
            undoing.next_try_at,
        ]


def _line(row: ExecutionSummary) -> list[tables.Cell]:
    return [
        row.id,
        row.workflow_type,
        row.version,
        row.status,
        row.created_at,
        row.updated_at,
        row.current_step,
        row.waiting_for,
        row.waiting_until,
        row.blocked_reason,
        beginning(row.error_message),
        beginning(row.trouble),
        row.status_since,
        row.steps_not_undone,
    ]


def _more(row: ExecutionSummary) -> list[tables.Cell]:
    """What a wide line has after the others."""
    return [
        row.steps_begun,
        row.steps_completed,
        row.attempts,
        row.signals_pending,
        row.error_type,
        row.worker_id,
    ]


def _above_and_paused(row: ExecutionSummary) -> list[tables.Cell]:
    """What a line ends with: whose child it is, and since when, by whom and why it is paused."""
    return [
        row.parent_execution_id,
        row.root_execution_id,
        row.paused_at,
        row.paused_by,
        row.paused_reason,
    ]


def _executions(
    title: str,
    rows: Sequence[ExecutionSummary],
    now: datetime,
    *,
    briefly: bool = False,
    in_doubt: Collection[str] = (),
    is_wide: bool = False,
) -> RenderableType:
    more = ["changed", "done", "signals", "worker"] if is_wide else []
    return tables.make_table(
        title,
        ["id", "workflow", "status", "began", "step", *more, "waits for / why"],
        [
            [
                tables.execution_id(row.id),
                _workflow(row),
                tables.status(row.status),
                output.ago(row.created_at, now) or "?",
                _step(row),
                *(_wide(row, now) if is_wide else ()),
                beginning(timeline.standing(row, now, briefly=briefly))
                or ("in doubt" if row.id in in_doubt else ""),
            ]
            for row in rows
        ],
    )


def _wide(row: ExecutionSummary, now: datetime) -> list[tables.Cell]:
    return [
        output.ago(row.updated_at, now) or "?",
        f"{row.steps_completed}/{row.steps_begun}",
        row.signals_pending or "",
        row.worker_id,
    ]


def _workflow(row: ExecutionSummary) -> str:
    version = "" if row.version in (None, 1) else f" v{row.version}"
    return f"{row.workflow_type or '?'}{version}"


def _step(row: ExecutionSummary) -> str:
    if row.current_step is None:
        return ""
    branch = f"{row.current_branch}/" if row.current_branch else ""
    again = f" (attempt {row.attempts})" if (row.attempts or 1) > 1 else ""
    return f"{branch}{step_words(row.current_step)}{again}"


def _number(count: int | None, name: str) -> Text:
    return Text("" if count is None else f"{count:,}", tables.STATUS_STYLES.get(name, "bold red"))
