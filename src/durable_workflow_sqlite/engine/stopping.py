"""Stopping the executions of an engine, and telling people what that waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from durable_workflow_sqlite.engine.execution import Execution
from durable_workflow_sqlite.engine.under_way import UnderWay
from durable_workflow_sqlite.errors import EngineStoppedError

TELL_AFTER_S: Final = 1.0
"""After how long a stop says what it waits for."""

NAMED_AT_MOST: Final = 5

_log = logging.getLogger("durable_workflow_sqlite.engine")


async def stop_all(running: list[Execution], grace: timedelta) -> None:
    """Stop executions: after the steps that run, or at once when the grace is over."""
    if grace > timedelta(0):
        for execution in running:
            execution.stop_after_steps(left_by_disposal(execution))
        await _until_they_leave(running, grace.total_seconds())
    for execution in running:
        execution.stop(left_by_disposal(execution))
    await _until_they_leave(running, None)


async def _until_they_leave(running: list[Execution], timeout_s: float | None) -> None:
    """Say what it waits for if that takes long, and what is left if the event loop ends first."""
    acting = functions_that_run(running)
    outcomes = [execution.outcome for execution in running]
    is_long = timeout_s is None or timeout_s > TELL_AFTER_S
    first_s = TELL_AFTER_S if is_long else timeout_s
    try:
        _, staying = await asyncio.wait(outcomes, timeout=first_s)
        if staying and is_long:
            still = functions_that_run(running)
            _log.warning(
                "stopping, and waiting%s for %s. Ctrl-C, or a second SIGTERM, ends the program"
                " without waiting; what is left then is in doubt, and runs again",
                "" if timeout_s is None else f" up to {timeout_s:g} s",
                in_words(still),
            )
            acting = still or acting
            left_s = None if timeout_s is None else timeout_s - TELL_AFTER_S
            await asyncio.wait(staying, timeout=left_s)
    except (asyncio.CancelledError, KeyboardInterrupt):
        left = [(id_, one) for id_, one in acting if not one.is_recorded]
        if left:
            _log.warning("the event loop ends without %s: in doubt, it runs again", in_words(left))
        raise


def functions_that_run(executions: Iterable[Execution]) -> list[tuple[str, UnderWay]]:
    """The functions of steps and compensations that have begun and are not recorded."""
    return [
        (execution.id, one)
        for execution in executions
        for one in execution.under_way
        if one.has_begun and not one.is_recorded
    ]


def in_words(functions: list[tuple[str, UnderWay]]) -> str:
    """The first few of them, for people."""
    if not functions:
        return "what is being written"
    named = [f"{one.describe()} of execution {id_!r}" for id_, one in functions[:NAMED_AT_MOST]]
    more = len(functions) - len(named)
    return ", ".join(named) + (f", and {more} more" if more else "")


def left_by_disposal(execution: Execution) -> EngineStoppedError:
    return EngineStoppedError(
        f"the engine was disposed of; execution {execution.id!r} is left to be resumed",
        workflow_execution_id=execution.id,
    )
