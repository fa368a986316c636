"""The header of a write-ahead log: what tells whether the log was restarted.

The next commit restarts it when all of it has been checkpointed and nobody reads from it. It adds
one to the salt in the header then (sqlite.org/fileformat2.html, 4.1).
"""

from __future__ import annotations

import os
import struct
from typing import Final

_HEADER_BYTES: Final = 32


def salt_of(log: str) -> int | None:
    """What the header of a log counts up; None where there is no whole header."""
    try:
        # No lock is lost by this: SQLite keeps none on the log, as it does on the database.
        file = os.open(log, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        header = os.read(file, _HEADER_BYTES)
    finally:
        os.close(file)
    return int.from_bytes(header[16:20], "big") if _is_whole(header) else None


def _is_whole(header: bytes) -> bool:
    """Whether the checksum at the end of a log's header is right: one may be half written."""
    if len(header) < _HEADER_BYTES:
        return False
    magic, *_ = struct.unpack_from(">I", header)
    words = struct.unpack_from(f"{'>' if magic & 1 else '<'}6I", header)
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) % 2**32
        second = (second + other + first) % 2**32
    return struct.unpack_from(">2I", header, 24) == (first, second)
