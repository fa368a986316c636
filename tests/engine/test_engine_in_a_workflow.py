"""A workflow function that uses an engine or a handle is told so, whatever it asks of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionHandle,
    NewSignal,
    NonDeterministicCallError,
    Queue,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)


@workflow
async def other(ctx: WorkflowContext) -> None:
    pass


async def first_state(engine: DurableEngine) -> None:
    async for _ in engine.observe("there"):
        break


async def first_item(engine: DurableEngine) -> None:
    async for _ in engine.follow("there"):
        break


NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)

ASKED_OF_AN_ENGINE: dict[str, Callable[[DurableEngine], Awaitable[Any]]] = {
    "open": lambda engine: engine.open(),
    "dispose": lambda engine: engine.dispose(),
    "run": lambda engine: engine.run(other),
    "start": lambda engine: engine.start(other),
    "enqueue": lambda engine: engine.enqueue(other),
    "load": lambda engine: engine.load("there"),
    "send_signal": lambda engine: engine.send_signal("there", "news"),
    "signal_or_start": lambda engine: engine.signal_or_start(
        other, execution_id="there", signal=NewSignal("news")
    ),
    "questions": lambda engine: engine.questions(),
    "answer": lambda engine: engine.answer("there", "approve", 1),
    "cancel": lambda engine: engine.cancel("there"),
    "observe": first_state,
    "follow": first_item,
    "progress": lambda engine: engine.progress("there"),
    "result_of": lambda engine: engine.result_of("there"),
    "unblock": lambda engine: engine.unblock("there"),
    "retry": lambda engine: engine.retry("there"),
    "acknowledge": lambda engine: engine.acknowledge("there"),
    "declare": lambda engine: engine.declare(Queue("mail")),
    "limits": lambda engine: engine.limits(),
    "change_limits": lambda engine: engine.change_limits(Queue("mail")),
    "enqueue_named": lambda engine: engine.enqueue_named("other"),
    "resolve": lambda engine: engine.resolve("there", "go"),
    "rerun": lambda engine: engine.rerun("there"),
    "fork": lambda engine: engine.fork("there"),
    "recover": lambda engine: engine.recover(),
    "pause": lambda engine: engine.pause("there"),
    "pause_workflow": lambda engine: engine.pause_workflow("other"),
    "pause_queue": lambda engine: engine.pause_queue("mail"),
    "pause_all": lambda engine: engine.pause_all(),
    "pauses": lambda engine: engine.pauses(),
    "resume": lambda engine: engine.resume("there"),
    "resume_workflow": lambda engine: engine.resume_workflow("other"),
    "resume_queue": lambda engine: engine.resume_queue("mail"),
    "resume_all": lambda engine: engine.resume_all(),
    "schedule": lambda engine: engine.schedule("daily", other, cron="0 3 * * *"),
    "load_schedule": lambda engine: engine.load_schedule("daily"),
    "load_schedules": lambda engine: engine.load_schedules(),
    "next_times": lambda engine: engine.next_times("daily"),
    "pause_schedule": lambda engine: engine.pause_schedule("daily"),
    "resume_schedule": lambda engine: engine.resume_schedule("daily"),
    "trigger": lambda engine: engine.trigger("daily"),
    "backfill": lambda engine: engine.backfill("daily", NOON, NOON),
    "unschedule": lambda engine: engine.unschedule("daily"),
}

ASKED_OF_A_HANDLE: dict[str, Callable[[ExecutionHandle[Any]], Awaitable[Any]]] = {
    "result": lambda handle: handle.result(),
    "status": lambda handle: handle.status(),
    "cancel": lambda handle: handle.cancel(),
    "signal": lambda handle: handle.signal("news"),
}


def test_every_method_that_is_awaited_is_asked_here() -> None:
    def methods(of: type[Any]) -> set[str]:
        return {
            name
            for name, one in inspect.getmembers(of)
            if not name.startswith("_") and callable(one) and name != "handle"
        }

    assert methods(DurableEngine) == ASKED_OF_AN_ENGINE.keys()
    assert methods(ExecutionHandle) == ASKED_OF_A_HANDLE.keys()


@pytest.mark.few(15)
@pytest.mark.parametrize("method", ASKED_OF_AN_ENGINE)
def test_an_engine_is_refused_and_goes_on_working(file: Path, method: str) -> None:
    @workflow
    async def uses_its_engine(ctx: WorkflowContext) -> None:
        await ASKED_OF_AN_ENGINE[method](engine)

    async def main() -> None:
        nonlocal engine
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.run(other, execution_id="there")
            with pytest.raises(NonDeterministicCallError, match="cannot use an engine"):
                await engine.run(uses_its_engine)
            await engine.run(other)

    engine: DurableEngine = None  # type: ignore[assignment]
    asyncio.run(main())


@pytest.mark.parametrize("method", ASKED_OF_A_HANDLE)
def test_a_handle_is_refused(file: Path, method: str) -> None:
    @workflow
    async def uses_a_handle(ctx: WorkflowContext) -> None:
        await ASKED_OF_A_HANDLE[method](handle)

    async def main() -> None:
        nonlocal handle
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(other)
            await handle.result()
            with pytest.raises(NonDeterministicCallError, match="cannot use an engine"):
                await engine.run(uses_a_handle)

    handle: ExecutionHandle[Any] = None  # type: ignore[assignment]
    asyncio.run(main())


def test_an_engine_of_its_own_is_refused_too(file: Path) -> None:
    @workflow
    async def opens_an_engine(ctx: WorkflowContext) -> None:
        async with DurableEngine(store):
            pass

    async def main() -> None:
        nonlocal store
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            with pytest.raises(NonDeterministicCallError, match="cannot use an engine"):
                await engine.run(opens_an_engine)

    store: SqliteCheckpointStore = None  # type: ignore[assignment]
    asyncio.run(main())
