"""The places between executions at which a page ends, as text."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.store.rows import time_to_text

LAST_CHARACTER: Final = "\U0010ffff"


class Cursor(NamedTuple):
    """Between two executions in the order of their creation; the later ones come first."""

    created_at: str
    row_number: int

    @classmethod
    def first(cls, selection: Selection) -> Cursor:
        """Before the newest."""
        if selection.created_before is None:
            return cls(LAST_CHARACTER, _LAST_NUMBER)
        return cls(time_to_text(selection.created_before), -1)

    def to_text(self) -> str:
        """Short, of letters and digits alone, with a checksum."""
        microseconds = _microseconds(self.created_at)
        if microseconds is None:  # somebody wrote there what is no time
            what = msgspec.json.encode(self)
        else:
            # No JSON array begins with a zero.
            what = b"\0" + microseconds.to_bytes(_TIME, "big") + _bytes(self.row_number)
        return base64.b32encode(what + _checksum(what)).decode().rstrip("=").lower()

    @classmethod
    def from_text(cls, text: str) -> Cursor:
        """Raises ValueError for what `to_text` did not make, or what is only a part of it."""
        try:
            place = cls._read(base64.b32decode(text.upper() + "=" * (-len(text) % 8)))
            if place.to_text() == text.lower():
                return place
        except (ValueError, OverflowError, msgspec.MsgspecError):
            pass
        raise ValueError(
            f"{text!r} is not the `next` of a page; copy all of it, or begin without it"
        )

    @classmethod
    def _read(cls, raw: bytes) -> Cursor:
        what = raw[:-2]
        if what[:1] != b"\0":
            return msgspec.json.decode(what, type=cls)
        time = _EPOCH + timedelta(microseconds=int.from_bytes(what[1 : 1 + _TIME], "big"))
        return cls(time_to_text(time), int.from_bytes(what[1 + _TIME :], "big", signed=True))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_NUMBER: Final = 2**63 - 1
_TIME: Final = 8
"""Bytes of a time: enough for the year 9999."""


def _microseconds(text: str) -> int | None:
    """Of a time since 1970; None where it would not be written in the same way again."""
    try:
        time = datetime.fromisoformat(text)
        microseconds = (time - _EPOCH) // timedelta(microseconds=1)
        return microseconds if microseconds >= 0 and time_to_text(time) == text else None
    except (ValueError, TypeError, OverflowError):
        return None


def _bytes(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def _checksum(what: bytes) -> bytes:
    return binascii.crc_hqx(what, 0).to_bytes(2, "big")
