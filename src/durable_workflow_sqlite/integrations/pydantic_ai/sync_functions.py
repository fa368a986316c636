"""Where sync functions of an agent run: those of a workflow in place, those of steps in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _InPlace(Executor):
    """Tells the event loop of a workflow function to call what it is given at once."""

    runs_in_place = True


class _Threads(Executor):
    """A thread for each call. It does not keep the program from its end."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever waits for the future is told
                future.set_exception(error)

        threading.Thread(target=run, name="durable-workflow-tool", daemon=True).start()
        return future


IN_PLACE: Final[Any] = _InPlace()
IN_THREADS: Final[Any] = _Threads()
