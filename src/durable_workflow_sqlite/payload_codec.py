"""`PayloadCodec`: what a store calls to encode the values that it keeps, and to decode them."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

MAX_PAYLOAD_BYTES: Final = 16 * 2**20
"""How large one value may be, as JSON text in UTF-8, unless a store was opened with a limit."""

ENCODED: Final = "\\u0065ncoded:"
"""How an encoded value begins in the database. No JSON that this library writes begins so: a letter
is never escaped. Read as JSON, it begins with `encoded:`."""


@runtime_checkable
class PayloadCodec(Protocol):
    """Encodes the values that a store keeps: encrypts them, for example.

    A store calls both methods from several threads, and often while it holds the lock of the
    database. So they must be quick, and wait for nothing. An error of `encode` ends the write as a
    StoreError. An error of `decode` is a PayloadDecodeError of the one record: the execution is
    left as it is.
    """

    def encode(self, data: bytes, place: str) -> bytes:
        """The bytes to keep instead of `data`.

        place: JSON text that names the table, the row and the column. `decode` gets the same text,
            in this database and in any other. So a codec can refuse a value that somebody copied
            from another place.
        """
        ...

    def decode(self, data: bytes, place: str) -> bytes:
        """The bytes that `encode` was called with."""
        ...


@runtime_checkable
class RotatingCodec(PayloadCodec, Protocol):
    """A codec with several keys: the newest encodes, and all of them decode."""

    def key_id(self, data: bytes) -> str:
        """Which key has encoded `data`, of which only the first 63 bytes may be there."""
        ...

    def knows(self, key_id: str) -> bool:
        """Whether the codec has this key."""
        ...

    @property
    def current_key_id(self) -> str:
        """The key that encodes."""
        ...


def check_codec(codec: object) -> None:
    """Raise TypeError for what is not a codec."""
    if codec is not None and not (
        not isinstance(codec, type)
        and callable(getattr(codec, "encode", None))
        and callable(getattr(codec, "decode", None))
    ):
        raise TypeError(
            "codec must have the methods encode(data, place) and decode(data, place), not"
            f" {codec!r}"
        )


def check_max_payload_bytes(size: object) -> None:
    """Raise TypeError or ValueError for what is not a limit."""
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"max_payload_bytes must be a number of bytes, not {size!r}")
    if size < 1:
        raise ValueError(f"max_payload_bytes must be at least 1, not {size}")
