"""The idempotency keys of steps."""

from __future__ import annotations

import uuid
from typing import Final

_KEY_NAMESPACE: Final = uuid.UUID("b5b1a4a4-6f0e-4f7c-9a51-3f6a0d0c7a11")


def key_of(execution_id: str, place: tuple[str, int], name: str, run_number: int) -> str:
    """The key of a step: the same each time that it runs."""
    parts: tuple[object, ...] = (execution_id, place[0], place[1], name)
    if run_number > 1:
        parts += (run_number,)
    return str(uuid.uuid5(_KEY_NAMESPACE, repr(parts)))
