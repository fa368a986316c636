"""A step may use the engine that runs it, and it may do so from the first moment of a recovery."""

from __future__ import annotations

import asyncio
from pathlib import Path

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    WorkflowContext,
    blocking,
    workflow,
)
from tests.processes import die, run_until_killed

MANY = 50
NAMES = [f"{number}" for number in range(MANY)]


@workflow
async def child(ctx: WorkflowContext, name: str) -> str:
    return f"child of {name}"


def leave_interrupted(file: Path) -> None:
    """Executions whose step was running when their process was killed."""

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.step("ask", never, ctx.execution_id)

    async def never(name: str) -> str:
        begun.append(name)
        if len(begun) == MANY:
            die()
        return str(await asyncio.Event().wait())

    begun: list[str] = []

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for name in NAMES:
                await engine.start(parent, execution_id=name)
            await asyncio.Event().wait()

    run_until_killed(main)


async def test_a_recovered_step_finds_the_engine_under_the_name_that_async_with_binds(
    file: Path,
) -> None:
    leave_interrupted(file)

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.step("ask", ask, ctx.execution_id)

    async def ask(name: str) -> str:
        return await engine.run(child, name)

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[parent, child]) as engine:
            assert [await engine.handle(name).result() for name in NAMES] == [
                f"child of {name}" for name in NAMES
            ]


async def test_an_engine_may_be_used_while_it_opens(file: Path) -> None:
    """By anything that has it: here a task that asks as soon as the first record was read."""
    leave_interrupted(file)
    asked: list[asyncio.Task[str]] = []

    class Telling(SqliteCheckpointStore):
        async def load_blocked(self) -> list[str]:
            if not asked:
                assert engine_of
                asked.append(asyncio.create_task(engine_of[0].run(child, "opening")))
                await asyncio.sleep(0.01)
            return await super().load_blocked()

    engine_of: list[DurableEngine] = []

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.step("ask", lambda: "asked")

    async with Telling.file(file) as store:
        engine = DurableEngine(store, workflows=[parent, child])
        engine_of.append(engine)
        async with engine:
            for name in NAMES:
                assert await engine.handle(name).result() == "asked"
            assert await asked[0] == "child of opening"


def test_a_recovered_step_uses_a_blocking_engine_that_was_made_before_it_is_opened(
    file: Path,
) -> None:
    leave_interrupted(file)

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.step("ask", ask, ctx.execution_id)

    def ask(name: str) -> str:
        return engine.enqueue(child, name, execution_id=f"child of {name}").execution_id

    with blocking.SqliteCheckpointStore.file(file) as store:
        engine = blocking.DurableEngine(store, workflows=[parent, child])
        with engine:
            assert [engine.handle(name).result() for name in NAMES] == [
                f"child of {name}" for name in NAMES
            ]
            for name in NAMES:
                assert engine.handle(f"child of {name}").result() == f"child of {name}"


async def test_an_engine_that_fails_to_open_begins_nothing(file: Path) -> None:
    leave_interrupted(file)
    ran: list[str] = []

    class Failing(SqliteCheckpointStore):
        async def load_blocked(self) -> list[str]:
            raise OSError("the disk is gone")

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.step("ask", ran.append, ctx.execution_id)

    async with Failing.file(file) as store:
        engine = DurableEngine(store, workflows=[parent])
        try:
            await engine.open()
        except OSError:
            pass
        else:
            raise AssertionError("it has opened")
        await asyncio.sleep(0)
        found = await store.load_executions_by_status(ExecutionStatus)
        assert {one.status for one in found} == {ExecutionStatus.RUNNING}
        assert None not in {one.available_at for one in found}
    assert not ran
