"""Changes that other workers write: noticed within milliseconds, at little cost."""

from __future__ import annotations

import asyncio
from typing import Protocol

from durable_workflow_sqlite.engine.changes import Changes
from durable_workflow_sqlite.engine.intake import Intake
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import CANCEL_SIGNAL, MENDED_SIGNAL, WorkflowSignal


class Worker(Protocol):
    """What is told of signals, by the ids of their executions."""

    def signalled(self, execution_id: str, *, is_to_cancel: bool) -> None:
        """A signal has come, or a request to cancel."""

    async def hasten(self, execution_id: str) -> None:
        """Somebody has perhaps ended pauses before their time."""


class News(Changes):
    """Notices signals, work, the progress of other executions, and dead workers."""

    def __init__(self, store: CheckpointStore, intake: Intake, worker: Worker) -> None:
        super().__init__(store)
        self._intake = intake
        self._worker = worker
        self._last_signal = 0
        self._dispatched: set[int] = set()
        """Of the signals after the last one, what this worker has been told of already."""
        self._is_closed = False

    async def begin(self) -> None:
        self._last_signal = await self._store.load_last_signal_id()
        self._seen = self._store.news()
        self._begin_to_watch()

    async def close(self) -> None:
        """Stop listening; callers that wait for a change are woken."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for execution_id in list(self._awaited):
            self.changed(execution_id)

    def is_dispatched(self, signal: WorkflowSignal) -> None:
        """It was sent through this worker, which has been told of it."""
        signal_id = signal.workflow_signal_id
        if signal_id is not None and signal_id > self._last_signal:
            self._dispatched.add(signal_id)

    @property
    def _is_over(self) -> bool:
        return self._is_closed

    async def _take_in(self) -> None:
        arrived = await self._store.load_signals_after(self._last_signal)
        if arrived:
            self._last_signal = arrived[-1].workflow_signal_id
        told, self._dispatched = self._dispatched, set()
        new = [one for one in arrived if one.workflow_signal_id not in told]
        for execution_id in dict.fromkeys(one.workflow_execution_id for one in new):
            self._worker.signalled(execution_id, is_to_cancel=False)
        for execution_id in dict.fromkeys(
            one.workflow_execution_id for one in new if one.signal_name == CANCEL_SIGNAL
        ):
            # An earlier life of the execution may have ended by it meanwhile.
            if await self._store.load_pending_signals(execution_id, CANCEL_SIGNAL):
                self._worker.signalled(execution_id, is_to_cancel=True)
        for execution_id in dict.fromkeys(
            one.workflow_execution_id for one in new if one.signal_name == MENDED_SIGNAL
        ):
            await self._worker.hasten(execution_id)
        self._intake.look()
        await super()._take_in()

    async def _look_around(self) -> None:
        for execution_id in await self._intake.release_the_dead():
            self.changed(execution_id)
        self._intake.look()
        await super()._look_around()
