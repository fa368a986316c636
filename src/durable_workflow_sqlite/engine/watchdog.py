"""Warns of a workflow function that blocks the event loop of the program."""

from __future__ import annotations

import logging
import sys
import threading
import time
import weakref
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

BLOCKS_AFTER_S: Final = 1.0
"""For how long a workflow function may run in one go."""

LOOK_EVERY_S: Final = 0.25

_log = logging.getLogger("durable_workflow_sqlite.engine")
_OURS: Final = str(Path(__file__).parents[1])
_PYTHONS: Final = str(Path(threading.__file__).parent)


class Watched(Protocol):
    """A body, which has a watchdog."""

    workflow_name: str
    execution_id: str


class Watchdog:
    """Looks, from a thread of its own, at which body runs.

    A body says so by setting `body` while it runs, and counts its runs: that must cost next to
    nothing.
    """

    def __init__(self) -> None:
        self.body: Watched | None = None
        self.runs = 0
        self._thread: threading.Thread | None = None
        self._loop_thread = 0
        self._over = threading.Event()

    def start(self) -> None:
        """Bodies run in the current thread from now on."""
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(
            target=_watch,
            args=(weakref.ref(self), self._over),
            name="durable-workflow-watchdog",
            daemon=True,
        )
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending, or can have no thread
            _log.debug("no watchdog: no thread can be started")

    def close(self) -> None:
        self._over.set()

    def tell(self, body: Watched) -> None:
        """Say that a body has run for too long, and where it is now."""
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
        frame = frames.get(self._loop_thread)
        _log.warning(
            "workflow %r of execution %r has blocked the event loop for more than %g s, at %s;"
            " everything else waits. Do it in a step: `await ctx.step(name, function, ...)`",
            body.workflow_name,
            body.execution_id,
            BLOCKS_AFTER_S,
            line_of_user(frame),
            extra={"workflow_execution_id": body.execution_id},
        )


def _watch(watchdog: weakref.ref[Watchdog], over: threading.Event) -> None:
    """Look again and again, until the watchdog is closed, or forgotten."""
    seen, since, told = 0, 0.0, 0
    while not over.wait(LOOK_EVERY_S) and (dog := watchdog()) is not None:
        body, run, now = dog.body, dog.runs, time.monotonic()
        if body is None or run != seen:
            seen, since = run, now
        elif now - since > BLOCKS_AFTER_S - LOOK_EVERY_S and told != run:
            told = run
            dog.tell(body)
        del dog, body


def line_of_user(frame: FrameType | None) -> str:
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
