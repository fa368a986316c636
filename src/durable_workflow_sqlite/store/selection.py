"""Which executions somebody asks for, and the places between them at which a page ends."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from durable_workflow_sqlite.records import check_integer, check_tags, check_time
from durable_workflow_sqlite.store.rows import time_to_text

LAST_CHARACTER: Final = "\U0010ffff"


class InputFilter(msgspec.Struct, frozen=True):
    """A value somewhere in the input of an execution, which is an array of its arguments.

    path: of a value in an argument that is an object, as SQLite writes it; None for none.
    position: of an argument, the first is 0; None for none.
    value: as text. A string is compared as it is; a number, true, false and null as in JSON.
    """

    path: str | None
    position: int | None
    value: str

    @classmethod
    def from_text(cls, text: str) -> InputFilter:
        """From KEY=VALUE. Raises ValueError for what is none."""
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"{text!r} is not KEY=VALUE, as in customer.id=7 or 1=A-17")
        if re.fullmatch("[0-9]{1,6}", key):
            if int(key) == 0:
                raise ValueError(f"{text!r}: the first argument has the number 1")
            return cls(None, int(key) - 1, value)
        if '"' in key or "" in key.split("."):
            raise ValueError(f"{key!r} is not a key; write the keys with a . between: customer.id")
        return cls("$" + "".join(f'."{one}"' for one in key.split(".")), None, value)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Executions with all of these properties; what is not given chooses all.

    statuses: of any of them. created_before: before that time. created_after: at it, or later.
    changed_before, changed_after: when they last changed; of finished ones, ended.
    in_trouble: those that their worker left as they are. is_blocked: that no worker may claim.
    error: a text in the class or the message of the error, or in the trouble of an unfinished one;
        ASCII letters are the same in upper and lower case.
    is_not_undone: those of which a compensation failed for good.
    version: of the workflow. step: those that are at a step of this name, or failed there.
    inputs: values of the input, all of them. tags: all of them, too.

    Raises ValueError, TypeError.
    """

    statuses: Collection[str] = ()
    workflow_type: str | None = None
    version: int | None = None
    id_prefix: str | None = None
    created_before: datetime | None = None
    created_after: datetime | None = None
    changed_before: datetime | None = None
    changed_after: datetime | None = None
    in_trouble: bool = False
    is_blocked: bool = False
    is_not_undone: bool = False
    error: str | None = None
    step: str | None = None
    inputs: tuple[InputFilter, ...] = ()
    tags: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        for name in ("created_before", "created_after", "changed_before", "changed_after"):
            if getattr(self, name) is not None:
                check_time(name, getattr(self, name))
        if self.version is not None:
            check_integer("version", self.version, minimum=1)
        if self.in_trouble + self.is_blocked + self.is_not_undone > 1:
            raise ValueError("blocked, in trouble and not undone exclude each other; ask for one")
        check_tags(self.tags)

    @property
    def reads_rows(self) -> bool:
        """Whether it asks for more than workflow, status, id and time: for what rows hold."""
        return bool(
            self.tags
            or self.error
            or self.step
            or self.inputs
            or self.changed_before
            or self.changed_after
        )


class Place(NamedTuple):
    """Between two executions in the order of their creation; the later ones come first."""

    created_at: str
    row_number: int

    @classmethod
    def first(cls, selection: Selection) -> Place:
        """Before the newest."""
        if selection.created_before is None:
            return cls(LAST_CHARACTER, 0)
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
    def from_text(cls, text: str) -> Place:
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
    def _read(cls, raw: bytes) -> Place:
        what = raw[:-2]
        if what[:1] != b"\0":
            return msgspec.json.decode(what, type=cls)
        time = _EPOCH + timedelta(microseconds=int.from_bytes(what[1 : 1 + _TIME], "big"))
        return cls(time_to_text(time), int.from_bytes(what[1 + _TIME :], "big", signed=True))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
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
