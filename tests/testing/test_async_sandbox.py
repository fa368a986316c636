"""The same sandbox in async tests: in the test's own event loop, beside what else runs there."""

from __future__ import annotations

import asyncio
import gc

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    EngineStoppedError,
    ExecutionStatus,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.testing import AsyncSandbox
from tests.processes import until
from tests.testing.notes import DAY, note, note_async, noted


@workflow
async def chain(ctx: WorkflowContext) -> str:
    first = await ctx.step("first", note, "first")
    await ctx.sleep("month", 30 * DAY)
    second = await ctx.step("second", note_async, "second")
    return f"{first} {second} {await ctx.wait_signal('third', type=str)}"


async def test_a_workflow_survives_its_crashes() -> None:
    async with AsyncSandbox() as durable:
        durable.crash_at("first", "before")
        durable.crash_at("second", "after")
        durable.signal_when_awaited("third", "third", after=DAY)
        assert await durable.run(chain) == "first second third"
        (await durable.history()).assert_ran("second", times=2)
    assert noted == ["first", "second", "second"]


async def test_an_action_may_use_what_belongs_to_the_test() -> None:
    go_on = asyncio.Event()

    @workflow
    async def waits(ctx: WorkflowContext) -> None:
        await ctx.step("wait", go_on.wait)

    async with AsyncSandbox(patience=5) as durable:
        execution = await durable.start(waits)
        asyncio.get_running_loop().call_later(0.02, go_on.set)
        await execution.result()


async def test_a_test_may_go_on_while_the_engine_works() -> None:
    async with AsyncSandbox() as durable:
        execution = await durable.start(chain)
        await until(lambda: noted)
        await execution.signal("third", "3")
        assert await execution.status() is ExecutionStatus.SUSPENDED
        await durable.advance(30 * DAY)
        assert await durable.engine.handle(execution.execution_id).result() == "first second 3"


async def test_several_may_wait_at_once_while_the_process_dies() -> None:
    async with AsyncSandbox() as durable:
        durable.crash_at("second", "before")
        for _ in range(2):
            durable.signal_when_awaited("third", "3")
        one, two = await asyncio.gather(durable.run(chain), durable.run(chain))
        assert one == two == "first second 3"


async def test_an_engine_in_the_hands_of_an_application_dies_with_its_process() -> None:
    async with AsyncSandbox([chain]) as durable:
        engine = durable.engine
        durable.crash_at("first", "before")
        handle = await engine.start(chain, execution_id="one")
        with pytest.raises(EngineStoppedError, match="crashed"):
            await handle.result()
        assert await durable.status("one") is ExecutionStatus.SUSPENDED
        assert isinstance(durable.engine, DurableEngine)
        assert durable.engine is not engine
        with pytest.raises(EngineStoppedError, match="crashed"):
            await engine.send_signal("one", "third", "3")


async def test_it_leaves_the_event_loop_as_it_was() -> None:
    loop = asyncio.get_running_loop()
    before = (loop.get_task_factory(), loop.run_in_executor)
    async with AsyncSandbox() as durable:
        durable.crash_at("first", "before")
        await durable.start(chain)
        await durable.settle()
    assert (loop.get_task_factory(), loop.run_in_executor) == before
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_it_can_be_left_to_the_end_of_the_event_loop() -> None:
    durable = AsyncSandbox()

    async def main() -> None:
        durable.crash_at("first", "before")
        await durable.start(chain)
        await durable.settle()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.unraisablehook", lambda unraisable: noted.append(str(unraisable)))
        asyncio.run(main())
        gc.collect()
        durable.abandon()
        durable.check()
        gc.collect()
    assert noted == ["first"]
