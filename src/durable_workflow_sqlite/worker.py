"""A process that does nothing but run workflows, until it is told to stop."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any, Final

from durable_workflow_sqlite.code_check import check_code
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.engine import DurableEngine
from durable_workflow_sqlite.engine.watchdog import line_of_user
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, WorkflowDefinition
from durable_workflow_sqlite.errors import DurableWorkflowError
from durable_workflow_sqlite.limits import Queue
from durable_workflow_sqlite.stores import Synchronous, name_of, open_store

HURRY_S: Final = 2.0
"""How long after its grace a worker may still take to stop; then it leaves what still runs."""

BLOCKED_AFTER_S: Final = 0.1
"""An event loop that has not come by for so long is blocked."""

TELLS_FOR_S: Final = 2.0
"""How long the last words to the log may take."""

PROBLEMS_SHOWN: Final = 3
"""How many kinds of problems a strict worker names."""

_log = logging.getLogger("durable_workflow_sqlite.worker")


class AppError(DurableWorkflowError):
    """The workflows that a worker is to run cannot be found."""


def find_queues(app: str) -> list[Queue]:
    """The queues among the names of the module that `find_workflows` has imported."""
    module = sys.modules[app.partition(":")[0]]
    found = {one.name: one for one in vars(module).values() if type(one) is Queue}
    return list(found.values())


def find_workflows(app: str) -> list[AnyWorkflow]:
    """The workflows that `module:name` means: one, an iterable of them, or a module's own.

    `module` alone means every workflow among the module's names. Modules are looked for in the
    current folder, too. Raises AppError, also for what the module itself raises, with its place.
    """
    module_name, _, name = app.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise AppError(_not_imported(module_name, error)) from error
        raise AppError(f"there is no module {error.name!r} here; give --app module:name") from None
    except Exception as error:
        if not module_name.strip("."):
            raise AppError(f"{app!r} names no module; give --app module:name") from None
        raise AppError(_not_imported(module_name, error)) from error
    found: Any = module
    for part in name.split(".") if name else ():
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AppError(f"module {module_name!r} has no {name!r}") from None
    workflows = _workflows_of(found)
    if not workflows:
        raise AppError(f"{app!r} holds no workflow; decorate a function with @workflow")
    return workflows


def _not_imported(module_name: str, error: Exception) -> str:
    """One line: what was raised, and the line of code that raised it."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        place = f"{error.filename}:{error.lineno}"
        text = error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        last = [one for one in frames if not one.filename.startswith("<frozen")][-1]
        place, text = f"{last.filename}:{last.lineno}", str(error)
    what = " ".join(f"{type(error).__name__}: {text}".split())
    return f"module {module_name!r} cannot be imported: {what} ({place})"


def _workflows_of(found: Any) -> list[AnyWorkflow]:
    if isinstance(found, WorkflowDefinition):
        return [found]
    candidates: list[Any] = []
    if isinstance(found, ModuleType):
        candidates = list(vars(found).values())
    elif isinstance(found, Iterable):
        candidates = list(found)  # pyright: ignore[reportUnknownArgumentType]
    return [one for one in candidates if isinstance(one, WorkflowDefinition)]


class CodeDoesNotFitError(DurableWorkflowError):
    """Unfinished executions would not go on with the code of a strict worker."""


async def run_worker(
    file: str | os.PathLike[str],
    workflows: Iterable[AnyWorkflow],
    *,
    queues: Iterable[str] | None = None,
    declared: Iterable[Queue] = (),
    max_concurrent: int = 100,
    synchronous: Synchronous = "normal",
    grace: timedelta = timedelta(seconds=30),
    strict: bool = False,
) -> None:
    """Run what is in a file, and what comes, until this process gets SIGTERM or SIGINT.

    queues: the named queues that it serves; by default all, and also what is in none.
    declared: the queues that it declares first.
    grace: how long steps that are under way may then take to end; what is left is released, to be
        resumed by another worker. A second signal ends it at once.
    strict: first check that all unfinished executions of these workflows would go on with them.
        What is in trouble or blocked already is left out.

    Raises StoreError; StoreGoneError if the file is deleted or replaced meanwhile. Raises
    CodeDoesNotFitError if it is strict, before it runs anything.
    """
    workflows = list(workflows)
    loop = asyncio.get_running_loop()
    told_to_stop = asyncio.Event()
    end = _End()

    def stop(*_: object) -> None:
        # Not a handler of the event loop: that may be blocked.
        end.come_within(grace.total_seconds() + HURRY_S)
        loop.call_soon_threadsafe(told_to_stop.set)
        loop.call_soon_threadsafe(end.loop_goes_on.set)

    before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        async with open_store(file, synchronous=synchronous) as store:
            if strict:
                await asyncio.to_thread(_check_fits, file, workflows)
            engine = DurableEngine(store, workflows, queues=queues, max_concurrent=max_concurrent)
            await Client(store).declare(*declared)
            await engine.open()
            end.what_runs = engine._what_runs  # pyright: ignore[reportPrivateUsage]
            _log.info("worker %s runs %s", store.worker_id, name_of(file))
            told = asyncio.create_task(told_to_stop.wait())
            until_gone = engine._until_store_is_gone  # pyright: ignore[reportPrivateUsage]
            gone = asyncio.create_task(until_gone())
            await asyncio.wait([told, gone], return_when=asyncio.FIRST_COMPLETED)
            is_gone = gone.done()
            if is_gone:
                grace = timedelta(0)  # nothing can be recorded of what still runs
                end.loop_goes_on.set()
                end.come_within(HURRY_S, status=1)
                _log.error("worker %s ends: %s", store.worker_id, gone.result())
            else:
                _log.info("worker %s was told to stop", store.worker_id)
            told.cancel()
            await engine.dispose(grace)
            end.lift()
            if is_gone:
                raise gone.result()
            gone.cancel()
    finally:
        end.lift()
        for one, handler in before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)


def _check_fits(file: str | os.PathLike[str], workflows: list[AnyWorkflow]) -> None:
    check = check_code(file, workflows, types={one.name for one in workflows}, with_stopped=False)
    if check.is_ok:
        _log.info("%d unfinished executions were replayed: all would go on", check.checked)
        return
    shown = "; ".join(map(str, check.problems[:PROBLEMS_SHOWN]))
    more = len(check.problems) - PROBLEMS_SHOWN
    raise CodeDoesNotFitError(
        "the worker does not start, since unfinished executions would not go on with its code:"
        f" {shown}{f'; and {more} more kinds' if more > 0 else ''}. `durable-workflow check-code`"
        " lists them"
    )


class _End:
    """Ends the process from a thread of its own: what blocks cannot be interrupted otherwise.

    That may be a sync step, or whatever blocks the event loop. Nothing is lost by that: it is as if
    the process were killed, and its claims end with it.

    loop_goes_on: set by the event loop, once the process is to end.
    """

    def __init__(self) -> None:
        self.what_runs: Callable[[], str] = str
        self.loop_goes_on = threading.Event()
        self._loop_thread = threading.get_ident()
        # A signal may come at any line, also within a call of its methods: it is made for that.
        self._told: SimpleQueue[tuple[float, int] | None] = SimpleQueue()
        threading.Thread(target=self._watch, name="durable-workflow-end", daemon=True).start()

    def come_within(self, seconds: float, status: int = 0) -> None:
        """End the process after that time; said again, now."""
        self._told.put((seconds, status))

    def lift(self) -> None:
        """The process ends by itself, or goes on."""
        self._told.put(None)

    def _watch(self) -> None:
        first = self._told.get()
        if first is None:
            return
        seconds, status = first
        with suppress(Empty):
            if self._told.get(timeout=seconds) is None:
                return
        # Whoever blocks may hold a lock of a log handler.
        telling = threading.Thread(target=self._tell, daemon=True)
        telling.start()
        telling.join(TELLS_FOR_S)
        os._exit(status)

    def _tell(self) -> None:
        left = self.what_runs()
        if left:
            _log.warning("exiting without waiting for %s: in doubt, it runs again", left)
        if not self.loop_goes_on.wait(BLOCKED_AFTER_S):
            frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
            _log.warning(
                "exiting although the event loop is blocked, at %s; what waits for it is left to"
                " be resumed. Call what blocks in a step with a sync action",
                line_of_user(frames.get(self._loop_thread)),
            )
        elif not left:
            _log.warning("exiting without waiting for what still goes on")
        logging.shutdown()
