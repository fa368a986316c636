"""Finding the executions of a selection, page by page, each by the index that serves it best."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.cursor import LAST_CHARACTER, Cursor
from durable_workflow_sqlite.store.rows import json_array, time_to_text

AT_ONCE: Final = 1_000
"""So many executions are looked at in one query, where each must be looked at."""

_FEW: Final = 20_000
"""So many executions can be looked at one by one, in some hundredths of a second."""


def pick(
    queries: q.Queries, connection: object, selection: Selection, place: Cursor, limit: int
) -> list[q.PickNewestRow]:
    """The newest executions of a selection that come after a place."""
    by_index, left = _index_of(queries, connection, selection)
    if not left.reads_rows:
        return _pick(connection, by_index, selection, place, limit)
    found: list[q.PickNewestRow] = []
    while True:
        picked = _pick(connection, by_index, selection, place, max(limit, AT_ONCE))
        matching = {
            row.workflow_execution_id
            for row in queries.match_rows(
                connection,
                workflow_execution_ids=json_array([row.workflow_execution_id for row in picked]),
                changed_from=_from(left.changed_after),
                changed_before=_before(left.changed_before),
                step_name=left.step,
                error_text=left.error,
                parent=left.parent,
                root=left.root,
                queues=_texts(left.queues),
                inputs=msgspec.json.encode(left.inputs).decode(),
                tags=msgspec.json.encode(left.tags).decode(),
            )
        }
        found += [row for row in picked if row.workflow_execution_id in matching]
        if len(found) >= limit or len(picked) < max(limit, AT_ONCE):
            return found[:limit]
        place = place_of(picked[-1])


def place_of(row: q.PickNewestRow) -> Cursor:
    """Where a page ends whose last execution this is."""
    return Cursor(row.created_at, row.row_number)


def _index_of(
    queries: q.Queries, connection: object, selection: Selection
) -> tuple[Callable[..., list[Any]], Selection]:
    """The query for it, and what that leaves to be looked at in the rows."""
    prefix = selection.id_prefix or None
    among = partial(_among, queries)
    if selection.in_trouble:
        return queries.pick_in_trouble, selection
    if selection.is_paused:
        return queries.pick_paused, selection
    if selection.is_blocked:
        return among("blocked"), selection
    if selection.is_not_undone:
        return among("not undone"), selection
    if selection.parent:
        left = msgspec.structs.replace(selection, parent=None)
        return among("child", relative=selection.parent), left
    if selection.root:
        left = msgspec.structs.replace(selection, root=None)
        return among("tree", relative=selection.root), left
    if selection.tags:
        (name, value), *others = selection.tags.items()
        left = msgspec.structs.replace(selection, tags=dict(others))
        return among("tagged", name, value), left
    if prefix is not None and _are_few(queries, connection, prefix):
        return among("in range"), selection
    if selection.error:
        left = msgspec.structs.replace(selection, error=None)
        return partial(queries.pick_with_error, error_text=selection.error), left
    return queries.pick_newest, selection


def _among(
    queries: q.Queries,
    among: str,
    tag_name: str | None = None,
    tag_value: str | None = None,
    *,
    relative: str | None = None,
) -> Callable[..., list[Any]]:
    return partial(
        queries.pick_among,
        among=among,
        tag_name=tag_name,
        tag_value=tag_value,
        relative=relative,
    )


def _pick(
    connection: object,
    by_index: Callable[..., list[Any]],
    selection: Selection,
    place: Cursor,
    limit: int,
) -> list[q.PickNewestRow]:
    """As `pick`, by what an index holds alone."""
    prefix = selection.id_prefix or None
    return by_index(
        connection,
        statuses=_texts(selection.statuses),
        types=_texts(selection.workflow_types),
        version=selection.version,
        id_from=prefix,
        id_before=None if prefix is None else prefix + LAST_CHARACTER,
        created_from=_from(selection.created_after),
        before_time=place.created_at,
        before_rowid=place.row_number,
        row_limit=limit,
    )


def _texts(values: Collection[str]) -> str | None:
    """A JSON array of them, or None for any."""
    return json_array(sorted(map(str, values))) if values else None


def _are_few(queries: q.Queries, connection: object, id_prefix: str) -> bool:
    count = queries.count_ids(
        connection, id_from=id_prefix, id_before=id_prefix + LAST_CHARACTER, at_most=_FEW + 1
    )
    return (count or 0) <= _FEW


def _from(time: datetime | None) -> str:
    return "" if time is None else time_to_text(time)


def _before(time: datetime | None) -> str:
    return LAST_CHARACTER if time is None else time_to_text(time)
