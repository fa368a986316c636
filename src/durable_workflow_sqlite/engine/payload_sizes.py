"""How large a value may be that an execution is given, or that it gives."""

from __future__ import annotations

from durable_workflow_sqlite.errors import PayloadTooLargeError


def check_size(text: str | None, limit: int, what: object) -> None:
    """Raise PayloadTooLargeError for JSON text with more bytes in UTF-8 than a limit."""
    # A character has four bytes at most, and nearly all values are small.
    if text is None or len(text) * 4 <= limit:
        return
    size = len(text.encode())
    if size > limit:
        raise PayloadTooLargeError(
            f"{what} has {size:,} bytes as JSON, and the limit is {limit:,}. Keep it elsewhere, and"
            " pass its name; or open the store with a larger `max_payload_bytes`",
            size=size,
            limit=limit,
        )
