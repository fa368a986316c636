"""Which executions this worker claims: as many as it has room for, of those that have work to do.

An execution that no worker has claimed is in the store's queue, from the time on at which there is
something to do for it. No worker holds one that sleeps or waits for a signal, so it costs nothing
until then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from durable_workflow_sqlite.engine.claiming import Claiming
from durable_workflow_sqlite.engine.environment import Environment
from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.holds import Holds
from durable_workflow_sqlite.engine.launching import Launch, Launching
from durable_workflow_sqlite.engine.loop_backoff import LoopBackoff
from durable_workflow_sqlite.engine.recovery import Recovery, RecoveryResult
from durable_workflow_sqlite.engine.releasing import Releases
from durable_workflow_sqlite.engine.workflow import WorkflowRegistry
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.records import WorkflowClaim, WorkflowExecution, WorkflowGuarantee

T = TypeVar("T")

TRY_AGAIN_AFTER_S: Final = 1.0

LEAVE_TO_OTHERS_S: Final = 0.005
"""For how long a worker that took its share leaves the rest to the others."""

LAUNCHES_A_TURN: Final = 20
"""Executions launched in one turn of the event loop."""

_log = logging.getLogger("durable_workflow_sqlite.engine")


class Dispatcher:
    """Claims executions and launches them, as there is room.

    changed: told of an execution that its waiting callers are to look at.
    pauses_changed: told when `holds` knows of other pauses than before.
    """

    def __init__(
        self,
        environment: Environment,
        registry: WorkflowRegistry,
        launch: Launch,
        changed: Callable[[str], None],
        pauses_changed: Callable[[], None],
        *,
        max_concurrent: int,
        max_recoveries: int,
        queues: frozenset[str] | None,
    ) -> None:
        self._clock = environment.clock
        self._scheduler = environment.scheduler
        self._store = environment.store
        self._registry = registry
        self._max_concurrent = max_concurrent
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop_task: asyncio.Task[None] | None = None
        self._something_to_do = asyncio.Event()
        self._taking = asyncio.Lock()
        self._is_closed = False
        self._resuming: Counter[str] = Counter()
        """How many callers want an execution to be claimed at once."""
        suspect_at = max(1, max_recoveries // 2)
        self.holds = Holds(environment.store, self._pauses_changed)
        self._tell_of_pauses = pauses_changed
        self._claims = Claiming(
            environment, registry, self.holds, max_concurrent, suspect_at, self.look, queues
        )
        self._releases = Releases(
            environment, self._spawn, look=self.look, is_released=self._claims.is_released
        )
        self._launching = Launching(
            environment,
            registry,
            launch,
            self._claims,
            self._releases,
            self.holds,
            changed=changed,
        )
        self._recovery = Recovery(
            environment,
            registry,
            self._claims,
            self._launching,
            self._releases,
            take=self._take_to_the_end,
            max_recoveries=max_recoveries,
            suspect_at=suspect_at,
        )

    def begin(self) -> None:
        """Claim what there is from now on, as there is room."""
        self._loop_task = asyncio.create_task(self._run(), name="durable-workflow-dispatcher")

    def look(self) -> None:
        """There may be something to claim, or room for it."""
        self._something_to_do.set()

    async def recover(self) -> RecoveryResult:
        """Claim what dead workers left, and what only an engine that starts up claims."""
        result = await self._recovery.recover()
        self.look()
        return result

    async def release_the_dead(self) -> list[str]:
        """Release the claims of dead workers; returns what is blocked."""
        return await self._recovery.release_the_dead()

    async def resume(self, record: WorkflowExecution) -> None:
        """Claim one execution now, room or not, if that can be done here."""
        execution_id = record.workflow_execution_id
        self._resuming[execution_id] += 1
        try:
            await self._resume(record, execution_id)
        finally:
            self._resuming[execution_id] -= 1
            self._resuming += Counter()  # without those that nobody wants any more

    async def _resume(self, record: WorkflowExecution, execution_id: str) -> None:
        self._releases.forget(execution_id)
        await self._releases.until_released(execution_id)
        if self._is_closed or await self._launching.definition_of(record.workflow_id) is None:
            return
        await self.release_the_dead()
        if not self._claims.serves(record):
            return  # it is in the queue, for the workers that serve it
        if self._claims.must_wait(record):
            if record.guarantee is WorkflowGuarantee.FOREGROUND_ONLY:
                self._claims.is_for_this_engine(execution_id, self._clock.now())
            return  # else it is in the queue
        # To its end, whoever is cancelled meanwhile: what is claimed must be launched.
        await asyncio.shield(self._spawn(self._claim_and_launch(execution_id)))

    async def _claim_and_launch(self, execution_id: str) -> None:
        for claim in await self._claims.take_one(execution_id):
            await self._launching.load_and_launch(claim)

    async def until_released(self, execution_id: str) -> None:
        """Wait until the claim of an execution is released, if that has begun."""
        await self._releases.until_released(execution_id)

    def release_created(self, record: WorkflowExecution) -> None:
        """The caller that started it was cancelled: if it is stored, it is in the queue."""
        self._spawn(self._release_created(record))

    async def _release_created(self, record: WorkflowExecution) -> None:
        try:
            await self._store.release_created(record, self._clock.now())
        except StoreError:
            _log.warning(
                "execution %r may have been started, and stays with this worker until it ends",
                record.workflow_execution_id,
                exc_info=True,
            )
        self.look()

    def signalled(self, execution_id: str) -> None:
        """A signal has come for an execution that is not running here."""
        self._releases.forget(execution_id)  # it may be a cancel, or just what was missing
        if self._claims.signalled(execution_id):
            self._launching.signalled(execution_id)
        self.look()

    def release(self, execution: Execution, trouble: BaseException) -> None:
        """An execution has left this worker, and was left as it is: release its claim."""
        self._launching.release(execution.claim, execution.record.guarantee, trouble)

    def parked(self, execution: Execution) -> None:
        """An execution only waits: any worker may have it when its time or signal comes.

        Or it is paused, and they may have it once it is resumed.
        """
        self._claims.is_left(execution.record)
        self._releases.parked(execution.claim)

    def _pauses_changed(self) -> None:
        self._claims.pauses_changed()
        self.look()
        self._tell_of_pauses()

    def continues(self, execution: Execution) -> None:
        """An execution continues as new: this worker, which has its claim, launches it again."""
        self._claims.keep(execution.claim)
        self._spawn(self._launching.load_and_launch(execution.claim))

    def resume_when_left(self, execution: Execution) -> None:
        """It is being left as it is, and somebody has asked to cancel it: that comes next."""
        self._spawn(self._resume_when_left(execution))

    async def _resume_when_left(self, execution: Execution) -> None:
        await execution.wait_outcome()
        record = await self._store.load_execution(execution.id)
        if record is not None and not record.status.is_terminal:
            await self.resume(record)

    def trouble_of(self, execution_id: str) -> BaseException | None:
        """Why this worker does not claim an execution again by itself; None if it does."""
        return self._releases.trouble_of(execution_id)

    def claims_when_due(self, execution_id: str) -> bool:
        """Whether this worker claims an execution once it is due and no worker has it."""
        return self._claims.room > 0 and self.trouble_of(execution_id) is None

    async def will_claim(self, record: WorkflowExecution) -> bool:
        """Whether this worker claims one that was left as it is, without being told."""
        execution_id = record.workflow_execution_id
        if self._resuming[execution_id] or self._claims.holds(execution_id):
            return True
        if await self._launching.definition_of(record.workflow_id) is None:
            return False
        if self.trouble_of(execution_id) is not None or not self._claims.serves(record):
            return False
        if execution_id in self._claims.due_in_foreground():
            return True
        return record.available_at is not None and record.available_at <= self._clock.now()

    def due_in_foreground(self) -> list[str]:
        """The FOREGROUND_ONLY ones that this worker is to claim now, and has not yet."""
        return self._claims.due_in_foreground()

    async def close(self) -> list[WorkflowClaim]:
        """Stop, and release the claims of what was not launched."""
        self._is_closed = True
        self._releases.close()
        tasks = list(self._tasks - self._releases.releasing)
        if self._loop_task is not None:
            tasks.append(self._loop_task)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._claims.until_settled()
        await self.until_all_released()
        return self._claims.not_launched()

    async def until_all_released(self) -> None:
        """Wait until the claims of what was left are released."""
        if releasing := self._releases.releasing:
            await asyncio.wait(releasing)

    async def _run(self) -> None:
        """Claim what there is, then wait until there may be more."""
        backoff = LoopBackoff("look for work")
        while True:
            self._something_to_do.clear()
            alarm: asyncio.Future[None] | None = None
            try:
                looked_at = self._clock.now()
                if self._registry:
                    await self._store.join(
                        self._registry.names_and_versions,
                        self._max_concurrent,
                        looked_at,
                        queues=self._claims.queues,
                    )
                await self._take()
                due_at = await self._next_due_at(looked_at)
                if due_at is not None:
                    alarm = self._scheduler.at(due_at)
                    alarm.add_done_callback(self._ring)
                backoff.succeeded()
                await self._something_to_do.wait()
            except Exception as error:  # noqa: BLE001 - whatever the store raises
                await asyncio.sleep(backoff.failed(error, TRY_AGAIN_AFTER_S))
            finally:
                if alarm is not None:
                    alarm.cancel()

    def _ring(self, alarm: asyncio.Future[None]) -> None:
        if not alarm.cancelled():  # else the next look would wake itself, forever
            self._something_to_do.set()

    async def _next_due_at(self, looked_at: datetime) -> datetime | None:
        """When there will be something to claim; None while there is no room for it anyway."""
        if self._claims.room <= 0 or not self._registry:
            return None
        times = self._claims.foreground_times()
        queued = await self._store.load_next_available_at(
            self._registry.names_and_versions, self._claims.queues, looked_at
        )
        if queued is not None:
            times.append(queued)
        # What was due then and was not claimed is passed over here, or its row cannot be read.
        again_at = looked_at + timedelta(seconds=TRY_AGAIN_AFTER_S)
        return min((at if at > looked_at else again_at for at in times), default=None)

    async def _take_to_the_end(self) -> tuple[list[str], list[str]]:
        """`_take`, even if the caller is cancelled: what is claimed must be launched."""
        return await asyncio.shield(self._spawn(self._take()))

    async def _take(self) -> tuple[list[str], list[str]]:
        """Claim and launch until there is no room, or nothing more; the ids, and the expired."""
        taken: list[str] = []
        expired_ones: list[str] = []

        async def launch(claims: list[WorkflowClaim]) -> None:
            for number, claim in enumerate(claims, 1):
                is_expired = await self._launching.load_and_launch(claim)
                (expired_ones if is_expired else taken).append(claim.workflow_execution_id)
                if number % LAUNCHES_A_TURN == 0:
                    await asyncio.sleep(0)

        async with self._taking:
            await launch(await self._claims.take_foreground(self._releases.passed_over()))
            while self._claims.room > 0 and self._registry and not self._is_closed:
                room = self._claims.room
                claims = await self._claims.take_available(self._releases.passed_over())
                await launch(claims)
                if not claims:
                    break
                if len(claims) < room:
                    await asyncio.sleep(LEAVE_TO_OTHERS_S)
        return taken, expired_ones

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
