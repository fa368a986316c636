"""Taking on what other workers, or earlier lives of this one, left unfinished."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from durable_workflow_sqlite.engine.execution import (
    Environment,
    Execution,
    Interruption,
    cancelled,
    expired,
)
from durable_workflow_sqlite.engine.history import History
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, WorkflowRegistry
from durable_workflow_sqlite.errors import (
    ClaimLostError,
    ExecutionNotFoundError,
    StoreError,
)
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    ExecutionStatus,
    UnclaimedExecution,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowGuarantee,
)

TRY_AGAIN_AFTER_S: Final = 1.0

_log = logging.getLogger("durable_workflow_sqlite.engine")


class RecoveryResult(msgspec.Struct, frozen=True):
    """What became of the unfinished executions that nobody worked on, by their ids.

    resumed: taken on; they run, or wait for their time or signal.
    expired: their time to live had run out; they are being compensated.
    unregistered: no workflow of that type and version is known here; they were left alone.
    blocked: they killed their worker too often, see `DurableEngine.unblock`.
    """

    resumed: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


class Launch(Protocol):
    """Begins to run an execution here."""

    def __call__(
        self,
        workflow: AnyWorkflow,
        record: WorkflowExecution,
        claim: WorkflowClaim,
        history: History,
        interruption: Interruption | None = None,
        /,
    ) -> Execution: ...


class _Dormant(msgspec.Struct, frozen=True):
    definition: AnyWorkflow
    claim: WorkflowClaim
    alarm: asyncio.Future[None] | None


class _LeftAlone(msgspec.Struct, frozen=True):
    again_at: float
    trouble: BaseException


class Recovery:
    """Claims unfinished executions, and launches those that have something to do.

    One that only waits is *dormant*: claimed, so that this worker hears of its signal and its
    time, but without a task until then.
    """

    def __init__(
        self,
        environment: Environment,
        registry: WorkflowRegistry,
        launch: Launch,
        *,
        max_concurrent: int,
        max_recoveries: int,
    ) -> None:
        self._environment = environment
        self._store = environment.store
        self._registry = registry
        self._launch = launch
        self._max_recoveries = max_recoveries
        self._slots = asyncio.Semaphore(max_concurrent)
        self._dormant: dict[str, _Dormant] = {}
        self._claims: dict[str, WorkflowClaim] = {}
        self._left_alone: dict[str, _LeftAlone] = {}
        self._letting_go: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def recover(self) -> RecoveryResult:
        """Take on everything that can be run here and that nobody works on."""
        started_at = self._environment.clock.now()
        self._left_alone.clear()
        unclaimed = await self._store.load_unclaimed_executions()
        self._environment.observers.tell("on_recovery_start", len(unclaimed))
        result = await self._take_on(unclaimed)
        elapsed = self._environment.clock.now() - started_at
        self._environment.observers.tell("on_recovery_complete", result, elapsed)
        if unclaimed:
            _log.info(
                "recovery took on %d executions and %d expired ones; left alone: %d unregistered,"
                " %d blocked",
                len(result.resumed),
                len(result.expired),
                len(result.unregistered),
                len(result.blocked),
            )
        return result

    async def look_again(self) -> None:
        """Take on what may be taken over in the background, since its worker is gone."""
        if not self._registry:
            return
        now = asyncio.get_running_loop().time()
        await self._take_on(
            [
                one
                for one in await self._store.load_unclaimed_executions()
                if one.guarantee is WorkflowGuarantee.BEST_EFFORT_BACKGROUND
                and not self._is_left_alone(one.workflow_execution_id, now)
            ]
        )

    async def resume(self, execution_id: str) -> None:
        """Take on one execution now, if that can be done here."""
        self._left_alone.pop(execution_id, None)
        if (letting_go := self._letting_go.get(execution_id)) is not None:
            await asyncio.wait([letting_go])
        await self._take_on(
            [
                one
                for one in await self._store.load_unclaimed_executions()
                if one.workflow_execution_id == execution_id
            ]
        )

    def signalled(self, execution_id: str) -> None:
        """A signal has come for an execution; if it is dormant, it goes on."""
        dormant = self._dormant.pop(execution_id, None)
        if dormant is not None:
            if dormant.alarm is not None:
                dormant.alarm.cancel()
            self._resume(dormant.definition, dormant.claim)

    def left(self, execution: Execution, trouble: BaseException) -> None:
        """An execution was left as it is. Let go of it, and come back only if that can help."""
        passes = isinstance(trouble, StoreError) and trouble.may_pass
        wait = TRY_AGAIN_AFTER_S if passes else math.inf
        self._leave_alone(execution.claim, trouble, wait)

    def why_left(self, execution_id: str) -> BaseException | None:
        """Why this worker will not come back to an execution by itself; None if it will."""
        left = self._left_alone.get(execution_id)
        return None if left is None or left.again_at != math.inf else left.trouble

    async def close(self) -> list[WorkflowClaim]:
        """Stop, and give back the claims of what was not launched."""
        for dormant in self._dormant.values():
            if dormant.alarm is not None:
                dormant.alarm.cancel()
        self._dormant.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        return list(self._claims.values())

    async def _take_on(self, unclaimed: list[UnclaimedExecution]) -> RecoveryResult:
        unregistered: list[str] = []
        blocked: list[str] = []
        wanted: list[tuple[UnclaimedExecution, AnyWorkflow]] = []
        for one in unclaimed:
            definition = self._registry.find(one.workflow_type, one.version)
            if one.blocked_reason is not None:
                blocked.append(one.workflow_execution_id)
            elif definition is None:
                unregistered.append(one.workflow_execution_id)
            else:
                wanted.append((one, definition))
        resumed: list[str] = []
        expired_ones: list[str] = []
        # Together: the claims of one turn of the event loop share a transaction.
        claims = await asyncio.gather(
            *(self._store.claim_execution(one.workflow_execution_id) for one, _ in wanted)
        )
        now = self._environment.clock.now()
        for (one, definition), claim in zip(wanted, claims, strict=True):
            if claim is None:
                continue  # somebody else was quicker
            execution_id = one.workflow_execution_id
            self._claims[execution_id] = claim
            is_expired = one.ttl_expires_at is not None and one.ttl_expires_at <= now
            if _has_to_wait(one, now):
                self._keep_dormant(one, definition, claim)
            elif claim.taken_over and one.recovery_count >= self._max_recoveries:
                blocked.append(execution_id)
                self._spawn(self._block(claim))
                continue
            else:
                self._resume(definition, claim)
            (expired_ones if is_expired else resumed).append(execution_id)
        if self._dormant and resumed:
            # A signal may have come between the look at an execution and its claim.
            for execution_id in await self._store.load_signalled_execution_ids():
                self.signalled(execution_id)
        return RecoveryResult(
            resumed=tuple(resumed),
            expired=tuple(expired_ones),
            unregistered=tuple(unregistered),
            blocked=tuple(blocked),
        )

    def _keep_dormant(
        self,
        one: UnclaimedExecution,
        definition: AnyWorkflow,
        claim: WorkflowClaim,
    ) -> None:
        execution_id = one.workflow_execution_id
        times = [time for time in (one.wakes_at, one.ttl_expires_at) if time is not None]
        alarm = self._environment.scheduler.at(min(times)) if times else None
        self._dormant[execution_id] = _Dormant(definition, claim, alarm)
        if alarm is not None:
            alarm.add_done_callback(
                lambda alarm: None if alarm.cancelled() else self.signalled(execution_id)
            )

    def _resume(self, definition: AnyWorkflow, claim: WorkflowClaim) -> None:
        self._spawn(self._load_and_launch(definition, claim))

    async def _load_and_launch(self, definition: AnyWorkflow, claim: WorkflowClaim) -> None:
        execution_id = claim.workflow_execution_id
        async with self._slots:
            try:
                execution = await self._launched(definition, claim)
            except Exception as error:  # noqa: BLE001 - whatever it is
                # This one alone: the others go on.
                _log.exception("cannot resume execution %r", execution_id)
                self._environment.observers.tell("on_error", error, execution_id)
                self._leave_alone(claim, error, math.inf)
                return
            self._claims.pop(execution_id, None)
            await execution.suspended

    async def _launched(self, definition: AnyWorkflow, claim: WorkflowClaim) -> Execution:
        execution_id = claim.workflow_execution_id
        record = await self._store.load_execution(execution_id)
        if record is None:
            raise ExecutionNotFoundError(
                f"execution {execution_id!r} was deleted", workflow_execution_id=execution_id
            )
        if claim.taken_over:
            record = msgspec.structs.replace(record, recovery_count=record.recovery_count + 1)
            await self._store.save(record, claim=claim)
        history = History(await self._store.load_checkpoints(execution_id))
        interruption: Interruption | None = None
        if await self._is_to_cancel(execution_id):
            interruption = cancelled(execution_id)
        elif record.ttl_expires_at and record.ttl_expires_at <= self._environment.clock.now():
            interruption = expired(record)
        execution = self._launch(definition, record, claim, history, interruption)
        # Whoever asked before it was launched found nobody to tell.
        if interruption is None and await self._is_to_cancel(execution_id):
            execution.interrupt(cancelled(execution_id))
        return execution

    async def _is_to_cancel(self, execution_id: str) -> bool:
        return bool(await self._store.load_pending_signals(execution_id, CANCEL_SIGNAL))

    async def _block(self, claim: WorkflowClaim) -> None:
        execution_id = claim.workflow_execution_id
        record = await self._store.load_execution(execution_id)
        if record is not None:
            reason = f"its worker died {record.recovery_count + 1} times in a row"
            await self._store.save(
                msgspec.structs.replace(record, blocked_reason=reason), claim=claim
            )
            _log.error(
                "execution %r is blocked: %s; find out why, then unblock it",
                execution_id,
                reason,
                extra={"workflow_execution_id": execution_id},
            )
        await self._let_go(claim)

    def _is_left_alone(self, execution_id: str, now: float) -> bool:
        left = self._left_alone.get(execution_id)
        return left is not None and left.again_at > now

    def _leave_alone(self, claim: WorkflowClaim, trouble: BaseException, seconds: float) -> None:
        execution_id = claim.workflow_execution_id
        again_at = asyncio.get_running_loop().time() + seconds
        if not isinstance(trouble, ClaimLostError):
            self._left_alone[execution_id] = _LeftAlone(again_at, trouble)
        task = self._letting_go[execution_id] = self._spawn(self._let_go(claim))
        task.add_done_callback(lambda _: self._letting_go.pop(execution_id, None))

    async def _let_go(self, claim: WorkflowClaim) -> None:
        while True:
            try:
                await self._store.release_claims([claim])
            except StoreError:
                await asyncio.sleep(TRY_AGAIN_AFTER_S)  # until then it is nobody else's
            else:
                break
        self._claims.pop(claim.workflow_execution_id, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _has_to_wait(one: UnclaimedExecution, now: datetime) -> bool:
    """Whether an execution has nothing to do before some time, or some signal."""
    if one.status is not ExecutionStatus.SUSPENDED or one.is_signalled:
        return False
    return all(time is None or time > now for time in (one.wakes_at, one.ttl_expires_at))
