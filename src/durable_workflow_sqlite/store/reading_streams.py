"""The streams of one execution, for people who look at it."""

from __future__ import annotations

from contextlib import suppress

from durable_workflow_sqlite.errors import StoreCorruptError
from durable_workflow_sqlite.reading.streams import StreamPart
from durable_workflow_sqlite.records import StreamItem
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows import json_array, stream_item_from


def stream(file: Readable, execution_id: str, after: int | None, limit: int) -> StreamPart | None:
    """See `Reader.stream`."""
    queries = file.queries
    with file.reading() as connection:
        found = queries.load_statuses(connection, workflow_execution_ids=json_array([execution_id]))
        if not found:
            return None
        if after is None:
            rows = queries.load_last_stream_items(
                connection, workflow_execution_id=execution_id, row_limit=limit
            )
            rows.reverse()
        else:
            rows = queries.load_stream_items(
                connection,
                workflow_execution_id=execution_id,
                workflow_stream_item_id=after,
                row_limit=limit,
            )
    items: list[StreamItem] = []
    for row in rows:
        with suppress(StoreCorruptError):
            items.append(stream_item_from(row))
    last = rows[-1].workflow_stream_item_id if rows else after or 0
    return StreamPart(status=found[0].status, items=tuple(items), last=last)
