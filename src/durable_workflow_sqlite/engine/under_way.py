"""What is under way in an execution, as the execution sees it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Protocol

from durable_workflow_sqlite.records import StepCheckpoint


class Pending(Protocol):
    """What has an event number, and has not been told to the workflow function yet."""

    is_recorded: bool
    checkpoint: StepCheckpoint | None


class UnderWay(Protocol):
    """Something that a task is busy with, and what may be done about it."""

    task: asyncio.Task[Any] | None
    interruptible: bool
    """Whether its task may be cancelled now."""
    is_given_up: bool
    """Whether nothing of it is to begin any more."""
    is_pausing: bool
    """Whether it only waits: for the time of its next attempt, or for a thread."""
    waits_for_thread: bool
    """Whether it waits for a thread."""
    pauses_until: datetime | None
    """Until when nothing of it runs, as far as that is known."""
    has_begun: bool
    """Whether the function that it is about to call has been called."""

    is_recorded: bool
    """Whether its outcome is committed."""

    def describe(self) -> str:
        """For people."""
        ...
