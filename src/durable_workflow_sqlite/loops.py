"""The event loop and the process that something belongs to: used elsewhere, it would never answer.

What it writes is committed by callbacks of its loop, and its tasks run there. From another loop,
nothing would wake the waiting task.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import events
from typing import Final

from durable_workflow_sqlite.errors import StoreError

_ASYNCIO: Final = (
    "Await it in a coroutine that asyncio runs, as in `asyncio.run(main())`. Elsewhere, in a thread"
    " or under trio, use durable_workflow_sqlite.blocking: it needs no event loop (under trio,"
    " within `trio.to_thread.run_sync`)"
)


def running_loop(*, of: str) -> asyncio.AbstractEventLoop:
    """The running event loop of asyncio; raises RuntimeError, in the name of `of`, without one."""
    loop = events._get_running_loop()
    if loop is None:
        raise RuntimeError(
            f"{of} works with asyncio, and no asyncio event loop runs here. {_ASYNCIO}"
        )
    return loop


class LoopBinding:
    """The running event loop, and this process.

    of: what belongs there, with its article.
    """

    def __init__(self, of: str) -> None:
        self._of = of
        self.loop = running_loop(of=of)
        self._process = os.getpid()

    def check(self) -> None:
        """Raise RuntimeError in any other event loop; StoreError in a process that was forked."""
        if self._process != os.getpid():
            raise StoreError(
                f"{self._of} was opened by process {self._process}, and this is process"
                f" {os.getpid()}: a fork of it has none of its tasks, and must not use its"
                " connection. Open a store and an engine after the fork, in each process"
            )
        loop = running_loop(of=self._of)
        if loop is self.loop:
            return
        if self.loop.is_closed():
            raise RuntimeError(
                f"{self._of} was opened in an event loop that is closed, and its tasks ended with"
                " it. Close its store, and open a store and an engine in the loop that uses them;"
                " what was unfinished goes on then"
            )
        raise RuntimeError(
            f"{self._of} was opened in another event loop, and works only there. From a thread, use"
            " `asyncio.run_coroutine_threadsafe(engine.run(...), loop)`; or open a store and an"
            " engine in each event loop, or use durable_workflow_sqlite.blocking"
        )


class NoLoop(LoopBinding):
    """Of what waits for nothing: it works in every event loop, and without one."""

    def __init__(self) -> None:
        pass

    def check(self) -> None:
        pass
