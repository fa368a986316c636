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
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from durable_workflow_sqlite.engine.engine import DurableEngine
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, WorkflowDefinition
from durable_workflow_sqlite.errors import DurableWorkflowError
from durable_workflow_sqlite.stores import Synchronous, open_store

HURRY_S: Final = 2.0
"""How long after its grace a worker may still take to stop; then it leaves a sync step."""

_log = logging.getLogger("durable_workflow_sqlite.worker")


class AppError(DurableWorkflowError):
    """The workflows that a worker is to run cannot be found."""


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


async def run_worker(
    file: str | os.PathLike[str],
    workflows: Iterable[AnyWorkflow],
    *,
    max_concurrent: int = 100,
    synchronous: Synchronous = "normal",
    grace: timedelta = timedelta(seconds=30),
) -> None:
    """Run what is in a file, and what comes, until this process gets SIGTERM or SIGINT.

    grace: how long steps that are under way may then take to end; what is left is released, to be
        resumed by another worker. A second signal ends it at once.

    Raises StoreError; StoreGoneError if the file is deleted or replaced meanwhile.
    """
    loop = asyncio.get_running_loop()
    told_to_stop = asyncio.Event()
    at_once = asyncio.Event()

    def stop() -> None:
        (at_once if told_to_stop.is_set() else told_to_stop).set()

    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop)
    try:
        async with open_store(file, synchronous=synchronous) as store:
            engine = DurableEngine(store, workflows, max_concurrent=max_concurrent)
            await engine.open()
            _log.info("worker %s runs %s", store.worker_id, Path(file))
            told = asyncio.create_task(told_to_stop.wait())
            until_gone = engine._until_store_is_gone  # pyright: ignore[reportPrivateUsage]
            gone = asyncio.create_task(until_gone())
            await asyncio.wait([told, gone], return_when=asyncio.FIRST_COMPLETED)
            is_gone = gone.done()
            if is_gone:
                grace = timedelta(0)  # nothing can be recorded of what still runs
                _log.error("worker %s ends: %s", store.worker_id, gone.result())
            else:
                _log.info("worker %s was told to stop", store.worker_id)
            told.cancel()
            what_runs = engine._what_runs  # pyright: ignore[reportPrivateUsage]
            deadline = _Deadline(grace.total_seconds() + HURRY_S, what_runs, int(is_gone))
            disposing = asyncio.create_task(engine.dispose(grace))
            hurry = asyncio.create_task(at_once.wait())
            await asyncio.wait([disposing, hurry], return_when=asyncio.FIRST_COMPLETED)
            if not disposing.done():
                deadline.come()
            hurry.cancel()
            await disposing
            deadline.lift()
            if is_gone:
                raise gone.result()
            gone.cancel()
    finally:
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(one)


class _Deadline:
    """Ends the process from outside its event loop: a sync step cannot be interrupted otherwise.

    Nothing is lost by that: it is as if the process were killed, and its claims end with it.
    """

    def __init__(self, seconds: float, what_runs: Callable[[], str], status: int) -> None:
        self._what_runs = what_runs
        self._status = status
        self._timer = threading.Timer(seconds, self.come)
        self._timer.daemon = True
        self._timer.start()

    def come(self) -> None:
        _log.warning("exiting without waiting for %s: in doubt, it runs again", self._what_runs())
        logging.shutdown()
        os._exit(self._status)

    def lift(self) -> None:
        self._timer.cancel()
