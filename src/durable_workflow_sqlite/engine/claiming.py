"""What this worker claims, and how much room it has for more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from datetime import datetime
from typing import Any, Final

from durable_workflow_sqlite.engine.environment import Environment
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.holds import Holds
from durable_workflow_sqlite.engine.slots import Slots
from durable_workflow_sqlite.engine.workflow import WorkflowRegistry
from durable_workflow_sqlite.errors import StoreCorruptError, StoreError
from durable_workflow_sqlite.records import (
    WorkflowClaim,
    WorkflowExecution,
    WorkflowGuarantee,
)

TRIES: Final = 4
"""How often a claim is tried of what may have been resumed, and paused again, meanwhile."""


class Claiming:
    """What is claimed and not launched yet, and what takes up room.

    suspect_at: an execution whose workers died so often in a row is a suspect. There is one at a
        time whose code runs, so that whichever it is that kills them is blocked alone.
    look: told when there may be something to claim, or room for it.
    queues: the named queues that this worker serves; None: all, and what is in none.
    """

    def __init__(
        self,
        environment: Environment,
        registry: WorkflowRegistry,
        holds: Holds,
        max_concurrent: int,
        suspect_at: int,
        look: Callable[[], None],
        queues: frozenset[str] | None,
    ) -> None:
        self.queues = queues
        self._clock = environment.clock
        self._store = environment.store
        self._registry = registry
        self._holds = holds
        self._suspect_at = suspect_at
        self._look = look
        self._slots = Slots(max_concurrent, look)
        """What was claimed and runs code takes up room."""
        self._held: dict[str, WorkflowClaim] = {}
        """What is claimed and not launched yet."""
        self._claiming: set[asyncio.Task[list[WorkflowClaim]]] = set()
        self._foreground: dict[str, datetime | None] = {}
        """FOREGROUND_ONLY ones that are this engine's to claim: when they are due."""
        self._leaving: set[str] = set()
        """Of these, what is paused and is just being released."""
        self._held_back: set[str] = set()
        """Of these, what is due and is paused."""
        self._tried: dict[str, bool] = {}
        """What is being claimed: whether it was perhaps resumed meanwhile."""

    # Before the claim

    @property
    def room(self) -> int:
        """How many more may be claimed."""
        return self._slots.room

    def is_for_this_engine(self, execution_id: str, due_at: datetime | None) -> None:
        """A FOREGROUND_ONLY execution is not in the queue: this engine claims it when due."""
        self._foreground[execution_id] = due_at

    def is_left(self, record: WorkflowExecution) -> None:
        """One that is paused is being released; this engine claims it once it is resumed."""
        if _is_here(record):
            self._leaving.add(record.workflow_execution_id)

    def pauses_changed(self) -> None:
        """What was held back is perhaps not paused any more."""
        held_back, self._held_back = self._held_back, set()
        for execution_id in held_back:
            self._foreground[execution_id] = self._clock.now()
        self._tried = dict.fromkeys(self._tried, True)

    def signalled(self, execution_id: str) -> bool:
        """A signal has come for an execution; whether it is claimed, and not launched yet."""
        if execution_id in self._foreground:
            self._foreground[execution_id] = self._clock.now()
        if execution_id in self._tried:
            self._tried[execution_id] = True
        return execution_id in self._held

    def foreground_times(self) -> list[datetime]:
        """When those are due that are not in the queue."""
        return [due_at for due_at in self._foreground.values() if due_at is not None]

    def due_in_foreground(self) -> list[str]:
        """Of those that are not in the queue, what is due."""
        now = self._clock.now()
        return [
            execution_id
            for execution_id, due_at in self._foreground.items()
            if due_at is not None and due_at <= now
        ]

    def serves(self, record: WorkflowExecution) -> bool:
        """Whether this worker serves the queue of an execution, or is the only one for it."""
        if self.queues is None or record.guarantee is WorkflowGuarantee.FOREGROUND_ONLY:
            return True
        return record.queue in self.queues

    def must_wait(self, record: WorkflowExecution) -> bool:
        """Whether it is a suspect, and code of another one runs."""
        return self._slots.has_suspect and record.recovery_count >= self._suspect_at

    def holds(self, execution_id: str) -> bool:
        """Whether it is claimed, and not launched yet or just being released."""
        return execution_id in self._held

    # To claim

    async def take_available(self, passed_over: Collection[str]) -> list[WorkflowClaim]:
        """From the queue, as many as there is room for."""

        async def claim() -> list[WorkflowClaim]:
            room = self.room  # what was in a back-off may have taken it a moment ago
            if room <= 0:
                return []
            return await self._store.claim_available(
                self._registry.names_and_versions,
                room,
                queues=self.queues,
                passed_over=passed_over,
                suspect_at=self._suspect_at,
                takes_suspect=not self._slots.has_suspect,
                now=self._clock.now(),
            )

        return await self._taken(claim)

    async def take_foreground(self, passed_over: Collection[str]) -> list[WorkflowClaim]:
        """Of those that are not in the queue."""
        due = [one for one in self.due_in_foreground() if one not in passed_over]
        claims: list[WorkflowClaim] = []
        for execution_id in due:
            if self.room <= 0:
                break
            try:
                record = await self._load(execution_id)
                if record is not None and self.must_wait(record):
                    continue
                claims += await self.take_one(execution_id)
            except StoreError:
                if not claims:
                    raise
                break  # the rest when there is a look again
            if record is not None:
                self.is_claimed(record)
            if execution_id not in self._held_back:
                self._foreground.pop(execution_id, None)
        return claims

    async def _load(self, execution_id: str) -> WorkflowExecution | None:
        try:
            return await self._store.load_execution(execution_id)
        except StoreCorruptError:
            return None  # who launches it says what is wrong

    async def take_one(self, execution_id: str) -> list[WorkflowClaim]:
        """This one, room or not; nothing if others have it, or if it is paused."""
        self._held_back.discard(execution_id)
        self._tried.setdefault(execution_id, False)
        try:
            for _ in range(TRIES):
                claims = await self._taken(lambda: self._claim_one(execution_id))
                if claims:
                    return claims
                record = await self._load(execution_id)
                if record is None or record.status.is_terminal or not _is_here(record):
                    return []
                if await self._is_paused(record):
                    self._foreground[execution_id] = None
                    break
                # Others have it, or it was resumed since: then the next try claims it.
            else:
                if not self._tried.get(execution_id, True):
                    return []  # others have it
            self._held_back.add(execution_id)
            if self._tried.get(execution_id, True):
                self._foreground[execution_id] = self._clock.now()
                self._look()
        finally:
            self._tried.pop(execution_id, None)
        return []

    async def _is_paused(self, record: WorkflowExecution) -> bool:
        if record.is_paused:
            return True
        pauses = await self._holds.look()
        definition = await self._store.load_workflow(record.workflow_id) if pauses else None
        return definition is not None and any(
            pause.holds(definition.workflow_type, record.queue) for pause in pauses
        )

    async def _claim_one(self, execution_id: str) -> list[WorkflowClaim]:
        claim = await self._store.claim_execution(execution_id, self._clock.now())
        return [] if claim is None else [claim]

    async def _taken(
        self, claim: Callable[[], Coroutine[Any, Any, list[WorkflowClaim]]]
    ) -> list[WorkflowClaim]:
        """The new claims; this worker knows them even if the caller is cancelled meanwhile."""

        async def claim_and_hold() -> list[WorkflowClaim]:
            # Within the task: a callback of it may come after whoever waits has gone on.
            claims = await claim()
            for one in claims:
                self._held[one.workflow_execution_id] = one
                self._slots.take(one.workflow_execution_id)
            return claims

        task = asyncio.create_task(claim_and_hold())
        self._claiming.add(task)
        task.add_done_callback(self._claiming.discard)
        return await asyncio.shield(task)

    def keep(self, claim: WorkflowClaim) -> None:
        """What was in memory is to be launched again, under the claim that it has."""
        self._held[claim.workflow_execution_id] = claim
        self._slots.take(claim.workflow_execution_id)

    # What becomes of it

    def is_claimed(self, record: WorkflowExecution) -> None:
        """What is known of it now."""
        if record.recovery_count >= self._suspect_at:
            self._slots.suspect(record.workflow_execution_id)

    def is_launched(self, execution: Execution) -> None:
        """It is in memory now, and takes up room while its code runs."""
        self._held.pop(execution.id, None)
        execution.slots = self._slots

    def is_released(self, claim: WorkflowClaim) -> None:
        """The claim has been released."""
        execution_id = claim.workflow_execution_id
        self._held.pop(execution_id, None)
        if execution_id in self._leaving:
            self._leaving.discard(execution_id)
            self._foreground[execution_id] = self._clock.now()
        self._look()

    def make_room(self, execution_id: str) -> None:
        """It takes up no room any more."""
        self._slots.free(execution_id)

    async def until_settled(self) -> None:
        """Wait until everything that is being claimed is known."""
        if self._claiming:
            await asyncio.wait(self._claiming)

    def not_launched(self) -> list[WorkflowClaim]:
        """The claims of what is not in memory, to be released."""
        return list(self._held.values())


def _is_here(record: WorkflowExecution) -> bool:
    """Whether nobody but an engine that starts up would claim it."""
    return record.guarantee is WorkflowGuarantee.FOREGROUND_ONLY
