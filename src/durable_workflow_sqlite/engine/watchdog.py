"""Warns of a workflow function that blocks the event loop of the program."""

from __future__ import annotations

import logging
import sys
import sysconfig
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.body import Body

BLOCKS_AFTER_S: Final = 1.0
"""For how long a workflow function may run in one go."""

LOOK_EVERY_S: Final = 0.25

_log = logging.getLogger("durable_workflow_sqlite.engine")
_OURS: Final = str(Path(__file__).parents[1])
_PYTHONS: Final = sysconfig.get_path("stdlib")

_Run = tuple["Body", float]


class Watchdog:
    """Looks, from a thread of its own, at which body runs. It starts with the first one."""

    def __init__(self) -> None:
        self._runs: _Run | None = None
        self._thread: threading.Thread | None = None
        self._loop_thread = 0
        self._over = threading.Event()

    def begin(self, body: Body) -> _Run | None:
        """A body runs from now on; what to give to `end`."""
        before = self._runs
        self._runs = (body, time.monotonic())
        if self._thread is None:
            self._start()
        return before

    def end(self, before: _Run | None) -> None:
        self._runs = before

    def close(self) -> None:
        self._over.set()

    def _start(self) -> None:
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(
            target=self._watch, name="durable-workflow-watchdog", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending, or can have no thread
            return

    def _watch(self) -> None:
        told: Any = None
        while not self._over.wait(LOOK_EVERY_S):
            runs = self._runs
            if runs is not None and runs is not told:
                body, since = runs
                if time.monotonic() - since > BLOCKS_AFTER_S:
                    told = runs
                    self._tell(body)

    def _tell(self, body: Body) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        _log.warning(
            "workflow %r of execution %r has blocked the event loop for more than %g s, at %s;"
            " everything else waits. Do it in a step: `await ctx.step(name, function, ...)`",
            body.workflow_name,
            body.execution_id,
            BLOCKS_AFTER_S,
            _line(frame),
            extra={"workflow_execution_id": body.execution_id},
        )


def _line(frame: FrameType | None) -> str:
    """Where the code of the user is: the innermost frame that is none of Python's or of ours."""
    innermost = frame
    while frame is not None:
        file = frame.f_code.co_filename
        is_pythons = file.startswith((_PYTHONS, "<frozen")) and "site-packages" not in file
        if not is_pythons and not file.startswith(_OURS):
            innermost = frame
            break
        frame = frame.f_back
    if innermost is None:
        return "a line that is not known"
    return f"{innermost.f_code.co_filename}:{innermost.f_lineno}"
