"""What `input_data` of an attempt says of it, beside what it was asked: JSON with a key for each.

- "of": a hash of what the step was asked.
- "attempt": how often a compensation has begun.
- "probes": how often the probe of an attempt in doubt has failed.
- "idempotent": it timed out, and may be made twice without harm.
- "answer": "failed", if a person has said that the step is to fail.
"""

from __future__ import annotations

from typing import Final

import msgspec

PROBES: Final = "probes"
IDEMPOTENT: Final = "idempotent"
ANSWER: Final = "answer"

_MARKS: Final = (PROBES, IDEMPOTENT, ANSWER)


def marked(input_data: str | None, name: str, value: object) -> str:
    """The `input_data` with a mark."""
    return msgspec.json.encode(_data(input_data) | {name: value}).decode()


def unmarked(input_data: str | None) -> str | None:
    """The `input_data` without the marks of how an attempt has ended, or of what it waits for."""
    if input_data is None:
        return None
    data = _data(input_data)
    left = {name: value for name, value in data.items() if name not in _MARKS}
    if len(left) == len(data):
        return input_data
    return msgspec.json.encode(left).decode() if left else None


def mark_of(input_data: str | None, name: str) -> object:
    """What a mark says; None if it is not there."""
    return _data(input_data).get(name)


def _data(input_data: str | None) -> dict[str, object]:
    if input_data is None:
        return {}
    try:
        return msgspec.json.decode(input_data, type=dict[str, object])
    except msgspec.MsgspecError:
        return {}
