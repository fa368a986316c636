"""Commands that ask something of an execution, through the engine as any client does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from durable_workflow_sqlite.cli.output import command, say
from durable_workflow_sqlite.engine.engine import DurableEngine
from durable_workflow_sqlite.errors import (
    ExecutionConflictError,
    ExecutionNotFoundError,
    SerializationError,
)
from durable_workflow_sqlite.records import ExecutionStatus
from durable_workflow_sqlite.store.inspection import Inspector
from durable_workflow_sqlite.store.sqlite import SqliteCheckpointStore

R = TypeVar("R")


def signal(file: Path, execution_id: str, name: str, payload: str | None) -> None:
    """Send a signal. Raises ValueError for a payload that is not JSON, or a reserved name."""
    if name.startswith("$"):
        raise ValueError(
            f"signal names that begin with $ are reserved for the library: {name!r}; to cancel the"
            f" execution: `{command('cancel', file, execution_id)}`"
        )
    value = _parsed(payload)

    async def send(engine: DurableEngine) -> None:
        try:
            await engine.send_signal(execution_id, name, value)
        except SerializationError as error:
            if payload is not None:
                raise
            raise SerializationError(
                f"{error}; the payload is missing: add it as JSON, as in"
                f" `{command('signal', file, execution_id, name)} JSON`",
                workflow_execution_id=execution_id,
            ) from error

    _ask(file, execution_id, send)
    with Inspector.open(file) as inspector:
        details = inspector.execution(execution_id)
    waits_for = None if details is None else details.summary.waiting_for
    say(f"sent {name} to {execution_id}")
    if waits_for is not None and waits_for.startswith("signal ") and waits_for != f"signal {name}":
        say(f"note: it waits for {waits_for}; {name} is kept until it is waited for")


def cancel(file: Path, execution_id: str) -> None:
    """Ask an execution to stop. Raises ExecutionConflictError if it will not."""

    async def ask(engine: DurableEngine) -> ExecutionStatus | None:
        if await engine.cancel(execution_id):
            return None
        return (await engine.load(execution_id)).status

    status = _ask(file, execution_id, ask)
    if status is not None:
        if status.is_terminal:
            why = f"it is {status} already"
        elif status is ExecutionStatus.COMPENSATING:
            why = "it is undoing what it did already"
        else:
            why = "it was asked to already; it ends when a worker hears of it"
        raise ExecutionConflictError(
            f"execution {execution_id!r} was not asked to cancel: {why}; see"
            f" `{command('show', file, execution_id)}`",
            workflow_execution_id=execution_id,
        )
    say(f"asked {execution_id} to cancel; a worker undoes what it did and ends it")


def retry(file: Path, execution_id: str) -> None:
    """Run a failed or blocked execution again, or the compensations that failed."""

    async def ask(engine: DurableEngine) -> None:
        await engine.retry(execution_id)

    _ask(file, execution_id, ask)
    say(f"{execution_id} goes on from what failed when a worker takes it")


def _ask(file: Path, execution_id: str, act: Callable[[DurableEngine], Awaitable[R]]) -> R:
    """Open a file that is there and current, as a client that runs no workflows."""
    Inspector.open(file).close()

    async def run() -> R:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store) as engine,
        ):
            return await act(engine)

    try:
        return asyncio.run(run())
    except ExecutionNotFoundError:
        raise ExecutionNotFoundError(
            f"no execution has the id {execution_id!r}; find it with"
            f" `{command('list', file)} --id PREFIX`",
            workflow_execution_id=execution_id,
        ) from None


def _parsed(payload: str | None) -> Any:
    if payload is None:
        return None
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(
            f"the payload {payload!r} is not JSON ({error}); a string needs its own quotes:"
            f""" '"{payload}"'"""
        ) from None
