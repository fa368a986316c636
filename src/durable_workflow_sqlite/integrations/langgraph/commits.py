"""One commit for what a checkpointer is asked to write at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from durable_workflow_sqlite.integrations.langgraph.rows import Statement

TURNS: Final = 4
"""For how many turns of the event loop what a node has returned waits for the checkpoint.

LangGraph asks for both within fewer. Then one commit is enough for a step of the graph.
"""

WAITS_S: Final = 0.002
"""For how long it waits if another thread wrote it: there, LangGraph asks for both by threads."""

_Queued = tuple[Sequence[Statement], asyncio.Future[None]]


class Commits:
    """Collects statements while a commit is under way, and sends them with the next one.

    write: sends statements in one transaction, and returns when it is committed.
    """

    def __init__(self, write: Callable[[Sequence[Statement]], Awaitable[None]]) -> None:
        self._write = write
        self._queue: list[_Queued] = []
        self._checkpoint: asyncio.Future[None] | None = None
        self._is_of_thread = False
        self._flushing: asyncio.Task[None] | None = None

    async def save(
        self, statements: Sequence[Statement], *, is_checkpoint: bool, is_of_thread: bool
    ) -> None:
        """Have statements sent with the next commit, and wait for it.

        is_checkpoint: whether they end a step of a graph, so that nothing else is to come.
        is_of_thread: whether another thread waits for it.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((statements, future))
        self._is_of_thread = self._is_of_thread or is_of_thread
        if self._checkpoint is None or self._checkpoint.get_loop() is not future.get_loop():
            self._checkpoint = future.get_loop().create_future()
        if is_checkpoint and not self._checkpoint.done():
            self._checkpoint.set_result(None)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await future

    async def _flush(self) -> None:
        while self._queue:
            checkpoint = self._checkpoint
            assert checkpoint is not None
            for _ in range(TURNS):
                if checkpoint.done():
                    break
                await asyncio.sleep(0)
            if self._is_of_thread and not checkpoint.done():
                await asyncio.wait([checkpoint], timeout=WAITS_S)
            group, self._queue = self._queue, []
            self._checkpoint, self._is_of_thread = None, False
            try:
                await self._write([one for some, _ in group for one in some])
            except Exception as error:  # noqa: BLE001 - told to whoever asked for it
                await self._save_one_by_one(group, error)
            except BaseException:
                for _, future in (*group, *self._queue):
                    future.cancel()
                self._queue.clear()
                raise
            else:
                for _, future in group:
                    _settle(future, None)

    async def _save_one_by_one(self, group: Sequence[_Queued], error: Exception) -> None:
        """One of them failed: it is to fail alone."""
        if len(group) == 1:
            _settle(group[0][1], error)
            return
        for statements, future in group:
            try:
                await self._write(statements)
            except Exception as its_own:  # noqa: BLE001 - as above
                _settle(future, its_own)
            else:
                _settle(future, None)


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return  # its task was cancelled meanwhile
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
