"""The page of the named queues and of the limits for steps, and the form that changes limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_workflow_sqlite import limit_texts
from durable_workflow_sqlite.dashboard.actions import who
from durable_workflow_sqlite.dashboard.filters import Filters
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.rendering import Pages, to_page
from durable_workflow_sqlite.database import for_file
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.errors import LimitNotFoundError, QueueNotFoundError
from durable_workflow_sqlite.limits import Limit, Queue, in_words
from durable_workflow_sqlite.reading.queues import (
    HeldSlot,
    NamedQueue,
    StepLimit,
    limits_of,
    queue_findings,
)
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.stores import open_store

SAYS: Final = {
    "changed": "The limits are changed. They count for every worker within a second.",
    "unchanged": "The limits were so already: nothing was changed.",
    "paused": "The queue is paused: what runs in it ends its step, and nothing else begins.",
    "resumed": "The queue is resumed: workers may claim what waits in it.",
}

_HOLDERS: Final = 5
_ACTS: Final = 10
_UNFINISHED: Final = ("PENDING", "RUNNING", "SUSPENDED", "COMPENSATING")

_FIELDS: Final = {
    "concurrency": ("At once", "5", "How many run at once, over all workers."),
    "per_worker": ("Per worker", "2", "How many of them in one worker."),
    "per_key": ("Per key", "1", "How many of them with one key."),
    "rate": ("Rate", "100/60", "How many begin within a time: a number, and seconds."),
    "key_rate": ("Key rate", "10/60", "How many with one key begin within a time."),
}
"""The fields of the form: what each is called, an example, and what it counts."""

_OF_STEPS: Final = ("concurrency", "per_key", "rate")


class QueueLine(NamedTuple):
    """A queue as the template shows it. The links are to lists of its executions."""

    queue: NamedQueue
    limits: list[tuple[str, str]]
    href: str
    running_href: str
    due_href: str


class LimitLine(NamedTuple):
    """A limit for steps, and who holds its slots. more: how many others do."""

    limit: StepLimit
    limits: list[tuple[str, str]]
    holders: list[HeldSlot]
    more: int


class Field(NamedTuple):
    """A field of the form."""

    name: str
    words: str
    example: str
    meaning: str
    value: str


def queues_of(
    source: Source, reader: Reader, version: str, now: datetime, at: str
) -> dict[str, Any]:
    """What the template of the queues shows."""
    counts = source.counts(reader, version)
    found = source.kept("queues", version, lambda: reader.queues(now))
    return {
        "queues": [_queue_line(one, at) for one in found.queues],
        "limits": [_limit_line(one, reader) for one in found.limits],
        "acts": reader.acts(["QUEUE", "STEP"], limit=_ACTS),
        "findings": [
            (one.message, for_file(one.hint or "", reader.name).replace("`", ""))
            for one in queue_findings(found, reader.workers(counts, limit=0), now)
        ],
    }


def _queue_line(one: NamedQueue, at: str) -> QueueLine:
    of_it = Filters(queue=one.name)
    return QueueLine(
        one,
        limits_of(one),
        href=of_it.href(at, statuses=_UNFINISHED),
        running_href=of_it.href(at, statuses=("RUNNING", "COMPENSATING")),
        due_href=of_it.href(at, statuses=("PENDING", "SUSPENDED")),
    )


def _limit_line(one: StepLimit, reader: Reader) -> LimitLine:
    holders = reader.held_slots("STEP", one.name, limit=_HOLDERS) if one.running else []
    return LimitLine(one, limits_of(one), holders, max(one.running - len(holders), 0))


def routes(file: str, source: Source, pages: Pages) -> list[Route]:
    """The form that changes the limits of a queue, or of steps."""

    async def form_page(
        request: Request,
        kind: str,
        name: str,
        texts: Mapping[str, str] | None = None,
        *,
        wrong: str = "",
        status: int = 200,
    ) -> Response:
        await source.read(lambda reader: reader.counts())  # a store would create the file
        found = await _load(file, kind, name)
        if found is None:
            words = f"There is no queue or limit {name!r} in this file that is declared."
            return await pages.message(request, "No such queue", words, status=404)
        values = msgspec.structs.asdict(found)
        stored = {what: str(in_words(values.get(what)) or "") for what in _FIELDS}
        return await pages.page(
            request,
            "queue.html",
            status=status,
            place="queues",
            kind=kind,
            name=name,
            fields=[
                Field(what, words, example, meaning, (texts or stored).get(what, ""))
                for what, (words, example, meaning) in _FIELDS.items()
                if kind == "QUEUE" or what in _OF_STEPS
            ],
            wrong=wrong,
        )

    async def ask(request: Request) -> Response:
        given = request.query_params
        return await form_page(request, given.get("kind", ""), given.get("name", ""))

    async def do(request: Request) -> Response:
        form: dict[str, str] = request.state.form
        kind, name = form.get("kind", ""), form.get("name", "")
        names = _FIELDS if kind == "QUEUE" else _OF_STEPS
        texts = {what: form.get(what, "").strip() for what in names}
        await source.read(lambda reader: reader.counts())  # a store would create the file
        found = await _load(file, kind, name)
        if found is None:
            return await form_page(request, kind, name)
        try:
            values: dict[str, Any] = dict(
                limit_texts.read(
                    {what: text or limit_texts.NONE for what, text in texts.items()}, "{}"
                )
            )
            becomes = msgspec.structs.replace(found, **values)
            async with open_store(file) as store:
                is_changed = await Client(store).change_limits(becomes, by=who(request))
        except (ValueError, QueueNotFoundError, LimitNotFoundError) as error:
            return await form_page(request, kind, name, texts, wrong=str(error), status=422)
        source.forget()
        return to_page(request, f"/queues?done={quote('changed' if is_changed else 'unchanged')}")

    return [
        Route("/queue", ask, methods=["GET"]),
        Route("/queue", do, methods=["POST"]),
    ]


async def _load(file: str, kind: str, name: str) -> Queue | Limit | None:
    """What is declared; None if nothing is."""
    wanted = {"QUEUE": Queue, "STEP": Limit}.get(kind)
    async with open_store(file) as store:
        limits = await Client(store).limits()
    return next((one for one in limits if type(one) is wanted and one.name == name), None)
