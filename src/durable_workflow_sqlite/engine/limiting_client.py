"""`LimitingClient`: what a client declares and changes of queues and limits."""

from __future__ import annotations

from durable_workflow_sqlite.engine import limiting
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.limits import Limit, Queue


class LimitingClient:
    """Declares queues and limits for steps, and changes their limits."""

    def _working(self) -> Access:
        raise NotImplementedError

    async def declare(self, *definitions: Queue | Limit) -> None:
        """Make sure that queues and limits are there, as given here; for each start of a program.

        To declare the same again changes nothing, so what a person has changed since stays. If the
        code declares other limits than last time, these count from now on, for all workers.

        Raises TypeError for what is neither a `Queue` nor a `Limit`, and ValueError for a name that
        comes twice.
        """
        await (access := self._working()).store.declare_limits(definitions, access.clock.now())

    async def limits(self) -> list[Queue | Limit]:
        """All queues, then all limits for steps, by name, as they count now."""
        access = self._working()
        access.check_open()
        return await access.store.load_limits()

    async def change_limits(
        self, limits: Queue | Limit, *, add: bool = False, by: str | None = None
    ) -> bool:
        """Change the limits of a queue or of steps, as a person does it, and not a program.

        They count for the next claim or step, in every worker, until the code declares other limits
        than before. What runs goes on.

        limits: all of them; a limit that is None is none. add: whether it may be a new one.
        by: who changes it, for the audit log; by default the user that this process runs as.

        Returns False if they are so already. Raises QueueNotFoundError or LimitNotFoundError for a
        name that is not declared, unless `add`.
        """
        return await limiting.change(self._working(), limits, add, by)
