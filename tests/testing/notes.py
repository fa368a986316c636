"""Actions of workflows that note what they did, for the tests of the sandboxes."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

DAY = timedelta(days=1)
noted: list[str] = []
"""What was done in this test."""


def note(what: str) -> str:
    """A sync action: it runs in a thread, for a while."""
    time.sleep(0.002)
    noted.append(what)
    return what


async def note_async(what: str) -> str:
    await asyncio.sleep(0)
    noted.append(what)
    return what


def undo(what: str) -> None:
    noted.append(f"not {what}")
