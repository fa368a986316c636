"""Which executions this worker takes on: as many as it has room for, of those that have work to do.

What nobody has claimed is in the store's queue, from the time on at which there is something to do
for it. One that sleeps or waits for a signal is in no worker's hands, and costs nothing until then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

import msgspec

from durable_workflow_sqlite.engine.environment import (
    Environment,
    Interruption,
    cancelled,
    expired,
)
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.history import History
from durable_workflow_sqlite.engine.left_alone import LeftAlone
from durable_workflow_sqlite.engine.trouble import Trouble
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, WorkflowRegistry
from durable_workflow_sqlite.errors import (
    ClaimLostError,
    ExecutionNotFoundError,
    StoreError,
    WorkflowExpiredError,
)
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    WorkflowClaim,
    WorkflowExecution,
    WorkflowGuarantee,
)

T = TypeVar("T")

TRY_AGAIN_AFTER_S: Final = 1.0

LEAVE_TO_OTHERS_S: Final = 0.005
"""For how long a worker that took its share leaves the rest to the others."""

LAUNCHES_A_TURN: Final = 20
"""Executions launched in one turn of the event loop."""

_log = logging.getLogger("durable_workflow_sqlite.engine")


class RecoveryResult(msgspec.Struct, frozen=True):
    """What became of the unfinished executions that nobody worked on, by their ids.

    resumed: taken on, and running. Those for which there was no room yet follow as others end or
        wait; those that wait for a time or a signal are taken on when it comes.
        So do, one at a time, those whose workers died again and again.
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


class Intake:
    """Claims executions and launches them, as there is room."""

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
        self._max_concurrent = max_concurrent
        self._max_recoveries = max_recoveries
        self._definitions: dict[str, AnyWorkflow] = {}
        self._active: dict[str, None] = {}
        """What was taken on and has not come to a wait or its end: it takes up room."""
        self._claims: dict[str, WorkflowClaim] = {}
        """What is claimed and not launched yet."""
        self._signalled: set[str] = set()
        """Of these, what a signal has come for meanwhile."""
        self._foreground: dict[str, datetime | None] = {}
        """FOREGROUND_ONLY ones that this engine found as it started up: when they are due."""
        self._left_alone = LeftAlone(
            environment, self._spawn, look=self.look, is_let_go=self._is_let_go
        )
        self._suspect: Execution | str | None = None
        """Whose workers died half as often as it takes to be blocked, and is here now: there is one
        at a time, so that whichever it is that kills them is blocked without its neighbours."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._claiming: set[asyncio.Task[list[WorkflowClaim]]] = set()
        self._loop_task: asyncio.Task[None] | None = None
        self._something_to_do = asyncio.Event()
        self._taking = asyncio.Lock()
        self._is_closed = False

    def begin(self) -> None:
        """Take on what there is from now on, as there is room."""
        self._loop_task = asyncio.create_task(self._run(), name="durable-workflow-intake")

    def look(self) -> None:
        """There may be something to take on, or room for it."""
        self._something_to_do.set()

    async def recover(self) -> RecoveryResult:
        """Take on what dead workers left, and what only an engine that starts up takes on."""
        clock, observers = self._environment.clock, self._environment.observers
        started_at = clock.now()
        self._left_alone.forget()
        await self.release_the_dead()
        orphans = await self._store.load_unqueued_executions()
        observers.tell("on_recovery_start", len(orphans))
        to_queue: list[str] = []
        for one in orphans:
            if one.guarantee is WorkflowGuarantee.BEST_EFFORT_BACKGROUND:
                to_queue.append(one.workflow_execution_id)
            elif await self._definition_of(one.workflow_id) is not None:
                due_at = started_at if one.is_due else one.wakes_at
                self._foreground[one.workflow_execution_id] = due_at
        await self._store.put_into_queue(to_queue, started_at)
        resumed, expired_ones = await asyncio.shield(self._spawn(self._take()))
        blocked = dict.fromkeys(await self._store.load_blocked())
        unregistered = await self._store.load_unregistered(self._registry.names_and_versions)
        result = RecoveryResult(
            resumed=tuple(resumed),
            expired=tuple(expired_ones),
            unregistered=tuple(one for one in unregistered if one not in blocked),
            blocked=tuple(blocked),
        )
        observers.tell("on_recovery_complete", result, clock.now() - started_at)
        if result != RecoveryResult():
            _log.info(
                "recovery took on %d executions and %d expired ones; left alone: %d unregistered,"
                " %d blocked",
                len(result.resumed),
                len(result.expired),
                len(result.unregistered),
                len(result.blocked),
            )
        self.look()
        return result

    async def release_the_dead(self) -> list[str]:
        """Let whoever has room take on what dead workers had in their hands; what is blocked."""
        now = self._environment.clock.now()
        blocked: list[str] = []
        for one in await self._store.release_claims_of_the_dead(self._max_recoveries, now):
            if one.blocked_reason is not None:
                _log.error(
                    "execution %r is blocked: %s; find out why, then unblock it",
                    one.workflow_execution_id,
                    one.blocked_reason,
                    extra={"workflow_execution_id": one.workflow_execution_id},
                )
                blocked.append(one.workflow_execution_id)
        return blocked

    async def resume(self, record: WorkflowExecution) -> None:
        """Take on one execution now, room or not, if that can be done here."""
        execution_id = record.workflow_execution_id
        self._left_alone.forget(execution_id)
        await self._left_alone.until_let_go(execution_id)
        if self._is_closed or await self._definition_of(record.workflow_id) is None:
            return
        await self.release_the_dead()
        # To its end, whoever is cancelled meanwhile: what is claimed must be launched.
        await asyncio.shield(self._spawn(self._claim_and_launch(execution_id)))

    async def _claim_and_launch(self, execution_id: str) -> None:
        for claim in await self._held(self._claim_one(execution_id)):
            await self._load_and_launch(claim)

    def take_back(self, record: WorkflowExecution) -> None:
        """Whoever was starting it was cancelled meanwhile: it is in the queue, if it is stored."""
        self._spawn(self._take_back(record))

    async def _take_back(self, record: WorkflowExecution) -> None:
        try:
            await self._store.put_back(record, self._environment.clock.now())
        except StoreError:
            _log.warning(
                "execution %r may have been started, and stays with this worker until it ends",
                record.workflow_execution_id,
                exc_info=True,
            )
        self.look()

    def signalled(self, execution_id: str) -> None:
        """A signal has come for an execution that is not running here."""
        self._left_alone.forget(execution_id)  # it may be a cancel, or just what was missing
        if execution_id in self._foreground:
            self._foreground[execution_id] = self._environment.clock.now()
        if execution_id in self._claims:
            self._signalled.add(execution_id)
        self.look()

    def left(self, execution: Execution, trouble: BaseException) -> None:
        """An execution was left as it is."""
        self._leave_alone(execution.claim, execution.record.guarantee, trouble)

    def parked(self, execution: Execution) -> None:
        """An execution only waits: any worker may have it when its time or signal comes."""
        self._left_alone.parked(execution.claim)

    def why_left(self, execution_id: str) -> BaseException | None:
        """Why this worker will not come back to an execution by itself; None if it will."""
        return self._left_alone.why_left(execution_id)

    def takes_on(self, execution_id: str) -> bool:
        """Whether this worker takes an execution on once it is due and in nobody's hands."""
        return self._room > 0 and self.why_left(execution_id) is None

    def due_in_foreground(self) -> list[str]:
        """The FOREGROUND_ONLY ones that this worker is to take on now, and has not yet."""
        now = self._environment.clock.now()
        return [one for one, due_at in self._foreground.items() if due_at and due_at <= now]

    async def close(self) -> list[WorkflowClaim]:
        """Stop, and give back the claims of what was not launched."""
        self._is_closed = True
        letting_go = self._left_alone.close()
        tasks = [task for task in self._tasks if task not in letting_go]
        if self._loop_task is not None:
            tasks.append(self._loop_task)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._claiming:
            await asyncio.wait(self._claiming)
        if letting_go:
            await asyncio.wait(letting_go)  # else why they were left is not known
        return list(self._claims.values())

    async def _run(self) -> None:
        """Take on what there is, then wait until there may be more."""
        trouble = Trouble("look for work")
        while True:
            self._something_to_do.clear()
            alarm: asyncio.Future[None] | None = None
            try:
                await self._take()
                due_at = await self._next_due_at()
                if due_at is not None:
                    alarm = self._environment.scheduler.at(due_at)
                    alarm.add_done_callback(self._ring)
                trouble.is_over()
                await self._something_to_do.wait()
            except Exception as error:  # noqa: BLE001 - whatever the store raises
                await asyncio.sleep(trouble.met(error, TRY_AGAIN_AFTER_S))
            finally:
                if alarm is not None:
                    alarm.cancel()

    def _ring(self, alarm: asyncio.Future[None]) -> None:
        if not alarm.cancelled():  # else the next look would wake itself, for ever
            self._something_to_do.set()

    async def _next_due_at(self) -> datetime | None:
        """When there will be something to take on; None while there is no room for it anyway."""
        if self._room <= 0 or not self._registry:
            return None
        now = self._environment.clock.now()
        times = [time for time in self._foreground.values() if time is not None]
        queued = await self._store.load_next_available_at(self._registry.names_and_versions)
        if queued is not None:
            # What is due and was not taken is left alone here, or its row cannot be read.
            times.append(queued if queued > now else now + timedelta(seconds=TRY_AGAIN_AFTER_S))
        return min(times, default=None)

    @property
    def _room(self) -> int:
        return self._max_concurrent - len(self._active)

    async def _take(self) -> tuple[list[str], list[str]]:
        """Claim and launch until there is no room, or nothing more; the ids, and the expired."""
        taken: list[str] = []
        expired_ones: list[str] = []

        async def launch(claims: list[WorkflowClaim]) -> None:
            for number, claim in enumerate(claims, 1):
                is_expired = await self._load_and_launch(claim)
                if is_expired is not None:
                    (expired_ones if is_expired else taken).append(claim.workflow_execution_id)
                if number % LAUNCHES_A_TURN == 0:
                    await asyncio.sleep(0)

        async with self._taking:
            await launch(await self._claim_foreground())
            while self._room > 0 and self._registry and not self._is_closed:
                room = self._room
                claims = await self._claim_available(room)
                await launch(claims)
                if not claims:
                    break
                if len(claims) < room:
                    await asyncio.sleep(LEAVE_TO_OTHERS_S)
        return taken, expired_ones

    async def _claim_available(self, room: int) -> list[WorkflowClaim]:
        return await self._held(
            self._store.claim_available(
                self._registry.names_and_versions,
                room,
                passed_over=self._left_alone.passed_over(),
                now=self._environment.clock.now(),
            )
        )

    async def _claim_foreground(self) -> list[WorkflowClaim]:
        now = self._environment.clock.now()
        passed_over = self._left_alone.passed_over()
        due = [
            execution_id
            for execution_id, due_at in self._foreground.items()
            if due_at is not None and due_at <= now and execution_id not in passed_over
        ]
        claims: list[WorkflowClaim] = []
        for execution_id in due[: max(self._room, 0)]:
            try:
                claims += await self._held(self._claim_one(execution_id))
            except StoreError:
                if not claims:
                    raise
                break  # the rest when there is a look again
            self._foreground.pop(execution_id, None)
        return claims

    async def _claim_one(self, execution_id: str) -> list[WorkflowClaim]:
        claim = await self._store.claim_execution(execution_id, self._environment.clock.now())
        return [] if claim is None else [claim]

    async def _held(
        self, claiming: Coroutine[Any, Any, list[WorkflowClaim]]
    ) -> list[WorkflowClaim]:
        """What was claimed, known to this worker even where the caller is cancelled meanwhile."""
        task = asyncio.create_task(claiming)

        def hold(done: asyncio.Task[list[WorkflowClaim]]) -> None:
            self._claiming.discard(done)
            if not done.cancelled() and done.exception() is None:
                for claim in done.result():
                    self._hold(claim)

        self._claiming.add(task)
        task.add_done_callback(hold)
        return await asyncio.shield(task)

    async def _load_and_launch(self, claim: WorkflowClaim) -> bool | None:
        """Launch an execution that was claimed; whether its time to live has run out.

        None if it is not its turn, and was let go of for a moment.
        """
        execution_id = claim.workflow_execution_id
        guarantee = WorkflowGuarantee.BEST_EFFORT_BACKGROUND
        try:
            record = await self._store.load_execution(execution_id)
            if record is None:
                raise ExecutionNotFoundError(
                    f"execution {execution_id!r} was deleted", workflow_execution_id=execution_id
                )
            guarantee = record.guarantee
            if record.recovery_count >= max(1, self._max_recoveries // 2):
                if self._is_suspect_here():
                    self._make_room(execution_id)
                    self._leave_alone(claim, guarantee, None)
                    return None
                self._suspect = execution_id
                self._spawn(self._launch_alone(record, claim))
                return False
            execution, is_expired = await self._launched(record, claim)
        except Exception as error:  # noqa: BLE001 - whatever it is
            self._not_launched(claim, guarantee, error)
            return False
        self._is_launched(execution)
        return is_expired

    def _is_suspect_here(self) -> bool:
        suspect = self._suspect
        if isinstance(suspect, Execution) and (
            suspect.record.recovery_count == 0 or suspect.suspended.done()
        ):
            self._suspect = None  # it has come further, or has let go
        return self._suspect is not None

    async def _launch_alone(self, record: WorkflowExecution, claim: WorkflowClaim) -> None:
        """Launch a suspect, once the others that were claimed with it are in nobody's hands."""
        try:
            async with self._taking:
                pass
            await self._left_alone.until_all_let_go()
            self._suspect, _ = await self._launched(record, claim)
        except Exception as error:  # noqa: BLE001 - whatever it is
            self._suspect = None
            self._not_launched(claim, record.guarantee, error)
        else:
            self._is_launched(self._suspect)

    def _is_launched(self, execution: Execution) -> None:
        self._claims.pop(execution.id, None)
        execution.suspended.add_done_callback(lambda _: self._make_room(execution.id))

    def _not_launched(
        self, claim: WorkflowClaim, guarantee: WorkflowGuarantee, error: Exception
    ) -> None:
        """This one alone: the others go on."""
        execution_id = claim.workflow_execution_id
        _log.exception("cannot resume execution %r", execution_id)
        self._environment.observers.tell("on_error", error, execution_id)
        self._make_room(execution_id)
        self._leave_alone(claim, guarantee, error)

    async def _launched(
        self, record: WorkflowExecution, claim: WorkflowClaim
    ) -> tuple[Execution, bool]:
        execution_id = record.workflow_execution_id
        definition = await self._definition_of(record.workflow_id)
        if definition is None:
            raise LookupError(f"workflow {record.workflow_id!r} is not registered")
        checkpoints = await self._store.load_checkpoints(execution_id)
        history = History(checkpoints, await self._store.load_timers(execution_id))
        interruption: Interruption | None = None
        self._signalled.discard(execution_id)
        if await self._is_to_cancel(execution_id):
            interruption = cancelled(execution_id)
        elif record.ttl_expires_at and record.ttl_expires_at <= self._environment.clock.now():
            interruption = expired(record)
        execution = self._launch(definition, record, claim, history, interruption)
        # Whoever asked in between found nobody to tell.
        if execution_id in self._signalled:
            self._signalled.discard(execution_id)
            if await self._is_to_cancel(execution_id):
                execution.interrupt(cancelled(execution_id))
        return execution, isinstance(interruption, WorkflowExpiredError)

    async def _is_to_cancel(self, execution_id: str) -> bool:
        return bool(await self._store.load_pending_signals(execution_id, CANCEL_SIGNAL))

    async def _definition_of(self, workflow_id: str) -> AnyWorkflow | None:
        """The workflow that a stored definition means, if it is registered here."""
        definition = self._definitions.get(workflow_id)
        if definition is None:
            stored = await self._store.load_workflow(workflow_id)
            if stored is not None:
                definition = self._registry.find(stored.workflow_type, stored.version)
            if definition is not None:
                self._definitions[workflow_id] = definition
        return definition

    def _hold(self, claim: WorkflowClaim) -> None:
        self._claims[claim.workflow_execution_id] = claim
        self._active[claim.workflow_execution_id] = None

    def _make_room(self, execution_id: str) -> None:
        self._active.pop(execution_id, None)
        self.look()

    def _leave_alone(
        self, claim: WorkflowClaim, guarantee: WorkflowGuarantee, trouble: BaseException | None
    ) -> None:
        """Give a claim back; without trouble, it is just not its turn."""
        if guarantee is WorkflowGuarantee.FOREGROUND_ONLY and not isinstance(
            trouble, ClaimLostError
        ):
            self._foreground[claim.workflow_execution_id] = self._environment.clock.now()
        if trouble is None:
            self._left_alone.for_a_moment(claim)
        else:
            self._left_alone.because_of(claim, trouble)

    def _is_let_go(self, claim: WorkflowClaim) -> None:
        self._claims.pop(claim.workflow_execution_id, None)
        self.look()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
