"""From a claim to an execution in memory: its records are loaded, and it begins to run.

What cannot be launched is released, and the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from durable_workflow_sqlite.engine.claiming import Claiming
from durable_workflow_sqlite.engine.environment import Environment
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.holds import Holds
from durable_workflow_sqlite.engine.outcome import Interruption, cancelled, expired
from durable_workflow_sqlite.engine.releasing import Releases
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, WorkflowRegistry
from durable_workflow_sqlite.errors import (
    ClaimLostError,
    ExecutionNotFoundError,
    WorkflowExpiredError,
)
from durable_workflow_sqlite.records import (
    TakenExecution,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowGuarantee,
)

_log = logging.getLogger("durable_workflow_sqlite.engine")


class Launch(Protocol):
    """Begins to run an execution here."""

    def __call__(
        self,
        workflow: AnyWorkflow,
        record: WorkflowExecution,
        claim: WorkflowClaim,
        history: RecordedHistory,
        interruption: Interruption | None = None,
        /,
    ) -> Execution: ...


class Launching:
    """Launches what was claimed.

    changed: told of what was not launched, since callers may wait for it.
    """

    def __init__(
        self,
        environment: Environment,
        registry: WorkflowRegistry,
        launch: Launch,
        claims: Claiming,
        releases: Releases,
        holds: Holds,
        *,
        changed: Callable[[str], None],
    ) -> None:
        self._environment = environment
        self._store = environment.store
        self._registry = registry
        self._launch = launch
        self._claims = claims
        self._releases = releases
        self._holds = holds
        self._changed = changed
        self._definitions: dict[str, AnyWorkflow] = {}
        self._signalled: set[str] = set()
        """Of those that are claimed and not launched, what a signal has come for meanwhile."""

    async def load_and_launch(self, claim: WorkflowClaim) -> bool:
        """Launch an execution that was claimed; whether its time to live has run out."""
        try:
            taken, definition = await self._take(claim.workflow_execution_id)
            if self._holds.why(taken.execution, definition.name) is not None:
                self._leave(claim, taken.execution)
                return False
            return self._launched(taken, definition, claim)
        except Exception as error:  # noqa: BLE001 - whatever it is
            await self._not_launched(claim, error)
            return False

    def signalled(self, execution_id: str) -> None:
        """A signal has come for an execution that is claimed and not launched yet."""
        self._signalled.add(execution_id)

    def release(
        self, claim: WorkflowClaim, guarantee: WorkflowGuarantee, trouble: BaseException
    ) -> None:
        """Release a claim, and claim the execution again later if that can help."""
        if guarantee is WorkflowGuarantee.FOREGROUND_ONLY and not isinstance(
            trouble, ClaimLostError
        ):
            now = self._environment.clock.now()
            self._claims.is_for_this_engine(claim.workflow_execution_id, now)
        self._releases.release(claim, trouble)

    def _leave(self, claim: WorkflowClaim, record: WorkflowExecution) -> None:
        """Somebody has paused it since it was claimed."""
        self._claims.make_room(record.workflow_execution_id)
        self._claims.is_left(record)
        self._releases.parked(claim)
        self._changed(record.workflow_execution_id)

    async def definition_of(self, workflow_id: str) -> AnyWorkflow | None:
        """The workflow that a stored definition means, if it is registered here."""
        definition = self._definitions.get(workflow_id)
        if definition is None:
            stored = await self._store.load_workflow(workflow_id)
            if stored is not None:
                definition = self._registry.find(stored.workflow_type, stored.version)
            if definition is not None:
                self._definitions[workflow_id] = definition
        return None if definition is None else definition.newest

    async def _not_launched(self, claim: WorkflowClaim, error: Exception) -> None:
        """This one alone: the others go on."""
        execution_id = claim.workflow_execution_id
        _log.exception("cannot resume execution %r", execution_id)
        self._environment.observers.tell("on_error", error, execution_id)
        record: WorkflowExecution | None = None
        with suppress(Exception):  # it may be the record that cannot be read
            record = await self._store.load_execution(execution_id)
        self._claims.make_room(execution_id)
        guarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND if record is None else record.guarantee
        self.release(claim, guarantee, error)
        self._changed(execution_id)

    async def _take(self, execution_id: str) -> tuple[TakenExecution, AnyWorkflow]:
        """What it is resumed from, and its code. Nothing is awaited between this and its launch."""
        while True:
            self._signalled.discard(execution_id)
            taken = await self._store.take_execution(execution_id)
            if taken is None:
                raise ExecutionNotFoundError(
                    f"execution {execution_id!r} was deleted", workflow_execution_id=execution_id
                )
            self._claims.is_claimed(taken.execution)
            definition = await self.definition_of(taken.execution.workflow_id)
            if definition is None:
                raise LookupError(f"workflow {taken.execution.workflow_id!r} is not registered")
            # Whoever asked in between found nobody to tell: so it is read again.
            if execution_id not in self._signalled:
                return taken, definition

    def _launched(
        self, taken: TakenExecution, definition: AnyWorkflow, claim: WorkflowClaim
    ) -> bool:
        record = taken.execution
        history = RecordedHistory(taken.checkpoints, taken.pending_timers, taken.patches)
        interruption: Interruption | None = None
        if taken.is_to_cancel:
            interruption = cancelled(record.workflow_execution_id)
        elif record.ttl_expires_at and record.ttl_expires_at <= self._environment.clock.now():
            interruption = expired(record)
        execution = self._launch(definition, record, claim, history, interruption)
        self._claims.is_launched(execution)
        return isinstance(interruption, WorkflowExpiredError)
