"""Real lives and deaths of processes, for tests."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

from durable_workflow_sqlite import DurableEngine, ExecutionStatus


def die() -> NoReturn:
    """End this process as a power cut would, as far as a process can tell."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def live_and_die(body: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run a coroutine in a process of its own that kills itself with SIGKILL in the middle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside idle threads
        child = os.fork()
    if child == 0:
        try:
            asyncio.run(body())
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "it did not die"


class Journal:
    """A log of side effects that outlives the process that wrote it.

    action_s: how long an action takes that notes what it does here.
    """

    action_s = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, what: str) -> int:
        """Add a line; return how often it stands there now."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, f"{what}\n".encode())
        finally:
            os.close(file)
        return self.lines.count(what)

    @property
    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


async def until_over(engine: DurableEngine, *ids: str) -> list[ExecutionStatus]:
    """The final statuses of executions that may run anywhere."""
    async with asyncio.timeout(10):
        states = [[state async for state in engine.observe(one)][-1] for one in ids]
    return [state.status for state in states]
