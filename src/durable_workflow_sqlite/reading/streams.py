"""What people see of the streams of an execution."""

from __future__ import annotations

import msgspec

from durable_workflow_sqlite.records import StreamItem


class StreamPart(msgspec.Struct, frozen=True, kw_only=True):
    """Some items of the streams of one execution, in order, and its status at the same moment.

    last: the number of the last of them, to go on from there; 0 if there is none. Items that
    cannot be read are left out.
    """

    status: str
    items: tuple[StreamItem, ...]
    last: int
