"""What a model gets to read: plain data of a bounded length, since it pays for each character."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec

LONGEST_ANSWER: Final = 40_000
"""How many characters of JSON one answer has at most."""

_LEAST_CHARACTERS: Final = 50
_LEAST_ITEMS: Final = 5

_JSON_TEXTS: Final = frozenset({"input_data", "output_data", "payload", "details"})
"""The fields of records that hold JSON as text."""

_LEFT_OUT: Final = frozenset({"compensate_ref", "worker_id", "worker_number"})
"""Fields that tell nothing to somebody who does not see the workers."""


def within(
    build: Callable[[int, int], dict[str, Any]], characters: int, items: int
) -> dict[str, Any]:
    """What `build` makes, with shorter and shorter values, until all of it is short enough.

    build: takes how many characters a value may have, and how many items a list.
    """
    while True:
        answer = build(characters, items)
        is_least = characters <= _LEAST_CHARACTERS and items <= _LEAST_ITEMS
        if is_least or len(msgspec.json.encode(answer)) <= LONGEST_ANSWER:
            return answer
        characters = max(characters // 2, _LEAST_CHARACTERS)
        items = max(items // 2, _LEAST_ITEMS)


def shortened(record: object, characters: int, items: int) -> Any:
    """A record as plain data: without what is empty, long texts and long lists cut with a note.

    Of a list, the last items stay: of steps and signals, they are the newest.
    """
    return _shortened(msgspec.to_builtins(record), characters, items)


def value_of(text: str | None, characters: int) -> Any:
    """The value of JSON text; of a longer one, the beginning of the text, with a note."""
    if text is None:
        return None
    if len(text) > characters:
        return cut(text, characters)
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):  # somebody wrote there what is no JSON
        return text


def cut(text: str, characters: int) -> str:
    """At most so much of a text, with a note where it was longer."""
    if len(text) <= characters:
        return text
    return f"{text[:characters]}… (cut: it has {len(text):,} characters)"


def _shortened(value: Any, characters: int, items: int) -> Any:
    if isinstance(value, str):
        return cut(value, characters)
    if isinstance(value, list | tuple):
        every = cast("Sequence[Any]", value)
        kept = [_shortened(one, characters, items) for one in every[-items:]]
        if len(every) > items:
            kept.insert(0, f"… {len(every) - items:,} earlier ones are left out")
        return kept
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, one in cast("dict[str, Any]", value).items():
        if name in _LEFT_OUT or one is None:
            continue
        if name in _JSON_TEXTS and isinstance(one, str):
            found[name] = value_of(one, characters)
        elif (short := _shortened(one, characters, items)) not in ("", [], {}):
            found[name] = short
    return found
