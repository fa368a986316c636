"""By which key the values of a database are encoded."""

from __future__ import annotations

import msgspec


class EncodedValues(msgspec.Struct, frozen=True, kw_only=True):
    """The values that one key has encoded.

    key: its name; None for plain values; "?" if the names of the keys are not known: no codec is
    given, or it has none. is_current: whether this key encodes. is_known: whether the codec that
    reads can decode them.
    """

    key: str | None
    count: int
    is_current: bool
    is_known: bool
