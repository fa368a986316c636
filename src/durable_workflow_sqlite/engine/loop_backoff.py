"""Errors that keep a loop from its store: logged once, and retried less and less often."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from durable_workflow_sqlite.errors import StoreError

SLOWEST: Final = 4
"""How many times longer than the first pause the longest is, if the problem may pass."""

SLOWEST_IF_NOBODY_ACTS: Final = 32
"""The same where it does not pass by itself; a repair is still noticed."""

SAVE_AGAIN_AFTER_S: Final = 0.25
"""How long the outcome of a step waits, at first, until the store is asked again to save it."""

_log = logging.getLogger("durable_workflow_sqlite.engine")


class LoopBackoff:
    """The back-off of one loop; `what` says what it cannot do while its attempts fail."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._kind: type[Exception] | None = None
        self._times = 0

    def failed(self, error: Exception, first_pause: float) -> float:
        """Log the error, unless it has been logged; return the seconds to wait before a retry."""
        may_pass = not isinstance(error, StoreError) or error.may_pass
        if type(error) is not self._kind:
            self._kind, self._times = type(error), 0
            if may_pass:
                _log.warning("cannot %s; will go on trying", self._what, exc_info=error)
            else:
                _log.error(
                    "cannot %s until somebody acts: %s. The executions of this engine are left as"
                    " they are. Correct the cause, then open a new store and a new engine",
                    self._what,
                    error,
                )
        slowest = SLOWEST if may_pass else SLOWEST_IF_NOBODY_ACTS
        factor = min(1 << min(self._times, 16), slowest)
        self._times += 1
        return first_pause * factor

    def succeeded(self) -> None:
        """Log that it works again, if it did not."""
        if self._kind is not None:
            self._kind = None
            _log.info("can %s again", self._what)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but no longer than that."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
