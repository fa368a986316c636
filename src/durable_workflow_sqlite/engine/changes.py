"""Callers that wait for an execution hear that it has changed, wherever it runs."""

from __future__ import annotations

import asyncio
from typing import Final

from durable_workflow_sqlite.engine.loop_backoff import LoopBackoff
from durable_workflow_sqlite.errors import StoreError, StoreGoneError
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import ExecutionStatus

SLOWEST_S: Final = 0.02
FASTEST_S: Final = 0.004
"""How often the store is asked whether anything is new: often while there is, then less often."""

BREATHING_SPACE: Final = 5
"""How many times longer than looking at what is new the pause after it is, at least."""

LOOK_AROUND_S: Final = 0.5
TRY_AGAIN_AFTER_S: Final = 1.0


class ChangePoller:
    """Polls the store for changes as long as somebody waits for an execution."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._seen: int | None = None
        self._awaited: dict[str, tuple[ExecutionStatus, asyncio.Future[None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self.gone: asyncio.Future[StoreGoneError] | None = None
        """What somebody waits on who wants to hear that the file is not the one that was opened."""

    def change_of(self, execution_id: str, known: ExecutionStatus) -> asyncio.Future[None]:
        """A future that is done once an execution may have another status than `known`.

        It is also done when the execution begins to run here, or leaves this worker. Several
        callers share it, so each may cancel only its own shield. It raises StoreError if nobody
        can tell, for a reason that does not pass by itself.
        """
        if execution_id in self._awaited:
            before, change = self._awaited[execution_id]
            if before is not known:
                # Somebody knows more than the others, who have something to hear then.
                self.changed(execution_id)
        if execution_id not in self._awaited:
            change = asyncio.get_running_loop().create_future()
            self._awaited[execution_id] = known, change
        self._begin_to_watch()
        return asyncio.shield(self._awaited[execution_id][1])

    def changed(self, execution_id: str) -> None:
        """Wake the callers that wait for an execution: it may have changed."""
        awaited = self._awaited.pop(execution_id, None)
        if awaited is not None:
            awaited[1].set_result(None)

    def _fail(self, error: StoreError) -> None:
        """Give an error to everybody who waits; it does not pass by itself."""
        for _, change in self._awaited.values():
            change.set_exception(error)
            change.exception()  # a caller that was cancelled meanwhile does not retrieve it
        self._awaited.clear()

    def _begin_to_watch(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="durable-workflow-changes")

    @property
    def _is_over(self) -> bool:
        return not self._awaited

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        looked_around_at = loop.time()
        pause = FASTEST_S
        backoff = LoopBackoff("look for changes")
        while not self._is_over:
            await asyncio.sleep(pause)
            try:
                seen = self._store.change_counter()
                if seen != self._seen:
                    began = loop.time()
                    await self._on_change()
                    self._seen = seen
                    # Where thousands of results are awaited, each look at them takes its time.
                    pause = max(FASTEST_S, BREATHING_SPACE * (loop.time() - began))
                else:
                    pause = min(pause * 1.5, SLOWEST_S)
                if loop.time() - looked_around_at >= LOOK_AROUND_S:
                    looked_around_at = loop.time()
                    await self._look_around()
                backoff.succeeded()
            except Exception as error:  # noqa: BLE001 - whatever the store raises
                if isinstance(error, StoreGoneError) and self.gone and not self.gone.done():
                    self.gone.set_result(error)
                if isinstance(error, StoreError) and not error.may_pass:
                    self._fail(error)
                pause = backoff.failed(error, TRY_AGAIN_AFTER_S)

    async def _on_change(self) -> None:
        """There may be changes."""
        await self._look_at_the_awaited()

    async def _look_at_the_awaited(self) -> None:
        if self._awaited:
            statuses = await self._store.load_statuses(self._awaited)
            for execution_id, (known, _) in list(self._awaited.items()):
                if statuses.get(execution_id) is not known:
                    self.changed(execution_id)

    async def _look_around(self) -> None:
        """Look for what nothing tells of, from time to time."""
        await self._look_at_the_awaited()  # another engine may use the same store
        if self._awaited:
            # The status does not tell of a worker that left an execution as it is.
            for execution_id in await self._store.load_stopped(self._awaited):
                self.changed(execution_id)
