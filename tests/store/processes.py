"""A process of its own that lives beside a test."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Child:
    """A forked process: what it says can be heard, and it can be killed."""

    def __init__(self, body: Callable[[Callable[[str], None]], None]) -> None:
        hear, speak = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside idle threads
            self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(hear)
                body(lambda words: os.write(speak, f"{words}\n".encode()) and None)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(70)
        os.close(speak)
        self._hear = os.fdopen(hear)
        self._reaped = False

    def hear(self) -> str:
        """The next line that it says; '' if it died."""
        return self._hear.readline().strip()

    def kill(self) -> None:
        """End it by SIGKILL, unless it is dead."""
        if not self._reaped:
            self._reaped = True
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._hear.close()


@contextmanager
def a_process(body: Callable[[Callable[[str], None]], None]) -> Iterator[Child]:
    """Runs `body(say)` in a process of its own, which dies at the latest at the end."""
    child = Child(body)
    try:
        yield child
    finally:
        child.kill()
