"""How values go to PostgreSQL and come back, so that rows are the same as those of SQLite.

Numbers and flags are sent as text of no type, like strings: the server then takes the type that the
statement says, and prepares each statement once. A time comes back as the text that SQLite keeps,
and a flag as 0 or 1.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format

from durable_workflow_sqlite.store.rows import time_to_text

if TYPE_CHECKING:
    from psycopg.abc import AdaptContext

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""From which PostgreSQL counts microseconds."""

_LAST: Final = 2**63 - 1


class _NumberDumper(Dumper):
    oid = 0

    def dump(self, obj: object) -> Buffer:
        return repr(obj).encode()


class _FlagDumper(Dumper):
    oid = 0

    def dump(self, obj: object) -> Buffer:
        return b"1" if obj else b"0"


class _TimeLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        microseconds = int.from_bytes(data, "big", signed=True)
        if microseconds in (_LAST, -_LAST - 1):
            return "infinity" if microseconds > 0 else "-infinity"
        try:
            return time_to_text(_EPOCH + timedelta(microseconds=microseconds))
        except OverflowError:
            return f"{microseconds} microseconds from the year 2000 on"


class _FlagLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        return bytes(data)[0]


def register(context: AdaptContext) -> None:
    """Let a connection send and read values so."""
    adapters = context.adapters
    adapters.register_dumper(int, _NumberDumper)
    adapters.register_dumper(float, _NumberDumper)
    adapters.register_dumper(bool, _FlagDumper)
    adapters.register_loader("timestamptz", _TimeLoader)
    adapters.register_loader("bool", _FlagLoader)
