"""Changes that other workers write: noticed within milliseconds, at little cost."""

from __future__ import annotations

import asyncio
from typing import Protocol

from durable_workflow_sqlite.engine.changes import ChangePoller
from durable_workflow_sqlite.engine.dispatcher import Dispatcher
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    MENDED_SIGNAL,
    PAUSED_SIGNAL,
    WorkflowSignal,
)


class Worker(Protocol):
    """What is told of signals, by the ids of their executions."""

    def signalled(self, execution_id: str, *, is_to_cancel: bool) -> None:
        """A signal has come, or a request to cancel."""

    def slots_may_be_free(self) -> None:
        """Somebody has written: slots of limits for steps may be free."""

    async def hasten(self, execution_id: str) -> None:
        """Somebody has perhaps ended pauses before their time."""

    def others_wrote(self, change_counter: int) -> None:
        """The counter of changes, every half second."""

    async def paused(self, execution_id: str) -> None:
        """Somebody has paused an execution."""

    async def spread_pauses(self) -> None:
        """The caller of a pause or a resume may have died before the descendants knew it."""

    async def look_at_pauses(self) -> None:
        """A pause of workflows, of queues or of everything has perhaps begun or ended."""


class WorkerChangePoller(ChangePoller):
    """Finds signals, work, how executions elsewhere go on, and the claims of dead workers."""

    def __init__(self, store: CheckpointStore, dispatcher: Dispatcher, worker: Worker) -> None:
        super().__init__(store)
        self._dispatcher = dispatcher
        self._worker = worker
        self._last_signal = 0
        self._known: set[int] = set()
        """Of the signals after the last one, what this worker has been told of already."""
        self._untold: dict[tuple[str, str], None] = {}
        """What it is still to be told: executions, and the names of the signals that came."""
        self._is_closed = False

    async def begin(self) -> None:
        self._last_signal = await self._store.load_last_signal_id()
        self._seen = self._store.change_counter()
        await self._worker.look_at_pauses()
        self._begin_to_watch()

    async def close(self) -> None:
        """Stop listening; callers that wait for a change are woken."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for execution_id in list(self._awaited):
            self.changed(execution_id)

    def worker_knows(self, signal: WorkflowSignal) -> None:
        """It was sent through this worker, which has been told of it."""
        signal_id = signal.workflow_signal_id
        if signal_id is not None and signal_id > self._last_signal:
            self._known.add(signal_id)

    @property
    def _is_over(self) -> bool:
        return self._is_closed

    async def _on_change(self) -> None:
        arrived = await self._store.load_signals_after(self._last_signal)
        for one in arrived:
            if one.workflow_signal_id not in self._known:
                self._untold[one.workflow_execution_id, one.signal_name] = None
        if arrived:
            last = self._last_signal = arrived[-1].workflow_signal_id
            self._known = {one for one in self._known if one > last}
        await self._worker.look_at_pauses()
        refused = await self._tell()
        self._dispatcher.look()
        self._worker.slots_may_be_free()
        await super()._on_change()
        if refused is not None:
            raise refused

    async def _tell(self) -> StoreError | None:
        """Tell the worker; why it could not be told of something, if so: it is at the next look."""
        refused: StoreError | None = None
        for execution_id, name in list(self._untold):
            self._worker.signalled(execution_id, is_to_cancel=False)
            try:
                if name == CANCEL_SIGNAL:
                    # The execution may have ended by it meanwhile, and be open again.
                    if await self._store.load_pending_signals(execution_id, CANCEL_SIGNAL):
                        self._worker.signalled(execution_id, is_to_cancel=True)
                elif name == MENDED_SIGNAL:
                    await self._worker.hasten(execution_id)
                elif name == PAUSED_SIGNAL:
                    await self._worker.paused(execution_id)
            except StoreError as error:
                refused = error
                if error.may_pass:
                    continue
            del self._untold[execution_id, name]
        return refused

    async def _look_around(self) -> None:
        for execution_id in await self._dispatcher.release_the_dead():
            self.changed(execution_id)
        await self._worker.spread_pauses()
        self._dispatcher.look()
        self._worker.others_wrote(self._store.change_counter())
        self._worker.slots_may_be_free()
        await super()._look_around()
