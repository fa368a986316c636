"""`client.follow`: the streams of an execution, as they are written, in whatever process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from time import monotonic
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.history import Place
from durable_workflow_sqlite.engine.results import not_found
from durable_workflow_sqlite.engine.step_names import StepName, check_step
from durable_workflow_sqlite.records import (
    ExecutionStatus,
    Progress,
    StepStatus,
    StreamItem,
    check_identifier,
)

FASTEST_S: Final = 0.004
SLOWEST_S: Final = 0.03
"""How often the store is asked for new items: often while there are, then less often."""

AT_ONCE: Final = 500

PROGRESS_EVERY_S: Final = 0.1
"""How often the store is asked for the progress."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An item that an action has put into the stream of its step.

    value: as plain JSON data. step, branch, step_index: which step. attempt: which attempt of it.
    cursor: `follow(..., after=cursor)` goes on behind this item.
    """

    value: Any
    step: str
    branch: str
    step_index: int
    attempt: int
    cursor: str


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """Another attempt of a step has begun: its items come from the first on.

    Forget the items of the step so far. attempt: the one that follows.
    """

    step: str
    branch: str
    step_index: int
    attempt: int


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing more comes. status: of the execution; or of the step, if that is over."""

    status: ExecutionStatus | StepStatus


class _Cursor(msgspec.Struct, frozen=True):
    """The last item that was seen, and the attempt that has written it."""

    number: int
    place: Place
    attempt: tuple[int, int, int]

    def text(self) -> str:
        run, token, attempt = self.attempt
        branch, index = self.place
        return f"{attempt}:{self.number}:{run}:{token}:{index}:{quote(branch, safe='')}"


def check_follow(step: StepName | None, after: str | None) -> None:
    """Raise TypeError or ValueError for what cannot be followed."""
    if step is not None:
        check_step(step)
    if after is not None:
        _cursor(after)


def _cursor(text: str) -> _Cursor:
    if not isinstance(text, str):
        raise TypeError(f"after must be the cursor of an item, not {text!r}")
    try:
        *numbers, branch = text.split(":")
        attempt, number, run, token, index = map(int, numbers)
    except ValueError:
        raise ValueError(f"after must be the cursor of an item, not {text!r}") from None
    return _Cursor(number, (unquote(branch), index), (run, token, attempt))


def _attempt(item: StreamItem) -> tuple[int, int, int]:
    return item.run_number, item.written_under, item.attempt


async def follow(
    access: Access, execution_id: str, step: StepName | None, after: str | None
) -> AsyncGenerator[Item | Reset | Progress | End, None]:
    """See `Client.follow`."""
    check_identifier("execution_id", execution_id)
    check_follow(step, after)
    store, last = access.store, 0
    attempts: dict[Place, tuple[int, int, int]] = {}
    before: _Cursor | None = None
    if after is not None:
        before = _cursor(after)
        last = before.number
        for head in await store.load_stream_heads(execution_id, last):
            attempts[head.branch, head.step_index] = _attempt(head)
        attempts[before.place] = before.attempt
    pause, asked_at = FASTEST_S, 0.0
    reported: dict[Place, Progress] = {}
    while True:
        access.check_open()
        # In this order: all items were written before the end was.
        end = await _end(access, execution_id, step)
        has_news, found = False, AT_ONCE
        while found == AT_ONCE:
            items = await store.load_stream_items(execution_id, last, AT_ONCE)
            found = len(items)
            for one in items:
                last = one.workflow_stream_item_id
                if not _is_of(one, step):
                    continue
                has_news = True
                place, attempt = (one.branch, one.step_index), _attempt(one)
                known = attempts.get(place)
                if known is None and before is not None and before.attempt[0] != attempt[0]:
                    known = before.attempt  # the records of the run before are gone
                attempts[place] = attempt
                if known is not None and known != attempt:
                    yield Reset(
                        step=one.step_name,
                        branch=one.branch,
                        step_index=one.step_index,
                        attempt=one.attempt,
                    )
                yield Item(
                    value=msgspec.json.decode(one.item),
                    step=one.step_name,
                    branch=one.branch,
                    step_index=one.step_index,
                    attempt=one.attempt,
                    cursor=_Cursor(last, place, attempt).text(),
                )
        if end is not None or monotonic() >= asked_at + PROGRESS_EVERY_S:
            asked_at = monotonic()
            for report in await store.load_progress(execution_id):
                place = report.branch, report.step_index
                if _is_of(report, step) and reported.get(place) != report:
                    reported[place] = report
                    yield report
        if end is not None:
            yield end
            return
        pause = FASTEST_S if has_news else min(pause * 1.5, SLOWEST_S)
        await asyncio.sleep(pause)


def _is_of(item: StreamItem | Progress, step: StepName | None) -> bool:
    match step:
        case None:
            return True
        case str():
            return item.step_name == step
        case (branch, name):
            return (item.branch, item.step_name) == (branch, name)
        case (branch, name, index):
            return (item.branch, item.step_name, item.step_index) == (branch, name, index)


async def progress(access: Access, execution_id: str) -> list[Progress]:
    """See `Client.progress`."""
    check_identifier("execution_id", execution_id)
    found = await access.store.load_progress(execution_id)
    if not found and not await access.store.load_statuses([execution_id]):
        raise not_found(execution_id)
    return found


async def _end(access: Access, execution_id: str, step: StepName | None) -> End | None:
    """How the execution ended, or all steps that are followed; None if not yet."""
    status = (await access.store.load_statuses([execution_id])).get(execution_id)
    if status is None:
        raise not_found(execution_id)
    if status.is_terminal:
        return End(status=status)
    if step is None:
        return None
    ends = await access.store.load_stream_ends(
        execution_id, step if isinstance(step, str) else step[1]
    )
    if not isinstance(step, str):
        ends = [
            one
            for one in ends
            if one.branch == step[0] and (len(step) == 2 or one.step_index == step[2])
        ]
    if ends and all(one.is_over for one in ends):
        return End(status=ends[-1].status)
    return None
