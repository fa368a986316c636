"""Executions of dead workers: they go back into the queue, or are blocked after many deaths."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from durable_workflow_sqlite.engine.claiming import Claiming
from durable_workflow_sqlite.engine.environment import Environment
from durable_workflow_sqlite.engine.launching import Launching
from durable_workflow_sqlite.engine.releasing import Releases
from durable_workflow_sqlite.engine.workflow import WorkflowRegistry
from durable_workflow_sqlite.records import WorkflowGuarantee

UNREGISTERED_AT_MOST: Final = 1000
"""How many executions without a registered workflow are listed: there may be a million."""

_log = logging.getLogger("durable_workflow_sqlite.engine")


class RecoveryResult(msgspec.Struct, frozen=True):
    """The ids of the unfinished executions that no worker had, by what a recovery did with them.

    resumed: claimed, and running. If there is no room for more, other executions follow when some
        end or wait. Executions whose workers died repeatedly follow one at a time. Executions that
        wait for a time or a signal are claimed when it comes.
    expired: their time to live had run out; they are being compensated.
    unregistered: no workflow of that type and version is registered here; they were not changed.
    These are the oldest, a thousand at most.
    blocked: they killed their workers too often; see `DurableEngine.unblock`.
    """

    resumed: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


class Recovery:
    """take: claims and launches what there is room for; the ids, and those that had expired."""

    def __init__(
        self,
        environment: Environment,
        registry: WorkflowRegistry,
        claims: Claiming,
        launching: Launching,
        releases: Releases,
        *,
        take: Callable[[], Awaitable[tuple[list[str], list[str]]]],
        max_recoveries: int,
        suspect_at: int,
    ) -> None:
        self._environment = environment
        self._store = environment.store
        self._registry = registry
        self._claims = claims
        self._launching = launching
        self._releases = releases
        self._take = take
        self._max_recoveries = max_recoveries
        self._suspect_at = suspect_at

    async def recover(self) -> RecoveryResult:
        """Claim what dead workers left, and what only an engine that starts up claims."""
        clock, observers = self._environment.clock, self._environment.observers
        started_at = clock.now()
        self._releases.forget()
        await self.release_the_dead()
        orphans = await self._store.load_unqueued_executions()
        observers.tell("on_recovery_start", len(orphans))
        to_queue: list[str] = []
        for one in orphans:
            if one.guarantee is WorkflowGuarantee.BEST_EFFORT_BACKGROUND:
                to_queue.append(one.workflow_execution_id)
            elif await self._launching.definition_of(one.workflow_id) is not None:
                due_at = started_at if one.is_due else one.wakes_at
                self._claims.is_for_this_engine(one.workflow_execution_id, due_at)
        await self._store.put_into_queue(to_queue, started_at)
        resumed, expired_ones = await self._take()
        blocked = dict.fromkeys(await self._store.load_blocked())
        unregistered = await self._store.load_unregistered(
            self._registry.names_and_versions, UNREGISTERED_AT_MOST
        )
        result = RecoveryResult(
            resumed=tuple(resumed),
            expired=tuple(expired_ones),
            unregistered=tuple(one for one in unregistered if one not in blocked),
            blocked=tuple(blocked),
        )
        observers.tell("on_recovery_complete", result, clock.now() - started_at)
        if result != RecoveryResult():
            _log.info(
                "recovery claimed %d executions, and %d whose time to live was over; it did not"
                " claim %d whose workflow is not registered, and %d that are blocked",
                len(result.resumed),
                len(result.expired),
                len(result.unregistered),
                len(result.blocked),
            )
        return result

    async def release_the_dead(self) -> list[str]:
        """Release the claims of dead workers; returns what is blocked."""
        now = self._environment.clock.now()
        blocked: list[str] = []
        released = await self._store.release_claims_of_the_dead(
            self._max_recoveries, now, suspect_at=self._suspect_at
        )
        for one in released:
            if one.blocked_reason is not None:
                _log.error(
                    "execution %r is blocked: %s; find out why, then unblock it",
                    one.workflow_execution_id,
                    one.blocked_reason,
                    extra={"workflow_execution_id": one.workflow_execution_id},
                )
                blocked.append(one.workflow_execution_id)
        return blocked
