"""The command that starts an execution by the name of its workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec

from durable_workflow_sqlite.choosing import tags_of
from durable_workflow_sqlite.cli.output import say
from durable_workflow_sqlite.engine import payloads
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.stores import open_store


def start(
    file: Path,
    workflow_type: str,
    text: str | None,
    *,
    version: int | None,
    execution_id: str | None,
    tags: Sequence[str],
    priority: int,
    delay: float | None,
    ttl: float | None,
) -> None:
    """Enqueue an execution of a workflow that the file knows. Raises ValueError for no JSON."""
    args = [] if text is None else _arguments(text)

    async def enqueue() -> str:
        async with open_store(file) as store:
            handle = await Client(store).enqueue_named(
                workflow_type,
                args,
                version=version,
                execution_id=execution_id,
                delay=_seconds("--delay", delay),
                priority=priority,
                ttl=_seconds("--ttl", ttl),
                tags=tags_of(tags),
            )
            return handle.execution_id

    say(asyncio.run(enqueue()))


def _seconds(option: str, seconds: float | None) -> timedelta | None:
    try:
        return None if seconds is None else timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise ValueError(f"{option} must be a possible number of seconds, not {seconds}") from None


def _arguments(text: str) -> list[object]:
    """An array holds the arguments; anything else is the one argument. As it was written."""
    value = json_of(text, "the input")
    if value is not None and text.lstrip().startswith("["):
        return list(msgspec.json.decode(text, type=list[msgspec.Raw]))
    return [value]


def json_of(text: str, what: str) -> msgspec.Raw | None:
    """What somebody wrote as JSON. Raises ValueError, and says which quotes are missing."""
    try:
        return payloads.from_text(text)
    except ValueError as error:
        raise ValueError(
            f"{what} {text!r} is not JSON ({error}); a string needs its own quotes: '\"{text}\"'"
        ) from None
