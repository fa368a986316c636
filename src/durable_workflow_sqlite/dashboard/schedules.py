"""The page of schedules, and what can be done to one: a page that asks, and its form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_workflow_sqlite.dashboard.actions import who
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.rendering import Pages, to_page
from durable_workflow_sqlite.database import for_file
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.errors import (
    DurableWorkflowError,
    ScheduleNotFoundError,
    StoreError,
)
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.schedules import schedule_findings
from durable_workflow_sqlite.stores import open_store


class Act(NamedTuple):
    """What a page says, and what its form does: it returns a key of `SAYS`."""

    title: str
    explanation: str
    keep: str
    do_it: str
    run: Callable[[Client, str, dict[str, str], str], Awaitable[str]]


_ACTS: Final = 10

SAYS: Final = {
    "paused": "The schedule is paused.",
    "was_paused": "The schedule was paused before: nothing was changed.",
    "resumed": "The schedule fires again from now on.",
    "not_paused": "The schedule is not paused: nothing was changed.",
    "triggered": "An execution of the schedule is in the queue; a worker claims it.",
}


async def _pause(client: Client, name: str, form: dict[str, str], by: str) -> str:
    reason = form.get("reason", "").strip() or None
    return "paused" if await client.pause_schedule(name, reason=reason, by=by) else "was_paused"


async def _resume(client: Client, name: str, _: dict[str, str], by: str) -> str:
    return "resumed" if await client.resume_schedule(name, by=by) else "not_paused"


async def _trigger(client: Client, name: str, _: dict[str, str], by: str) -> str:
    await client.trigger(name, by=by)
    return "triggered"


ACTS: Final = {
    "pause": Act(
        "Pause this schedule?",
        "It fires nothing until somebody resumes it. Times that pass meanwhile are never fired."
        " What it has started goes on.",
        "Let it go on",
        "Pause it",
        _pause,
    ),
    "resume": Act(
        "Resume this schedule?",
        "It fires again, from its next time on.",
        "Leave it",
        "Resume it",
        _resume,
    ),
    "trigger": Act(
        "Start an execution now?",
        "It is started at once, also if the schedule is paused or another one still runs. The"
        " times of the schedule stay as they are.",
        "Do not start",
        "Start it",
        _trigger,
    ),
}


def schedules_of(source: Source, reader: Reader, version: str, now: datetime) -> dict[str, Any]:
    """What the template of the schedules shows."""
    counts = source.counts(reader, version)
    schedules = source.kept("schedules", version, reader.schedules)
    return {
        "schedules": schedules,
        "acts": reader.acts(["SCHEDULE"], limit=_ACTS),
        "findings": [
            (one.message, for_file(one.hint or "", reader.name).replace("`", ""))
            for one in schedule_findings(schedules, reader.workers(counts, limit=0), now)
        ],
    }


def routes(file: str, source: Source, pages: Pages) -> list[Route]:
    """The page that asks, and the form of it."""

    async def confirmation(
        request: Request, act: str, name: str, *, wrong: str = "", status: int = 200
    ) -> Response:
        found = {one.schedule_name for one in await source.read(lambda reader: reader.schedules())}
        if act not in ACTS or name not in found:
            words = f"There is no schedule {name!r} in this file, or nothing named {act!r} to do."
            return await pages.message(request, "No such schedule", words, status=404)
        return await pages.page(
            request,
            "schedule.html",
            status=status,
            act=act,
            asks=ACTS[act],
            name=name,
            wrong=wrong,
        )

    async def ask(request: Request) -> Response:
        given = request.query_params
        return await confirmation(request, given.get("act", ""), given.get("name", ""))

    async def do(request: Request) -> Response:
        form: dict[str, str] = request.state.form
        act, name = form.get("act", ""), form.get("name", "")
        if act not in ACTS:
            return await confirmation(request, act, name)
        try:
            # Read first: a store would create a file, and migrate it.
            await source.read(lambda reader: reader.schedules())
            async with open_store(file) as store:
                word = await ACTS[act].run(Client(store), name, form, who(request))
        except ScheduleNotFoundError:
            return await confirmation(request, act, name)
        except StoreError:
            raise
        except (DurableWorkflowError, ValueError) as error:
            return await confirmation(request, act, name, wrong=str(error), status=422)
        source.forget()
        return to_page(request, f"/schedules?done={quote(word)}")

    return [
        Route("/schedule", ask, methods=["GET"]),
        Route("/schedule", do, methods=["POST"]),
    ]
