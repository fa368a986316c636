"""What keeps an engine from looking at its store: said once, and met less and less often."""

from __future__ import annotations

import logging
from typing import Final

from durable_workflow_sqlite.errors import StoreError

SLOWEST: Final = 4
"""How many times longer than the first pause the longest is, if the problem may pass."""

SLOWEST_IF_NOBODY_ACTS: Final = 32
"""The same where it does not pass by itself; a repair is still noticed."""

_log = logging.getLogger("durable_workflow_sqlite.engine")


class Trouble:
    """Of one loop; `what` says what it cannot do then."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._kind: type[Exception] | None = None
        self._times = 0

    def met(self, error: Exception, first_pause: float) -> float:
        """Say so, unless it has been said; return how many seconds to wait before another try."""
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

    def is_over(self) -> None:
        """It went well this time."""
        if self._kind is not None:
            self._kind = None
            _log.info("can %s again", self._what)
