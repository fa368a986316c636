"""What payload a wait for a signal takes, as its record tells it to the sender."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import StepCheckpoint

_BEGINNINGS: Final = {
    "null": "null",
    "boolean": "true",
    "number": "0",
    "string": '""',
    "array": "[",
    "object": "{",
}
"""How each kind of JSON begins: cut off, so that no class of the user is made of it."""

_OTHER_KIND: Final = re.compile(r"Expected `[^`]*`, got `[^`]*`")

_IN_WORDS: Final = {
    "null": "null",
    "boolean": "true or false",
    "number": "a number",
    "string": "a string",
    "array": "an array",
    "object": "an object",
}

MOST_OF_A_NAME: Final = 200
"""Letters of a type's name that are stored."""


class Wanted(msgspec.Struct, frozen=True):
    """The type that a wait names, and the kinds of JSON that it can be read from."""

    type: str
    json: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.type} (as JSON, {' or '.join(_IN_WORDS.get(one, one) for one in self.json)})"


def wanted(payload_type: Any) -> str | None:
    """What the record of a wait tells of a type; None for one that takes everything."""
    if payload_type is Any:
        return None
    try:
        return _wanted(payload_type)
    except TypeError:  # it cannot be hashed
        return _wanted.__wrapped__(payload_type)


def every_kind() -> str:
    """As `wanted`, of a type that takes everything."""
    return msgspec.json.encode(Wanted("Any", tuple(_BEGINNINGS))).decode()


@functools.lru_cache(maxsize=4096)
def _wanted(payload_type: Any) -> str:
    kinds = tuple(kind for kind in _BEGINNINGS if _takes(payload_type, kind))
    name = serialization.name_of(payload_type)[:MOST_OF_A_NAME]
    return msgspec.json.encode(Wanted(name, kinds)).decode()


def _takes(payload_type: Any, kind: str) -> bool:
    """Whether it takes JSON of a kind; True where only the whole of a payload could tell."""
    try:
        serialization.from_json(_BEGINNINGS[kind], payload_type, "it")
    except SerializationError as error:
        return kind != "null" and _OTHER_KIND.fullmatch(str(error.__cause__)) is None
    return True


def read_wanted(wait: StepCheckpoint) -> Wanted | None:
    """What a wait takes, as its record says; None where that says nothing."""
    try:
        return msgspec.json.decode(wait.input_data or "", type=Wanted)
    except msgspec.MsgspecError:
        return None


def misfit(waits: Iterable[StepCheckpoint], payload: str) -> str | None:
    """Why none of some waits takes a payload, as far as their records tell; None if one may."""
    kind = _kind_of(payload)
    reason: str | None = None
    for wait in waits:
        takes = read_wanted(wait)
        if takes is None or kind in takes.json:
            return None
        reason = reason or f"it waits for {takes}, and the payload is {_IN_WORDS[kind]}"
    return reason


def from_text(text: str) -> msgspec.Raw | None:
    """What somebody wrote as JSON, to be sent as it was written. Raises ValueError for no JSON."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None
    # To read it and to write it again could change its numbers.
    return None if value is None else msgspec.Raw(text.encode())


def _kind_of(payload: str) -> str:
    first = payload.lstrip()[:1]
    kinds = {"n": "null", "t": "boolean", "f": "boolean", '"': "string", "[": "array"}
    return "object" if first == "{" else kinds.get(first, "number")
