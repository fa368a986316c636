"""What can be done to all executions that filters choose: shown first, done, summed up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_workflow_sqlite import commands
from durable_workflow_sqlite.bulk import Command, Ids, delete_all, do_all, selection_of
from durable_workflow_sqlite.dashboard.actions import json_in, who
from durable_workflow_sqlite.dashboard.filters import Filters
from durable_workflow_sqlite.dashboard.listing import ExecutionLine, lines_of
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.rendering import Pages, prefix, to_page
from durable_workflow_sqlite.dashboard.runs import BulkRun, Runs, Work
from durable_workflow_sqlite.reading.reader import Reader

AT_MOST: Final = 100_000
"""So many are chosen for one run; the page says so where there are more."""


class BulkAction(NamedTuple):
    """What a page says of an act on many.

    question: as "Retry 3 executions?" begins. statuses: of those that it is for, where the filters
    ask for none. done: as in "Retried 3".
    """

    name: str
    words: str
    icon: str
    question: str
    explanation: str
    do_it: str
    done: str
    statuses: tuple[str, ...] = ()
    only_blocked: bool = False
    only_paused: bool = False
    is_danger: bool = False


ACTS: Final = {
    one.name: one
    for one in (
        BulkAction(
            "retry",
            "Retry",
            "RETRY",
            "Retry",
            "Each is opened again and continues from what failed, a step or a compensation. A"
            " back-off ends at once. Completed steps do not run again. Executions that were"
            " completely undone are refused: rerun these.",
            "Retry them",
            "Retried",
            ("FAILED",),
        ),
        BulkAction(
            "rerun",
            "Rerun",
            "RETRY",
            "Rerun",
            "Each starts a new execution, with the same input and tags, that does all of its steps"
            " again. The old ones do not change. Executions that somebody has rerun are refused.",
            "Rerun them",
            "Rerun",
            ("FAILED",),
        ),
        BulkAction(
            "cancel",
            "Cancel",
            "CANCELLED",
            "Cancel",
            "Each stops at its next step, is undone, and ends CANCELLED. You cannot reverse this.",
            "Cancel them",
            "Asked to cancel:",
            commands.GOING_ON,
            is_danger=True,
        ),
        BulkAction(
            "signal",
            "Send a signal",
            "SIGNAL",
            "Send a signal to",
            "Each gets the message. It is stored until a wait takes it.",
            "Send it to them",
            "Sent to",
            commands.GOING_ON,
        ),
        BulkAction(
            "unblock",
            "Unblock",
            "BLOCKED",
            "Unblock",
            "Workers may claim them again. Find out first why their workers died.",
            "Unblock them",
            "Unblocked",
            only_blocked=True,
        ),
        BulkAction(
            "pause",
            "Pause",
            "PAUSED",
            "Pause",
            "Each ends the step that runs, and begins nothing else until somebody resumes it. Its"
            " signals and deadlines are kept.",
            "Pause them",
            "Paused",
            commands.UNFINISHED,
        ),
        BulkAction(
            "resume",
            "Resume",
            "RUNNING",
            "Resume",
            "Workers may claim them at once. If their workflow is paused, they wait for that.",
            "Resume them",
            "Resumed",
            only_paused=True,
        ),
        BulkAction(
            "acknowledge",
            "Dealt with",
            "COMPLETED",
            "Say that a person has dealt with",
            "Do this when you have undone by hand what failed compensations did not undo. Also"
            " find out whether steps that were cut off or timed out took effect. The executions"
            " leave the lists.",
            "They are dealt with",
            "Acknowledged",
            commands.OVER,
        ),
        BulkAction(
            "prune",
            "Delete",
            "DELETE",
            "Delete",
            "Each is deleted, with its steps, timers, signals and tags. You cannot reverse this."
            " Executions that are not finished, or have changed since you saw this page, are"
            " kept.",
            "Delete them",
            "Deleted",
            ("COMPLETED",),
            is_danger=True,
        ),
    )
}


def routes(file: str, source: Source, runs: Runs, pages: Pages) -> list[Route]:
    shown = _BulkPages(file, source, runs, pages)
    return [
        Route("/bulk/{act}", shown.ask, methods=["GET"]),
        Route("/bulk/{act}", shown.do, methods=["POST"]),
        Route("/run", shown.show, methods=["GET"]),
        Route("/run/stop", shown.stop, methods=["POST"]),
    ]


class _BulkPages:
    """The pages of one act on many executions."""

    def __init__(self, file: str, source: Source, runs: Runs, pages: Pages) -> None:
        self._file = file
        self._source = source
        self._runs = runs
        self._pages = pages

    async def ask(self, request: Request) -> Response:
        act = ACTS.get(request.path_params["act"])
        if act is None:
            return await self._pages.message(request, "No such page", _NOTHING, status=404)
        filters = Filters.of(request.query_params)._replace(after="")
        return await self.confirmation(request, act, filters)

    async def confirmation(
        self,
        request: Request,
        act: BulkAction,
        filters: Filters,
        *,
        run: BulkRun | None = None,
        wrong: str = "",
        status: int = 200,
        name: str = "",
        payload: str = "",
    ) -> Response:
        """Show whom it is done to, and ask."""

        def look(reader: Reader) -> tuple[BulkRun, list[ExecutionLine]]:
            found = run if run is not None else _plan(reader, self._runs, act, filters)
            rows = reader.summaries(found.ids.sample)
            return found, lines_of(rows, reader.in_doubt_among(rows), datetime.now(UTC))

        at = quote(prefix(request))
        try:
            found, lines = await self._source.read(look)
        except ValueError as error:
            title = "These filters make no sense"
            return await self._pages.message(request, title, str(error), status=400)
        return await self._pages.page(
            request,
            "bulk.html",
            status=status,
            place="executions",
            act=act,
            run=found,
            number=_number(len(found.ids)),
            lines=lines,
            chips=filters.chips(at),
            statuses=() if filters.statuses or filters.state else act.statuses,
            wrong=wrong,
            name=name,
            payload=payload,
            back=filters.href(at),
        )

    async def do(self, request: Request) -> Response:
        form: dict[str, str] = request.state.form
        act = ACTS.get(request.path_params["act"])
        if act is None:
            return await self._pages.message(request, "No such page", _NOTHING, status=404)
        run = self._runs.get(form.get("run", ""))
        if run is None or run.act != act.name:
            # Forgotten, since the dashboard was restarted, or it belongs to another process.
            filters = Filters.of(QueryParams(parse_qsl(form.get("filters", ""))))
            words = "This page was too old, so the executions were read again. Confirm once more."
            return await self.confirmation(request, act, filters, wrong=words, status=409)
        try:
            work = _work(self._file, run, form, who(request))
        except ValueError as error:
            filters = Filters.of(QueryParams(parse_qsl(run.query)))
            return await self.confirmation(
                request,
                act,
                filters,
                run=run,
                wrong=str(error),
                status=422,
                name=form.get("name", ""),
                payload=form.get("payload", ""),
            )
        self._runs.begin(run, work)
        return to_page(request, f"/run?id={run.key}")

    async def show(self, request: Request) -> Response:
        run = self._runs.get(request.query_params.get("id", ""))
        if run is None or not run.is_begun:
            words = (
                "It is unknown here: the dashboard was restarted, or another process of it runs"
                " it. The results are on the pages of the executions, under “What people did”."
            )
            return await self._pages.message(request, "No such run", words, status=404)
        etag = f'"{run.state}-{run.outcome.tried}-{run.is_stopped}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        at = quote(prefix(request))
        filters = Filters.of(QueryParams(parse_qsl(run.query)))
        return await self._pages.page(
            request,
            "run.html",
            etag=etag,
            place="executions",
            **_progress(run),
            chips=filters.chips(at),
            back=filters.href(at),
        )

    async def stop(self, request: Request) -> Response:
        form: dict[str, str] = request.state.form
        run = self._runs.get(form.get("id", ""))
        if run is None:
            return await self._pages.message(request, "No such run", _NOTHING, status=404)
        run.stop()
        return to_page(request, f"/run?id={quote(run.key)}")


_NOTHING: Final = "There is no page at this address."


def _plan(reader: Reader, runs: Runs, act: BulkAction, filters: Filters) -> BulkRun:
    """Choose the executions. Raises ValueError for filters that make no sense."""
    chosen = filters.chosen()
    selection = selection_of(
        reader,
        chosen,
        datetime.now(UTC),
        act.statuses,
        only_blocked=act.only_blocked,
        only_paused=act.only_paused,
    )
    ids, is_cut = Ids(), False
    try:
        for some in reader.execution_ids(selection):
            is_cut = len(ids) + len(some) > AT_MOST
            ids.add(some[: AT_MOST - len(ids)])
            if is_cut:
                break
    except BaseException:
        ids.close()
        raise
    return runs.plan(act.name, filters.query(), ids, is_cut=is_cut)


def _work(file: str, run: BulkRun, form: dict[str, str], by: str) -> Work:
    """What is done in the background. Raises ValueError for a form that cannot be done."""
    if run.act == "prune":
        before = run.planned_at

        async def delete(ids: Ids, *rest: Any) -> None:
            await delete_all(file, ids, before, *rest)

        return delete
    wanted = _command(file, run.act, form, by)

    async def each(ids: Ids, *rest: Any) -> Any:
        return await do_all(file, wanted, ids, *rest)

    return each


def _command(file: str, act: str, form: dict[str, str], by: str) -> Command:
    if act == "signal":
        name = form.get("name", "")
        if not name or name.startswith("$"):
            raise ValueError("Give the name of the signal; it does not begin with $.")
        has_payload = bool(form.get("payload", "").strip())
        return commands.signal(file, name, json_in(form, "payload"), has_payload=has_payload)
    make: dict[str, Callable[[], Command]] = {
        "retry": lambda: commands.retry(file, by=by),
        "rerun": lambda: commands.rerun(once=True, by=by),
        "cancel": lambda: commands.cancel(file, by=by),
        "unblock": lambda: commands.unblock(file, by=by),
        "pause": lambda: commands.pause(file, reason=form.get("reason", "").strip() or None, by=by),
        "resume": lambda: commands.resume(file, by=by),
        "acknowledge": lambda: commands.acknowledge(file, by=by),
    }
    return make[act]()


class _Reason(NamedTuple):
    words: str
    number: str
    first: str


def _progress(run: BulkRun) -> dict[str, Any]:
    """What the template of a run shows."""
    act, outcome = ACTS[run.act], run.outcome
    left = outcome.total - outcome.tried
    share = 100.0 if not outcome.total else outcome.tried / outcome.total * 100
    took = None
    if run.began_at is not None:
        took = (run.ended_at or datetime.now(UTC)) - run.began_at
    reasons = sorted(outcome.reasons.items(), key=lambda one: -one[1].count)
    if not run.is_over:
        headline = "Waits for the run before it" if run.state == "waiting" else "Under way"
        if run.is_stopped:
            headline = "Stopping"
    elif run.trouble is not None:
        headline = "Ended before all was done"
    elif left:
        headline = "Stopped"
    else:
        headline = "Done" if outcome.is_whole else "Done, except those that refused"
    return {
        "act": act,
        "run": run,
        "headline": headline,
        "number": _number(outcome.total),
        "done": outcome.done,
        "refused": outcome.refused,
        "left": left,
        "share": round(share, 1),
        "took": took,
        "reasons": [_Reason(words, f"{one.count:,}", one.first) for words, one in reasons],
        "announce": f"{headline}. {outcome.summary(act.done)}" if run.is_over else "",
    }


def _number(count: int) -> str:
    return f"{count:,} execution{'' if count == 1 else 's'}"
