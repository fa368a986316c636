"""Changes that other workers write: noticed within milliseconds, at little cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from durable_workflow_sqlite.engine.intake import Intake
from durable_workflow_sqlite.engine.trouble import Trouble
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.protocol import CheckpointStore
from durable_workflow_sqlite.records import ExecutionStatus

SLOWEST_S: Final = 0.02
FASTEST_S: Final = 0.004
"""How often the store is asked for changes: often while there are some, less often when not."""

BREATHING_SPACE: Final = 5
"""The pause after handling changes is at least so many times longer than the handling."""

LOOK_FOR_THE_DEAD_S: Final = 0.5
TRY_AGAIN_AFTER_S: Final = 1.0

_log = logging.getLogger("durable_workflow_sqlite.engine")


class News:
    """Notices signals, new work, changes of executions elsewhere, and workers that died.

    heed: it is called with the id of an execution that got a signal.
    """

    def __init__(
        self, store: CheckpointStore, intake: Intake, heed: Callable[[str], Awaitable[None]]
    ) -> None:
        self._store = store
        self._intake = intake
        self._heed = heed
        self._last_signal = 0
        self._heard = 0
        self._awaited: dict[str, tuple[ExecutionStatus, asyncio.Future[None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        _, self._last_signal = await self._store.load_signals_after(None)
        self._heard = self._store.news()
        self._task = asyncio.create_task(self._watch(), name="durable-workflow-news")

    async def close(self) -> None:
        """Stop listening; callers that wait for a change are woken."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for execution_id in list(self._awaited):
            self.changed(execution_id)

    def change_of(self, execution_id: str, known: ExecutionStatus) -> asyncio.Future[None]:
        """Done once an execution may have another status than the one known; shared, so shielded.

        Also when it is launched here, or leaves this worker.
        """
        if execution_id in self._awaited:
            before, change = self._awaited[execution_id]
            if before is not known:
                # Somebody knows more than the others, who have something to hear then.
                self.changed(execution_id)
        if execution_id not in self._awaited:
            change = asyncio.get_running_loop().create_future()
            self._awaited[execution_id] = known, change
        return asyncio.shield(self._awaited[execution_id][1])

    def changed(self, execution_id: str) -> None:
        """Wake the callers that wait for an execution: it may have changed."""
        awaited = self._awaited.pop(execution_id, None)
        if awaited is not None:
            awaited[1].set_result(None)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        looked_for_the_dead_at = loop.time()
        pause = SLOWEST_S
        trouble = Trouble("look for changes")
        while True:
            await asyncio.sleep(pause)
            try:
                news = self._store.news()
                if news != self._heard:
                    began = loop.time()
                    await self._take_in()
                    self._heard = news
                    # Where thousands of results are awaited, each look at them takes its time.
                    pause = max(FASTEST_S, BREATHING_SPACE * (loop.time() - began))
                else:
                    pause = min(pause * 1.5, SLOWEST_S)
                if loop.time() - looked_for_the_dead_at >= LOOK_FOR_THE_DEAD_S:
                    looked_for_the_dead_at = loop.time()
                    for execution_id in await self._intake.release_the_dead():
                        self.changed(execution_id)
                    self._intake.look()
                    await self._look_at_the_awaited()  # another engine may use the same store
                    await self._look_at_the_stopped()
                trouble.is_over()
            except Exception as error:  # noqa: BLE001 - whatever the store raises
                if isinstance(error, StoreError) and not error.may_pass:
                    for execution_id in list(self._awaited):
                        self.changed(execution_id)  # whoever waits looks, and meets the error
                pause = trouble.met(error, TRY_AGAIN_AFTER_S)

    async def _take_in(self) -> None:
        signalled, self._last_signal = await self._store.load_signals_after(self._last_signal)
        for execution_id in signalled:
            await self._heed(execution_id)
        self._intake.look()
        await self._look_at_the_awaited()

    async def _look_at_the_awaited(self) -> None:
        if self._awaited:
            statuses = await self._store.load_statuses(self._awaited)
            for execution_id, (known, _) in list(self._awaited.items()):
                if statuses.get(execution_id) is not known:
                    self.changed(execution_id)

    async def _look_at_the_stopped(self) -> None:
        """Wake callers if a worker left it as it is: the status does not tell that."""
        if self._awaited:
            for execution_id in await self._store.load_stopped(self._awaited):
                self.changed(execution_id)
